//! Steps of the machine's clock.
//!
//! The service goes by the clock as it is: no token that is issued counts for longer than its kind
//! may, and none that is shown for longer than it says, whichever way the clock is set. What a step
//! does is told in the log, for tokens of before and after it are refused by it for a while.

use std::time::Duration;

/// How far the clock may go from the time that has passed, in seconds.
const STEP_MIN: u64 = 60;

/// Notices when the clock is set.
#[derive(Debug, Default)]
pub(super) struct Steps {
    last: Option<(Duration, u64)>,
}

impl Steps {
    /// By how many seconds the clock was set since the last look; positive: ahead. `passed` is by a
    /// clock that nobody sets.
    pub(super) fn look(&mut self, passed: Duration, now: u64) -> Option<i64> {
        let last = self.last.replace((passed, now));
        let (passed_before, before) = last?;
        let expected = before.saturating_add(passed.saturating_sub(passed_before).as_secs());
        let step = i64::try_from(i128::from(now) - i128::from(expected)).unwrap_or(i64::MAX);
        (step.unsigned_abs() > STEP_MIN).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_once_and_one_that_goes_is_not() {
        let mut steps = Steps::default();
        let mut look = |passed: u64, now: u64| steps.look(Duration::from_secs(passed), now);
        assert_eq!(look(10, 1_800_000_000), None, "there is nothing to compare with");
        assert_eq!(look(3610, 1_800_003_600), None);
        assert_eq!(look(3611, 1_800_003_661), None, "60 s are leeway");
        assert_eq!(look(3612, 1_800_003_723), Some(61));
        assert_eq!(look(3613, 1_800_003_724), None);
        assert_eq!(look(3614, 1_800_000_125), Some(-3600));
        assert_eq!(look(3615, 1_800_000_126 + 365 * 86_400), Some(365 * 86_400));
    }
}
