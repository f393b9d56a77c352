//! Which of a link's many streams have something to do: a list that their wakers fill.
//!
//! Thousands of streams may be open, and one wake must not cost a look at each. So each stream has
//! a waker of its own, which notes the stream before it wakes the driver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use crate::mux::StreamId;

use super::super::cell::State;

/// What the driver is to look at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// Whether the peer has opened a stream.
    Accept,
    /// Whether another stream can be opened.
    Open,
    /// The control stream.
    Control,
    /// Whether the connection has ended.
    End,
    /// An exchange's stream.
    Stream(StreamId),
}

/// The list, and where the driver sleeps.
#[derive(Debug, Default)]
pub(super) struct Ready {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    due: Vec<Arc<Source>>,
    driver: Option<Waker>,
}

/// Something that can be ready. Its waker puts it on the list, once until the driver takes it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) what: What,
    is_listed: AtomicBool,
    ready: Arc<Ready>,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing that runs under the lock panics half-way through a change.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The waker of something, which stands on the list at once: it has never been looked at.
    pub(super) fn waker(self: &Arc<Self>, what: What) -> Waker {
        let source = Source { what, is_listed: AtomicBool::new(false), ready: Arc::clone(self) };
        let waker = Waker::from(Arc::new(source));
        waker.wake_by_ref();
        waker
    }

    /// Takes the list into `due`, which is empty.
    pub(super) fn take(&self, due: &mut Vec<Arc<Source>>) {
        std::mem::swap(&mut self.lock().due, due);
    }

    /// Leaves the driver's waker, unless something is ready.
    pub(super) fn park(&self, waker: &Waker) -> bool {
        let mut list = self.lock();
        if !list.due.is_empty() {
            return false;
        }
        State::park(&mut list.driver, waker);
        true
    }
}

impl Source {
    /// To be called before the look: what happens behind it puts the source on the list again.
    pub(super) fn take_off(&self) {
        self.is_listed.store(false, Ordering::SeqCst);
    }
}

impl Wake for Source {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut list = self.ready.lock();
        list.due.push(Arc::clone(self));
        let driver = list.driver.take();
        drop(list);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_stands_on_the_list_once_until_it_is_taken_off() {
        let ready = Arc::new(Ready::default());
        let waker = ready.waker(What::Accept);
        waker.wake_by_ref();
        let mut due = Vec::new();
        ready.take(&mut due);
        assert_eq!(due.len(), 1);
        waker.wake_by_ref();
        assert!(ready.park(Waker::noop()), "it has not been taken off yet");
        due[0].take_off();
        waker.wake_by_ref();
        assert!(!ready.park(Waker::noop()), "it is ready again");
    }
}
