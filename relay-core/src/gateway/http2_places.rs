//! The places of one HTTP/2 connection's requests.
//!
//! HTTP/2 gives a stream's place back when it is reset. That is too soon: a client that asks and
//! resets as fast as it can would have any number of requests at work. So a place is held by the
//! request's handler, and by its stream on each link that it was sent on: there it goes with the
//! stream, once the connection point has let go of it, be it that the client has reset it or that a
//! deadline has passed. A connection point that never lets go holds a place for 60 s, see
//! [`SendStream::keep`](crate::link::SendStream::keep).
//!
//! Source: CVE-2023-44487, "HTTP/2 Rapid Reset".

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The places of one connection.
#[derive(Debug)]
pub(super) struct Places(Arc<Count>);

#[derive(Debug)]
struct Count {
    max: usize,
    taken: AtomicUsize,
    /// Tells that one is free of what were all, or that all are.
    freed: Notify,
}

/// One place; it is free again when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Taken>);

#[derive(Debug)]
struct Taken(Arc<Count>);

impl Places {
    /// So many places.
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Count { max, taken: AtomicUsize::new(0), freed: Notify::new() }))
    }

    /// Takes one. There must be one free.
    pub(super) fn take(&self) -> Place {
        let before = self.0.taken.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before < self.0.max, "none was free");
        Place(Arc::new(Taken(Arc::clone(&self.0))))
    }

    /// Whether none is free.
    pub(super) fn are_taken(&self) -> bool {
        self.0.taken.load(Ordering::Acquire) >= self.0.max
    }

    /// Whether any is taken.
    pub(super) fn is_any_taken(&self) -> bool {
        self.0.taken.load(Ordering::Acquire) > 0
    }

    /// Waits until one is free of what were all, or all are. At once, if that has happened since
    /// the last call was ready.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl Place {
    /// This place, for a stream that is to hold it.
    pub(super) fn kept(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::<Taken>::clone(&self.0)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Whoever waits found none free, or counts the time that none is taken.
        let before = self.0.taken.fetch_sub(1, Ordering::AcqRel);
        if before == self.0.max || before == 1 {
            self.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_place_is_free_once_every_clone_is_dropped_and_whoever_waits_hears_of_it() {
        let mut cx = Context::from_waker(Waker::noop());
        let places = Places::new(3);
        let last = places.take();
        let first = places.take();
        assert!(!places.are_taken());
        let second = places.take();
        assert!(places.are_taken());
        let mut freed = pin!(places.freed());
        assert!(freed.as_mut().poll(&mut cx).is_pending());
        let kept = second.kept();
        drop(second);
        assert!(places.are_taken() && freed.as_mut().poll(&mut cx).is_pending());
        drop(kept);
        assert!(!places.are_taken() && freed.as_mut().poll(&mut cx).is_ready());
        drop(first);
        let mut freed = pin!(places.freed());
        assert!(freed.as_mut().poll(&mut cx).is_pending(), "nobody waits where one was free");
        let kept = last.kept();
        drop(last);
        assert!(places.is_any_taken() && freed.as_mut().poll(&mut cx).is_pending());
        drop(kept);
        assert!(!places.is_any_taken() && freed.as_mut().poll(&mut cx).is_ready(), "all are free");
    }
}
