//! One backend: the connections kept to it, and how many requests it has at once.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::body::BoxError;
use crate::transport::Network;

use super::backend_config::{BackendCheck, BackendConfig, Settled};
use super::backend_health::{Health, Notice};
use super::backend_pipe::{Judging, Misread, NoPlace};
use super::backend_tls::Noting;
use super::backend_use::Use;
use super::site_dialer::SiteDialer;
use super::upload::Upload;

/// Octets of each backend connection's read and write buffer.
const BUFFER: usize = 64 << 10;

type Connector = Judging<InTime<HttpsConnector<SiteDialer>>>;

/// A request's place among those that a backend has at once. Clones share it; the last one to be
/// dropped gives it back.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// Why a request got no place at a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Busy {
    /// As many wait as may.
    #[error("{0} requests wait for a connection to the backend already")]
    LineFull(usize),
    /// None came free in time.
    #[error("no connection to the backend came free within {} s", .0.as_secs_f32())]
    TooLong(Duration),
}

/// A site role at one place, and the connections kept to it.
///
/// Clients share connections: the documented wall of the original is one TCP connection per client.
#[derive(Debug)]
pub(super) struct Pool {
    client: Client<Connector, Upload>,
    /// Takes a new connection for each request, of those that may be open. Those that `client`
    /// keeps count too, so it is used only while one more may be opened.
    afresh: Client<Connector, Upload>,
    url: Uri,
    /// Host, if it is not that of the URL.
    host: Option<HeaderValue>,
    limits: Settled,
    /// For as many requests as connections may be open. A place is given back when its request and
    /// its answer are over, so a connection comes free at once then.
    places: Arc<Semaphore>,
    /// Connections that may still be opened.
    connections: Arc<Semaphore>,
    waiting: AtomicUsize,
    health: Mutex<Health>,
    /// Whether it asked for a certificate and was shown none since it has answered last.
    in_vain: Arc<AtomicBool>,
    check: Option<(BackendCheck, Client<Connector, Empty<Bytes>>)>,
}

