//! From the handles: what they have left in their cells, and orders for the link.

use std::sync::Arc;

use super::super::cell::Cell;
use super::super::shared::Stage;
use super::stream::Stream;
use super::{Drain, LinkError, Progress, QuicDriver, StreamCode, StreamId, What};

impl QuicDriver {
    /// Takes up what handles have left in their cells, and orders for the link.
    pub(super) fn sweep(&mut self) -> Progress {
        let mut swept = std::mem::take(&mut self.sweeping);
        let orders = self.shared.agenda.take(&mut swept);
        let progress = !swept.is_empty() || orders.is_some();
        for cell in swept.drain(..) {
            self.take_up(&cell);
        }
        self.sweeping = swept;
        if let Some(orders) = orders {
            if orders.drain && self.drain == Drain::No {
                self.drain = Drain::Wanted;
                self.begin_drain();
            }
            if let Some(why) = orders.refuse {
                self.fail(LinkError::RefusedHere { why });
            }
            if orders.close {
                self.fail(LinkError::ClosedHere);
            }
            self.abandoned = orders.abandoned;
            if orders.abandoned {
                self.shared.drop_waiting();
            }
        }
        if self.abandoned && self.streams.is_empty() {
            self.fail(LinkError::ClosedHere);
        }
        progress
    }

    fn take_up(&mut self, cell: &Arc<Cell>) {
        let mut state = cell.lock_clean();
        if let Some(opening) = state.opening.take() {
            drop(state);
            return self.open(cell, opening);
        }
        let id = state.id;
        drop(state);
        if let Some(id) = id {
            self.turn(id);
        }
    }

    /// Opens a stream for a handle that had a permit.
    fn open(&mut self, cell: &Arc<Cell>, (head, end): (bytes::Bytes, bool)) {
        let head_max = self.peer.as_ref().map_or(0, |peer| peer.head_max);
        if head.len() > head_max as usize && self.peer.is_some() {
            // The link goes on, and the stream is still free.
            self.shared.openable.add_permits(1);
            return cell.lock().end_reset(StreamCode::DROPPED, &mut self.wakers);
        }
        let is_closed = self.peer_drains || self.drain != Drain::No || self.ending.is_some();
        let index = u32::try_from(self.opened).ok();
        let id = index.and_then(|index| StreamId::nth(self.side, index));
        let id = id.filter(|_| !is_closed);
        // Dropped, one that is spare would be seen by the peer as a stream without a head.
        let Some((id, halves)) = id.and_then(|id| Some((id, self.spare.pop_front()?))) else {
            // The link has begun to end. Nothing was sent, so it may be sent again.
            return cell.lock().end_reset(StreamCode::REFUSED, &mut self.wakers);
        };
        self.opened += 1;
        self.ours_open += 1;
        self.admission.note_open(self.ours_open);
        self.wakers_of.open.wake_by_ref();
        cell.lock().id = Some(id);
        let waker = self.ready.waker(What::Stream(id));
        let own_head_max = self.config.head_max;
        let mut stream = Stream::opening(id, halves, waker.clone(), Arc::clone(cell), own_head_max);
        stream.queue_opening(&mut self.desk(), head, end);
        self.streams.insert(id, (stream, waker));
        self.turn(id);
        self.note_numbers_left();
    }

    /// Numbers are never reused: a link that has used them up is to be replaced, and the one who
    /// dials may be the peer.
    fn note_numbers_left(&mut self) {
        let next = u32::try_from(self.opened).ok().and_then(|next| StreamId::nth(self.side, next));
        if next.is_none() && self.drain == Drain::No {
            self.drain = Drain::Wanted;
            self.begin_drain();
        }
    }

    /// Has the peer told that this side takes no new streams, once the hellos are through.
    pub(super) fn begin_drain(&mut self) {
        if self.drain != Drain::Wanted || self.peer.is_none() {
            return;
        }
        if let Some(control) = &mut self.control {
            control.say_drain();
            self.drain = Drain::Said;
            self.wakers_of.control.wake_by_ref();
            self.set_draining();
        }
    }

    pub(super) fn set_draining(&mut self) {
        self.shared.refuse_opening();
        self.shared.stage.send_if_modified(|stage| {
            let Stage::Up(hello) = stage else { return false };
            *stage = Stage::Draining(Arc::clone(hello));
            true
        });
    }

    /// Tells the handles when every stream of a drained link has ended.
    pub(super) fn note_drained(&mut self) {
        let Drain::Last(last) = self.drain else { return };
        if self.accepted < last || !self.streams.is_empty() || self.ending.is_some() {
            return;
        }
        self.drain = Drain::Done;
        if let Some(hello) = &self.peer {
            self.shared.stage.send_replace(Stage::Drained(Arc::clone(hello)));
        }
    }
}
