//! What an instance has fetched for its sites: keys of tenants, revocation lists.
//!
//! `fetched` does it; here is what all sites together need, who runs it, and how it stands. Without
//! [`GatewayConfig::fetch`](super::GatewayConfig::fetch) nothing is fetched: an instance speaks to
//! nobody whom its administrator has not named, whatever a site publishes.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::auth::{CertificateTrust, Guid};
use crate::fetched::{
    FetchConfig, FetchDriver, Fetched, KeySource, KeysStatus, ListLocation, ListSource, ListState,
    ListStatus, WantError,
};

use super::serve::Gateway;

/// What is fetched from one place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SourceKind {
    /// The keys of this tenant.
    Keys(Guid),
    /// Revocation lists.
    Lists,
}

/// How a source stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SourceState {
    /// Nobody fetches it here: [`GatewayConfig::fetch`](super::GatewayConfig::fetch) is `None`.
    NotFetched,
    /// Nothing has come from it yet. Whoever is judged by it is refused.
    Awaited,
    /// What it gave counts.
    Held,
    /// A list of it is over: certificates of its authority are refused.
    Expired,
    /// A list of it begins to hold later, or this machine's clock is behind.
    NotYetValid,
}

impl SourceState {
    /// Its name in statuses.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFetched => "not fetched",
            Self::Awaited => "awaited",
            Self::Held => "held",
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
        }
    }
}

/// A place that a site has named, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceStatus {
    /// What is there.
    pub kind: SourceKind,
    /// Its address, without any query.
    pub source: String,
    /// What can be said of what is held.
    pub state: SourceState,
    /// When it was last fetched, in seconds since 1970 UTC.
    pub fetched_at: Option<u64>,
    /// When the first of its lists is over, in seconds since 1970 UTC.
    pub next_update: Option<u64>,
    /// Why there is nothing newer, if it was asked for in vain.
    pub failure: Option<SourceFailure>,
    /// After how long it is asked again; `None` while it is, or if nobody asks.
    pub next_in: Option<Duration>,
}

/// That a source failed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SourceFailure {
    /// What happened last, whose fault it is, and what to do.
    pub why: String,
    /// When it failed first since it was last fetched, in seconds since 1970 UTC.
    pub since: u64,
    /// Failures since then.
    pub count: u32,
}

/// What all sites together need.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    keys: Vec<KeySource>,
    lists: Vec<(ListLocation, Vec<CertificateTrust>)>,
}

impl Wanted {
    /// What one more site needs. A place that two of them name is asked once, and may have the
    /// lists of the authorities of either.
    pub(super) fn add<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a KeySource>,
        lists: impl Iterator<Item = (&'a ListLocation, &'a CertificateTrust)>,
    ) {
        for source in keys {
            if !self.keys.contains(source) {
                self.keys.push(source.clone());
            }
        }
        for (place, trust) in lists {
            match self.lists.iter_mut().find(|(known, _)| known == place) {
                Some((_, all)) => all.push(trust.clone()),
                None => self.lists.push((place.clone(), vec![trust.clone()])),
            }
        }
    }

    fn lists(&self) -> Vec<ListSource> {
        let source = |(location, all): &(ListLocation, Vec<CertificateTrust>)| ListSource {
            location: location.clone(),
            authorities: Arc::new(CertificateTrust::of_any(all)),
        };
        self.lists.iter().map(source).collect()
    }
}

/// Who fetches, if anybody does, and what is needed.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    fetched: Option<Fetched>,
    /// Until somebody runs it.
    driver: Mutex<Option<FetchDriver>>,
    /// What nobody fetches.
    missed: Mutex<Wanted>,
}

impl Fetching {
    pub(super) fn new(config: Option<FetchConfig>) -> Self {
        let Some(config) = config else { return Self::default() };
        let (fetched, driver) = Fetched::new(config);
        let (fetched, driver) = (Some(fetched), Mutex::new(Some(driver)));
        Self { fetched, driver, missed: Mutex::default() }
    }

    /// What was fetched; `None` if nothing is.
    pub(super) fn fetched(&self) -> Option<&Fetched> {
        self.fetched.as_ref()
    }

    /// Has all of this fetched, and nothing else.
    pub(super) fn want(&self, wanted: Wanted) -> Result<(), WantError> {
        let Some(fetched) = &self.fetched else {
            *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
            return Ok(());
        };
        let lists = wanted.lists();
        fetched.want(wanted.keys, lists)
    }

    /// How each source stands.
    pub(super) fn status(&self) -> Vec<SourceStatus> {
        if let Some(fetched) = &self.fetched {
            let keys = fetched.tenants().into_iter().map(SourceStatus::of_keys);
            return keys.chain(fetched.lists().into_iter().map(SourceStatus::of_lists)).collect();
        }
        let missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = missed.keys.iter().map(|it| (SourceKind::Keys(it.tenant()), it.to_string()));
        let lists = missed.lists.iter().map(|(it, _)| (SourceKind::Lists, it.to_string()));
        keys.chain(lists).map(|(kind, source)| SourceStatus::missed(kind, source)).collect()
    }
}

impl SourceStatus {
    fn missed(kind: SourceKind, source: String) -> Self {
        let state = SourceState::NotFetched;
        let (fetched_at, next_update) = (None, None);
        Self { kind, source, state, fetched_at, next_update, failure: None, next_in: None }
    }

    fn of_keys(status: KeysStatus) -> Self {
        let KeysStatus { tenant, source, keys, fetched_at, failure, next_in, .. } = status;
        Self {
            kind: SourceKind::Keys(tenant),
            source,
            state: if keys.is_some() { SourceState::Held } else { SourceState::Awaited },
            fetched_at,
            next_update: None,
            failure: failure.map(|it| SourceFailure {
                why: it.why.to_string(),
                since: it.since,
                count: it.count,
            }),
            next_in,
        }
    }

    fn of_lists(status: ListStatus) -> Self {
        let ListStatus { location, lists, state, fetched_at, failure, next_in, .. } = status;
        Self {
            kind: SourceKind::Lists,
            source: location.to_string(),
            state: match state {
                ListState::Awaited => SourceState::Awaited,
                ListState::Held => SourceState::Held,
                ListState::Expired => SourceState::Expired,
                ListState::NotYetValid => SourceState::NotYetValid,
            },
            fetched_at,
            next_update: lists.iter().map(crate::auth::Crl::next_update).min(),
            failure: failure.map(|it| SourceFailure {
                why: it.why.to_string(),
                since: it.since,
                count: it.count,
            }),
            next_in,
        }
    }
}

impl Gateway {
    /// Fetches what sites need, for ever: [`Gateway::serve`] does so by itself, and whoever serves
    /// connections otherwise runs this beside them. Of several calls the first one fetches.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the fetching, and no later call begins it again. What was fetched
    /// stays in force.
    pub async fn fetch(&self) -> Infallible {
        let driver = &self.inner.relay.settings.fetching().driver;
        let driver = driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        match driver {
            Some(driver) => driver.run().await,
            None => pending().await,
        }
    }
}
