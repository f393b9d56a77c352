//! A stand-in for the relay in this crate's tests: the site over TLS under the two virtual roots.
//!
//! It has just enough of the relay's manners for the session to pass, so that a session's failing
//! steps can be told from the relay's. It is no model of it: one process, no link, no limits.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use relay_core::transport::client_edge_config;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::pki::SiteCa;
use super::session::{MESSAGE_ID, REASON};

/// How the stand-in misbehaves, so that the session can be seen to notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    None,
    /// Verbs and paths are not judged.
    LetsAllPass,
    /// One header of the client is changed.
    ChangesAHeader,
    /// `BITS-Host-Id` goes through to the client.
    KeepsHostId,
    /// Every answer has the same message id.
    RepeatsMessageId,
}

/// Running instances; dropping it ends them.
pub(super) struct Front {
    pub(super) instances: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

struct Relay {
    mp: (u64, SocketAddr),
    sup: (u64, SocketAddr),
    fault: Fault,
    backends: Client<HttpConnector, Incoming>,
    answered: AtomicU64,
}

type Body = BoxBody<Bytes, hyper::Error>;

impl Front {
    pub(super) async fn start(
        ca: &SiteCa,
        count: usize,
        mp: (u64, SocketAddr),
        sup: (u64, SocketAddr),
        fault: Fault,
    ) -> Self {
        let identity = ca.issue_server(&["localhost"]).unwrap();
        let acceptor = TlsAcceptor::from(client_edge_config(&identity).unwrap());
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let backends = Client::builder(TokioExecutor::new()).build(connector);
        let relay = Arc::new(Relay { mp, sup, fault, backends, answered: AtomicU64::new(0) });
        let mut tasks = JoinSet::new();
        let mut instances = Vec::new();
        for _ in 0..count {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            instances.push(listener.local_addr().unwrap());
            tasks.spawn(accept(listener, acceptor.clone(), Arc::clone(&relay)));
        }
        Self { instances, _tasks: tasks }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, relay: Arc<Relay>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, acceptor.clone(), Arc::clone(&relay)));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, relay: Arc<Relay>) {
    stream.set_nodelay(true).unwrap();
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let relay = Arc::clone(&relay);
        async move { Ok::<_, Infallible>(relay.answer(request).await) }
    });
    let io = TokioIo::new(stream);
    let _ = if http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    };
}

impl Relay {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let mut answer = match self.route(&request) {
            Ok(backend) => self.forward(request, backend).await,
            Err((status, reason)) => refusal(status, reason),
        };
        let n = match self.fault {
            Fault::RepeatsMessageId => 1,
            _ => self.answered.fetch_add(1, Ordering::SeqCst),
        };
        let id = format!("00000000-0000-4000-8000-{n:012x}");
        answer.headers_mut().insert(MESSAGE_ID, id.parse().unwrap());
        answer
    }

    fn route(&self, request: &Request<Incoming>) -> Result<Uri, (StatusCode, &'static str)> {
        let unpublished = (StatusCode::NOT_FOUND, "CMGService_Not_Published");
        let target = request.uri().path_and_query().ok_or(unpublished)?.as_str();
        let below = target
            .strip_prefix("/CCM_Proxy_MutualAuth/")
            .or_else(|| target.strip_prefix("/CCM_Proxy_ServerAuth/"))
            .ok_or(unpublished)?;
        let (role, path) = below.split_once('/').ok_or(unpublished)?;
        let (published, verbs, backend): (&[&str], &[&str], _) = match role.parse::<u64>() {
            Ok(role) if role == self.mp.0 => (
                &["SMS_MP/", "ccm_system/", "ccm_incoming/", "CCM_Client/", "BGB"],
                &["GET", "HEAD", "PROPFIND", "CCM_POST", "BITS_POST"],
                self.mp.1,
            ),
            Ok(role) if role == self.sup.0 => (&["ClientWebService/"], &["POST"], self.sup.1),
            _ => return Err(unpublished),
        };
        let backend = format!("http://{backend}/{path}").parse().map_err(|_| unpublished)?;
        if self.fault == Fault::LetsAllPass {
            return Ok(backend);
        }
        let plain_path = path.split('?').next().unwrap_or_default();
        if plain_path.contains("..") || plain_path.contains('%') {
            return Err((StatusCode::BAD_REQUEST, "CMGService_Unsafe_Path"));
        }
        if !published.iter().any(|prefix| path.starts_with(prefix)) {
            return Err(unpublished);
        }
        if !verbs.contains(&request.method().as_str()) {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "CMGService_Method_Not_Allowed"));
        }
        Ok(backend)
    }

    async fn forward(&self, mut request: Request<Incoming>, backend: Uri) -> Response<Body> {
        *request.uri_mut() = backend;
        *request.version_mut() = http::Version::HTTP_11;
        strip(request.headers_mut());
        request.headers_mut().remove(HOST);
        if self.fault == Fault::ChangesAHeader {
            request.headers_mut().insert("ccmclientid", HeaderValue::from_static("GUID:other"));
        }
        let Ok(mut answer) = self.backends.request(request).await else {
            return refusal(StatusCode::BAD_GATEWAY, "CMGConnector_Bad_Gateway");
        };
        strip(answer.headers_mut());
        if self.fault != Fault::KeepsHostId {
            answer.headers_mut().remove("bits-host-id");
        }
        answer.map(BodyExt::boxed)
    }
}

fn refusal(status: StatusCode, reason: &'static str) -> Response<Body> {
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(REASON, HeaderValue::from_static(reason));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    answer.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
    answer
}

fn strip(headers: &mut HeaderMap) {
    let connection = headers.get(CONNECTION).and_then(|value| value.to_str().ok());
    let named: Vec<HeaderName> = connection
        .unwrap_or_default()
        .split(',')
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    let hops = ["connection", "keep-alive", "te", "transfer-encoding", "proxy-authorization"];
    for name in hops {
        headers.remove(name);
    }
}
