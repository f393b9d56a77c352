//! Whoever has least to do.

use std::time::Instant;

use super::{LinkView, LoadBalancer, RoundRobin};

/// The link with the fewest requests in flight; those with equally few take turns as in
/// [`RoundRobin`], and so do the ones behind it.
///
/// It evens out requests that take unlike times. Only this gateway instance's own requests are
/// seen, and a connection point with several links is seen as several.
#[derive(Debug, Default)]
pub struct LeastInFlight {
    turns: RoundRobin,
}

impl LoadBalancer for LeastInFlight {
    fn order(&self, links: &mut [LinkView], now: Instant, draw: u64) -> usize {
        let count = self.turns.order(links, now, draw);
        // The first among equals.
        let least = links.iter().enumerate().min_by_key(|(_, link)| link.in_flight);
        if let Some((at, _)) = least {
            links[..=at].rotate_right(1);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::testing::{counts, links_of, loaded_site};

    #[test]
    fn links_with_equally_few_take_turns() {
        let balancer = LeastInFlight::default();
        let mut links = links_of(&[1, 1, 1]);
        links[1].in_flight = 1;
        let picked: Vec<LinkView> = (0..30)
            .map(|_| {
                let mut offered = links.clone();
                assert_eq!(balancer.order(&mut offered, Instant::now(), 0), 3);
                offered[0]
            })
            .collect();
        let counts = counts(&links, &picked);
        assert_eq!(counts[1], 0);
        assert!(counts[0] >= 10 && counts[2] >= 10, "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_strictly_busier_link_is_never_picked(
            links in loaded_site(),
            before in 0usize..20,
        ) {
            let balancer = LeastInFlight::default();
            for _ in 0..before {
                balancer.order(&mut links.clone(), Instant::now(), 0);
            }
            let mut offered = links.clone();
            prop_assert_eq!(balancer.order(&mut offered, Instant::now(), 0), links.len());
            let least = links.iter().map(|link| link.in_flight).min();
            prop_assert_eq!(Some(offered[0].in_flight), least);
            offered.sort_by_key(|link| link.id);
            prop_assert_eq!(offered, links, "every link is offered once");
        }
    }
}
