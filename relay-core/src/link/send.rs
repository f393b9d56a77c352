//! The send half of a stream.

use std::any::Any;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::mux::{HeadKind, SendError, StreamCode};

use super::cell::{Cell, Out, State};
use super::shared::Shared;

/// The send half of a stream.
///
/// Dropping it unfinished resets the stream: a cut payload never looks complete.
#[derive(Debug)]
pub struct SendStream {
    cell: Arc<Cell>,
    shared: Arc<Shared>,
    /// Whether the end is queued, so that dropping is no reset.
    ended: bool,
}

impl SendStream {
    pub(super) fn new(cell: Arc<Cell>, shared: Arc<Shared>, ended: bool) -> Self {
        Self { cell, shared, ended }
    }

    fn push(&self, out: Out) -> Result<(), SendError> {
        self.shared.agenda.change(&self.cell, |state| {
            if let Some(error) = state.send_end {
                return Err(error);
            }
            if let Out::Data(payload) = &out {
                state.room = state.room.saturating_sub(payload.len());
            }
            state.outbox.push_back(out);
            state.dirty = true;
            Ok(())
        })
    }

    /// Keeps `kept` on a stream that this side opened for as long as the peer may be at work on
    /// it; on one that the peer opened, until both handles are dropped.
    ///
    /// It is dropped when both handles are and the stream has ended: where they were dropped
    /// before, once the peer has let go of the stream as well, or the link has ended, and 60 s
    /// after the stream could be let go of here at the latest: a peer that never does holds it no
    /// longer. A second call drops what the first one had kept.
    pub fn keep(&self, kept: Arc<dyn Any + Send + Sync>) {
        // Dropped once the lock is free: what its `drop` does is the caller's.
        let _earlier = self.cell.lock().kept.replace(Box::new(kept));
    }

    /// Sends a head on a stream that the peer opened. Does not wait: heads are bounded by the
    /// number of streams.
    ///
    /// # Errors
    ///
    /// [`SendError::Stopped`] or [`SendError::Reset`] if the half has ended. A head in the wrong
    /// place, or longer than the peer takes, resets the stream; check
    /// [`Link::peer`](super::Link::peer)'s `head_max` before.
    pub fn send_head(&mut self, block: Bytes, kind: HeadKind) -> Result<(), SendError> {
        if self.ended {
            return Err(SendError::Finished);
        }
        self.push(Out::Head(block, kind))?;
        self.ended = kind == HeadKind::FinalAndEnd;
        Ok(())
    }

    /// Sends `payload`, waiting while the stream has no room.
    ///
    /// The octets are not copied: the link writes them from the memory that `payload` shares,
    /// which stays alive until then (payloads of at most [`COPY_IN_MAX`](crate::mux::COPY_IN_MAX)
    /// octets are copied beside their header instead). A stream has room while its queue holds less
    /// than [`Config::send_queue_max`](crate::mux::Config::send_queue_max) and the peer has granted
    /// credit; a chunk is then taken whole. So one chunk beyond that bound may wait in the link.
    ///
    /// # Errors
    ///
    /// - [`SendError::Stopped`]: the peer wants no more; its answer may still come.
    /// - [`SendError::Reset`]: the stream was reset, or the link was lost.
    /// - [`SendError::Finished`]: this half was finished. The caller's mistake.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. If the future is dropped before it is ready, nothing was queued.
    pub async fn write_chunk(&mut self, payload: Bytes) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.write_now(payload)
    }

    /// Waits until [`SendStream::write_now`] is due.
    ///
    /// # Errors
    ///
    /// As [`SendStream::write_chunk`].
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if self.ended {
            return Poll::Ready(Err(SendError::Finished));
        }
        self.shared.agenda.change(&self.cell, |state| {
            if let Some(error) = state.send_end {
                return Poll::Ready(Err(error));
            }
            if state.room > 0 {
                return Poll::Ready(Ok(()));
            }
            State::park(&mut state.send_waker, cx.waker());
            state.dirty = true;
            Poll::Pending
        })
    }

    /// Queues `payload` whole, without waiting. Call it once after each ready
    /// [`SendStream::poll_room`]; calling it without adds to what waits in the link without bound.
    ///
    /// # Errors
    ///
    /// As [`SendStream::write_chunk`].
    pub fn write_now(&mut self, payload: Bytes) -> Result<(), SendError> {
        if self.ended {
            return Err(SendError::Finished);
        }
        if payload.is_empty() {
            return Ok(());
        }
        self.push(Out::Data(payload))
    }

    /// Ends this half; everything written is sent first.
    ///
    /// # Errors
    ///
    /// [`SendError::Finished`] if it was ended before, else as [`SendStream::write_chunk`].
    pub fn finish(&mut self) -> Result<(), SendError> {
        self.end_with(Out::Finish)
    }

    /// Ends this half with a field block.
    ///
    /// # Errors
    ///
    /// As [`SendStream::finish`].
    pub fn finish_with_trailers(&mut self, block: Bytes) -> Result<(), SendError> {
        self.end_with(Out::Trailers(block))
    }

    fn end_with(&mut self, last: Out) -> Result<(), SendError> {
        if self.ended {
            return Err(SendError::Finished);
        }
        self.push(last)?;
        self.ended = true;
        Ok(())
    }

    /// Aborts both halves of the stream. Does nothing if both have ended.
    pub fn reset(&mut self, code: StreamCode) {
        self.ended = true;
        self.shared.agenda.change(&self.cell, |state| {
            state.reset.get_or_insert(code);
            state.outbox.clear();
            state.dirty = true;
        });
    }

    /// Waits until the peer wants no more of this half, or the stream is reset.
    ///
    /// Never ready if the half is finished and the peer takes it all: select it against the work.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn stopped(&mut self) -> SendError {
        poll_fn(|cx| self.poll_stopped(cx)).await
    }

    /// As [`SendStream::stopped`], for a hand-written future. Shares its waker with
    /// [`SendStream::poll_room`]: poll both from the same task.
    pub fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<SendError> {
        let mut state = self.cell.lock();
        if let Some(error) = state.send_end {
            return Poll::Ready(error);
        }
        State::park(&mut state.send_waker, cx.waker());
        Poll::Pending
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        let unfinished = !self.ended;
        self.shared.agenda.change(&self.cell, |state| {
            state.send_dropped = true;
            state.dirty = true;
            if unfinished && state.send_end.is_none() {
                state.reset.get_or_insert(StreamCode::DROPPED);
            }
        });
    }
}
