//! One request over HTTP/2, from its head to the last octet of its answer.

use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout};

use crate::http1::Fault;

use super::access::{Access, Client};
use super::answer::AnswerBody;
use super::counted::Limit;
use super::failure::Failure;
use super::http2_rates::{Exceeded, HeadKind};
use super::interim::Interims;
use super::patient::Ledger;
use super::relay::{new_message_id, refuse_request};
use super::serve::{FIELDS_MAX, Gateway, Port, not_a_link};

/// Octets of a request's head, as RFC 9113, section 6.5.2 counts them.
pub(super) const HEAD_OCTETS_MAX: u32 = 32 << 10;

/// Fields that concern one connection of HTTP/1.1: RFC 9113, section 8.2.2.
const CONNECTION_FIELDS: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a client is told that takes next to nothing of an answer.
const TOO_SLOW: Reason = Reason::CANCEL;

/// Whether a request is malformed in a way that `h2` has no rule for: it is reset, as others are.
/// White space around values is not: clients write it, and HTTP/1.1 does not show it.
// RFC 9113, sections 8.1.1 and 8.3.1.
pub(super) fn is_malformed<B>(request: &Request<B>) -> bool {
    request.uri().authority().is_some_and(|it| it.as_str().contains('@'))
}

/// Writes the line of a request that is reset, as it is malformed, into the access log.
pub(super) fn note_reset<B>(client: &Client, request: &Request<B>) {
    let mut access = Access::of_client(client.clone(), request, new_message_id());
    access.note_reset("the request's authority has a user");
}

/// What is wrong with the size of a request's head, as that of one over HTTP/1.1 is.
fn oversize<B>(request: &Request<B>) -> Option<Fault> {
    let fields = request.headers();
    if list_octets(request) > HEAD_OCTETS_MAX as usize {
        return Some(Fault::HeadTooLong(HEAD_OCTETS_MAX as usize));
    }
    (fields.len() > FIELDS_MAX).then_some(Fault::TooManyFields(FIELDS_MAX))
}

/// Octets of a list of fields: of each its name, its value and 32.
// RFC 9113, section 6.5.2.
fn list_octets<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    // Of a request without an authority `h2` forgets the scheme, which it must have.
    let scheme = uri.scheme_str().unwrap_or("https");
    let protocol = request.extensions().get::<Protocol>();
    let pseudo = [
        (":method", Some(request.method().as_str())),
        (":scheme", Some(scheme)),
        (":authority", uri.authority().map(Authority::as_str)),
        (":path", uri.path_and_query().map(PathAndQuery::as_str)),
        (":protocol", protocol.map(Protocol::as_str)),
    ];
    let pseudo = pseudo.iter().filter_map(|(name, value)| Some(name.len() + (*value)?.len() + 32));
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + 32);
    pseudo.sum::<usize>() + fields.sum::<usize>()
}

/// Whether a client waits to be told that it may send its body: RFC 9110, section 10.1.1.
fn expects_continue(fields: &HeaderMap) -> bool {
    fields.get(EXPECT).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// What it is told.
fn go_on() -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::CONTINUE;
    answer
}

/// What is sent on a stream before the body of the answer.
pub(super) struct Heads {
    respond: SendResponse<Bytes>,
    exceeded: Exceeded,
}

impl Heads {
    pub(super) fn of(respond: SendResponse<Bytes>, exceeded: Exceeded) -> Self {
        Self { respond, exceeded }
    }

    /// Sends an interim head. It fails if the stream has been reset; what HTTP/2 has no place for
    /// was removed.
    fn inform(&mut self, head: Response<()>) {
        let stream = self.respond.stream_id().into();
        self.exceeded.expect(stream, HeadKind::Interim);
        if self.respond.send_informational(head).is_err() {
            self.exceeded.forget(stream);
        }
    }