impl Pool {
    pub(super) fn new(
        url: &Uri,
        config: &BackendConfig,
        limits: Settled,
        network: &Network,
    ) -> Self {
        let connections = Arc::new(Semaphore::new(limits.connections_max));
        let in_vain = Arc::<AtomicBool>::default();
        let to = |places| connector(config, &limits, (network, &in_vain), places);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.idle)
            .pool_max_idle_per_host(limits.idle_max)
            .http1_max_buf_size(BUFFER)
            .http1_title_case_headers(true)
            .build(to(Arc::clone(&connections)));
        let afresh = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .http1_max_buf_size(BUFFER)
            .http1_title_case_headers(true)
            .build(to(Arc::clone(&connections)));
        let check = config.check.clone().map(|check| {
            // Of its own: a check must not wait for requests, nor take a connection from them.
            let asker = Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .http1_title_case_headers(true)
                .build(to(Arc::new(Semaphore::new(1))));
            (check, asker)
        });
        Self {
            client,
            afresh,
            url: url.clone(),
            host: config.name.as_ref().and_then(|name| host(name.as_ref(), url)),
            places: Arc::new(Semaphore::new(limits.connections_max)),
            connections,
            waiting: AtomicUsize::new(0),
            health: Mutex::new(Health::new(Instant::now())),
            in_vain,
            check,
            limits,
        }
    }

    /// Where it is.
    pub(super) fn url(&self) -> &Uri {
        &self.url
    }

    pub(super) fn limits(&self) -> &Settled {
        &self.limits
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that it has, and those that wait for it.
    pub(super) fn load(&self) -> (usize, usize) {
        let in_flight = self.limits.connections_max - self.places.available_permits();
        (in_flight, self.waiting.load(Ordering::Relaxed))
    }

    /// Connections that are open, or being opened.
    pub(super) fn connections(&self) -> usize {
        self.limits.connections_max - self.connections.available_permits()
    }

    /// Waits for a place, first come, first served.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives its place in the line up.
    pub(super) async fn place(&self) -> Result<Place, Busy> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Arc::new(place));
        }
        let Settled { wait_max, wait, .. } = self.limits;
        let _in_line = InLine::join(&self.waiting, wait_max).ok_or(Busy::LineFull(wait_max))?;
        match timeout(wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Arc::new(place)),
            // The semaphore is never closed.
            _ => Err(Busy::TooLong(wait)),
        }
    }

    /// The head of a request for `target` here; `None` if the two do not make a URI.
    pub(super) fn head(
        &self,
        method: Method,
        target: PathAndQuery,
        headers: HeaderMap,
    ) -> Option<Request<()>> {
        let mut request = Request::new(());
        *request.uri_mut() = uri(&self.url, target)?;
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        if let Some(host) = &self.host {
            request.headers_mut().insert(HOST, host.clone());
        }
        Some(request)
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A request that never reached a connection, because the pooled one had just been closed, is
    /// sent on a fresh one; a request of which an octet was written is never sent twice.
    pub(super) async fn send(
        &self,
        mut request: Request<Upload>,
        over: Over,
    ) -> Result<Response<Incoming>, SendFailed> {
        let captured = capture_connection(&mut request);
        let client = match over {
            Over::New if self.connections.available_permits() > 0 => &self.afresh,
            _ => &self.client,
        };
        client.request(request).await.map_err(|error| {
            let used = Use::of(&captured);
            // Whoever insists on a certificate breaks off at the first request already.
            let is_new = used.as_ref().is_none_or(|used| !used.is_used());
            let asked_in_vain = is_new && self.in_vain.load(Ordering::Relaxed);
            SendFailed { error, used, asked_in_vain }
        })
    }

    /// It has answered, so it does not insist on a certificate that it asked for in vain.
    pub(super) fn note_answer(&self) {
        self.in_vain.store(false, Ordering::Relaxed);
    }

    /// Asks what it is to be asked every now and then, once. `None` if there is nothing.
    pub(super) async fn check(&self) -> Option<Notice> {
        let (check, asker) = self.check.as_ref()?;
        let answered = async {
            let head = self.head(Method::GET, check.path.clone(), HeaderMap::new());
            let request = head.ok_or("the path makes no URI")?.map(|()| Empty::new());
            let answer = asker.request(request).await.map_err(|error| with_causes(&error))?;
            match answer.status().as_u16() {
                status if status == check.status => Ok(()),
                status => Err(format!("status {status}, not {}", check.status)),
            }
        };
        let outcome = timeout(check.timeout, answered)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", check.timeout.as_secs_f32())));
        let outcome = outcome.map_err(|why| format!("GET {}: {why}", check.path));
        self.health().checked(outcome.as_ref().copied().map_err(String::as_str), Instant::now())
    }

    /// How long to wait between two checks; `None` if it is not checked.
    pub(super) fn check_interval(&self) -> Option<Duration> {
        self.check.as_ref().map(|(check, _)| check.interval)
    }
}

/// Which connection a request takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Over {
    /// One that is kept, or a new one.
    Any,
    /// A new one, or any if no more may be opened.
    New,
}

/// Why a request was not answered.
#[derive(Debug)]
pub(super) struct SendFailed {
    pub(super) error: Error,
    /// The connection that it had, if it had one.
    pub(super) used: Option<Use>,
    /// Whether the backend may have broken off because it was shown no certificate.
    pub(super) asked_in_vain: bool,
}

impl SendFailed {
    /// Whether none of the request was sent: it was given no connection. One that is new and ends
    /// before it is given a request is none.
    pub(super) fn is_unsent(&self) -> bool {
        self.error.is_connect() || self.used.is_none()
    }

    /// Whether the backend could not be connected to.
    pub(super) fn is_unreachable(&self) -> bool {
        self.error.is_connect() && self.no_place().is_none()
    }

