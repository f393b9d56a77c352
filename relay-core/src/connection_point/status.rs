//! What an administrator can see of a connection point, and do to its links.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use crate::exchange::Count;
use crate::link::{DrainReport, LinkStats};
use crate::transport::{Instance, Misstep, Rung};

use super::ConnectionPoint;
use super::backend_check::BackendStatus;
use super::shown::{Phase, ShownLink};
use super::supervise::Way;

/// A connection point at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionPointStatus {
    /// Its name.
    pub name: String,
    /// Whether it stops: its links drain.
    pub is_draining: bool,
    /// Each place that is to have a link, by instance and place.
    pub places: Vec<PlaceStatus>,
    /// Each backend, by endpoint.
    pub backends: Vec<BackendStatus>,
    /// How often a request was answered here, by reason, and how often nobody waited for an answer
    /// any more, since the start.
    pub counts: Vec<Count>,
}

/// One of the links that are to be up to one instance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlaceStatus {
    /// The gateway instance.
    pub instance: Instance,
    /// Its host, as configured.
    pub host: String,
    /// Which of the links to the instance it is, from 0.
    pub place: u32,
    /// What is done for it now.
    pub phase: Phase,
    /// Since when.
    pub since: Instant,
    /// Its links that have not ended, the latest last. The others drain.
    pub links: Vec<LinkStatus>,
    /// Why each way to the instance that failed when it was tried last did, from the best down.
    pub missteps: Vec<Misstep>,
}

/// A link of a connection point at one moment, as this side sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkStatus {
    /// The way it came up.
    pub rung: Rung,
    /// Whether it takes no new requests.
    pub is_draining: bool,
    /// When it came up.
    pub since: Instant,
    /// The gateway's program and version, as it says itself.
    pub software: String,
    /// What was counted and measured on this side.
    pub stats: LinkStats,
}

impl LinkStatus {
    fn of(shown: &ShownLink) -> Self {
        Self {
            rung: shown.rung,
            is_draining: !shown.link.is_open(),
            since: shown.since,
            software: shown.link.peer().map(|hello| hello.software.clone()).unwrap_or_default(),
            stats: shown.link.stats(),
        }
    }
}

impl PlaceStatus {
    fn of(way: &Way) -> Self {
        let gateway = way.route.gateway();
        let (phase, since, links) = {
            let state = way.shown.state();
            (state.phase.clone(), state.since, state.links.clone())
        };
        Self {
            instance: gateway.instance,
            host: gateway.host.clone(),
            place: way.place,
            phase,
            since,
            links: links.iter().map(LinkStatus::of).collect(),
            missteps: way.route.ladder(|ladder| ladder.missteps()),
        }
    }
}

impl ConnectionPoint {
    /// Every place that is to have a link, or has one that still drains.
    pub(super) fn ways(&self) -> MutexGuard<'_, Vec<Arc<Way>>> {
        self.inner.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is to see of this connection point now.
    pub fn status(&self) -> ConnectionPointStatus {
        let ways = self.ways().clone();
        let mut places: Vec<_> = ways.iter().map(|way| PlaceStatus::of(way)).collect();
        places.sort_by_key(|it| (it.instance, it.place));
        ConnectionPointStatus {
            name: self.inner.config.name.clone(),
            is_draining: self.inner.stopping.is_cancelled(),
            places,
            backends: self.backends(),
            counts: self.inner.current.borrow().forwarder.tally().counts(),
        }
    }

    /// Drains the links of one place: they take no new requests, and those on them have
    /// [`ConnectionPointLimits::drain`](super::ConnectionPointLimits::drain) to end. Another link
    /// is dialled at once. `None` if there is no such place, or it has no link now.
    ///
    /// # Cancel safety
    ///
    /// Once begun, the drain goes on.
    pub async fn drain_link(&self, instance: Instance, place: u32) -> Option<DrainReport> {
        let ways = self.ways().clone();
        let is_it = |way: &Way| way.place == place && way.route.gateway().instance == instance;
        let way = ways.iter().find(|way| is_it(way))?;
        let link = way.shown.state().links.last()?.link.clone();
        Some(link.drain(self.inner.config.limits.drain).await)
    }
}
