//! How far a transfer is, on a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often it is shown at most.
const EVERY: Duration = Duration::from_millis(200);

/// Shows how far a transfer is, on standard error, if that is a terminal; clears it when dropped.
pub(super) struct Progress {
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { shown: None, is_terminal: std::io::stderr().is_terminal() }
    }

    /// Says that `done` octets are through, of `total` if that is known.
    pub(super) fn at(&mut self, done: u64, total: Option<u64>) {
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= EVERY);
        if self.is_terminal && is_due {
            self.shown = Some(Instant::now());
            // A terminal that is gone reads nothing.
            let _ = write!(std::io::stderr(), "\r{}\u{1b}[K", text(done, total));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}

fn text(done: u64, total: Option<u64>) -> String {
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!("{done} of {total} octets, {percent} %")
        }
        None => format!("{done} octets"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_that_is_known_is_told_with_the_share_of_it() {
        assert_eq!(text(5, Some(20)), "5 of 20 octets, 25 %");
        assert_eq!(text(u64::MAX, Some(u64::MAX)).split_once(", ").unwrap().1, "100 %");
        assert_eq!(text(5, None), "5 octets");
        assert_eq!(text(0, Some(0)), "0 octets");
    }
}
