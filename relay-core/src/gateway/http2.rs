//! HTTP/2 on an HTTPS port: one connection, with the requests of clients and the links that come as
//! streams of it.
//!
//! On the crate `h2` itself, for what a server on top of it does not offer: windows that open wide
//! once a link stands in a stream, and a client that takes nothing of one answer being told from
//! one that takes nothing at all.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::transport::{HTTP2_LINK_WINDOW, Http2Pipe, Rung, connects_link};

use super::access::Client;
use super::counted::Limit;
use super::http2_rates::{Exceeded, Offence, Rated};
use super::http2_stream::{Heads, Http2Body, is_malformed, serve_stream};
use super::links::over_pipe;
use super::serve::{Gateway, LinkRefused, PendingLink, Port};

/// Streams of one connection at once.
const STREAMS_MAX: u32 = 100;

/// The window of each stream, before a link stands in one. So much may wait of each request's body
/// while the site does not take it.
const STREAM_WINDOW: u32 = 64 << 10;

/// The window of a connection, before a link stands in a stream: 6.25 MiB, which it holds only
/// while all of its streams are uploads that stand still. A narrower one would have 16 of those
/// hold up every other upload.
const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;

/// Octets of a request's head, as RFC 9113, section 6.5.2 counts them.
const HEAD_OCTETS_MAX: u32 = 32 << 10;

/// Streams that a client may reset before anybody has looked at them.
const UNSEEN_RESETS_MAX: usize = 50;

/// Octets of an answer that may wait for a client that grants a window for them.
const UNSENT_MAX: usize = 64 << 10;

