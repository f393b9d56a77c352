//! The better of two that were drawn, by how long they took of late.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{LinkView, LoadBalancer, Notice, Outcome};

/// Time in which what was seen of a link loses all but 1/e of its weight.
// Source: Finagle user guide, "Clients", "Power of Two Choices + Peak EWMA": a decay of 10 s.
const DECAY: Duration = Duration::from_secs(10);

/// Seconds that count for an attempt that brought no answer, and for each request under way on a
/// link that has answered none yet.
// Our choice: slower than a healthy site, so that a link which fails fast does not look fast; gone
// after a few times [`DECAY`].
const PENALTY_SECONDS: f64 = 5.0;

/// Draws two links and picks the one with the lighter load.
///
/// Its load is what it took of late, times one more than its requests in flight. What it took of
/// late is an average that decays exponentially and jumps up to a peak at once: it is quick to
/// leave a link that has become slow and slow to come back. Weighing two instead of all keeps
/// requests from falling upon the one link that looked best a moment ago.
///
/// A link that has answered nothing yet is the lightest of all until it has a request, and is then
/// heavy until the first answer: one request finds out, not a crowd.
///
/// Silence is no speed: while a link has requests that it does not answer, its average falls no
/// lower than that of the other one that was drawn. So a link that hangs is weighed by what it has
/// in flight, which grows, and gets no growing share; one that has nothing to do is forgiven.
///
/// Holds 24 octets and a key for each link that is up.
// Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE
// Transactions on Parallel and Distributed Systems 12 (10), 2001; the measure as in Finagle.
#[derive(Debug, Default)]
pub struct PeakEwma {
    seen: Mutex<HashMap<u64, Average>>,
}

/// What a link took of late.
#[derive(Clone, Copy, Debug)]
struct Average {
    seconds: f64,
    at: Instant,
}

impl Average {
    /// What is left of the average's weight.
    fn weight(self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.at).div_duration_f64(DECAY)).exp()
    }

    fn take(&mut self, seconds: f64, now: Instant) {
        let weight = self.weight(now);
        let mean = self.seconds * weight + seconds * (1.0 - weight);
        *self = Self { seconds: mean.max(seconds), at: now };
    }
}

/// How heavy a pick of `link` weighs, beside that of `other`.
fn load(seen: &HashMap<u64, Average>, link: &LinkView, other: &LinkView, now: Instant) -> f64 {
    let in_flight = f64::from(link.in_flight);
    let Some(average) = seen.get(&link.id) else { return PENALTY_SECONDS * in_flight };
    let decayed = average.seconds * average.weight(now);
    let floor = seen.get(&other.id).filter(|_| link.in_flight > 0);
    // Never above what it was seen to take: that it does not answer yet does not make it slower.
    let floor = floor.map_or(0.0, |it| (it.seconds * it.weight(now)).min(average.seconds));
    decayed.max(floor) * (in_flight + 1.0)
}

/// Two different places below `count`, which is 2 or more.
fn two_of(count: usize, draw: u64) -> (usize, usize) {
    let below =
        |half: u64, count: usize| usize::try_from(half % count as u64).expect("less than a usize");
    let (one, other) = (below(draw >> 32, count), below(draw & 0xffff_ffff, count - 1));
    (one, if other < one { other } else { other + 1 })
}

impl LoadBalancer for PeakEwma {
    fn order(&self, links: &mut [LinkView], now: Instant, draw: u64) -> usize {
        if links.len() < 2 {
            return links.len();
        }
        let (one, other) = two_of(links.len(), draw);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let loads = [(one, other), (other, one)]
            .map(|(at, beside)| load(&seen, &links[at], &links[beside], now));
        drop(seen);
        // Averages that have decayed to nothing differ by what is in flight.
        let by_count = || links[one].in_flight.cmp(&links[other].in_flight);
        let one_is_lighter = loads[0].total_cmp(&loads[1]).then_with(by_count).is_le();
        let (best, second) = if one_is_lighter { (one, other) } else { (other, one) };
        links.swap(0, best);
        // The first swap may have moved it.
        links.swap(1, if second == 0 { best } else { second });
        links.len()
    }

    fn observe(&self, link: &LinkView, outcome: Outcome, now: Instant) -> Option<Notice> {
        let seconds = match outcome {
            Outcome::Answered { latency: Some(latency) } => latency.as_secs_f64(),
            Outcome::Failed | Outcome::Lost | Outcome::Refused => PENALTY_SECONDS,
            Outcome::Answered { latency: None } | Outcome::Inconclusive => return None,
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let average = seen.entry(link.id).or_insert(Average { seconds, at: now });
        average.take(seconds, now);
        None
    }

    fn forget(&self, link: u64) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&link);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::balance::testing::{links_of, loaded_site};

    fn answered(milliseconds: u64) -> Outcome {
        Outcome::Answered { latency: Some(Duration::from_millis(milliseconds)) }
    }

    /// The load of an idle link.
    fn load_of(balancer: &PeakEwma, id: u64, now: Instant) -> f64 {
        let [link, nobody] = [id, u64::MAX].map(|id| LinkView::new(id, 0, 0));
        load(&balancer.seen.lock().unwrap(), &link, &nobody, now)
    }

    #[test]
    fn a_peak_counts_at_once_and_what_is_better_counts_slowly() {
        let (balancer, start) = (PeakEwma::default(), Instant::now());
        let link = LinkView::default();
        balancer.observe(&link, answered(100), start);
        balancer.observe(&link, answered(2000), start);
        assert!((load_of(&balancer, 0, start) - 2.0).abs() < 1e-9);
        balancer.observe(&link, answered(100), start + DECAY);
        let expected = 2.0 / std::f64::consts::E + 0.1 * (1.0 - 1.0 / std::f64::consts::E);
        assert!((load_of(&balancer, 0, start + DECAY) - expected).abs() < 1e-9);
    }

