//! Everyone in turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::{LinkView, LoadBalancer};

/// Connection points take turns, and within each its links do.
///
/// A connection point with four links gets no more requests than one with a single link: what
/// serves a request is the machine, not the connection to it. Behind the one whose turn it is stand
/// its other links, then the connection points whose turn comes next.
#[derive(Debug, Default)]
pub struct RoundRobin {
    turn: AtomicUsize,
}

impl LoadBalancer for RoundRobin {
    fn order(&self, links: &mut [LinkView], _now: Instant, _draw: u64) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let connection_points = links.chunk_by(LinkView::is_beside).count();
        let Some(whose) = turn.checked_rem(connection_points) else { return 0 };
        let before = links.chunk_by(LinkView::is_beside).take(whose).map(<[_]>::len).sum();
        links.rotate_left(before);
        let own = links.chunk_by(LinkView::is_beside).next().map_or(1, <[_]>::len);
        // The connection point's own turns are counted in rounds of all.
        links[..own].rotate_left(turn / connection_points % own);
        links.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::testing::{counts, links_of, site};

    #[test]
    fn without_links_nothing_is_picked() {
        assert_eq!(RoundRobin::default().order(&mut [], Instant::now(), 0), 0);
    }

    #[test]
    fn a_turn_begins_with_its_link_and_goes_on_with_its_siblings() {
        let balancer = RoundRobin::default();
        let turns: Vec<Vec<u64>> = (0..5)
            .map(|_| {
                let mut links = links_of(&[2, 1]);
                assert_eq!(balancer.order(&mut links, Instant::now(), 0), 3);
                links.iter().map(|link| link.id).collect()
            })
            .collect();
        assert_eq!(turns, [[0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 0, 1], [0, 1, 2]]);
    }

    proptest! {
        #[test]
        fn connection_points_and_the_links_of_each_are_even_within_one(
            site in site(),
            requests in 0usize..200,
        ) {
            let balancer = RoundRobin::default();
            let links = links_of(&site);
            let picked: Vec<LinkView> = (0..requests)
                .map(|_| {
                    let mut offered = links.clone();
                    assert_eq!(balancer.order(&mut offered, Instant::now(), 0), links.len());
                    offered[0]
                })
                .collect();
            let even = |counts: &[usize]| {
                counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1
            };
            let of_points = (0..site.len() as u64)
                .map(|point| picked.iter().filter(|link| link.connection_point == point).count());
            prop_assert!(even(&of_points.collect::<Vec<_>>()));
            for group in links.chunk_by(LinkView::is_beside) {
                prop_assert!(even(&counts(group, &picked)));
            }
        }
    }
}
