//! Between the pipe and the engine: reading and writing, each on its own.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use crate::mux::{BATCH_SLICES, LinkError};

use super::{Driver, LAST_WORDS, Mute, Progress};

/// Octets of a read buffer while reads do not fill it: what they bring is four full frames at most.
pub(super) const READ_BUFFER_MIN: usize = 64 << 10;

/// Octets of a read buffer on a link that is busy with bulk.
pub(super) const READ_BUFFER_MAX: usize = 256 << 10;

/// A new read buffer is begun when less than this is left in the old one.
const READ_SPACE_MIN: usize = 32 << 10;

impl<P: AsyncRead + AsyncWrite + Unpin> Driver<P> {
    /// Reads once and has the engine judge what came.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.mux.closed().is_some() {
            return false;
        }
        if self.input.capacity() - self.input.len() < READ_SPACE_MIN {
            self.renew_buffer();
        }
        let space = self.input.capacity() - self.input.len();
        match poll_read_buf(Pin::new(&mut self.pipe), cx, &mut self.input) {
            Poll::Pending => false,
            Poll::Ready(Ok(0)) => {
                self.lose("closed without goodbye");
                true
            }
            Poll::Ready(Err(error)) => {
                self.lose(&error.to_string());
                true
            }
            Poll::Ready(Ok(octets)) => {
                self.read_calls += 1;
                self.read_octets += octets;
                self.size_buffer(octets, space);
                // An error is kept by the engine, and ends the link once its GOAWAY has left.
                let _ = self.mux.handle_input(self.now, &mut self.input);
                true
            }
        }
    }

    /// Whether the pipe may be dropped once the goodbye is written. A system that has octets left
    /// which nobody has read resets the connection, and the peer may lose with that what it has not
    /// read yet: the words that say what its administrator has to change. So what still comes is
    /// thrown away until the peer ends the pipe, or the time for goodbyes is over.
    pub(super) fn is_heard_out(&mut self, why: &LinkError, cx: &mut Context<'_>) -> bool {
        if !matches!(why, LinkError::RefusedHere { .. }) {
            return true;
        }
        if self.mux.is_lost() {
            return true;
        }
        self.input.clear();
        if self.input.capacity() < READ_SPACE_MIN {
            self.renew_buffer();
        }
        match poll_read_buf(Pin::new(&mut self.pipe), cx, &mut self.input) {
            Poll::Pending => false,
            Poll::Ready(Ok(0) | Err(_)) => true,
            Poll::Ready(Ok(_)) => {
                // Another turn, behind those of other tasks.
                cx.waker().wake_by_ref();
                false
            }
        }
    }

    /// Has the next buffer be larger when a read has filled what there was, and smaller again when
    /// reads bring little.
    fn size_buffer(&mut self, octets: usize, space: usize) {
        if octets == space {
            self.read_buffer = (self.read_buffer * 2).min(READ_BUFFER_MAX);
        } else if octets < READ_BUFFER_MIN / 4 {
            self.read_buffer = READ_BUFFER_MIN;
        }
    }

    /// Writes until nothing is ready, the pipe is full, or one batch is through.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.mux.is_lost() || self.mute.is_some() {
            return false;
        }
        if self.batch.is_empty() {
            self.mux.poll_transmit(self.now, &mut self.batch);
        }
        let mut progress = false;
        while !self.batch.is_empty() {
            match self.poll_write_batch(cx) {
                Poll::Pending => return progress,
                Poll::Ready(Ok(0)) => {
                    self.fall_mute("the pipe takes no more octets");
                    return true;
                }
                Poll::Ready(Err(error)) => {
                    self.fall_mute(&error.to_string());
                    return true;
                }
                Poll::Ready(Ok(written)) => {
                    self.batch.advance(written);
                    self.flush_due = true;
                    progress = true;
                }
            }
        }
        if progress {
            // More may be ready behind this batch: flush only once nothing is.
            return true;
        }
        if self.flush_due {
            match Pin::new(&mut self.pipe).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.flush_due = false,
                Poll::Ready(Err(error)) => {
                    self.fall_mute(&error.to_string());
                    return true;
                }
            }
        }
        false
    }

    /// The pipe takes no more octets. What it still has to give is read: answers that have arrived,
    /// and why the peer ends the link.
    fn fall_mute(&mut self, cause: &str) {
        self.batch.advance(self.batch.len());
        self.flush_due = false;
        if self.mux.closed().is_some() {
            // Only the goodbye is lost, and nothing is read behind it.
            return self.mux.handle_lost(cause);
        }
        self.mute = Some(Mute { cause: cause.into(), until: self.now + LAST_WORDS });
        self.mux.handle_write_lost();
        if self.mux.peer().is_some() {
            self.set_draining();
        }
        // Work whose answer nobody can hear is done in vain.
        for (id, cell) in &self.cells {
            if id.opener() != self.mux.side() {
                cell.lock().cut(&mut self.wakers);
            }
        }
    }

    /// The pipe has ended: because of `cause`, unless it has taken nothing more before.
    pub(super) fn lose(&mut self, cause: &str) {
        let earlier = self.mute.as_ref().map(|mute| &*mute.cause);
        self.mux.handle_lost(earlier.unwrap_or(cause));
    }

    fn poll_write_batch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let used = self.batch.io_slices(&mut slices);
        self.write_calls += 1;
        Pin::new(&mut self.pipe).poll_write_vectored(cx, &slices[..used])
    }
}
