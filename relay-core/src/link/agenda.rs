//! What handles leave for the driver: the agenda they meet over.

use std::sync::{Arc, PoisonError};
use std::task::Waker;

use super::cell::{Cell, State};
use super::sync::{Mutex, MutexGuard};

/// What the whole link is asked to do.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    pub(super) drain: bool,
    pub(super) close: bool,
    /// Close, and tell the peer why this side will not have the link.
    pub(super) refuse: Option<Box<str>>,
    /// Every handle of the link is gone: close once the streams are.
    pub(super) abandoned: bool,
}

/// The cells that the driver is to look at, the orders for the link, and where the driver sleeps.
///
/// A cell stands here at most once, and exactly while its [`State::dirty`] says so: whoever makes
/// it dirty puts it here, and the driver that takes it from here makes it clean before it looks.
/// So a change is either seen by that look or puts the cell here again.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    dirty: Vec<Arc<Cell>>,
    orders: Orders,
    /// Whether the orders have changed since the driver took them.
    ordered: bool,
    driver: Option<Waker>,
    /// The driver is gone: nobody will look any more.
    gone: bool,
}

impl Agenda {
    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing that runs under the lock panics half-way through a change.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a cell. Where `change` makes it dirty, and it was not, it comes before the driver.
    pub(super) fn change<R>(&self, cell: &Arc<Cell>, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = cell.lock();
        let was_dirty = state.dirty;
        let result = change(&mut state);
        let newly_dirty = state.dirty && !was_dirty;
        drop(state);
        if newly_dirty {
            self.put(Arc::clone(cell));
        }
        result
    }

    /// Puts a cell, which its caller has just made dirty, before the driver.
    pub(super) fn put(&self, cell: Arc<Cell>) {
        let mut list = self.lock();
        if list.gone {
            drop(list);
            return cut_late(&cell);
        }
        list.dirty.push(cell);
        let driver = list.driver.take();
        drop(list);
        wake(driver);
    }

    /// Changes the orders and wakes the driver.
    pub(super) fn order(&self, change: impl FnOnce(&mut Orders)) {
        let mut list = self.lock();
        change(&mut list.orders);
        list.ordered = true;
        let driver = list.driver.take();
        drop(list);
        wake(driver);
    }

    /// Takes what has come before the driver: the cells into `swept`, which is empty, and the
    /// orders if they have changed.
    pub(super) fn take(&self, swept: &mut Vec<Arc<Cell>>) -> Option<Orders> {
        let mut list = self.lock();
        std::mem::swap(&mut list.dirty, swept);
        std::mem::take(&mut list.ordered).then(|| list.orders.clone())
    }

    /// Leaves the driver's waker, unless something has come before the driver.
    pub(super) fn park(&self, waker: &Waker) -> bool {
        let mut list = self.lock();
        if !list.dirty.is_empty() || list.ordered {
            return false;
        }
        State::park(&mut list.driver, waker);
        true
    }

    /// The driver goes: what it has not looked at is returned, and a cell that comes later is cut
    /// where it comes from.
    pub(super) fn end(&self) -> Vec<Arc<Cell>> {
        let mut list = self.lock();
        list.gone = true;
        let left = std::mem::take(&mut list.dirty);
        let driver = list.driver.take();
        drop(list);
        // Behind the lock: with its last waker a task may go, and with that its handles.
        drop(driver);
        left
    }
}

fn cut_late(cell: &Cell) {
    let mut wakers = Vec::new();
    cell.lock().cut(&mut wakers);
    for waker in wakers {
        waker.wake();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
