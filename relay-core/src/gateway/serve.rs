//! Listeners, connections and links of one gateway instance, from start to drain.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::body::BoxError;
use crate::exchange::HeadLimits;
use crate::link::{self, DrainReport};
use crate::mux::{Config, ConfigError, LinkError, MemoryBudget, Side, StreamCode};
use crate::transport::{ConnectError, Listener, Purpose, accept_link, accept_tls};

use super::answer::{AnswerBody, InFlight};
use super::config::GatewayConfig;
use super::patient::Patient;
use super::patient_streams::PatientExecutor;
use super::registry::Registry;
use super::relay::Relay;

/// Octets of a request head over HTTP/1.1, and of each connection's read and write buffer.
///
/// hyper refuses a head that does not fit its buffer; 32 KiB is the limit for heads.
const HTTP1_BUFFER: usize = 32 << 10;

/// Fields in a request head.
const FIELDS_MAX: usize = 64;

/// Time for each link to end once no request is left on it.
const LINK_GOODBYE: Duration = Duration::from_secs(1);

/// One gateway instance. Clones share it.
#[derive(Clone, Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: GatewayConfig,
    relay: Relay,
    links: AtomicU64,
    connections: Arc<Semaphore>,
    link_places: Semaphore,
    link_memory: MemoryBudget,
    /// Bounds peers on the link port that are not authenticated yet.
    link_handshakes: Semaphore,
    /// Turns true when the instance stops.
    stopping: watch::Sender<bool>,
}

/// Why a link was refused or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkRefused {
    /// It did not come up: TLS failed, or the peer does not speak the protocol.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The protocol was broken, or the pipe was lost, before the hello.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The settings of the mux are out of range. A fault of this library.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// As many links as the limits allow are up.
    #[error("the limit of {0} links is reached")]
    TooMany(usize),
    /// As many peers as the limits allow are in their TLS handshake.
    #[error("the limit of {0} handshakes is reached")]
    TooManyHandshakes(usize),
}

impl Gateway {
    /// An instance that is ready to serve.
    pub fn new(config: GatewayConfig) -> Self {
        let relay = Relay {
            endpoints: Arc::clone(&config.endpoints),
            registry: Arc::new(Registry::new(config.balance.balancer())),
            limits: config.limits.clone(),
            in_flight: InFlight::default(),
            head_limits: HeadLimits::default(),
        };
        let inner = Inner {
            relay,
            links: AtomicU64::new(0),
            connections: Arc::new(Semaphore::new(config.limits.client_connections_max)),
            link_places: Semaphore::new(config.limits.links_max),
            link_memory: MemoryBudget::new(config.limits.link_memory),
            link_handshakes: Semaphore::new(config.limits.link_handshakes_max),
            stopping: watch::Sender::new(false),
            config,
        };
        Self { inner: Arc::new(inner) }
    }

    /// How many links are up.
    pub fn links(&self) -> usize {
        self.inner.relay.registry.all().len()
    }

    /// Requests in flight now.
    pub fn in_flight(&self) -> u64 {
        self.inner.relay.in_flight.count()
    }

    /// Serves clients and connection points until `shutdown` is ready, then drains: no new
    /// connection is taken, requests in flight have [`GatewayLimits::drain`] to end.
    ///
    /// [`GatewayLimits::drain`]: super::GatewayLimits::drain
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts everything that is open.
    pub async fn serve(
        self,
        clients: Listener,
        links: Listener,
        shutdown: impl Future<Output = ()>,
    ) -> DrainReport {
        let mut client_tasks = JoinSet::new();
        let mut link_tasks = JoinSet::new();
        {
            let accept_clients = self.accept_clients(&clients, &mut client_tasks);
            let accept_links = self.accept_links(&links, &mut link_tasks);
            tokio::select! {
                () = shutdown => {}
                () = accept_clients => {}
                () = accept_links => {}
            }
        }
        // Closed listeners let the balancer in front send new clients elsewhere.
        drop((clients, links));
        self.drain(client_tasks, link_tasks).await
    }

