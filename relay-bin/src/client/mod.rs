//! `relay client`: a small client as devices have them, which says which hop refused and why.
//!
//! For operators, scripts and tests. It keeps no connection and follows no redirect: one command is
//! one exchange, or one transfer. Secrets come from files or standard input alone, and are shown
//! nowhere.
//!
//! Read [`args::Way`], [`connection::Connection`] and [`report::Report`] first. What a refusal
//! means stands in `relay-core/src/gateway/ANSWERS.md`; [`advice`] reads it from there.

mod advice;
pub(crate) mod args;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod credentials;
mod download;
pub(crate) mod fault;
mod fetch;
mod folder;
mod package;
mod part;
mod registration;
pub(crate) mod report;
mod request;
mod sign;
pub(crate) mod target;
mod tries;
mod upload;

use std::future::Future;

use anyhow::{Context as _, anyhow};

use crate::console::{complain, say};
use crate::exit::Failure;

use report::Report;

pub(crate) use advice::about;
pub(crate) use folder::new_identity;
pub(crate) use target::Target;

/// Shown below the help of `relay client`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Ask the gateway itself which settings hold:
    relay client request GET https://relay.example/CCM_Proxy_MutualAuth/ServiceMetadata \\
        --ca site-ca.pem
  Ask a management point, as the client that has registered in the folder `me`:
    relay client request GET \\
        'https://relay.example/CCM_Proxy_ServerAuth/72057594037927937/SMS_MP/.sms_aut?MPLIST' \\
        --ca site-ca.pem --folder me --output list.xml

Each command says which hop has answered, by which reason and message id, and what to look at next.

Exit status:
  0   answered 2xx or 3xx
  1   refused, or failed on the way
  2   the command line is wrong, or names a file that cannot be used";

/// What a client can do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Send one request, and say who answered it and what.
    #[command(after_help = request::EXAMPLES)]
    Request(Box<request::Args>),
    /// Fetch a file or a package, resumed where it is broken off.
    #[command(after_help = download::EXAMPLES)]
    Download(Box<download::Args>),
    /// Send a file by BITS, in fragments.
    #[command(after_help = upload::EXAMPLES)]
    Upload(Box<upload::Args>),
    /// Register with the site's token service, and keep certificate, key and token in a folder.
    #[command(after_help = registration::REGISTER_EXAMPLES)]
    Register(Box<registration::RegisterArgs>),
    /// Have the token of a registration replaced by a new one.
    #[command(after_help = registration::RENEW_EXAMPLES)]
    Renew(Box<registration::RenewArgs>),
    /// Have a token of Entra ID exchanged for one of the site's.
    #[command(after_help = registration::EXCHANGE_EXAMPLES)]
    Exchange(Box<registration::ExchangeArgs>),
}

/// `relay client`.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Request(args) => request::run(args),
        Command::Download(args) => download::run(args),
        Command::Upload(args) => upload::run(args),
        Command::Register(args) => registration::register(args),
        Command::Renew(args) => registration::renew(args),
        Command::Exchange(args) => registration::exchange(args),
    }
}

/// Runs a command to its end, or until Ctrl-C: then what it has not finished is put away.
pub(crate) fn until_interrupted<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    block_on(async {
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::Runtime(anyhow!("interrupted"))),
        }
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime").map_err(Failure::Runtime)?;
    let done = runtime.block_on(work);
    // A name that is still looked up holds nobody up: nobody waits for what comes of it.
    runtime.shutdown_background();
    done
}

/// Where a report goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shown {
    /// Standard output, as any result.
    Out,
    /// Standard error: the answer's body is on standard output.
    Err,
}

/// Prints a report; one of anything but success becomes the command's failure.
fn show(report: &Report, json: bool, shown: Shown) -> Result<(), Failure> {
    let text = if json { report.json().map_err(Failure::Runtime)? } else { report.text() };
    match shown {
        Shown::Out => say(&text),
        Shown::Err => complain(&text),
    }
    if report.is_answered() {
        return Ok(());
    }
    Err(Failure::Runtime(anyhow!("{}", report.line())))
}
