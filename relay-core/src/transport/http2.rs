//! A link inside one stream of an HTTP/2 connection, by extended CONNECT (RFC 8441): for a way on
//! which somebody ends TLS and speaks nothing but HTTP/2.
//!
//! As in an upgrade, the link's own mutual TLS is spoken inside. Windows are so wide that only the
//! link's own flow control acts.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::client::{Connection, SendRequest};
use h2::ext::Protocol;
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::{Method, Request, StatusCode};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client;

use super::tcp::{ConnectError, secure, secure_link};
use super::tls::LINK_PROTOCOL;
use super::upgrade::UPGRADE_PATH;

/// The window of a stream that carries a link, and of its connection. At a round trip of 50 ms it
/// lets 640 MiB/s through, above what a link grants its peer.
pub const HTTP2_LINK_WINDOW: u32 = 32 << 20;

/// Octets that a link may hand to HTTP/2 before they are on their way. More would only delay small
/// exchanges behind bulk.
const UNSENT_MAX: usize = 128 << 10;

/// The ALPN name of HTTP/2 over TLS: RFC 9113, section 3.2.
const HTTP2_ALPN: &[u8] = b"h2";

/// Whether a request asks for a link: extended CONNECT of [`UPGRADE_PATH`], with the link's
/// protocol.
pub fn connects_link<B>(request: &Request<B>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    request.method() == Method::CONNECT
        && request.uri().path() == UPGRADE_PATH
        && protocol.is_some_and(|it| it.as_str() == LINK_PROTOCOL)
}

/// One stream of an HTTP/2 connection as a byte pipe. Somebody else drives the connection.
#[derive(Debug)]
pub struct Http2Pipe {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// Received octets that nobody has read yet.
    unread: Bytes,
}

impl Http2Pipe {
    /// The octets of both directions of a stream.
    pub fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self { send, recv, unread: Bytes::new() }
    }
}

impl AsyncRead for Http2Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // An empty DATA frame is not the end.
        while this.unread.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                Some(octets) => this.unread = octets.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..count]);
        this.unread.advance(count);
        // Fails only for more than was received.
        let _ = this.recv.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if octets.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let this = self.get_mut();
        this.send.reserve_capacity(octets.len());
        let granted = match this.send.capacity() {
            0 => match ready!(this.send.poll_capacity(cx)) {
                Some(granted) => granted.map_err(broken)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            },
            granted => granted,
        };
        let count = granted.min(octets.len());
        let taken = Bytes::copy_from_slice(&octets[..count]);
        this.send.send_data(taken, false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    /// What was written is with the connection, which sends it without being asked.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It fails if the stream has ended: that is what was wanted.
        let _ = self.get_mut().send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}

/// What went wrong with a stream, as a pipe says it.
fn broken(error: h2::Error) -> io::Error {
    match error.reason() {
        // RFC 9113, section 7: the ways in which a peer says that it is done with the stream.
        Some(Reason::NO_ERROR | Reason::CANCEL) => io::ErrorKind::ConnectionReset.into(),
        _ if error.is_io() => error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        _ => io::Error::other(error),
    }
}

/// A pipe that drives the connection under it: it has no other streams.
#[derive(Debug)]
pub struct Http2Link<P: AsyncRead + AsyncWrite + Unpin> {
    pipe: Http2Pipe,
    /// `None` once it has ended.
    connection: Option<Connection<client::TlsStream<P>, Bytes>>,
}

impl<P: AsyncRead + AsyncWrite + Unpin> Http2Link<P> {
    /// Moves the connection on. How it ended shows in the stream.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if pin!(connection).poll(cx).is_ready() {
            self.connection = None;
        }
    }
}

impl<P: AsyncRead + AsyncWrite + Unpin> AsyncRead for Http2Link<P> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.drive(cx);
        let outcome = Pin::new(&mut this.pipe).poll_read(cx, buffer);
        if outcome.is_ready() {
            // What was read makes room, of which the peer is to hear.
            this.drive(cx);
        }
        outcome
    }
}

