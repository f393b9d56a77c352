//! The role inside the site: it dials out to every gateway instance, keeps the links up, publishes
//! the site's settings over them, and forwards what arrives to the site's management points and
//! software update points.
//!
//! It listens on no port. It judges every request again: the two ends of a link do not trust each
//! other, and it connects to no host that is not configured. Read [`ConnectionPoint`] first, then
//! `forward.rs`, the life of one request here.

mod backend;
mod backend_check;
mod backend_config;
mod backend_health;
mod backend_pipe;
mod backend_tls;
mod backend_use;
mod backends;
mod backoff;
mod carrier;
mod config;
mod counted;
mod current;
mod dial;
mod drained;
mod forward;
mod interim;
mod local_service;
mod publish;
mod renew;
mod serve;
mod shown;
mod site_dialer;
mod status;
mod supervise;
mod tell;
mod traced;
mod unfit;
mod update;
mod upload;

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::link::DrainReport;
use crate::mux::{ConfigError, LinkError, MemoryBudget};
use crate::settings::DocumentError;
use crate::transport::{ConnectError, InForce, Instance, TrustInForce, secure_link};

pub use backend_check::BackendStatus;
pub use backend_config::{BACKENDS_MAX, BackendCheck, BackendConfig, BackendLimits};
pub use backend_health::BackendState;
pub use config::{ConnectionPointConfig, ConnectionPointLimits, GatewayAddress, SiteEndpoint};
pub use local_service::{LocalConnections, LocalService};

pub use publish::{PublishOutcome, PublishState};
pub use renew::CertificateIssuer;
pub use shown::Phase;
pub use status::{ConnectionPointStatus, LinkStatus, PlaceStatus};
pub use update::{Update, UpdateError};

use carrier::Carrier;
use current::Current;
use drained::drain;
use publish::Told;
use supervise::Way;

/// A connection point. Clones share it.
#[derive(Clone, Debug)]
pub struct ConnectionPoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Without what can change: that is in `gateways` and `current`.
    config: ConnectionPointConfig,
    /// TLS for links that are dialled now; that of `config` is what it began with.
    link_tls: InForce<ClientConfig>,
    https_tls: InForce<ClientConfig>,
    /// What links that are up are judged by.
    link_trust: TrustInForce,
    /// The instances to dial.
    gateways: watch::Sender<Arc<[GatewayAddress]>>,
    /// What is published and forwarded to.
    current: watch::Sender<Arc<Current>>,
    /// Held while `gateways` and `current` are changed.
    updating: Mutex<()>,
    /// What became of the settings at the instances.
    told: Mutex<Told>,
    /// Rises with each start, so that a gateway can tell a new link from a stale one.
    epoch: u64,
    /// Cancelled when the connection point stops. Tells those who wait in the order in which they
    /// came.
    stopping: CancellationToken,
    link_memory: MemoryBudget,
    /// When the next dial may begin.
    next_dial: Mutex<Instant>,
    /// The links that are to be up.
    ways: Mutex<Vec<Arc<Way>>>,
    /// Links that are made, and those that nobody took.
    background: Mutex<JoinSet<DrainReport>>,
}

/// Why a link did not come up, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkEnded {
    /// It could not be dialled.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The link ended.
    #[error(transparent)]
    Link(LinkError),
    /// The gateway does not want the link, and says why. What to do is in its words.
    #[error("the gateway refused the link: {why}")]
    Refused {
        /// The gateway's own words: at most 128 characters, control characters replaced.
        why: Box<str>,
    },
    /// Another gateway instance is there than the one that is configured. The configuration's
    /// fault, or that of whoever forwards the port.
    #[error(
        "this port leads to instance {found}, not to instance {wanted}; check the host and port \
         of instance {wanted}, and where that port is forwarded to"
    )]
    OtherInstance {
        /// The instance that was to be reached.
        wanted: Instance,
        /// What the other side calls itself.
        found: u16,
    },
    /// The settings of the mux are out of range, e.g. a name of more than 128 octets.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl From<LinkError> for LinkEnded {
    fn from(why: LinkError) -> Self {
        match why {
            LinkError::RefusedByPeer { why } => Self::Refused { why },
            other => Self::Link(other),
        }
    }
}

impl ConnectionPoint {
    /// A connection point that is ready to run.
    ///
    /// # Errors
    ///
    /// [`DocumentError`] when what is to be published cannot be: two endpoints share a name or a
    /// role id, a path is unusable, or there are too many.
    pub fn new(config: ConnectionPointConfig) -> Result<Self, DocumentError> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::started(config, u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }

