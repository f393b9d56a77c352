//! A site role that speaks HTTPS, and keeps who it was asked as and by whom.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::header::HOST;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::transport::Identity;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::pki::SiteCa;
use crate::site::{RawBackend, full};

/// Who a request was for, and from whom it came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Visit {
    /// The name in the TLS handshake.
    pub sni: Option<String>,
    /// The field Host.
    pub host: String,
    /// The leaf that the other side has shown.
    pub shown: Option<CertificateDer<'static>>,
}

/// An HTTPS server that answers every request with 200. Dropping it cuts every connection.
#[derive(Debug)]
pub struct SecureBackend {
    /// Where it listens.
    pub address: SocketAddr,
    visits: Arc<Mutex<Vec<Visit>>>,
    _backend: RawBackend,
}

/// TLS of a server that shows `identity` and asks nobody for a certificate.
pub fn open_to_all(identity: &Identity) -> Arc<ServerConfig> {
    showing(identity, ConfigBuilder::<ServerConfig, WantsVerifier>::with_no_client_auth)
}

/// TLS of a server that shows `identity` and lets nobody in but who shows a certificate of `of`.
pub fn demanding(identity: &Identity, of: &SiteCa) -> Arc<ServerConfig> {
    let verifier = WebPkiClientVerifier::builder_with_provider(of.roots(), provider());
    let verifier = verifier.build().unwrap();
    showing(identity, |builder| builder.with_client_cert_verifier(verifier))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn showing(
    identity: &Identity,
    ask: impl FnOnce(
        ConfigBuilder<ServerConfig, WantsVerifier>,
    ) -> ConfigBuilder<ServerConfig, WantsServerCert>,
) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider());
    let (chain, key) = (identity.chain().to_vec(), identity.key().clone_key());
    let config = ask(builder.with_safe_default_protocol_versions().unwrap());
    Arc::new(config.with_single_cert(chain, key).unwrap())
}

impl SecureBackend {
    /// Starts it.
    pub async fn start(tls: Arc<ServerConfig>) -> Self {
        let visits: Arc<Mutex<Vec<Visit>>> = Arc::default();
        let log = Arc::clone(&visits);
        let acceptor = TlsAcceptor::from(tls);
        let serve = move |stream| serve(stream, acceptor.clone(), Arc::clone(&log));
        let backend = RawBackend::start(serve).await;
        Self { address: backend.address, visits, _backend: backend }
    }

    /// The requests that came since it was last asked.
    pub fn take(&self) -> Vec<Visit> {
        std::mem::take(&mut self.visits.lock().unwrap())
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, log: Arc<Mutex<Vec<Visit>>>) {
    // An error is a client that was refused, or has refused.
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    stream.flush().await.unwrap();
    let (_, session) = stream.get_ref();
    let sni = session.server_name().map(str::to_owned);
    let shown = session.peer_certificates().and_then(|chain| chain.first().cloned());
    let service = service_fn(move |request: Request<Incoming>| {
        let host = request.headers()[HOST].to_str().unwrap().to_owned();
        log.lock().unwrap().push(Visit { sni: sni.clone(), host, shown: shown.clone() });
        async { Ok::<_, Infallible>(Response::new(full("well"))) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    // An error is a connection that the other side cut.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}
