//! How often tokens are asked for: overall, and by each who asks.
//!
//! Buckets that fill with time. Time is an argument, by a clock that nobody sets.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

/// Who asks, as far as the connection tells.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Source {
    /// An address of the site's own network; of IPv6 the first 64 bits, which one host may have to
    /// itself.
    Address(IpAddr),
    /// Over a gateway, which limits by address itself: SHA-256 of what was shown as the token. An
    /// instance has verified it, so that nobody has as many of them as he likes.
    Credential([u8; 32]),
}

impl Source {
    /// Of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(it) => {
                let [a, b, c, d, ..] = it.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            IpAddr::V4(it) => IpAddr::V4(it),
        })
    }

    /// The address, where it is one.
    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Credential(_) => None,
        }
    }
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rate {
    /// In the long run.
    pub(super) per_second: u32,
    /// At once.
    pub(super) burst: u32,
}

/// How often tokens may be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rates {
    pub(super) overall: Rate,
    pub(super) each: Rate,
    /// Sources that are remembered; while as many ask too often, others must wait as well.
    pub(super) sources_max: usize,
}

impl Default for Rates {
    /// Our choice: 100,000 clients that renew once in 30 days are 0.04 a second, and as many that
    /// register on one day are one. Twenty a second leave half of a small machine for links.
    fn default() -> Self {
        Self {
            overall: Rate { per_second: 20, burst: 200 },
            each: Rate { per_second: 5, burst: 50 },
            sources_max: 4096,
        }
    }
}

/// What has been asked for of late.
#[derive(Debug)]
pub(super) struct Asking<S> {
    rates: Rates,
    overall: Bucket,
    each: HashMap<S, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In billionths, so that any rate fills it at each nanosecond.
    left: u128,
    at: Duration,
}

impl Rate {
    fn full(self) -> u128 {
        u128::from(self.burst) * 1_000_000_000
    }
}

impl Bucket {
    fn new(rate: Rate, now: Duration) -> Self {
        Self { left: rate.full(), at: now }
    }

    fn fill(&mut self, rate: Rate, now: Duration) {
        let gone = now.saturating_sub(self.at).as_nanos();
        self.left = rate.full().min(self.left + gone * u128::from(rate.per_second));
        self.at = now;
    }

    fn has_one(&self) -> bool {
        self.left >= 1_000_000_000
    }

    fn take(&mut self) {
        self.left = self.left.saturating_sub(1_000_000_000);
    }
}

impl<S: Copy + Eq + Hash> Asking<S> {
    pub(super) fn new(rates: Rates) -> Self {
        let overall = Bucket::new(rates.overall, Duration::ZERO);
        Self { rates, overall, each: HashMap::new() }
    }

    /// Whether `source` may ask once more at `now`; if so, it has.
    pub(super) fn admit(&mut self, source: S, now: Duration) -> bool {
        self.overall.fill(self.rates.overall, now);
        if !self.overall.has_one() || !self.has_room_for(source, now) {
            return false;
        }
        let rate = self.rates.each;
        let own = self.each.entry(source).or_insert_with(|| Bucket::new(rate, now));
        own.fill(rate, now);
        if !own.has_one() {
            return false;
        }
        own.take();
        self.overall.take();
        true
    }

    /// Whoever has not asked for so long that it makes no difference is forgotten.
    fn has_room_for(&mut self, source: S, now: Duration) -> bool {
        if self.each.len() < self.rates.sources_max || self.each.contains_key(&source) {
            return true;
        }
        let rate = self.rates.each;
        self.each.retain(|_, bucket| {
            bucket.fill(rate, now);
            bucket.left < rate.full()
        });
        self.each.len() < self.rates.sources_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates {
        overall: Rate { per_second: 2, burst: 4 },
        each: Rate { per_second: 1, burst: 2 },
        sources_max: 3,
    };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn each_asks_as_often_as_it_may_and_no_more_and_leaves_others_their_share() {
        let mut asking = Asking::new(RATES);
        assert_eq!([0; 3].map(|_| asking.admit('a', at(0))), [true, true, false]);
        assert_eq!([0; 3].map(|_| asking.admit('b', at(0))), [true, true, false]);
        assert!(!asking.admit('c', at(0)), "all together have asked four times");
        assert!(!asking.admit('c', at(499)));
        assert!(asking.admit('c', at(500)));
        assert!(!asking.admit('a', at(999)), "a second has not passed");
        assert!(asking.admit('a', at(1000)));
    }

    #[test]
    fn who_is_refused_takes_nothing_from_others() {
        let mut asking = Asking::new(RATES);
        for _ in 0..100 {
            asking.admit('a', at(0));
        }
        assert!(asking.admit('b', at(0)) && asking.admit('b', at(0)));
    }

    #[test]
    fn as_many_are_remembered_as_may_be_until_their_buckets_are_full_again() {
        let mut asking = Asking::new(RATES);
        assert!(['a', 'b', 'c'].iter().all(|it| asking.admit(*it, at(0))));
        assert!(!asking.admit('d', at(500)), "three are remembered");
        assert!(asking.admit('a', at(500)), "those who are go on");
        assert!(asking.admit('d', at(1000)), "b is as good as new");
        assert_eq!(asking.each.len(), 2);
    }

    #[test]
    fn a_host_has_one_bucket_whatever_addresses_it_draws() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.5"), of("10.0.0.5"));
        assert_ne!(of("10.0.0.6"), of("10.0.0.5"));
    }

    #[test]
    fn the_default_lets_fifty_ask_at_once_and_two_hundred_of_all() {
        let mut asking = Asking::new(Rates::default());
        let all: Vec<_> = (0..5).flat_map(|who| [who; 51]).collect();
        let taken = all.into_iter().filter(|who| asking.admit(*who, at(0))).count();
        assert_eq!(taken, 200, "four times fifty: the fifth finds nothing left");
    }
}
