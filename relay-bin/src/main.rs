//! The program `relay`: gateway, connection point and site set-up.
//!
//! It holds what a library must not: the command line, signals, the log, files written for an
//! administrator, exit codes. Everything that a request meets is in `relay-core`. Read
//! [`cli::Command`] and [`exit::Failure`] first.

mod admin;
mod cli;
mod console;
mod demo;
mod exit;
mod init;
mod logs;
mod pki;
mod run;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let outcome = match cli::Cli::parse().command {
        cli::Command::Demo(args) => return demo::main(args),
        cli::Command::Init(args) => init::run(&args),
        cli::Command::Pki(command) => pki::run(&command),
        cli::Command::Gateway(args) => run::gateway(&args),
        cli::Command::ConnectionPoint(args) => run::connection_point(&args),
        cli::Command::Status(args) => admin::show_status(&args),
        cli::Command::Drain(args) => admin::drain(&args),
        cli::Command::Log(args) => admin::log(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console::complain(&format!("error: {failure}"));
            failure.exit_code()
        }
    }
}
