//! What an administrator can see of an instance, and do to its links.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::exchange::Count;
use crate::link::{DrainReport, LinkStats};
use crate::settings::SettingsDocument;
use crate::transport::{Certificate, Instance, Rung};

use super::drained::drain;
use super::fetching::SourceStatus;
use super::halt::Halt;
use super::history::EndedLink;
use super::pressure::MemoryStatus;
use super::proofs::ProofCount;
use super::registry::Entry;
use super::serve::Gateway;

/// A gateway instance at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatewayStatus {
    /// The service's name.
    pub service: String,
    /// Which instance it is.
    pub instance: Instance,
    /// Whether it stops: no new client is served.
    pub is_draining: bool,
    /// Requests in flight, on all links.
    pub in_flight: u64,
    /// On whose behalf nobody is served; usually none.
    pub halts: Vec<Halt>,
    /// Octets that were sent to clients since the start: see [`Gateway::octets_sent`].
    pub octets_sent: u64,
    /// Connections that were closed because their address had too many, since the start.
    pub connections_refused: u64,
    /// How often the instance answered by itself, by reason, and how often a connection came to a
    /// limit, since the start.
    pub counts: Vec<Count>,
    /// What each method of authentication has found, since the start.
    pub proofs: Vec<ProofCount>,
    /// Where keys and revocation lists of its sites are, and how each place stands.
    pub sources: Vec<SourceStatus>,
    /// The memory in use; `None` without [`GatewayLimits::memory`](super::GatewayLimits::memory).
    pub memory: Option<MemoryStatus>,
    /// What links are met with; `None` unless [`Gateway::show_link_certificate`] was told.
    pub link_certificate: Option<Certificate>,
    /// Every link that has not ended, by connection point and number.
    pub links: Vec<LinkStatus>,
    /// The links that ended or were refused last, at most 32; the last one last.
    pub ended: Vec<EndedLink>,
}

/// A link of a gateway instance at one moment, as this side sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkStatus {
    /// Its number in the log, unique in this process.
    pub number: u64,
    /// The connection point's name.
    pub connection_point: Arc<str>,
    /// The site that it stands in, as it says itself.
    pub site: Arc<str>,
    /// Which of its connection point's links to this instance it is, from 0.
    pub place: u32,
    /// The connection point's program and version, as it says itself.
    pub software: String,
    /// How it reached this instance.
    pub rung: Rung,
    /// What its connection point has shown when it came up.
    pub certificate: Arc<Certificate>,
    /// Whether it takes no new requests: it is drained, or another has taken its place.
    pub is_draining: bool,
    /// When it came up.
    pub since: Instant,
    /// Requests on it.
    pub in_flight: u32,
    /// What was counted and measured on this side.
    pub stats: LinkStats,
}

impl LinkStatus {
    fn of(entry: &Entry) -> Self {
        Self {
            number: entry.number,
            connection_point: Arc::clone(&entry.name),
            site: Arc::clone(&entry.site),
            place: entry.place(),
            software: entry.link.peer().map(|hello| hello.software.clone()).unwrap_or_default(),
            rung: entry.rung,
            certificate: Arc::clone(&entry.certificate),
            is_draining: !entry.link.is_open(),
            since: entry.since.into_std(),
            in_flight: entry.in_flight(),
            stats: entry.link.stats(),
        }
    }
}

impl Gateway {
    /// What there is to see of this instance now.
    pub fn status(&self) -> GatewayStatus {
        let answerer = &self.inner.relay.answerer;
        let mut links: Vec<_> =
            self.inner.relay.registry.standing().iter().map(LinkStatus::of).collect();
        links.sort_by(|a, b| (&a.connection_point, a.number).cmp(&(&b.connection_point, b.number)));
        GatewayStatus {
            service: answerer.service.clone(),
            instance: answerer.instance,
            is_draining: self.is_stopping(),
            in_flight: self.in_flight(),
            halts: self.inner.relay.halts.holding().collect(),
            octets_sent: self.octets_sent(),
            connections_refused: self.inner.addresses.refused(),
            counts: self.inner.relay.tally.counts(),
            proofs: self.inner.relay.proofs.counts(),
            sources: self.inner.relay.settings.fetching().status(),
            memory: self.inner.relay.memory.status(),
            link_certificate: lock(&self.inner.link_certificate).clone(),
            links,
            ended: self.inner.history.latest(),
        }
    }

    /// What each site has told that holds here, as it was told.
    pub fn documents(&self) -> Vec<Arc<SettingsDocument>> {
        self.inner.relay.settings.current().documents().to_vec()
    }

    /// Has [`Gateway::status`] show the certificate that links are met with from now on. Whoever
    /// calls [`Gateway::set_link_tls`] knows it; one that a connection point has renewed is shown
    /// without being told.
    pub fn show_link_certificate(&self, certificate: Option<Certificate>) {
        *lock(&self.inner.link_certificate) = certificate;
    }

    /// Drains one link: it takes no new requests, and those on it have
    /// [`GatewayLimits::drain`](super::GatewayLimits::drain) to end. Its connection point dials
    /// another at once. `None` if there is no link of this `number`.
    ///
    /// # Cancel safety
    ///
    /// Once begun, the drain goes on.
    pub async fn drain_link(&self, number: u64) -> Option<DrainReport> {
        let standing = self.inner.relay.registry.standing();
        let entry = standing.into_iter().find(|entry| entry.number == number)?;
        Some(drain(&entry.link, number, self.terms().limits.drain).await)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
