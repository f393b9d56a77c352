//! Pooled connections to one site role.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use crate::body::BoxError;
use crate::transport::Network;

use super::backend_pipe::Judging;
use super::config::{BackendConfig, ConnectionPointLimits};
use super::site_dialer::SiteDialer;
use super::upload::Upload;

/// Octets of each backend connection's read and write buffer.
const BUFFER: usize = 64 << 10;

/// A site role and the connections kept to it.
///
/// Clients share connections: the documented wall of the original is one TCP connection per client.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    client: Client<Judging<InTime<HttpsConnector<SiteDialer>>>, Upload>,
    scheme: Scheme,
    authority: Authority,
    config: BackendConfig,
}

impl Pool {
    pub(super) fn new(
        config: &BackendConfig,
        limits: &ConnectionPointLimits,
        network: &Network,
    ) -> Self {
        // An `http://` backend has no TLS configuration, and needs one only by the type.
        let tls = config.tls.as_deref().cloned().unwrap_or_else(no_tls);
        // The connector sets ALPN itself, and refuses a configuration that has it set.
        let mut tls = tls;
        tls.alpn_protocols.clear();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(SiteDialer::new(network, limits.backend_connect));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.backend_idle)
            .pool_max_idle_per_host(limits.backend_idle_max)
            .http1_max_buf_size(BUFFER)
            .http1_title_case_headers(true)
            .build(Judging {
                connector: InTime { connector, limit: limits.backend_connect },
                patience: limits.backend_answer,
            });
        let parts = config.url.clone().into_parts();
        Self {
            client,
            scheme: parts.scheme.unwrap_or(Scheme::HTTP),
            authority: parts.authority.unwrap_or_else(|| Authority::from_static("localhost")),
            config: config.clone(),
        }
    }

    /// Whether a pool made from `config` would be the same.
    pub(super) fn is_to(&self, config: &BackendConfig) -> bool {
        let same_tls = match (&self.config.tls, &config.tls) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        };
        same_tls && self.config.url == config.url
    }

    /// Where `target` is at this backend.
    pub(super) fn uri(&self, target: PathAndQuery) -> Option<Uri> {
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
            .ok()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A request that never reached a connection, because the pooled one had just been closed, is
    /// sent on a fresh one; a request of which an octet was written is never sent twice.
    pub(super) async fn send(&self, request: Request<Upload>) -> Result<Response<Incoming>, Error> {
        self.client.request(request).await
    }
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
        let connecting = tokio::time::timeout(self.limit, self.connector.call(to));
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

    #[test]
    fn a_pool_is_kept_for_the_same_url_with_the_very_same_tls_alone() {
        let to = |url: &'static str, tls: Option<&Arc<rustls::ClientConfig>>| BackendConfig {
            url: Uri::from_static(url),
            tls: tls.map(Arc::clone),
        };
        let (one, other) = (Arc::new(no_tls()), Arc::new(no_tls()));
        let limits = ConnectionPointLimits::default();
        let network = Network::default();
        let plain = Pool::new(&to("http://mp:80", None), &limits, &network);
        assert!(plain.is_to(&to("http://mp:80", None)));
        assert!(!plain.is_to(&to("http://mp:81", None)));
        assert!(!plain.is_to(&to("http://mp:80", Some(&one))));
        let secured = Pool::new(&to("https://mp", Some(&one)), &limits, &network);
        assert!(secured.is_to(&to("https://mp", Some(&one))));
        assert!(!secured.is_to(&to("https://mp", Some(&other))), "it may trust another authority");
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
        let before = tokio::time::Instant::now();
        assert!(connector.call(Uri::from_static("https://backend/")).await.is_err());
        assert_eq!(before.elapsed(), limit);
    }
}
