//! The driver: the one task that owns a link's pipe and engine.
//!
//! `sweep` goes from the handles to the engine, `pipe` between engine and pipe, `dispatch` from the
//! engine to the handles. Here is the order in which they have their turns, and the end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::mux::{Batch, IdMap, LinkError, Mux};

use super::cell::Cell;
use super::handle::{Incoming, LinkStats};
use super::lingering::Lingering;
use super::shared::{Shared, Stage};

mod dispatch;
mod pinned;
mod pipe;
mod sweep;

use pinned::Buffers;
use pipe::{READ_BUFFER_MAX, READ_BUFFER_MIN};

/// Octets read in one poll before other tasks get a turn: they free the buffer while it is warm.
const TURN_OCTETS: usize = READ_BUFFER_MAX;

/// Rounds of reading and writing in one poll before other tasks get a turn.
const ROUNDS_PER_POLL: usize = 16;

/// Time for the GOAWAY that ends a link to leave.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(2);

/// Time for what the peer has sent to be read once the pipe takes no more octets.
///
/// Our choice: what has arrived is read at once, and what is on its way has a round trip. A request
/// that waits for an answer in vain is told that much later.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

/// Moves octets between a pipe and the engine, and everything else between the engine and the
/// handles. A future that ends when the link does, with the reason.
///
/// Dropping it cuts the link: streams see [`RecvError::LinkLost`](super::RecvError::LinkLost).
#[must_use = "a link does nothing until its driver is polled"]
#[derive(Debug)]
pub struct Driver<P> {
    pipe: P,
    mux: Mux,
    shared: Arc<Shared>,
    incoming: Option<mpsc::Sender<Incoming>>,
    cells: IdMap<Arc<Cell>>,
    /// What is kept for streams that nobody holds any more and the peer may still be at work on.
    lingering: Lingering,
    input: BytesMut,
    /// Octets that the next read buffer will have.
    read_buffer: usize,
    buffers: Buffers,
    batch: Batch,
    flush_due: bool,
    /// Permits handed out so far, see [`Mux::openable_total`].
    permits: u64,
    timer: Option<Pin<Box<Sleep>>>,
    timer_at: Option<Instant>,
    /// Once the link is to end: why, and until when its last octets may take.
    ending: Option<LinkError>,
    abandoned: bool,
    /// Once the pipe takes no more octets.
    mute: Option<Mute>,
    sweeping: Vec<Arc<Cell>>,
    wakers: Vec<Waker>,
    write_calls: u64,
    read_calls: u64,
    /// The time of this round: the clock is read once.
    now: Instant,
    /// Octets read in this poll.
    read_octets: usize,
}

/// A pipe that takes no more octets, and is still read.
#[derive(Debug)]
struct Mute {
    /// What it said.
    cause: Box<str>,
    /// When the link ends, if the pipe does not end before.
    until: Instant,
}

/// Whether a step did something, so that another round may do more.
type Progress = bool;

impl<P: AsyncRead + AsyncWrite + Unpin> Driver<P> {
    pub(super) fn new(
        pipe: P,
        mux: Mux,
        shared: Arc<Shared>,
        incoming: mpsc::Sender<Incoming>,
    ) -> Self {
        Self {
            pipe,
            mux,
            shared,
            incoming: Some(incoming),
            cells: IdMap::default(),
            lingering: Lingering::default(),
            input: BytesMut::new(),
            read_buffer: READ_BUFFER_MIN,
            buffers: Buffers::default(),
            batch: Batch::new(),
            flush_due: false,
            permits: 0,
            timer: None,
            timer_at: None,
            ending: None,
            abandoned: false,
            mute: None,
            sweeping: Vec::new(),
            wakers: Vec::new(),
            write_calls: 0,
            read_calls: 0,
            now: now(),
            read_octets: 0,
        }
    }

