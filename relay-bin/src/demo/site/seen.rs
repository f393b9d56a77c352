//! What a site role has seen, so that the session can prove what reached it and what did not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::Method;

/// Distinct pairs of verb and path counted apart; further ones are counted in the totals alone.
const TARGETS_MAX: usize = 1_024;

/// Counters of one site role. They only grow.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    connections: AtomicU64,
    requests: AtomicU64,
    in_flight: AtomicU64,
    in_flight_max: AtomicU64,
    targets: Mutex<BTreeMap<(String, String), u64>>,
}

/// Counts one request as in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Seen);

impl Seen {
    /// TCP connections accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests received so far, whatever was answered.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Most requests that were in flight at one moment.
    pub(crate) fn in_flight_max(&self) -> u64 {
        self.in_flight_max.load(Ordering::SeqCst)
    }

    /// Requests received with `verb` for `path` (without query), compared exactly.
    pub(crate) fn requests_for(&self, verb: &str, path: &str) -> u64 {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.get(&(verb.to_owned(), path.to_owned())).copied().unwrap_or(0)
    }

    pub(super) fn accepted_connection(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn begin(&self, verb: &Method, path: &str) -> InFlight<'_> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.in_flight_max.fetch_max(now, Ordering::SeqCst);

        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = TARGETS_MAX <= targets.len();
        let key = (verb.to_string(), path.to_owned());
        if !full || targets.contains_key(&key) {
            *targets.entry(key).or_default() += 1;
        }
        InFlight(self)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_and_path_and_in_flight_until_dropped() {
        let seen = Seen::default();
        let one = seen.begin(&Method::GET, "/a");
        let two = seen.begin(&Method::GET, "/a");
        drop(one);
        drop(seen.begin(&Method::HEAD, "/a"));
        drop(two);
        assert_eq!((seen.requests(), seen.in_flight_max()), (3, 2));
        assert_eq!((seen.requests_for("GET", "/a"), seen.requests_for("get", "/a")), (2, 0));
        assert_eq!(seen.in_flight.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_table_of_targets_stops_growing_while_the_total_does_not() {
        let seen = Seen::default();
        for n in 0..=TARGETS_MAX {
            drop(seen.begin(&Method::GET, &format!("/{n}")));
        }
        drop(seen.begin(&Method::GET, "/0"));
        assert_eq!(seen.requests(), TARGETS_MAX as u64 + 2);
        assert_eq!(seen.requests_for("GET", "/0"), 2);
        assert_eq!(seen.requests_for("GET", &format!("/{TARGETS_MAX}")), 0);
    }
}
