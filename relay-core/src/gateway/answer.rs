//! The body of an answer, which also carries on whatever of the request is still on its way.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::{BodyReceiver, BodySender, BoxError, ReceiveError};
use crate::exchange::{AbortCode, MessageId, Tally};

use super::access::{Access, Ended};
use super::content_body::Held;
use super::counted;
use super::header;
use super::pace::Pace;
use super::registry::Attempt;
use super::replay::Replay;

/// Counts the requests in flight, for a drain and its report.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    /// Notified when it has come down to none.
    none: Notify,
}

impl InFlight {
    pub(super) fn enter(&self) -> InFlightGuard {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        InFlightGuard(Arc::clone(&self.0))
    }

    pub(super) fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Waits until there is none.
    pub(super) async fn none(&self) {
        loop {
            let mut none = pin!(self.0.none.notified());
            // Before the count is read, or the last one could end in between.
            none.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }
}

/// One request in flight; it ends with the last octet of its answer.
#[derive(Debug)]
pub(super) struct InFlightGuard(Arc<Counter>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

/// The body of an answer.
///
/// A relayed answer may begin before the request's body is through: the rest of it is moved while
/// this body is read, so that no task of its own is needed and a client that goes away ends both.
#[derive(Debug)]
pub struct AnswerBody<B> {
    /// The request's line in the log, which is written when this is dropped; before the request
    /// leaves the count of those in flight.
    access: Option<Box<Access>>,
    /// Counts it if it is the site's and is not sent whole.
    tally: Option<Arc<Tally>>,
    inner: Inner<B>,
}

#[derive(Debug)]
enum Inner<B> {
    /// The gateway's own text, until it is sent.
    Text(Option<Bytes>),
    /// Content that the gateway holds.
    Held(Box<Held>),
    /// The site's answer.
    Relayed(Box<Relayed<B>>),
}

#[derive(Debug)]
pub(super) struct Relayed<B> {
    pub(super) answer: BodyReceiver,
    /// The request's body, until it is through.
    pub(super) request: Option<BodySender<Replay<B>>>,
    /// Octets of it that went on, since that was last asked.
    pub(super) up: Option<u64>,
    /// How long the answer may stand still while the client waits for it; `None`: for ever.
    pub(super) stall: Option<Duration>,
    /// Runs while nothing comes.
    pub(super) waiting: Option<Pin<Box<Sleep>>>,
    /// How fast the rest of the request's body comes.
    pub(super) pace: Pace,
    /// Since when nothing but that, and the answer, is waited for.
    pub(super) waited_since: Option<Instant>,
    /// Runs while the client is waited for.
    pub(super) slow: Option<Pin<Box<Sleep>>>,
    /// Held for their drops alone.
    pub(super) _in_flight: (InFlightGuard, Attempt),
}

impl<B> AnswerBody<B> {
    pub(super) fn none() -> Self {
        Self::of(Inner::Text(None))
    }

    pub(super) fn text(text: String) -> Self {
        Self::of(Inner::Text(Some(Bytes::from(text))))
    }

    pub(super) fn relayed(relayed: Relayed<B>) -> Self {
        Self::of(Inner::Relayed(Box::new(relayed)))
    }

    pub(super) fn held(held: Held) -> Self {
        Self::of(Inner::Held(Box::new(held)))
    }

    fn of(inner: Inner<B>) -> Self {
        Self { access: None, tally: None, inner }
    }

    /// Has the line of `access` written when this body has ended.
    pub(super) fn log_to(&mut self, access: Access) {
        self.access = Some(Box::new(access));
    }

    /// Has `tally` count it if it is the site's, and is cut.
    pub(super) fn count_in(&mut self, tally: Arc<Tally>) {
        self.tally = Some(tally);
    }

    /// The client took nothing of it for too long.
    pub(super) fn give_up_client(&mut self) {
        if let Some(access) = &mut self.access {
            access.end(Ended::ClientTooSlow);
        }
    }

    /// Whether nothing is left to be taken.
    /// Whether it is what the gateway holds itself.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.inner, Inner::Held(_))
    }

    /// Has content be read by small pieces until the client has taken some.
    pub(super) fn read_little_first(&mut self) {
        if let Inner::Held(held) = &mut self.inner {
            held.read_little_first();
        }
    }

    fn is_through(&self) -> bool {
        match &self.inner {
            Inner::Text(text) => text.is_none(),
            Inner::Held(held) => held.is_through(),
            Inner::Relayed(relayed) => relayed.answer.is_end_stream(),
        }
    }
}

impl<B> Drop for AnswerBody<B> {
    fn drop(&mut self) {
        let is_through = self.is_through();
        let Some(access) = &mut self.access else { return };
        if is_through {
            access.end(Ended::Complete);
        }
        if let (Inner::Relayed(_), Some(tally)) = (&self.inner, &self.tally) {
            counted::note_cut(tally, access.ended());
        }
    }
}

impl<B> Body for AnswerBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        let this = self.get_mut();
        let relayed = match &mut this.inner {
            Inner::Text(text) => {
                return Poll::Ready(text.take().map(|text| Ok(Frame::data(text))));
            }
            Inner::Held(held) => {
                let outcome = held.poll_piece(cx);
                if let (Some(access), Poll::Ready(Some(piece))) = (&mut this.access, &outcome) {
                    access.note_held(piece.as_ref().map(|_| held.octets()));
                }
                return outcome.map_ok(Frame::data);
            }
            Inner::Relayed(relayed) => relayed,
        };
        let outcome = relayed.poll_frame(cx);
        let Some(access) = &mut this.access else { return outcome };
        access.note_down(relayed.answer.octets());
        if let Some(octets) = relayed.up.take() {
            access.note_up(octets);
        }
        if let Poll::Ready(Some(Err(error))) = &outcome {
            access.note_broken(error);
        }
        outcome
    }

    fn is_end_stream(&self) -> bool {
        self.is_through()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Inner::Held(held) => held.size_hint(),
            Inner::Relayed(relayed) => relayed.answer.size_hint(),
        }
    }
}

