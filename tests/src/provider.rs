//! An identity provider that speaks `OpenID` Connect Discovery, and a server of revocation lists:
//! both publish what a test says, and behave as badly as it says.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, ETAG, IF_NONE_MATCH, LOCATION};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::auth::Guid;
use relay_core::transport::memory::MemoryHost;
use rustls::ServerConfig;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::site::{Body, RawBackend, empty, endless, fed, full};
use crate::tokens::Signer;

/// How a server answers.
#[derive(Clone, Debug)]
pub enum Manner {
    /// With what is published, or 404; with 304 if the one who asks has it.
    Well,
    /// Not at all: the connection ends.
    Down,
    /// Not at all: the connection stands.
    Silent,
    /// With 200, and a body that does not come.
    Stalling,
    /// With 200, and a body without an end.
    Endless,
    /// With this status.
    Status(u16),
    /// With 302 to there.
    Redirecting(String),
    /// With 200 and these octets.
    Saying(Bytes),
    /// With what it calls gzip.
    Compressed,
}

#[derive(Debug)]
struct State {
    published: BTreeMap<String, Bytes>,
    asked: Vec<(String, bool)>,
    /// Connections.
    open: usize,
    manner: Manner,
    /// Of one path, in place of the other.
    manner_at: Option<(String, Manner)>,
}

/// A server. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Provider {
    /// Scheme, host and port.
    pub origin: String,
    state: Arc<Mutex<State>>,
    _socket: Option<RawBackend>,
    _tasks: JoinSet<()>,
}

impl Provider {
    /// Starts one on loopback, as `localhost`.
    pub async fn on_loopback(tls: Option<Arc<ServerConfig>>) -> Self {
        let (state, is_tls) = (state(), tls.is_some());
        let (log, acceptor) = (Arc::clone(&state), tls.map(TlsAcceptor::from));
        let socket =
            RawBackend::start(move |stream| accept(stream, acceptor.clone(), Arc::clone(&log)));
        let socket = socket.await;
        let SocketAddr::V4(address) = socket.address else { panic!("no address of IPv4") };
        let origin = format!("{}localhost:{}", scheme(is_tls), address.port());
        Self { origin, state, _socket: Some(socket), _tasks: JoinSet::new() }
    }

    /// Starts one on a host of a network in memory, on the usual port.
    pub fn in_memory(on: &MemoryHost, tls: Option<Arc<ServerConfig>>) -> Self {
        let (state, is_tls) = (state(), tls.is_some());
        let listener = on.bind(if is_tls { 443 } else { 80 }).unwrap();
        let (log, acceptor) = (Arc::clone(&state), tls.map(TlsAcceptor::from));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await;
                connections.spawn(accept(stream, acceptor.clone(), Arc::clone(&log)));
            }
        });
        let origin = format!("{}{}", scheme(is_tls), on.name());
        Self { origin, state, _socket: None, _tasks: tasks }
    }

    /// Publishes octets at a path.
    pub fn publish(&self, path: &str, octets: impl Into<Bytes>) {
        self.state.lock().unwrap().published.insert(path.to_owned(), octets.into());
    }

    /// Publishes the metadata of a tenant, version 2, and these as all of its keys.
    pub fn publish_keys(&self, tenant: Guid, names: &[&str]) {
        let origin = &self.origin;
        let keys = format!("/{tenant}/discovery/v2.0/keys");
        let metadata = json!({
            "issuer": format!("{origin}/{tenant}/v2.0"),
            "authorization_endpoint": format!("{origin}/{tenant}/oauth2/v2.0/authorize"),
            "jwks_uri": format!("{origin}{keys}"),
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        self.publish(&metadata_path(tenant), metadata.to_string());
        let set: Vec<_> = names.iter().map(|name| Signer::provider().jwk(name)).collect();
        self.publish(&keys, json!({"keys": set}).to_string());
    }

    /// Has it behave so from now on, on every path.
    pub fn set(&self, manner: Manner) {
        let mut state = self.state.lock().unwrap();
        (state.manner, state.manner_at) = (manner, None);
    }

    /// Has it behave so on one path, and well on others.
    pub fn set_at(&self, path: &str, manner: Manner) {
        let mut state = self.state.lock().unwrap();
        (state.manner, state.manner_at) = (Manner::Well, Some((path.to_owned(), manner)));
    }

    /// What it was asked for since it was last asked about, in order: paths, and whether only for
    /// something newer.
    pub fn take(&self) -> Vec<(String, bool)> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// Connections that clients have with it now.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().open
    }
}

/// Where the metadata of a tenant is, version 2.
pub fn metadata_path(tenant: Guid) -> String {
    format!("/{tenant}/v2.0/.well-known/openid-configuration")
}

fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https://" } else { "http://" }
}

fn state() -> Arc<Mutex<State>> {
    let (published, asked, manner) = (BTreeMap::new(), Vec::new(), Manner::Well);
    Arc::new(Mutex::new(State { published, asked, open: 0, manner, manner_at: None }))
}

async fn accept<P>(pipe: P, acceptor: Option<TlsAcceptor>, state: Arc<Mutex<State>>)
where
    P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if matches!(state.lock().unwrap().manner, Manner::Down) {
        return;
    }
    match acceptor {
        None => serve(pipe, state).await,
        // An error is a client that refuses.
        Some(acceptor) => {
            if let Ok(pipe) = acceptor.accept(pipe).await {
                serve(pipe, state).await;
            }
        }
    }
}

async fn serve<P>(pipe: P, state: Arc<Mutex<State>>)
where
    P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let log = Arc::clone(&state);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &mut state.lock().unwrap());
        async move {
            match answer {
                Some(answer) => Ok::<_, Infallible>(answer),
                None => std::future::pending().await,
            }
        }
    });
    let server = hyper::server::conn::http1::Builder::new();
    log.lock().unwrap().open += 1;
    // An error is a connection that the other side has ended.
    let _ = server.serve_connection(TokioIo::new(pipe), service).await;
    log.lock().unwrap().open -= 1;
}

/// `None`: silence.
fn answer(request: &Request<Incoming>, state: &mut State) -> Option<Response<Body>> {
    let path = request.uri().path().to_owned();
    let had = request.headers().get(IF_NONE_MATCH);
    state.asked.push((path.clone(), had.is_some()));
    let manner = match &state.manner_at {
        Some((at, manner)) if *at == path => manner,
        _ => &state.manner,
    };
    let answer = Response::builder();
    let answer = match manner {
        Manner::Down | Manner::Silent => return None,
        Manner::Stalling => {
            let (sender, body) = fed();
            tokio::spawn(async move { sender.closed().await });
            answer.body(body)
        }
        Manner::Endless => answer.body(endless()),
        Manner::Status(status) => answer.status(*status).body(empty()),
        Manner::Redirecting(to) => answer.status(302).header(LOCATION, to).body(empty()),
        Manner::Saying(octets) => answer.body(full(octets.clone())),
        Manner::Compressed => answer.header(CONTENT_ENCODING, "gzip").body(full("gzip")),
        Manner::Well => match state.published.get(&path) {
            None => answer.status(404).body(empty()),
            Some(octets) => {
                let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
                let tag = format!("\"{:02x?}\"", &sum.as_ref()[..8]);
                if had.is_some_and(|had| *had == *tag) {
                    answer.status(304).body(empty())
                } else {
                    answer.header(ETAG, tag).body(full(octets.clone()))
                }
            }
        },
    };
    Some(answer.unwrap())
}
