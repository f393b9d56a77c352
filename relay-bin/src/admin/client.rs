//! `relay status`, `relay drain`, `relay service` and `relay log`: ask the admin listener of a role
//! that runs on this machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use relay_core::config::admin_address;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::console::say;
use crate::exit::Failure;
use crate::logs::directives;

use super::status::{Drained, Log, Refused, Service, SetLog, Status};
use super::{HEADER, text, traffic};

/// Octets of an answer that are read: a status of many links has some hundred thousand.
const ANSWER_MAX: usize = 16 << 20;

/// Shown below the help of `relay status`.
pub(crate) const STATUS_EXAMPLES: &str = "\
Examples:
  Which links are up, and why others are not:
    relay status --config connection-point.toml
  What came to each endpoint in each five minutes of the last day:
    relay status --traffic --config gateway.toml
  For a script:
    relay status --admin 127.0.0.1:10180 --json

It asks the role that runs with that configuration on this machine; [admin] in it says where. A
browser on the machine shows the same at http:// and that address.
Counts of answers by reason, and of limits that connections came to, begin with the role. Those that
are 0 are in the JSON alone.";

/// Shown below the help of `relay drain`.
pub(crate) const DRAIN_EXAMPLES: &str = "\
Examples:
  Stop a role once its requests have ended, and say what became of them:
    relay drain --config gateway.toml
  Have one link replaced by a new one; `relay status` shows its name:
    relay drain --config gateway.toml --link 7
    relay drain --config connection-point.toml --link 2.0";

/// Shown below the help of `relay service`.
pub(crate) const SERVICE_EXAMPLES: &str = "\
Examples:
  Have an instance refuse clients, and keep its links:
    relay service stop --config gateway.toml
  Have it serve them again:
    relay service start --config gateway.toml

While it is stopped new requests are answered 503 CMGService_Stopped, /readyz says so, and requests
in flight go on. Nothing of that outlives the role: one that is started serves. An instance that its
egress has stopped is not started by this.";

/// Shown below the help of `relay log`.
pub(crate) const LOG_EXAMPLES: &str = "\
Examples:
  What is logged now:
    relay log --config gateway.toml
  See what each link does, for a quarter of an hour:
    relay log info,relay_core::link=debug --minutes 15 --config gateway.toml
  Log as at the start again:
    relay log --reset --config gateway.toml

The role goes on as it is; nothing is restarted, and no link is dropped.";

/// Which running role is asked.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The running role's configuration file; its `[admin]` table says where to ask.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin listener's address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
}

/// Arguments of `relay status`.
#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    whom: Whom,
    /// Show what came to each endpoint of a gateway instance in each five minutes of the last day.
    #[arg(long)]
    traffic: bool,
    /// Print JSON: all there is to see.
    #[arg(long)]
    json: bool,
}

/// Arguments of `relay drain`.
#[derive(clap::Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    whom: Whom,
    /// Drain this link alone: at a gateway its number, at a connection point INSTANCE.PLACE.
    #[arg(long, value_name = "LINK")]
    link: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `relay service` does.
#[derive(clap::Subcommand)]
pub(crate) enum ServiceCommand {
    /// Answer new requests with 503 from now on; those in flight go on, and links stay.
    Stop(ServiceArgs),
    /// Serve clients again.
    Start(ServiceArgs),
}

/// Arguments of either.
#[derive(clap::Args)]
pub(crate) struct ServiceArgs {
    #[command(flatten)]
    whom: Whom,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `relay log`.
#[derive(clap::Args)]
pub(crate) struct LogArgs {
    /// What to log from now on: `error`, `warn`, `info`, `debug` or `trace`, or directives such as
    /// `info,relay_core::link=debug`. Without it, what is logged is shown.
    #[arg(value_name = "LEVEL", value_parser = directives)]
    filter: Option<String>,
    #[command(flatten)]
    whom: Whom,
    /// Log so for this many minutes, and then as at the start.
    #[arg(long, value_name = "MINUTES", requires = "filter")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MINUTES_MAX))]
    minutes: Option<u32>,
    /// Log as at the start.
    #[arg(long, conflicts_with = "filter")]
    reset: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A week: what is to last longer belongs on the command line of the role.
const MINUTES_MAX: i64 = 7 * 24 * 60;

/// `relay log`.
pub(crate) fn log(args: &LogArgs) -> Result<(), Failure> {
    let told: Log = if args.filter.is_none() && !args.reset {
        ask(&args.whom, &Method::GET, "/log", None)?
    } else {
        let wanted = SetLog { filter: args.filter.clone(), minutes: args.minutes };
        ask(&args.whom, &Method::PUT, "/log", Some(&wanted))?
    };
    show(args.json, &told, text::log)
}

/// `relay status`.
pub(crate) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let status: Status = ask(&args.whom, &Method::GET, "/status.json", None)?;
    show(args.json, &status, if args.traffic { traffic::text } else { text::status })
}

/// `relay drain`.
pub(crate) fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let path = match &args.link {
        Some(link) if link.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            format!("/links/{link}/drain")
        }
        Some(link) => {
            let error = anyhow!("`{link}` names no link; `relay status` shows their names");
            return Err(Failure::Usage(error));
        }
        None => "/drain".to_owned(),
    };
    let drained: Drained = ask(&args.whom, &Method::POST, &path, None)?;
    show(args.json, &drained, |drained| {
        format!("drained: {} requests finished, {} cut", drained.finished, drained.cut)
    })
}