/// How often a connection is asked whether anybody is there, and how long the answer may take.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(15);

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Http2Failed {
    /// The client broke the protocol, or the connection.
    #[error(transparent)]
    Broken(#[from] h2::Error),
    /// The client has gone without a word.
    #[error("the client did not answer a ping within {} s", .0.as_secs())]
    NoPong(Duration),
}

/// A connection.
pub(super) struct Http2<P: AsyncRead + AsyncWrite + Unpin> {
    gateway: Gateway,
    port: Port,
    client: Client,
    connection: Connection<Rated<P>, Bytes>,
    /// Tells what the client does that it may not.
    exceeded: Exceeded,
    /// Ends when the client does not answer.
    watch: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The requests of clients.
    streams: JoinSet<()>,
    /// Tells that a peer of a link has shown who it is.
    authenticated: Arc<Notify>,
    /// Held by each link, for as long as it stands.
    standing: Arc<()>,
    /// Tells that a link stands no more.
    left: Arc<Notify>,
    /// When the client has had no stream for too long; `None` while it has one.
    idle_until: Option<Instant>,
    is_ending: bool,
    is_cut: bool,
}

/// What came on a connection.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is returned")]
enum Arrival {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    /// As many requests are served as may be, and one of them has ended.
    Room,
    Authenticated,
    Stopping,
    /// There was no stream for long enough.
    Idle,
    Exceeded(Offence),
}

impl<P: AsyncRead + AsyncWrite + Unpin + Send + 'static> Http2<P> {
    /// Begins with the octets that come first.
    pub(super) async fn begin(
        gateway: Gateway,
        pipe: P,
        client: Client,
        port: Port,
    ) -> Result<Self, Http2Failed> {
        let exceeded = Exceeded::default();
        let pipe = Rated::new(pipe, exceeded.clone());
        let mut connection = h2::server::Builder::new()
            .max_concurrent_streams(STREAMS_MAX)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // `h2` refuses a list that reaches its limit.
            .max_header_list_size(HEAD_OCTETS_MAX + 1)
            .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
            .max_send_buffer_size(UNSENT_MAX)
            .enable_connect_protocol()
            .handshake(pipe)
            .await?;
        let pings = connection.ping_pong().expect("nobody has taken it before");
        Ok(Self {
            gateway,
            port,
            client,
            connection,
            exceeded,
            watch: Box::pin(until_silent(pings)),
            streams: JoinSet::new(),
            authenticated: Arc::default(),
            standing: Arc::default(),
            left: Arc::default(),
            idle_until: None,
            is_ending: false,
            is_cut: false,
        })
    }

    /// Serves clients until the connection has ended, or a link is asked for: then this is to be
    /// served on, with it.
    pub(super) async fn serve(mut self) -> Result<Option<PendingLink>, Http2Failed> {
        let Some(first) = self.until_link().await? else { return Ok(None) };
        let from = self.client.address;
        let serve = async move {
            self.serve_with(first).await;
            Ok(())
        };
        Ok(Some(PendingLink::beside_others(from, serve)))
    }

    /// Serves links and clients until the connection has ended.
    async fn serve_with(mut self, first: Http2Pipe) {
        let mut links = JoinSet::new();
        let mut next = Some(first);
        while let Some(pipe) = next {
            let (gateway, authenticated) = (self.gateway.clone(), Arc::clone(&self.authenticated));
            let serve = {
                let gateway = gateway.clone();
                async move { gateway.serve_http2_link(pipe, &authenticated).await }
            };
            let link = PendingLink::new(self.client.address, serve);
            let (standing, left) = (Arc::clone(&self.standing), Arc::clone(&self.left));
            links.spawn(async move {
                gateway.serve_pending(link).await;
                drop(standing);
                left.notify_one();
            });
            while links.try_join_next().is_some() {}
            next = self.until_link().await.unwrap_or_else(|why| {
                let from = self.client.address;
                tracing::debug!(%from, %why, "the connection of a link failed");
                None
            });
        }
        drop(self);
        while links.join_next().await.is_some() {}
    }

    /// Serves clients until a link is asked for; `None` if the connection has ended.
    async fn until_link(&mut self) -> Result<Option<Http2Pipe>, Http2Failed> {
        while let Some(arrival) = self.next().await? {
            match arrival {
                Arrival::Request(request, mut respond) if is_malformed(&request) => {
                    respond.send_reset(Reason::PROTOCOL_ERROR);
                }
                Arrival::Request(request, mut respond) if connects_link(&request) => {
                    // It fails if the stream has been reset.
                    if let Ok(send) = respond.send_response(Response::new(()), false) {
                        return Ok(Some(Http2Pipe::new(send, request.into_body())));
                    }
                }
                Arrival::Request(request, respond) => {
                    let (gateway, port) = (self.gateway.clone(), self.port);
                    let (client, request) = (self.client.clone(), Http2Body::of(request));
                    let heads = Heads::of(respond, self.exceeded.clone());
                    self.streams.spawn(serve_stream(gateway, port, client, request, heads));
                }
                Arrival::Room => {}
                Arrival::Authenticated => self.open_wide(),
                arrival @ (Arrival::Stopping | Arrival::Idle) => {
                    if matches!(arrival, Arrival::Idle) {
                        self.gateway.note(Limit::Idle);
                    }
                    // RFC 9113, section 6.8: what is on its way while this is said is still served.
                    self.is_ending = true;
                    self.connection.graceful_shutdown();
                }
                Arrival::Exceeded(why) => {
                    tracing::info!(from = %self.client.address, %why, "client connection ended");
                    self.gateway.note(Limit::Http2(why));
                    (self.is_ending, self.is_cut) = (true, true);
                    self.connection.abrupt_shutdown(why.code());
                }
            }
        }
        Ok(None)
    }

    /// Has a link's own flow control be the only one that acts. Nobody else on the connection gets
    /// more than the connection's window for it.
    fn open_wide(&mut self) {
        self.exceeded.share();
        self.connection.set_target_window_size(HTTP2_LINK_WINDOW);
        if let Err(why) = self.connection.set_initial_window_size(HTTP2_LINK_WINDOW) {
            tracing::debug!(from = %self.client.address, %why, "a link stays in a narrow window");
        }
    }

    /// Until when the connection may wait for a stream.
    fn idle_until(&self) -> Option<Instant> {
        let is_idle = self.streams.is_empty() && Arc::strong_count(&self.standing) == 1;
        let since = || Instant::now() + self.gateway.idle();
        (is_idle && !self.is_ending).then(|| self.idle_until.unwrap_or_else(since))
    }

    async fn next(&mut self) -> Result<Option<Arrival>, Http2Failed> {
        // Requests that were reset are not counted by HTTP/2, but are here until they have ended.
        self.idle_until = self.idle_until();
        let idle = sleep_until(self.idle_until.unwrap_or_else(Instant::now));
        let is_full = self.streams.len() >= STREAMS_MAX as usize;
        let connection = &mut self.connection;
        let accepted = poll_fn(|cx| {
            if is_full {
                // Moves what is open on. What comes waits within.
                return connection.poll_closed(cx).map(|ended| ended.err().map(Err));
            }
            connection.poll_accept(cx)
        });
        let (authenticated, left) = (Arc::clone(&self.authenticated), Arc::clone(&self.left));
        tokio::select! {
            // First what is rare, or a connection that is always busy would never hear of it.
            biased;
            () = self.gateway.stopped(), if !self.is_ending => Ok(Some(Arrival::Stopping)),
            why = self.exceeded.wait(), if !self.is_cut => Ok(Some(Arrival::Exceeded(why))),
            () = authenticated.notified() => Ok(Some(Arrival::Authenticated)),
            () = left.notified() => Ok(Some(Arrival::Room)),
            Some(_) = self.streams.join_next() => Ok(Some(Arrival::Room)),
            accepted = accepted => match accepted {
                Some(Ok((request, respond))) => Ok(Some(Arrival::Request(request, respond))),
                Some(Err(why)) => Err(why.into()),
                None => Ok(None),
            },
            () = idle, if self.idle_until.is_some() => Ok(Some(Arrival::Idle)),
            () = self.watch.as_mut() => {
                self.gateway.note(Limit::Pong);
                Err(Http2Failed::NoPong(PONG_WITHIN))
            }
        }
    }
}

impl Gateway {
    /// Serves a link in one stream, and tells when its peer has shown who it is.
    async fn serve_http2_link(
        &self,
        pipe: Http2Pipe,
        authenticated: &Notify,
    ) -> Result<(), LinkRefused> {
        let begin = |stream, config| {
            authenticated.notify_one();
            over_pipe(stream, config)
        };
        self.serve_link_begun(Rung::HttpsHttp2, pipe, begin).await
    }
}

/// Ends when the peer does not answer a ping in time.
async fn until_silent(mut pings: PingPong) {
    loop {
        sleep(PING_EVERY).await;
        match timeout(PONG_WITHIN, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection says why.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
