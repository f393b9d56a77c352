//! What is held of each source, and what became of it.
//!
//! Without I/O: time is an argument, and what a flight has brought is too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Crl, Guid, KeySet};

use super::keys::{GivenBy, KeySource, KeysFault};
use super::lists::{
    Known, ListFault, ListLocation, ListSource, ListState, NewLists, octets_of, state,
};
use super::schedule::{Asked, DAY, Schedule};

/// Octets of all lists that are held, at most, by default: four of the largest.
pub const LISTS_OCTETS_MAX: usize = 128 << 20;

/// That a source failed, since when and how often.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Failure<F> {
    /// What happened last, whose fault it is, and what to do.
    pub why: F,
    /// When it failed first since it was last fetched, in seconds since 1970 UTC.
    pub since: u64,
    /// Failures since then.
    pub count: u32,
}

/// The keys of a tenant at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeysStatus {
    /// Whose.
    pub tenant: Guid,
    /// Where they come from.
    pub source: String,
    /// What is held.
    pub keys: Option<Arc<KeySet>>,
    /// When the provider has last said that these are its keys, in seconds since 1970 UTC.
    pub fetched_at: Option<u64>,
    /// Why there is nothing newer, if it was asked for in vain.
    pub failure: Option<Failure<KeysFault>>,
    /// After how long it is asked again; `None` while it is.
    pub next_in: Option<Duration>,
}

/// The lists of one place at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListStatus {
    /// Where they come from.
    pub location: ListLocation,
    /// What is held: read, and signed by one of the authorities that were wanted when the place was
    /// last asked; of each authority, key and scope the newest list that ever came from there.
    pub lists: Arc<[Crl]>,
    /// What can be said of them now.
    pub state: ListState,
    /// When they were last seen there, in seconds since 1970 UTC.
    pub fetched_at: Option<u64>,
    /// Why there is nothing newer, if it was asked for in vain.
    pub failure: Option<Failure<ListFault>>,
    /// After how long it is asked again; `None` while it is.
    pub next_in: Option<Duration>,
}

/// One source, whatever it gives.
#[derive(Debug)]
struct Entry<S, T, K, F> {
    id: u64,
    source: S,
    held: Option<T>,
    known: Option<K>,
    fetched_at: Option<u64>,
    failure: Option<Failure<F>>,
}

type KeysEntry = Entry<KeySource, Arc<KeySet>, GivenBy, KeysFault>;
/// Lists that there is room for, and how to ask for newer ones.
type FitLists = (Arc<[Crl]>, Option<Known>);
type ListEntry = (Entry<ListSource, Arc<[Crl]>, Known, ListFault>, ListState);

/// Everything that is wanted.
#[derive(Debug)]
pub(super) struct Held {
    /// Octets of all lists together, at most.
    octets_max: usize,
    schedule: Schedule,
    last_id: u64,
    keys: Vec<KeysEntry>,
    lists: Vec<ListEntry>,
}

/// What is to be fetched.
#[derive(Debug)]
pub(super) enum Job {
    Keys(KeySource, Option<GivenBy>),
    Lists(ListSource, Arc<[Crl]>, Option<Known>),
}

/// What fetching has brought; `None`: what is held.
#[derive(Debug)]
pub(super) enum Brought {
    Keys(Result<Option<(KeySet, GivenBy)>, KeysFault>),
    Lists(Result<Option<NewLists>, ListFault>),
}

/// When something happens: on the clock that nobody sets, and in seconds since 1970 UTC; and what
/// was drawn for it, from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Duration,
    pub(super) wall: u64,
    pub(super) random: f64,
}

impl<S, T, K, F: fmt::Display + PartialEq> Entry<S, T, K, F> {
    fn new(id: u64, source: S) -> Self {
        Self { id, source, held: None, known: None, fetched_at: None, failure: None }
    }

    /// Takes note of a failure; the log has it once for each reason.
    fn failed(&mut self, why: F, wall: u64, source: &str) {
        let before = self.failure.take();
        if before.as_ref().is_none_or(|before| before.why != why) {
            let is_held = self.held.is_some();
            tracing::warn!(source, %why, is_held, "not fetched; it is tried again");
        }
        let (since, count) = before.map_or((wall, 0), |before| (before.since, before.count));
        self.failure = Some(Failure { why, since, count: count.saturating_add(1) });
    }

    /// Takes note that it was fetched. Returns whether the log is to be told, if nothing is new.
    fn succeeded(&mut self, wall: u64) -> bool {
        self.fetched_at = Some(wall);
        self.failure.take().is_some()
    }
}

impl Held {
    /// Nothing is wanted. Lists may take `octets_max` octets together.
    pub(super) fn new(octets_max: usize) -> Self {
        let schedule = Schedule::default();
        Self { octets_max, schedule, last_id: 0, keys: Vec::new(), lists: Vec::new() }
    }

