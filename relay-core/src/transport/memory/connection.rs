//! One connection: two ends, and a way in each direction.

use std::io;

use fastrand::Rng;
use tokio::time::Instant;

use super::faults::PlannedFault;
use super::way::{Ending, Held, Way};

/// A connection's number: dials are counted from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub(super) u64);

/// A direction of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the side that dialled.
    FromDialer,
    /// To it.
    ToDialer,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::FromDialer, Self::ToDialer];

    pub(super) fn other(self) -> Self {
        match self {
            Self::FromDialer => Self::ToDialer,
            Self::ToDialer => Self::FromDialer,
        }
    }
}

/// One end, as the direction in which it writes.
pub(super) type End = Direction;

/// Whether anybody reads what an end writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reader {
    There,
    Gone,
}

/// What is known at one end.
#[derive(Clone, Copy, Debug, Default)]
struct EndState {
    /// The connection is reset, as far as this end knows.
    is_reset: bool,
    /// Nobody holds this end any more.
    is_gone: bool,
    /// When this end learns that what it writes reaches nobody: a round trip after it wrote it.
    refused_at: Option<Instant>,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Who dialled, and who listens.
    pub(super) hosts: [String; 2],
    ways: [Way; 2],
    ends: [EndState; 2],
}

impl Connection {
    pub(super) fn new(hosts: [String; 2], ways: [Way; 2]) -> Self {
        Self { hosts, ways, ends: [EndState::default(); 2] }
    }

    pub(super) fn way(&mut self, direction: Direction) -> &mut Way {
        &mut self.ways[direction as usize]
    }

    pub(super) fn octets_read(&self) -> [u64; 2] {
        [self.ways[0].read, self.ways[1].read]
    }

    pub(super) fn octets_written(&self) -> [u64; 2] {
        [self.ways[0].accepted, self.ways[1].accepted]
    }

    pub(super) fn kept(&self) -> [Vec<u8>; 2] {
        [self.ways[0].kept.clone(), self.ways[1].kept.clone()]
    }

    pub(super) fn touches(&self, host: &str) -> bool {
        self.hosts.iter().any(|end| end == host)
    }

    pub(super) fn joins(&self, one: &str, other: &str) -> bool {
        self.touches(one) && self.touches(other)
    }

    /// Whether `end` may write, and whether anybody is there to read it: the connection stands, as
    /// far as it knows. Octets that reach nobody are answered by a reset, a round trip later.
    pub(super) fn check_write(
        &mut self,
        end: End,
        now: Instant,
        rng: &mut Rng,
    ) -> io::Result<Reader> {
        self.check(end)?;
        if self.way(end).is_ending() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let is_heard = self.ways.iter().all(|way| !way.is_held());
        if !self.ends[end.other() as usize].is_gone || !is_heard {
            return Ok(Reader::There);
        }
        let round_trip = self.ways[0].travel.latency(rng) + self.ways[1].travel.latency(rng);
        let refused_at = *self.ends[end as usize].refused_at.get_or_insert(now + round_trip);
        if refused_at <= now { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(Reader::Gone) }
    }

    /// Whether the connection stands as far as `end` knows.
    pub(super) fn check(&self, end: End) -> io::Result<()> {
        if self.ends[end as usize].is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    /// Nobody holds `end` any more. Unread octets make it a reset, as they do over TCP.
    pub(super) fn leave(&mut self, end: End, now: Instant, rng: &mut Rng) {
        let unread = self.way(end.other()).waiting() > 0;
        let ending = if unread { Ending::Reset } else { Ending::Finished };
        self.way(end).end(ending, now, rng);
        self.ends[end as usize].is_gone = true;
        self.way(end.other()).lose();
        self.way(end.other()).wake_both();
    }

    pub(super) fn is_left(&self) -> bool {
        self.ends.iter().all(|end| end.is_gone)
    }

    /// Notes what was written and will not be acknowledged: either direction may be the dead one.
    pub(super) fn note_unacknowledged(&mut self, now: Instant) {
        let is_held = self.ways.iter().any(Way::is_held);
        for direction in Direction::BOTH {
            let way = self.way(direction);
            if !is_held {
                way.unacknowledged_since = None;
            } else if way.waiting() > 0 && way.unacknowledged_since.is_none() {
                way.unacknowledged_since = Some(now);
                // Who reads at the sender's end has a deadline from now on.
                self.way(direction.other()).wake_both();
            }
        }
    }

    /// When `end` gives the connection up, unless something is acknowledged before.
    pub(super) fn given_up_at(&self, end: End) -> Option<Instant> {
        self.ways[end as usize].given_up_at()
    }

    /// Its hosts do not hear each other.
    pub(super) fn hold_apart(&mut self) {
        self.ways.iter_mut().for_each(|way| way.hold(Held::Apart));
    }

    /// Lets go of what was held back in either direction.
    pub(super) fn release(&mut self, why: Held) {
        self.ways.iter_mut().for_each(|way| way.release(why));
        if !self.ways.iter().any(Way::is_held) {
            self.ways.iter_mut().for_each(|way| way.unacknowledged_since = None);
        }
    }

    /// Nothing happens at an octet that was not reached yet.
    pub(super) fn forget_plans(&mut self) {
        self.ways.iter_mut().for_each(Way::forget_plan);
    }

    /// Both ends are told at once; what was on its way is lost.
    pub(super) fn cut(&mut self) {
        for end in &mut self.ends {
            end.is_reset = true;
        }
        for way in &mut self.ways {
            way.lose();
            way.wake_both();
        }
    }

    /// `end` is told that the connection is reset; what was on its way to it is lost.
    pub(super) fn cut_at(&mut self, end: End) {
        self.ends[end as usize].is_reset = true;
        self.way(end.other()).lose();
        self.ways.iter_mut().for_each(Way::wake_both);
    }

    /// The fault that was planned for `direction` happens behind what was written.
    pub(super) fn strike(
        &mut self,
        direction: Direction,
        fault: PlannedFault,
        now: Instant,
        rng: &mut Rng,
    ) {
        match fault {
            PlannedFault::Cut => {
                // What came before it arrives, and then the reset.
                self.way(direction).end(Ending::Reset, now, rng);
                self.cut_at(direction);
            }
            PlannedFault::Hold => self.way(direction).hold(Held::Alone),
            PlannedFault::HoldBoth => {
                self.ways.iter_mut().for_each(|way| way.hold(Held::Alone));
            }
        }
    }

    /// The machine of `end` is gone, and nobody tells the other end.
    pub(super) fn vanish(&mut self, end: End, now: Instant, rng: &mut Rng) {
        self.ends[end as usize].is_reset = true;
        self.hold_apart();
        // What is told once the machine is back.
        let way = self.way(end);
        way.lose();
        way.end(Ending::Reset, now, rng);
        self.ways.iter_mut().for_each(Way::wake_both);
    }
}
