//! The site's token service: who registers, who is given a newer token, whose token of Entra ID is
//! exchanged.
//!
//! It runs in the process of the connection point, which publishes it as an endpoint of kind
//! `token-service`; clients of the site's own network reach it directly, if it listens there. It
//! keeps no token, fetches no revocation list and knows no certificate authority: a client is known
//! by a GUID that is drawn here and by the key of a certificate it has made itself.
//!
//! Read [`decide::Site`] first: what a client is given and why not, with time, store and keys as
//! arguments. `office` does that on a thread of its own, `front` reads and answers, `intranet`
//! listens, and gives each source its share of `places`. What comes over gateways and what comes
//! from the site's own network have limits apart: neither takes anything from the other.
//! Registrations go to the store, blocks of them come from `relay token block`.
//!
//! # Protocol
//!
//! Our choice, as nothing about the original's is public. `CCM_POST` or `POST`, JSON of at most
//! 64 KiB, below `CCM_STS`: over a gateway `/CCM_Proxy_ServerAuth/<role id>/CCM_STS/register`, on
//! the site's own network `/CCM_STS/register` as well.
//!
//! - `register` takes `{"certificate": base64 of DER}`: over a gateway with a bulk token, and with
//!   the certificate's key. It gives a token of 90 days.
//! - `renew` takes `{}` with the client's own token, 30 to 90 days old, and the key it is bound to.
//!   It gives a token of 90 days.
//! - `exchange` takes `{}` with a token of Entra ID. It gives a token of 8 hours.
//!
//! The answer is 200 with `{"client_id", "token", "expires", "renew_after"}`: a GUID, the token,
//! its end in seconds since 1970 UTC, and in how many seconds it is to be renewed. A refusal has
//! another status and `{"error", "detail"}`: one of [`refusal::Refusal::CODES`], and what to do.
//!
//! **A key is proven** by showing the certificate in TLS, or by signing the timestamp of the
//! request: `CCMClientID`, `CCMClientTimestamp`, `CCMClientTimestampsSignature`, and the
//! certificate as `CCMClientCertificate`, base64 of at most 4 KiB of DER. Over a gateway the
//! instance tells what was shown to it, and the connection point hands that on as `Client-Cert`
//! (RFC 9440), which counts on connections of the connection point's own and nowhere else.
//!
//! **The GUID** of a client is drawn here; what a client calls itself before is not taken. Who
//! registers again with the same certificate has the same GUID, so that a block of it holds. For a
//! token of Entra ID it is computed from tenant and device, or user where there is no device: the
//! same each time, with no entry in the store until it is blocked by `relay token block`: that ends
//! what it was given here. What is blocked in Entra ID, or with its tenant by `enabled = false`, is
//! given nothing more, and has what it was given for 8 hours at most.
//!
//! **A renewal** goes by the age of the token that is shown: who never got the answer asks again.
//! The token before counts to its own end.
//!
//! **The certificate** is RSA of 2,048 to 4,096 bits, signed by itself, begins at most a day ahead
//! and has a day left. A token ends with it if that is before its 90 days are over.

mod certificate;
mod clock;
mod decide;
mod front;

mod intranet;
mod office;
mod places;
mod possession;
mod rate;
mod refusal;
mod tally;
mod tenants;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use relay_core::config::{SiteTokens, TokenServiceConfig};
use relay_core::connection_point::{BackendConfig, LocalConnections, LocalService, SiteEndpoint};
use relay_core::fetched::{FetchConfig, FetchDriver, Fetched};
use relay_core::settings::TenantTrust;
use relay_core::transport::TrustAnchors;
use tokio::sync::watch;
use tokio::task::JoinSet;

use front::{From, Front, Limits};
use intranet::{Intranet, IntranetTls};
use office::{Ended, Office};
use tenants::Tenants;

use super::Keys;

pub(crate) use tally::Tally;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// How long its end waits for the store to be closed. Our choice: a little longer than another
/// process may keep it locked.
const CLOSED_WITHIN: Duration = Duration::from_secs(6);

/// A token service that runs. It ends when it is dropped; see [`TokenService::end`].
pub(crate) struct TokenService {
    local: LocalService,
    tenants: Arc<RwLock<Tenants>>,
    fetched: Option<Fetched>,
    tally: Arc<Tally>,
    intranet: Option<Listening>,
    tasks: JoinSet<()>,
    ended: Ended,
}

