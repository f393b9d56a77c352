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
mod site_dialer;
mod supervise;
mod upload;

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::link::DrainReport;
use crate::mux::{ConfigError, LinkError, MemoryBudget};
use crate::policy::{EndpointMap, EndpointMapError};
use crate::transport::{ConnectError, secure_link};

pub use config::{
    BackendConfig, ConnectionPointConfig, ConnectionPointLimits, GatewayAddress, SiteEndpoint,
};

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
    forwarder: Arc<Forwarder>,
    /// Rises with each start, so that a gateway can tell a new link from a stale one.
    epoch: u64,
    /// Cancelled when the connection point stops. Tells those who wait in the order in which they
    /// came.
    stopping: CancellationToken,
    link_memory: MemoryBudget,
    /// When the next dial may begin.
    next_dial: Mutex<Instant>,
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
    pub fn with_epoch(config: ConnectionPointConfig, epoch: u64) -> Result<Self, EndpointMapError> {
        Self::started(config, epoch)
    }

    fn started(config: ConnectionPointConfig, epoch: u64) -> Result<Self, EndpointMapError> {
        let endpoints = config.endpoints.iter().map(|site| site.endpoint.clone()).collect();
        let backends = config
            .endpoints
            .iter()
            .map(|site| {
                let pool = backend::Pool::new(&site.backend, &config.limits, &config.network);
                (site.endpoint.role_id, pool)
            })
            .collect();
        let forwarder = Forwarder::new(EndpointMap::new(endpoints)?, backends, &config.limits);
        let inner = Inner {
            forwarder: Arc::new(forwarder),
            epoch,
            stopping: CancellationToken::new(),
            link_memory: MemoryBudget::new(config.limits.link_memory),
            next_dial: Mutex::new(Instant::now()),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
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
                let (connection_point, route) = (self.clone(), Arc::clone(&route));
                let way = Way::new(route, place);
                supervisors.spawn(async move { connection_point.supervise(&way).await });
            }
        }
        shutdown.await;
        self.inner.stopping.cancel();
        let mut report = DrainReport::default();
        while let Some(ended) = supervisors.join_next().await {
            report += ended.unwrap_or_default();
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
        let tls = Arc::clone(&self.inner.config.link_tls);
        let limit = self.inner.config.limits.dial;
        let secured = tokio::time::timeout(limit, secure_link(pipe, &gateway.server_name, tls));
        let stream = tokio::select! {
            biased;
            secured = secured => secured.unwrap_or(Err(ConnectError::Timeout { limit }))?,
            () = self.stopped() => return Ok(DrainReport::default()),
        };
        // To its end even if this side stops, see `supervise`.
        let standing = self.establish(Box::new(stream), fastrand::u64(..)).await?;
        let link = standing.link.clone();
        let mut served = std::pin::pin!(self.serve_standing(standing));
        tokio::select! {
            // First, or a link that is always busy would never hear of it.
            biased;
            () = self.stopped() => {}
            why = served.as_mut() => return Err(why.into()),
        }
        let (report, _) = tokio::join!(link.drain(self.inner.config.limits.drain), served);
        Ok(report)
    }
}
