//! The program `relay`: gateway, connection point and site set-up.
//!
//! It holds what a library must not: the command line, signals, the log, files written for an
//! administrator, exit codes. Everything that a request meets is in `relay-core`. Read
//! [`cli::Command`] and [`exit::Failure`] first.

mod admin;
mod analyze;
mod check;
mod cli;
mod client;
mod console;
mod content;
mod demo;
mod doctor;
mod egress;
mod exit;
mod expiry;
mod explain;
mod init;
mod logs;
mod pki;
mod progress;
mod run;
mod schema;
mod site;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

/// Gives memory back soon after a burst. The C library's keeps most of it, so that one burst above
/// 85 % of `memory_mebibytes_max` would have an instance refuse whoever comes until it is started
/// again. Of 2,000 clients' connections at once, 12 s after they were gone: of 86 MB at most
/// 40 MB were left with this one, 102 of 102 with glibc's.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = match cli::Cli::parse().command {
        cli::Command::Demo(args) => return demo::main(args),
        cli::Command::Init(args) => init::run(&args),
        cli::Command::Pki(command) => pki::run(&command),
        cli::Command::Token(command) => site::run(&command),
        cli::Command::Gateway(args) => run::gateway(&args),
        cli::Command::ConnectionPoint(args) => run::connection_point(&args),
        cli::Command::Status(args) => admin::show_status(&args),
        cli::Command::Drain(args) => admin::drain(&args),
        cli::Command::Service(command) => admin::service(&command),
        cli::Command::Log(args) => admin::log(&args),
        cli::Command::Check(args) => return check::run(&args),
        cli::Command::Schema(args) => {
            schema::run(&args);
            Ok(())
        }
        cli::Command::Explain(args) => match explain::run(&args) {
            Ok(status) => return status,
            Err(failure) => Err(failure),
        },
        cli::Command::Analyze(args) => analyze::run(&args),
        cli::Command::Doctor(args) => doctor::run(&args),
        cli::Command::Client(command) => client::run(&command),
        cli::Command::Content(command) => content::run(&command),
        cli::Command::Completions(args) => {
            cli::completions::run(&args);
            Ok(())
        }
        cli::Command::Man(args) => cli::man::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console::complain(&format!("error: {failure}"));
            failure.exit_code()
        }
    }
}
