//! How long a request may wait in line for a stream, and whose turn it is.
//!
//! A [`Line`] stands before the links into one site while all of them are full. Nothing here looks
//! at a clock or wakes anybody: time is an argument, and `lines.rs` does the rest. Other sites
//! have lines of their own, and who waits for a link to come up is in none.
//!
//! What tells a burst from an overload is not how long a line is but whether it is ever empty
//! (RFC 8289, section 3.1: a queue that goes away by itself does good, one that stands only
//! delays). So a line has `burst` to become empty. Until then whoever is in it may wait: nobody is
//! lost to a burst that is over by then. From then on it *stands*, and a request has `overload`,
//! counted from its arrival; those that have waited longer already are told at that moment.
//!
//! Our choice: for `burst` after a refusal a line counts as standing from its first moment. A load
//! a little above what the links bear empties its line again and again, and each time would have
//! its requests wait for `burst` in vain. That RFC's control loop has such a memory as well.
//!
//! The first who came is the first to be served, until a line has not been empty for `overload`:
//! then the last is. In a line that grows faster than it is served everybody else would be served
//! late; so most are served at once, and the rest not at all. When one is refused does not change
//! by that: it is decided when it comes. Source: B. Maurer, "Fail at Scale", ACM Queue 13(8),
//! 2015: controlled delay, and last in, first out, under overload.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// One request's place in a line. Later ones are greater.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Ticket(u64);

/// How long requests may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Time that a line has to become empty.
    pub(super) burst: Duration,
    /// Time of each request in a line that has not. Never more than `burst`.
    overload: Duration,
}

impl Patience {
    pub(super) fn new(burst: Duration, overload: Duration) -> Self {
        Self { burst, overload: overload.min(burst) }
    }
}

/// Why a request leaves a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Departure {
    /// It has a stream, waits for a link, or nobody waits for it any more.
    Gone,
    /// It was not served until the time it was given at its arrival.
    Refused,
}

/// The requests that wait for a stream into one site.
///
/// | state | arrival | departure of one of several | of the last one |
/// |---|---|---|---|
/// | `Empty` | `Waiting` since now, its turn | – | – |
/// | `Waiting` | `Waiting`; its turn, if newest first | `Waiting`; a turn is passed on | `Empty` |
///
/// A departure of one who is not there changes nothing.
#[derive(Debug)]
pub(super) struct Line {
    patience: Patience,
    state: State,
    next: Ticket,
    /// When a request was refused last.
    refused: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Empty,
    Waiting {
        /// When it was empty last.
        since: Instant,
        /// Who waits at the links; the others wait for this one.
        turn: Ticket,
        all: BTreeSet<Ticket>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Arrived(Ticket),
    Left(Ticket),
}

impl Line {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, state: State::Empty, next: Ticket(0), refused: None }
    }

    /// Takes in a request. Returns its ticket, and when it is to be refused unless it has left.
    pub(super) fn handle_arrival(&mut self, now: Instant) -> (Ticket, Instant) {
        let (ticket, until) = (self.next, self.until(now));
        self.next.0 += 1;
        self.handle(Event::Arrived(ticket), now);
        (ticket, until)
    }

    /// Lets a request go.
    pub(super) fn handle_departure(&mut self, ticket: Ticket, why: Departure, now: Instant) {
        if why == Departure::Refused {
            self.refused = Some(now);
        }
        self.handle(Event::Left(ticket), now);
    }

    /// Whose turn it is to wait at the links.
    pub(super) fn turn(&self) -> Option<Ticket> {
        match &self.state {
            State::Empty => None,
            State::Waiting { turn, .. } => Some(*turn),
        }
    }

    /// The next `count` behind the one whose turn it is, in the order in which they would have it.
    pub(super) fn following(&self, count: usize, now: Instant) -> Vec<Ticket> {
        let State::Waiting { turn, all, .. } = &self.state else { return Vec::new() };
        let others = |ticket: &&Ticket| *ticket != turn;
        if self.is_newest_first(now) {
            all.iter().rev().filter(others).take(count).copied().collect()
        } else {
            all.iter().filter(others).take(count).copied().collect()
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        match &self.state {
            State::Empty => 0,
            State::Waiting { all, .. } => all.len(),
        }
    }

    /// Whether a new line would do the same.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        matches!(self.state, State::Empty) && !self.has_refused(now)
    }

    fn handle(&mut self, event: Event, now: Instant) {
        let is_newest_first = self.is_newest_first(now);
        let state = std::mem::replace(&mut self.state, State::Empty);
        self.state = match (state, event) {
            (State::Empty, Event::Arrived(ticket)) => {
                State::Waiting { since: now, turn: ticket, all: BTreeSet::from([ticket]) }
            }
            (State::Empty, Event::Left(_)) => State::Empty,
            (State::Waiting { since, turn, mut all }, Event::Arrived(ticket)) => {
                all.insert(ticket);
                State::Waiting { since, turn: if is_newest_first { ticket } else { turn }, all }
            }
            (State::Waiting { since, turn, mut all }, Event::Left(ticket)) => {
                all.remove(&ticket);
                let next = if is_newest_first { all.last() } else { all.first() };
                let turn = if turn == ticket { next.copied() } else { Some(turn) };
                turn.map_or(State::Empty, |turn| State::Waiting { since, turn, all })
            }
        };
        self.check_invariants();
    }

    /// Until when one may wait who comes now.
    fn until(&self, now: Instant) -> Instant {
        let Patience { burst, overload } = self.patience;
        let stands = match self.state {
            _ if self.has_refused(now) => now,
            State::Empty => now + burst,
            State::Waiting { since, .. } => since + burst,
        };
        stands.max(now + overload)
    }

    fn has_refused(&self, now: Instant) -> bool {
        self.refused.is_some_and(|at| now < at + self.patience.burst)
    }

    fn is_newest_first(&self, now: Instant) -> bool {
        let is_long = match self.state {
            State::Empty => false,
            State::Waiting { since, .. } => since + self.patience.overload <= now,
        };
        is_long || self.has_refused(now)
    }

    fn check_invariants(&self) {
        let State::Waiting { turn, all, .. } = &self.state else { return };
        debug_assert!(all.contains(turn), "the turn is somebody's who waits");
        debug_assert!(all.last() < Some(&self.next), "a ticket is given once");
    }
}

#[cfg(test)]
mod tests;
