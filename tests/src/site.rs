//! Site roles that do as a test says, on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::connection_point::LocalService;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::running::ANY;

/// A body of any kind.
pub type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body of known length.
pub fn full(octets: impl Into<Bytes>) -> Body {
    Full::new(octets.into()).map_err(|never| match never {}).boxed()
}

/// A body that is fed by the test, of no declared length. It ends, cut, when its sender is dropped,
/// and well when the sender sends an empty chunk.
pub fn fed() -> (tokio::sync::mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    (sender, Fed(receiver).boxed())
}

/// A body that never ends.
pub fn endless() -> Body {
    let (sender, body) = fed();
    tokio::spawn(async move { while sender.send(octets(0, 4096)).await.is_ok() {} });
    body
}

struct Fed(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|chunk| match chunk {
            Some(chunk) if chunk.is_empty() => None,
            Some(chunk) => Some(Ok(Frame::data(chunk))),
            None => Some(Err(std::io::Error::other("broken off by the test"))),
        })
    }
}

/// Octets that look random, `len` of them, different for each `seed`.
pub fn octets(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut octets = Vec::with_capacity(len + 8);
    while octets.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        octets.extend_from_slice(&state.to_le_bytes());
    }
    octets.truncate(len);
    octets.into()
}

/// An HTTP server behind the relay. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<http::request::Parts>>>,
    in_flight: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

/// One request from its arrival to the last octet of its answer, or to its cancellation.
struct InFlight(watch::Sender<usize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// An answer's body that counts as in flight until it is dropped.
struct Counted {
    body: Body,
    _in_flight: InFlight,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Backend {
    /// Starts a server that answers each request by `handler`.
    pub async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (counter, in_flight) = watch::channel(0);
        let handler = Arc::new(handler);
        let log = Arc::clone(&seen);
        let serve = move |stream: TcpStream| {
            let (handler, log, counter) = (Arc::clone(&handler), Arc::clone(&log), counter.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                counter.send_modify(|count| *count += 1);
                let guard = InFlight(counter.clone());
                let (parts, body) = request.into_parts();
                log.lock().unwrap().push(parts.clone());
                let answer = handler(Request::from_parts(parts, body));
                async move {
                    let answer = answer.await;
                    Ok::<_, Infallible>(answer.map(|body| Counted { body, _in_flight: guard }))
                }
            });
            async move {
                let server = hyper::server::conn::http1::Builder::new();
                // An error is a connection that the connection point cut.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        };
        let (address, tasks) = listen(ANY, serve).await;
        Self { address, seen, in_flight, _tasks: tasks }
    }

    /// Starts a server that answers each request with the octets of its path.
    pub async fn echo_path() -> Self {
        Self::start(|request: Request<Incoming>| async move {
            Response::new(full(request.uri().path().to_owned()))
        })
        .await
    }

    /// The heads of every request that came, in order.
    pub fn seen(&self) -> Vec<http::request::Parts> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until exactly `count` requests are in flight here.
    pub async fn until_in_flight(&self, count: usize) {
        self.in_flight.clone().wait_for(|now| *now == count).await.unwrap();
    }
}

/// An HTTP server within the connection point's process. Dropping it cuts every connection.
#[derive(Debug)]
pub struct LocalBackend {
    seen: Arc<Mutex<Vec<http::request::Parts>>>,
    _tasks: JoinSet<()>,
}

impl LocalBackend {
    /// Starts a server that answers each request by `handler`. Returns what connects to it.
    pub fn start<H, F>(handler: H) -> (LocalService, Self)
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (service, mut connections) = LocalService::new();
        let (seen, handler) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(handler));
        let mut tasks = JoinSet::new();
        let log = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut pipes = JoinSet::new();
            while let Some(pipe) = connections.next().await {
                pipes.spawn(serve_local(pipe, Arc::clone(&handler), Arc::clone(&log)));
            }
        });
        (service, Self { seen, _tasks: tasks })
    }

    /// The heads of every request that came, in order.
    pub fn seen(&self) -> Vec<http::request::Parts> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve_local<H, F>(
    pipe: DuplexStream,
    handler: Arc<H>,
    log: Arc<Mutex<Vec<http::request::Parts>>>,
) where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        log.lock().unwrap().push(parts.clone());
        let answer = handler(Request::from_parts(parts, body));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    // An error is a connection that the connection point cut.
    let _ = server.serve_connection(TokioIo::new(pipe), service).await;
}

/// A server that does with each connection as `script` says; it need not speak HTTP.
#[derive(Debug)]
pub struct RawBackend {
    /// Where it listens.
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl RawBackend {
    /// Starts it.
    pub async fn start<S, F>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(ANY, script).await
    }

    /// Starts it at an address.
    pub async fn start_at<S, F>(at: SocketAddr, script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (address, tasks) = listen(at, script).await;
        Self { address, _tasks: tasks }
    }
}

impl RawBackend {
    /// Starts one that answers what it is asked first with `text`, and closes.
    pub async fn saying(text: &'static str) -> Self {
        Self::start(move |mut stream| async move {
            // Errors mean that the connection point was content before the end.
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(text.as_bytes()).await;
        })
        .await
    }
}

async fn listen<S, F>(at: SocketAddr, serve: S) -> (SocketAddr, JoinSet<()>)
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(at).await.unwrap();
    // A site role stands on another machine: what its kernel keeps is not to be taken, by thousands
    // of connections, from the memory for TCP that the roles here have.
    SockRef::from(&listener).set_send_buffer_size(128 << 10).unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            connections.spawn(serve(stream));
        }
    });
    (address, tasks)
}

/// An address where nobody listens: it was free a moment ago.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
