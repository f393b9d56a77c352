//! Lines in the lines before the links of each site.
//!
//! Until when a request may wait, and whose turn it is, `overload.rs` decides; here is who is woken
//! for it. Only the one whose turn it is waits at the links themselves (`line.rs`): links serve
//! whoever came to them first, and under overload that is not whom the line serves first.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::overload::{Departure, Line, Patience, Ticket};

/// Of those who wait, so many are called at once: each of them calls others when it is served.
const CALLED_MAX: usize = 64;

/// The lines of an instance, one for each site whose links are all full.
#[derive(Debug)]
pub(super) struct Lines {
    patience: Patience,
    /// By the site's name. Those that nothing is known of any more go when another place is taken.
    sites: Mutex<BTreeMap<Box<str>, Site>>,
}

#[derive(Debug)]
struct Site {
    line: Line,
    /// Of those that wait for the turn, and of the one that has it.
    wakers: BTreeMap<Ticket, Waker>,
    /// Those that are to try out of turn, and have not yet.
    called: BTreeSet<Ticket>,
}

impl Site {
    /// Changes the line. Returns whom the turn was taken from and who has it now, to be woken.
    fn change<T>(&mut self, change: impl FnOnce(&mut Line) -> T) -> (T, [Option<Waker>; 2]) {
        let before = self.line.turn();
        let changed = change(&mut self.line);
        let after = self.line.turn();
        if before == after {
            return (changed, [None, None]);
        }
        (changed, [before, after].map(|turn| self.wakers.remove(&turn?)))
    }
}

fn wake(wakers: [Option<Waker>; 2]) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}

/// What somebody in a line is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Call {
    /// To wait at the links.
    Turn,
    /// To take a stream if one is free, and to wait on if none is.
    Try,
}

/// A place in a line. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct InLine<'a> {
    lines: &'a Lines,
    site: &'a str,
    ticket: Ticket,
    until: Instant,
    /// Why it is going to be left.
    why: Departure,
}

impl Lines {
    /// Lines that have `burst` to become empty; where they do not, a request has `overload`.
    pub(super) fn new(burst: Duration, overload: Duration) -> Self {
        Self { patience: Patience::new(burst, overload), sites: Mutex::default() }
    }