    async fn accept_clients(&self, listener: &Listener, tasks: &mut JoinSet<()>) {
        loop {
            let places = Arc::clone(&self.inner.connections);
            // Without a free place the kernel's queue is where clients wait.
            let Ok(place) = places.acquire_owned().await else { return };
            let (stream, from) = tokio::select! {
                accepted = listener.accept(Purpose::Clients) => accepted,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            };
            let gateway = self.clone();
            tasks.spawn(async move {
                gateway.serve_client(stream, from).await;
                drop(place);
            });
        }
    }

    async fn accept_links(&self, listener: &Listener, tasks: &mut JoinSet<()>) {
        loop {
            let (stream, from) = tokio::select! {
                accepted = listener.accept(Purpose::Link) => accepted,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            };
            let gateway = self.clone();
            tasks.spawn(async move {
                if let Err(why) = gateway.serve_link(stream).await {
                    tracing::warn!(%from, %why, "link refused");
                }
            });
        }
    }

    /// Serves one client connection: TLS, then HTTP/2 or HTTP/1.1 as the client chose.
    ///
    /// `from` is for the log. Returns when the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the connection and cancels its requests at the site.
    pub async fn serve_client<P>(&self, pipe: P, from: SocketAddr)
    where
        P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.inner.config.limits;
        let tls = Arc::clone(&self.inner.config.client_tls);
        let mut stopping = self.inner.stopping.subscribe();
        let handshake = tokio::select! {
            handshake = accept_tls(pipe, tls, limits.tls_handshake) => handshake,
            // Nothing was asked yet, so nothing is lost.
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let stream = match handshake {
            Ok(stream) => stream,
            Err(why) => return tracing::debug!(%from, %why, "client handshake failed"),
        };
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(Patient::new(stream, limits.answer_stall));
        let outcome = if is_h2 { self.serve_http2(io).await } else { self.serve_http1(io).await };
        if let Err(error) = outcome {
            tracing::debug!(%from, %error, "client connection failed");
        }
    }

