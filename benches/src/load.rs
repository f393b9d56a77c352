//! Loads that are put on a connection, whatever its protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::peers::Handle;
use crate::{BULK_OCTETS, SMALL_DOWN, SMALL_UP, payload};

/// Takes one of what is `left`; `false` if nothing is.
pub fn take_turn(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// Downloads `octets` in equal parts on `streams` streams at once, and waits for the last of them.
///
/// # Panics
///
/// If an exchange fails or is short.
pub async fn download(handle: &Handle, streams: usize, octets: usize) {
    let mut readers = JoinSet::new();
    for _ in 0..streams {
        let handle = handle.clone();
        readers.spawn(async move { handle.exchange(Bytes::new(), octets / streams).await });
    }
    while let Some(read) = readers.join_next().await {
        read.expect("the reader does not panic");
    }
}

/// Makes `count` small exchanges, `in_flight` at any time, [`SMALL_UP`] octets up and
/// [`SMALL_DOWN`] down.
///
/// # Panics
///
/// If an exchange fails or is short.
pub async fn small_exchanges(handle: &Handle, in_flight: usize, count: u64) {
    let left = Arc::new(AtomicU64::new(count));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (handle, left) = (handle.clone(), Arc::clone(&left));
        workers.spawn(async move {
            while take_turn(&left) {
                handle.exchange(payload(SMALL_UP), SMALL_DOWN).await;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.expect("the worker does not panic");
    }
}

/// Makes `count` small exchanges one after the other, from a task of their own, and returns how
/// long each took.
///
/// # Panics
///
/// If an exchange fails or is short.
pub async fn latencies(handle: &Handle, count: u64) -> Vec<Duration> {
    let handle = handle.clone();
    // In a set, so that it ends with this future.
    let mut measuring = JoinSet::new();
    measuring.spawn(async move {
        let mut latencies = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        for _ in 0..count {
            let begun = Instant::now();
            handle.exchange(payload(SMALL_UP), SMALL_DOWN).await;
            latencies.push(begun.elapsed());
        }
        latencies
    });
    let measured = measuring.join_next().await.expect("one was spawned");
    measured.expect("the exchanges do not fail")
}

/// Downloads without end on some streams at once, until it is stopped.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    readers: JoinSet<()>,
}

impl Background {
    /// Begins `streams` downloads.
    pub fn start(handle: &Handle, streams: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut readers = JoinSet::new();
        for _ in 0..streams {
            let (handle, stop) = (handle.clone(), Arc::clone(&stop));
            readers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    handle.exchange(Bytes::new(), BULK_OCTETS).await;
                }
            });
        }
        Self { stop, readers }
    }

    /// Waits until what is under way has ended, so that nothing is left behind on the connection.
    ///
    /// # Panics
    ///
    /// If a download fails or is short.
    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(reader) = self.readers.join_next().await {
            reader.expect("the reader does not panic");
        }
    }
}

/// The latency that `permille` thousandths of `latencies` do not exceed; zero if there are none.
pub fn quantile(latencies: &mut [Duration], permille: usize) -> Duration {
    if latencies.is_empty() {
        return Duration::ZERO;
    }
    let place = (latencies.len() * permille / 1000).min(latencies.len() - 1);
    *latencies.select_nth_unstable(place).1
}