/// It, on the site's own network.
struct Listening {
    tls: Arc<IntranetTls>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// What a token service is made of.
pub(crate) struct Parts<'a> {
    pub(crate) tokens: SiteTokens,
    pub(crate) config: &'a TokenServiceConfig,
    /// The listener for the site's own network, where the configuration has one.
    pub(crate) listener: Option<tokio::net::TcpListener>,
    pub(crate) tenants: Vec<TenantTrust>,
}

impl TokenService {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// A certificate cannot be used, or the operating system gives no thread.
    pub(crate) fn start(parts: Parts<'_>) -> anyhow::Result<Self> {
        let Parts { tokens, config, listener, tenants } = parts;
        // Keys that cannot be read are told of where they are needed.
        if Keys::open(&tokens.folder).is_ok_and(|keys| keys.is_empty()) {
            tracing::info!("no token is issued before `relay token new` has made a signing key");
        }
        let mut tasks = JoinSet::new();
        let fetched = match &config.provider_trust {
            Some(trust) => {
                let (fetched, driver) = fetching(trust)?;
                tasks.spawn(async move { match driver.run().await {} });
                Some(fetched)
            }
            None => None,
        };
        let tenants = Arc::new(RwLock::new(taken(tenants, fetched.clone())));
        let opened = Office::open(tokens, Arc::clone(&tenants));
        let (office, ended) = opened.context("cannot start the token service")?;
        let tally = Arc::<Tally>::default();
        let front = Arc::new(Front::new(office, Limits::default(), Arc::clone(&tally)));
        let (local, connections) = LocalService::new();
        tasks.spawn(serve_local(connections, Arc::clone(&front)));
        let mut intranet = None;
        if let (Some(listener), Some(asked)) = (listener, &config.intranet) {
            let tls = Arc::new(IntranetTls::new(asked.identity.clone())?);
            let listening = Intranet::new(listener, Arc::clone(&tls), front);
            let (stop, stops) = watch::channel(false);
            let task = tokio::spawn(listening.serve(stops));
            intranet = Some(Listening { tls, stop, task });
        }
        Ok(Self { local, tenants, fetched, tally, intranet, tasks, ended })
    }

    /// The endpoint by which it is published.
    pub(crate) fn endpoint(&self, config: &TokenServiceConfig) -> SiteEndpoint {
        let backend = BackendConfig::local(self.local.clone());
        SiteEndpoint { endpoint: config.endpoint.clone(), backend }
    }

    /// What it has done so far.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Has tokens of these tenants exchanged from now on, and of no others; and reads what is shown
    /// on the site's own network again. Blocks.
    pub(crate) fn reload(&self, tenants: Vec<TenantTrust>) {
        let tenants = taken(tenants, self.fetched.clone());
        *self.tenants.write().unwrap_or_else(PoisonError::into_inner) = tenants;
        if let Some(intranet) = &self.intranet {
            intranet.tls.look();
        }
    }

    /// Ends it: answers what has been asked on the site's own network, cuts what else is under way,
    /// and waits for the store to be closed. Takes 46 s at most, of somebody who reads his answer
    /// slowly; 21 s of others. What a server has not acknowledged by then it has been told of all
    /// the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rest to itself, as dropping the service does.
    pub(crate) async fn end(mut self) {
        if let Some(Listening { stop, task, .. }) = self.intranet {
            // One that has ended by itself has nobody to hear it.
            let _ = stop.send(true);
            let _ = task.await;
        }
        self.tasks.shutdown().await;
        if !self.ended.ends_within(CLOSED_WITHIN).await {
            tracing::warn!("the token service still waits for its store; it is left to that");
        }
    }
}

fn fetching(trust: &TrustAnchors) -> anyhow::Result<(Fetched, FetchDriver)> {
    FetchConfig::new(trust)
        .map(Fetched::new)
        .context("nothing can be trusted by `provider_ca` of `[token_service]`")
}

fn taken(tenants: Vec<TenantTrust>, fetched: Option<Fetched>) -> Tenants {
    let tenants = Tenants::new(tenants, fetched);
    if tenants.lack_keys() {
        tracing::warn!(
            "tokens of a tenant without `keys` are not exchanged: `[token_service]` has no \
             `provider_ca` by which its keys could be fetched"
        );
    }
    tenants
}

/// Serves what comes from the connection point.
async fn serve_local(mut connections: LocalConnections, front: Arc<Front>) {
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            stream = connections.next() => match stream {
                Some(stream) => {
                    let unasked = std::future::pending();
                    served.spawn(Arc::clone(&front).serve(stream, From::ConnectionPoint, unasked));
                }
                // Nobody forwards to it any more.
                None => return,
            },
            Some(_) = served.join_next() => {}
        }
    }
}
