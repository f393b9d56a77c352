//! How far a transfer is, on a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is shown at most.
const EVERY: Duration = Duration::from_millis(200);

/// What stands for a total that is not known; no transfer has as many octets.
const UNKNOWN: u64 = u64::MAX;

/// Shows how far a transfer is, on standard error, if that is a terminal; clears it when dropped.
/// Several may move it at once.
#[derive(Debug)]
pub(crate) struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    /// When it was shown last.
    shown: Mutex<Option<Instant>>,
    is_terminal: bool,
}

impl Progress {
    /// Of a length that is not known yet.
    pub(crate) fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            total: AtomicU64::new(UNKNOWN),
            shown: Mutex::new(None),
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Says that there are so many octets in all.
    pub(crate) fn of(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Says that a part of it, of which `before` octets were through, is now at `now`.
    pub(crate) fn moved(&self, before: u64, now: u64) {
        if now >= before {
            self.done.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.done.fetch_sub(before - now, Ordering::Relaxed);
        }
        if self.is_terminal {
            self.show();
        }
    }

    fn show(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            *shown = Some(Instant::now());
            // A terminal that is gone reads nothing.
            let _ = write!(std::io::stderr(), "\r{}\u{1b}[K", self.text());
        }
    }

    fn text(&self) -> String {
        let done = self.done.load(Ordering::Relaxed);
        match self.total.load(Ordering::Relaxed) {
            UNKNOWN | 0 => format!("{done} octets"),
            total => {
                let percent = u128::from(done) * 100 / u128::from(total);
                format!("{done} of {total} octets, {percent} %")
            }
        }
    }

    /// Takes it from the terminal.
    pub(crate) fn clear(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_that_is_known_is_told_with_the_share_of_it() {
        let text = |done, total: Option<u64>| {
            let progress = Progress::new();
            if let Some(total) = total {
                progress.of(total);
            }
            progress.moved(0, done);
            progress.text()
        };
        assert_eq!(text(5, Some(20)), "5 of 20 octets, 25 %");
        assert_eq!(text(1 << 63, Some(1 << 63)).split_once(", ").unwrap().1, "100 %");
        assert_eq!(text(5, None), "5 octets");
        assert_eq!(text(0, Some(0)), "0 octets");
    }

    #[test]
    fn parts_of_it_move_on_and_back() {
        let progress = Progress::new();
        progress.of(100);
        progress.moved(0, 30);
        progress.moved(30, 50);
        progress.moved(10, 0);
        assert_eq!(progress.text(), "40 of 100 octets, 40 %");
    }
}
