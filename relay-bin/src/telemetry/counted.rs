//! What became of spans, since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often something has happened.
pub(super) struct Counter(AtomicU64);

/// Spans that the collector has taken.
pub(super) static EXPORTED: Counter = Counter(AtomicU64::new(0));

/// Spans that were dropped: nobody took them, or there were too many.
pub(super) static DROPPED: Counter = Counter(AtomicU64::new(0));

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