    /// Sends the final head. It fails if the stream has been reset.
    pub(super) fn answer(
        &mut self,
        head: Response<()>,
        is_whole: bool,
    ) -> Result<SendStream<Bytes>, h2::Error> {
        let stream = self.respond.stream_id().into();
        self.exceeded.expect(stream, HeadKind::Final);
        let sent = self.respond.send_response(head, is_whole);
        sent.inspect_err(|_| self.exceeded.forget(stream))
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct Http2Body {
    stream: RecvStream,
    /// Whether somebody waits for some of it: nothing speaks against it any more.
    is_wanted: Arc<AtomicBool>,
    /// Whether nothing but trailers can follow.
    is_through: bool,
    /// As `content-length` says; `h2` holds the client to it.
    length: SizeHint,
}

impl Http2Body {
    /// A request with its body.
    pub(super) fn of(request: Request<RecvStream>) -> Request<Self> {
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        let length = length.map_or_else(SizeHint::new, SizeHint::with_exact);
        request.map(|stream| Self { stream, is_wanted: Arc::default(), is_through: false, length })
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if !this.is_through {
            let arrived = this.stream.poll_data(cx);
            if arrived.is_pending() {
                this.is_wanted.store(true, Ordering::Relaxed);
            }
            match ready!(arrived) {
                Some(Ok(octets)) => {
                    // Fails only for more than was received.
                    let _ = this.stream.flow_control().release_capacity(octets.len());
                    return Poll::Ready(Some(Ok(Frame::data(octets))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.is_through = true,
            }
        }
        let trailers = ready!(this.stream.poll_trailers(cx));
        Poll::Ready(trailers.transpose().map(|fields| fields.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length
    }
}

/// Why the rest of an answer is not sent.
enum Unsent {
    /// The client has reset the stream, or the connection is gone.
    Gone,
    /// It breaks off at the site, or the client takes nothing of it.
    Reset(Reason),
}

impl From<h2::Error> for Unsent {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

/// Relays one request and sends its answer, until its end or the client's.
pub(super) async fn serve_stream(
    gateway: Gateway,
    port: Port,
    client: Client,
    mut request: Request<Http2Body>,
    mut heads: Heads,
) {
    let mut waits = expects_continue(request.headers());
    let is_wanted = Arc::clone(&request.body().is_wanted);
    let interims = Interims::default();
    request.extensions_mut().insert(interims.clone());
    let mut answer = pin!(async {
        match (oversize(&request), port) {
            (Some(fault), _) => {
                refuse_request(&Failure::Malformed(fault), client, &request, gateway.tally())
            }
            (None, Port::Shared) => gateway.handle_of(client, request).await,
            (None, Port::Links) => not_a_link(),
        }
    });
    let answer = poll_fn(|cx| {
        if heads.respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        let answer = answer.as_mut().poll(cx);
        if answer.is_pending() && is_wanted.load(Ordering::Relaxed) && mem::take(&mut waits) {
            heads.inform(go_on());
        }
        interims.take().into_iter().for_each(|interim| heads.inform(interim));
        answer.map(Some)
    });
    // Else the client is gone: to be dropped cancels the request at the site.
    let Some(answer) = answer.await else { return };
    let (head, body) = without_connection(answer, gateway.is_dated()).into_parts();
    let is_whole = body.is_end_stream();
    let Ok(mut send) = heads.answer(Response::from_parts(head, ()), is_whole) else { return };
    if is_whole {
        return;
    }
    if let Err(Unsent::Reset(reason)) = send_body(&mut send, body, gateway.answer_stall()).await {
        if reason == TOO_SLOW {
            gateway.note(Limit::AnswerStall);
        }
        send.send_reset(reason);
    }
}

/// What an answer looks like in HTTP/2. An answer of the gateway's own gets what RFC 9110,
/// sections 6.6.1 and 8.6 ask for.
fn without_connection<B: Body>(mut answer: Response<B>, is_dated: bool) -> Response<B> {
    let length = answer.body().size_hint().exact();
    let is_whole = answer.body().is_end_stream();
    let fields = answer.headers_mut();
    for name in CONNECTION_FIELDS {
        fields.remove(name);
    }
    if let Some(length) = length.filter(|_| !is_whole && !fields.contains_key(CONTENT_LENGTH)) {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if is_dated
        && !fields.contains_key(DATE)
        && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        fields.insert(DATE, now);
    }
    answer
}

/// Sends a body to its end. The client is waited for as one of HTTP/1.1 is, see [`Ledger`]: `stall`
/// for 16 KiB, or for all there is. Of what the instance holds itself, nothing is read for a client
/// that takes none of it, and a little for one that has taken little.
async fn send_body(
    send: &mut SendStream<Bytes>,
    body: AnswerBody<Http2Body>,
    stall: Duration,
) -> Result<(), Unsent> {
    let mut body = pin!(body);
    let mut ledger = Ledger::new(stall);
    body.read_little_first();
    loop {
        if body.is_held() {
            send.reserve_capacity(1);
            granted(send, &mut ledger).await?;
        }
        let frame = poll_fn(|cx| {
            if send.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Unsent::Gone));
            }
            let frame = body.as_mut().poll_frame(cx);
            if frame.is_pending() {
                // Not at the end of each piece: of an answer in small ones a client would take one
                // now and then.
                ledger.forgive();
            }
            frame.map(Ok)
        });
        let Some(frame) = frame.await? else {
            return Ok(send.send_data(Bytes::new(), true)?);
        };
        // Never a clean end for what broke off.
        let frame = frame.map_err(|_| Unsent::Reset(Reason::INTERNAL_ERROR))?;
        match frame.into_data() {
            Ok(octets) => {
                let is_last = body.is_end_stream();
                if let Err(unsent) = send_octets(send, octets, is_last, &mut ledger).await {
                    if matches!(unsent, Unsent::Reset(_)) {
                        body.give_up_client();
                    }
                    return Err(unsent);
                }
                if is_last {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return Ok(send.send_trailers(trailers)?);
                }
            }
        }
    }
}

/// How many of the octets that were asked room for may be sent; waits until some may.
async fn granted(send: &mut SendStream<Bytes>, ledger: &mut Ledger) -> Result<usize, Unsent> {
    match send.capacity() {
        0 => {
            let since = Instant::now();
            let granted = timeout(ledger.left(), poll_fn(|cx| send.poll_capacity(cx))).await;
            ledger.waited(since.elapsed());
            // The client takes next to nothing of this answer, though the connection may move.
            let granted = granted.map_err(|_| Unsent::Reset(TOO_SLOW))?;
            Ok(granted.ok_or(Unsent::Gone)??)
        }
        granted => Ok(granted),
    }
}

async fn send_octets(
    send: &mut SendStream<Bytes>,
    mut octets: Bytes,
    is_last: bool,
    ledger: &mut Ledger,
) -> Result<(), Unsent> {
    while !octets.is_empty() {
        send.reserve_capacity(octets.len());
        let granted = granted(send, ledger).await?;
        let piece = octets.split_to(granted.min(octets.len()));
        ledger.took(piece.len());
        send.send_data(piece, is_last && octets.is_empty())?;
    }
    Ok(())
}
