//! Those that fail again and again sit out for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{LinkView, LoadBalancer, Notice, Outcome};

/// Failures in a row, without a success between them, that have a connection point ejected.
const FAILURES_MAX: u32 = 5;

/// How long a first ejection lasts; the next lasts twice as long, and so on.
const EJECTION: Duration = Duration::from_secs(30);

/// How long an ejection lasts at most.
const EJECTION_MAX: Duration = Duration::from_mins(5);

/// How long a connection point is remembered that neither fails nor succeeds.
const MEMORY: Duration = Duration::from_mins(10);

/// Connection points in trouble that are remembered at once, of 48 octets and a key each.
// Our choice: four times the links that a gateway instance takes by default.
const TROUBLED_MAX: usize = 1024;

/// Keeps connection points that fail again and again out of the sight of another balancer.
///
/// A connection point is *ejected* after 5 failures in a row, for 30 s at first and 30 s more each
/// time, 5 min at most. It comes back by itself. One success clears its record; so does silence
/// for 10 min. What counts is the connection point and not the link, because one that loses its
/// links shows up with a new one each time.
///
/// [`Outcome::Failed`], [`Outcome::Lost`] and [`Outcome::Refused`] are failures. A backend that is
/// down or slow is so for every connection point, so ejecting one does no good: who reports
/// outcomes makes that [`Outcome::Inconclusive`] where it can tell. Where it cannot, the harm is
/// bounded: of the connection points that are offered no more than half are kept out, rounded down,
/// so that a lone one never is. If more are ejected, those that come back first are let in early.
///
/// It tells of each ejection ([`Notice::Ejected`]), and of the first success after one
/// ([`Notice::Recovered`]), unless that comes so late that the ejection is forgotten.
///
/// The rule is that of Envoy's consecutive failures, with its multiplied time.
// Source: Envoy documentation, "Outlier detection", section "Ejection algorithm". The share of a
// half is our choice, because sites have two or three connection points; Envoy takes a tenth.
#[derive(Debug, Default)]
pub struct Outliers<B> {
    inner: B,
    troubled: Mutex<HashMap<u64, Trouble>>,
}

/// What is held against a connection point.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    /// Failures in a row since the last ejection.
    failures: u32,
    /// How often it was ejected.
    ejections: u32,
    /// The end of the last ejection, or the last failure if that came later.
    until: Instant,
}

impl Trouble {
    fn is_ejected(&self, now: Instant) -> bool {
        self.failures == 0 && now < self.until
    }

    fn is_stale(&self, now: Instant) -> bool {
        MEMORY < now.saturating_duration_since(self.until)
    }

    fn fail(&mut self, now: Instant) -> Option<Notice> {
        // Requests that were under way when it was ejected are not held against it again.
        if self.is_ejected(now) {
            return None;
        }
        self.failures += 1;
        self.until = now;
        if self.failures < FAILURES_MAX {
            return None;
        }
        let failures = std::mem::take(&mut self.failures);
        self.ejections = self.ejections.saturating_add(1);
        let time = EJECTION.saturating_mul(self.ejections).min(EJECTION_MAX);
        self.until += time;
        Some(Notice::Ejected { failures, time })
    }

    /// What its end by a success tells.
    fn end(self) -> Option<Notice> {
        let Self { ejections, .. } = self;
        (0 < ejections).then_some(Notice::Recovered { ejections })
    }
}

impl<B> Outliers<B> {
    /// Wraps `inner`, which is then offered, and told of, the others only.
    pub fn new(inner: B) -> Self {
        Self { inner, troubled: Mutex::default() }
    }

    fn troubled(&self) -> MutexGuard<'_, HashMap<u64, Trouble>> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves links of ejected connection points to the back, and returns how many are before them.
    fn admit(&self, links: &mut [LinkView], now: Instant) -> usize {
        let troubled = self.troubled();
        let ejected_until = |link: &LinkView| {
            let trouble = troubled.get(&link.connection_point)?;
            trouble.is_ejected(now).then_some((trouble.until, link.connection_point))
        };
        let mut out: Vec<(Instant, u64)> =
            links.chunk_by(LinkView::is_beside).filter_map(|own| ejected_until(&own[0])).collect();
        drop(troubled);
        if out.is_empty() {
            return links.len();
        }
        let out_max = links.chunk_by(LinkView::is_beside).count() / 2;
        out.sort_unstable_by(|one, other| other.cmp(one));
        out.truncate(out_max);
        let is_out = |link: &LinkView| out.iter().any(|(_, id)| *id == link.connection_point);
        // Stable: what belongs together stays together.
        links.sort_by_key(is_out);
        links.partition_point(|link| !is_out(link))
    }
}

