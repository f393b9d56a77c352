//! Whose turn it is: two classes of streams, and deficit round robin within each.
//!
//! A stream with a head to send, or within the first [`URGENT_OCTETS`] of its half, is urgent; the
//! rest is bulk. Urgent streams go first, but while bulk waits they get at most [`URGENT_SHARE`]
//! octets for each octet of bulk, so that many short exchanges cannot starve a long one.
//! Within a class every stream sends at most one quantum a turn, and carries over what it did not
//! use: streams get equal octets, not equal frames.

use std::collections::VecDeque;

use super::frame::StreamId;
use super::stream::Stream;

/// Payload at the front of a half-stream that is urgent.
pub(super) const URGENT_OCTETS: u64 = 32 << 10;

/// Octets that urgent streams get for each octet of waiting bulk.
const URGENT_SHARE: u64 = 8;

/// Octets a stream may send in one turn: one full frame of the default size.
pub(super) const QUANTUM: u64 = 16_376;

/// Which line a stream waits in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    /// A head, or the beginning of a half.
    Urgent,
    /// Everything behind it.
    Bulk,
}

/// The streams with something to send, in turn.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    urgent: VecDeque<StreamId>,
    bulk: VecDeque<StreamId>,
    /// Octets that urgent streams have sent beyond bulk's share while bulk waited.
    ahead: u64,
}

impl Schedule {
    /// Puts a stream at the end of its line.
    pub(super) fn push(&mut self, class: Class, id: StreamId) {
        match class {
            Class::Urgent => self.urgent.push_back(id),
            Class::Bulk => self.bulk.push_back(id),
        }
    }

    /// Takes the stream whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(Class, StreamId)> {
        let bulk_is_due = self.ahead >= URGENT_SHARE * QUANTUM || self.urgent.is_empty();
        let (first, second) = if bulk_is_due {
            ((Class::Bulk, &mut self.bulk), (Class::Urgent, &mut self.urgent))
        } else {
            ((Class::Urgent, &mut self.urgent), (Class::Bulk, &mut self.bulk))
        };
        for (class, line) in [first, second] {
            if let Some(id) = line.pop_front() {
                return Some((class, id));
            }
        }
        None
    }

    /// Streams with something to send.
    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.bulk.len()
    }

    /// Accounts for what the stream that [`Schedule::pop`] gave has sent.
    pub(super) fn sent(&mut self, class: Class, octets: u64) {
        match class {
            Class::Urgent if self.bulk.is_empty() => self.ahead = 0,
            Class::Urgent => self.ahead += octets,
            Class::Bulk => self.ahead = self.ahead.saturating_sub(URGENT_SHARE * octets),
        }
    }

    /// Forgets every stream.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Stream {
    /// Which line the stream waits in now.
    pub(super) fn class(&self) -> Class {
        use super::stream::Queued;
        let is_data = matches!(self.queue.front(), Some(Queued::Data(_)));
        if is_data && self.credit.sent() >= URGENT_OCTETS { Class::Bulk } else { Class::Urgent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves `turns` turns of a full quantum with `urgent` and `bulk` streams always ready, and
    /// counts the octets of each class.
    fn share(urgent: u32, bulk: u32, turns: u32) -> (u64, u64) {
        let mut schedule = Schedule::default();
        let (mut urgent_octets, mut bulk_octets) = (0, 0);
        for id in 0..urgent {
            schedule.push(Class::Urgent, StreamId::from_wire(2 * id + 1));
        }
        for id in 0..bulk {
            schedule.push(Class::Bulk, StreamId::from_wire(2 * id + 2));
        }
        for _ in 0..turns {
            let Some((class, id)) = schedule.pop() else { break };
            match class {
                Class::Urgent => urgent_octets += QUANTUM,
                Class::Bulk => bulk_octets += QUANTUM,
            }
            schedule.sent(class, QUANTUM);
            schedule.push(class, id);
        }
        (urgent_octets, bulk_octets)
    }

    #[test]
    fn urgent_streams_get_eight_octets_for_each_octet_of_waiting_bulk() {
        let (urgent, bulk) = share(3, 3, 9_000);
        assert_eq!(urgent, 8 * bulk);
    }

    #[test]
    fn a_class_alone_gets_everything() {
        assert_eq!(share(2, 0, 100), (100 * QUANTUM, 0));
        assert_eq!(share(0, 2, 100), (0, 100 * QUANTUM));
    }

    #[test]
    fn urgent_octets_sent_while_no_bulk_waited_are_not_held_against_anybody() {
        let mut schedule = Schedule::default();
        for _ in 0..1000 {
            schedule.sent(Class::Urgent, QUANTUM);
        }
        schedule.push(Class::Bulk, StreamId::from_wire(2));
        schedule.push(Class::Urgent, StreamId::from_wire(1));
        assert_eq!(schedule.pop(), Some((Class::Urgent, StreamId::from_wire(1))));
    }

    #[test]
    fn streams_of_a_class_take_turns() {
        let mut schedule = Schedule::default();
        for id in [2, 4, 6] {
            schedule.push(Class::Bulk, StreamId::from_wire(id));
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            let (class, id) = schedule.pop().unwrap();
            order.push(id.number());
            schedule.push(class, id);
        }
        assert_eq!(order, [2, 4, 6, 2, 4, 6]);
    }
}
