//! The driver: the one task that owns a link's pipe and engine.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use crate::mux::{
    BATCH_SLICES, Batch, Event, IdMap, LinkError, Mux, OpenError, SendError, StreamCode, StreamId,
};

use super::cell::{Cell, In, Out, RecvEnd, State};
use super::handle::{Incoming, LinkStats};
use super::recv::{Head, RecvError, RecvStream};
use super::send::SendStream;
use super::shared::{Shared, Stage};

/// Octets of a read buffer. Large enough for four full frames a call; small enough that a chunk
/// kept by a consumer pins little.
const READ_BUFFER: usize = 64 << 10;

/// A new read buffer is begun when less than this is left in the old one.
const READ_SPACE_MIN: usize = 32 << 10;

/// Rounds of reading and writing in one poll before other tasks get a turn.
const ROUNDS_PER_POLL: usize = 16;

/// Time for the GOAWAY that ends a link to leave.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(2);

/// Moves octets between a pipe and the engine, and everything else between the engine and the
/// handles. A future that ends when the link does, with the reason.
///
/// Dropping it cuts the link: streams see [`RecvError::LinkLost`].
#[must_use = "a link does nothing until its driver is polled"]
#[derive(Debug)]
pub struct Driver<P> {
    pipe: P,
    mux: Mux,
    shared: Arc<Shared>,
    incoming: Option<mpsc::Sender<Incoming>>,
    cells: IdMap<Arc<Cell>>,
    input: BytesMut,
    batch: Batch,
    flush_due: bool,
    /// Permits handed out so far, see [`Mux::openable_total`].
    permits: u64,
    timer: Option<Pin<Box<Sleep>>>,
    timer_at: Option<Instant>,
    /// Once the link is to end: why, and until when its last octets may take.
    ending: Option<LinkError>,
    abandoned: bool,
    sweeping: Vec<Arc<Cell>>,
    wakers: Vec<Waker>,
    write_calls: u64,
    read_calls: u64,
    /// The time of this round: the clock is read once.
    now: Instant,
    /// Octets read in this poll.
    read_octets: usize,
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
            input: BytesMut::new(),
            batch: Batch::new(),
            flush_due: false,
            permits: 0,
            timer: None,
            timer_at: None,
            ending: None,
            abandoned: false,
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

    /// Takes up what handles have left in their cells, and orders for the link.
    fn sweep(&mut self) -> Progress {
        let orders = {
            let mut agenda = self.shared.agenda();
            std::mem::swap(&mut agenda.dirty, &mut self.sweeping);
            std::mem::take(&mut agenda.ordered).then_some(agenda.orders)
        };
        let mut swept = std::mem::take(&mut self.sweeping);
        let progress = !swept.is_empty() || orders.is_some();
        for cell in swept.drain(..) {
            self.take_up(&cell);
        }
        self.sweeping = swept;
        if let Some(orders) = orders {
            if orders.drain && !self.mux.is_draining() {
                self.mux.drain(self.now);
                self.set_draining();
            }
            if orders.close {
                self.mux.close();
            }
            self.abandoned = orders.abandoned;
            if orders.abandoned {
                self.shared.drop_waiting();
            }
        }
        if self.abandoned && self.cells.is_empty() {
            self.mux.close();
        }
        progress
    }

    /// Takes up one cell.
    fn take_up(&mut self, cell: &Arc<Cell>) {
        let mut state = cell.lock();
        state.dirty = false;
        if let Some((head, end)) = state.opening.take() {
            match self.mux.open(head, end) {
                Ok(id) => {
                    state.id = Some(id);
                    self.cells.insert(id, Arc::clone(cell));
                }
                Err(error) => {
                    if matches!(error, OpenError::HeadTooLong { .. }) {
                        // The link goes on, and the stream is still free.
                        self.shared.openable.add_permits(1);
                    }
                    fail_unopened(&mut state, error, &mut self.wakers);
                    return;
                }
            }
        }
        let Some(id) = state.id else { return };
        self.write_out(id, &mut state);
        let taken = std::mem::take(&mut state.taken);
        if taken > 0 {
            self.mux.take(id, taken);
        }
        state.taken_report = self.mux.grant_step(id);
        if let Some(code) = state.reset.take() {
            self.mux.reset(id, code);
            let error = SendError::Reset(code);
            state.send_end.get_or_insert(error);
            state.recv_end.get_or_insert(RecvEnd::Failed(RecvError::Reset(code)));
            self.wakers.extend(state.recv_waker.take());
            self.wakers.extend(state.send_waker.take());
        }
        if state.recv_dropped {
            // Now, not once the outbox is empty: a peer that reads nothing must still hear it.
            self.mux.stop(id, state.stop.take().unwrap_or(StreamCode::DROPPED));
        }
        if state.send_dropped && state.recv_dropped && state.outbox.is_empty() {
            drop(state);
            self.mux.release(id);
            self.cells.remove(&id);
        }
    }