    /// As [`ConnectionPoint::new`], without asking the clock: `epoch` must rise with each
    /// start under the same name.
    ///
    /// # Errors
    ///
    /// As [`ConnectionPoint::new`].
    #[cfg(any(test, feature = "test-util"))]
    pub fn with_epoch(config: ConnectionPointConfig, epoch: u64) -> Result<Self, DocumentError> {
        Self::started(config, epoch)
    }

    fn started(mut config: ConnectionPointConfig, epoch: u64) -> Result<Self, DocumentError> {
        config.limits = config.limits.countable();
        let endpoints = std::mem::take(&mut config.endpoints);
        let tenants = std::mem::take(&mut config.tenants);
        let (version, clients) = (config.settings_version, config.clients.take());
        let current = Current::new(&config, version, &endpoints, tenants, clients, None)?;
        let inner = Inner {
            link_tls: InForce::new(Arc::clone(&config.link_tls)),
            https_tls: InForce::new(Arc::clone(&config.https_tls)),
            link_trust: TrustInForce::default(),
            gateways: watch::Sender::new(std::mem::take(&mut config.gateways).into()),
            current: watch::Sender::new(Arc::new(current)),
            updating: Mutex::default(),
            told: Mutex::default(),
            epoch,
            stopping: CancellationToken::new(),
            link_memory: MemoryBudget::new(config.limits.link_memory),
            next_dial: Mutex::new(Instant::now()),
            ways: Mutex::default(),
            background: Mutex::default(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Has links that are dialled from now on shake hands by `tls`; those that are up go on.
    pub fn set_link_tls(&self, tls: Arc<ClientConfig>) {
        self.inner.link_tls.set(tls);
    }

    /// Has HTTPS around links that are dialled from now on speak by `tls`.
    pub fn set_https_tls(&self, tls: Arc<ClientConfig>) {
        self.inner.https_tls.set(tls);
    }

    /// Keeps links to every gateway instance until `shutdown` is ready, then drains them: requests
    /// in flight have [`ConnectionPointLimits::drain`] to end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts every link.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> DrainReport {
        let mut wanted = self.inner.gateways.subscribe();
        let mut shutdown = pin!(shutdown);
        let (mut supervisors, mut routes) = (JoinSet::new(), Vec::new());
        let mut checks = pin!(self.check_backends());
        loop {
            let gateways = Arc::clone(&wanted.borrow_and_update());
            self.adjust(&gateways, &mut routes, &mut supervisors);
            tokio::select! {
                () = &mut shutdown => break,
                _ = wanted.changed() => {}
                // It never ends.
                () = &mut checks => {}
                // Of an instance that is dialled no more.
                Some(_) = supervisors.join_next(), if !supervisors.is_empty() => {}
            }
        }
        self.inner.stopping.cancel();
        let mut report = DrainReport::default();
        while let Some(ended) = supervisors.join_next().await {
            report += ended.unwrap_or_default();
        }
        // One of them may leave a link to another before it ends.
        loop {
            let background = &self.inner.background;
            let mut tasks = {
                let mut tasks = background.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *tasks)
            };
            let Some(ended) = tasks.join_next().await else { break };
            report += ended.unwrap_or_default();
            while let Some(ended) = tasks.join_next().await {
                report += ended.unwrap_or_default();
            }
        }
        report
    }

    /// Waits until the connection point stops.
    async fn stopped(&self) {
        self.inner.stopping.cancelled().await;
    }

    /// Serves one link over a pipe that is connected to a gateway instance: TLS, then the mux,
    /// until it ends or the connection point stops. For a transport of the product's own.
    ///
    /// # Errors
    ///
    /// [`LinkEnded`] unless this side stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the link and cancels its requests at the backends.
    pub async fn serve_link<P>(
        &self,
        pipe: P,
        gateway: &GatewayAddress,
    ) -> Result<DrainReport, LinkEnded>
    where
        P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tls = self.inner.link_tls.get();
        let limit = self.inner.config.limits.dial;
        let secured = tokio::time::timeout(limit, secure_link(pipe, &gateway.server_name, tls));
        let stream = tokio::select! {
            biased;
            secured = secured => secured.unwrap_or(Err(ConnectError::Timeout { limit }))?,
            () = self.stopped() => return Ok(DrainReport::default()),
        };
        // To its end even if this side stops, see `supervise`.
        let number = fastrand::u64(..);
        let carrier = Carrier::over(stream, &gateway.server_name);
        let standing = self.establish(carrier, gateway.instance, number).await?;
        let link = standing.link.clone();
        let mut served = std::pin::pin!(self.serve_standing(standing));
        tokio::select! {
            // First, or a link that is always busy would never hear of it.
            biased;
            () = self.stopped() => {}
            why = served.as_mut() => return Err(why.into()),
        }
        let (report, _) =
            tokio::join!(drain(&link, gateway.instance, self.inner.config.limits.drain), served);
        Ok(report)
    }
}
