//! Credit: what a receiver has promised to take, and what a sender may still send.
//!
//! All offsets are absolute, counted in payload octets from the start of the half-stream. A grant
//! can therefore be repeated, coalesced or lost behind a newer one without the two sides drifting.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use super::memory::{Lease, most_of};

/// The widest a window grows, in octets.
pub const WINDOW_MAX: u64 = 16 << 20;

/// The most that a window of any size leaves ungranted, in octets. A quarter of the widest would be
/// a quarter of its rate: what is not granted cannot be on its way.
const GRANT_STEP_MAX: u64 = 512 << 10;

/// On a path shorter than this a pace is measured over as long at least.
///
/// Our choice: a burst between two switches of task moves tens of kilobytes in a few microseconds,
/// which is a round trip of a loopback. Looking for a millisecond costs a short path nothing.
const SHORT_PATH: Duration = Duration::from_millis(1);

/// The least that a window gives credit for, in octets: half a full frame of the default size.
const SPAN_MIN: u64 = 8_188;

/// Quarters of a round trip whose payload a path that is kept lean carries at most.
///
/// Our choice: one round trip's worth is what the line needs, and a quarter more lets a window that
/// is too narrow for it grow. What is on its way then waits a quarter of a round trip.
const LEAN_QUARTERS: u8 = 5;

/// What a window is judged by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    /// The shortest round trip of late, once one was measured.
    pub(super) round_trip: Option<Duration>,
    /// Whether short exchanges end on the link: they wait behind whatever windows let wait in the
    /// buffers of the path.
    pub(super) is_mixed: bool,
}

impl Path {
    fn is_short(&self) -> bool {
        self.round_trip.is_some_and(|it| it < SHORT_PATH)
    }

    /// Whether windows are to cause no queues, rather than never to be what limits the rate.
    ///
    /// Our choice, by measurement: on a short path the buffers hold many round trips' worth, and
    /// filling them is worth a quarter of the rate to bulk that is alone, and nothing to anybody
    /// else. A path that is long holds less of them than it carries.
    fn is_lean(&self) -> bool {
        self.is_mixed && self.is_short()
    }
}

/// Receive memory of one link that is not reserved as floors and that windows may grow into.
#[derive(Debug)]
pub(super) struct GrowthPool {
    total: u64,
    /// What each window has besides: it is the same for all of a link.
    floor: u32,
    lease: Lease,
}

impl GrowthPool {
    /// A pool of `total` octets, each of which is leased when a window takes it, for windows of at
    /// least `floor`.
    pub(super) fn new(total: u64, floor: u32, lease: Lease) -> Self {
        Self { total, floor, lease }
    }

    /// The most that one window may have borrowed, of which it has `borrowed` already: twice what
    /// is then left for others.
    fn share(&self, borrowed: u64) -> u64 {
        (self.total - self.lent() + borrowed) / 3 * 2
    }

    fn take(&mut self, octets: u64) -> bool {
        octets <= self.total - self.lent() && self.lease.take(octets)
    }

    fn give_back(&mut self, octets: u64) {
        self.lease.give_back(octets);
    }

    /// Octets lent out now.
    pub(super) fn lent(&self) -> u64 {
        self.lease.held()
    }
}

/// The receiver's account of one half-stream.
///
/// `taken <= received <= granted <= taken + size` at all times. A new grant is of `taken + span`,
/// which is as much as `size` but on a path that is kept lean. The span never shrinks below half in
/// one step: a consumer may keep to itself what was not worth a grant before, and if that were all
/// that is granted now, both sides would wait for ever. Whatever is at most [`WINDOW_MAX`]
/// is kept in 32 bits: a link may have thousands of streams that do nothing.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    received: u64,
    taken: u64,
    granted: u64,
    /// Since when the pace is measured.
    measured_since: Option<Instant>,
    /// Octets taken since then.
    consumed: u32,
    /// Octets of memory set aside.
    size: u32,
    /// What `size` is to be. Never above it; below while a promise is not used up.
    target: u32,
    /// Octets that credit is given for beyond what was taken. Never above `size`.
    span: u32,
}

