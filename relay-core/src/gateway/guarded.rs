//! A client's connection of HTTP/1.1, judged by [`RequestGuard`] before any parser sees it.
//!
//! A head passes when it is whole and has one reading. One that is refused is replaced by a request
//! of our own, so that it is answered in its turn, with a reason, behind the answers to those
//! before it; nothing else of the connection is read.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use crate::exchange::FieldNames;
use crate::http1::{Fault, Limits, RequestGuard};

use super::names;

/// What stands in the place of a head that is refused.
const REFUSED: &[u8] = b"GET /relay-refused HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";

/// Octets that are read at once while a head is awaited.
const READ_OCTETS: usize = 8 << 10;

/// Times of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For a head, from its first octet; for the first, from the connection's beginning.
    pub(super) head: Duration,
    /// Between an answer's end and the next head's first octet.
    pub(super) idle: Duration,
}

/// Why a request is refused before it is one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Malformed {
    /// It has no reading, or more than one.
    Fault(Fault),
    /// Its head was not whole in time.
    HeadTooSlow(Duration),
}

/// A client that was given up because it sent no request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GaveUp {
    /// It has never sent one.
    Newcomer,
    /// It had sent others.
    Idle,
}

/// What is told of a head beside it.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Why it was refused, if it stands for one that was.
    pub(super) malformed: Option<Malformed>,
    /// The names in it whose case is not the usual one.
    pub(super) names: Option<FieldNames>,
}

/// What the two sides of a connection's parser know of each other: the pipe in front of it and the
/// service behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Passed(Arc<Mutex<Requests>>);

#[derive(Debug, Default)]
struct Requests {
    /// Of each head that has passed and that nobody has served yet.
    heads: VecDeque<Told>,
    /// Requests that are served, until the last octet of their answer.
    served: usize,
    /// When the last of them ended.
    ended_at: Option<Instant>,
    /// If the client was given up because it sent none.
    gave_up: Option<GaveUp>,
}

/// A request that is served. It ends with its answer's body.
#[derive(Debug)]
pub(super) struct Served(Passed);

impl Passed {
    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, told: Told) {
        self.lock().heads.push_back(told);
    }

    /// Begins to serve the next request, or the answer to one that was refused.
    pub(super) fn serve(&self) -> (Told, Served) {
        let mut requests = self.lock();
        requests.served += 1;
        let told = requests.heads.pop_front().unwrap_or_default();
        drop(requests);
        (told, Served(self.clone()))
    }

    /// Whether, and as what, the client was given up because it sent no request.
    pub(super) fn gave_up(&self) -> Option<GaveUp> {
        self.lock().gave_up
    }

    /// Since when no request is served and none waits for it; `None` while one is or does.
    fn idle_since(&self, beginning: Instant) -> Option<Instant> {
        let requests = self.lock();
        let is_idle = requests.served == 0 && requests.heads.is_empty();
        is_idle.then(|| requests.ended_at.unwrap_or(beginning))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut requests = self.0.lock();
        requests.served -= 1;
        requests.ended_at = Some(Instant::now());
    }
}

/// An answer's body, for as long as which its request is served.
#[derive(Debug)]
pub(super) struct Until<B> {
    pub(super) body: B,
    pub(super) _served: Served,
}

impl<B: Body + Unpin> Body for Until<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A pipe that passes on what its guard allows.
#[derive(Debug)]
pub(super) struct Guarded<P> {
    pipe: P,
    guard: RequestGuard,
    passed: Passed,
    times: Times,
    /// Octets that were read and have not been passed on.
    kept: BytesMut,
    /// How many of them, from the first, may be.
    passable: usize,
    /// Whether a head was refused: nothing is read any more.
    is_refused: bool,
    is_first: bool,
    /// Since when a head is awaited, or the rest of one.
    waiting: Option<Instant>,
    /// Kept from one wait to the next.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<P> Guarded<P> {
    pub(super) fn new(pipe: P, passed: Passed, times: Times) -> Self {
        Self {
            pipe,
            guard: RequestGuard::new(Limits::default()),
            passed,
            times,
            kept: BytesMut::new(),
            passable: 0,
            is_refused: false,
            is_first: true,
            waiting: None,
            timer: None,
        }
    }

    /// The pipe, unless octets of it have been read that nobody has seen.
    pub(super) fn into_inner(self) -> Option<P> {
        self.kept.is_empty().then_some(self.pipe)
    }

    /// Has the answer to a refused head made in its turn.
    fn refuse(&mut self, malformed: Malformed) {
        self.passed.note(Told { malformed: Some(malformed), names: None });
        self.kept.clear();
        self.kept.extend_from_slice(REFUSED);
        self.passable = REFUSED.len();
        self.is_refused = true;
        self.waiting = None;
    }