    /// Why the request was given no connection, if as many were open as may be.
    pub(super) fn no_place(&self) -> Option<Busy> {
        let no_place = causes(&self.error).find_map(|cause| cause.downcast_ref());
        no_place.map(|NoPlace(wait)| Busy::TooLong(*wait))
    }

    /// Whether the connection broke before an octet of an answer came. The request may have been
    /// acted on.
    pub(super) fn is_unheard(&self) -> bool {
        !self.error.is_connect()
            && self.used.as_ref().is_some_and(Use::is_unheard)
            && !causes(&self.error).any(|cause| Misread::of(cause).is_some())
    }

    /// Whether its connection had carried a request before.
    pub(super) fn was_kept(&self) -> bool {
        self.used.as_ref().is_some_and(Use::is_used)
    }
}

/// A place in a line of limited length.
struct InLine<'a>(&'a AtomicUsize);

impl<'a> InLine<'a> {
    fn join(line: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let joined = line.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < limit).then_some(waiting + 1)
        });
        joined.ok().map(|_| Self(line))
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn connector(
    config: &BackendConfig,
    limits: &Settled,
    (network, in_vain): (&Network, &Arc<AtomicBool>),
    places: Arc<Semaphore>,
) -> Connector {
    // An `http://` backend has no TLS configuration, and needs one only by the type.
    let mut tls = config.tls.as_deref().cloned().unwrap_or_else(no_tls);
    // The connector sets ALPN itself, and refuses a configuration that has it set.
    tls.alpn_protocols.clear();
    tls.client_auth_cert_resolver = Noting::over(tls.client_auth_cert_resolver, in_vain);
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let builder = match &config.name {
        Some(name) => {
            let name = ServerName::DnsName(name.clone());
            builder.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
        None => builder,
    };
    let dialer = match config.local_service() {
        Some(service) => SiteDialer::Local(service.clone()),
        None => SiteDialer::new(network, limits.connect),
    };
    let connector = builder.enable_http1().wrap_connector(dialer);
    let connector = InTime { connector, limit: limits.connect };
    Judging { connector, patience: limits.answer, places, wait: limits.connect }
}

/// `target` at `url`.
fn uri(url: &Uri, target: PathAndQuery) -> Option<Uri> {
    let parts = url.clone().into_parts();
    Uri::builder()
        .scheme(parts.scheme.unwrap_or(Scheme::HTTP))
        .authority(parts.authority.unwrap_or_else(|| Authority::from_static("localhost")))
        .path_and_query(target)
        .build()
        .ok()
}

/// Host for a backend that is called `name`: with its port, unless the scheme says it.
fn host(name: &str, url: &Uri) -> Option<HeaderValue> {
    let usual = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let text = match url.port_u16() {
        Some(port) if port != usual => format!("{name}:{port}"),
        _ => name.to_owned(),
    };
    HeaderValue::try_from(text).ok()
}

/// `error` and what caused it, in one line.
pub(super) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What caused `error`, the nearest first.
pub(super) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| cause.source())
}

/// Bounds all of connecting: resolving the name and the TLS handshake too, which the connector's
/// own limit leaves out. An exchange that is held open has no other deadline.
#[derive(Clone, Debug)]
struct InTime<C> {
    connector: C,
    limit: Duration,
}

impl<C> Service<Uri> for InTime<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = timeout(self.limit, self.connector.call(to));
        Box::pin(async move { connecting.await?.map_err(Into::into) })
    }
}

