//! The receive half of a stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::mux::StreamCode;

use super::cell::{Cell, In, RecvEnd, State};
use super::shared::Shared;

/// A head block that arrived on a stream this side opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// The block.
    pub block: Bytes,
    /// Whether it is an interim (1xx) head; another follows.
    pub interim: bool,
    /// Whether no payload follows.
    pub end: bool,
}

/// Why reading from a stream failed. What was read before is valid; the rest will not come.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The stream was reset. With [`StreamCode::REFUSED`] the peer never looked at it, so what it
    /// carried may be sent again on another link: a peer that says so behind any head of its answer
    /// is not believed, and the code is [`StreamCode::DROPPED`].
    #[error("the stream was reset ({0})")]
    Reset(StreamCode),
    /// The link was lost. The peer may have acted on what it got.
    #[error("the link was lost")]
    LinkLost,
    /// Payload where a head was due, or the reverse. The peer's fault, or a mistake in the caller.
    #[error("head and payload in the wrong order")]
    OutOfOrder,
}

/// The receive half of a stream.
///
/// Dropping it before its end tells the peer that no more is wanted.
#[derive(Debug)]
pub struct RecvStream {
    cell: Arc<Cell>,
    shared: Arc<Shared>,
    trailers: Option<Bytes>,
}

impl RecvStream {
    pub(super) fn new(cell: Arc<Cell>, shared: Arc<Shared>) -> Self {
        Self { cell, shared, trailers: None }
    }

    /// Waits for the next head of the peer's half, on a stream that this side opened.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn head(&mut self) -> Result<Head, RecvError> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    /// As [`RecvStream::head`], for a hand-written future.
    ///
    /// # Errors
    ///
    /// As [`RecvStream::head`].
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, RecvError>> {
        let mut state = self.cell.lock();
        match state.inbox.pop_front() {
            Some(In::Head(head)) => return Poll::Ready(Ok(head)),
            Some(other) => {
                state.inbox.push_front(other);
                return Poll::Ready(Err(RecvError::OutOfOrder));
            }
            None => {}
        }
        match state.recv_end {
            Some(RecvEnd::Failed(error)) => Poll::Ready(Err(error)),
            Some(RecvEnd::Finished) => Poll::Ready(Err(RecvError::OutOfOrder)),
            None => {
                State::park(&mut state.recv_waker, cx.waker());
                Poll::Pending
            }
        }
    }

    /// Reads the next payload octets, never empty; `None` at the end of the half.
    ///
    /// Reading a chunk returns its credit to the peer, so read only when the chunk before has been
    /// passed on.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: the payload is incomplete.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. If the future is dropped, nothing was read.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, RecvError> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// As [`RecvStream::read_chunk`], for a hand-written future.
    ///
    /// # Errors
    ///
    /// As [`RecvStream::read_chunk`].
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, RecvError>> {
        let Self { cell, shared, trailers } = self;
        shared.agenda.change(cell, |state| {
            let next = match state.inbox.pop_front() {
                Some(In::Gathered(payload)) => Some(In::Data(payload.freeze())),
                other => other,
            };
            match next {
                Some(In::Data(payload)) => {
                    state.taken += payload.len();
                    state.dirty |= state.recv_end.is_none() && state.taken >= state.taken_report;
                    return Poll::Ready(Ok(Some(payload)));
                }
                Some(In::Trailers(block)) => *trailers = Some(block),
                Some(head) => {
                    state.inbox.push_front(head);
                    return Poll::Ready(Err(RecvError::OutOfOrder));
                }
                None => {}
            }
            match state.recv_end {
                Some(RecvEnd::Finished) => Poll::Ready(Ok(None)),
                Some(RecvEnd::Failed(error)) => Poll::Ready(Err(error)),
                None => {
                    State::park(&mut state.recv_waker, cx.waker());
                    Poll::Pending
                }
            }
        })
    }

    /// The trailers, once [`RecvStream::read_chunk`] has returned `None`; `None` if there are none.
    pub fn take_trailers(&mut self) -> Option<Bytes> {
        self.trailers.take()
    }

    /// Whether the half has ended and nothing is left to read.
    pub fn is_finished(&self) -> bool {
        let state = self.cell.lock();
        state.inbox.is_empty() && matches!(state.recv_end, Some(RecvEnd::Finished))
    }

    /// Tells the peer that no more is wanted, and drops what arrived.
    pub fn stop(self, code: StreamCode) {
        self.cell.lock().stop.get_or_insert(code);
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.shared.agenda.change(&self.cell, |state| {
            state.recv_dropped = true;
            state.inbox.clear();
            state.dirty = true;
        });
    }
}