    /// Hands over what may pass.
    fn pass(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.passable.min(buffer.remaining());
        buffer.put_slice(&self.kept[..count]);
        self.kept.advance(count);
        self.passable -= count;
        if self.kept.is_empty() {
            // A connection that waits for hours needs none of it.
            self.kept = BytesMut::new();
        }
    }
}

/// What to do after a step.
enum Step {
    /// Look again: something may pass.
    Again,
    /// There is nothing more to come.
    End,
}

impl<P: AsyncRead + Unpin> Guarded<P> {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Step>> {
        if self.kept.is_empty() {
            return self.poll_new_head(cx, buffer);
        }
        match self.guard.head(&self.kept) {
            Ok(Some(head)) => {
                self.kept.advance(head.skip);
                self.passable = head.octets;
                self.note_head(names::unusual(&self.kept, &head.names));
                return Poll::Ready(Ok(Step::Again));
            }
            Err(fault) => {
                self.refuse(Malformed::Fault(fault));
                return Poll::Ready(Ok(Step::Again));
            }
            Ok(None) => {}
        }
        self.kept.reserve(READ_OCTETS);
        match poll_read_buf(Pin::new(&mut self.pipe), cx, &mut self.kept) {
            // What there is of a head is nobody's any more.
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(Step::End)),
            Poll::Ready(outcome) => Poll::Ready(outcome.map(|_| Step::Again)),
            Poll::Pending => self.poll_patience(cx).map(Ok),
        }
    }

    /// Reads the beginning of a head into the parser's own buffer: most are whole at once, and a
    /// connection without a request has no buffer here.
    fn poll_new_head(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Step>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.pipe).poll_read(cx, buffer) {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => return self.poll_patience(cx).map(Ok),
        }
        let new = buffer.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            return Poll::Ready(Ok(Step::End));
        }
        let passes = match self.guard.head(new) {
            Ok(Some(head)) => {
                let octets = new.get(head.skip..).unwrap_or_default();
                let names = names::unusual(octets, &head.names);
                let passes = if head.skip == 0 { head.octets } else { 0 };
                self.kept.extend_from_slice(new.get(head.skip + passes..).unwrap_or_default());
                self.passable = head.octets - passes;
                self.note_head(names);
                passes
            }
            Ok(None) => {
                self.kept.extend_from_slice(new);
                // Its time runs from its first octet.
                self.waiting = None;
                0
            }
            Err(fault) => {
                self.refuse(Malformed::Fault(fault));
                0
            }
        };
        buffer.set_filled(before + passes);
        Poll::Ready(Ok(Step::Again))
    }

    fn note_head(&mut self, names: Option<FieldNames>) {
        self.passed.note(Told { malformed: None, names });
        (self.is_first, self.waiting) = (false, None);
    }

    /// Gives up a client that sends no head, or not all of one, in its time. While a client waits
    /// for an answer, none runs.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let has_begun = !self.kept.is_empty();
        let limit = if has_begun || self.is_first { self.times.head } else { self.times.idle };
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(since + limit)));
        loop {
            let due = match self.passed.idle_since(since) {
                Some(idle) => since.max(idle) + limit,
                None => Instant::now() + limit,
            };
            if timer.deadline() != due && (timer.is_elapsed() || due < timer.deadline()) {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            if due <= Instant::now() {
                break;
            }
        }
        if !has_begun {
            self.passed.lock().gave_up =
                Some(if self.is_first { GaveUp::Newcomer } else { GaveUp::Idle });
            return Poll::Ready(Step::End);
        }
        self.refuse(Malformed::HeadTooSlow(limit));
        Poll::Ready(Step::Again)
    }

    /// Reads a body into the parser's own buffer, and keeps what comes behind it.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Step>> {
        if !self.kept.is_empty() {
            self.passable = self.guard.body(&self.kept).map_err(broken)?;
            return Poll::Ready(Ok(Step::Again));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            return Poll::Ready(Ok(Step::End));
        }
        let taken = self.guard.body(new).map_err(broken)?;
        self.kept.extend_from_slice(new.get(taken..).unwrap_or_default());
        buffer.set_filled(before + taken);
        Poll::Ready(Ok(Step::Again))
    }
}

/// A body whose end nobody can tell. The parser hands it on, and whoever reads the body finds it.
fn broken(fault: Fault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

impl<P: AsyncRead + Unpin> AsyncRead for Guarded<P> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        loop {
            if this.passable > 0 {
                this.pass(buffer);
            }
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.is_refused {
                // The answer closes the connection; an end now would keep it from being sent.
                return Poll::Pending;
            }
            let step = if this.guard.awaits_head() {
                ready!(this.poll_head(cx, buffer))?
            } else {
                ready!(this.poll_body(cx, buffer))?
            };
            if let Step::End = step {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<P: AsyncWrite + Unpin> AsyncWrite for Guarded<P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
