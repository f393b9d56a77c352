//! How a store is asked.

use std::pin::Pin;
use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Sockets;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use relay_core::content::MANIFEST_OCTETS_MAX;
use relay_core::transport::{TrustAnchors, backend_client_config};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use super::fault::WireFault;

/// Longest answer, in octets. No octets of files are fetched here; lists come in pages.
const ANSWER_OCTETS_MAX: usize = MANIFEST_OCTETS_MAX + (1 << 20);

/// Connections to a store, kept for the next request.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    client: Client<HttpsConnector<Sockets>, HttpRequestBody>,
    /// Time for a request and all of its answer.
    patience: Duration,
}

impl Wire {
    /// Connections with TLS trusted by `trust`; without it, with nobody's.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub(super) fn new(trust: Option<&TrustAnchors>, patience: Duration) -> anyhow::Result<Self> {
        let mut tls = match trust {
            Some(trust) => ClientConfig::clone(&*backend_client_config(trust)?),
            None => ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth(),
        };
        // The connector says itself what is spoken.
        tls.alpn_protocols.clear();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new()).build(connector.build());
        Ok(Self { client, patience })
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asked = async {
            let answer = self.client.request(request).await.map_err(|why| WireFault::of(&why))?;
            let (head, body) = answer.into_parts();
            // To be asked again, which is what comes of every other 5xx, makes no room.
            if matches!(
                head.status,
                StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE
            ) {
                return Err(WireFault::NoRoom(head.status));
            }
            let body = Limited::new(body, ANSWER_OCTETS_MAX).collect().await;
            let body = body.map_err(|why| WireFault::broken(&*why))?;
            let body = Full::new(body.to_bytes()).map_err(|never| match never {});
            Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
        };
        let asked = timeout(self.patience, asked).await;
        Ok(asked.unwrap_or(Err(WireFault::Silent(self.patience)))?)
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// As the macro of the trait would write it.
type Asked<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Wire {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Asked<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.ask(request))
    }
}