/// `relay service`.
pub(crate) fn service(command: &ServiceCommand) -> Result<(), Failure> {
    let (args, path) = match command {
        ServiceCommand::Stop(args) => (args, "/service/stop"),
        ServiceCommand::Start(args) => (args, "/service/start"),
    };
    let service: Service = ask(&args.whom, &Method::POST, path, None)?;
    show(args.json, &service, |service| {
        let by = service.halted_by.join(", ");
        if service.serving {
            "serves clients".to_owned()
        } else {
            format!("stopped: new requests are answered 503, links stay; by: {by}")
        }
    })
}

fn show<T: serde::Serialize>(
    json: bool,
    shown: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if json {
        let json = serde_json::to_string_pretty(shown).context("cannot write JSON");
        say(&json.map_err(Failure::Runtime)?);
    } else {
        say(text(shown).trim_end());
    }
    Ok(())
}

/// Asks the role, and reads its answer.
fn ask<T: DeserializeOwned>(
    whom: &Whom,
    method: &Method,
    path: &str,
    wanted: Option<&SetLog>,
) -> Result<T, Failure> {
    let address = match (&whom.admin, &whom.config) {
        (Some(address), _) => *address,
        (None, Some(file)) => admin_address(file)?,
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime").map_err(Failure::Runtime)?;
    let body = wanted.map(serde_json::to_vec).transpose().context("cannot write JSON");
    let body = body.map_err(Failure::Runtime)?.unwrap_or_default();
    runtime.block_on(exchange(address, method, path, body.into())).map_err(Failure::Runtime)
}

/// How long a role is waited for that is asked by the way.
const STATUS_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// What the role says of itself that is administered at `address`.
pub(crate) fn status_at(address: SocketAddr) -> anyhow::Result<serde_json::Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let asked = exchange(address, &Method::GET, "/status.json", Bytes::new());
    runtime.block_on(async {
        let told = tokio::time::timeout(STATUS_TIME, asked).await;
        told.with_context(|| format!("the role at {address} has not answered in 5 s"))?
    })
}

/// What the role that is administered at `address` answers to a GET, whatever it is.
///
/// # Errors
///
/// Nobody answers, or not in 5 s.
///
/// # Cancel safety
///
/// Cancel safe: a connection half made is closed.
pub(crate) async fn told_at(
    address: SocketAddr,
    path: &str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let asked = fetch(address, &Method::GET, path, Bytes::new());
    let told = tokio::time::timeout(STATUS_TIME, asked).await;
    told.with_context(|| format!("the role at {address} has not answered in 5 s"))?
}

async fn exchange<T: DeserializeOwned>(
    address: SocketAddr,
    method: &Method,
    path: &str,
    body: Bytes,
) -> anyhow::Result<T> {
    let (status, body) = fetch(address, method, path, body).await?;
    if status != StatusCode::OK {
        let refused: Option<Refused> = serde_json::from_slice(&body).ok();
        bail!("{}", refused.map_or_else(|| format!("answered {status}"), |it| it.error));
    }
    serde_json::from_slice(&body).context("the answer is not one of a relay's admin listener")
}

/// Asks, and reads the whole answer.
async fn fetch(
    address: SocketAddr,
    method: &Method,
    path: &str,
    body: Bytes,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await.with_context(|| {
        format!("no role answers at {address}; does it run, with this address in [admin]?")
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("cannot speak to the admin listener")?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address.to_string())
        .header(HEADER, "1")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let asked = async move {
        let answer = sender.send_request(request).await.context("the role broke off")?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| anyhow!("the role's answer broke off: {error}"))?;
        anyhow::Ok((status, body.to_bytes()))
    };
    let (answer, _) = tokio::join!(asked, connection);
    answer
}
