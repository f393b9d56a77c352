//! The client session: every verb through the relay, and the proof that each came through whole.
//!
//! It behaves as managed devices do, over real TLS, and believes nothing: what comes back is
//! compared with what was sent, and what must be refused is looked for at the site. It knows
//! nothing of how the relay works. Read [`Target`] first, then [`run`].

mod client;
mod crowd;
mod download;
mod links;
mod members;
mod messages;
mod reads;
mod refusals;
mod report;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;

use super::site::{self, SiteSeen};
use client::Client;
use report::{Asked, Log, Proof};

pub(crate) use links::{Carried, Links};
pub(crate) use members::{Membership, visitor};
pub(crate) use report::{Report, Row};

/// The header that carries an exchange's message id on every answer of the relay.
pub(crate) const MESSAGE_ID: &str = "relay-message-id";

/// The header that carries the reason of a refusal. HTTP/2 has no reason phrase.
pub(crate) const REASON: &str = "relay-reason";

/// Between two looks whether something is up.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a step may take.
const STEP_WITHIN: Duration = Duration::from_secs(20);

/// How long a step that moves much may take; a build without optimisation is slow.
const LONG_STEP_WITHIN: Duration = Duration::from_mins(2);

/// What the session runs against.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where each gateway instance listens for clients, instance 1 first; at least one.
    pub instances: Vec<SocketAddr>,
    /// The service's name: in the URL and in the gateway's certificate.
    pub host: String,
    /// What the gateway's certificate must lead to.
    pub roots: Arc<RootCertStore>,
    /// Role id of the management point.
    pub mp_role: u64,
    /// Role id of the software update point.
    pub sup_role: u64,
    /// What the built-in site has seen.
    pub seen: Arc<SiteSeen>,
    /// How a client becomes one of the site; `None` where anybody may ask.
    pub membership: Option<Membership>,
    /// What the links have carried.
    pub links: Links,
    /// How much is done.
    pub extent: Extent,
}

/// How much the session does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Size of the large download, in octets. Default 64 MiB, at most 16 GiB.
    pub download_bytes: u64,
    /// Requests sent at once, half over HTTP/1.1 on a connection each, half over HTTP/2.
    /// Default 200.
    pub crowd: usize,
}

impl Default for Extent {
    fn default() -> Self {
        Self { download_bytes: site::LARGE_FILE_BYTES, crowd: 200 }
    }
}

/// Runs every step and gives `show` each row as soon as it is known.
///
/// # Errors
///
/// Only if TLS cannot be set up at all. Whatever else goes wrong is a failed row.
///
/// # Cancel safety
///
/// Dropping the future closes its connections. Nothing else is left behind.
pub(crate) async fn run(
    target: &Target,
    show: &mut (dyn FnMut(&Row) + Send),
) -> anyhow::Result<Report> {
    let stranger = Client::new(target)?;
    let mut log = Log::new(show);
    reads::wait_until_connected(&stranger, &mut log).await;
    if log.has_failed() {
        // Every further step would fail at its deadline, for the same reason.
        return Ok(log.finish());
    }
    let client = match &target.membership {
        None => Some(stranger.clone()),
        Some(membership) => members::join(&stranger, membership, &mut log).await,
    };
    let Some(client) = client else { return Ok(log.finish()) };
    reads::run(&client, &mut log).await;
    messages::run(&client, &mut log).await;
    upload::run(&client, &mut log).await;
    download::run(&client, &mut log).await;
    crowd::run(&client, &mut log).await;
    refusals::run(&client, &mut log).await;
    if let Some(membership) = &target.membership {
        members::block(&stranger, membership, &mut log).await;
    }
    links::run(&client, &mut log).await;
    let asked = Asked::everywhere(&client, "message id", "of every answer above");
    log.step(asked, STEP_WITHIN, async { message_ids(&client) }).await;
    Ok(log.finish())
}

fn message_ids(client: &Client) -> anyhow::Result<Proof> {
    let (answers, missing, repeated) = client.message_ids();
    anyhow::ensure!(
        missing == 0 && repeated == 0,
        "{answers} answers: {missing} without a {MESSAGE_ID}, {repeated} with one seen before"
    );
    let evidence = format!("{answers} answers, {answers} different ids");
    Ok(Proof { answer: String::new(), evidence })
}