impl ReceiveWindow {
    /// A window of `floor` octets, which the hello has granted already.
    pub(super) fn new(floor: u64) -> Self {
        let narrow = narrow(floor);
        Self {
            received: 0,
            taken: 0,
            granted: floor,
            measured_since: None,
            consumed: 0,
            size: narrow,
            target: narrow,
            span: narrow,
        }
    }

    /// Counts payload that arrived. `false`: it was not granted, the peer broke the protocol.
    #[must_use]
    pub(super) fn receive(&mut self, octets: u64) -> bool {
        if octets > self.granted - self.received {
            return false;
        }
        self.received += octets;
        true
    }

    /// Counts payload that the consumer took; at most what arrived counts.
    pub(super) fn take(&mut self, octets: u64) {
        let octets = octets.min(self.received - self.taken);
        self.taken += octets;
        self.consumed = self.consumed.saturating_add(narrow(octets));
    }

    /// Octets that arrived and were not taken.
    pub(super) fn held(&self) -> u64 {
        self.received - self.taken
    }

    /// Octets that arrived so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Octets that were granted and have not arrived.
    pub(super) fn unused(&self) -> u64 {
        self.granted - self.received
    }

    /// Octets of memory this window may come to need: its size.
    pub(super) fn size(&self) -> u64 {
        self.size.into()
    }

    /// Octets that are worth a grant: a quarter of the span, and never more than 512 KiB.
    ///
    /// A quarter, not half: on a long path half would double the time it takes to ramp up.
    pub(super) fn step(&self) -> u64 {
        (u64::from(self.span) / 4).min(GRANT_STEP_MAX)
    }

    /// Whether so much can be granted anew.
    pub(super) fn grant_is_due(&self) -> bool {
        (self.taken + u64::from(self.span)).saturating_sub(self.granted) >= self.step()
    }

    /// The new absolute offset to announce; `None` if nothing more is to be granted now. The window
    /// grows or shrinks first, by the pace at which payload was consumed.
    pub(super) fn grant(&mut self, now: Instant, path: Path, pool: &mut GrowthPool) -> Option<u64> {
        self.judge_pace(now, path, pool);
        self.resize(pool);
        self.span = if path.is_lean() { self.span.min(self.size) } else { self.size };
        let granted = self.taken + u64::from(self.span);
        if granted <= self.granted {
            return None;
        }
        self.granted = granted;
        Some(granted)
    }

    /// Looks at the pace once a quarter of the span was consumed, however often is granted: a pause
    /// in which the sender waits for credit, as between two bursts, is not the consumer's.
    fn judge_pace(&mut self, now: Instant, path: Path, pool: &GrowthPool) {
        if self.measured_since.is_none() {
            (self.measured_since, self.consumed) = (Some(now), 0);
        }
        if self.consumed < self.span / 4 || self.is_burst(now, path) {
            return;
        }
        let since = self.measured_since.replace(now).unwrap_or(now);
        let consumed = u64::from(std::mem::take(&mut self.consumed));
        let Some(round_trip) = path.round_trip else { return };
        let pace = Pace {
            consumed: consumed.into(),
            elapsed: now.saturating_duration_since(since).as_nanos(),
            round_trip: round_trip.as_nanos(),
        };
        let wanted = if path.is_lean() {
            let span = pace.octets_in(LEAN_QUARTERS).clamp(SPAN_MIN, WINDOW_MAX);
            self.span = narrow(span).max(self.span / 2);
            self.span.into()
        } else {
            // Each grant wakes both ends; where a round trip is no longer than that takes, fewer
            // grants matter more than memory.
            self.wanted(&pace, if path.is_short() { 4 } else { 2 })
        };
        let share = u64::from(pool.floor) + pool.share(self.borrowed(pool));
        let share =
            if share < u64::from(self.target) { share.min(self.size() * 3 / 4) } else { share };
        let wanted = narrow(wanted.min(share).min(WINDOW_MAX)).max(pool.floor);
        // Not for every few octets that the share moves by.
        if wanted == pool.floor || wanted.abs_diff(self.target) >= self.target / 16 {
            self.target = wanted;
        }
    }

