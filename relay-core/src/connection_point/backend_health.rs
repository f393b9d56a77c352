//! Whether a backend is asked, by how it answered and by what checks of it found. Pure: the clock
//! is handed in.
//!
//! | state | becomes | when |
//! |---|---|---|
//! | asked | resting | `failures_max` failures in a row |
//! | resting | on trial | its rest is over and a request is to be sent |
//! | on trial | asked | it answers |
//! | on trial | resting, twice as long | it fails |
//! | on trial | asked, the next being its trial | the client goes or is waited for; it breaks off |
//! | any | out, by checks | two checks in a row fail |
//! | out, by checks | what it was before | one check passes |
//!
//! A failure is a connection that could not be made, or an answer that did not come in time.

use std::time::Duration;

use tokio::time::Instant;

/// How long a backend rests at most.
// Our choice: what is mended is found within minutes, and a dead host costs no more than that.
const REST_MAX: Duration = Duration::from_mins(5);

/// Checks in a row that fail before a backend is asked no more.
// Our choice: one lost packet is no news.
const CHECKS_FAILED_MAX: u32 = 2;

/// What is known of one backend.
#[derive(Debug)]
pub(super) struct Health {
    /// Failures in a row since its last answer, or its last rest.
    failures: u32,
    /// Rests in a row.
    rests: u32,
    /// The end of its rest, or of the time in which others leave a trial alone.
    until: Option<Instant>,
    /// Checks in a row that failed.
    checks_failed: u32,
    /// Why the last one that failed did, request or check.
    why: Option<Box<str>>,
    /// When what is shown changed last.
    since: Instant,
}

/// A change that is worth a line in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Notice {
    /// It is asked no more for this long.
    Rests(Duration),
    /// It answers again after a rest.
    Answers,
    /// Checks of it fail.
    ChecksFail,
    /// A check of it passed again.
    CheckPasses,
}