impl<B: LoadBalancer> LoadBalancer for Outliers<B> {
    fn order(&self, links: &mut [LinkView], now: Instant, draw: u64) -> usize {
        let admitted = self.admit(links, now);
        self.inner.order(&mut links[..admitted], now, draw)
    }

    fn observe(&self, link: &LinkView, outcome: Outcome, now: Instant) -> Option<Notice> {
        let within = self.inner.observe(link, outcome, now);
        let id = link.connection_point;
        let own = match outcome {
            Outcome::Inconclusive => None,
            Outcome::Answered { .. } => self.troubled().remove(&id).and_then(Trouble::end),
            Outcome::Failed | Outcome::Lost | Outcome::Refused => {
                let mut troubled = self.troubled();
                troubled.retain(|_, trouble| !trouble.is_stale(now));
                if troubled.len() < TROUBLED_MAX || troubled.contains_key(&id) {
                    let fresh = Trouble { failures: 0, ejections: 0, until: now };
                    troubled.entry(id).or_insert(fresh).fail(now)
                } else {
                    None
                }
            }
        };
        own.or(within)
    }

    fn forget(&self, link: u64) {
        self.inner.forget(link);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::balance::RoundRobin;
    use crate::balance::testing::{links_of, site};

    const ANSWERED: Outcome = Outcome::Answered { latency: None };

    /// The connection points that are offered, one link each, in order of their numbers.
    fn offered(balancer: &Outliers<RoundRobin>, points: usize, now: Instant) -> Vec<u64> {
        let mut links = links_of(&vec![1; points]);
        let count = balancer.order(&mut links, now, 0);
        let mut ids: Vec<u64> = links[..count].iter().map(|link| link.connection_point).collect();
        ids.sort_unstable();
        ids
    }

    fn fail(balancer: &Outliers<RoundRobin>, point: u64, times: u32, now: Instant) {
        for _ in 0..times {
            balancer.observe(&LinkView::new(0, point, 0), Outcome::Failed, now);
        }
    }

    #[test]
    fn the_fifth_failure_in_a_row_ejects_whatever_its_kind() {
        for kind in [Outcome::Failed, Outcome::Lost, Outcome::Refused] {
            let (balancer, now) = (Outliers::new(RoundRobin::default()), Instant::now());
            for (link, expected) in [(0, 3), (1, 3), (2, 3), (3, 3), (4, 2)] {
                // A new link each time: it is the connection point that counts.
                balancer.observe(&LinkView::new(link, 1, 0), kind, now);
                balancer.observe(&LinkView::new(link, 1, 0), Outcome::Inconclusive, now);
                assert_eq!(offered(&balancer, 3, now).len(), expected, "{kind:?} {link}");
            }
            assert_eq!(offered(&balancer, 3, now), [0, 2]);
        }
    }

    #[test]
    fn one_success_clears_the_record() {
        let (balancer, now) = (Outliers::new(RoundRobin::default()), Instant::now());
        fail(&balancer, 1, 4, now);
        balancer.observe(&LinkView::new(0, 1, 0), ANSWERED, now);
        fail(&balancer, 1, 4, now);
        assert_eq!(offered(&balancer, 3, now), [0, 1, 2]);
        fail(&balancer, 1, 1, now);
        assert_eq!(offered(&balancer, 3, now), [0, 2]);
        balancer.observe(&LinkView::new(0, 1, 0), ANSWERED, now);
        assert_eq!(offered(&balancer, 3, now), [0, 1, 2]);
    }

    #[test]
    fn each_ejection_lasts_longer_up_to_five_minutes_and_ends_by_itself() {
        let (balancer, mut now) = (Outliers::new(RoundRobin::default()), Instant::now());
        for seconds in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300] {
            fail(&balancer, 1, FAILURES_MAX, now);
            // Those that were under way change nothing.
            fail(&balancer, 1, FAILURES_MAX, now);
            now += Duration::from_millis(seconds * 1000 - 1);
            assert_eq!(offered(&balancer, 3, now), [0, 2], "{seconds} s");
            now += Duration::from_millis(1);
            assert_eq!(offered(&balancer, 3, now), [0, 1, 2], "{seconds} s");
        }
    }

