//! A connection to a site role, judged both ways by the room `http1`.
//!
//! Answers pass once their heads are whole and have one reading: what the HTTP client behind this
//! pipe would forgive could be read otherwise by whoever reads the answer next. Requests are judged
//! as the client wrote them, which is also how the pipe knows what each answer is an answer to. A
//! head is written together with the beginning of its body, and no body is copied. The names in it
//! get the case in which the request's client wrote them.
//!
//! Read [`BackendPipe`] first. It stands between TLS and the client of `backend.rs`.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::{HeaderName, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;
use tower_service::Service;

use crate::body::BoxError;
use crate::http1::{AnswerGuard, Fault, Limits, RequestGuard, write_names};
use crate::transport::Patience;

use super::backend_use::Use;

/// A field that goes no further than the pipe: the names of others in the case in which they are to
/// be written. What clients call so is dropped by policy.
pub(super) const NAMES: HeaderName = HeaderName::from_static("relay-names");

/// Octets that are read at once while the rest of a head is awaited.
const READ_OCTETS: usize = 8 << 10;

/// Octets that are looked at together while a request's head is written. As many of a body may have
/// been copied with them at most, if the client has joined the two.
const HEAD_PIECE: usize = 4 << 10;

/// Slices that are written at once, a head before them apart.
const SLICES: usize = 16;

/// Why a connection to a site role is given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Misread {
    /// The answer has no reading, or more than one. The backend's fault.
    #[error("the backend's answer is refused: {0}")]
    Answer(Fault),
    /// The backend says something before it is asked. Whoever is asked next would be told it.
    #[error("the backend answers what nobody has asked")]
    Unasked,
    /// The request cannot be written so that it has one reading. Its client's fault; none of it was
    /// sent.
    #[error("the request cannot be sent on: {0}")]
    Request(Fault),
}

impl Misread {
    /// Why `error` came about, if this is why.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref().copied()
    }
}

impl From<Misread> for io::Error {
    fn from(why: Misread) -> Self {
        Self::new(io::ErrorKind::InvalidData, why)
    }
}

/// Limits of what the client writes. What comes over a link has been counted before and is 64 KiB
/// at most; a line's share of it, and the few fields that the client adds, are nobody's to refuse.
fn written_limits() -> Limits {
    let octets = 128 << 10;
    Limits { first_line: octets, field: octets, head: octets, fields: 128, ..Limits::default() }
}

/// A pipe that passes on what the guards allow.
#[derive(Debug)]
pub(super) struct BackendPipe<P> {
    pipe: P,
    answers: AnswerGuard,
    requests: RequestGuard,
    /// Octets of answers that were read and have not been passed on.
    kept: BytesMut,
    /// How many of them, from the first, may be.
    passable: usize,
    /// What there is of a request's head.
    head: BytesMut,
    /// A head that is whole, until the pipe has taken it.
    unsent: BytesMut,
    /// Gives up a site role that takes nothing of a request. The client in front of the pipe would
    /// wait for ever: it looks for a request that was taken back only once its octets have gone.
    patience: Patience,
    /// What it is used for.
    used: Use,
    /// The connection's place among those that may be open at once.
    _place: Option<OwnedSemaphorePermit>,
}

impl<P> BackendPipe<P> {
    pub(super) fn new(pipe: P, patience: Duration) -> Self {
        Self {
            pipe,
            answers: AnswerGuard::new(Limits::default()),
            requests: RequestGuard::new(written_limits()),
            kept: BytesMut::new(),
            passable: 0,
            head: BytesMut::new(),
            unsent: BytesMut::new(),
            patience: Patience::new(patience),
            used: Use::default(),
            _place: None,
        }
    }

    /// Hands over what may pass.
    fn pass(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.passable.min(buffer.remaining());
        buffer.put_slice(&self.kept[..count]);
        self.kept.advance(count);
        self.passable -= count;
        if self.kept.is_empty() {
            // A connection that is kept for later needs none of it.
            self.kept = BytesMut::new();
        }
    }

