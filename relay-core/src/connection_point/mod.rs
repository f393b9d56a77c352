//! The role inside the site: it dials out to every gateway instance, keeps the links up, and
//! forwards what arrives to the site's management points and software update points.
//!
//! It listens on no port. It judges every request again: the two ends of a link do not trust each
//! other, and it connects to no host that is not configured. Read [`ConnectionPoint`] first, then
//! `forward.rs`, the life of one request here.

mod backend;
mod backoff;
mod config;
mod forward;
mod serve;
mod shown;
mod status;
mod supervise;
mod upload;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::link::DrainReport;
use crate::mux::{ConfigError, LinkError, MemoryBudget};
use crate::policy::{EndpointMap, EndpointMapError};
use crate::transport::{ConnectError, InForce, Instance, secure_link};

pub use config::{
    BackendConfig, ConnectionPointConfig, ConnectionPointLimits, GatewayAddress, SiteEndpoint,
};

pub use shown::Phase;
pub use status::{ConnectionPointStatus, LinkStatus, PlaceStatus};

use forward::Forwarder;
use supervise::{Route, Way};

/// A connection point. Clones share it.
#[derive(Clone, Debug)]
pub struct ConnectionPoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ConnectionPointConfig,
    /// TLS for links that are dialled now; that of `config` is what it began with.
    link_tls: InForce<ClientConfig>,
    https_tls: InForce<ClientConfig>,
    forwarder: Arc<Forwarder>,
    /// Rises with each start, so that a gateway can tell a new link from a stale one.
    epoch: u64,
    /// Turns true when the connection point stops.
    stopping: watch::Sender<bool>,
    link_memory: MemoryBudget,
    /// When the next dial may begin.
    next_dial: Mutex<Instant>,
    /// The links that are to be up.
    ways: Mutex<Vec<Arc<Way>>>,
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
    Link(#[from] LinkError),
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

impl ConnectionPoint {
    /// A connection point that is ready to run.
    ///
    /// # Errors
    ///
    /// [`EndpointMapError`] when two endpoints share a name or a role id, or a path is unusable.
    pub fn new(config: ConnectionPointConfig) -> Result<Self, EndpointMapError> {
        let endpoints = config.endpoints.iter().map(|site| site.endpoint.clone()).collect();
        let backends = config
            .endpoints
            .iter()
            .map(|site| (site.endpoint.role_id, backend::Pool::new(&site.backend, &config.limits)))
            .collect();
        let forwarder = Forwarder::new(EndpointMap::new(endpoints)?, backends, &config.limits);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let inner = Inner {
            link_tls: InForce::new(Arc::clone(&config.link_tls)),
            https_tls: InForce::new(Arc::clone(&config.https_tls)),
            forwarder: Arc::new(forwarder),
            epoch: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            stopping: watch::Sender::new(false),
            link_memory: MemoryBudget::new(config.limits.link_memory),
            next_dial: Mutex::new(Instant::now()),
            ways: Mutex::default(),
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
        let mut supervisors = JoinSet::new();
        for gateway in &self.inner.config.gateways {
            let route = Arc::new(Route::new(gateway.clone()));
            let places = u32::try_from(self.inner.config.limits.links_per_instance);
            for place in 0..places.unwrap_or(u32::MAX) {
                let way = Arc::new(Way::new(Arc::clone(&route), place));
                self.inner
                    .ways
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Arc::clone(&way));
                let connection_point = self.clone();
                supervisors.spawn(async move { connection_point.supervise(&way).await });
            }
        }
        shutdown.await;
        self.inner.stopping.send_replace(true);
        let mut report = DrainReport::default();
        while let Some(ended) = supervisors.join_next().await {
            report += ended.unwrap_or_default();
        }
        report
    }

    /// Waits until the connection point stops.
    async fn stopped(&self) {
        let mut stopping = self.inner.stopping.subscribe();
        // The sender lives as long as `self`.
        let _ = stopping.wait_for(|stopping| *stopping).await;
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
            secured = secured => secured.unwrap_or(Err(ConnectError::Timeout { limit }))?,
            () = self.stopped() => return Ok(DrainReport::default()),
        };
        let number = fastrand::u64(..);
        let standing = tokio::select! {
            standing = self.establish(Box::new(stream), gateway.instance, number) => standing?,
            () = self.stopped() => return Ok(DrainReport::default()),
        };
        let link = standing.link.clone();
        let mut served = std::pin::pin!(self.serve_standing(standing));
        tokio::select! {
            why = served.as_mut() => return Err(why.into()),
            () = self.stopped() => {}
        }
        let (report, _) = tokio::join!(link.drain(self.inner.config.limits.drain), served);
        Ok(report)
    }
}
