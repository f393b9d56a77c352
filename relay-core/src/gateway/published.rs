//! The settings that hold at this instance, and what became of those that were offered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::settings::{Digest, OfferRefused, Offered, SITES_MAX, Settings, SettingsDocument};

use super::clients::{Clients, SiteClients, Trusted, Unusable};
use super::fetching::Fetching;

/// Sites that are remembered: those whose settings hold, and as many that were refused.
const REMEMBERED_MAX: usize = 2 * SITES_MAX;

/// What an instance knows of its sites' settings at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SettingsSnapshot {
    /// One entry for each site that has offered any, by name; at most 32.
    pub sites: Vec<SiteSettings>,
}

/// What an instance knows of the settings of one site.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SiteSettings {
    /// The site's name.
    pub site: String,
    /// What holds; `None` while nothing was accepted.
    pub applied: Option<AppliedSettings>,
    /// The last offer that was refused, however long ago.
    pub refused: Option<RefusedSettings>,
}

/// Settings that hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppliedSettings {
    /// Their version.
    pub version: u64,
    /// Their digest, by which they can be compared across instances.
    pub digest: Digest,
    /// How many endpoints they publish.
    pub endpoints: usize,
    /// When they were accepted.
    pub at: SystemTime,
    /// The connection point that offered them first; empty for those of the start configuration.
    pub from: String,
}

/// Settings that were refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefusedSettings {
    /// The version that was offered, if it could be read.
    pub version: Option<u64>,
    /// The status with which they were refused.
    pub status: u16,
    /// Why, for people.
    pub reason: String,
    /// When they were refused last for this reason.
    pub at: SystemTime,
    /// The connection point that offered them.
    pub from: String,
}

/// Who offers settings.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The connection point's name.
    pub(super) name: Arc<str>,
    /// The site it says it stands in.
    pub(super) site: Arc<str>,
}

/// What holds, swapped whole: whoever has taken it keeps what it took.
#[derive(Debug)]
pub(super) struct Published {
    /// When the instance has started, if that was without settings.
    began: Option<Instant>,
    current: RwLock<Arc<Settings>>,
    /// Who the clients of each site are.
    clients: Clients,
    /// By site. Held while a document is judged, so that two are judged one after the other.
    told: Mutex<BTreeMap<String, SiteSettings>>,
    /// Told of each document that is applied.
    applied: Notify,
}

/// Whether a refusal says something new.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Novelty {
    /// Nothing of the kind was noted before.
    New,
    /// The same was noted before.
    Repeated,
}

impl Published {
    /// Settings with `initial`, in their order, as if connection points had offered them.
    pub(super) fn with(initial: &[SettingsDocument], fetching: Fetching) -> Self {
        let published = Self {
            began: initial.is_empty().then(Instant::now),
            current: RwLock::default(),
            clients: Clients::new(fetching),
            told: Mutex::default(),
            applied: Notify::new(),
        };
        for document in initial {
            let peer = Peer { name: "".into(), site: document.site.as_str().into() };
            if let Err(why) = published.offer(document.clone(), &peer) {
                tracing::warn!(site = document.site, %why, "settings of the start refused");
            }
        }
        published
    }

    /// When the instance has started, if it waits for what every site publishes.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Who the clients of `site` are; `None` if nobody has said so.
    pub(super) fn clients(&self, site: &str) -> Option<Arc<SiteClients>> {
        self.clients.of(site)
    }

    /// What is fetched for all sites.
    pub(super) fn fetching(&self) -> &Fetching {
        self.clients.fetching()
    }