    /// Takes octets of a request's head. Returns how many.
    fn take_head(&mut self, octets: &[u8]) -> io::Result<usize> {
        let piece = &octets[..octets.len().min(HEAD_PIECE)];
        let before = self.head.len();
        self.head.extend_from_slice(piece);
        let Some(head) = self.requests.head(&self.head).map_err(Misread::Request)? else {
            return Ok(piece.len());
        };
        let end = head.skip + head.octets;
        self.head.truncate(end);
        self.head.advance(head.skip);
        self.unsent = with_names(std::mem::take(&mut self.head), &head.names);
        self.answers.note_asked(self.unsent.starts_with(b"HEAD "));
        self.used.asked();
        Ok(end - before)
    }

    /// Follows a request's body, of which `count` octets were written.
    fn follow(&mut self, slices: &[IoSlice<'_>], mut count: usize) -> io::Result<()> {
        for slice in slices {
            let written = &slice[..slice.len().min(count)];
            let taken = self.requests.body(written).map_err(Misread::Request)?;
            if taken < written.len() {
                // It waits for an answer before it writes another request.
                return Err(io::Error::other("the client has written behind a body's end"));
            }
            count -= taken;
        }
        Ok(())
    }
}

impl<P: AsyncRead + Unpin> BackendPipe<P> {
    /// Reads until a head is whole. Returns whether the connection has ended.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        if self.kept.is_empty() {
            return self.poll_new_head(cx, buffer);
        }
        if let Some(octets) = judge_head(&mut self.answers, &self.kept)? {
            self.passable = octets;
            return Poll::Ready(Ok(false));
        }
        self.kept.reserve(READ_OCTETS);
        // What there is of a head is nobody's if no more comes.
        let count = ready!(poll_read_buf(Pin::new(&mut self.pipe), cx, &mut self.kept))?;
        Poll::Ready(Ok(count == 0))
    }

    /// Reads the beginning of a head into the client's own buffer: most are whole at once.
    fn poll_new_head(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buffer))?;
        let new = &buffer.filled()[before..];
        if new.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.used.heard();
        let passes = judge_head(&mut self.answers, new)?.unwrap_or_default();
        self.kept.extend_from_slice(&new[passes..]);
        buffer.set_filled(before + passes);
        Poll::Ready(Ok(false))
    }

    /// Reads a body into the client's own buffer, and keeps what comes behind it.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        if !self.kept.is_empty() {
            self.passable = self.answers.body(&self.kept).map_err(Misread::Answer)?;
            return Poll::Ready(Ok(false));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buffer))?;
        let new = &buffer.filled()[before..];
        if new.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let taken = self.answers.body(new).map_err(Misread::Answer)?;
        self.kept.extend_from_slice(&new[taken..]);
        buffer.set_filled(before + taken);
        Poll::Ready(Ok(false))
    }
}

/// The head with its names in the case that the client gave them, and without [`NAMES`].
fn with_names(mut head: BytesMut, names: &[Range<usize>]) -> BytesMut {
    let is_list =
        |place: &Range<usize>| head[place.clone()].eq_ignore_ascii_case(NAMES.as_str().as_bytes());
    let Some(index) = names.iter().position(is_list) else {
        write_names(&mut head, names, &[]);
        return head;
    };
    let begin = names[index].start;
    // Its line ends where the next begins; the last one ends before the empty line.
    let end = names.get(index + 1).map_or(head.len() - 2, |next| next.start);
    let wanted = head[names[index].end + 1..end].trim_ascii().to_vec();
    write_names(&mut head, names, &wanted);
    let rest = head.split_off(end);
    head.truncate(begin);
    head.extend_from_slice(&rest);
    head
}

/// The octets of an answer's head, once it is whole.
fn judge_head(answers: &mut AnswerGuard, octets: &[u8]) -> Result<Option<usize>, Misread> {
    if !answers.is_asked() {
        // The beginning of an answer is enough: the rest could come once somebody has asked.
        return Err(Misread::Unasked);
    }
    answers.head(octets).map_err(Misread::Answer)
}

