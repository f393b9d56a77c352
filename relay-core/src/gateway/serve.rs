//! Listeners, connections and links of one gateway instance, from start to drain.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::body::BoxError;
use crate::exchange::HeadLimits;
use crate::link::DrainReport;
use crate::mux::{ConfigError, LinkError, MemoryBudget};
use crate::transport::{
    Certificate, CertificateError, ConnectError, Http2Pipe, InForce, Listener, Purpose,
    QuicListener, Rung, TrustInForce, asks_for_link, grant_link, greet,
};

use super::accept::Counted;
use super::access::{Client, Slowness};
use super::addresses::Addresses;
use super::answer::{AnswerBody, InFlight};
use super::config::GatewayConfig;
use super::control;
use super::counted::{self, Limit};
use super::fetching::Fetching;
use super::guarded::{GaveUp, Guarded, Passed, Times, Told, Until};
use super::halt::Halts;
use super::history::{History, LinkEnd};
use super::http2::Http2;
use super::lines::Lines;
use super::newcomer::Newcomer;
use super::own::Answerer;
use super::patient::Patient;
use super::pressure::Memory;
use super::proofs::Proofs;
use super::published::{Published, SettingsSnapshot};
use super::registry::Registry;
use super::relay::{Relay, refuse};
use super::renewal::Renewal;
use super::terms::Terms;

/// Octets of a request head over HTTP/1.1, and of each connection's read and write buffer.
///
/// hyper refuses a head that does not fit its buffer; 32 KiB is the limit for heads.
const HTTP1_BUFFER: usize = 32 << 10;

/// Fields in a request head.
pub(super) const FIELDS_MAX: usize = 64;

/// Links that HTTPS ports have handed over and that nobody serves yet.
const HANDED_OVER_MAX: usize = 16;

/// Time for each link to end once no request is left on it.
const LINK_GOODBYE: Duration = Duration::from_secs(1);

/// One gateway instance. Clones share it.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(super) inner: Arc<Inner>,
}

/// The sockets of one gateway instance.
#[derive(Debug)]
pub struct Listeners {
    /// HTTPS for clients, and for links: they say so by their ALPN name or ask for an upgrade.
    pub clients: Listener,
    /// TCP-TLS for links; `None` in a scale set.
    pub links: Option<Listener>,
    /// HTTPS for links alone, on a port of the instance's own; `None` if they share the clients'.
    pub https_links: Option<Listener>,
    /// QUIC for links, with the TLS of [`GatewayConfig::link_tls`]; `None` if the instance takes
    /// none over UDP.
    pub quic: Option<QuicListener>,
}

/// What is served on an HTTPS port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Port {
    /// Clients and links.
    Shared,
    /// Links alone.
    Links,
}

/// A link that is to be served, once somebody waits for it.
pub(super) struct PendingLink {
    from: SocketAddr,
    serve: Pin<Box<dyn Future<Output = Result<(), LinkRefused>> + Send>>,
}

