//! How often, and for how long, streams of a link stood still for want of credit.
//!
//! A stream stands still while its half has not ended, and everything that the peer has granted is
//! sent: neither this side nor the path is what it waits for, but whoever takes its payload there.
//! Counted where that begins and ends. No clock is read for it: what passes is told by whoever has
//! the time anyway.

use std::time::{Duration, Instant};

/// Stalls of one link since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stalls {
    /// Streams that stand still now.
    streams: usize,
    /// How often one has begun to.
    begun: u64,
    /// For how long at least one did.
    lasted: Duration,
    /// Until when `lasted` is counted, while any stands still.
    counted_until: Option<Instant>,
}

impl Stalls {
    /// A stream begins to stand still. Time counts from the next [`Stalls::pass`] on.
    pub(crate) fn begin(&mut self) {
        self.streams += 1;
        self.begun += 1;
    }

    /// A stream that stood still does so no longer.
    pub(crate) fn end(&mut self) {
        debug_assert!(self.streams > 0, "a stall ends once");
        self.streams = self.streams.saturating_sub(1);
        if self.streams == 0 {
            self.counted_until = None;
        }
    }

    /// Whether any stream stands still: whoever reads a clock for it need not else.
    #[cfg(any(test, feature = "quic"))]
    pub(crate) fn is_any(&self) -> bool {
        self.streams > 0
    }

    /// It is `now`. Called before stalls end, and after they begin.
    pub(crate) fn pass(&mut self, now: Instant) {
        if self.streams > 0 {
            let before = self.counted_until.unwrap_or(now);
            self.lasted += now.saturating_duration_since(before);
            // A time from before counts nothing twice.
            self.counted_until = Some(now.max(before));
        }
    }

    /// Streams that stand still now.
    pub(crate) fn streams(&self) -> usize {
        self.streams
    }

    /// How often a stream has begun to stand still.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// For how long at least one stream stood still, as far as that was told.
    pub(crate) fn lasted(&self) -> Duration {
        self.lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_counts_once_however_many_stand_still_and_not_while_none_does() {
        let (start, mut stalls) = (Instant::now(), Stalls::default());
        stalls.pass(start);
        stalls.begin();
        stalls.pass(start + SECOND);
        assert_eq!(stalls.lasted(), Duration::ZERO, "it has begun only now");
        stalls.begin();
        stalls.pass(start + SECOND * 3);
        assert_eq!((stalls.begun(), stalls.streams(), stalls.lasted()), (2, 2, SECOND * 2));

        stalls.end();
        assert!(stalls.is_any());
        stalls.pass(start + SECOND * 4);
        stalls.end();
        stalls.pass(start + SECOND * 60);
        stalls.begin();
        stalls.pass(start + SECOND * 61);
        assert_eq!((stalls.begun(), stalls.lasted()), (3, SECOND * 3), "none stood still between");
        // A clock that is told out of order takes nothing back.
        stalls.pass(start + SECOND * 60);
        assert_eq!(stalls.lasted(), SECOND * 3);
        stalls.pass(start + SECOND * 62);
        assert_eq!(stalls.lasted(), SECOND * 4);
    }
}
