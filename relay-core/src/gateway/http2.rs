//! HTTP/2 on an HTTPS port: one connection, with the requests of clients and the links that come as
//! streams of it.
//!
//! On the crate `h2` itself, for what a server on top of it does not offer: windows that open wide
//! once a link stands in a stream, and a client that takes nothing of one answer being told from
//! one that takes nothing at all.

use std::future::poll_fn;
use std::net::SocketAddr;
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
use super::http2_places::Places;
use super::http2_rates::{Exceeded, Offence, Rated};
use super::http2_stream::{
    HEAD_OCTETS_MAX, Heads, Http2Body, is_malformed, note_reset, serve_stream,
};
use super::links::over_pipe;
use super::newcomer::Newcomer;
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

/// Octets of a request's head, as RFC 9113, section 6.5.2 counts them, beyond which `h2` answers it
/// 431 by itself and without a word. Twice of what is taken, so that whoever errs hears why. A head
/// may come in no more frames than before: `h2` takes five CONTINUATION below 96 KiB.
const HEAD_OCTETS_READ: u32 = 2 * HEAD_OCTETS_MAX;

/// Streams that a client may reset before anybody has looked at them.
const UNSEEN_RESETS_MAX: usize = 50;

/// Streams that a client may have `h2` reset by itself, in a connection's life: `h2` lets it be
/// 1,024, which is as many requests begun at the site for nothing. Above what [`Exceeded`] allows a
/// client, so that it acts on a balancer's connection alone, which brings the faults of many.
// CVE-2025-8671, "MadeYouReset".
const RESETS_CAUSED_MAX: usize = 150;

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
    /// Their places, also of those that were given up and that a connection point is at work on.
    places: Places,
    /// Tells that a peer of a link has shown who it is.
    authenticated: Arc<Notify>,
    /// Held by each link, for as long as it stands.
    standing: Arc<()>,
    /// Tells that a link stands no more.
    left: Arc<Notify>,
    /// When the client has had no stream for too long; `None` while it has one, or a place.
    idle_until: Option<Instant>,
    is_ending: bool,
    is_cut: bool,
}

/// What came on a connection.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is returned")]
enum Arrival {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    /// As many requests are served as may be, and one of them has ended, or a link has.
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
        let pipe = Rated::new(pipe, gateway.clone(), exceeded.clone());
        let mut connection = h2::server::Builder::new()
            .max_concurrent_streams(STREAMS_MAX)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_OCTETS_READ)
            .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
            .max_local_error_reset_streams(Some(RESETS_CAUSED_MAX))
            .max_send_buffer_size(UNSENT_MAX)
            .enable_connect_protocol()
            .handshake(pipe)
            .await
            .inspect_err(|why| note_broken(&gateway, why))?;
        let pings = connection.ping_pong().expect("nobody has taken it before");
        Ok(Self {
            gateway,
            port,
            client,
            connection,
            exceeded,
            watch: Box::pin(until_silent(pings)),
            streams: JoinSet::new(),
            places: Places::new(STREAMS_MAX as usize),
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
    pub(super) async fn serve(mut self) -> Result<Option<(Self, Http2Pipe)>, Http2Failed> {
        Ok(self.until_link().await?.map(|first| (self, first)))
    }

    /// Serves links and clients until the connection has ended.
    pub(super) async fn serve_with(mut self, first: Http2Pipe) {
        let mut links = JoinSet::new();
        let mut next = Some(first);
        while let Some(pipe) = next {
            let (gateway, authenticated) = (self.gateway.clone(), Arc::clone(&self.authenticated));
            let from = self.client.address;
            let serve = {
                let gateway = gateway.clone();
                async move { gateway.serve_http2_link(pipe, from, &authenticated).await }
            };
            let link = PendingLink::new(from, serve);
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
                    note_reset(&self.client, &request);
                    respond.send_reset(Reason::PROTOCOL_ERROR);
                }
                Arrival::Request(request, respond) if connects_link(&request) => {
                    let mut heads = Heads::of(respond, self.exceeded.clone());
                    if let Ok(send) = heads.answer(Response::new(()), false) {
                        return Ok(Some(Http2Pipe::new(send, request.into_body())));
                    }
                }
                Arrival::Request(request, respond) => {
                    self.part_if_short();
                    let (gateway, port) = (self.gateway.clone(), self.port);
                    let (client, mut request) = (self.client.clone(), Http2Body::of(request));
                    let heads = Heads::of(respond, self.exceeded.clone());
                    let place = self.places.take();
                    request.extensions_mut().insert(place.clone());
                    self.streams.spawn(async move {
                        serve_stream(gateway, port, client, request, heads).await;
                        drop(place);
                    });
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

    /// Has this request be the last one if there is no memory to spare: a client that comes again
    /// and again on a connection that it keeps would keep its memory. Not if it carries a link.
    fn part_if_short(&mut self) {
        if self.gateway.is_short() && !self.is_ending && Arc::strong_count(&self.standing) == 1 {
            self.is_ending = true;
            self.connection.graceful_shutdown();
        }
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
        // Requests may wait within for the places of others that were given up.
        let is_free = self.streams.is_empty() && !self.places.is_any_taken();
        let is_idle = is_free && Arc::strong_count(&self.standing) == 1;
        let since = || Instant::now() + self.gateway.idle();
        (is_idle && !self.is_ending).then(|| self.idle_until.unwrap_or_else(since))
    }

    async fn next(&mut self) -> Result<Option<Arrival>, Http2Failed> {
        self.idle_until = self.idle_until();
        let idle = sleep_until(self.idle_until.unwrap_or_else(Instant::now));
        // Requests that were given up are not counted by HTTP/2, but are here until they are over.
        let is_full = self.places.are_taken();
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
            () = self.places.freed() => Ok(Some(Arrival::Room)),
            accepted = accepted => match accepted {
                Some(Ok((request, respond))) => Ok(Some(Arrival::Request(request, respond))),
                Some(Err(why)) => {
                    note_broken(&self.gateway, &why);
                    Err(why.into())
                }
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
        from: SocketAddr,
        authenticated: &Notify,
    ) -> Result<(), LinkRefused> {
        let begin = |stream, config| {
            authenticated.notify_one();
            over_pipe(stream, config)
        };
        let newcomer = self.inner.addresses.share(from.ip()).map(Newcomer::from);
        self.serve_link_begun(Rung::HttpsHttp2, pipe, newcomer, begin).await
    }
}

/// Counts a connection that `h2` has ended, for what its client did.
fn note_broken(gateway: &Gateway, why: &h2::Error) {
    if why.is_go_away() && why.is_library() {
        gateway.note(Limit::Http2Broken);
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
