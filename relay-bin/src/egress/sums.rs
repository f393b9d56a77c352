//! What was sent in each hour, and in 14 days together. Pure: octets and hours in, sums out.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relay_core::config::EgressConfig;
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_hours(1);

/// Hours that count together.
const WINDOW_HOURS: usize = 14 * 24;

/// Hours that are kept. Our choice: twice as many as count, so that a clock that is set ahead by
/// mistake, and back again, loses none that does.
const HOURS_MAX: usize = 672;

/// What the text of sums says that it is.
const VERSION: u32 = 1;

/// The hour of `now`, since 1970.
pub(super) fn hour_of(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / HOUR.as_secs()
}

/// Octets by the hour of the clock in which they were sent, since 1970.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Sums(BTreeMap<u64, u64>);

/// Sums as text.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// Hour since 1970 and octets, the first hour first.
    hours: Vec<(u64, u64)>,
}

/// Why a text holds no sums. Somebody else's file, or a later version's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum SumsFault {
    /// It is not JSON of this shape.
    #[error("it holds no sums: {0}")]
    Shape(#[from] serde_json::Error),
    /// A later version has written it.
    #[error("it is of version {0}, and this program knows {known} alone", known = VERSION)]
    Version(u32),
    /// Its hours are not in their order, or too many.
    #[error("its hours are more than {}, or not in their order", HOURS_MAX)]
    Hours,
}

impl Sums {
    /// So many octets more were sent in `hour`.
    pub(super) fn add(&mut self, hour: u64, octets: u64) {
        if octets == 0 {
            return;
        }
        // Of a clock that is far behind: it would be the first to go, and counts with the next.
        let first = self.0.first_key_value().map(|(first, _)| *first);
        let hour = match first {
            Some(first) if self.0.len() == HOURS_MAX => hour.max(first),
            _ => hour,
        };
        let sum = self.0.entry(hour).or_default();
        *sum = sum.saturating_add(octets);
        while self.0.len() > HOURS_MAX {
            self.0.pop_first();
        }
    }

    /// What was sent in `hour` and the 14 days before its end. Hours to come count as well: a clock
    /// that was ahead has had octets counted there.
    pub(super) fn total(&self, hour: u64) -> u64 {
        let begins_at = (hour + 1).saturating_sub(WINDOW_HOURS as u64);
        // Never more than 14 days of them: before a clock is right, all of them would count.
        let counted = self.0.range(begins_at..).rev().take(WINDOW_HOURS);
        counted.fold(0, |sum, (_, octets)| sum.saturating_add(*octets))
    }

    /// As text.
    pub(super) fn text(&self) -> String {
        let hours = self.0.iter().map(|(hour, octets)| (*hour, *octets)).collect();
        let kept = Kept { version: VERSION, hours };
        serde_json::to_string(&kept).expect("numbers can be written as JSON") + "\n"
    }

    /// Reads what [`Sums::text`] has written.
    pub(super) fn read(text: &str) -> Result<Self, SumsFault> {
        let kept: Kept = serde_json::from_str(text)?;
        if kept.version != VERSION {
            return Err(SumsFault::Version(kept.version));
        }
        let is_in_order = kept.hours.is_sorted_by(|a, b| a.0 < b.0);
        // The clock's last hour: beyond it no sum of hours can be told.
        let is_real = kept.hours.last().is_none_or(|(hour, _)| *hour < u64::from(u32::MAX));
        if !is_in_order || !is_real || kept.hours.len() > HOURS_MAX {
            return Err(SumsFault::Hours);
        }
        Ok(Self(kept.hours.into_iter().collect()))
    }
}

/// What the sum of 14 days is to whoever has to pay for it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Level {
    Calm,
    Warning,
    Critical,
}

