//! How fast a client must send a body: pure arithmetic on how long it was waited for.
//!
//! Without it a client that sends an octet every half minute would hold a stream, and with it a
//! place at the connection point and a connection to the backend, for as long as it likes.

use std::time::Duration;

use super::config::GatewayLimits;

/// How long a client may still be waited for. Only time in which nothing but the client was waited
/// for counts: a site that takes little is no fault of the client.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Octets a second; 0 if any pace will do.
    rate_min: u32,
    left: Duration,
    left_max: Duration,
}

impl Pace {
    pub(super) fn new(limits: &GatewayLimits) -> Self {
        Self {
            rate_min: limits.body_rate_min,
            left: limits.body_grace,
            // Nobody collects hours by sending much at first.
            left_max: limits.body_grace.max(limits.body_stall),
        }
    }

    /// How long the client may still be waited for; `None`: for ever.
    pub(super) fn left(&self) -> Option<Duration> {
        (self.rate_min > 0).then_some(self.left)
    }

    /// The client was waited for.
    pub(super) fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// Some octets came, each of which is worth its time at the rate.
    pub(super) fn came(&mut self, octets: u64) {
        let nanoseconds = octets.saturating_mul(1_000_000_000);
        let Some(worth) = nanoseconds.checked_div(self.rate_min.into()) else { return };
        let left = self.left.saturating_add(Duration::from_nanos(worth));
        self.left = left.min(self.left_max);
    }

    /// Octets a second that are asked for.
    pub(super) fn rate_min(&self) -> u32 {
        self.rate_min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds for which a client is borne that sends so many octets each second, up to 10,000.
    fn borne(octets: u64) -> u32 {
        let mut pace = Pace::new(&GatewayLimits::default());
        for second in 0..10_000 {
            if pace.left().unwrap() < SECOND {
                return second;
            }
            pace.waited(SECOND);
            pace.came(octets);
        }
        10_000
    }

    #[test]
    fn a_client_at_the_rate_is_borne_and_one_below_it_until_it_is_5_s_behind() {
        assert_eq!([241, 240].map(borne), [10_000, 10_000]);
        // Each second it is behind by one 240th, and by half of one.
        assert_eq!([239, 120, 0].map(borne), [4 * 240, 9, 5]);
    }

    #[test]
    fn what_came_early_pays_for_half_a_minute_of_waiting_and_no_more() {
        let mut pace = Pace::new(&GatewayLimits::default());
        assert_eq!(pace.left(), Some(5 * SECOND));
        pace.came(240 * 24);
        assert_eq!(pace.left(), Some(29 * SECOND));
        pace.came(u64::MAX);
        assert_eq!(pace.left(), Some(30 * SECOND));
        pace.waited(10 * SECOND);
        assert_eq!(pace.left(), Some(20 * SECOND));
        pace.came(240);
        assert_eq!(pace.left(), Some(21 * SECOND));
    }

    #[test]
    fn a_rate_of_none_is_none() {
        let limits = GatewayLimits { body_rate_min: 0, ..GatewayLimits::default() };
        let mut pace = Pace::new(&limits);
        pace.came(1);
        pace.waited(Duration::from_hours(1));
        assert_eq!(pace.left(), None);
    }
}
