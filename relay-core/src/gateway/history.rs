//! The links that ended or were refused last, for an administrator who asks afterwards.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Ends that are kept.
const ENDS_MAX: usize = 32;

/// What ended.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LinkEnd {
    /// A link that was up.
    Down {
        /// Its number in the log.
        number: u64,
        /// Its connection point's name.
        connection_point: Arc<str>,
    },
    /// A peer that did not get one.
    Refused {
        /// Where it connected from.
        from: SocketAddr,
    },
}

/// How a link, or the attempt to have one, came to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct EndedLink {
    /// What ended.
    pub end: LinkEnd,
    /// Why, for an administrator.
    pub why: String,
    /// When.
    pub at: Instant,
}

/// The latest ends, the last one last.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<EndedLink>>);

impl History {
    pub(super) fn note(&self, end: LinkEnd, why: &dyn fmt::Display) {
        let at = tokio::time::Instant::now().into_std();
        let mut ends = self.ends();
        if ends.len() == ENDS_MAX {
            // Anybody is refused, as often as they like: that pushes out no link that was up.
            let refused = ends.iter().position(|it| matches!(it.end, LinkEnd::Refused { .. }));
            ends.remove(refused.unwrap_or(0));
        }
        ends.push_back(EndedLink { end, why: why.to_string(), at });
    }

    pub(super) fn latest(&self) -> Vec<EndedLink> {
        self.ends().iter().cloned().collect()
    }

    fn ends(&self) -> MutexGuard<'_, VecDeque<EndedLink>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_are_refused_the_end_of_a_link_that_was_up_is_kept() {
        let history = History::default();
        let point = Arc::<str>::from("cp");
        history.note(LinkEnd::Down { number: 1, connection_point: point }, &"lost");
        for _ in 0..ENDS_MAX * 2 {
            let from = SocketAddr::from(([127, 0, 0, 1], 1));
            history.note(LinkEnd::Refused { from }, &"no handshake");
        }
        let latest = history.latest();
        assert_eq!(latest.len(), ENDS_MAX);
        assert!(matches!(latest[0].end, LinkEnd::Down { .. }), "{:?}", latest[0]);
    }

    #[test]
    fn the_latest_ends_are_kept_and_no_more() {
        let history = History::default();
        for count in 0..ENDS_MAX + 2 {
            let from = SocketAddr::from(([127, 0, 0, 1], 1));
            history.note(LinkEnd::Refused { from }, &count);
            assert_eq!(history.latest().len(), (count + 1).min(ENDS_MAX));
        }
        let whys: Vec<_> = history.latest().into_iter().map(|ended| ended.why).collect();
        let kept: Vec<_> = (2..ENDS_MAX + 2).map(|count| count.to_string()).collect();
        assert_eq!(whys, kept);
    }
}