impl Level {
    pub(super) fn of(total: u64, config: &EgressConfig) -> Self {
        let is_at = |percent: u32| {
            u128::from(total) * 100 >= u128::from(config.threshold) * u128::from(percent)
        };
        match () {
            () if is_at(config.critical_percent) => Self::Critical,
            () if is_at(config.warning_percent) => Self::Warning,
            () => Self::Calm,
        }
    }

    /// As it stands in the log and in a status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(of: &[(u64, u64)]) -> Sums {
        let mut sums = Sums::default();
        for (hour, octets) in of {
            sums.add(*hour, *octets);
        }
        sums
    }

    #[test]
    fn an_hour_counts_in_the_336_that_begin_with_it_and_not_in_the_next() {
        let sums = sums(&[(1000, 5), (1000, 2), (1335, 10)]);
        assert_eq!(
            [1000, 1335, 1336, 1670, 1671].map(|hour| sums.total(hour)),
            [17, 17, 10, 10, 0]
        );
        assert_eq!(sums.total(999), 17, "a clock that was set back");
        assert_eq!(Sums::default().total(0), 0);
    }

    #[test]
    fn a_clock_that_goes_ahead_and_back_loses_nothing() {
        let mut sums = sums(&[(1000, 5)]);
        sums.add(900_000, 1);
        assert_eq!(sums.total(900_000), 1);
        assert_eq!(sums.total(1001), 6);
    }

    #[test]
    fn no_more_hours_are_kept_than_may_be_and_the_oldest_go_first() {
        let mut sums = Sums::default();
        (0..HOURS_MAX as u64).for_each(|hour| sums.add(hour, 1));
        assert_eq!((sums.0.len(), sums.0.first_key_value()), (HOURS_MAX, Some((&0, &1))));
        sums.add(HOURS_MAX as u64, 1);
        assert_eq!((sums.0.len(), sums.0.first_key_value()), (HOURS_MAX, Some((&1, &1))));
        sums.add(5, u64::MAX);
        assert_eq!((sums.total(5), sums.0.len()), (336, HOURS_MAX), "of 14 days alone");
        assert_eq!(sums.0[&5], u64::MAX);
        // Of a clock that is behind all of them.
        sums.add(0, 7);
        assert_eq!((sums.0[&1], sums.0.len()), (8, HOURS_MAX));
    }

    #[test]
    fn what_is_written_is_read_and_what_is_no_sums_is_refused() {
        let sums = sums(&[(1, u64::MAX), (7, 2)]);
        assert_eq!(sums.text(), "{\"version\":1,\"hours\":[[1,18446744073709551615],[7,2]]}\n");
        assert_eq!(Sums::read(&sums.text()).unwrap(), sums);
        assert_eq!(Sums::read(&Sums::default().text()).unwrap(), Sums::default());
        for bad in ["", "[]", "{\"version\":1}", "{\"version\":1,\"hours\":[[1,-1]]}"] {
            assert!(matches!(Sums::read(bad), Err(SumsFault::Shape(_))), "{bad}");
        }
        let later = Sums::read("{\"version\":2,\"hours\":[]}");
        assert!(matches!(later, Err(SumsFault::Version(2))));
        for bad in ["[[2,1],[1,1]]", "[[1,1],[1,1]]", "[[4294967295,1]]"] {
            let read = Sums::read(&format!("{{\"version\":1,\"hours\":{bad}}}"));
            assert!(matches!(read, Err(SumsFault::Hours)), "{bad}");
        }
    }

    #[test]
    fn a_level_begins_at_its_percent_and_not_an_octet_before() {
        let config = EgressConfig {
            threshold: 1000,
            warning_percent: 50,
            critical_percent: 90,
            stop_when_critical: false,
            file: "egress.json".into(),
        };
        let of = |total| Level::of(total, &config);
        assert_eq!([0, 499].map(of), [Level::Calm; 2]);
        assert_eq!([500, 899].map(of), [Level::Warning; 2]);
        assert_eq!([900, u64::MAX].map(of), [Level::Critical; 2]);
    }
}