    /// Takes a place in the line before `site` for a request that came `now`; `None` if
    /// `waiting_max` wait there already.
    pub(super) fn take<'a>(
        &'a self,
        site: &'a str,
        waiting_max: usize,
        now: Instant,
    ) -> Option<InLine<'a>> {
        let now = now.into_std();
        let (ticket, until, wakers) = {
            let mut sites = self.sites();
            sites.retain(|_, it| !it.line.is_forgotten(now));
            let fresh = || Site {
                line: Line::new(self.patience),
                wakers: BTreeMap::new(),
                called: BTreeSet::new(),
            };
            let entry = sites.entry(site.into()).or_insert_with(fresh);
            if entry.line.waiting() >= waiting_max {
                return None;
            }
            let ((ticket, until), wakers) = entry.change(|line| line.handle_arrival(now));
            (ticket, until.into(), wakers)
        };
        wake(wakers);
        Some(InLine { lines: self, site, ticket, until, why: Departure::Gone })
    }

    fn sites(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Site>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InLine<'_> {
    /// When the request is to be refused.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Leaves the line if the request is to be refused by now, so that the line knows.
    pub(super) fn leave_unserved(mut self) {
        if self.until <= Instant::now() {
            self.why = Departure::Refused;
        }
    }

    /// Leaves the line with a stream, and calls as many others as there are streams `free`. If
    /// each had but its turn, it would get its stream when the one before it has had the processor:
    /// on a busy machine a long line would stand before streams that are free.
    pub(super) fn leave_served(self, free: usize) {
        let now = Instant::now().into_std();
        let called: Vec<Waker> = {
            let mut sites = self.lines.sites();
            let Some(site) = sites.get_mut(self.site) else { return };
            let others = site.line.following(free.min(CALLED_MAX), now).into_iter();
            let others = others.filter(|ticket| *ticket != self.ticket);
            let called = others.filter_map(|ticket| {
                site.called.insert(ticket);
                site.wakers.remove(&ticket)
            });
            called.collect()
        };
        called.into_iter().for_each(Waker::wake);
    }

    /// Waits for the turn, or to be called before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the place is kept.
    pub(super) async fn turn(&self) -> Call {
        poll_fn(|cx| {
            let is_called = {
                let mut sites = self.lines.sites();
                sites.get_mut(self.site).is_some_and(|site| site.called.remove(&self.ticket))
            };
            if is_called {
                return Poll::Ready(Call::Try);
            }
            self.poll(cx, |is_turn| is_turn).map(|()| Call::Turn)
        })
        .await
    }

    /// Waits until the turn is another's.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the place is kept.
    pub(super) async fn turn_lost(&self) {
        poll_fn(|cx| self.poll(cx, |is_turn| !is_turn)).await;
    }

    fn poll(&self, cx: &Context<'_>, is_awaited: impl Fn(bool) -> bool) -> Poll<()> {
        let mut sites = self.lines.sites();
        // A line with somebody in it is kept.
        let Some(site) = sites.get_mut(self.site) else { return Poll::Ready(()) };
        if is_awaited(site.line.turn() == Some(self.ticket)) {
            return Poll::Ready(());
        }
        site.wakers.insert(self.ticket, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let now = Instant::now().into_std();
        let wakers = {
            let mut sites = self.lines.sites();
            let Some(site) = sites.get_mut(self.site) else { return };
            site.wakers.remove(&self.ticket);
            site.called.remove(&self.ticket);
            site.change(|line| line.handle_departure(self.ticket, self.why, now)).1
        };
        wake(wakers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: Duration = Duration::from_secs(5);
    const OVERLOAD: Duration = Duration::from_millis(50);

    async fn is_ready<T>(future: impl Future<Output = T>) -> bool {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_wait_before_a_site_as_may_and_none_of_them_counts_before_another() {
        let lines = Lines::new(BURST, OVERLOAD);
        let take = |site| lines.take(site, 3, Instant::now());
        let [first, second, third] = [(); 3].map(|()| take("a").unwrap());
        assert!(take("a").is_none());
        assert!(take("b").is_some());
        drop(second);
        let fourth = take("a").unwrap();
        assert!(take("a").is_none());
        drop((first, third, fourth));
        assert!(take("a").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_stands_is_no_concern_of_another_site() {
        let lines = Lines::new(BURST, OVERLOAD);
        let place = lines.take("a", 3, Instant::now()).unwrap();
        tokio::time::sleep_until(place.until()).await;
        place.leave_unserved();
        let now = Instant::now();
        let until = |site| lines.take(site, 3, now).unwrap().until() - now;
        assert_eq!((until("a"), until("b")), (OVERLOAD, BURST));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_before_its_time_is_over_was_not_refused() {
        for early in [Duration::from_millis(1), Duration::ZERO] {
            let lines = Lines::new(BURST, OVERLOAD);
            let place = lines.take("a", 1, Instant::now()).unwrap();
            tokio::time::sleep_until(place.until() - early).await;
            place.leave_unserved();
            let now = Instant::now();
            let given = lines.take("a", 1, now).unwrap().until() - now;
            assert_eq!(given, if early.is_zero() { OVERLOAD } else { BURST });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_nobody_waits_in_are_forgotten_when_another_place_is_taken() {
        let lines = Lines::new(BURST, OVERLOAD);
        for site in ["a", "b", "c"] {
            drop(lines.take(site, 1, Instant::now()).unwrap());
        }
        let _kept = lines.take("d", 1, Instant::now()).unwrap();
        let _other = lines.take("e", 1, Instant::now()).unwrap();
        let left: Vec<String> = lines.sites().keys().map(ToString::to_string).collect();
        assert_eq!(left, ["d", "e"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_turn_is_one_places_and_whom_it_is_taken_from_hears_of_it() {
        let lines = Lines::new(BURST, OVERLOAD);
        let take = || lines.take("a", 9, Instant::now()).unwrap();
        let [first, second] = [take(), take()];
        assert!(is_ready(first.turn()).await && !is_ready(second.turn()).await);
        tokio::time::sleep(OVERLOAD).await;
        let mut lost = std::pin::pin!(first.turn_lost());
        assert!(!is_ready(lost.as_mut()).await);
        let third = take();
        lost.await;
        assert!(!is_ready(first.turn()).await && is_ready(third.turn()).await);
        let mut turn = std::pin::pin!(second.turn());
        assert!(!is_ready(turn.as_mut()).await);
        drop(third);
        assert_eq!(turn.await, Call::Turn);
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_called_as_streams_are_free_and_each_tries_once() {
        for free in 0..4 {
            let lines = Lines::new(BURST, OVERLOAD);
            let take = || lines.take("a", 9, Instant::now()).unwrap();
            let [first, second, third, fourth] = [take(), take(), take(), take()];
            let others = [&second, &third, &fourth];
            let mut turns: Vec<_> = others.iter().map(|it| Box::pin(it.turn())).collect();
            for turn in &mut turns {
                assert!(!is_ready(turn.as_mut()).await);
            }
            first.leave_served(free);
            for (place, turn) in turns.into_iter().enumerate() {
                let called = (place < free).then_some(Call::Try);
                let has_turn = (place == 0).then_some(Call::Turn);
                let expected = called.or(has_turn);
                let heard = tokio::time::timeout(OVERLOAD, turn).await.ok();
                assert_eq!(heard, expected, "{place} of {free}");
            }
            // Whoever has tried in vain waits for its turn as before.
            assert_eq!(second.turn().await, Call::Turn);
            assert!(!is_ready(third.turn()).await);
        }
    }
}
