//! From the engine to the handles: what arrived, and what became of their streams and the link.

use std::sync::Arc;

use bytes::Bytes;

use crate::mux::{Event, SendError, StreamId};

use super::super::cell::{Cell, In, RecvEnd, State};
use super::super::handle::Incoming;
use super::super::recv::{Head, RecvError, RecvStream};
use super::super::send::SendStream;
use super::super::shared::Stage;
use super::super::sync::Ordering;
use super::Driver;

impl<P> Driver<P> {
    /// Hands what happened in the engine to the handles.
    pub(super) fn dispatch(&mut self) {
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
                if self.mux.is_draining() || self.mute.is_some() {
                    // Ordered, or the pipe mute, before the hello; begun with it.
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
                    self.take_up(&cell, cell.lock());
                }
            }
            Event::GoingAway { .. } => self.set_draining(),
            Event::Drained => {
                if let Some(hello) = self.mux.peer() {
                    self.shared.stage.send_replace(Stage::Drained(Arc::new(hello.clone())));
                }
            }
            Event::Forgotten { id } => {
                self.lingering.remove(id);
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

    pub(super) fn set_draining(&mut self) {
        self.shared.refuse_opening();
        self.shared.stage.send_if_modified(|stage| {
            // A peer that begins to drain after this side has drained changes nothing: whoever
            // waits for `Drained` must find it.
            let Stage::Up(hello) = stage else { return false };
            *stage = Stage::Draining(Arc::clone(hello));
            true
        });
    }

    fn on_opened(&mut self, id: StreamId, head: Bytes, end: bool) {
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
            self.buffers.note(id, &item);
            state.put_in(item);
        }
        if end {
            state.recv_end.get_or_insert(RecvEnd::Finished);
        }
        self.wakers.extend(state.recv_waker.take());
    }

    fn fail(&mut self, id: StreamId, send: SendError, recv: Option<RecvError>) {
        let Some(cell) = self.cells.get(&id).cloned() else { return };
        let mut state = cell.lock();
        state.end_send(send, &mut self.wakers);
        if let Some(error) = recv {
            state.end_recv(error, &mut self.wakers);
        }
        if state.is_unheld() {
            // Only what waited in the outbox held the stream, and no event tells of room any more.
            self.take_up(&cell, state);
        }
    }
}
