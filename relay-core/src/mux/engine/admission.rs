//! How many streams may be opened, by either side: credit, and the memory behind it.

use super::{Mux, Phase};
use crate::mux::event::Event;

impl Mux {
    /// Streams this side may have opened by now, counted from the beginning. Only ever rises.
    pub fn openable_total(&self) -> u64 {
        let local = self.opened_over + u64::from(self.own_floors.streams());
        self.openable_by_peer.min(local)
    }

    /// Streams that the peer may have opened by now, counted from the beginning.
    pub(super) fn acceptable_total(&self) -> u64 {
        self.accepted_over + u64::from(self.peer_floors.streams())
    }

    /// Counts the end of a stream, after which another may be opened.
    pub(super) fn return_stream_credit(&mut self, is_ours: bool) {
        let is_open = matches!(self.phase, Phase::Open);
        if is_ours {
            let before = self.openable_total();
            self.opened_over += 1;
            self.own_floors.shrink(u64::from(self.opened) - self.opened_over);
            if is_open && self.openable_total() > before {
                self.events.push_back(Event::Openable);
            }
        } else {
            self.accepted_over += 1;
            self.peer_floors.shrink(u64::from(self.accepted) - self.accepted_over);
            if is_open {
                self.announce_streams();
            }
        }
    }

    /// Has STREAMS written once what is to be announced is a quarter of what the peer has left:
    /// rare while it has plenty, at once when it has none.
    pub(super) fn announce_streams(&mut self) {
        let left = self.granted - u64::from(self.accepted);
        let more = self.acceptable_total() - self.granted;
        if more * 4 >= left {
            self.slots.streams = more > 0;
        }
    }

    /// Leases more floors if either side comes to need them.
    ///
    /// Tried as streams are opened, and again with each PING and PONG: what other links give back
    /// is not announced, and a link on which something always arrives has no keep-alive.
    pub(super) fn lease_floors(&mut self) {
        if self.peer_floors.grow(u64::from(self.accepted) - self.accepted_over) {
            self.announce_streams();
        }
        let before = self.openable_total();
        let grown = self.own_floors.grow(u64::from(self.opened) - self.opened_over);
        if grown && self.openable_total() > before {
            self.events.push_back(Event::Openable);
        }
    }
}