impl PendingLink {
    pub(super) fn new(
        from: SocketAddr,
        serve: impl Future<Output = Result<(), LinkRefused>> + Send + 'static,
    ) -> Self {
        Self { from, serve: Box::pin(serve) }
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    /// TLS for whoever connects now.
    pub(super) client_tls: InForce<ServerConfig>,
    pub(super) link_tls: InForce<ServerConfig>,
    /// What links that are up are judged by.
    pub(super) link_trust: TrustInForce,
    pub(super) relay: Relay,
    pub(super) links: AtomicU64,
    pub(super) connections: Arc<Semaphore>,
    /// Of the links' own HTTPS port.
    pub(super) link_connections: Arc<Semaphore>,
    pub(super) addresses: Arc<Addresses>,
    /// Bounds what a flood of clients has under way that costs the most.
    pub(super) client_handshakes: Semaphore,
    pub(super) link_places: Semaphore,
    pub(super) link_memory: MemoryBudget,
    /// Bounds peers that are to become links and are not authenticated yet.
    pub(super) link_handshakes: Semaphore,
    /// Of those of links' own ports, by address.
    pub(super) link_addresses: Arc<Addresses>,
    /// Bounds those who wait because too many of their address are in their handshake.
    pub(super) link_waits: Semaphore,
    pub(super) history: History,
    /// Octets that were sent to clients since the start.
    pub(super) sent: Arc<AtomicU64>,
    /// Bounds what connection points tell at once.
    pub(super) control_places: Semaphore,
    /// `None` if connection points do not renew the link certificate.
    pub(super) renewal: Option<Arc<Renewal>>,
    /// The certificate that links are met with, if somebody has said which.
    pub(super) link_certificate: Mutex<Option<Certificate>>,
    /// Cancelled when the instance stops. Tells those who wait in the order in which they came.
    stopping: CancellationToken,
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
    /// As many peers of its address as may are in their TLS handshake, and stayed so for as long as
    /// a handshake may take. Raise `connections_per_address_max`, or on links' own ports
    /// `link_handshakes_max`, if they are honest.
    #[error("{0} other peers of its address were in their handshake all the time")]
    TooManyOfAddress(usize),
    /// As many peers as the limits allow are in their handshake, or wait for it, of its address or
    /// of all addresses that have too many. Raise `link_handshakes_max` if they are honest.
    #[error("the limit of {0} peers of crowded addresses that wait for a handshake is reached")]
    TooManyWaiting(usize),
    /// The peer's certificate cannot be read, so that it names nobody.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The connection point's certificate does not carry the name that it gives. Its
    /// configuration's fault, or somebody of the site poses as another.
    #[error(
        "the peer calls itself `{claimed}`, but its certificate names {certified}; give the \
         connection point that name, or a certificate in its own"
    )]
    NotItsName {
        /// The name in its hello.
        claimed: String,
        /// The names in its certificate.
        certified: String,
    },
    /// The connection point has a later link in its place, or another one has its name.
    #[error("connection point `{0}` has a later link in its place; do two share that name?")]
    Stale(String),
}

impl Gateway {
    /// An instance that is ready to serve.
    pub fn new(config: GatewayConfig) -> Self {
        let registry = Registry::new(config.balance.balancer());
        Self::with_registry(config, registry)
    }

    /// As [`Gateway::new`], but the order in which links are kept follows from `seed`, the same in
    /// every process, and no answer over HTTP/2 gets a date here.
    #[cfg(any(test, feature = "test-util"))]
    pub fn seeded(config: GatewayConfig, seed: u64) -> Self {
        let registry = Registry::seeded(config.balance.balancer(), seed);
        Self::with_registry(config, registry)
    }

