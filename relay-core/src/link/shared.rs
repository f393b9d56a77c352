//! What all handles of a link and its driver share.

use std::sync::{Arc, PoisonError};

use tokio::sync::{Semaphore, mpsc, watch};

use crate::mux::{Hello, LinkError};

use super::agenda::Agenda;
use super::handle::{Incoming, LinkStats};
use super::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};

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

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) agenda: Agenda,
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
            agenda: Agenda::default(),
            openable: Semaphore::new(0),
            accepted: tokio::sync::Mutex::new(accepted),
            stage: watch::Sender::new(Stage::Connecting),
            stats: Mutex::default(),
            waiting: AtomicUsize::new(0),
            going_away: AtomicBool::new(false),
            initial_room: AtomicUsize::new(0),
        })
    }

    /// Drops the streams that wait to be accepted, once nobody can accept them any more. Each of
    /// them keeps `self` alive, so they must not stay in it.
    pub(super) fn drop_waiting(&self) {
        // Only an acceptor ever holds the lock, and the last one is gone.
        let Ok(mut accepted) = self.accepted.try_lock() else { return };
        accepted.close();
        while accepted.try_recv().is_ok() {}
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