    /// As `Fetched::want`. Returns whether something that was held is no more.
    pub(super) fn want(
        &mut self,
        keys: Vec<KeySource>,
        lists: Vec<ListSource>,
        now: Duration,
    ) -> bool {
        let schedule = &mut self.schedule;
        let mut has_lost = false;
        let mut forget = |id: u64, is_held: bool| {
            schedule.handle_forgotten(id);
            has_lost |= is_held;
        };
        self.keys.retain(|entry| {
            let is_wanted = keys.contains(&entry.source);
            if !is_wanted {
                forget(entry.id, entry.held.is_some());
            }
            is_wanted
        });
        self.lists.retain(|(entry, _)| {
            let is_wanted = lists.iter().any(|it| it.location == entry.source.location);
            if !is_wanted {
                forget(entry.id, entry.held.is_some());
            }
            is_wanted
        });
        for source in keys {
            if !self.keys.iter().any(|entry| entry.source == source) {
                let id = self.new_id(now);
                self.keys.push(Entry::new(id, source));
            }
        }
        let mut wanted = Vec::new();
        for source in lists {
            if !wanted.contains(&source.location) {
                wanted.push(source.location.clone());
                self.want_list(source, now);
            }
        }
        has_lost
    }

    fn want_list(&mut self, source: ListSource, now: Duration) {
        let known = self.lists.iter().position(|(it, _)| it.source.location == source.location);
        let Some(at) = known else {
            let id = self.new_id(now);
            self.lists.push((Entry::new(id, source), ListState::Awaited));
            return;
        };
        let entry = &mut self.lists[at].0;
        if entry.source.authorities == source.authorities {
            return;
        }
        entry.source = source;
        // What was refused may be right now, and the reverse: all of it is judged again. What a
        // flight brings that has begun before was judged by others, and is ignored.
        entry.known = None;
        let old = entry.id;
        self.schedule.handle_forgotten(old);
        let id = self.new_id(now);
        self.lists[at].0.id = id;
    }

    fn new_id(&mut self, now: Duration) -> u64 {
        self.last_id += 1;
        self.schedule.handle_wanted(self.last_id, now);
        self.last_id
    }

    pub(super) fn keys_of(&self, source: &KeySource) -> Option<Arc<KeySet>> {
        self.keys.iter().find(|it| it.source == *source)?.held.clone()
    }

    pub(super) fn lists_at(&self, place: &ListLocation) -> Option<Arc<[Crl]>> {
        self.lists.iter().find(|(it, _)| it.source.location == *place)?.0.held.clone()
    }

    pub(super) fn ask(&mut self, source: &KeySource, now: Duration) -> Asked {
        let entry = self.keys.iter().find(|it| it.source == *source);
        entry.map_or(Asked::Unwanted, |entry| self.schedule.handle_asked(entry.id, now))
    }

    pub(super) fn tenants(&self, now: Duration) -> Vec<KeysStatus> {
        let status = |entry: &KeysEntry| KeysStatus {
            tenant: entry.source.tenant(),
            source: entry.source.to_string(),
            keys: entry.held.clone(),
            fetched_at: entry.fetched_at,
            failure: entry.failure.clone(),
            next_in: self.schedule.next(entry.id).map(|at| at.saturating_sub(now)),
        };
        self.keys.iter().map(status).collect()
    }

    pub(super) fn lists(&self, now: Duration, wall: u64) -> Vec<ListStatus> {
        let status = |(entry, _): &ListEntry| ListStatus {
            location: entry.source.location.clone(),
            lists: entry.held.clone().unwrap_or_default(),
            state: state(entry.held.as_deref().unwrap_or_default(), wall),
            fetched_at: entry.fetched_at,
            failure: entry.failure.clone(),
            next_in: self.schedule.next(entry.id).map(|at| at.saturating_sub(now)),
        };
        self.lists.iter().map(status).collect()
    }

    /// Whether a source of this number is wanted.
    pub(super) fn is_wanted(&self, id: u64) -> bool {
        let mut ids = self.keys.iter().map(|it| it.id).chain(self.lists.iter().map(|it| it.0.id));
        ids.any(|it| it == id)
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.schedule.poll_timeout()
    }

    /// What is to be fetched now.
    pub(super) fn poll_fetch(&mut self, moment: Moment) -> Option<(u64, Job)> {
        let id = self.schedule.poll_fetch(moment.now)?;
        if let Some(entry) = self.keys.iter().find(|it| it.id == id) {
            return Some((id, Job::Keys(entry.source.clone(), entry.known.clone())));
        }
        let (entry, _) = self.lists.iter().find(|(it, _)| it.id == id)?;
        let held = entry.held.clone().unwrap_or_default();
        // A server that goes on to say that nothing is newer than a list that is over is mistaken.
        let holds = state(&held, moment.wall) == ListState::Held;
        let known = entry.known.clone().filter(|_| holds);
        Some((id, Job::Lists(entry.source.clone(), held, known)))
    }

