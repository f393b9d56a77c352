//! When each source is fetched next. Pure: time is an argument, and so is what is drawn.
//!
//! A source waits or is being fetched, and there is no third state:
//!
//! | event | waits | is being fetched |
//! |---|---|---|
//! | its time has come (`poll_fetch`) | is fetched | — |
//! | fetched | — | waits as long as the source says |
//! | failed | — | waits 5 s to 5 min |
//! | asked for (`handle_asked`) | its time has come, once in 5 min | the one under way serves |
//! | not wanted (`handle_forgotten`) | is gone | is gone |
//!
//! Times are since some moment that stays the same, of a clock that nobody sets.

use std::collections::BTreeMap;
use std::time::Duration;

/// How often a source may be asked for because of an unknown key.
// Source: the site's design, "Tokens": at most once in 5 minutes, single flight.
const ASKED_EVERY: Duration = Duration::from_mins(5);

/// The first delay after failures is half of this at least, the last one this at most.
// Our choice: an authority that is back is noticed within five minutes.
const AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));

/// The rarest that a source is fetched.
pub(super) const DAY: Duration = Duration::from_hours(24);

/// What part of a regular delay is drawn: instances that started together drift apart.
const DRAWN: f64 = 0.1;

/// What became of having asked for newer keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Asked {
    /// They are fetched now, for this.
    Begun,
    /// They are being fetched already, or are about to be.
    UnderWay,
    /// They were asked for less than five minutes ago: whoever has asked will not be told more.
    TooSoon,
    /// Nobody wants this source.
    Unwanted,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Waiting { at: Duration },
    Fetching,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// In a row.
    failures: u32,
    /// When it was last fetched because somebody has asked.
    asked: Option<Duration>,
}

/// Sources by number. A number is never used again, so that what comes late is of nobody.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    sources: BTreeMap<u64, Entry>,
}

impl Schedule {
    /// A source is wanted from now on: it is fetched at once.
    pub(super) fn handle_wanted(&mut self, source: u64, now: Duration) {
        let state = State::Waiting { at: now };
        self.sources.entry(source).or_insert(Entry { state, failures: 0, asked: None });
    }

    /// A source is wanted no more. What is still heard of it is ignored.
    pub(super) fn handle_forgotten(&mut self, source: u64) {
        self.sources.remove(&source);
    }

    /// Somebody needs a source newer than it is.
    pub(super) fn handle_asked(&mut self, source: u64, now: Duration) -> Asked {
        let Some(entry) = self.sources.get_mut(&source) else { return Asked::Unwanted };
        match &mut entry.state {
            State::Fetching => Asked::UnderWay,
            State::Waiting { at } if *at <= now => Asked::UnderWay,
            State::Waiting { .. } if entry.asked.is_some_and(|last| now < last + ASKED_EVERY) => {
                Asked::TooSoon
            }
            State::Waiting { at } => {
                *at = now;
                entry.asked = Some(now);
                Asked::Begun
            }
        }
    }

    /// A source was fetched, and is to be fetched again in `next`, a day at most, or a little
    /// sooner. `random` is drawn evenly from 0 to 1.
    pub(super) fn handle_fetched(
        &mut self,
        source: u64,
        now: Duration,
        next: Duration,
        random: f64,
    ) {
        let next = next.min(DAY).mul_f64(1.0 - DRAWN * random.clamp(0.0, 1.0));
        self.end(source, |entry| {
            entry.failures = 0;
            now + next
        });
    }

    /// A source could not be fetched. `random` is drawn evenly from 0 to 1.
    pub(super) fn handle_failed(&mut self, source: u64, now: Duration, random: f64) {
        self.end(source, |entry| {
            let doubled = 1u32.checked_shl(entry.failures).unwrap_or(u32::MAX);
            entry.failures = entry.failures.saturating_add(1);
            let ceiling = AGAIN.0.saturating_mul(doubled).min(AGAIN.1);
            now + ceiling.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
        });
    }

    fn end(&mut self, source: u64, next: impl FnOnce(&mut Entry) -> Duration) {
        let Some(entry) = self.sources.get_mut(&source) else { return };
        if entry.state == State::Fetching {
            entry.state = State::Waiting { at: next(entry) };
        }
    }