    fn poll_round(&mut self, cx: &mut Context<'_>) -> Progress {
        self.now = now();
        let swept = self.sweep();
        let read = self.poll_read(cx);
        self.dispatch();
        let written = self.poll_write(cx);
        self.dispatch();
        self.wake_all();
        swept || read || written
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Progress {
        let goodbye = self.ending.is_some();
        let last_words = self.mute.as_ref().map(|mute| mute.until);
        let due = if goodbye {
            self.timer_at
        } else {
            let overdue = self.lingering.due();
            self.mux.poll_timeout().into_iter().chain(last_words).chain(overdue).min()
        };
        let Some(due) = due else { return false };
        let timer =
            self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
        if self.timer_at != Some(due) {
            timer.as_mut().reset(due.into());
            self.timer_at = Some(due);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer_at = None;
        if goodbye {
            // The peer does not take the last octets.
            self.mux.handle_lost("it did not take the goodbye");
        } else if last_words.is_some_and(|until| until <= due) {
            self.lose("it takes no more octets");
        } else {
            self.lingering.drop_overdue(self.now);
            let _ = self.mux.handle_timeout(self.now);
        }
        true
    }

    /// Begins the end of the link once the engine has closed.
    fn note_closed(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let Some(error) = self.mux.closed().cloned() else { return };
        self.incoming = None;
        self.lingering.clear();
        for cell in std::mem::take(&mut self.cells).into_values() {
            cell.lock().cut(&mut self.wakers);
        }
        // The reason first: an opener that is turned away looks for it.
        self.shared.stage.send_replace(Stage::Closed(error.clone()));
        self.shared.refuse_opening();
        self.wake_all();
        self.ending = Some(error);
        self.timer_at = Some(now() + GOODBYE);
        self.timer = self.timer_at.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
    }

    /// Whether the last octets have left, or never will.
    fn has_said_goodbye(&self) -> bool {
        self.mux.is_lost() || (self.batch.is_empty() && !self.flush_due)
    }

    fn publish_stats(&self) {
        self.shared.publish_stats(LinkStats {
            mux: self.mux.stats(),
            round_trip: self.mux.round_trip(),
            write_calls: self.write_calls,
            read_calls: self.read_calls,
        });
    }
}

/// The runtime's clock, so that tests can pause it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<P: AsyncRead + AsyncWrite + Unpin> Future for Driver<P> {
    type Output = LinkError;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LinkError> {
        let this = self.get_mut();
        this.read_octets = 0;
        for _ in 0..ROUNDS_PER_POLL {
            if this.read_octets >= TURN_OCTETS {
                break;
            }
            let progress = this.poll_round(cx);
            this.note_closed();
            let timed = this.poll_timer(cx);
            if let Some(error) = &this.ending
                && this.has_said_goodbye()
                && !progress
            {
                let error = error.clone();
                // Best effort: the peer has the GOAWAY, or is gone.
                let _ = Pin::new(&mut this.pipe).poll_shutdown(cx);
                if this.is_heard_out(&error, cx) {
                    this.publish_stats();
                    this.end();
                    return Poll::Ready(error);
                }
            }
            if !progress && !timed && this.shared.agenda.park(cx.waker()) {
                this.publish_stats();
                return Poll::Pending;
            }
        }
        this.publish_stats();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P> Driver<P> {
    /// Leaves nobody waiting for what the driver will not do any more. Has no effect but once.
    fn end(&mut self) {
        self.lingering.clear();
        for cell in std::mem::take(&mut self.cells).into_values() {
            cell.lock().cut(&mut self.wakers);
        }
        // The reason first: an opener that is turned away looks for it.
        self.shared.stage.send_if_modified(|stage| {
            let open = !matches!(stage, Stage::Closed(_));
            if open {
                *stage = Stage::Closed(LinkError::Lost { cause: "its driver was dropped".into() });
            }
            open
        });
        self.shared.refuse_opening();
        for cell in self.shared.agenda.end() {
            cell.lock().cut(&mut self.wakers);
        }
        self.wake_all();
    }

    fn wake_all(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl<P> Drop for Driver<P> {
    fn drop(&mut self) {
        self.end();
    }
}
