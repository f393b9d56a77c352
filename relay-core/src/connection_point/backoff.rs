//! How long to wait before the next dial.

use std::time::Duration;

/// Exponential back-off with full jitter.
///
/// The ceiling doubles with each failure; the delay is drawn evenly below it, so that many
/// connection points that lost the same instance do not return to it at once.
/// Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, failures: 0 }
    }

    /// A link was up for so long. If that is at least the ceiling, the next failure waits little
    /// again; a peer that takes links and drops them is dialled ever less often.
    pub(super) fn was_up(&mut self, lived: Duration) {
        if lived >= self.max {
            self.failures = 0;
        }
    }

    /// The delay after one more failure; `random` is evenly drawn from 0 to 1.
    pub(super) fn next(&mut self, random: f64) -> Duration {
        let ceiling =
            self.first.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        ceiling.min(self.max).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(250);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn the_ceiling_doubles_up_to_its_maximum_and_stays_there() {
        let mut backoff = Backoff::new(FIRST, MAX);
        let ceilings: Vec<_> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(ceilings, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        for _ in 0..100 {
            assert_eq!(backoff.next(1.0), MAX, "no overflow however long it takes");
        }
    }

    #[test]
    fn the_delay_is_anywhere_below_the_ceiling() {
        let mut backoff = Backoff::new(FIRST, MAX);
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.5), FIRST);
    }

    #[test]
    fn a_link_that_lived_starts_over_and_one_that_died_at_once_does_not() {
        let mut backoff = Backoff::new(FIRST, MAX);
        backoff.next(1.0);
        backoff.next(1.0);
        backoff.was_up(MAX.checked_sub(FIRST).unwrap());
        assert_eq!(backoff.next(1.0), FIRST * 4);
        backoff.was_up(MAX);
        assert_eq!(backoff.next(1.0), FIRST);
    }
}
