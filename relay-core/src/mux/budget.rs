//! Budgets against abuse: what a peer may do often, and not endlessly.
//!
//! Nothing a peer sends can lengthen a queue or grow memory; what is left is work out of proportion
//! to what is achieved. Each kind of such work has a bucket of tokens that fills with time. A peer
//! that empties one has its link ended with the bucket's name.

use std::time::Instant;

/// A bucket of tokens.
#[derive(Debug)]
struct Bucket {
    /// Tokens left, in thousandths.
    milli: u64,
    burst: u64,
    per_second: u64,
    filled_at: Instant,
}

impl Bucket {
    fn new(burst: u64, per_second: u64, now: Instant) -> Self {
        Self { milli: burst * 1000, burst, per_second, filled_at: now }
    }

    /// Takes one token. `false`: there was none.
    fn take(&mut self, now: Instant) -> bool {
        // The clock is looked at only by a peer that has used up its burst.
        if self.milli < 1000 {
            self.fill(now);
        }
        let Some(left) = self.milli.checked_sub(1000) else { return false };
        self.milli = left;
        true
    }

    /// Adds tokens beyond the burst, up to [`EARNED_MAX`].
    fn earn(&mut self, tokens: u64) {
        self.milli = self.milli.saturating_add(tokens.saturating_mul(1000)).min(EARNED_MAX * 1000);
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let gained = elapsed.as_millis().saturating_mul(u128::from(self.per_second));
        let gained = u64::try_from(gained).unwrap_or(u64::MAX);
        if gained > 0 {
            let full = self.milli.max(self.burst * 1000);
            self.milli = self.milli.saturating_add(gained).min(full);
            self.filled_at = now;
        }
    }
}

/// The most that a bucket holds, earned tokens and all.
const EARNED_MAX: u64 = 200_000;

/// Frames that every stream's end excuses: a RESET or STOP that crossed it, and some WINDOWs.
const LATE_FRAMES_PER_STREAM: u64 = 8;

/// Control frames that every stream's end excuses: its RESET, STOP, STREAMS and one WINDOW.
const CONTROL_FRAMES_PER_STREAM: u64 = 4;

/// Payload that excuses one control frame. The narrowest window, 1 KiB, is granted in quarters.
const OCTETS_PER_CONTROL_FRAME: u64 = 128;

/// What a bucket is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Work {
    /// A PING, which wants an answer.
    Ping,
    /// A frame for a stream that has ended.
    LateFrame,
    /// A DATA frame of fewer than [`SMALL_DATA`] octets that does not end its half.
    SmallData,
    /// A PAD, or an unknown frame that is skipped.
    Skipped,
    /// A WINDOW or STREAMS that grants nothing.
    EmptyGrant,
    /// RESET, STOP, WINDOW, STREAMS or PONG: a frame that moves no payload.
    Control,
}

/// DATA payloads below this many octets, without END, are counted.
pub(super) const SMALL_DATA: u32 = 256;

/// Every bucket of one link.
#[derive(Debug)]
pub(super) struct Budgets {
    ping: Bucket,
    late_frame: Bucket,
    small_data: Bucket,
    skipped: Bucket,
    empty_grant: Bucket,
    control: Bucket,
    /// Payload that control frames have been earned by.
    payload_seen: u64,
}