    /// Moves what the cell has to send into the engine, as far as there is room.
    fn write_out(&mut self, id: StreamId, state: &mut State) {
        let mut outcome = Ok(());
        while let Some(out) = state.outbox.pop_front() {
            outcome = match out {
                Out::Head(block, kind) => self.mux.send_head(id, block, kind),
                Out::Trailers(block) => self.mux.send_trailers(id, block),
                Out::Finish => self.mux.finish(id),
                Out::Data(mut payload) => {
                    let outcome = self.mux.write(id, &mut payload);
                    if outcome.is_ok() && !payload.is_empty() {
                        // The engine tells when there is room for the rest.
                        state.outbox.push_front(Out::Data(payload));
                        state.room = 0;
                        return;
                    }
                    outcome
                }
            };
            if outcome.is_err() {
                break;
            }
        }
        if let Err(error) = outcome {
            state.outbox.clear();
            state.send_end.get_or_insert(error);
            if !matches!(error, SendError::Stopped(_) | SendError::Reset(_)) {
                // A mistake in the caller, e.g. a head that is too long: the half cannot be
                // completed, and the peer must not wait for it.
                state.reset.get_or_insert(StreamCode::DROPPED);
            }
            self.wakers.extend(state.send_waker.take());
            return;
        }
        state.room = self.mux.room(id);
        if state.room > 0 {
            self.wakers.extend(state.send_waker.take());
        } else {
            self.mux.want_room(id);
        }
    }