    fn with_registry(mut config: GatewayConfig, registry: Registry) -> Self {
        config.limits = config.limits.countable();
        let relay = Relay {
            settings: Published::with(&config.initial, Fetching::new(config.fetch.clone())),
            registry: Arc::new(registry),
            lines: Lines::new(config.limits.link_credit, config.limits.overload_wait),
            in_flight: InFlight::default(),
            head_limits: HeadLimits::default(),
            answerer: Answerer { service: config.service.clone(), instance: config.instance },
            memory: Memory::new(config.limits.memory.clone()),
            halts: Halts::default(),
            tally: Arc::new(counted::tally()),
            proofs: Proofs::default(),
            terms: InForce::new(Arc::new(Terms::first(config.limits.clone(), config.content))),
        };
        let inner = Inner {
            client_tls: InForce::new(config.client_tls),
            link_tls: InForce::new(config.link_tls),
            link_trust: TrustInForce::default(),
            relay,
            links: AtomicU64::new(0),
            connections: Arc::new(Semaphore::new(config.limits.client_connections_max)),
            link_connections: Arc::new(Semaphore::new(config.limits.link_connections_max())),
            addresses: Addresses::new(config.limits.connections_per_address_max),
            client_handshakes: Semaphore::new(config.limits.client_handshakes_max),
            link_places: Semaphore::new(config.limits.links_max),
            link_memory: MemoryBudget::new(config.limits.link_memory),
            link_handshakes: Semaphore::new(config.limits.link_handshakes_max),
            link_addresses: Addresses::of_links(config.limits.link_handshakes_max),
            link_waits: Semaphore::new(config.limits.link_handshakes_max),
            history: History::default(),
            sent: Arc::default(),
            control_places: Semaphore::new(control::AT_ONCE_MAX),
            renewal: config.certificate_keeper.map(|it| Arc::new(Renewal::new(it))),
            link_certificate: Mutex::default(),
            stopping: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// How many links are up.
    pub fn links(&self) -> usize {
        self.inner.relay.registry.all().len()
    }

    /// Has clients that connect from now on meet `tls`; connections that are open go on.
    pub fn set_client_tls(&self, tls: Arc<ServerConfig>) {
        self.inner.client_tls.set(tls);
    }

    /// Has links that come from now on shake hands by `tls`; those that are up go on.
    pub fn set_link_tls(&self, tls: Arc<ServerConfig>) {
        self.inner.link_tls.set(tls);
    }

    /// How long a client may take nothing of an answer.
    pub(super) fn answer_stall(&self) -> Duration {
        self.terms().limits.answer_stall
    }

    /// Time that a connection without a request is kept.
    pub(super) fn idle(&self) -> Duration {
        self.terms().limits.idle
    }

    /// Whether its answers say when they were made. Compressed, a date is as long as its digits,
    /// which a simulation must not depend on.
    pub(super) fn is_dated(&self) -> bool {
        !self.inner.relay.registry.is_seeded()
    }

    /// Waits until it drains.
    pub(super) async fn stopped(&self) {
        self.inner.stopping.cancelled().await;
    }

    /// Whether there is so little memory that connections which need not stay are let go of.
    pub(super) fn is_short(&self) -> bool {
        self.inner.relay.memory.is_short()
    }

    /// Whether it drains: see [`Gateway::serve`].
    pub(super) fn is_stopping(&self) -> bool {
        self.inner.stopping.is_cancelled()
    }

    /// What is published here: of each site the version that holds, and what was refused.
    pub fn settings(&self) -> SettingsSnapshot {
        self.inner.relay.settings.snapshot()
    }

    /// Streams open on all links now, as of each driver's last turn.
    #[cfg(any(test, feature = "test-util"))]
    pub fn streams_open(&self) -> usize {
        let all = self.inner.relay.registry.all();
        all.iter().map(|entry| entry.link.stats().mux.streams_open).sum()
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
        listeners: Listeners,
        shutdown: impl Future<Output = ()>,
    ) -> DrainReport {
        let mut client_tasks = JoinSet::new();
        let mut link_tasks = JoinSet::new();
        let mut fetching = pin!(self.fetch());
        {
            let (hand_over, handed) = mpsc::channel(HANDED_OVER_MAX);
            let accept_clients = self.accept_https(
                Some(&listeners.clients),
                Port::Shared,
                &hand_over,
                &mut client_tasks,
            );
            let mut https_tasks = JoinSet::new();
            let https_links = listeners.https_links.as_ref();
            let accept_https_links =
                self.accept_https(https_links, Port::Links, &hand_over, &mut https_tasks);
            let accept_quic = async {
                match listeners.quic.as_ref() {
                    #[cfg(feature = "quic")]
                    Some(listener) => self.accept_quic(listener, &hand_over).await,
                    _ => std::future::pending().await,
                }
            };
            let accept_links = self.accept_links(listeners.links.as_ref(), handed, &mut link_tasks);
            tokio::select! {
                biased;
                () = shutdown => {}
                never = self.inner.relay.memory.watch(self.tally()) => match never {},
                never = self.inner.relay.settings.traffic().watch() => match never {},
                never = fetching.as_mut() => match never {},
                () = accept_clients => {}
                () = accept_https_links => {}
                () = accept_quic => {}
                () = accept_links => {}
            }
        }
        // Closed listeners let the balancer in front send new clients elsewhere.
        drop(listeners);
        let report = tokio::select! {
            report = self.drain(client_tasks, link_tasks) => report,
            never = self.inner.relay.memory.watch(self.tally()) => match never {},
            never = self.inner.relay.settings.traffic().watch() => match never {},
            never = fetching => match never {},
        };
        self.inner.relay.settings.traffic().log_open();
        report
    }

    /// Takes what connects to the link port, and the links that HTTPS ports hand over.
    async fn accept_links(
        &self,
        listener: Option<&Listener>,
        mut handed: mpsc::Receiver<PendingLink>,
        tasks: &mut JoinSet<()>,
    ) {
        loop {
            let accept = async {
                match listener {
                    Some(listener) => listener.accept(Purpose::Link).await,
                    None => std::future::pending().await,
                }
            };
            let link = tokio::select! {
                biased;
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                // Its peer's hello was read: such links cannot come as fast as they are taken.
                Some(link) = handed.recv() => link,
                (stream, from) = accept => {
                    let (gateway, newcomer) = (self.clone(), self.count_in_link(from));
                    PendingLink::new(from, async move {
                        gateway.serve_link_over(Rung::TcpTls, stream, Some(newcomer?)).await
                    })
                }
            };
            let gateway = self.clone();
            tasks.spawn(async move { gateway.serve_pending(link).await });
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn serve_pending(&self, link: PendingLink) {
        let PendingLink { from, serve } = link;
        if let Err(why) = serve.await {
            tracing::warn!(%from, %why, "link refused");
            self.note_refused(&why);
            self.inner.history.note(LinkEnd::Refused { from }, &why);
        }
    }

    /// Serves one connection to the clients' port: TLS, then HTTP/2 or HTTP/1.1 as the client
    /// chose, or a link.
    ///
    /// `from` is for the log, and for the limits that an address has. Returns when the connection
    /// has ended. One more than [`GatewayLimits::client_connections_max`] or
    /// [`GatewayLimits::connections_per_address_max`] is closed at once: it is not known here where
    /// it could wait.
    ///
    /// [`GatewayLimits::client_connections_max`]: super::GatewayLimits::client_connections_max
    /// [`GatewayLimits::connections_per_address_max`]:
    ///     super::GatewayLimits::connections_per_address_max
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the connection and cancels its requests at the site.
    pub async fn serve_client<P>(&self, pipe: P, from: SocketAddr)
    where
        P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.inner.connections).try_acquire_owned() else {
            let limit = self.terms().limits.client_connections_max;
            self.note(Limit::Connections);
            return tracing::debug!(%from, limit, "more connections than there may be");
        };
        let Some(placed) = self.count_in(from) else { return };
        let counted = Counted::new(placed, place);
        if let Some(link) = self.serve_https(pipe, from, Port::Shared, counted).await {
            self.serve_pending(link).await;
        }
    }

    /// Serves one connection to an HTTPS port until it has ended, or is to be a link.
    pub(super) async fn serve_https<P>(
        &self,
        pipe: P,
        from: SocketAddr,
        port: Port,
        counted: Counted,
    ) -> Option<PendingLink>
    where
        P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (limits, begun) = (Arc::clone(&self.terms().limits), Instant::now());
        let greeted = tokio::select! {
            biased;
            greeted = greet(pipe, limits.client_hello.min(limits.tls_handshake)) => greeted,
            // Nothing was asked yet, so nothing is lost.
            () = self.inner.stopping.cancelled() => return None,
        };
        let greeted = match greeted {
            Ok(greeted) if greeted.offers_link() => {
                let gateway = self.clone();
                let serve = async move { gateway.serve_greeted_link(greeted, counted).await };
                return Some(PendingLink::new(from, serve));
            }
            Ok(greeted) => greeted,
            Err(why) => return self.failed_handshake(from, Limit::ClientHello, &why),
        };
        let accepted = async {
            let limit = limits.tls_handshake;
            let places = self.handshake_places(&counted, begun + limit).await;
            // In vain: there is no time left for a handshake either.
            let _places = places.ok_or(ConnectError::Timeout { limit })?;
            greeted.accept(self.inner.client_tls.get(), limit).await
        };
        let stream = match accepted.await {
            Ok(stream) => stream,
            Err(why) => return self.failed_handshake(from, Limit::Handshake, &why),
        };
        let (is_h2, chain) = of_handshake(stream.get_ref().1);
        let io = Patient::new(stream, limits.answer_stall).counting(self.count_of(port));
        let slowness = io.slowness();
        let client = Client::new(from, slowness.clone()).showing(chain.as_deref());
        let link = if is_h2 {
            let http2 = self.serve_http2(io, client, port).await;
            http2.map(|first| {
                let (http2, first) = first?;
                let (gateway, slowness) = (self.clone(), slowness.clone());
                Some(PendingLink::new(from, async move {
                    // Clients are served beside the link: it keeps its place among connections.
                    let _counted = counted;
                    http2.serve_with(first).await;
                    gateway.note_stall(&slowness);
                    Ok(())
                }))
            })
        } else {
            let upgraded = self.serve_http1(io, client, port).await;
            upgraded.map(|pipe| {
                let (pipe, gateway) = (pipe?, self.clone());
                let newcomer = Some(Newcomer::from(counted));
                let over = Rung::HttpsUpgrade;
                Some(PendingLink::new(from, async move {
                    gateway.serve_link_over(over, pipe, newcomer).await
                }))
            })
        };
        if !matches!(link, Ok(Some(_))) {
            self.note_stall(&slowness);
        }
        link.unwrap_or_else(|error| {
            tracing::debug!(%from, error, "client connection failed");
            None
        })
    }

    /// Counts a client that took next to nothing of its answers, if it was one.
    fn note_stall(&self, slowness: &Slowness) {
        if slowness.is_noted() {
            self.note(Limit::AnswerStall);
        }
    }

    /// Serves HTTP/1.1 until the connection has ended, or is to be a link: then returns its pipe.
    pub(super) async fn serve_http1<P>(
        &self,
        pipe: Patient<P>,
        client: Client,
        port: Port,
    ) -> Result<Option<P>, BoxError>
    where
        P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let passed = Passed::default();
        let limits = Arc::clone(&self.terms().limits);
        let times = Times { head: limits.request_head, idle: limits.idle };
        let io = TokioIo::new(Guarded::new(pipe, passed.clone(), times));
        let upgrade = Mutex::new(None);
        let service = service_fn(|mut request: Request<Incoming>| {
            let (Told { malformed, names }, served) = passed.serve();
            names.map(|names| request.extensions_mut().insert(names));
            let asks = malformed.is_none()
                && asks_for_link(request.method(), request.uri().path(), request.headers());
            if asks {
                let granted = hyper::upgrade::on(&mut request);
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(granted);
            }
            let client = client.clone();
            async move {
                let mut answer = match (malformed, port) {
                    (Some(malformed), _) => refuse(&malformed.into(), client, self.tally()),
                    _ if asks => granted_link(),
                    (None, Port::Shared) => self.handle_of(client, request).await,
                    (None, Port::Links) => not_a_link(),
                };
                if (malformed.is_some() || self.is_stopping() || self.is_short()) && !asks {
                    // RFC 9112, section 9.6: the client asks elsewhere from now on.
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer.map(|body| Until { body, _served: served }))
            }
        });
        let mut builder = http1::Builder::new();
        // Heads have their time in front of it.
        builder.header_read_timeout(None).max_headers(FIELDS_MAX).max_buf_size(HTTP1_BUFFER);
        // Trailers were judged in front of it. It refuses those that reach its limit.
        builder.max_header_size(HTTP1_BUFFER + 1);
        let connection = builder.serve_connection(io, service).with_upgrades();
        let end = http1::UpgradeableConnection::graceful_shutdown;
        let ended = self.until_stopped(connection, end).await;
        match passed.gave_up() {
            Some(GaveUp::Newcomer) => self.note(Limit::FirstRequest),
            Some(GaveUp::Idle) => self.note(Limit::Idle),
            None => {}
        }
        ended?;
        let upgrade = upgrade.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(upgrade) = upgrade else { return Ok(None) };
        let Ok(parts) = upgrade.await?.downcast::<TokioIo<Guarded<Patient<P>>>>() else {
            return Ok(None);
        };
        // RFC 9110, section 7.8: the new protocol begins behind the answer. It was not heard.
        let heard = parts.io.into_inner().into_inner().filter(|_| parts.read_buf.is_empty());
        Ok(heard.map(Patient::into_inner))
    }

