//! A small site role of the tests' own: HTTP/1.1 over TCP, one closure for every request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Collected};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Verb and path with query.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    /// A header as text; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What is sent of an answer: all of it, or some octets and then the end of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    octets: Option<Bytes>,
    end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Whole,
    /// By the end of the connection, once what was said is on its way.
    Cut,
    CutNow,
    Never,
}

impl Said {
    pub(crate) fn whole(octets: impl Into<Bytes>) -> Self {
        Self { octets: Some(octets.into()), end: End::Whole }
    }

    /// A head, and a body of which nothing ever comes.
    pub(crate) fn endless() -> Self {
        Self { octets: None, end: End::Never }
    }

    pub(crate) fn cut(octets: impl Into<Bytes>) -> Self {
        Self { octets: Some(octets.into()), end: End::Cut }
    }
}

impl Body for Said {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        Poll::Ready(match this.octets.take().filter(|octets| !octets.is_empty()) {
            Some(octets) => Some(Ok(Frame::data(octets))),
            None if this.end == End::Cut => {
                // A turn for the server to write what it has.
                this.end = End::CutNow;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            None if this.end == End::CutNow => {
                Some(Err(io::Error::other("cut, as the test wants")))
            }
            None if this.end == End::Never => return Poll::Pending,
            None => None,
        })
    }
}

/// A running site role; ends when dropped.
pub(crate) struct Origin {
    pub(crate) at: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
    _stop: oneshot::Sender<()>,
}

impl Origin {
    /// Starts one that answers by `answer`.
    pub(crate) fn start(
        answer: impl Fn(&Asked) -> Response<Said> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Asked>>>::default();
        let (stop, stopped) = oneshot::channel();
        let all = Arc::clone(&seen);
        // Ends with the test: its runtime is dropped then, and all connections with it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, answer, all) => (),
                    _ = stopped => (),
                }
            });
        });
        Self { at, seen, _stop: stop }
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    listener: TcpListener,
    answer: impl Fn(&Asked) -> Response<Said> + Clone + Send + Sync + 'static,
    seen: Arc<Mutex<Vec<Asked>>>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (answer, seen) = (answer.clone(), Arc::clone(&seen));
        let service = service_fn(move |request: Request<Incoming>| {
            let (answer, seen) = (answer.clone(), Arc::clone(&seen));
            async move {
                let (head, body) = request.into_parts();
                // Of a body that is broken off the test sees what came of it: nothing.
                let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
                let line = format!("{} {}", head.method, head.uri);
                let asked = Asked { line, headers: head.headers, body };
                let said = answer(&asked);
                seen.lock().unwrap().push(asked);
                Ok::<_, Infallible>(said)
            }
        });
        let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async { _ = serving.await });
    }
}
