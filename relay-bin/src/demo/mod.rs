//! `relay demo`: a whole site on loopback, and a client session that proves it.
//!
//! Everything is real but the distance: sockets, TLS, certificates, gateway instances, links,
//! connection points, site roles. Nothing needs set-up or privileges and nothing is left behind.
//! Read [`run`] for the order of things, [`site`] for what is relayed to, [`members`] for whose
//! clients count there, [`session`] for what is proven, and [`relay`] for how the relay itself is
//! started.

mod curl;
#[cfg(test)]
mod front;
mod material;
mod members;
mod message;
mod relay;
mod session;
mod site;
mod table;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::pin::pin;
use std::process::ExitCode;

use anyhow::Context as _;
use relay_core::transport::Rung;
use tokio::signal;

use crate::pki::SiteCa;

use members::Members;
use relay::RunningRelay;
use session::{Extent, Report, Row, Target};
use site::Site;
use table::Colour;

/// Options of `relay demo`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Gateway instances to start
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=16))]
    instances: u8,

    /// How the connection points reach the instances
    #[arg(long, value_enum, default_value_t = Transport::Auto)]
    transport: Transport,

    /// Keep everything running after the session, and print curl commands to try
    #[arg(long)]
    stay: bool,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What `relay demo --help` ends with.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Prove everything, as a table; the exit status is the verdict:
    relay demo
  Keep it up afterwards and paste the curl commands it prints:
    relay demo --stay
  For a script:
    relay demo --json";

/// How the connection points of the demonstration reach the instances.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// The best way that works: TCP-TLS here
    Auto,
    /// The link port alone
    TcpTls,
    /// The clients' HTTPS port alone
    Https,
    /// The same, by an upgrade of HTTP/1.1 alone
    HttpsUpgrade,
    /// The same, by a stream of HTTP/2 alone
    HttpsH2,
    /// QUIC alone
    Quic,
}

impl Transport {
    /// The only way to be taken; `None` takes the best that works.
    fn only(self) -> Option<Rung> {
        match self {
            Self::Auto => None,
            Self::TcpTls => Some(Rung::TcpTls),
            Self::Https => Some(Rung::Https),
            Self::HttpsUpgrade => Some(Rung::HttpsUpgrade),
            Self::HttpsH2 => Some(Rung::HttpsHttp2),
            Self::Quic => Some(Rung::Quic),
        }
    }
}

/// How the demonstration ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Every step passed.
    Passed,
    /// At least one step failed.
    Failed,
    /// Ctrl-C came before the session had ended.
    Interrupted,
}

impl From<Verdict> for ExitCode {
    /// 0, 1, and 130 for an interruption, as shells have it.
    fn from(verdict: Verdict) -> Self {
        Self::from(match verdict {
            Verdict::Passed => 0,
            Verdict::Failed => 1,
            Verdict::Interrupted => 130,
        })
    }
}

/// Runs the demonstration as a program: prints what went wrong, and turns the verdict into the exit
/// status.
pub(crate) fn main(args: Args) -> ExitCode {
    let outcome = tokio::runtime::Runtime::new()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(verdict) => verdict.into(),
        Err(error) => {
            crate::console::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Starts the site and the relay, runs the session, prints the report, and stops everything.
///
/// The report goes to standard output, everything else to standard error.
///
/// # Errors
///
/// When something could not be started at all, or standard output is closed. A step that fails is
/// no error but [`Verdict::Failed`].
///
/// # Cancel safety
///
/// Dropping the future ends every task it owns, without draining.
pub(crate) async fn run(args: Args) -> anyhow::Result<Verdict> {
    let ca = SiteCa::new("Relay demonstration site CA")?;
    let site = Site::start().await.context("cannot start the built-in site on 127.0.0.1")?;
    let members = Members::start().await?;
    let relay = relay::start_relay(args.instances, args.transport, &site, &members, &ca).await?;
    let target = Target {
        instances: relay.clients.clone(),
        host: relay::HOST.to_owned(),
        roots: ca.roots()?,
        mp_role: relay::MP_ROLE,
        sup_role: relay::SUP_ROLE,
        seen: site.seen(),
        membership: Some(relay.membership.clone()),
        links: relay.links(),
        extent: Extent::default(),
    };
    let verdict = session_and_stay(&args, &target, &ca).await;
    stop(relay, members, site).await;
    verdict
}

/// What happens while everything is up. Whatever comes of it, the caller stops the site after it.
async fn session_and_stay(args: &Args, target: &Target, ca: &SiteCa) -> anyhow::Result<Verdict> {
    // One listener for both waits: between two of them an interruption would be lost.
    let mut interrupted = pin!(interruption());
    let mut show = progress(args.json);
    let report = tokio::select! {
        report = session::run(target, &mut show) => report?,
        () = &mut interrupted => return Ok(Verdict::Interrupted),
    };
    clear_progress(args.json);
    print(&report, args.json)?;
    if args.stay {
        stay(target, ca, interrupted).await?;
    }
    Ok(if report.passed { Verdict::Passed } else { Verdict::Failed })
}

/// Keeps everything up until `end`, with what curl needs in files that go after it.
async fn stay(target: &Target, ca: &SiteCa, end: impl Future<Output = ()>) -> anyhow::Result<()> {
    let (client, token) = session::visitor(target).await.context("cannot register for curl")?;
    let files = curl::Files::write(&ca.certificate_pem(), &client, &token)
        .context("cannot write the files that curl is to read")?;
    let commands = curl::commands(target, &files);
    let mut out = io::stderr().lock();
    writeln!(out, "\n{commands}\nEverything stays up until Ctrl-C.")?;
    drop(out);
    end.await;
    files.close().context("cannot remove the files that curl has read")
}

/// Stops the relay before the site, so that requests in flight can still be answered.
async fn stop(relay: RunningRelay, members: Members, site: Site) {
    relay.stop().await;
    members.stop().await;
    site.stop().await;
}

/// Ready at Ctrl-C; on Unix at SIGTERM too. Never ready if neither can be listened for.
async fn interruption() {
    let ctrl_c = async {
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => _ = terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = ctrl_c => (),
        () = terminated => (),
    }
}

/// Shows which step was last done, on one line of a terminal that the table replaces.
fn progress(json: bool) -> impl FnMut(&Row) + Send {
    let shown = shows_progress(json);
    move |row: &Row| {
        if shown {
            // A terminal that is gone takes nothing else with it.
            let _ = write!(io::stderr(), "\r\x1b[K{} {}", row.step, row.asked);
        }
    }
}

fn clear_progress(json: bool) {
    if shows_progress(json) {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

fn shows_progress(json: bool) -> bool {
    !json && io::stderr().is_terminal()
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = if io::stdout().is_terminal() && !plain { Colour::On } else { Colour::Off };
    let text = if json { table::json(report)? } else { table::table(report, colour) };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
