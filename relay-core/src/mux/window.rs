//! Credit: what a receiver has promised to take, and what a sender may still send.
//!
//! All offsets are absolute, counted in payload octets from the start of the half-stream. A grant
//! can therefore be repeated, coalesced or lost behind a newer one without the two sides drifting.

use std::time::{Duration, Instant};

use super::memory::Lease;

/// The widest a window grows, in octets.
pub const WINDOW_MAX: u64 = 16 << 20;

/// Receive memory of one link that is not reserved as floors and that windows may grow into.
#[derive(Debug)]
pub(super) struct GrowthPool {
    total: u64,
    lease: Lease,
}

impl GrowthPool {
    /// A pool of `total` octets, each of which is leased when a window takes it.
    pub(super) fn new(total: u64, lease: Lease) -> Self {
        Self { total, lease }
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
/// `taken <= received <= granted <= taken + size` at all times.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    size: u64,
    floor: u64,
    received: u64,
    taken: u64,
    granted: u64,
    granted_at: Option<Instant>,
}

impl ReceiveWindow {
    /// A window of `floor` octets, which the hello has granted already.
    pub(super) fn new(floor: u64) -> Self {
        Self { size: floor, floor, received: 0, taken: 0, granted: floor, granted_at: None }
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
        self.taken += octets.min(self.received - self.taken);
    }

    /// Octets that arrived and were not taken.
    pub(super) fn held(&self) -> u64 {
        self.received - self.taken
    }

    /// Octets that were granted and have not arrived.
    pub(super) fn unused(&self) -> u64 {
        self.granted - self.received
    }

    /// Octets of memory this window may come to need: its size.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether a quarter of the window can be granted anew.
    ///
    /// A quarter, not half: on a long path half would double the time it takes to ramp up.
    pub(super) fn grant_is_due(&self) -> bool {
        self.taken + self.size - self.granted >= self.size / 4
    }

    /// The new absolute offset to announce; `None` if nothing more is to be granted now.
    ///
    /// Doubles the window first when payload was consumed faster than a quarter of the window in
    /// half a round trip, which shows that the window, not the sender or the consumer, is what
    /// limits the rate. Halves it, by granting less, when that took more than eight round trips:
    /// others can use the memory.
    ///
    /// The pace is what counts, not the time since the last grant: grants coalesce, so a whole
    /// window may be consumed, a round trip after the last one, by the time a grant is written.
    pub(super) fn grant(
        &mut self,
        now: Instant,
        round_trip: Option<Duration>,
        pool: &mut GrowthPool,
    ) -> Option<u64> {
        if let (Some(before), Some(round_trip)) = (self.granted_at, round_trip) {
            let elapsed = now.saturating_duration_since(before).as_nanos();
            let consumed = u128::from(self.taken + self.size - self.granted);
            // Round trips per quarter of the window, as a fraction: without the divisions.
            let taken_for_a_quarter = elapsed * u128::from(self.size) / 4;
            let round_trips = round_trip.as_nanos() * consumed;
            if 2 * taken_for_a_quarter < round_trips {
                self.grow(pool);
            } else if taken_for_a_quarter > 8 * round_trips {
                self.shrink(pool);
            }
        }
        self.granted_at = Some(now);
        let granted = self.taken + self.size;
        if granted == self.granted {
            return None;
        }
        self.granted = granted;
        Some(granted)
    }

    fn grow(&mut self, pool: &mut GrowthPool) {
        let grown = (self.size * 2).min(WINDOW_MAX);
        if grown > self.size && pool.take(grown - self.size) {
            self.size = grown;
        }
    }

    /// What was granted cannot be taken back: the window shrinks to it at most.
    fn shrink(&mut self, pool: &mut GrowthPool) {
        let promised = self.granted - self.taken;
        let shrunk = (self.size / 2).max(self.floor).max(promised);
        pool.give_back(self.size - shrunk);
        self.size = shrunk;
    }

    /// Returns what the window had grown by to the pool. The window must not be used again.
    pub(super) fn retire(&mut self, pool: &mut GrowthPool) {
        pool.give_back(self.size - self.floor);
        self.size = self.floor;
    }

    pub(super) fn check(&self) {
        debug_assert!(self.taken <= self.received, "{self:?}");
        debug_assert!(self.received <= self.granted, "{self:?}");
        debug_assert!(self.granted <= self.taken + self.size, "{self:?}");
    }
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
    use super::*;
    use crate::mux::memory::MemoryBudget;