    /// A source is due in `due`, as a clock says that may have been set meanwhile. It is fetched no
    /// later than that; while it fails its own delays count.
    pub(super) fn handle_due(&mut self, source: u64, now: Duration, due: Duration) {
        let Some(entry) = self.sources.get_mut(&source) else { return };
        if let State::Waiting { at } = &mut entry.state
            && entry.failures == 0
        {
            *at = (*at).min(now + due);
        }
    }

    /// A source whose time has come, the one that waits longest first. It is being fetched from now
    /// on, until one of `handle_fetched` and `handle_failed` says otherwise.
    pub(super) fn poll_fetch(&mut self, now: Duration) -> Option<u64> {
        let (at, source) = self.waiting().min()?;
        if now < at {
            return None;
        }
        self.sources.get_mut(&source)?.state = State::Fetching;
        Some(source)
    }

    /// When `poll_fetch` is to be asked again; `None` if only an event changes anything.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.waiting().map(|(at, _)| at).min()
    }

    /// When a source is fetched next; `None` while it is, or is not wanted.
    pub(super) fn next(&self, source: u64) -> Option<Duration> {
        match self.sources.get(&source)?.state {
            State::Waiting { at } => Some(at),
            State::Fetching => None,
        }
    }

    fn waiting(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.sources.iter().filter_map(|(source, entry)| match entry.state {
            State::Waiting { at } => Some((at, *source)),
            State::Fetching => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 7;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fetching() -> Schedule {
        let mut schedule = Schedule::default();
        schedule.handle_wanted(S, secs(0));
        assert_eq!(schedule.poll_fetch(secs(0)), Some(S));
        schedule
    }

    #[test]
    fn a_new_source_is_fetched_at_once_and_by_one() {
        let mut schedule = fetching();
        assert_eq!(schedule.poll_fetch(secs(1_000_000)), None);
        schedule.handle_wanted(S, secs(1));
        assert_eq!((schedule.poll_fetch(secs(1)), schedule.poll_timeout()), (None, None));
    }

    #[test]
    fn delays_after_failures_grow_from_five_seconds_to_five_minutes() {
        for (random, expected) in
            [(0.0, [5, 10, 20, 40, 80, 150, 150]), (1.0, [10, 20, 40, 80, 160, 300, 300])]
        {
            let mut schedule = fetching();
            let mut now = secs(0);
            for delay in expected {
                schedule.handle_failed(S, now, random);
                assert_eq!(schedule.poll_timeout(), Some(now + secs(delay)));
                now += secs(delay);
                assert_eq!(schedule.poll_fetch(now), Some(S));
            }
            schedule.handle_fetched(S, now, secs(1), 0.0);
            assert_eq!(schedule.poll_fetch(now + secs(1)), Some(S));
            schedule.handle_failed(S, now, 1.0);
            assert_eq!(schedule.poll_timeout(), Some(now + secs(10)), "what came ends the row");
        }
    }

    #[test]
    fn a_source_is_asked_for_once_in_five_minutes_and_by_one() {
        let mut schedule = fetching();
        assert_eq!(schedule.handle_asked(S, secs(0)), Asked::UnderWay);
        schedule.handle_fetched(S, secs(1), DAY, 0.0);
        assert_eq!(schedule.handle_asked(S, secs(2)), Asked::Begun);
        assert_eq!(schedule.handle_asked(S, secs(2)), Asked::UnderWay);
        assert_eq!(schedule.poll_fetch(secs(2)), Some(S));
        assert_eq!(schedule.handle_asked(S, secs(2)), Asked::UnderWay);
        schedule.handle_fetched(S, secs(3), DAY, 0.0);
        assert_eq!(schedule.handle_asked(S, secs(301)), Asked::TooSoon);
        assert_eq!(schedule.poll_fetch(secs(301)), None);
        assert_eq!(schedule.handle_asked(S, secs(302)), Asked::Begun);
        assert_eq!(schedule.handle_asked(S + 1, secs(302)), Asked::Unwanted);
    }

    #[test]
    fn a_clock_that_was_set_brings_a_source_forward_and_never_puts_it_off() {
        let mut schedule = fetching();
        schedule.handle_due(S, secs(0), secs(1));
        assert_eq!(schedule.poll_timeout(), None, "it is being fetched");
        schedule.handle_fetched(S, secs(0), secs(100), 0.0);
        schedule.handle_due(S, secs(10), secs(100));
        assert_eq!(schedule.poll_timeout(), Some(secs(100)));
        schedule.handle_due(S, secs(10), secs(20));
        assert_eq!(schedule.next(S), Some(secs(30)));
        assert_eq!(schedule.poll_fetch(secs(30)), Some(S));
        schedule.handle_failed(S, secs(30), 0.0);
        schedule.handle_due(S, secs(30), secs(0));
        assert_eq!(schedule.poll_timeout(), Some(secs(35)), "failures have delays of their own");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Want(u64),
        Forget(u64),
        Ask(u64),
        Fetched(u64, u64, f64),
        Failed(u64, f64),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let source = 0..3u64;
        prop_oneof![
            source.clone().prop_map(Step::Want),
            source.clone().prop_map(Step::Forget),
            source.clone().prop_map(Step::Ask),
            (source.clone(), 0..200_000u64, 0.0..=1.0)
                .prop_map(|(it, next, random)| Step::Fetched(it, next, random)),
            (source, 0.0..=1.0).prop_map(|(it, random)| Step::Failed(it, random)),
            prop_oneof![0..20u64, 0..400u64, 0..100_000u64].prop_map(Step::Wait),
        ]
    }

    /// What may be expected of one source, written down apart from how it is done.
    #[derive(Clone, Debug, Default)]
    struct Model {
        is_fetching: bool,
        /// It is fetched between these; that somebody has asked makes it the second.
        span: (Duration, Duration),
        begun: Vec<Duration>,
    }

    #[derive(Debug, Default)]
    struct World {
        schedule: Schedule,
        models: BTreeMap<u64, Model>,
        now: Duration,
    }

    impl World {
        fn step(&mut self, step: &Step) {
            let now = self.now;
            match *step {
                Step::Want(it) => {
                    self.schedule.handle_wanted(it, now);
                    let new = Model { span: (now, now), ..Model::default() };
                    self.models.entry(it).or_insert(new);
                }
                Step::Forget(it) => {
                    self.schedule.handle_forgotten(it);
                    self.models.remove(&it);
                }
                Step::Ask(it) => self.ask(it),
                Step::Fetched(it, next, random) => {
                    self.schedule.handle_fetched(it, now, secs(next), random);
                    let next = secs(next).min(DAY);
                    self.ended(it, (next.mul_f64(0.9 - 1e-9), next));
                }
                Step::Failed(it, random) => {
                    self.schedule.handle_failed(it, now, random);
                    self.ended(it, (secs(5), secs(300)));
                }
                Step::Wait(seconds) => self.now += secs(seconds),
            }
        }

        fn ask(&mut self, it: u64) {
            let (now, asked) = (self.now, self.schedule.handle_asked(it, self.now));
            let Some(model) = self.models.get_mut(&it) else {
                return assert_eq!(asked, Asked::Unwanted);
            };
            let is_soon = model.begun.last().is_some_and(|last| now < *last + secs(300));
            match asked {
                Asked::Begun => {
                    assert!(!model.is_fetching && !is_soon);
                    model.begun.push(now);
                    model.span = (now, now);
                }
                Asked::TooSoon => assert!(!model.is_fetching && is_soon),
                Asked::UnderWay => assert!(model.is_fetching || model.span.0 <= now),
                Asked::Unwanted => panic!("it is wanted"),
            }
        }

        fn ended(&mut self, it: u64, span: (Duration, Duration)) {
            if let Some(model) = self.models.get_mut(&it).filter(|model| model.is_fetching) {
                model.is_fetching = false;
                model.span = (self.now + span.0, self.now + span.1);
            }
        }

        fn fetch_all(&mut self) {
            while let Some(it) = self.schedule.poll_fetch(self.now) {
                let model = self.models.get_mut(&it).expect("only what is wanted is fetched");
                assert!(!model.is_fetching, "two fetch one source");
                assert!(model.span.0 <= self.now, "too early");
                model.is_fetching = true;
            }
            for model in self.models.values().filter(|model| !model.is_fetching) {
                assert!(self.now < model.span.1, "too late");
            }
            let next = self.schedule.poll_timeout();
            let is_any_waiting = self.models.values().any(|model| !model.is_fetching);
            assert_eq!(next.is_some(), is_any_waiting);
            assert!(next.is_none_or(|next| next > self.now));
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_each_source_is_fetched_by_one_and_in_time(
            steps in prop::collection::vec(step(), 1..200)
        ) {
            let mut world = World::default();
            for step in &steps {
                world.step(step);
                world.fetch_all();
            }
        }
    }
}
