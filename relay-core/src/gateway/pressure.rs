//! How much memory is in use, and what is not begun for it.
//!
//! Most of what costs memory has a limit of its own. This one holds when they add up to more than
//! there is, or when something was overlooked: the instance then answers 503 before the system ends
//! it with everything that is in flight. [`Pressure::after`] decides and is pure; the figures, of
//! the process and of what the kernel keeps for it, come from whoever runs the instance: see
//! [`MemoryLimit`].

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::exchange::Tally;

use super::counted;

/// How often the memory in use is read.
const READ_EVERY: Duration = Duration::from_millis(250);

/// Percent of the limit above which new requests are refused.
const REFUSE_ABOVE: u64 = 85;

/// Percent of the limit above which no client's connection is accepted.
const PAUSE_ABOVE: u64 = 92;

/// Percent by which it has to fall below the figure that brought something about before that ends.
const RELIEF: u64 = 5;

/// What an instance does not begin because of the memory that is in use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Pressure {
    /// Everything is served.
    #[default]
    Calm,
    /// New requests are answered 503.
    Refuse,
    /// So they are, and no client's connection is accepted: the kernel keeps those that come. Links
    /// are accepted where they have a port of their own. They are few, show who they are, have
    /// memory that is bounded, and bring the answers that what is in flight waits for.
    Pause,
}

impl Pressure {
    /// What follows when `used` of `max` octets are in use. In percent of `max`:
    ///
    /// | before | 0 to 80 | to 85 | to 87 | to 92 | above |
    /// |---|---|---|---|---|---|
    /// | `Calm` | `Calm` | `Calm` | `Refuse` | `Refuse` | `Pause` |
    /// | `Refuse` | `Calm` | `Refuse` | `Refuse` | `Refuse` | `Pause` |
    /// | `Pause` | `Calm` | `Refuse` | `Refuse` | `Pause` | `Pause` |
    #[must_use]
    pub fn after(self, used: u64, max: u64) -> Self {
        match (self, Fill::of(used, max)) {
            (_, Fill::Full) | (Self::Pause, Fill::Near) => Self::Pause,
            (_, Fill::Low) | (Self::Calm, Fill::Middling) => Self::Calm,
            (_, Fill::Middling | Fill::High | Fill::Near) => Self::Refuse,
        }
    }

    /// As it stands in the log and in a status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Refuse => "refuses requests",
            Self::Pause => "accepts no clients",
        }
    }
}

/// Which column of that table holds.
#[derive(Clone, Copy)]
enum Fill {
    Low,
    Middling,
    High,
    Near,
    Full,
}

impl Fill {
    fn of(used: u64, max: u64) -> Self {
        let is_within =
            |percent: u64| u128::from(used) * 100 <= u128::from(max) * u128::from(percent);
        match () {
            () if is_within(REFUSE_ABOVE - RELIEF) => Self::Low,
            () if is_within(REFUSE_ABOVE) => Self::Middling,
            () if is_within(PAUSE_ABOVE - RELIEF) => Self::High,
            () if is_within(PAUSE_ABOVE) => Self::Near,
            () => Self::Full,
        }
    }
}

/// Reads how many octets are in use.
type Meter = dyn Fn() -> io::Result<u64> + Send + Sync;

/// How much memory may be in use, of one kind or several, and how that is read. What is begun
/// follows from the kind that is fullest.
#[derive(Clone)]
pub struct MemoryLimit {
    kinds: Vec<Kind>,
}

/// One kind of memory.
#[derive(Clone)]
struct Kind {
    name: &'static str,
    max: u64,
    used: Arc<Meter>,
}

impl MemoryLimit {
    /// At most `max` octets of the kind `name`, by which the log and a status call it. `used` reads
    /// how many are in use, four times a second. It must not block for long. While it fails,
    /// nothing is refused for this kind.
    pub fn new(
        name: &'static str,
        max: u64,
        used: impl Fn() -> io::Result<u64> + Send + Sync + 'static,
    ) -> Self {
        Self { kinds: Vec::new() }.and(name, max, used)
    }

    /// Besides, at most `max` octets of another kind: as [`MemoryLimit::new`].
    #[must_use]
    pub fn and(
        mut self,
        name: &'static str,
        max: u64,
        used: impl Fn() -> io::Result<u64> + Send + Sync + 'static,
    ) -> Self {
        self.kinds.push(Kind { name, max, used: Arc::new(used) });
        self
    }

    /// Each kind's name and the octets of it that may be in use, the first one first.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.kinds.iter().map(|kind| (kind.name, kind.max))
    }

    /// Nothing in use, of the first kind.
    fn unread(&self) -> Option<Reading> {
        self.kinds.first().map(|kind| Reading { name: kind.name, used: 0, max: kind.max })
    }
}

impl fmt::Debug for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.kinds()).finish()
    }
}

impl MemoryLimit {
    /// Whether both were made as one.
    fn is_of(&self, other: &Self) -> bool {
        self.kinds.len() == other.kinds.len()
            && self.kinds.iter().zip(&other.kinds).all(|(a, b)| Arc::ptr_eq(&a.used, &b.used))
    }
}

impl Kind {
    /// Reads it, and says so once where that fails after it `could` be read.
    fn read(&self, could: &mut bool) -> Option<Reading> {
        let read = (self.used)();
        if let Err(error) = read.as_ref()
            && *could
        {
            let name = self.name;
            tracing::warn!(name, %error, "cannot read this memory: nothing is refused for it");
        }
        *could = read.is_ok();
        Some(Reading { name: self.name, used: read.ok()?, max: self.max })
    }
}