fn no_tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions");
    versions.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection_point::{BackendLimits, ConnectionPointLimits, LocalService};

    #[test]
    fn a_pool_is_kept_for_the_same_urls_with_the_very_same_tls_alone() {
        let to = |url: &'static str, tls: Option<&Arc<rustls::ClientConfig>>| {
            BackendConfig::new(Uri::from_static(url), tls.map(Arc::clone))
        };
        let (one, other) = (Arc::new(no_tls()), Arc::new(no_tls()));
        let plain = to("http://mp:80", None);
        assert!(plain.is(&to("http://mp:80", None)));
        assert!(!plain.is(&to("http://mp:81", None)));
        assert!(!plain.is(&to("http://mp:80", Some(&one))));
        let limits = BackendLimits { connections_max: Some(1), ..BackendLimits::default() };
        assert!(!plain.is(&BackendConfig { limits, ..plain.clone() }));
        let secured = to("https://mp", Some(&one));
        assert!(secured.is(&to("https://mp", Some(&one))));
        assert!(!secured.is(&to("https://mp", Some(&other))), "it may trust another authority");
    }

    #[test]
    fn a_pool_is_kept_for_the_very_same_service_within_the_process() {
        let (one, _) = LocalService::new();
        let (other, _) = LocalService::new();
        let local = BackendConfig::local(one.clone());
        assert!(local.is(&BackendConfig::local(one)));
        assert!(!local.is(&BackendConfig::local(other)), "it is served by another");
        assert!(!local.is(&BackendConfig::new(local.urls[0].clone(), None)), "it has a socket");
    }

    #[test]
    fn host_has_the_port_unless_the_scheme_says_it() {
        for (url, expected) in [
            ("http://10.0.0.1", "mp.site"),
            ("http://10.0.0.1:80", "mp.site"),
            ("http://10.0.0.1:443", "mp.site:443"),
            ("https://10.0.0.1:443", "mp.site"),
            ("https://10.0.0.1:8531", "mp.site:8531"),
        ] {
            assert_eq!(host("mp.site", &Uri::from_static(url)).unwrap(), expected, "{url}");
        }
    }

    /// A pool with one place, and a line for `wait_max` that may wait 3 s.
    fn narrow(wait_max: usize) -> Pool {
        let url = Uri::from_static("http://mp");
        let mut config = BackendConfig::new(url.clone(), None);
        config.limits.connections_max = Some(1);
        config.limits.wait_max = Some(wait_max);
        config.limits.wait = Some(Duration::from_secs(3));
        let limits = Settled::new(&config.limits, &ConnectionPointLimits::default());
        Pool::new(&url, &config, limits, &Network::default())
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_so_long_and_no_longer() {
        let pool = narrow(1);
        let first = pool.place().await.unwrap();
        let before = Instant::now();
        let wait = Duration::from_secs(3);
        assert_eq!(pool.place().await.unwrap_err(), Busy::TooLong(wait));
        assert_eq!((before.elapsed(), pool.load()), (wait, (1, 0)));
        let give_back = async {
            tokio::time::sleep(Duration::from_millis(2999)).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(pool.place(), give_back);
        assert!(second.is_ok(), "given back a moment before the end");
        assert_eq!(pool.load(), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_has_so_many_and_who_comes_beyond_is_refused_at_once() {
        for wait_max in [0, 1, 2] {
            let pool = narrow(wait_max);
            let held = pool.place().await.unwrap();
            let before = Instant::now();
            let waiting = (0..wait_max).map(|_| Box::pin(pool.place()));
            let mut waiting: Vec<_> = waiting.collect();
            for place in &mut waiting {
                assert!(polled_once(place).is_none());
            }
            assert_eq!(pool.load(), (1, wait_max));
            assert_eq!(pool.place().await.unwrap_err(), Busy::LineFull(wait_max));
            assert_eq!(before.elapsed(), Duration::ZERO);
            drop(waiting);
            assert_eq!(pool.load(), (1, 0), "who gives up leaves the line");
            drop(held);
            pool.place().await.unwrap();
        }
    }

    /// The outcome of one poll.
    fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(future).poll(&mut cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// Accepts at once, and then says nothing.
    struct Deaf;

    impl Service<Uri> for Deaf {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Pending<Result<(), BoxError>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _to: Uri) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_accepts_and_says_nothing_is_given_up() {
        let limit = Duration::from_secs(5);
        let mut connector = InTime { connector: Deaf, limit };
        let before = Instant::now();
        assert!(connector.call(Uri::from_static("https://backend/")).await.is_err());
        assert_eq!(before.elapsed(), limit);
    }
}