    /// Wants a wider window when it lasts for less than so many round trips, two by default, which
    /// shows that the window, not the sender or the consumer, is what limits the rate: twice as
    /// wide at least, and up to four times if it would last for as many at that pace. Wants half of
    /// it when it lasts for more than 32: others can use the memory.
    ///
    /// The pace is what counts, not the time since the last grant: grants coalesce, so a whole
    /// window may be consumed, a round trip after the last one, by the time a grant is written.
    fn wanted(&self, pace: &Pace, round_trips: u8) -> u64 {
        if pace.lasts(self.size(), round_trips).is_lt() {
            // Doubling alone costs a round trip each: what a burst of one window has left, when the
            // first pace is known, is less than a quarter of a window twice as wide.
            pace.octets_in(4 * round_trips).clamp(2 * self.size(), 4 * self.size())
        } else if pace.lasts(self.size(), 32).is_gt() {
            self.target.min(self.size / 2).into()
        } else {
            self.target.into()
        }
    }
    /// Whether a short path was looked at for so short a time that its pace is that of a processor
    /// between two switches of task.
    fn is_burst(&self, now: Instant, path: Path) -> bool {
        let looked = self
            .measured_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        path.is_short() && looked < SHORT_PATH
    }

    /// What was granted cannot be taken back: the window shrinks with what is used up of it.
    fn resize(&mut self, pool: &mut GrowthPool) {
        let promised = narrow(self.granted - self.taken);
        let mut size = self.target.max(promised);
        if size <= self.size {
            pool.give_back(u64::from(self.size - size));
        } else {
            size = self.size + most_of(size - self.size, |octets| pool.take(octets.into()));
            self.target = size;
        }
        self.size = size;
    }

    /// Octets it has of the pool.
    fn borrowed(&self, pool: &GrowthPool) -> u64 {
        u64::from(self.size - pool.floor)
    }

    /// Returns what the window had grown by to the pool. The window must not be used again.
    pub(super) fn retire(&mut self, pool: &mut GrowthPool) {
        pool.give_back(self.borrowed(pool));
        self.size = pool.floor;
        self.target = pool.floor;
        self.span = pool.floor;
    }

    pub(super) fn check(&self) {
        debug_assert!(self.taken <= self.received, "{self:?}");
        debug_assert!(self.received <= self.granted, "{self:?}");
        debug_assert!(self.granted <= self.taken + self.size(), "{self:?}");
        debug_assert!(self.target <= self.size, "{self:?}");
        debug_assert!(self.span <= self.size, "{self:?}");
    }
}

/// How fast payload was consumed: `consumed` octets in `elapsed`, both times in nanoseconds.
struct Pace {
    consumed: u128,
    elapsed: u128,
    round_trip: u128,
}

impl Pace {
    /// How long `octets` last at this pace, against so many round trips: without a division.
    fn lasts(&self, octets: u64, round_trips: u8) -> Ordering {
        let round_trips = u128::from(round_trips);
        (u128::from(octets) * self.elapsed).cmp(&(round_trips * self.round_trip * self.consumed))
    }

    /// Octets that are consumed in so many quarters of a round trip.
    fn octets_in(&self, quarters: u8) -> u64 {
        let octets = u128::from(quarters) * self.round_trip * self.consumed / 4;
        let octets = octets.checked_div(self.elapsed);
        octets.and_then(|it| u64::try_from(it).ok()).unwrap_or(u64::MAX)
    }
}

/// Octets of a window, which are at most [`WINDOW_MAX`].
fn narrow(octets: u64) -> u32 {
    u32::try_from(octets).unwrap_or(u32::MAX)
}

