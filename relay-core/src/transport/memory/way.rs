//! One direction of a connection: what is on its way, and what keeps it from arriving.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tokio::time::Instant;

use super::faults::{PathFault, PlannedFault};

/// How octets travel in one direction.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Travel {
    /// The least time from end to end. Default 1 ms, which is the grain of the runtime's clock.
    pub latency_min: Duration,
    /// The most; what is written at once draws in between, and never overtakes. Default 1 ms.
    pub latency_max: Duration,
    /// Octets a second at the narrowest point; `None`, the default, does not bound them.
    pub octets_per_second: Option<u64>,
    /// Octets that one read or write moves at most: each draws from 1 to this. `None`, the
    /// default, moves what there is.
    pub piece_octets_max: Option<usize>,
    /// Octets on their way or unread at most: then a write waits. Default 64 KiB.
    pub buffer_octets: usize,
    /// How long octets may stay unacknowledged before their sender gives the connection up; `None`,
    /// the default, waits for ever. The system's sockets have it as `TCP_USER_TIMEOUT`.
    pub unacknowledged_max: Option<Duration>,
    /// Whether what is written is kept, for [`MemoryNetwork::written`]. Default: no.
    ///
    /// [`MemoryNetwork::written`]: super::MemoryNetwork::written
    pub keeps_octets: bool,
}

impl Default for Travel {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_millis(1),
            latency_max: Duration::from_millis(1),
            octets_per_second: None,
            piece_octets_max: None,
            buffer_octets: 64 << 10,
            unacknowledged_max: None,
            keeps_octets: false,
        }
    }
}

impl Travel {
    /// At most how many of `octets` one read or write moves.
    pub(super) fn piece(&self, octets: usize, rng: &mut Rng) -> usize {
        match self.piece_octets_max {
            Some(max) if octets > 0 => octets.min(rng.usize(1..=max.max(1))),
            _ => octets,
        }
    }

    pub(super) fn latency(&self, rng: &mut Rng) -> Duration {
        let spread = self.latency_max.saturating_sub(self.latency_min);
        self.latency_min + spread.mul_f64(rng.f64())
    }
}

/// Why octets are held back. Each is ended by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Held {
    /// By a fault of this direction alone.
    Alone,
    /// With all that its two hosts say to each other.
    Apart,
}

/// How a direction ends once all before has arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// In good order.
    Finished,
    /// The connection is reset.
    Reset,
}

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Found {
    /// So many octets may be read now.
    Octets(usize),
    /// Nothing before then.
    NotBefore(Instant),
    /// Nothing until something changes.
    Nothing,
    /// All has arrived.
    End(Ending),
}