impl<B> Relayed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        // While an answer moves, its reader decides when the request is looked at.
        if let Some(since) = self.waited_since.take() {
            self.pace.waited(since.elapsed());
        }
        let moved = self.poll_request(cx);
        let outcome = Pin::new(&mut self.answer).poll_frame(cx);
        if moved || outcome.is_ready() {
            self.waiting = None;
        }
        if outcome.is_pending() && self.poll_pace(cx).is_ready() {
            return Poll::Ready(Some(Err(ReceiveError::TooSlow(self.pace.rate_min()))));
        }
        let Some(limit) = self.stall.filter(|_| outcome.is_pending()) else { return outcome };
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        waiting.as_mut().poll(cx).map(|()| Some(Err(ReceiveError::Stalled(limit))))
    }

    /// Gives up a client that sends the rest of its body too slowly.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(request) = self.request.as_mut().filter(|it| it.waits_for_source()) else {
            return Poll::Pending;
        };
        let Some(left) = self.pace.left() else { return Poll::Pending };
        let now = Instant::now();
        self.waited_since = Some(now);
        let slow = self.slow.get_or_insert_with(|| Box::pin(sleep_until(now + left)));
        slow.as_mut().reset(now + left);
        ready!(slow.as_mut().poll(cx));
        request.reset(AbortCode::TooSlow);
        Poll::Ready(())
    }

    /// Moves what can be moved of the request's body. Returns whether anything did.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(request) = &mut self.request else { return false };
        let (before, octets) = (request.steps(), request.octets());
        let is_pending = request.poll_send(cx).is_pending();
        self.up = Some(request.octets());
        if is_pending {
            self.pace.came(request.octets() - octets);
            return request.steps() != before;
        }
        // Through, or no longer wanted; if the client broke off, the stream was reset and the
        // answer fails by itself.
        self.request = None;
        true
    }
}

/// Puts the message id, and the reason if there is one, on an answer.
pub(super) fn mark<B>(response: &mut Response<B>, message_id: MessageId, reason: Option<Bytes>) {
    let id = HeaderValue::try_from(message_id.to_string());
    let id = id.unwrap_or_else(|_| HeaderValue::from_static("invalid"));
    response.headers_mut().insert(header::MESSAGE_ID, id);
    let Some(reason) = reason else { return };
    if let Ok(value) = HeaderValue::from_maybe_shared(reason.clone()) {
        response.headers_mut().insert(header::REASON, value);
    }
    show_phrase(response, reason);
}

/// Shows `phrase` where HTTP has a reason phrase.
pub(super) fn show_phrase<B>(response: &mut Response<B>, phrase: Bytes) {
    if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
        response.extensions_mut().insert(phrase);
    }
}