impl<P: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Http2Link<P> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.pipe.send.capacity() == 0 {
            this.drive(cx);
        }
        Pin::new(&mut this.pipe).poll_write(cx, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().drive(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.pipe).poll_shutdown(cx);
        this.drive(cx);
        outcome
    }
}

/// Makes a link of a connected pipe to an HTTPS port: TLS as `https` says towards the first name,
/// HTTP/2 with one stream by extended CONNECT, and mutual TLS as `link` says towards the second
/// name inside. What `https` says of ALPN names does not count.
///
/// # Errors
///
/// [`ConnectError`].
///
/// # Cancel safety
///
/// Dropping the future drops the pipe.
pub async fn connect_link_http2<P>(
    pipe: P,
    (https_name, link_name): (&str, &str),
    https: &ClientConfig,
    link: Arc<ClientConfig>,
) -> Result<client::TlsStream<Http2Link<P>>, ConnectError>
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let mut https = https.clone();
    https.alpn_protocols = vec![HTTP2_ALPN.to_vec()];
    let stream = secure(pipe, https_name, Arc::new(https)).await?;
    if stream.get_ref().1.alpn_protocol() != Some(HTTP2_ALPN) {
        return Err(ConnectError::Http2("the far end did not choose HTTP/2".into()));
    }
    let connected = extended_connect(stream, https_name).await?;
    secure_link(connected, link_name, link).await
}

/// Asks for a link over HTTP/2 and returns the stream once it was granted.
async fn extended_connect<P: AsyncRead + AsyncWrite + Unpin>(
    pipe: client::TlsStream<P>,
    authority: &str,
) -> Result<Http2Link<P>, ConnectError> {
    let (sender, mut connection) = h2::client::Builder::new()
        .initial_window_size(HTTP2_LINK_WINDOW)
        .initial_connection_window_size(HTTP2_LINK_WINDOW)
        .max_send_buffer_size(UNSENT_MAX)
        .max_concurrent_streams(0)
        .enable_push(false)
        .handshake(pipe)
        .await
        .map_err(|why| failed(&why))?;
    let pings = connection.ping_pong().expect("nobody has taken it before");
    let pipe = beside(&mut connection, ask(sender, pings, authority)).await??;
    Ok(Http2Link { pipe, connection: Some(connection) })
}

/// Runs `step` while the connection is driven.
async fn beside<P: AsyncRead + AsyncWrite + Unpin, T>(
    connection: &mut Connection<P, Bytes>,
    step: impl Future<Output = T>,
) -> Result<T, ConnectError> {
    let mut step = pin!(step);
    poll_fn(|cx| {
        let ended = Pin::new(&mut *connection).poll(cx);
        if let Poll::Ready(done) = step.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        let why = match ready!(ended) {
            Ok(()) => "the far end closed the connection".into(),
            Err(error) => error.to_string().into(),
        };
        Poll::Ready(Err(ConnectError::Http2(why)))
    })
    .await
}

/// The steps of asking for a link.
async fn ask(
    sender: SendRequest<Bytes>,
    mut pings: PingPong,
    authority: &str,
) -> Result<Http2Pipe, ConnectError> {
    // RFC 9113, section 3.4: settings come first, so they are there when the ping is answered.
    pings.ping(Ping::opaque()).await.map_err(|why| failed(&why))?;
    let mut sender = sender.ready().await.map_err(|why| failed(&why))?;
    if !sender.is_extended_connect_protocol_enabled() {
        return Err(ConnectError::NoExtendedConnect);
    }
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://{authority}{UPGRADE_PATH}"))
        .body(())
        .map_err(|_| ConnectError::BadName(authority.to_owned()))?;
    request.extensions_mut().insert(Protocol::from_static(LINK_PROTOCOL));
    let (answer, send) = sender.send_request(request, false).map_err(|why| failed(&why))?;
    let answer = answer.await.map_err(|why| failed(&why))?;
    if answer.status() != StatusCode::OK {
        return Err(ConnectError::NotConnected { status: answer.status().as_u16() });
    }
    Ok(Http2Pipe::new(send, answer.into_body()))
}

fn failed(error: &h2::Error) -> ConnectError {
    ConnectError::Http2(error.to_string().into())
}