/// The sender's account of one half-stream.
///
/// `sent + queued <= limit`: nothing is queued that has no credit.
#[derive(Debug)]
pub(super) struct SendCredit {
    limit: u64,
    sent: u64,
    queued: u64,
}

impl SendCredit {
    /// Credit for the `initial` octets of the peer's hello.
    pub(super) fn new(initial: u64) -> Self {
        Self { limit: initial, sent: 0, queued: 0 }
    }

    /// Takes the peer's grant. `false`: it goes back, the peer broke the protocol.
    #[must_use]
    pub(super) fn raise(&mut self, limit: u64) -> bool {
        if limit < self.limit {
            return false;
        }
        self.limit = limit;
        true
    }

    /// Octets that may be queued now: bounded by credit and by `queue_max` for the queue.
    pub(super) fn room(&self, queue_max: u64) -> u64 {
        (self.limit - self.sent - self.queued).min(queue_max.saturating_sub(self.queued))
    }

    /// Counts payload put in the queue; the caller has checked [`SendCredit::room`].
    pub(super) fn queue(&mut self, octets: u64) {
        self.queued += octets;
    }

    /// Counts payload moved from the queue to the pipe.
    pub(super) fn send(&mut self, octets: u64) {
        self.queued -= octets;
        self.sent += octets;
    }

    /// Forgets what is queued.
    pub(super) fn clear_queue(&mut self) {
        self.queued = 0;
    }

    /// Whether everything that the peer has granted was handed to the pipe.
    pub(super) fn is_used_up(&self) -> bool {
        self.sent == self.limit
    }