    /// Takes what a flight has brought. Returns whether anything that is held has changed.
    pub(super) fn settle(&mut self, id: u64, brought: Brought, moment: Moment) -> bool {
        match brought {
            Brought::Keys(brought) => self.settle_keys(id, brought, moment),
            Brought::Lists(brought) => {
                let brought = self.within_room(id, brought, moment.wall);
                self.settle_lists(id, brought, moment)
            }
        }
    }

    /// A flight has ended without a word.
    pub(super) fn settle_lost(&mut self, id: u64, moment: Moment) -> bool {
        let is_keys = self.keys.iter().any(|it| it.id == id);
        let brought = if is_keys {
            Brought::Keys(Err(KeysFault::Task))
        } else {
            Brought::Lists(Err(ListFault::Task))
        };
        self.settle(id, brought, moment)
    }

    fn settle_keys(
        &mut self,
        id: u64,
        brought: Result<Option<(KeySet, GivenBy)>, KeysFault>,
        moment: Moment,
    ) -> bool {
        let Some(entry) = self.keys.iter_mut().find(|it| it.id == id) else { return false };
        let source = entry.source.to_string();
        let new = match brought {
            Ok(new) => new,
            Err(why) => {
                entry.failed(why, moment.wall, &source);
                self.schedule.handle_failed(id, moment.now, moment.random);
                return false;
            }
        };
        let is_back = entry.succeeded(moment.wall);
        let mut has_changed = false;
        if let Some((keys, known)) = new {
            has_changed = entry.held.as_deref() != Some(&keys);
            if has_changed {
                entry.held = Some(Arc::new(keys));
            }
            entry.known = Some(known);
        }
        if has_changed || is_back {
            let keys = entry.held.iter().flat_map(|it| it.names()).count();
            let tenant = entry.source.tenant();
            tracing::info!(%tenant, source, keys, has_changed, "keys of a tenant fetched");
        }
        self.schedule.handle_fetched(id, moment.now, DAY, moment.random);
        has_changed
    }

    fn settle_lists(
        &mut self,
        id: u64,
        brought: Result<Option<FitLists>, ListFault>,
        moment: Moment,
    ) -> bool {
        let found = self.lists.iter_mut().find(|(it, _)| it.id == id);
        let Some((entry, _)) = found else { return false };
        let source = entry.source.location.to_string();
        let new = match brought {
            Ok(new) => new,
            Err(why) => {
                entry.failed(why, moment.wall, &source);
                self.schedule.handle_failed(id, moment.now, moment.random);
                return false;
            }
        };
        let is_back = entry.succeeded(moment.wall);
        let mut has_changed = false;
        if let Some((lists, known)) = new {
            has_changed = entry.held.as_ref() != Some(&lists);
            if has_changed {
                entry.held = Some(lists);
            }
            entry.known = known;
        }
        let held = entry.held.as_deref().unwrap_or_default();
        if has_changed || is_back {
            let next_update = held.iter().map(Crl::next_update).min();
            tracing::info!(source, next_update, has_changed, "revocation list fetched");
        }
        let next = entry.source.next(held, moment.wall);
        self.schedule.handle_fetched(id, moment.now, next, moment.random);
        has_changed
    }

    /// Refuses what would exceed all that is held.
    fn within_room(
        &self,
        id: u64,
        brought: Result<Option<NewLists>, ListFault>,
        wall: u64,
    ) -> Result<Option<FitLists>, ListFault> {
        let Some(mut new) = brought? else { return Ok(None) };
        let others = self.lists.iter().filter(|(it, _)| it.id != id);
        let others = others.filter_map(|(it, _)| it.held.as_deref()).map(octets_of).sum();
        let known = new.known.take();
        Ok(Some((new.within(others, self.octets_max, wall)?, known)))
    }

    /// Looks at the clock: whether a list began or ceased to hold, which it returns and the log is
    /// told of once, and whether one is due sooner than was planned by an earlier clock.
    pub(super) fn judge_lists(&mut self, moment: Moment) -> bool {
        let mut has_changed = false;
        for (entry, told) in &mut self.lists {
            let held = entry.held.as_deref().unwrap_or_default();
            let state = state(held, moment.wall);
            if !held.is_empty() {
                let due = entry.source.next(held, moment.wall);
                self.schedule.handle_due(entry.id, moment.now, due);
            }
            if state == *told {
                continue;
            }
            let source = entry.source.location.to_string();
            match state {
                ListState::Expired => tracing::warn!(
                    source,
                    "a revocation list is over; its authority has to issue, or the place to \
                     publish, another"
                ),
                ListState::NotYetValid => tracing::warn!(
                    source,
                    "a revocation list begins to hold later; is this machine's clock right?"
                ),
                ListState::Held | ListState::Awaited => {}
            }
            *told = state;
            has_changed = true;
        }
        has_changed
    }
}
