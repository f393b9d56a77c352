//! Places for connections of the site's own network: so many in all, and so many of each source.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rate::Source;

/// The places.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    sources: Arc<Sources>,
}

/// How many each source has. There are no more of them than places.
#[derive(Debug)]
struct Sources {
    taken: Mutex<HashMap<Source, usize>>,
    each_max: usize,
}

/// A place that belongs to no source yet.
#[derive(Debug)]
pub(super) struct Free(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// A place that is taken. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    _free: Free,
    source: Source,
    sources: Arc<Sources>,
}

impl Places {
    /// So many, of which each source has so many at most.
    pub(super) fn new(all_max: usize, each_max: usize) -> Self {
        let sources = Sources { taken: Mutex::default(), each_max };
        Self { all: Arc::new(Semaphore::new(all_max)), sources: Arc::new(sources) }
    }

    /// The next place, once there is one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn free(&self) -> Free {
        match Arc::clone(&self.all).acquire_owned().await {
            Ok(permit) => Free(permit),
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether all are taken, or about to be.
    pub(super) fn are_taken(&self) -> bool {
        self.all.available_permits() == 0
    }

    /// The place for a connection of `source`, unless that has as many as it may.
    pub(super) fn take(&self, place: Free, source: Source) -> Option<Taken> {
        let mut taken = self.sources.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(source).or_default();
        if *count >= self.sources.each_max {
            return None;
        }
        *count += 1;
        Some(Taken { _free: place, source, sources: Arc::clone(&self.sources) })
    }
}

impl Taken {
    /// Whose it is.
    pub(super) fn source(&self) -> Source {
        self.source
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self.sources.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = taken.get_mut(&self.source) else { return };
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_has_as_many_places_as_it_may_and_others_have_theirs() {
        let places = Places::new(8, 3);
        let [one, other] = [5, 6].map(|last| Source::of([10, 0, 0, last].into()));
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(places.take(places.free().await, one).unwrap());
        }
        assert!(places.take(places.free().await, one).is_none(), "three are all it may have");
        taken.push(places.take(places.free().await, other).unwrap());
        assert_eq!(places.all.available_permits(), 4, "who is refused takes none");
        // The first one's; it has two then.
        drop(taken.remove(0));
        taken.push(places.take(places.free().await, one).unwrap());
        assert!(places.take(places.free().await, one).is_none());
        taken.clear();
        assert!(places.sources.taken.lock().unwrap().is_empty(), "nobody is remembered");
        assert!(!places.are_taken());
    }
}
