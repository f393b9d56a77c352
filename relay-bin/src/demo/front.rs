//! A stand-in for the relay in this crate's tests: the site over TLS under the two virtual roots.
//!
//! It judges by the relay's own policy and has just enough of its manners for the session to pass,
//! so that a session's failing steps can be told from the relay's. It is no model of it: one
//! process, no link, no limits.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use relay_core::policy::{EndpointMap, Refusal, strip_answer_headers, strip_request_headers};
use relay_core::transport::client_edge_config;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::relay::{MP_ROLE, SUP_ROLE, endpoints};
use super::session::{MESSAGE_ID, REASON};
use super::site::Site;
use crate::pki::SiteCa;

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
    mp: SocketAddr,
    sup: SocketAddr,
    published: EndpointMap,
    fault: Fault,
    backends: Client<HttpConnector, Incoming>,
    answered: AtomicU64,
}

type Body = BoxBody<Bytes, hyper::Error>;

impl Front {
    pub(super) async fn start(ca: &SiteCa, count: usize, site: &Site, fault: Fault) -> Self {
        let identity = ca.issue_server(vec!["localhost".to_owned()]).unwrap().identity();
        let acceptor = TlsAcceptor::from(client_edge_config(&identity).unwrap());
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let backends = Client::builder(TokioExecutor::new()).build(connector);
        let relay = Arc::new(Relay {
            mp: site.mp,
            sup: site.sup,
            published: EndpointMap::new(endpoints().to_vec()).unwrap(),
            fault,
            backends,
            answered: AtomicU64::new(0),
        });
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
            Err(refusal) => refused("CMGService", &refusal),
        };
        let n = match self.fault {
            Fault::RepeatsMessageId => 1,
            _ => self.answered.fetch_add(1, Ordering::SeqCst),
        };
        let id = format!("00000000-0000-4000-8000-{n:012x}");
        answer.headers_mut().insert(MESSAGE_ID, id.parse().unwrap());
        answer
    }

    fn route(&self, request: &Request<Incoming>) -> Result<Uri, Refusal> {
        let target = request.uri().path_and_query().ok_or(Refusal::NotPublished)?;
        if self.fault == Fault::LetsAllPass {
            let mut segments = target.as_str().splitn(4, '/').skip(2);
            let to_sup = segments.next() == Some(&SUP_ROLE.to_string());
            let (backend, below) = (if to_sup { self.sup } else { self.mp }, segments.next());
            return Ok(format!("http://{backend}/{}", below.unwrap_or_default()).parse().unwrap());
        }
        let route = self.published.route(request.method(), target)?;
        let backend = if route.endpoint.role_id == MP_ROLE { self.mp } else { self.sup };
        Ok(format!("http://{backend}{}", route.site_target).parse().unwrap())
    }

    async fn forward(&self, mut request: Request<Incoming>, backend: Uri) -> Response<Body> {
        *request.uri_mut() = backend;
        *request.version_mut() = http::Version::HTTP_11;
        if let Err(refusal) = strip_request_headers(request.headers_mut()) {
            return refused("CMGService", &refusal);
        }
        request.headers_mut().remove(HOST);
        if self.fault == Fault::ChangesAHeader {
            request.headers_mut().insert("ccmclientid", HeaderValue::from_static("GUID:other"));
        }
        let Ok(mut answer) = self.backends.request(request).await else {
            return broken_off(StatusCode::BAD_GATEWAY, "CMGConnector_Bad_Gateway");
        };
        let host_id = answer.headers().get("bits-host-id").cloned();
        strip_answer_headers(answer.headers_mut());
        if let (Fault::KeepsHostId, Some(id)) = (self.fault, host_id) {
            answer.headers_mut().insert("bits-host-id", id);
        }
        answer.map(BodyExt::boxed)
    }
}

fn refused(hop: &str, refusal: &Refusal) -> Response<Body> {
    let mut answer = broken_off(refusal.status(), &format!("{hop}_{}", refusal.reason()));
    refusal.add_answer_headers(answer.headers_mut());
    answer
}

fn broken_off(status: StatusCode, reason: &str) -> Response<Body> {
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(REASON, reason.parse().unwrap());
    answer.extensions_mut().insert(ReasonPhrase::try_from(reason.to_owned()).unwrap());
    answer
}
