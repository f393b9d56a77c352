//! When the log is told that something ends. Pure: what ends and the time in, notices out.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Ending;

const DAY: Duration = Duration::from_hours(24);

/// Days before an end at which it is told.
const DAYS: [u32; 7] = [60, 30, 14, 7, 3, 2, 1];

/// How near an end is. It is told once for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Nearness {
    /// So many days at most are left: one of [`DAYS`].
    Ahead(u32),
    /// So many whole days it is over.
    Over(u64),
}

impl Nearness {
    /// How near the end of `ending` is at `now`; `None` if it is too far to be told.
    ///
    /// Our choice: of what lives for so short a time that it always ends within so many days, such
    /// as a weekly revocation list, the end is near in the last third of its life at the earliest.
    pub(super) fn of(ending: &Ending, now: SystemTime) -> Option<Self> {
        let begins_at = ending.begins_at?;
        let Ok(left) = ending.ends_at.duration_since(now) else {
            let over = now.duration_since(ending.ends_at).unwrap_or_default();
            return Some(Self::Over(over.as_secs() / DAY.as_secs()));
        };
        let life = ending.ends_at.duration_since(begins_at).unwrap_or_default();
        let reached = DAYS.into_iter().rev().find(|days| left <= DAY * *days)?;
        let is_short = reached == 1 && left * 3 <= life;
        (DAY * reached * 3 <= life || is_short).then_some(Self::Ahead(reached))
    }
}

/// What the log has of each.
#[derive(Debug, Default)]
pub(super) struct Notices(HashMap<Ending, Nearness>);

/// Something that the log is told.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Notice {
    ending: Ending,
    nearness: Nearness,
}

impl Notices {
    /// What of `all` is to be told at `now`. What is not there any more is forgotten.
    pub(super) fn news(&mut self, all: &[Ending], now: SystemTime) -> Vec<Notice> {
        let near = all.iter().filter_map(|it| Some((it.clone(), Nearness::of(it, now)?)));
        let near: HashMap<_, _> = near.collect();
        let news = near.iter().filter(|(it, nearness)| self.0.get(*it) != Some(*nearness));
        let mut news: Vec<_> =
            news.map(|(it, at)| Notice { ending: it.clone(), nearness: *at }).collect();
        news.sort_by(|a, b| {
            let place = |it: &Notice| (it.ending.ends_at, it.ending.what, it.ending.name.clone());
            place(a).cmp(&place(b))
        });
        self.0 = near;
        news
    }
}

impl Notice {
    pub(super) fn log(&self) {
        let Ending { what, name, place, ends_at, .. } = &self.ending;
        let ends_at = OffsetDateTime::from(*ends_at).format(&Rfc3339).unwrap_or_default();
        match self.nearness {
            Nearness::Ahead(days) => tracing::warn!(
                what,
                name,
                place,
                ends_at,
                days,
                "it ends within so many days; put a new one in its place"
            ),
            Nearness::Over(days) => tracing::error!(
                what,
                name,
                place,
                ends_at,
                days,
                "it is over since so many days, and what needs it is refused; put a new one in its \
                 place"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn end() -> SystemTime {
        UNIX_EPOCH + DAY * 20_000
    }

    /// Something that lives for so many days.
    fn ending(life: u32) -> Ending {
        Ending {
            what: "server certificate",
            name: "CN=relay.example".to_owned(),
            place: "clients.pem".to_owned(),
            begins_at: Some(end() - DAY * life),
            ends_at: end(),
        }
    }

    #[test]
    fn each_step_is_told_at_its_second_and_not_the_one_before() {
        let at = |before: Duration| Nearness::of(&ending(825), end() - before);
        let before = [None, Some(60), Some(30), Some(14), Some(7), Some(3), Some(2)];
        for (days, before) in DAYS.into_iter().zip(before) {
            assert_eq!(at(DAY * days + SECOND), before.map(Nearness::Ahead), "{days}");
            assert_eq!(at(DAY * days), Some(Nearness::Ahead(days)));
        }
        assert_eq!(at(Duration::ZERO), Some(Nearness::Ahead(1)), "its last second");
        let after = |over: Duration| Nearness::of(&ending(825), end() + over);
        assert_eq!([SECOND, Duration::from_secs(86_399)].map(after), [Some(Nearness::Over(0)); 2]);
        assert_eq!(after(DAY), Some(Nearness::Over(1)));
        assert_eq!(after(DAY * 400), Some(Nearness::Over(400)));
    }

    #[test]
    fn what_lives_shortly_is_told_in_the_last_third_of_its_life() {
        let told = |life: u32| {
            let steps = DAYS.into_iter().filter(|days| {
                let at = Nearness::of(&ending(life), end() - DAY * *days);
                at == Some(Nearness::Ahead(*days))
            });
            steps.collect::<Vec<_>>()
        };
        assert_eq!([told(180), told(179)], [DAYS.to_vec(), DAYS[1..].to_vec()]);
        assert_eq!([told(90), told(89)], [DAYS[1..].to_vec(), DAYS[2..].to_vec()]);
        assert_eq!([told(7), told(6), told(5)], [vec![2, 1], vec![2, 1], vec![1]]);
        assert!([told(2), told(1)].iter().all(Vec::is_empty));
        let at = |left: Duration| Nearness::of(&ending(1), end() - left);
        let third = Duration::from_hours(8);
        assert_eq!([at(third + SECOND), at(third)], [None, Some(Nearness::Ahead(1))]);
        let fetched = Ending { begins_at: None, ..ending(1) };
        assert_eq!(Nearness::of(&fetched, end() + DAY), None, "somebody fetches the next one");
    }

    #[test]
    fn each_step_is_told_once_and_daily_after_the_end_and_a_new_one_ends_it() {
        let (mut notices, all) = (Notices::default(), [ending(825)]);
        let minute = Duration::from_mins(1);
        let mut told = Vec::new();
        // From 61 days before until three after it, each minute.
        for minutes in 0..64 * 24 * 60 {
            let now = end() - DAY * 61 + minute * minutes;
            told.extend(notices.news(&all, now).into_iter().map(|it| it.nearness));
        }
        let ahead = DAYS.map(Nearness::Ahead);
        let over = [0, 1, 2].map(Nearness::Over);
        assert_eq!(told, [&ahead[..], &over].concat());
        assert!(notices.news(&[], end() + DAY * 3).is_empty());
        assert_eq!(notices.news(&all, end() + DAY * 3).len(), 1, "the old one is back");
    }

    #[test]
    fn a_role_that_starts_is_told_of_what_is_near_at_once_the_next_end_first() {
        let later = Ending { ends_at: end() + DAY, ..ending(825) };
        let news = Notices::default().news(&[later.clone(), ending(825)], end() - DAY * 20);
        let nearness = Nearness::Ahead(30);
        let first = Notice { ending: ending(825), nearness };
        assert_eq!(news, [first, Notice { ending: later, nearness }]);
    }
}