impl Budgets {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            // A keep-alive needs one in 5 s, a drain one more.
            ping: Bucket::new(10, 1, now),
            // What is in flight when a stream ends is excused by `stream_ended`; this is the rest.
            late_frame: Bucket::new(1000, 33, now),
            // A frame costs about 60 ns (bench `mux/codec/decode_64`): less than 1 % of a core. Any
            // tighter, and a link full of short log lines would be taken for an attack.
            small_data: Bucket::new(200_000, 100_000, now),
            skipped: Bucket::new(1000, 33, now),
            empty_grant: Bucket::new(1000, 33, now),
            // Whoever moves payload, or ends streams, earns what that takes.
            control: Bucket::new(2000, 100, now),
            payload_seen: 0,
        }
    }

    /// Excuses the frames that a peer may have had on their way when a stream ended, of which
    /// `unused` octets were granted and had not arrived.
    ///
    /// A fixed rate alone would take a link on which many downloads are cancelled for an attack.
    pub(super) fn stream_ended(&mut self, unused: u64) {
        self.late_frame.earn(unused / u64::from(SMALL_DATA) + LATE_FRAMES_PER_STREAM);
        self.control.earn(CONTROL_FRAMES_PER_STREAM);
    }

    /// Excuses a RESET or STOP that has ended a half: each stream has one of them to ask for.
    ///
    /// What a stream's end excuses comes too late for them. An opener whose clients are gone, all
    /// at once, resets thousands of streams before the first of them is forgotten.
    pub(super) fn half_ended(&mut self) {
        self.control.earn(1);
    }

    /// Excuses the control frames that moving payload takes: `total` octets so far, both ways.
    pub(super) fn payload_moved(&mut self, total: u64) {
        let frames = (total - self.payload_seen) / OCTETS_PER_CONTROL_FRAME;
        self.payload_seen += frames * OCTETS_PER_CONTROL_FRAME;
        self.control.earn(frames);
    }

    /// Takes a token for `work`.
    ///
    /// # Errors
    ///
    /// The name of the bucket that was empty.
    pub(super) fn spend(&mut self, work: Work, now: Instant) -> Result<(), &'static str> {
        let (bucket, name) = match work {
            Work::Ping => (&mut self.ping, "PING"),
            Work::LateFrame => (&mut self.late_frame, "frames for ended streams"),
            Work::SmallData => (&mut self.small_data, "small DATA"),
            Work::Skipped => (&mut self.skipped, "skipped frames"),
            Work::EmptyGrant => (&mut self.empty_grant, "grants of nothing"),
            Work::Control => (&mut self.control, "control frames"),
        };
        if bucket.take(now) { Ok(()) } else { Err(name) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALL: [(Work, u32, u32); 6] = [
        (Work::Ping, 10, 1),
        (Work::LateFrame, 1000, 33),
        (Work::SmallData, 200_000, 100_000),
        (Work::Skipped, 1000, 33),
        (Work::EmptyGrant, 1000, 33),
        (Work::Control, 2000, 100),
    ];

    #[test]
    fn the_burst_passes_and_one_more_does_not() {
        let now = Instant::now();
        for (work, burst, _) in ALL {
            let mut budgets = Budgets::new(now);
            for _ in 0..burst {
                assert_eq!(budgets.spend(work, now), Ok(()));
            }
            assert!(budgets.spend(work, now).is_err(), "{work:?}");
        }
    }

    #[test]
    fn each_second_brings_as_many_as_the_rate_says() {
        let start = Instant::now();
        for (work, burst, per_second) in ALL {
            let mut budgets = Budgets::new(start);
            for _ in 0..burst {
                budgets.spend(work, start).unwrap();
            }
            let later = start + Duration::from_secs(1);
            for _ in 0..per_second.min(burst) {
                assert_eq!(budgets.spend(work, later), Ok(()), "{work:?}");
            }
            assert!(budgets.spend(work, later).is_err(), "{work:?}");
        }
    }

    #[test]
    fn what_was_on_its_way_when_a_stream_ended_is_excused_and_no_more() {
        let now = Instant::now();
        let mut budgets = Budgets::new(now);
        budgets.stream_ended(32_752);
        for _ in 0..1000 + 127 + 8 {
            assert_eq!(budgets.spend(Work::LateFrame, now), Ok(()));
        }
        assert!(budgets.spend(Work::LateFrame, now).is_err());
    }

    #[test]
    fn moving_payload_and_ending_streams_earns_control_frames_and_no_more() {
        let now = Instant::now();
        let mut budgets = Budgets::new(now);
        budgets.stream_ended(0);
        budgets.half_ended();
        budgets.payload_moved(127);
        budgets.payload_moved(128 * 3 - 1);
        for _ in 0..2000 + 4 + 1 + 2 {
            assert_eq!(budgets.spend(Work::Control, now), Ok(()));
        }
        assert!(budgets.spend(Work::Control, now).is_err());
        budgets.payload_moved(128 * 3);
        assert_eq!(budgets.spend(Work::Control, now), Ok(()));
        assert!(budgets.spend(Work::Control, now).is_err());
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_burst() {
        let start = Instant::now();
        for (work, burst, _) in ALL {
            let mut budgets = Budgets::new(start);
            for _ in 0..burst {
                budgets.spend(work, start).unwrap();
            }
            let later = start + Duration::from_hours(1);
            for _ in 0..burst {
                assert_eq!(budgets.spend(work, later), Ok(()), "{work:?}");
            }
            assert!(budgets.spend(work, later).is_err(), "{work:?}");
        }
    }
}