/// Whether a backend is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BackendState {
    /// It is asked.
    Up,
    /// It failed again and again and is left alone for a while, if there is another one.
    Resting,
    /// Checks of it fail, and it is left alone, if there is another one.
    CheckFails,
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self { failures: 0, rests: 0, until: None, checks_failed: 0, why: None, since: now }
    }

    /// It could not be connected to, or did not answer in time.
    pub(super) fn failed(
        &mut self,
        why: &str,
        (failures_max, rest): (u32, Duration),
        now: Instant,
    ) -> Option<Notice> {
        self.why = Some(why.into());
        // Requests that were under way when it began to rest are not held against it again; one
        // that was sent on trial is.
        if self.is_resting(now) && self.failures == 0 {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.rests == 0 && self.failures < failures_max {
            return None;
        }
        let time = rest.saturating_mul(1 << self.rests.min(16)).min(REST_MAX);
        self.rests = self.rests.saturating_add(1);
        self.failures = 0;
        self.until = Some(now + time);
        self.since = now;
        Some(Notice::Rests(time))
    }

    /// It answered, whatever.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Notice> {
        let rests = std::mem::take(&mut self.rests);
        self.failures = 0;
        self.until = None;
        if rests == 0 {
            return None;
        }
        self.since = now;
        Some(Notice::Answers)
    }

    /// A check of it has ended.
    pub(super) fn checked(&mut self, outcome: Result<(), &str>, now: Instant) -> Option<Notice> {
        let was_out = self.checks_failed >= CHECKS_FAILED_MAX;
        match outcome {
            Ok(()) => self.checks_failed = 0,
            Err(why) => {
                self.why = Some(why.into());
                self.checks_failed = self.checks_failed.saturating_add(1);
            }
        }
        let is_out = self.checks_failed >= CHECKS_FAILED_MAX;
        let notice = match (was_out, is_out) {
            (false, true) => Notice::ChecksFail,
            (true, false) => Notice::CheckPasses,
            _ => return None,
        };
        self.since = now;
        Some(notice)
    }

    /// A request is about to be sent to it. After a rest that is a trial: for `patience` others go
    /// elsewhere. Returns whether it is one.
    pub(super) fn take(&mut self, patience: Duration, now: Instant) -> bool {
        let is_trial = self.rests > 0 && !self.is_resting(now);
        if is_trial {
            self.until = Some(now + patience);
            // So that its failure counts although it seems to rest.
            self.failures = 1;
        }
        is_trial
    }

    /// A trial has ended without telling anything about it: its client has gone, was waited for or
    /// sent too much, or the connection broke. The next request is another.
    pub(super) fn give_back_trial(&mut self, now: Instant) {
        if self.rests > 0 && self.failures > 0 {
            self.failures = 0;
            self.until = Some(now);
        }
    }

    /// Whether the last check passed, if there was one.
    pub(super) fn passes_checks(&self) -> bool {
        self.checks_failed == 0
    }

    fn is_resting(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    pub(super) fn state(&self, now: Instant) -> BackendState {
        if self.checks_failed >= CHECKS_FAILED_MAX {
            BackendState::CheckFails
        } else if self.is_resting(now) {
            BackendState::Resting
        } else {
            BackendState::Up
        }
    }

    /// By which those that are left alone are asked if no other is there: those whose checks pass
    /// first, then the one whose rest is over first.
    pub(super) fn rank(&self) -> (bool, Option<Instant>) {
        (self.checks_failed >= CHECKS_FAILED_MAX, self.until)
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Why it is left alone, or failed last if it has not answered since.
    pub(super) fn why(&self) -> Option<&str> {
        let is_news = self.failures > 0 || self.rests > 0 || self.checks_failed > 0;
        self.why.as_deref().filter(|_| is_news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(5);
    const RULE: (u32, Duration) = (3, REST);
    const PATIENCE: Duration = Duration::from_secs(2);

    fn fail(health: &mut Health, now: Instant) -> Option<Notice> {
        health.failed("refused", RULE, now)
    }

    #[test]
    fn the_third_failure_in_a_row_has_a_backend_rest_and_an_answer_begins_anew() {
        let now = Instant::now();
        let mut health = Health::new(now);
        for _ in 0..2 {
            assert_eq!([fail(&mut health, now), fail(&mut health, now)], [None, None]);
            assert_eq!(health.state(now), BackendState::Up);
            assert_eq!((health.failures(), health.why()), (2, Some("refused")));
            assert_eq!(health.answered(now), None);
            assert_eq!((health.failures(), health.why()), (0, None));
        }
        fail(&mut health, now);
        fail(&mut health, now);
        assert_eq!(fail(&mut health, now), Some(Notice::Rests(REST)));
        assert_eq!(health.state(now), BackendState::Resting);
        assert_eq!(health.until(now), Some(now + REST));
    }

    #[test]
    fn after_its_rest_one_request_is_a_trial_and_the_others_leave_it_alone() {
        let mut now = Instant::now();
        let mut health = Health::new(now);
        for expected in [5, 10, 20, 40, 80, 160, 300, 300] {
            let notices: Vec<_> = (0..3).filter_map(|_| fail(&mut health, now)).collect();
            assert_eq!(notices, [Notice::Rests(Duration::from_secs(expected))]);
            now = health.until(now).unwrap();
            assert_eq!(health.state(now - Duration::from_nanos(1)), BackendState::Resting);
            assert_eq!(health.state(now), BackendState::Up);
            health.take(PATIENCE, now);
            assert_eq!(health.state(now), BackendState::Resting);
            assert_eq!(health.state(now + PATIENCE), BackendState::Up, "nobody told how it ended");
        }
        assert_eq!(health.answered(now), Some(Notice::Answers));
        assert_eq!(health.state(now), BackendState::Up);
        assert_eq!(fail(&mut health, now), None, "the record is clean");
    }

    #[test]
    fn a_trial_that_tells_nothing_makes_way_for_another_and_counts_for_nothing() {
        let now = Instant::now();
        let mut health = Health::new(now);
        assert!(!health.take(PATIENCE, now), "it has not rested");
        health.give_back_trial(now);
        assert_eq!((0..3).filter_map(|_| fail(&mut health, now)).count(), 1);
        let rested = now + REST;
        assert!(health.take(PATIENCE, rested));
        assert!(!health.take(PATIENCE, rested), "one at a time");
        health.give_back_trial(rested);
        assert_eq!((health.state(rested), health.failures()), (BackendState::Up, 0));
        assert!(health.take(PATIENCE, rested));
        assert_eq!(fail(&mut health, rested), Some(Notice::Rests(2 * REST)));
        // One that ends after that changes nothing.
        health.give_back_trial(rested);
        assert_eq!(health.until(rested), Some(rested + 2 * REST));
    }

    #[test]
    fn requests_that_were_under_way_do_not_make_a_rest_longer() {
        let now = Instant::now();
        let mut health = Health::new(now);
        let notices: Vec<_> = (0..9).filter_map(|_| fail(&mut health, now)).collect();
        assert_eq!(notices, [Notice::Rests(REST)]);
    }

    #[test]
    fn two_checks_that_fail_take_a_backend_out_and_one_that_passes_brings_it_back() {
        let now = Instant::now();
        let mut health = Health::new(now);
        let failed = Err("status 500");
        for _ in 0..2 {
            assert_eq!(health.checked(failed, now), None);
            assert_eq!(health.state(now), BackendState::Up);
            assert_eq!(health.checked(failed, now), Some(Notice::ChecksFail));
            assert_eq!(health.checked(failed, now), None, "told once");
            assert_eq!(health.state(now), BackendState::CheckFails);
            // Requests that it answers are no check.
            assert_eq!(health.answered(now), None);
            assert_eq!(health.state(now), BackendState::CheckFails);
            assert_eq!(health.checked(Ok(()), now), Some(Notice::CheckPasses));
            assert_eq!((health.state(now), health.why()), (BackendState::Up, None));
        }
    }

    #[test]
    fn where_none_is_up_one_whose_checks_pass_comes_first_and_then_the_first_rest_to_end() {
        let now = Instant::now();
        let rested = |at: Instant| {
            let mut health = Health::new(now);
            assert_eq!((0..3).filter_map(|_| fail(&mut health, at)).count(), 1);
            health
        };
        let (early, late) = (rested(now), rested(now + REST));
        let mut out = Health::new(now);
        assert_eq!((0..2).filter_map(|_| out.checked(Err("no"), now)).count(), 1);
        assert!(early.rank() < late.rank() && late.rank() < out.rank());
        // How often a check failed says how fast it failed, and nothing else.
        let mut longer_out = rested(now);
        assert_eq!((0..9).filter_map(|_| longer_out.checked(Err("no"), now)).count(), 1);
        let mut rests_too = rested(now + REST);
        assert_eq!((0..3).filter_map(|_| rests_too.checked(Err("no"), now)).count(), 1);
        assert!(longer_out.rank() < rests_too.rank());
    }
}