impl<P: AsyncWrite + Unpin> BackendPipe<P> {
    /// Takes a head, or writes of a body. Returns how many octets of `slices` that were.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.requests.awaits_head() {
            ready!(self.poll_unsent(cx))?;
            let octets = slices.iter().find(|slice| !slice.is_empty());
            return Poll::Ready(octets.map_or(Ok(0), |octets| self.take_head(octets)));
        }
        let count = ready!(self.poll_write_body(cx, slices))?;
        self.follow(slices, count)?;
        Poll::Ready(Ok(count))
    }

    /// Writes of a body, behind what is unsent of its head. Returns the octets of the body.
    fn poll_write_body(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices = &slices[..slices.len().min(SLICES)];
        while !self.unsent.is_empty() {
            let mut joined = [IoSlice::new(&[]); 1 + SLICES];
            joined[0] = IoSlice::new(&self.unsent);
            joined[1..=slices.len()].copy_from_slice(slices);
            let joined = &joined[..=slices.len()];
            let count = ready!(Pin::new(&mut self.pipe).poll_write_vectored(cx, joined))?;
            let of_head = self.note_sent(count)?;
            if count > of_head {
                return Poll::Ready(Ok(count - of_head));
            }
        }
        Pin::new(&mut self.pipe).poll_write_vectored(cx, slices)
    }

    /// Writes what is unsent of a head.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let count = ready!(Pin::new(&mut self.pipe).poll_write(cx, &self.unsent))?;
            self.note_sent(count)?;
        }
        Poll::Ready(Ok(()))
    }

    /// The pipe has taken `count` octets, first of a head. Returns how many of them were its.
    fn note_sent(&mut self, count: usize) -> io::Result<usize> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_head = count.min(self.unsent.len());
        self.unsent.advance(of_head);
        if self.unsent.is_empty() {
            self.unsent = BytesMut::new();
        }
        Ok(of_head)
    }
}

impl<P: AsyncRead + Unpin> AsyncRead for BackendPipe<P> {
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
            let has_ended = if this.answers.awaits_head() {
                ready!(this.poll_head(cx, buffer))?
            } else {
                ready!(this.poll_body(cx, buffer))?
            };
            if has_ended {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<P: AsyncWrite + Unpin> AsyncWrite for BackendPipe<P> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = this.poll_send(cx, &[IoSlice::new(octets)]);
        this.patience.judge(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = this.poll_send(cx, slices);
        this.patience.judge(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = match this.poll_unsent(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.pipe).poll_flush(cx),
            other => other,
        };
        this.patience.judge(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.pipe).poll_shutdown(cx)
    }
}

impl<P: Connection> Connection for BackendPipe<P> {
    fn connected(&self) -> Connected {
        self.used.on(self.pipe.connected())
    }
}

/// Puts a [`BackendPipe`] on each connection of `connector`, of which it counts how many are open.
#[derive(Clone, Debug)]
pub(super) struct Judging<C> {
    pub(super) connector: C,
    /// How long a site role may take nothing of a request.
    pub(super) patience: Duration,
    /// The connections that may still be opened. Who finds none waits.
    pub(super) places: Arc<Semaphore>,
    /// For so long.
    pub(super) wait: Duration,
}

/// As many connections were open as may be, for as long as a new one waits. Says nothing about the
/// backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no connection could be opened within {} s: as many are open as may be", .0.as_secs_f32())]
pub(super) struct NoPlace(pub(super) Duration);

impl<C> Service<Uri> for Judging<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<BackendPipe<TokioIo<C::Response>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (mut connector, patience) = (self.connector.clone(), self.patience);
        let (places, wait) = (Arc::clone(&self.places), self.wait);
        Box::pin(async move {
            let place = timeout(wait, places.acquire_owned()).await;
            let place = place.map_err(|_| NoPlace(wait))??;
            let pipe = connector.call(to).await.map_err(Into::into)?;
            let judged = BackendPipe::new(TokioIo::new(pipe), patience);
            Ok(TokioIo::new(BackendPipe { _place: Some(place), ..judged }))
        })
    }
}

#[cfg(test)]
mod tests;