/// One direction.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) travel: Travel,
    flight: VecDeque<(Instant, Bytes)>,
    /// Octets in `flight`.
    waiting: usize,
    pub(super) accepted: u64,
    pub(super) read: u64,
    /// When the narrowest point has passed all that was accepted.
    line_free_at: Instant,
    last_arrival: Instant,
    ending: Option<(Instant, Ending)>,
    /// Octets behind these do not arrive.
    held_at: [Option<u64>; 2],
    planned: Option<PathFault>,
    /// All that was written, if it is kept.
    pub(super) kept: Vec<u8>,
    /// Since when octets lack an acknowledgement that does not come.
    pub(super) unacknowledged_since: Option<Instant>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Way {
    pub(super) fn new(travel: Travel, planned: Option<PathFault>, now: Instant) -> Self {
        Self {
            travel,
            flight: VecDeque::new(),
            waiting: 0,
            accepted: 0,
            read: 0,
            line_free_at: now,
            last_arrival: now,
            ending: None,
            held_at: [None; 2],
            planned,
            kept: Vec::new(),
            unacknowledged_since: None,
            reader: None,
            writer: None,
        }
    }

    /// Octets that a writer may add now.
    pub(super) fn room(&self) -> usize {
        self.travel.buffer_octets.saturating_sub(self.waiting)
    }

    /// Octets that were written and not read.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// How many of `octets` go before the planned fault, and the fault if it is to happen behind
    /// them.
    pub(super) fn before_fault(&mut self, octets: usize) -> (usize, Option<PlannedFault>) {
        let Some(plan) = self.planned else { return (octets, None) };
        let left = plan.octet.saturating_sub(self.accepted);
        match usize::try_from(left) {
            Ok(left) if left <= octets => {
                self.planned = None;
                (left, Some(plan.fault))
            }
            _ => (octets, None),
        }
    }

    /// The planned fault does not happen any more.
    pub(super) fn forget_plan(&mut self) {
        self.planned = None;
    }

    /// Puts octets on their way.
    pub(super) fn send(&mut self, octets: Bytes, now: Instant, rng: &mut Rng) {
        if octets.is_empty() {
            return;
        }
        if self.travel.keeps_octets {
            self.kept.extend_from_slice(&octets);
        }
        let len = octets.len();
        self.accepted += len as u64;
        self.waiting += len;
        let at = self.arrival(len as u64, now, rng);
        self.flight.push_back((at, octets));
        wake(&mut self.reader);
    }

    /// When what is sent now arrives.
    fn arrival(&mut self, octets: u64, now: Instant, rng: &mut Rng) -> Instant {
        let passing = self.travel.octets_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_nanos(octets.saturating_mul(1_000_000_000) / rate.max(1))
        });
        self.line_free_at = self.line_free_at.max(now) + passing;
        let at = self.line_free_at + self.travel.latency(rng);
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }

    /// Ends the direction behind all that was sent. Has no effect twice.
    pub(super) fn end(&mut self, ending: Ending, now: Instant, rng: &mut Rng) {
        if self.ending.is_none() {
            let at = self.arrival(0, now, rng);
            self.ending = Some((at, ending));
            wake(&mut self.reader);
        }
    }

    /// All that is on its way is lost.
    pub(super) fn lose(&mut self) {
        self.flight.clear();
        self.waiting = 0;
    }

    /// What follows does not arrive, until [`Way::release`].
    pub(super) fn hold(&mut self, why: Held) {
        let arrived = self.held_at[why as usize].unwrap_or(self.accepted);
        self.held_at[why as usize] = Some(arrived);
    }

    pub(super) fn release(&mut self, why: Held) {
        if self.held_at[why as usize].take().is_some() {
            wake(&mut self.reader);
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held_at.iter().any(Option::is_some)
    }

    /// When the sender gives up what is not acknowledged.
    pub(super) fn given_up_at(&self) -> Option<Instant> {
        Some(self.unacknowledged_since? + self.travel.unacknowledged_max?)
    }

    /// What a reader gets who asks now for at most `wanted` octets.
    pub(super) fn find(&self, wanted: usize, now: Instant) -> Found {
        let held_at = self.held_at.iter().flatten().min();
        let may = held_at.map_or(u64::MAX, |held_at| held_at.saturating_sub(self.read));
        let may = usize::try_from(may).unwrap_or(usize::MAX);
        let mut arrived = 0;
        for (_, octets) in self.flight.iter().take_while(|(at, _)| *at <= now) {
            arrived += octets.len();
            if arrived >= wanted {
                break;
            }
        }
        match (arrived.min(may).min(wanted), self.flight.front(), self.ending) {
            (0, Some(_), _) if may == 0 => Found::Nothing,
            (0, Some((at, _)), _) => Found::NotBefore(*at),
            (0, None, Some(_)) if held_at.is_some() => Found::Nothing,
            (0, None, Some((at, ending))) if at <= now => Found::End(ending),
            (0, None, Some((at, _))) => Found::NotBefore(at),
            (0, None, None) => Found::Nothing,
            (octets, ..) => Found::Octets(octets),
        }
    }

    /// Takes `octets`, which [`Way::find`] has found.
    pub(super) fn take(&mut self, mut octets: usize, mut into: impl FnMut(&[u8])) {
        self.read += octets as u64;
        self.waiting -= octets;
        while octets > 0 {
            let Some((_, front)) = self.flight.front_mut() else { return };
            let part = front.split_to(octets.min(front.len()));
            if front.is_empty() {
                self.flight.pop_front();
            }
            octets -= part.len();
            into(&part);
        }
        wake(&mut self.writer);
    }

    pub(super) fn wake_both(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
