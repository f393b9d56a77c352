//! From the handles to the engine: what they have left in their cells, and orders for the link.

use std::sync::Arc;

use crate::mux::{OpenError, SendError, StreamCode, StreamId};

use super::super::cell::{Cell, Out, State};
use super::super::sync::MutexGuard;
use super::{Driver, Progress};

impl<P> Driver<P> {
    /// Takes up what handles have left in their cells, and orders for the link.
    pub(super) fn sweep(&mut self) -> Progress {
        let mut swept = std::mem::take(&mut self.sweeping);
        let orders = self.shared.agenda.take(&mut swept);
        let progress = !swept.is_empty() || orders.is_some();
        for cell in swept.drain(..) {
            self.take_up(&cell, cell.lock_clean());
        }
        self.sweeping = swept;
        if let Some(orders) = orders {
            if orders.drain && !self.mux.is_draining() {
                self.mux.drain(self.now);
                self.set_draining();
            }
            if let Some(why) = &orders.refuse {
                self.mux.refuse_link(why);
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

    /// Takes up what one cell holds, which `state` has locked.
    pub(super) fn take_up(&mut self, cell: &Arc<Cell>, mut state: MutexGuard<'_, State>) {
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
                    state.end_reset(unopened_code(error), &mut self.wakers);
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
            state.end_reset(code, &mut self.wakers);
        }
        if state.recv_dropped {
            // Now, not once the outbox is empty: a peer that reads nothing must still hear it.
            self.mux.stop(id, state.stop.take().unwrap_or(StreamCode::DROPPED));
        }
        if state.is_unheld() && state.outbox.is_empty() {
            let kept = state.kept.take();
            drop(state);
            let is_forgotten = self.mux.release(id);
            self.cells.remove(&id);
            // The engine tells of streams of this side only, and while the link stands.
            let is_ours = id.opener() == self.mux.side();
            let is_told = is_ours && !is_forgotten && self.mux.closed().is_none();
            if let Some(kept) = kept.filter(|_| is_told) {
                self.lingering.insert(id, kept, self.now);
            }
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
            state.end_send(error, &mut self.wakers);
            if !matches!(error, SendError::Stopped(_) | SendError::Reset(_)) {
                // A mistake in the caller, e.g. a head that is too long: the half cannot be
                // completed, and the peer must not wait for it.
                state.reset.get_or_insert(StreamCode::DROPPED);
            }
            return;
        }
        state.room = self.mux.room(id);
        if state.room > 0 {
            self.wakers.extend(state.send_waker.take());
        } else {
            self.mux.want_room(id);
        }
    }
}

/// What handles are told of an opening that the engine refused although there was a permit.
fn unopened_code(error: OpenError) -> StreamCode {
    match error {
        OpenError::HeadTooLong { .. } => StreamCode::DROPPED,
        // The link has begun to end. Nothing was sent, so it may be sent again.
        OpenError::NotUp | OpenError::GoingAway | OpenError::NoStreamFree => StreamCode::REFUSED,
    }
}