    const RTT: Duration = Duration::from_millis(10);

    fn pool_of(total: u64) -> GrowthPool {
        GrowthPool::new(total, Lease::new(None))
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
        let mut pool = pool_of(0);
        assert_eq!(window.grant(Instant::now(), None, &mut pool), Some(125));
        assert!(!window.grant_is_due());
    }

    #[test]
    fn taking_more_than_arrived_grants_nothing_extra() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.receive(50));
        window.take(u64::MAX);
        let mut pool = pool_of(0);
        assert_eq!(window.grant(Instant::now(), None, &mut pool), Some(150));
    }

    fn consume_quarter(window: &mut ReceiveWindow) {
        let quarter = window.size / 4;
        assert!(window.receive(quarter));
        window.take(quarter);
    }

    #[test]
    fn a_window_doubles_only_when_a_quarter_went_in_under_half_a_round_trip() {
        let start = Instant::now();
        let mut pool = pool_of(1 << 20);
        let mut window = ReceiveWindow::new(1024);
        consume_quarter(&mut window);
        window.grant(start, Some(RTT), &mut pool);
        assert_eq!(window.size(), 1024, "the first grant has nothing to compare with");

        consume_quarter(&mut window);
        window.grant(start + RTT / 2, Some(RTT), &mut pool);
        assert_eq!(window.size(), 1024, "exactly half a round trip is not faster than it");

        consume_quarter(&mut window);
        let almost = Duration::from_nanos(9_999_999);
        window.grant(start + almost, Some(RTT), &mut pool);
        assert_eq!(window.size(), 2048);
        assert_eq!(pool.lent(), 1024);

        consume_quarter(&mut window);
        window.grant(start + almost, None, &mut pool);
        assert_eq!(window.size(), 2048, "no growth without a round-trip sample");
        window.retire(&mut pool);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn a_window_that_is_no_longer_used_shrinks_to_its_floor_and_takes_back_no_promise() {
        let mut now = Instant::now();
        let mut pool = pool_of(1 << 20);
        let mut window = ReceiveWindow::new(1024);
        for _ in 0..8 {
            consume_quarter(&mut window);
            window.grant(now, Some(RTT), &mut pool);
        }
        let widest = window.size();
        assert!(widest > 64 * 1024, "{widest}");

        let mut granted = window.granted;
        for _ in 0..1000 {
            let before = window.size();
            consume_quarter(&mut window);
            now += 8 * RTT + Duration::from_millis(1);
            let told = window.grant(now, Some(RTT), &mut pool);
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
        let mut pool = pool_of(1 << 20);
        let mut window = ReceiveWindow::new(1024);
        for _ in 0..2 {
            consume_quarter(&mut window);
            window.grant(start, Some(RTT), &mut pool);
        }
        assert_eq!(window.size(), 2048);
        consume_quarter(&mut window);
        window.grant(start + 8 * RTT, Some(RTT), &mut pool);
        assert_eq!(window.size(), 2048);
        consume_quarter(&mut window);
        window.grant(start + 16 * RTT + Duration::from_nanos(1), Some(RTT), &mut pool);
        assert!(window.size() < 2048);
    }

    #[test]
    fn growth_stops_at_the_pool_and_at_the_widest_window() {
        let now = Instant::now();
        let mut window = ReceiveWindow::new(1024);
        let mut pool = pool_of(1023);
        for _ in 0..4 {
            consume_quarter(&mut window);
            window.grant(now, Some(RTT), &mut pool);
        }
        assert_eq!((window.size(), pool.lent()), (1024, 0));

        let mut pool = pool_of(u64::MAX);
        for _ in 0..40 {
            consume_quarter(&mut window);
            window.grant(now, Some(RTT), &mut pool);
        }
        assert_eq!(window.size(), WINDOW_MAX);
    }

    #[test]
    fn growth_stops_at_what_the_process_has_left() {
        let now = Instant::now();
        let budget = MemoryBudget::new(1024 + 2047);
        let mut pool = GrowthPool::new(u64::MAX, Lease::new(Some(budget.clone())));
        let mut window = ReceiveWindow::new(1024);
        for _ in 0..4 {
            consume_quarter(&mut window);
            window.grant(now, Some(RTT), &mut pool);
        }
        assert_eq!((window.size(), budget.leased()), (2048, 1024));
        drop(pool);
        assert_eq!(budget.leased(), 0);
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