/// What is in use of one kind of memory.
#[derive(Clone, Copy, Debug)]
struct Reading {
    name: &'static str,
    used: u64,
    max: u64,
}

impl Reading {
    /// Whether more of this kind is in use than of `other`, by its share of what may be.
    fn is_fuller_than(&self, other: &Self) -> bool {
        u128::from(self.used) * u128::from(other.max)
            > u128::from(other.used) * u128::from(self.max)
    }
}

/// The memory as it was read last: that of the kind that is fullest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MemoryStatus {
    /// The kind's name, as [`MemoryLimit::new`] was given it.
    pub name: &'static str,
    /// Octets in use; 0 until they are read.
    pub used: u64,
    /// Octets that may be.
    pub max: u64,
    /// What is not begun for it.
    pub pressure: Pressure,
}

/// The pressure now, for all who have to know.
#[derive(Debug)]
pub(super) struct Memory {
    limit: watch::Sender<Option<MemoryLimit>>,
    /// The fullest kind; `None` if there is none.
    fullest: Mutex<Option<Reading>>,
    /// Counted as in `Pressure`; written by `watch` alone.
    pressure: AtomicU8,
    changed: Notify,
}

impl Memory {
    pub(super) fn new(limit: Option<MemoryLimit>) -> Self {
        let fullest = Mutex::new(limit.as_ref().and_then(MemoryLimit::unread));
        let limit = watch::Sender::new(limit);
        Self { limit, fullest, pressure: AtomicU8::new(0), changed: Notify::new() }
    }

    /// Has `limit` hold from now on.
    pub(super) fn set(&self, limit: Option<MemoryLimit>) {
        self.limit.send_if_modified(|now| {
            let is_same = match (&*now, &limit) {
                (Some(now), Some(limit)) => now.is_of(limit),
                (now, limit) => now.is_none() && limit.is_none(),
            };
            *now = limit;
            // Whoever watches begins anew for another one alone.
            !is_same
        });
    }

    pub(super) fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::Calm,
            1 => Pressure::Refuse,
            _ => Pressure::Pause,
        }
    }

    /// Whether there is so little that connections which need not stay are let go of.
    pub(super) fn is_short(&self) -> bool {
        self.pressure() != Pressure::Calm
    }

    /// `None` if nobody watches it.
    pub(super) fn status(&self) -> Option<MemoryStatus> {
        let Reading { name, used, max } = (*self.fullest())?;
        Some(MemoryStatus { name, used, max, pressure: self.pressure() })
    }

    fn fullest(&self) -> MutexGuard<'_, Option<Reading>> {
        self.fullest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the memory in use again and again, for ever. To be polled by one alone.
    pub(super) async fn watch(&self, tally: &Tally) -> Infallible {
        let mut limits = self.limit.subscribe();
        loop {
            let limit = limits.borrow_and_update().clone();
            tokio::select! {
                // First, or a limit that is over could be met once more.
                biased;
                // The sender lives in `self`.
                _ = limits.changed() => {}
                never = self.watch_by(limit, tally) => match never {},
            }
        }
    }

    /// As [`Memory::watch`], by one limit.
    async fn watch_by(&self, limit: Option<MemoryLimit>, tally: &Tally) -> Infallible {
        let watched = limit.and_then(|limit| Some((limit.unread()?, limit)));
        let Some((unread, limit)) = watched else {
            self.forget();
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut could = vec![true; limit.kinds.len()];
        loop {
            ticks.tick().await;
            let read = limit.kinds.iter().zip(&mut could).filter_map(|(kind, it)| kind.read(it));
            let fuller = |one: Reading, other: Reading| {
                if other.is_fuller_than(&one) { other } else { one }
            };
            if self.note(read.reduce(fuller).unwrap_or(unread)) == Some(Pressure::Pause) {
                counted::note(tally, counted::Limit::MemoryPause);
            }
        }
    }

    /// Nobody reads it any more: everything is served.
    fn forget(&self) {
        *self.fullest() = None;
        self.pressure.store(Pressure::Calm as u8, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Takes note of what is in use of the fullest kind. Returns the pressure if it has changed.
    fn note(&self, fullest: Reading) -> Option<Pressure> {
        *self.fullest() = Some(fullest);
        let Reading { name, used, max } = fullest;
        let (before, now) = (self.pressure(), self.pressure().after(used, max));
        if now == before {
            return None;
        }
        self.pressure.store(now as u8, Ordering::Relaxed);
        if now == Pressure::Calm {
            tracing::info!(name, used, max, "memory is no longer short: everything is served");
        } else {
            tracing::warn!(name, used, max, now = now.name(), "memory is short");
        }
        self.changed.notify_waiters();
        Some(now)
    }

    /// Waits until clients' connections are accepted.
    pub(super) async fn may_accept(&self) {
        self.until(|pressure| pressure != Pressure::Pause).await;
    }

    /// Waits until none is accepted.
    pub(super) async fn may_not_accept(&self) {
        self.until(|pressure| pressure == Pressure::Pause).await;
    }

    async fn until(&self, holds: impl Fn(Pressure) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before it is read, or a change in between would be missed.
            changed.as_mut().enable();
            if holds(self.pressure()) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests;
