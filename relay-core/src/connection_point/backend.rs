//! Pooled connections to one site role.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::body::BodyReceiver;

use super::config::{BackendConfig, ConnectionPointLimits};

/// Octets of each backend connection's read and write buffer.
const BUFFER: usize = 64 << 10;

/// A site role and the connections kept to it.
///
/// Clients share connections: the documented wall of the original is one TCP connection per client.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    client: Client<HttpsConnector<HttpConnector>, BodyReceiver>,
    scheme: Scheme,
    authority: Authority,
}

impl Pool {
    pub(super) fn new(config: &BackendConfig, limits: &ConnectionPointLimits) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(limits.backend_connect));
        // An `http://` backend has no TLS configuration, and needs one only by the type.
        let tls = config.tls.as_deref().cloned().unwrap_or_else(no_tls);
        // The connector sets ALPN itself, and refuses a configuration that has it set.
        let mut tls = tls;
        tls.alpn_protocols.clear();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.backend_idle)
            .pool_max_idle_per_host(limits.backend_idle_max)
            .http1_max_buf_size(BUFFER)
            .http1_title_case_headers(true)
            .build(connector);
        let parts = config.url.clone().into_parts();
        Self {
            client,
            scheme: parts.scheme.unwrap_or(Scheme::HTTP),
            authority: parts.authority.unwrap_or_else(|| Authority::from_static("localhost")),
        }
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
    pub(super) async fn send(
        &self,
        request: Request<BodyReceiver>,
    ) -> Result<Response<Incoming>, Error> {
        self.client.request(request).await
    }
}

fn no_tls() -> rustls::ClientConfig {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions");
    versions.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}
