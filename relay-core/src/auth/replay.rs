//! Which signed timestamps were used.
//!
//! A client signs the second in which it makes a request; so two requests of one second carry the
//! same signature, and cannot be told from one that was sent again. Our choice: a timestamp counts
//! for [`REUSE_SECONDS`] after it was first seen and [`USES_MAX`] times, which is what an honest
//! client in a hurry needs; whoever hears of it later gains nothing.
//!
//! Each instance has its own memory: what was used at one can be used at another for as long as the
//! timestamp is fresh.

use std::collections::BTreeMap;

use super::signature::SIGNATURE_WINDOW;

/// How long a timestamp may be used again after its first use, in seconds.
const REUSE_SECONDS: u64 = 5;

/// How often a timestamp may be used in all.
const USES_MAX: u8 = 64;

/// Why a timestamp may not be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayFault {
    /// It was used already; or so much later ones were forgotten that nobody can say.
    #[error("the signed timestamp was used already")]
    Used,
    /// As many are remembered as may be. None is forgotten for it: it could then be used again.
    #[error("too many signed timestamps were used of late; the memory of them is full")]
    Full,
}

/// A bounded memory of timestamps that were used, each by one key.
///
/// A key has at most 1,201 timestamps that are fresh at a time, so one client cannot fill it; when
/// it is full new ones are refused until the oldest are no longer fresh. About 80 octets each.
#[derive(Clone, Debug)]
pub struct Replay {
    entries_max: usize,
    /// By timestamp, then by key.
    seen: BTreeMap<(u64, [u8; 32]), Uses>,
    /// The latest timestamp that was forgotten. None up to it is taken, for a clock that goes back
    /// makes old ones fresh again.
    forgotten: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Uses {
    first: u64,
    count: u8,
}

impl Replay {
    /// Remembers at most `entries_max`.
    pub fn new(entries_max: usize) -> Self {
        Self { entries_max, seen: BTreeMap::new(), forgotten: None }
    }

    /// Takes note that `key` has used the timestamp `at`. Its signature must have been verified,
    /// and that it is fresh.
    ///
    /// # Errors
    ///
    /// [`ReplayFault`].
    pub fn take(&mut self, key: [u8; 32], at: u64, now: u64) -> Result<(), ReplayFault> {
        self.forget(now);
        if self.forgotten.is_some_and(|forgotten| at <= forgotten) {
            return Err(ReplayFault::Used);
        }
        if let Some(uses) = self.seen.get_mut(&(at, key)) {
            if now.abs_diff(uses.first) > REUSE_SECONDS || uses.count >= USES_MAX {
                return Err(ReplayFault::Used);
            }
            uses.count += 1;
            return Ok(());
        }
        if self.seen.len() >= self.entries_max {
            return Err(ReplayFault::Full);
        }
        self.seen.insert((at, key), Uses { first: now, count: 1 });
        Ok(())
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Forgets what is not fresh any more.
    fn forget(&mut self, now: u64) {
        // A clock that was ahead has been set right. What was forgotten while it was may be of any
        // time up to now; what is signed from now on is not, and nobody has to wait until the clock
        // is there again.
        if self.forgotten.is_some_and(|forgotten| forgotten > now.saturating_add(SIGNATURE_WINDOW))
        {
            self.forgotten = Some(now);
        }
        while let Some(oldest) = self.seen.first_entry() {
            let at = oldest.key().0;
            if now.saturating_sub(at) <= SIGNATURE_WINDOW {
                return;
            }
            oldest.remove();
            self.forgotten = self.forgotten.max(Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const KEYS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

    #[test]
    fn a_timestamp_is_used_again_within_five_seconds_and_not_later() {
        for (later, expected) in [(0, Ok(())), (5, Ok(())), (6, Err(ReplayFault::Used))] {
            let mut used = Replay::new(9);
            assert_eq!(used.take(KEYS[0], NOW, NOW), Ok(()));
            assert_eq!(used.take(KEYS[0], NOW, NOW + later), expected, "{later} s");
            assert_eq!(used.take(KEYS[1], NOW, NOW + later), Ok(()), "another key's is another");
            assert_eq!(used.take(KEYS[0], NOW + 1, NOW + later), Ok(()));
        }
    }

    #[test]
    fn a_timestamp_is_used_64_times_at_most() {
        let mut used = Replay::new(1);
        for _ in 0..64 {
            assert_eq!(used.take(KEYS[0], NOW, NOW), Ok(()));
        }
        assert_eq!(used.take(KEYS[0], NOW, NOW), Err(ReplayFault::Used));
    }

    #[test]
    fn a_timestamp_is_remembered_for_as_long_as_it_is_fresh() {
        let mut used = Replay::new(9);
        used.take(KEYS[0], NOW, NOW - SIGNATURE_WINDOW).unwrap();
        let last = NOW + SIGNATURE_WINDOW;
        assert_eq!(used.take(KEYS[0], NOW, last), Err(ReplayFault::Used));
        assert_eq!(used.len(), 1);
        used.take(KEYS[0], last, last + 1).unwrap();
        assert_eq!(used.len(), 1, "the first is forgotten");
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_fresh_that_was_forgotten() {
        let mut used = Replay::new(9);
        used.take(KEYS[0], NOW, NOW).unwrap();
        used.take(KEYS[1], NOW + 5000, NOW + 5000).unwrap();
        for at in [NOW, NOW - 1] {
            assert_eq!(used.take(KEYS[0], at, NOW), Err(ReplayFault::Used));
        }
        assert_eq!(used.take(KEYS[0], NOW + 1, NOW + 1), Ok(()), "and nobody is locked out");
    }

    #[test]
    fn a_clock_that_was_ahead_and_is_set_right_locks_nobody_out() {
        let mut used = Replay::new(9);
        used.take(KEYS[0], NOW, NOW).unwrap();
        let ahead = NOW + 86_400;
        used.take(KEYS[1], ahead, ahead).unwrap();
        let later = ahead + SIGNATURE_WINDOW + 1;
        used.take(KEYS[1], later, later).unwrap();
        let now = NOW + 30;
        for at in [NOW, now] {
            assert_eq!(used.take(KEYS[0], at, now), Err(ReplayFault::Used), "it may have been");
        }
        assert_eq!(used.take(KEYS[0], now + 1, now + 1), Ok(()));
        assert_eq!(used.take(KEYS[1], now + 2, now + 2), Ok(()));
        // The day after, what was used while the clock was ahead is known still.
        assert_eq!(used.take(KEYS[1], later, later + 6), Err(ReplayFault::Used));
    }

    #[test]
    fn a_full_memory_refuses_what_is_new_until_the_oldest_is_over() {
        let mut used = Replay::new(2);
        used.take(KEYS[0], NOW, NOW).unwrap();
        used.take(KEYS[1], NOW, NOW).unwrap();
        assert_eq!(used.take(KEYS[0], NOW + 1, NOW + 1), Err(ReplayFault::Full));
        assert_eq!(used.take(KEYS[0], NOW, NOW + 1), Ok(()), "what is known is served");
        let over = NOW + SIGNATURE_WINDOW + 1;
        assert_eq!(used.take(KEYS[0], over, over), Ok(()));
    }
}
