//! `relay status` and `relay drain`: ask the admin listener of a role that runs on this machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use relay_core::config::admin_address;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::console::say;
use crate::exit::Failure;

use super::status::{Drained, Refused, Status};
use super::{HEADER, text};

/// Octets of an answer that are read: a status of many links has some hundred thousand.
const ANSWER_MAX: usize = 16 << 20;

/// Shown below the help of `relay status`.
pub(crate) const STATUS_EXAMPLES: &str = "\
Examples:
  Which links are up, and why others are not:
    relay status --config connection-point.toml
  For a script:
    relay status --admin 127.0.0.1:10180 --json

It asks the role that runs with that configuration on this machine; [admin] in it says where.";

/// Shown below the help of `relay drain`.
pub(crate) const DRAIN_EXAMPLES: &str = "\
Examples:
  Stop a role once its requests have ended, and say what became of them:
    relay drain --config gateway.toml
  Have one link replaced by a new one; `relay status` shows its name:
    relay drain --config gateway.toml --link 7
    relay drain --config connection-point.toml --link 2.0";

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
    /// Print JSON.
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

/// `relay status`.
pub(crate) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let status: Status = ask(&args.whom, &Method::GET, "/status.json")?;
    show(args.json, &status, text::status)
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
    let drained: Drained = ask(&args.whom, &Method::POST, &path)?;
    show(args.json, &drained, |drained| {
        format!("drained: {} requests finished, {} cut", drained.finished, drained.cut)
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
fn ask<T: DeserializeOwned>(whom: &Whom, method: &Method, path: &str) -> Result<T, Failure> {
    let address = match (&whom.admin, &whom.config) {
        (Some(address), _) => *address,
        (None, Some(file)) => admin_address(file)?,
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime").map_err(Failure::Runtime)?;
    runtime.block_on(exchange(address, method, path)).map_err(Failure::Runtime)
}

async fn exchange<T: DeserializeOwned>(
    address: SocketAddr,
    method: &Method,
    path: &str,
) -> anyhow::Result<T> {
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
        .body(Empty::<Bytes>::new())?;
    let asked = async move {
        let answer = sender.send_request(request).await.context("the role broke off")?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| anyhow!("the role's answer broke off: {error}"))?;
        anyhow::Ok((status, body.to_bytes()))
    };
    let (answer, _) = tokio::join!(asked, connection);
    let (status, body) = answer?;
    if status != StatusCode::OK {
        let refused: Option<Refused> = serde_json::from_slice(&body).ok();
        bail!("{}", refused.map_or_else(|| format!("answered {status}"), |it| it.error));
    }
    serde_json::from_slice(&body).context("the answer is not one of a relay's admin listener")
}
