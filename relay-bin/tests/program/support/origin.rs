//! A small site role of the tests' own: HTTP/1.1 over TCP, one closure for every request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Collected};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
#[cfg(feature = "cloud")]
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "cloud"), allow(dead_code, reason = "tests of stores read it all"))]
pub(crate) struct Asked {
    /// Verb and path with query.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Which of the origin's connections it came over.
    pub(crate) connection: usize,
    /// Whether whoever asks has shown a certificate.
    pub(crate) has_certificate: bool,
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
    /// When the next octet may come, of those that come slowly.
    due: Option<Instant>,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Whole,
    /// By the end of the connection, once what was said is on its way.
    Cut,
    CutNow,
    Never,
    /// Once so many octets have come, one each second.
    Drip(u32),
}

impl Said {
    pub(crate) fn whole(octets: impl Into<Bytes>) -> Self {
        Self { octets: Some(octets.into()), end: End::Whole, due: None }
    }

    /// A head, and a body of which nothing ever comes.
    pub(crate) fn endless() -> Self {
        Self { octets: None, end: End::Never, due: None }
    }

    /// So many octets, one each second.
    #[cfg_attr(not(feature = "cloud"), allow(dead_code, reason = "tests of stores use it"))]
    pub(crate) fn drip(octets: u32) -> Self {
        Self { octets: None, end: End::Drip(octets), due: None }
    }

    pub(crate) fn cut(octets: impl Into<Bytes>) -> Self {
        Self { octets: Some(octets.into()), end: End::Cut, due: None }
    }
}

impl Said {
    fn poll_drip(
        &mut self,
        left: u32,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if left == 0 {
            return Poll::Ready(None);
        }
        let due = *self.due.get_or_insert_with(|| Instant::now() + Duration::from_secs(1));
        if Instant::now() < due {
            let waker = context.waker().clone();
            tokio::spawn(async move {
                sleep_until(due).await;
                waker.wake();
            });
            return Poll::Pending;
        }
        (self.end, self.due) = (End::Drip(left - 1), None);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
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
        if let End::Drip(left) = this.end {
            return this.poll_drip(left, context);
        }
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
        Self::start_over(None, answer)
    }

    /// As [`Origin::start`], over TLS.
    #[cfg(feature = "cloud")]
    pub(crate) fn start_tls(
        tls: Arc<ServerConfig>,
        answer: impl Fn(&Asked) -> Response<Said> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start_over(Some(tls.into()), answer)
    }

    fn start_over(
        tls: Option<TlsAcceptor>,
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
                    () = serve(listener, tls, answer, all) => (),
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
    tls: Option<TlsAcceptor>,
    answer: impl Fn(&Asked) -> Response<Said> + Clone + Send + Sync + 'static,
    seen: Arc<Mutex<Vec<Asked>>>,
) {
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, answer, seen) = (tls.clone(), answer.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let Some(tls) = tls else {
                return serve_one(stream, (connection, false), answer, seen).await;
            };
            // Whoever does not trust it has asked for nothing.
            let Ok(stream) = tls.accept(stream).await else { return };
            let has_certificate = stream.get_ref().1.peer_certificates().is_some();
            serve_one(stream, (connection, has_certificate), answer, seen).await;
        });
    }
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    (connection, has_certificate): (usize, bool),
    answer: impl Fn(&Asked) -> Response<Said> + Clone,
    seen: Arc<Mutex<Vec<Asked>>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (answer, seen) = (answer.clone(), Arc::clone(&seen));
        async move {
            let (head, body) = request.into_parts();
            // Of a body that is broken off the test sees what came of it: nothing.
            let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
            let line = format!("{} {}", head.method, head.uri);
            let asked = Asked { line, headers: head.headers, body, connection, has_certificate };
            let said = answer(&asked);
            seen.lock().unwrap().push(asked);
            Ok::<_, Infallible>(said)
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
