//! What all handles of a link and its driver share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::{Semaphore, mpsc, watch};

use crate::mux::{Hello, LinkError};

use super::cell::{Cell, State};
use super::handle::{Incoming, LinkStats};

/// Where a link is in its life, as its handles see it.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Connecting,
    Up(Arc<Hello>),
    /// The peer, or this side, takes no new streams.
    Draining(Arc<Hello>),
    /// As `Draining`, and every stream has ended.
    Drained(Arc<Hello>),
    Closed(LinkError),
}

/// What the whole link is asked to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orders {
    pub(super) drain: bool,
    pub(super) close: bool,
    /// Every handle of the link is gone: close once the streams are.
    pub(super) abandoned: bool,
}

/// What the driver is to look at.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    pub(super) dirty: Vec<Arc<Cell>>,
    pub(super) orders: Orders,
    pub(super) ordered: bool,
    pub(super) driver: Option<Waker>,
    /// The driver is gone: nobody will sweep any more.
    gone: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    agenda: Mutex<Agenda>,
    /// One permit per stream that may be opened. Only ever added to by the driver, and forgotten by
    /// whoever opens.
    pub(super) openable: Semaphore,
    pub(super) accepted: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) stats: Mutex<LinkStats>,
    /// Openers that wait for a permit.
    pub(super) waiting: AtomicUsize,
    pub(super) going_away: AtomicBool,
    /// Octets that a new stream has room for, once the link is up.
    pub(super) initial_room: AtomicUsize,
}

impl Shared {
    pub(super) fn new(accepted: mpsc::Receiver<Incoming>) -> Arc<Self> {
        Arc::new(Self {
            agenda: Mutex::default(),
            openable: Semaphore::new(0),
            accepted: tokio::sync::Mutex::new(accepted),
            stage: watch::Sender::new(Stage::Connecting),
            stats: Mutex::default(),
            waiting: AtomicUsize::new(0),
            going_away: AtomicBool::new(false),
            initial_room: AtomicUsize::new(0),
        })
    }

    pub(super) fn agenda(&self) -> MutexGuard<'_, Agenda> {
        // Nothing that runs under the lock panics half-way through a change.
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a cell. Where `change` marks it dirty, and it was not, it comes before the driver.
    pub(super) fn change<R>(&self, cell: &Arc<Cell>, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = cell.lock();
        let was_dirty = state.dirty;
        let result = change(&mut state);
        let newly_dirty = state.dirty && !was_dirty;
        drop(state);
        if newly_dirty {
            self.sweep(Arc::clone(cell));
        }
        result
    }

    /// Puts a cell, which its caller has just marked dirty, before the driver.
    pub(super) fn sweep(&self, cell: Arc<Cell>) {
        let driver = {
            let mut agenda = self.agenda();
            if agenda.gone {
                drop(agenda);
                return cut_late(&cell);
            }
            agenda.dirty.push(cell);
            agenda.driver.take()
        };
        wake(driver);
    }

    /// The driver goes: what it has not swept is returned, and a cell that comes later is cut where
    /// it comes from.
    pub(super) fn end_sweeps(&self) -> Vec<Arc<Cell>> {
        let mut agenda = self.agenda();
        agenda.gone = true;
        std::mem::take(&mut agenda.dirty)
    }

    /// Drops the streams that wait to be accepted, once nobody can accept them any more. Each of
    /// them keeps `self` alive, so they must not stay in it.
    pub(super) fn drop_waiting(&self) {
        // Only an acceptor ever holds the lock, and the last one is gone.
        let Ok(mut accepted) = self.accepted.try_lock() else { return };
        accepted.close();
        while accepted.try_recv().is_ok() {}
    }

    /// Changes the orders and wakes the driver.
    pub(super) fn order(&self, change: impl FnOnce(&mut Orders)) {
        let driver = {
            let mut agenda = self.agenda();
            change(&mut agenda.orders);
            agenda.ordered = true;
            agenda.driver.take()
        };
        wake(driver);
    }

    /// No stream is opened any more: waiting openers fail.
    pub(super) fn refuse_opening(&self) {
        self.going_away.store(true, Ordering::Release);
        self.openable.close();
    }

    pub(super) fn stats(&self) -> LinkStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish_stats(&self, stats: LinkStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
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