    /// Reads once and has the engine judge what came.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.mux.closed().is_some() {
            return false;
        }
        if self.input.capacity() - self.input.len() < READ_SPACE_MIN {
            self.input.reserve(READ_BUFFER);
        }
        match poll_read_buf(Pin::new(&mut self.pipe), cx, &mut self.input) {
            Poll::Pending => false,
            Poll::Ready(Ok(0)) => {
                self.mux.handle_lost("closed without goodbye");
                true
            }
            Poll::Ready(Err(error)) => {
                self.mux.handle_lost(&error.to_string());
                true
            }
            Poll::Ready(Ok(octets)) => {
                self.read_calls += 1;
                self.read_octets += octets;
                // An error is kept by the engine, and ends the link once its GOAWAY has left.
                let _ = self.mux.handle_input(self.now, &mut self.input);
                true
            }
        }
    }

    /// Writes until nothing is ready, the pipe is full, or one batch is through.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.mux.is_lost() {
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
                    self.batch.advance(self.batch.len());
                    self.mux.handle_lost("the pipe takes no more octets");
                    return true;
                }
                Poll::Ready(Err(error)) => {
                    self.batch.advance(self.batch.len());
                    self.mux.handle_lost(&error.to_string());
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
                Poll::Ready(Err(error)) => self.mux.handle_lost(&error.to_string()),
            }
        }
        false
    }

    fn poll_write_batch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let used = self.batch.io_slices(&mut slices);
        self.write_calls += 1;
        Pin::new(&mut self.pipe).poll_write_vectored(cx, &slices[..used])
    }

    /// Hands what happened in the engine to the handles.
    fn dispatch(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Established(hello) => {
                self.shared.initial_room.store(self.mux.initial_room(), Ordering::Release);
                self.shared.stage.send_replace(Stage::Up(Arc::new(*hello)));
                self.add_permits();
                if self.mux.is_draining() {
                    // Ordered before the hello, and begun with it.
                    self.set_draining();
                }
            }
            Event::Openable => self.add_permits(),
            Event::Opened { id, head, end } => self.on_opened(id, head, end),
            Event::Head { id, block, interim, end } => {
                self.deliver(id, Some(In::Head(Head { block, interim, end })), end);
            }
            Event::Data { id, payload, end } => {
                let payload = (!payload.is_empty()).then_some(In::Data(payload));
                self.deliver(id, payload, end);
            }
            Event::Trailers { id, block } => self.deliver(id, Some(In::Trailers(block)), true),
            Event::Reset { id, code } => {
                self.fail(id, SendError::Reset(code), Some(RecvError::Reset(code)));
            }
            Event::Stopped { id, code } => self.fail(id, SendError::Stopped(code), None),
            Event::Writable { id } | Event::Unread { id } => {
                if let Some(cell) = self.cells.get(&id).cloned() {
                    self.take_up(&cell);
                }
            }
            Event::GoingAway { .. } => self.set_draining(),
            Event::Drained => {
                if let Some(hello) = self.mux.peer() {
                    self.shared.stage.send_replace(Stage::Drained(Arc::new(hello.clone())));
                }
            }
            Event::RoundTrip(_) => {}
        }
    }

    fn add_permits(&mut self) {
        let total = self.mux.openable_total();
        let more = usize::try_from(total - self.permits).unwrap_or(usize::MAX);
        self.shared.openable.add_permits(more);
        self.permits = total;
    }

    fn set_draining(&mut self) {
        self.shared.refuse_opening();
        self.shared.stage.send_if_modified(|stage| {
            // A peer that begins to drain after this side has drained changes nothing: whoever
            // waits for `Drained` must find it.
            let Stage::Up(hello) = stage else { return false };
            *stage = Stage::Draining(Arc::clone(hello));
            true
        });
    }

    fn on_opened(&mut self, id: StreamId, head: bytes::Bytes, end: bool) {
        let state = State {
            id: Some(id),
            room: self.mux.room(id),
            taken_report: self.mux.grant_step(id),
            recv_end: end.then_some(RecvEnd::Finished),
            ..State::default()
        };
        let cell = Cell::new(state);
        self.cells.insert(id, Arc::clone(&cell));
        let send = SendStream::new(Arc::clone(&cell), Arc::clone(&self.shared), false);
        let recv = RecvStream::new(cell, Arc::clone(&self.shared));
        let incoming = Incoming { id, head, send, recv };
        // The channel has a place for every stream the peer may open; if nobody accepts any more,
        // dropping the handles resets the stream.
        if let Some(acceptor) = &self.incoming {
            let _ = acceptor.try_send(incoming);
        }
    }

    fn deliver(&mut self, id: StreamId, item: Option<In>, end: bool) {
        let Some(cell) = self.cells.get(&id) else { return };
        let mut state = cell.lock();
        if let Some(item) = item
            && !state.recv_dropped
        {
            state.put_in(item);
        }
        if end {
            state.recv_end.get_or_insert(RecvEnd::Finished);
        }
        self.wakers.extend(state.recv_waker.take());
    }

    fn fail(&mut self, id: StreamId, send: SendError, recv: Option<RecvError>) {
        let Some(cell) = self.cells.get(&id) else { return };
        let mut state = cell.lock();
        state.outbox.clear();
        state.send_end.get_or_insert(send);
        self.wakers.extend(state.send_waker.take());
        if let Some(error) = recv {
            state.recv_end.get_or_insert(RecvEnd::Failed(error));
            self.wakers.extend(state.recv_waker.take());
        }
    }

    fn wake_all(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Progress {
        let goodbye = self.ending.is_some();
        let due = if goodbye { self.timer_at } else { self.mux.poll_timeout() };
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
        } else {
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

    /// Leaves the waker, unless something came up since the last sweep.
    fn park(&mut self, cx: &Context<'_>) -> bool {
        let mut agenda = self.shared.agenda();
        if !agenda.dirty.is_empty() || agenda.ordered {
            return false;
        }
        State::park(&mut agenda.driver, cx.waker());
        true
    }
}

/// The runtime's clock, so that tests can pause it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// An opening that the engine refused although there was a permit: the link has begun to end.
fn fail_unopened(state: &mut State, error: OpenError, wakers: &mut Vec<Waker>) {
    // Nothing was sent, so it may be sent again.
    let code = match error {
        OpenError::HeadTooLong { .. } => StreamCode::DROPPED,
        OpenError::NotUp | OpenError::GoingAway | OpenError::NoStreamFree => StreamCode::REFUSED,
    };
    state.outbox.clear();
    state.send_end.get_or_insert(SendError::Reset(code));
    state.recv_end.get_or_insert(RecvEnd::Failed(RecvError::Reset(code)));
    wakers.extend(state.send_waker.take());
    wakers.extend(state.recv_waker.take());
}

impl<P: AsyncRead + AsyncWrite + Unpin> Future for Driver<P> {
    type Output = LinkError;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LinkError> {
        let this = self.get_mut();
        this.read_octets = 0;
        // Consumers get a turn after each buffer: they free it while it is warm, and it is used
        // again instead of a fresh one.
        for _ in 0..ROUNDS_PER_POLL {
            if this.read_octets >= READ_BUFFER {
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
                this.publish_stats();
                // Best effort: the peer has the GOAWAY, or is gone.
                let _ = Pin::new(&mut this.pipe).poll_shutdown(cx);
                return Poll::Ready(error);
            }
            if !progress && !timed && this.park(cx) {
                this.publish_stats();
                return Poll::Pending;
            }
        }
        this.publish_stats();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P> Drop for Driver<P> {
    fn drop(&mut self) {
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
        for cell in self.shared.end_sweeps() {
            cell.lock().cut(&mut self.wakers);
        }
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}