    /// Octets handed to the pipe.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// What the peer has granted.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Octets queued and not yet handed to the pipe.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    pub(super) fn check(&self) {
        debug_assert!(self.sent + self.queued <= self.limit, "{self:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::mux::memory::MemoryBudget;

    const RTT: Duration = Duration::from_millis(10);
    const PATH: Path = Path { round_trip: Some(RTT), is_mixed: false };

    fn pool_of(total: u64, floor: u32) -> GrowthPool {
        GrowthPool::new(total, floor, Lease::new(None))
    }

    #[test]
    fn payload_is_taken_up_to_the_grant_and_not_one_octet_more() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.receive(99));
        assert!(!window.receive(2));
        assert!(window.receive(1));
        assert!(!window.receive(1));
    }

    #[test]
    fn a_grant_is_due_at_a_quarter_and_not_one_octet_sooner() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.receive(100));
        window.take(24);
        assert!(!window.grant_is_due());
        window.take(1);
        assert!(window.grant_is_due());
        let mut pool = pool_of(0, 100);
        assert_eq!(window.grant(Instant::now(), Path::default(), &mut pool), Some(125));
        assert!(!window.grant_is_due());
    }

    #[test]
    fn taking_more_than_arrived_grants_nothing_extra() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.receive(50));
        window.take(u64::MAX);
        let mut pool = pool_of(0, 100);
        assert_eq!(window.grant(Instant::now(), Path::default(), &mut pool), Some(150));
    }

    fn consume_quarter(window: &mut ReceiveWindow) {
        let quarter = window.size() / 4;
        assert!(window.receive(quarter));
        window.take(quarter);
    }

    #[test]
    fn a_window_doubles_only_when_a_quarter_went_in_under_half_a_round_trip() {
        let start = Instant::now();
        let mut pool = pool_of(1 << 20, 1024);
        let mut window = ReceiveWindow::new(1024);
        consume_quarter(&mut window);
        window.grant(start, PATH, &mut pool);
        assert_eq!(window.size(), 1024, "the first grant has nothing to compare with");

        consume_quarter(&mut window);
        window.grant(start + RTT / 2, PATH, &mut pool);
        assert_eq!(window.size(), 1024, "exactly half a round trip is not faster than it");

        consume_quarter(&mut window);
        let almost = Duration::from_nanos(9_999_999);
        window.grant(start + almost, PATH, &mut pool);
        assert_eq!(window.size(), 2048);
        assert_eq!(pool.lent(), 1024);

        consume_quarter(&mut window);
        window.grant(start + almost, Path::default(), &mut pool);
        assert_eq!(window.size(), 2048, "no growth without a round-trip sample");
        window.retire(&mut pool);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn a_window_that_is_no_longer_used_shrinks_to_its_floor_and_takes_back_no_promise() {
        let mut now = Instant::now();
        let mut pool = pool_of(1 << 20, 1024);
        let mut window = ReceiveWindow::new(1024);
        for _ in 0..8 {
            consume_quarter(&mut window);
            window.grant(now, PATH, &mut pool);
        }
        let widest = window.size();
        assert!(widest > 64 * 1024, "{widest}");

        let mut granted = window.granted;
        for _ in 0..1000 {
            let before = window.size();
            consume_quarter(&mut window);
            now += 8 * RTT + Duration::from_millis(1);
            let told = window.grant(now, PATH, &mut pool);
            assert!(told.is_none_or(|limit| limit > granted), "no promise is taken back");
            granted = window.granted;
            window.check();
            assert!(window.size() <= before);
            if window.size() == 1024 {
                break;
            }
        }
        assert_eq!((window.size(), pool.lent()), (1024, 0));
    }

    #[test]
    fn a_quarter_in_exactly_eight_round_trips_does_not_shrink_the_window() {
        let start = Instant::now();
        let mut pool = pool_of(1 << 20, 1024);
        let mut window = ReceiveWindow::new(1024);
        for at in [start, start + RTT / 3] {
            consume_quarter(&mut window);
            window.grant(at, PATH, &mut pool);
        }
        assert_eq!(window.size(), 2048);
        let start = start + RTT / 3;
        consume_quarter(&mut window);
        window.grant(start + 8 * RTT, PATH, &mut pool);
        assert_eq!(window.size(), 2048);
        consume_quarter(&mut window);
        window.grant(start + 16 * RTT + Duration::from_nanos(1), PATH, &mut pool);
        assert!(window.size() < 2048);
    }

    #[test]
    fn a_window_grows_to_two_round_trips_of_its_pace_and_at_most_fourfold() {
        for (elapsed, size) in [(RTT / 3, 2048), (RTT / 6, 3072), (RTT / 8, 4096), (RTT / 80, 4096)]
        {
            let start = Instant::now();
            let mut pool = pool_of(1 << 20, 1024);
            let mut window = ReceiveWindow::new(1024);
            for at in [start, start + elapsed] {
                consume_quarter(&mut window);
                window.grant(at, PATH, &mut pool);
            }
            assert!(window.size().abs_diff(size) <= 1, "{} after {elapsed:?}", window.size());
        }
    }

    /// A window as wide as windows get.
    fn widest(now: Instant, pool: &mut GrowthPool) -> ReceiveWindow {
        let mut window = ReceiveWindow::new(1 << 15);
        for _ in 0..10 {
            consume_quarter(&mut window);
            window.grant(now, PATH, pool);
        }
        assert_eq!(window.size(), WINDOW_MAX);
        window
    }

    #[test]
    fn a_wide_window_is_granted_by_512_kib_and_not_one_octet_less() {
        let now = Instant::now();
        let mut window = widest(now, &mut pool_of(u64::MAX, 1 << 15));
        assert!(window.receive(GRANT_STEP_MAX));
        window.take(GRANT_STEP_MAX - 1);
        assert!(!window.grant_is_due());
        window.take(1);
        assert!(window.grant_is_due());
    }

    #[test]
    fn a_wide_window_shrinks_though_it_is_granted_by_small_steps() {
        let mut now = Instant::now();
        let mut pool = pool_of(u64::MAX, 1 << 15);
        let mut window = widest(now, &mut pool);
        let mut left = 10_000;
        while window.size() > 1 << 15 {
            left -= 1;
            assert!(left > 0, "{} octets are kept", window.size());
            let step = window.step().min(window.granted - window.received);
            assert!(window.receive(step));
            window.take(step);
            now += 8 * RTT + Duration::from_millis(1);
            window.grant(now, PATH, &mut pool);
            window.check();
        }
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn a_pause_between_two_bursts_is_not_taken_for_a_slow_consumer() {
        let mut now = Instant::now();
        let mut pool = pool_of(u64::MAX, 1 << 15);
        let mut window = widest(now, &mut pool);
        for _ in 0..100 {
            now += RTT;
            for _ in 0..16 {
                assert!(window.receive(window.step()));
                window.take(window.step());
                window.grant(now, PATH, &mut pool);
            }
        }
        assert_eq!(window.size(), WINDOW_MAX);
    }

    #[test]
    fn growth_stops_at_the_pool_and_at_the_widest_window() {
        let now = Instant::now();
        let mut window = ReceiveWindow::new(1024);
        let mut pool = pool_of(1023, 1024);
        for _ in 0..4 {
            consume_quarter(&mut window);
            window.grant(now, PATH, &mut pool);
        }
        assert_eq!((window.size(), pool.lent()), (1024 + 682, 682), "a third is left for others");

        window.retire(&mut pool);
        let mut pool = pool_of(u64::MAX, 1024);
        for _ in 0..40 {
            consume_quarter(&mut window);
            window.grant(now, PATH, &mut pool);
        }
        assert_eq!(window.size(), WINDOW_MAX);
    }

    #[test]
    fn a_burst_on_a_short_path_is_no_pace_and_a_millisecond_of_it_is() {
        let start = Instant::now();
        let mut pool = pool_of(u64::MAX, 1024);
        let mut window = ReceiveWindow::new(1024);
        let path = Path { round_trip: Some(Duration::from_micros(50)), is_mixed: false };
        let almost = Duration::from_nanos(999_999);
        for step in 0..1000 {
            consume_quarter(&mut window);
            window.grant(start + almost * step / 999, path, &mut pool);
        }
        assert_eq!(window.size(), 1024);
        consume_quarter(&mut window);
        window.grant(start + SHORT_PATH, path, &mut pool);
        assert_eq!(window.size(), 4096, "it went on for long enough");
    }

    /// A short path, with short exchanges on it.
    const LEAN: Path = Path { round_trip: Some(Duration::from_micros(100)), is_mixed: true };

    /// Consumes by quarters of the span at a steady pace for a while.
    fn consume(
        window: &mut ReceiveWindow,
        pool: &mut GrowthPool,
        now: &mut Instant,
        (path, octets_per_ms): (Path, u32),
    ) {
        for _ in 0..400 {
            let step = window.step().min(window.granted - window.received).max(1);
            assert!(window.receive(step));
            window.take(step);
            *now += Duration::from_millis(1) * u32::try_from(step).unwrap() / octets_per_ms;
            window.grant(*now, path, pool);
            window.check();
        }
    }

    #[test]
    fn a_lean_path_carries_five_quarters_of_a_round_trip_and_no_less_than_half_a_frame() {
        // 100 KB in a round trip, 10 KB, and 1 KB.
        for (octets_per_ms, span) in [(1_000_000, 125_000), (100_000, 12_500), (10_000, 8_188)] {
            let mut window = ReceiveWindow::new(32 << 10);
            let (mut pool, mut now) = (pool_of(u64::MAX, 32 << 10), Instant::now());
            consume(&mut window, &mut pool, &mut now, (LEAN, octets_per_ms));
            assert!(window.span.abs_diff(span) <= span / 16, "{span}: {window:?}");
            assert!(window.size >= 32 << 10, "memory of a floor is kept: {window:?}");
            // As soon as nobody waits any more, windows are as wide as they are elsewhere.
            let calm = Path { is_mixed: false, ..LEAN };
            consume(&mut window, &mut pool, &mut now, (calm, octets_per_ms));
            assert_eq!(window.span, window.size);
            assert!(window.size() >= 2 * u64::from(octets_per_ms) / 10, "{window:?}");
        }
    }

    #[test]
    fn a_path_of_a_millisecond_is_not_kept_lean_and_a_shorter_one_without_exchanges_neither() {
        let almost = Duration::from_nanos(999_999);
        for (round_trip, is_mixed, is_lean) in
            [(SHORT_PATH, true, false), (almost, true, true), (almost, false, false)]
        {
            let path = Path { round_trip: Some(round_trip), is_mixed };
            let mut window = ReceiveWindow::new(32 << 10);
            let mut now = Instant::now();
            consume(&mut window, &mut pool_of(u64::MAX, 32 << 10), &mut now, (path, 1_000));
            assert_eq!(window.span < 32 << 10, is_lean, "{path:?}: {window:?}");
        }
    }

    proptest! {
        /// The handles keep to themselves what is not worth a grant, and learn what that is when
        /// they are asked what was taken: before the window shrinks.
        #[test]
        fn what_was_worth_a_grant_before_is_never_more_than_all_that_is_granted_after(
            steps in vec((0..50_000_u64, 1..20_000_u64, any::<bool>(), 10..2_000_u64), 1..200),
        ) {
            let mut now = Instant::now();
            let mut pool = pool_of(1 << 20, 32 << 10);
            let mut window = ReceiveWindow::new(32 << 10);
            for (octets, micros, is_mixed, round_trip) in steps {
                prop_assert!(window.receive(octets.min(window.unused())));
                window.take(octets);
                now += Duration::from_micros(micros);
                let path = Path { round_trip: Some(Duration::from_micros(round_trip)), is_mixed };
                let worth = window.step();
                if window.grant_is_due() {
                    window.grant(now, path, &mut pool);
                }
                window.check();
                prop_assert!(worth <= window.granted - window.taken, "{worth} of {window:?}");
            }
        }
    }

    #[test]
    fn growth_stops_at_what_the_process_has_left() {
        let now = Instant::now();
        let budget = MemoryBudget::new(1024 + 2047);
        let mut pool = GrowthPool::new(u64::MAX, 1024, Lease::new(Some(budget.clone())));
        let mut window = ReceiveWindow::new(1024);
        for _ in 0..4 {
            consume_quarter(&mut window);
            window.grant(now, PATH, &mut pool);
        }
        assert_eq!(window.size(), 1024 + budget.leased());
        assert!(budget.leased() <= budget.limit() && budget.refused() > 0, "{budget:?}");
        assert!(window.size() > 2048, "what is left is used: {window:?}");
        drop(pool);
        assert_eq!(budget.leased(), 0);
    }

    #[test]
    fn windows_that_had_the_pool_first_shrink_until_those_that_come_later_have_as_much() {
        let now = Instant::now();
        let mut pool = pool_of(1 << 20, 1024);
        let mut windows: Vec<ReceiveWindow> = (0..8).map(|_| ReceiveWindow::new(1024)).collect();
        for round in 0..400 {
            for window in windows.iter_mut().take(1 + round / 40) {
                consume_quarter(window);
                window.grant(now, PATH, &mut pool);
                window.check();
            }
        }
        let sizes: Vec<u64> = windows.iter().map(ReceiveWindow::size).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(*most < 2 * least, "{sizes:?}");
        assert!(pool.lent() > 7 << 17, "the pool is used: {sizes:?}");
    }

    #[test]
    fn a_sender_queues_no_more_than_credit_and_queue_allow() {
        let mut credit = SendCredit::new(100);
        assert_eq!(credit.room(64), 64);
        credit.queue(64);
        assert_eq!(credit.room(64), 0);
        credit.send(64);
        assert_eq!(credit.room(64), 36, "credit is the tighter bound now");
        assert!(!credit.raise(99));
        assert!(credit.raise(100) && credit.raise(1000));
        assert_eq!(credit.room(64), 64);
    }
}