    #[test]
    fn a_slow_link_that_is_left_alone_gets_another_chance() {
        let (balancer, start) = (PeakEwma::default(), Instant::now());
        let [slow, fast] = [LinkView::new(1, 1, 0), LinkView::new(2, 2, 0)];
        balancer.observe(&slow, answered(10_000), start);
        balancer.observe(&fast, answered(100), start);
        let picked = |now| {
            let mut links = [slow, fast];
            balancer.order(&mut links, now, 0);
            links[0].id
        };
        assert_eq!(picked(start), 2);
        let later = start + 10 * DECAY;
        balancer.observe(&fast, answered(100), later);
        assert_eq!(picked(later), 1);
    }

    #[test]
    fn a_link_that_has_stopped_answering_gets_no_growing_share() {
        let (balancer, start) = (PeakEwma::default(), Instant::now());
        let [mut hung, sound] = [LinkView::new(1, 1, 0), LinkView::new(2, 2, 0)];
        balancer.observe(&hung, answered(100), start);
        let mut picked = [0_u32; 6];
        // One request every 100 ms for a minute: the sound link answers each at once, in 100 ms.
        for step in 0..600 {
            let now = start + step * Duration::from_millis(100);
            balancer.observe(&sound, answered(100), now);
            let mut links = [hung, sound];
            balancer.order(&mut links, now, 0);
            if links[0].id == hung.id {
                hung.in_flight += 1;
                picked[usize::try_from(step / 100).unwrap()] += 1;
            }
        }
        assert!(picked[0] <= 2, "{picked:?}");
        assert_eq!(picked[1..], [0; 5], "of 100 in each 10 s");
    }

    #[test]
    fn a_link_that_fails_fast_does_not_look_fast() {
        let start = Instant::now();
        for outcome in [Outcome::Failed, Outcome::Lost, Outcome::Refused] {
            let balancer = PeakEwma::default();
            balancer.observe(&LinkView::new(1, 1, 0), outcome, start);
            balancer.observe(&LinkView::new(2, 2, 0), answered(1000), start);
            assert!(load_of(&balancer, 1, start) > load_of(&balancer, 2, start), "{outcome:?}");
        }
    }

    #[test]
    fn a_new_link_gets_one_request_first_and_no_crowd() {
        let (balancer, now) = (PeakEwma::default(), Instant::now());
        let [mut new, known] = [LinkView::new(1, 1, 0), LinkView::new(2, 2, 3)];
        balancer.observe(&known, answered(50), now);
        let mut links = [known, new];
        balancer.order(&mut links, now, 0);
        assert_eq!(links[0].id, 1, "it has its chance");
        new.in_flight = 1;
        let mut links = [new, known];
        balancer.order(&mut links, now, 0);
        assert_eq!(links[0].id, 2, "the first answer is awaited");
    }

    #[test]
    fn what_tells_nothing_is_not_kept_and_links_that_are_gone_are_forgotten() {
        let (balancer, now) = (PeakEwma::default(), Instant::now());
        let link = LinkView::new(1, 1, 0);
        balancer.observe(&link, Outcome::Inconclusive, now);
        balancer.observe(&link, Outcome::Answered { latency: None }, now);
        assert!(balancer.seen.lock().unwrap().is_empty());
        balancer.observe(&link, answered(1), now);
        assert_eq!(balancer.seen.lock().unwrap().len(), 1);
        balancer.forget(1);
        assert!(balancer.seen.lock().unwrap().is_empty());
    }

    #[test]
    fn every_pair_can_be_drawn() {
        let mut pairs: Vec<_> =
            (0..3).flat_map(|a| (0..2).map(move |b| two_of(3, a << 32 | b))).collect();
        pairs.sort_unstable();
        assert_eq!(pairs, [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]);
    }

    #[test]
    fn an_average_that_has_decayed_to_nothing_leaves_it_to_the_count() {
        let (balancer, start) = (PeakEwma::default(), Instant::now());
        let mut links = links_of(&[1, 1]);
        for link in &links {
            balancer.observe(link, answered(1), start);
        }
        links[0].in_flight = 1;
        balancer.order(&mut links, start + 10_000 * DECAY, 0);
        assert_eq!(links[0].id, 1);
    }

    proptest! {
        #[test]
        fn the_heavier_of_the_two_is_never_picked(
            links in loaded_site(),
            history in vec((0usize..30, 1u64..5000, 0u64..3000), 0..40),
            draw: u64,
        ) {
            let (balancer, mut now) = (PeakEwma::default(), Instant::now());
            for (which, latency, after) in history {
                now += Duration::from_millis(after);
                balancer.observe(&links[which % links.len()], answered(latency), now);
            }
            let mut offered = links.clone();
            prop_assert_eq!(balancer.order(&mut offered, now, draw), links.len());
            if let [best, second, ..] = offered[..] {
                let (one, other) = two_of(links.len(), draw);
                let mut drawn = [links[one].id, links[other].id];
                drawn.sort_unstable();
                let mut front = [best.id, second.id];
                front.sort_unstable();
                prop_assert_eq!(front, drawn);
                let seen = balancer.seen.lock().unwrap();
                let weighs = |link, beside| load(&seen, link, beside, now);
                prop_assert!(weighs(&best, &second) <= weighs(&second, &best));
                // What is in flight makes nothing lighter, however long nothing was heard.
                let idle = LinkView { in_flight: 0, ..best };
                prop_assert!(weighs(&idle, &second) <= weighs(&best, &second));
            }
            offered.sort_by_key(|link| link.id);
            prop_assert_eq!(offered, links, "every link is offered once");
        }
    }
}