    #[test]
    fn an_ejection_is_told_once_and_so_is_the_first_success_after_it() {
        let (balancer, start) = (Outliers::new(RoundRobin::default()), Instant::now());
        let told = |outcome, now| balancer.observe(&LinkView::new(0, 1, 0), outcome, now);
        assert_eq!(told(ANSWERED, start), None, "nothing was wrong");
        let mut now = start;
        for seconds in [30, 60] {
            for _ in 1..FAILURES_MAX {
                assert_eq!(told(Outcome::Failed, now), None);
            }
            let time = Duration::from_secs(seconds);
            let expected = Notice::Ejected { failures: FAILURES_MAX, time };
            assert_eq!(told(Outcome::Lost, now), Some(expected));
            // One that was under way.
            assert_eq!(told(Outcome::Failed, now), None);
            assert_eq!(told(Outcome::Inconclusive, now), None);
            now += time;
        }
        assert_eq!(told(Outcome::Failed, now), None);
        assert_eq!(told(ANSWERED, now), Some(Notice::Recovered { ejections: 2 }));
        assert_eq!(told(ANSWERED, now), None);
        assert_eq!(told(Outcome::Failed, now), None);
        assert_eq!(told(ANSWERED, now), None, "it was not ejected since");
    }

    #[test]
    fn what_the_balancer_within_tells_is_passed_on() {
        let (balancer, now) = (Outliers::new(Outliers::new(RoundRobin::default())), Instant::now());
        balancer.inner.observe(&LinkView::new(0, 1, 0), Outcome::Failed, now);
        let told = |_| balancer.observe(&LinkView::new(0, 1, 0), Outcome::Failed, now);
        let told: Vec<_> = (1..FAILURES_MAX).filter_map(told).collect();
        assert_eq!(told, [Notice::Ejected { failures: FAILURES_MAX, time: EJECTION }]);
    }

    #[test]
    fn failures_that_are_long_past_are_forgotten() {
        let (balancer, start) = (Outliers::new(RoundRobin::default()), Instant::now());
        fail(&balancer, 1, 4, start);
        let later = start + MEMORY + Duration::from_millis(1);
        fail(&balancer, 1, 1, later);
        assert_eq!(offered(&balancer, 3, later), [0, 1, 2]);
        fail(&balancer, 2, 1, later + MEMORY);
        assert_eq!(balancer.troubled().len(), 2, "not before its time");
        fail(&balancer, 2, 1, later + MEMORY + Duration::from_millis(1));
        assert_eq!(balancer.troubled().len(), 1, "and not kept");
    }

    #[test]
    fn no_more_than_half_are_kept_out_and_those_that_come_back_first_are_let_in() {
        let (balancer, now) = (Outliers::new(RoundRobin::default()), Instant::now());
        fail(&balancer, 0, FAILURES_MAX, now);
        assert_eq!(offered(&balancer, 1, now), [0], "a lone one stays");
        assert_eq!(offered(&balancer, 2, now), [1]);
        fail(&balancer, 1, FAILURES_MAX, now + Duration::from_secs(1));
        fail(&balancer, 2, FAILURES_MAX, now + Duration::from_secs(2));
        let later = now + Duration::from_secs(2);
        assert_eq!(offered(&balancer, 3, later), [0, 1]);
        assert_eq!(offered(&balancer, 5, later), [0, 3, 4]);
    }

    #[test]
    fn names_without_end_are_not_remembered_without_end() {
        let (balancer, now) = (Outliers::new(RoundRobin::default()), Instant::now());
        for point in 0..2 * TROUBLED_MAX as u64 {
            fail(&balancer, point, 1, now);
        }
        assert_eq!(balancer.troubled().len(), TROUBLED_MAX);
        fail(&balancer, 0, FAILURES_MAX - 1, now);
        assert_eq!(offered(&balancer, 3, now), [1, 2], "those that are remembered still count");
    }

    /// Whom something happens to, what, and how many seconds after the last.
    fn history() -> impl Strategy<Value = Vec<(u64, Outcome, u64)>> {
        let outcomes = [Outcome::Failed, Outcome::Lost, Outcome::Refused, ANSWERED];
        vec((0u64..6, proptest::sample::select(outcomes.to_vec()), 0u64..20), 0..200)
    }

    proptest! {
        #[test]
        fn whatever_happened_at_least_half_remain_and_each_is_one_that_was_given(
            site in site(),
            history in history(),
        ) {
            let (balancer, mut now) = (Outliers::new(RoundRobin::default()), Instant::now());
            let links = links_of(&site);
            for (point, outcome, after) in history {
                now += Duration::from_secs(after);
                balancer.observe(&LinkView::new(0, point, 0), outcome, now);
                let mut offered = links.clone();
                let count = balancer.order(&mut offered, now, 0);
                let mut remain: Vec<u64> =
                    offered[..count].iter().map(|link| link.connection_point).collect();
                remain.sort_unstable();
                remain.dedup();
                prop_assert!(remain.len() >= site.len().div_ceil(2));
                offered.sort_by_key(|link| link.id);
                prop_assert_eq!(&offered, &links);
            }
            // Silence brings everyone back.
            now += EJECTION_MAX;
            prop_assert_eq!(balancer.order(&mut links.clone(), now, 0), links.len());
        }
    }
}
