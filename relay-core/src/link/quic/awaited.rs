//! Streams that were reset: asking when the acceptor has let go of them, and telling.
//!
//! QUIC ends a half that was stopped by itself, and tells neither side when the other's work has
//! ended. So an opener that keeps something for as long asks by a word on the control stream, and
//! the acceptor answers by another once the stream is over and its handles are dropped.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use tokio::time::Instant;

use crate::mux::IdHasher;

use super::stream::Stream;
use super::{LinkError, QuicDriver, StreamId};

/// Streams of the peer that it has asked about and that are not over.
pub(super) type Asked = HashSet<StreamId, BuildHasherDefault<IdHasher>>;

/// The number of an exchange among those of its opener, from 1.
fn number_of(id: StreamId) -> u64 {
    u64::from(id.number()).div_ceil(2)
}

impl QuicDriver {
    /// A stream of this side is over here. If it was given up, and something is kept for it, the
    /// peer is asked to tell when it has let go of it.
    pub(super) fn await_release(&mut self, stream: &Stream) {
        let Some(kept) = stream.take_kept() else { return };
        let Some(control) = &mut self.control else { return };
        if let Err(why) = control.ask(number_of(stream.id)) {
            return self.fail(why);
        }
        self.awaited.insert(stream.id, kept, Instant::now().into_std());
        self.await_overdue();
        self.wakers_of.control.wake_by_ref();
    }

    /// A stream of the peer is over, and nobody holds it: the peer is told, if it has asked.
    pub(super) fn tell_released(&mut self, id: StreamId) {
        if self.asked.remove(&id)
            && let Err(why) = self.say_released(id)
        {
            self.fail(why);
        }
    }

    fn say_released(&mut self, id: StreamId) -> Result<(), LinkError> {
        let Some(control) = &mut self.control else { return Ok(()) };
        control.say_released(number_of(id))?;
        self.wakers_of.control.wake_by_ref();
        Ok(())
    }

    /// The peer asks about one of its exchanges, which may be over, open, or on its way: the word
    /// may have overtaken it.
    pub(super) fn on_ask(&mut self, exchange: u64) -> Result<(), LinkError> {
        let unknown = LinkError::Control { what: "a question about a stream that cannot be" };
        let newest = self.accepted + u64::from(self.config.accept_streams_max);
        let index = exchange.checked_sub(1).filter(|_| exchange <= newest);
        let index = index.and_then(|index| u32::try_from(index).ok());
        let Some(id) = index.and_then(|index| StreamId::nth(self.side.peer(), index)) else {
            return Err(unknown);
        };
        // One for each exchange, or those that are over could be asked about for ever.
        self.asks += 1;
        if self.asks > newest {
            return Err(LinkError::Control { what: "more questions than streams" });
        }
        if exchange <= self.accepted && !self.streams.contains_key(&id) {
            return self.say_released(id);
        }
        if !self.asked.insert(id) {
            return Err(LinkError::Control { what: "the same question twice" });
        }
        Ok(())
    }

    /// The peer has let go of one of this side's exchanges.
    pub(super) fn on_released(&mut self, exchange: u64) -> Result<(), LinkError> {
        let index = exchange.checked_sub(1).and_then(|index| u32::try_from(index).ok());
        let id = index.and_then(|index| StreamId::nth(self.side, index));
        let was_awaited = id.is_some_and(|id| self.awaited.remove(id));
        self.wakers_of.open.wake_by_ref();
        if !was_awaited {
            return Err(LinkError::Control { what: "an answer that nobody asked for" });
        }
        Ok(())
    }
}