    /// What holds now.
    pub(super) fn current(&self) -> Arc<Settings> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ready when a document is applied, once it was enabled.
    pub(super) fn told(&self) -> Notified<'_> {
        self.applied.notified()
    }

    /// Judges a document and applies it, if it is to hold. Returns whether it is new. Of one that
    /// is refused what it says of the site's tokens holds even so, if it is newer than all before.
    pub(super) fn offer(
        &self,
        document: SettingsDocument,
        from: &Peer,
    ) -> Result<bool, OfferRefused> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let site = document.site.clone();
        let (settings, rest) = match self.current().offer(document)? {
            Offered::Accepted(settings) => (settings, Ok(true)),
            Offered::TokensAlone { settings, why } => (settings, Err(why)),
            Offered::Same => return Ok(false),
        };
        let Some(held) = settings.document(&site).map(Arc::clone) else { return Ok(false) };
        let unusable = |why: Unusable| OfferRefused::Unusable { why: why.to_string() };
        let trusted = held.clients.as_ref().map(Trusted::new).transpose().map_err(unusable)?;
        // First: what was blocked is blocked before anything else is published.
        self.clients.trust(&site, trusted).map_err(|why| unusable(why.into()))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.applied.notify_waiters();
        if rest.is_err() {
            let (site, connection_point) = (&*site, &*from.name);
            tracing::info!(
                site,
                connection_point,
                "blocks and signing keys applied, no more of it"
            );
        }
        let (version, digest, endpoints) = (held.version, held.digest(), held.endpoints.len());
        let from = from.name.to_string();
        let applied = AppliedSettings { version, digest, endpoints, at: SystemTime::now(), from };
        let refused = told.remove(&site).and_then(|before| before.refused);
        told.insert(site.clone(), SiteSettings { site, applied: Some(applied), refused });
        rest
    }

    /// Remembers a refusal.
    pub(super) fn refuse(&self, refused: RefusedSettings, site: &str) -> Novelty {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains_key(site) && told.len() == REMEMBERED_MAX {
            return Novelty::New;
        }
        let nothing = || SiteSettings { site: site.to_owned(), applied: None, refused: None };
        let entry = told.entry(site.to_owned()).or_insert_with(nothing);
        let says = |it: &RefusedSettings| (it.reason.clone(), it.from.clone());
        let is_known = entry.refused.as_ref().map(says) == Some(says(&refused));
        entry.refused = Some(refused);
        if is_known { Novelty::Repeated } else { Novelty::New }
    }

    /// What is known now.
    pub(super) fn snapshot(&self) -> SettingsSnapshot {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        SettingsSnapshot { sites: told.values().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Guid, Methods, Strictness};
    use crate::settings::{ClientTrust, PublishedSigners};

    fn published(initial: &[SettingsDocument]) -> Published {
        Published::with(initial, Fetching::default())
    }

    fn refused(from: &str, reason: &str) -> RefusedSettings {
        RefusedSettings {
            version: None,
            status: 400,
            reason: reason.to_owned(),
            at: SystemTime::now(),
            from: from.to_owned(),
        }
    }

    fn document(site: &str, version: u64) -> SettingsDocument {
        let site = site.to_owned();
        let (endpoints, tenants, deadlines) = (Vec::new(), Vec::new(), Vec::new());
        SettingsDocument { site, version, endpoints, tenants, deadlines, clients: None }
    }

    #[test]
    fn a_refusal_is_new_until_it_is_repeated_and_outlives_what_is_applied_after_it() {
        let published = published(&[document("a", 1)]);
        assert_eq!(published.refuse(refused("cp", "why"), "a"), Novelty::New);
        assert_eq!(published.refuse(refused("cp", "why"), "a"), Novelty::Repeated);
        assert_eq!(published.refuse(refused("cp", "other"), "a"), Novelty::New);
        assert_eq!(published.refuse(refused("cp-2", "other"), "a"), Novelty::New);
        let from = Peer { name: "cp".into(), site: "a".into() };
        assert_eq!(published.offer(document("a", 2), &from), Ok(true));
        assert_eq!(published.offer(document("a", 2), &from), Ok(false));
        let [site] = &published.snapshot().sites[..] else { panic!("one site has offered any") };
        let applied = site.applied.as_ref().unwrap();
        assert_eq!((applied.version, applied.from.as_str()), (2, "cp"));
        assert_eq!(site.refused.as_ref().unwrap().from, "cp-2");
    }

    #[test]
    fn of_a_document_that_is_refused_newer_blocks_hold_at_once() {
        let blocking = |version, revision: u64| {
            let clients = ClientTrust {
                methods: Methods::default(),
                strictness: Strictness::default(),
                certificates: None,
                tenants: Vec::new(),
                tokens: Some(PublishedSigners {
                    tenant: Guid(1),
                    revision,
                    certificates: Vec::new(),
                    blocked: vec![Guid(revision.into())],
                }),
                barred: Vec::new(),
            };
            SettingsDocument { clients: Some(clients), ..document("a", version) }
        };
        let published = published(&[blocking(2, 11)]);
        let from = Peer { name: "cp-2".into(), site: "a".into() };
        let older = published.offer(blocking(1, 12), &from).unwrap_err();
        assert!(matches!(older, OfferRefused::Older { version: 1, have: 2, .. }), "{older:?}");
        let current = published.current();
        let tokens = current.clients("a").and_then(|it| it.tokens.clone()).unwrap();
        assert_eq!((tokens.revision, tokens.blocked), (12, vec![Guid(12)]));
        let [site] = &published.snapshot().sites[..] else { panic!("one site has offered any") };
        let applied = site.applied.as_ref().unwrap();
        assert_eq!((applied.version, applied.from.as_str()), (2, "cp-2"));
        assert_eq!(applied.digest, current.document("a").unwrap().digest());
        assert!(published.offer(blocking(1, 12), &from).is_err());
    }

    #[test]
    fn no_more_than_32_sites_are_remembered_and_those_whose_settings_hold_always_are() {
        let published = published(&[]);
        for number in 0..40 {
            published.refuse(refused("cp", "why"), &format!("refused-{number}"));
        }
        assert_eq!(published.snapshot().sites.len(), 32);
        let from = Peer { name: "cp".into(), site: "a".into() };
        assert_eq!(published.offer(document("a", 2), &from), Ok(true));
        let sites = published.snapshot().sites;
        assert!(sites.iter().any(|it| it.site == "a" && it.applied.is_some()));
    }

    #[test]
    fn of_start_documents_that_clash_the_first_holds() {
        let published = published(&[document("a", 2), document("a", 1)]);
        assert_eq!(published.current().documents()[0].version, 2);
    }
}
