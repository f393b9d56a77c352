//! How often something is tried that does not get on.

use std::time::Duration;

/// The longest wait before it is tried again.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Counts tries that brought nothing. One that does bring something gives the others back.
pub(super) struct Tries {
    most: u32,
    fruitless: u32,
}

impl Tries {
    pub(super) fn new(most: u32) -> Self {
        Self { most, fruitless: 0 }
    }

    /// How long to wait before the next try; `None` if there is none. 1 s, then twice as long each
    /// time.
    pub(super) fn after_failure(&mut self, has_got_on: bool) -> Option<Duration> {
        if has_got_on {
            self.fruitless = 0;
            return Some(Duration::ZERO);
        }
        self.fruitless += 1;
        let doubled = Duration::from_secs(1 << (self.fruitless - 1).min(5));
        (self.fruitless < self.most).then_some(doubled.min(WAIT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_there_are_no_more_tries() {
        let mut tries = Tries::new(8);
        let waits: Vec<_> =
            std::iter::from_fn(|| tries.after_failure(false)).map(|it| it.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_try_that_got_on_gives_the_others_back() {
        let mut tries = Tries::new(2);
        assert_eq!(tries.after_failure(false), Some(Duration::from_secs(1)));
        assert_eq!(tries.after_failure(true), Some(Duration::ZERO));
        assert_eq!(tries.after_failure(false), Some(Duration::from_secs(1)));
        assert_eq!(tries.after_failure(false), None);
        assert_eq!(Tries::new(1).after_failure(false), None);
    }
}