    /// As [`Gateway::serve_http1`], for HTTP/2. Returns the first link with what is to serve it.
    async fn serve_http2<P>(
        &self,
        pipe: P,
        client: Client,
        port: Port,
    ) -> Result<Option<(Http2<P>, Http2Pipe)>, BoxError>
    where
        P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limit = self.terms().limits.request_head;
        let begun = Http2::begin(self.clone(), pipe, client, port);
        let http2 = tokio::select! {
            biased;
            // Nothing was asked yet, so nothing is lost.
            () = self.stopped() => return Ok(None),
            begun = tokio::time::timeout(limit, begun) => {
                begun.inspect_err(|_| self.note(Limit::FirstRequest))??
            }
        };
        Ok(http2.serve().await?)
    }

    /// Drives a connection to its end, which `end_gracefully` asks for some time after the instance
    /// has begun to stop.
    async fn until_stopped<C: Future>(
        &self,
        connection: C,
        end_gracefully: impl FnOnce(Pin<&mut C>),
    ) -> C::Output {
        let mut connection = pin!(connection);
        tokio::select! {
            // First, or a connection that is always busy would never hear of it.
            biased;
            () = self.inner.stopping.cancelled() => {}
            outcome = connection.as_mut() => return outcome,
        }
        let linger = self.terms().limits.linger;
        if let Ok(outcome) = tokio::time::timeout(linger, connection.as_mut()).await {
            return outcome;
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

    /// As [`Gateway::handle`], of a client that is known.
    pub(super) async fn handle_of<B>(
        &self,
        client: Client,
        mut request: Request<B>,
    ) -> Response<AnswerBody<B>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        request.extensions_mut().insert(client);
        self.handle(request).await
    }

    async fn drain(&self, mut clients: JoinSet<()>, mut links: JoinSet<()>) -> DrainReport {
        let limit = self.terms().limits.drain;
        let deadline = Instant::now() + limit;
        let open = self.in_flight();
        self.inner.stopping.cancel();
        let all_ended = async {
            while clients.join_next().await.is_some() {}
            // Those on a connection that carries a link as well.
            self.inner.relay.in_flight.none().await;
        };
        let in_time = timeout_at(deadline, all_ended).await.is_ok();
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

/// The answer to a connection point that asks for a link.
fn granted_link<B>() -> Response<AnswerBody<B>> {
    let mut answer = Response::new(AnswerBody::none());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    grant_link(answer.headers_mut());
    answer
}

/// The answer to anything else on a port for links alone.
pub(super) fn not_a_link<B>() -> Response<AnswerBody<B>> {
    let mut answer = Response::new(AnswerBody::none());
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

/// What a handshake has come to: whether HTTP/2 is spoken, and what the client has shown.
fn of_handshake(tls: &ServerConnection) -> (bool, Option<Vec<CertificateDer<'static>>>) {
    (tls.alpn_protocol() == Some(b"h2"), tls.peer_certificates().map(<[_]>::to_vec))
}

#[cfg(test)]
pub(super) mod tests;