    async fn serve_http1<P>(&self, io: TokioIo<P>) -> hyper::Result<()>
    where
        P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| async {
            Ok::<_, std::convert::Infallible>(self.handle(request).await)
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.inner.config.limits.request_head)
            .max_headers(FIELDS_MAX)
            .max_buf_size(HTTP1_BUFFER);
        let connection = builder.serve_connection(io, service);
        self.until_stopped(connection, http1::Connection::graceful_shutdown).await
    }

    async fn serve_http2<P>(&self, io: TokioIo<P>) -> hyper::Result<()>
    where
        P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let gateway = self.clone();
        let service = service_fn(move |request| {
            let gateway = gateway.clone();
            async move { Ok::<_, std::convert::Infallible>(gateway.handle(request).await) }
        });
        let mut builder =
            http2::Builder::new(PatientExecutor::new(self.inner.config.limits.answer_stall));
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .initial_stream_window_size(64 << 10)
            .initial_connection_window_size(1 << 20)
            .max_header_list_size(32 << 10)
            .max_pending_accept_reset_streams(50)
            .max_send_buf_size(64 << 10)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15));
        let connection = builder.serve_connection(io, service);
        self.until_stopped(connection, http2::Connection::graceful_shutdown).await
    }

    /// Drives a connection to its end, which `end_gracefully` asks for when the instance stops.
    async fn until_stopped<C: Future>(
        &self,
        connection: C,
        end_gracefully: impl FnOnce(Pin<&mut C>),
    ) -> C::Output {
        let mut connection = pin!(connection);
        let mut stopping = self.inner.stopping.subscribe();
        tokio::select! {
            outcome = connection.as_mut() => return outcome,
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        end_gracefully(connection.as_mut());
        connection.await
    }

    /// Relays one request, as a service that a product mounts in a server of its own.
    ///
    /// Never fails: whatever goes wrong becomes an answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the request at the site.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<AnswerBody<B>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        self.inner.relay.handle(request).await
    }

    /// Serves one link of a connection point: mutual TLS, then the mux, until it ends.
    ///
    /// # Errors
    ///
    /// [`LinkRefused`] if it never came up. A link that was up and ends is logged, and `Ok`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the link.
    pub async fn serve_link<P>(&self, pipe: P) -> Result<(), LinkRefused>
    where
        P: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = &self.inner.config.limits;
        if self.inner.link_places.available_permits() == 0 {
            // Only authenticated peers hold places, so a handshake would be in vain.
            return Err(LinkRefused::TooMany(limits.links_max));
        }
        let Ok(handshake) = self.inner.link_handshakes.try_acquire() else {
            return Err(LinkRefused::TooManyHandshakes(limits.link_handshakes_max));
        };
        let tls = Arc::clone(&self.inner.config.link_tls);
        let stream = accept_link(pipe, tls, limits.tls_handshake).await?;
        drop(handshake);
        // Only now: a stranger must not take the place of a connection point.
        let Ok(_place) = self.inner.link_places.try_acquire() else {
            return Err(LinkRefused::TooMany(limits.links_max));
        };
        let config = Config {
            accept_streams_max: 16,
            open_streams_max: 1024,
            instance: self.inner.config.instance.number().into(),
            name: self.inner.config.service.chars().take(64).collect(),
            link: fastrand::u64(..),
            memory: Some(self.inner.link_memory.clone()),
            // A client that takes nothing is cut by its own limit, which says why.
            consumer_timeout: Config::default().consumer_timeout.max(2 * limits.answer_stall),
            ..Config::default()
        };
        let (link, driver) = link::new(stream, Side::Listener, config)?;
        let mut driver = pin!(driver);
        let hello = tokio::select! {
            ended = driver.as_mut() => return Err(ended.into()),
            hello = link.established() => hello?,
        };
        let number = self.inner.links.fetch_add(1, Ordering::Relaxed) + 1;
        let name: Arc<str> = hello.name.as_str().into();
        let registry = &self.inner.relay.registry;
        let registration = registry.register(number, Arc::clone(&name), link.clone());
        tracing::info!(
            link = number,
            connection_point = &*name,
            software = hello.software,
            "link up"
        );
        // When the instance stops, the link is drained after the last request: see `drain`.
        // Both to their end: the driver goes on until its last octets have left.
        let (why, ()) = tokio::join!(driver, refuse_all(&link));
        drop(registration);
        tracing::info!(link = number, connection_point = &*name, %why, "link down");
        Ok(())
    }

    async fn drain(&self, mut clients: JoinSet<()>, mut links: JoinSet<()>) -> DrainReport {
        let limit = self.inner.config.limits.drain;
        let deadline = Instant::now() + limit;
        let open = self.in_flight();
        self.inner.stopping.send_replace(true);
        let all_ended = async { while clients.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout_at(deadline, all_ended).await.is_ok();
        let reset = if in_time { 0 } else { self.in_flight() };
        clients.shutdown().await;
        // All at once: peers that are dead or deaf must not add up.
        let mut goodbyes = JoinSet::new();
        for entry in self.inner.relay.registry.all().iter() {
            let link = entry.link.clone();
            goodbyes.spawn(async move { link.drain(LINK_GOODBYE).await });
        }
        while goodbyes.join_next().await.is_some() {}
        links.shutdown().await;
        DrainReport { finished: open.saturating_sub(reset), reset }
    }
}

/// Refuses every stream that a connection point opens, until the link ends: nothing is served in
/// that direction, and a stream that nobody accepts would wait for ever.
async fn refuse_all(link: &link::Link) {
    while let Ok(mut incoming) = link.accept().await {
        incoming.send.reset(StreamCode::REFUSED);
    }
}

#[cfg(test)]
mod tests;
