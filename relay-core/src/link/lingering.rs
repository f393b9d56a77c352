//! What is kept for streams that nobody holds any more here and that the peer may still be at work
//! on.

use std::time::{Duration, Instant};

use crate::mux::{IdMap, StreamId};

use super::cell::Kept;

/// For how long something is kept for the peer to let go of a stream.
///
/// Our choice: an honest peer lets go as soon as it hears that the stream was given up. One that
/// never does must not hold for ever what belongs to others, as the places of a client's
/// connection; after this time it holds no more than a stream of its own link.
pub(super) const LINGER_MAX: Duration = Duration::from_mins(1);

/// The streams, and what is kept for each. Whatever is dropped is dropped where no lock is held:
/// what it does then is its owner's.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    streams: IdMap<Lingerer>,
    /// When to look for what has been kept for too long. Not after the first is due.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Lingerer {
    /// `None` once it was kept for too long: the peer has yet to let go all the same.
    kept: Option<Kept>,
    until: Instant,
}

impl Lingering {
    /// Keeps `kept` for a stream that was let go of `now`.
    pub(super) fn insert(&mut self, id: StreamId, kept: Kept, now: Instant) {
        let until = now + LINGER_MAX;
        self.streams.insert(id, Lingerer { kept: Some(kept), until });
        self.due.get_or_insert(until);
    }

    /// The peer has let go of the stream: drops what was kept. Returns whether that was awaited.
    pub(super) fn remove(&mut self, id: StreamId) -> bool {
        self.streams.remove(&id).is_some()
    }

    /// Streams that the peer has not let go of.
    #[cfg(any(feature = "quic", test))]
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// When [`Lingering::drop_overdue`] wants to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Drops what has been kept for too long.
    pub(super) fn drop_overdue(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let overdue = |stream: &&mut Lingerer| stream.until <= now;
        for stream in self.streams.values_mut().filter(overdue) {
            stream.kept = None;
        }
        let kept = self.streams.values().filter(|stream| stream.kept.is_some());
        self.due = kept.map(|stream| stream.until).min();
    }

    /// The link has ended: drops everything.
    pub(super) fn clear(&mut self) {
        self.streams.clear();
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::mux::Side;

    use super::*;

    #[test]
    fn what_is_kept_is_dropped_after_60_s_and_the_stream_is_awaited_all_the_same() {
        let start = Instant::now();
        let ids = [0, 1, 2].map(|index| StreamId::nth(Side::Listener, index).unwrap());
        let mut lingering = Lingering::default();
        let mut are_kept = Vec::new();
        for (seconds, id) in (0..).zip(ids) {
            let kept = Arc::new(());
            are_kept.push(Arc::downgrade(&kept));
            lingering.insert(id, Box::new(kept), start + Duration::from_secs(seconds));
        }
        let count = || are_kept.iter().filter(|kept| kept.strong_count() > 0).count();
        assert!(lingering.remove(ids[1]) && !lingering.remove(ids[1]));
        assert_eq!(count(), 2);
        for (millis, left, next) in
            [(59_999, 2, Some(60)), (60_000, 1, Some(62)), (62_000, 0, None)]
        {
            lingering.drop_overdue(start + Duration::from_millis(millis));
            assert_eq!(count(), left, "after {millis} ms");
            assert_eq!(lingering.due(), next.map(|due| start + Duration::from_secs(due)));
        }
        assert_eq!(lingering.len(), 2);
        assert!(lingering.remove(ids[0]));
    }
}
