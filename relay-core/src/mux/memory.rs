//! Receive memory: the budget that the links of a process share, and what each has leased of it.
//!
//! A link leases before it promises: the floors of the streams that it lets be opened, and what
//! windows grow by. What it leased returns when the stream, or the link, has ended. So the promises
//! of all links together never exceed the budget, however many peers dial in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Streams whose floors a link leases when it begins, if so many may be opened: a short burst needs
/// no second look, and a process of many links is not used up by idle ones.
pub(super) const STREAMS_LEASED_FIRST: u32 = 128;

/// Octets of receive memory that links share. Clones share it too.
///
/// Give the same budget to [`Config::memory`](super::Config::memory) of every link. A link that
/// finds it used up lets its peer open fewer streams, and its windows do not grow; nothing else
/// fails, and streams that are open keep what they were promised.
#[derive(Clone)]
pub struct MemoryBudget {
    shared: Arc<Shared>,
}

struct Shared {
    limit: u64,
    leased: AtomicU64,
    refused: AtomicU64,
}

impl MemoryBudget {
    /// A budget of `limit` octets.
    pub fn new(limit: u64) -> Self {
        let (leased, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { limit, leased, refused }) }
    }

    /// Octets there are.
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }

    /// Octets that links have leased now. At most [`MemoryBudget::limit`].
    pub fn leased(&self) -> u64 {
        self.shared.leased.load(Ordering::Relaxed)
    }

    /// How often a link asked for more than was left.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// What links may lease together beyond their first floors. The last eighth is for the first
    /// floors of links that are still to come, and for windows: else links that are full would
    /// leave a new one without a single stream.
    fn shared_out(&self) -> u64 {
        self.limit() - self.limit() / 8
    }

    /// Whether less than an eighth is left: links give back what they hold beyond the first.
    fn is_tight(&self) -> bool {
        self.leased() > self.shared_out()
    }

    // Relaxed: the number itself is all that is shared, and each change of it is atomic.
    fn take(&self, octets: u64, up_to: u64) -> bool {
        let more = |leased: u64| leased.checked_add(octets).filter(|sum| *sum <= up_to);
        let leased = &self.shared.leased;
        let taken = leased.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !taken {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn give_back(&self, octets: u64) {
        let before = self.shared.leased.fetch_sub(octets, Ordering::Relaxed);
        debug_assert!(before >= octets, "more was given back than was leased");
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("limit", &self.limit())
            .field("leased", &self.leased())
            .field("refused", &self.refused())
            .finish()
    }
}

/// Whether both are the same budget.
impl PartialEq for MemoryBudget {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for MemoryBudget {}

/// What one holder has of a budget. Returns it when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Option<MemoryBudget>,
    held: u64,
}

impl Lease {
    /// Nothing yet, of `budget`; of no end of memory without one.
    pub(super) fn new(budget: Option<MemoryBudget>) -> Self {
        Self { budget, held: 0 }
    }

    /// Octets held.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Takes `octets` more. `false`: there are not so many, and nothing was taken.
    #[must_use]
    pub(super) fn take(&mut self, octets: u64) -> bool {
        self.take_up_to(octets, MemoryBudget::limit)
    }

    /// The same, if the last eighth of the budget stays.
    #[must_use]
    fn take_sparingly(&mut self, octets: u64) -> bool {
        self.take_up_to(octets, MemoryBudget::shared_out)
    }

    fn take_up_to(&mut self, octets: u64, up_to: impl Fn(&MemoryBudget) -> u64) -> bool {
        let taken = self.budget.as_ref().is_none_or(|budget| budget.take(octets, up_to(budget)));
        if taken {
            self.held += octets;
        }
        taken
    }

    pub(super) fn give_back(&mut self, octets: u64) {
        debug_assert!(octets <= self.held, "more is given back than was taken");
        self.held -= octets;
        if let Some(budget) = &self.budget {
            budget.give_back(octets);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(self.held);
    }
}

/// The floors of the streams that one side may have open at once.
#[derive(Debug)]
pub(crate) struct Floors {
    octets_each: u64,
    streams: u32,
    streams_max: u32,
    lease: Lease,
}

impl Floors {
    /// Floors of `octets_each` for up to `streams_max` streams. Without a budget all are there at
    /// once; else the first of them, or as many of these as are left.
    pub(crate) fn new(octets_each: u32, streams_max: u32, budget: Option<MemoryBudget>) -> Self {
        let first = match &budget {
            None => streams_max,
            Some(_) => streams_max.min(STREAMS_LEASED_FIRST),
        };
        let lease = Lease::new(budget);
        let mut floors = Self { octets_each: octets_each.into(), streams: 0, streams_max, lease };
        floors.add(first, Lease::take);
        floors
    }

    /// Streams that may be open at once, as far as memory goes.
    pub(crate) fn streams(&self) -> u32 {
        self.streams
    }

    /// Octets reserved.
    pub(crate) fn held(&self) -> u64 {
        self.lease.held()
    }

    /// Leases more, if `open` streams are half of what there is or more. Returns whether it did.
    ///
    /// Twice as many each time: few looks at the budget, and the peer hears of them long before it
    /// has used up what it has. Beyond the first the last eighth of the budget stays.
    pub(crate) fn grow(&mut self, open: u64) -> bool {
        let is_wanted = open * 2 >= u64::from(self.streams) && self.streams < self.streams_max;
        if !is_wanted {
            return false;
        }
        let left = self.streams_max - self.streams;
        match STREAMS_LEASED_FIRST.saturating_sub(self.streams) {
            0 => self.add(self.streams.min(left), Lease::take_sparingly),
            of_first => self.add(of_first.min(left), Lease::take),
        }
    }

    /// Whether a floor is to be given back as a stream ends, when `open` are open: the first are
    /// kept, and of the others those that are wanted here, while there is enough for all. A link
    /// leases more when half of its floors are in use, so one that keeps a quarter does not lease
    /// again what it has just given back.
    pub(crate) fn is_shrinking(&self, open: u64) -> bool {
        let Some(budget) = &self.lease.budget else { return false };
        let is_idle = open * 4 < u64::from(self.streams);
        self.streams > STREAMS_LEASED_FIRST && (is_idle || budget.is_tight())
    }

    /// Gives one floor back if others need it, or it is needed no more. Called as a stream ends,
    /// so that no promise is taken back: the end of one stream then simply allows no other.
    /// Returns whether it did.
    pub(crate) fn shrink(&mut self, open: u64) -> bool {
        let is_shrinking = self.is_shrinking(open);
        if is_shrinking {
            self.streams -= 1;
            self.lease.give_back(self.octets_each);
        }
        is_shrinking
    }

    /// Leases the floors of `wanted` streams, or of as many as `take` yields. Returns whether there
    /// was one.
    fn add(&mut self, wanted: u32, take: impl Fn(&mut Lease, u64) -> bool) -> bool {
        let Self { octets_each, lease, .. } = self;
        let added = most_of(wanted, |streams| take(lease, u64::from(streams) * *octets_each));
        self.streams += added;
        added > 0
    }
}

/// Has `take` take `wanted`, or half as many, and so on: less may be left than is wanted. Returns
/// how many it took.
pub(super) fn most_of(mut wanted: u32, mut take: impl FnMut(u32) -> bool) -> u32 {
    while wanted > 0 && !take(wanted) {
        wanted /= 2;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_leased_to_its_last_octet_and_not_one_more() {
        let budget = MemoryBudget::new(100);
        let mut one = Lease::new(Some(budget.clone()));
        let mut other = Lease::new(Some(budget.clone()));
        assert!(one.take(60));
        assert!(!other.take(41));
        assert_eq!((budget.leased(), budget.refused()), (60, 1));
        assert!(other.take(40));
        assert!(!one.take(1));
        one.give_back(10);
        assert!(other.take(10));
        drop(other);
        assert_eq!(budget.leased(), 50);
        drop(one);
        assert_eq!(budget.leased(), 0);
    }

    #[test]
    fn an_amount_that_no_number_holds_is_refused() {
        let mut lease = Lease::new(Some(MemoryBudget::new(u64::MAX)));
        assert!(lease.take(1));
        assert!(!lease.take(u64::MAX));
        assert_eq!(lease.held(), 1);
    }

    #[test]
    fn without_a_budget_every_floor_is_there_at_once() {
        let floors = Floors::new(1024, 16_384, None);
        assert_eq!((floors.streams(), floors.held()), (16_384, 16_384 * 1024));
    }

    #[test]
    fn floors_are_leased_as_streams_are_opened_up_to_what_may_be_opened() {
        let budget = MemoryBudget::new(1 << 30);
        let mut floors = Floors::new(1024, 1000, Some(budget.clone()));
        assert_eq!(floors.streams(), STREAMS_LEASED_FIRST);
        assert!(!floors.grow(63), "fewer than half are open");
        assert!(floors.grow(64));
        assert_eq!(floors.streams(), 256);
        while floors.grow(u64::from(floors.streams())) {}
        assert_eq!((floors.streams(), budget.leased()), (1000, 1000 * 1024));
        drop(floors);
        assert_eq!(budget.leased(), 0);
    }

    #[test]
    fn what_is_left_is_leased_when_it_is_less_than_what_is_wanted() {
        let budget = MemoryBudget::new(200 * 1024);
        let mut first = Floors::new(1024, 1000, Some(budget.clone()));
        let mut second = Floors::new(1024, 1000, Some(budget.clone()));
        assert_eq!((first.streams(), second.streams()), (128, 64));
        assert!(second.grow(64));
        assert_eq!(second.streams(), 64 + 8, "the last eight");
        assert!(!first.grow(128));
        drop(second);
        assert!(first.grow(128));
        assert_eq!(first.streams(), 128 + 32, "64 would leave less than an eighth");
    }

    #[test]
    fn links_that_are_full_leave_a_new_one_its_first_streams() {
        let budget = MemoryBudget::new(4096 * 1024);
        let mut full = [(); 2].map(|()| Floors::new(1024, 16_384, Some(budget.clone())));
        for _ in 0..20 {
            for floors in &mut full {
                floors.grow(floors.streams().into());
                // Others end, and others are opened, at the load that uses everything.
                floors.shrink(floors.streams().into());
                floors.grow(floors.streams().into());
            }
        }
        assert_eq!(budget.leased(), 4096 * 1024 / 8 * 7, "as much as may be");
        let mut third = Floors::new(1024, 16_384, Some(budget.clone()));
        assert_eq!(third.streams(), STREAMS_LEASED_FIRST);
        assert!(!third.grow(128), "of what links have beyond the first there is none left");
    }

    #[test]
    fn a_link_with_many_floors_gives_them_back_one_by_one_while_memory_is_short() {
        let budget = MemoryBudget::new(512 * 1024);
        let mut floors = Floors::new(1024, 256, Some(budget.clone()));
        assert!(floors.grow(128));
        let _others = [(); 2].map(|()| Floors::new(1024, 128, Some(budget.clone())));
        let mut before = 256;
        loop {
            let shrunk = floors.shrink(256);
            assert_eq!(shrunk, floors.streams() < before);
            if !shrunk {
                break;
            }
            before -= 1;
            assert_eq!(floors.streams(), before);
        }
        assert_eq!(floors.streams(), 192, "an eighth is left");
        let mut few = Floors::new(1024, 100, Some(MemoryBudget::new(100 * 1024)));
        few.shrink(100);
        assert_eq!(few.streams(), 100, "the first are kept");
    }

    #[test]
    fn a_link_that_uses_fewer_than_a_quarter_of_its_floors_gives_them_back_one_by_one() {
        let budget = MemoryBudget::new(1 << 30);
        let mut floors = Floors::new(1024, 1000, Some(budget.clone()));
        while floors.grow(u64::from(floors.streams())) {}
        assert!(!floors.shrink(250), "a quarter of 1,000");
        assert!(floors.shrink(249));
        assert_eq!((floors.streams(), budget.leased()), (999, 999 * 1024));
        assert!(!floors.grow(249), "it does not lease again what it has just given back");
        while floors.shrink(0) {}
        assert_eq!(floors.streams(), STREAMS_LEASED_FIRST, "the first are kept");
        assert_eq!(budget.leased(), 128 * 1024);

        let mut without_budget = Floors::new(1024, 1000, None);
        assert!(!without_budget.shrink(0));
        assert_eq!(without_budget.streams(), 1000);
    }
}
