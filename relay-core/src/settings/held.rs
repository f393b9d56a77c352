//! What a gateway instance holds: the latest document of each site, and all endpoints in one map.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Guid;
use crate::policy::{EndpointMap, EndpointMapError};

use super::clients::{ClientTrust, PublishedSigners};
use super::document::{Digest, SettingsDocument};
use super::tenant::Tenant;

/// Sites that one instance serves.
pub const SITES_MAX: usize = 16;

/// The latest settings of every site. Never changes: a document that is accepted makes another.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// In the order in which the sites came.
    documents: Vec<Arc<SettingsDocument>>,
    endpoints: EndpointMap,
    /// By role id.
    owners: HashMap<u64, Owned>,
}

/// What is known of an endpoint besides what policy judges by.
#[derive(Clone, Copy, Debug)]
struct Owned {
    /// The place in `documents` of the one that publishes it.
    by: usize,
    /// What its backends may take, if not the usual time.
    backend_answer: Option<Duration>,
}

/// What became of a document that was not refused.
#[derive(Clone, Debug)]
pub enum Offered {
    /// It holds from now on, in these settings. What it says of the site's tokens does unless
    /// something newer is known of them.
    Accepted(Settings),
    /// What it says of the site's tokens is newer than all before, and holds from now on in these
    /// settings. The rest does not.
    TokensAlone {
        /// The settings.
        settings: Settings,
        /// Why the rest does not hold.
        why: OfferRefused,
    },
    /// It is what holds already, or holds with newer tokens.
    Same,
}

/// Why a document does not hold. What held before still does.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferRefused {
    /// Another connection point of the site has published a later version, or this one has.
    #[error("version {version} of site `{site}` is older than {have}, which holds")]
    Older {
        /// The site.
        site: String,
        /// Of the document that was offered.
        version: u64,
        /// Of the one that holds.
        have: u64,
    },
    /// Two files of one site differ and have one version: give the right one a higher version.
    #[error("version {version} of site `{site}` has other content ({offered}) than holds ({have})")]
    Conflict {
        /// The site.
        site: String,
        /// Of both documents.
        version: u64,
        /// Digest of the document that was offered.
        offered: Digest,
        /// Digest of the one that holds.
        have: Digest,
    },
    /// Another site has the name or the role id already, and keeps it.
    #[error("site `{other}` has it already: {why}")]
    Clash {
        /// The site that keeps it.
        other: String,
        /// What both want.
        why: EndpointMapError,
    },
    /// What it says of clients cannot be used: a certificate that is none, for example.
    #[error("whose clients count cannot be told: {why}")]
    Unusable {
        /// What is wrong, and where.
        why: String,
    },
    /// As many sites as can be have published settings.
    #[error("settings of {limit} sites are held already")]
    TooManySites {
        /// Sites there may be.
        limit: usize,
    },
}

impl Settings {
    /// Judges a document against what holds: of each site the highest version wins, and of two with
    /// one version the first. What documents say of the site's tokens is judged apart, by its
    /// revision: a block that one connection point publishes holds whatever another one's file
    /// says, unless a file of a higher version publishes no tokens at all.
    ///
    /// # Errors
    ///
    /// [`OfferRefused`].
    pub fn offer(&self, document: SettingsDocument) -> Result<Offered, OfferRefused> {
        let mut held = self.documents.iter().enumerate();
        let Some((place, held)) = held.find(|(_, held)| held.site == document.site) else {
            if self.documents.len() == SITES_MAX {
                return Err(OfferRefused::TooManySites { limit: SITES_MAX });
            }
            return self.with(document, self.documents.len()).map(Offered::Accepted);
        };
        let revision = |of: &SettingsDocument| tokens(of).map(|it| it.revision);
        let (offered, known) = (revision(&document), revision(held));
        match order(&document, held) {
            Ok(Order::Later) => {
                let is_behind = offered.is_some() && offered < known;
                let document =
                    if is_behind { with_tokens(&document, tokens(held)) } else { document };
                self.with(document, place).map(Offered::Accepted)
            }
            Ok(Order::Same) if offered <= known => Ok(Offered::Same),
            Ok(Order::Same) => {
                self.with(with_tokens(held, tokens(&document)), place).map(Offered::Accepted)
            }
            // A file that publishes none has the last word: it is later.
            Err(why) if known.is_some() && known < offered => {
                let settings = self.with(with_tokens(held, tokens(&document)), place)?;
                Ok(Offered::TokensAlone { settings, why })
            }
            Err(why) => Err(why),
        }
    }

    /// The same with `document` at this place, or after all others.
    fn with(&self, document: SettingsDocument, place: usize) -> Result<Self, OfferRefused> {
        let mut documents = self.documents.clone();
        let document = Arc::new(document);
        match documents.get_mut(place) {
            Some(held) => *held = document,
            None => documents.push(document),
        }
        Self::merge(documents, place)
    }

    /// Merges all endpoints; those of the document at `last` give way.
    fn merge(documents: Vec<Arc<SettingsDocument>>, last: usize) -> Result<Self, OfferRefused> {
        let mut owners = HashMap::new();
        let mut endpoints = Vec::new();
        for (place, document) in documents.iter().enumerate() {
            let owned = Owned { by: place, backend_answer: None };
            owners.extend(document.endpoints.iter().map(|endpoint| (endpoint.role_id, owned)));
            owners.extend(document.deadlines.iter().map(|it| {
                (it.role_id, Owned { backend_answer: Some(it.backend_answer()), ..owned })
            }));
            endpoints.extend(document.endpoints.iter().cloned());
        }
        let endpoints = EndpointMap::new(endpoints).map_err(|why| {
            let others = documents.iter().enumerate().filter(|(place, _)| *place != last);
            let keeper = others.map(|(_, other)| other).find(|other| has(other, &why));
            OfferRefused::Clash { other: keeper.map(|it| it.site.clone()).unwrap_or_default(), why }
        })?;
        Ok(Self { documents, endpoints, owners })
    }

    /// The endpoints of all sites.
    pub fn endpoints(&self) -> &EndpointMap {
        &self.endpoints
    }

    /// The site that publishes the endpoint with this role id.
    pub fn site_of(&self, role_id: u64) -> Option<&str> {
        let document = self.documents.get(self.owners.get(&role_id)?.by)?;
        Some(&document.site)
    }

    /// What the backends of the endpoint with this role id may take to answer; `None`: the usual.
    pub fn backend_answer(&self, role_id: u64) -> Option<Duration> {
        self.owners.get(&role_id)?.backend_answer
    }

    /// What is published about a tenant. Several sites may know one: the site that came first is
    /// believed (our choice), since a client asks before it has a site.
    pub fn tenant(&self, id: Guid) -> Option<&Tenant> {
        let mut tenants = self.documents.iter().flat_map(|document| &document.tenants);
        tenants.find(|tenant| tenant.id == id)
    }

    /// Whose clients count at a site; `None` if nobody has said so.
    pub fn clients(&self, site: &str) -> Option<&ClientTrust> {
        self.document(site)?.clients.as_ref()
    }

    /// The document that holds of a site, with the newest that is known of its tokens.
    pub fn document(&self, site: &str) -> Option<&Arc<SettingsDocument>> {
        self.documents.iter().find(|document| document.site == site)
    }

    /// The document that holds of each site, in the order in which the sites came.
    pub fn documents(&self) -> &[Arc<SettingsDocument>] {
        &self.documents
    }
}

/// How two documents of a site stand to each other.
enum Order {
    Later,
    /// They say the same, but perhaps of tokens.
    Same,
}

/// How `document` stands to `held`, but for its tokens.
fn order(document: &SettingsDocument, held: &SettingsDocument) -> Result<Order, OfferRefused> {
    let (site, version) = (&document.site, document.version);
    if version < held.version {
        return Err(OfferRefused::Older { site: site.clone(), version, have: held.version });
    }
    if version > held.version {
        return Ok(Order::Later);
    }
    let is_same = with_tokens(document, None) == with_tokens(held, None);
    let is_one = match (tokens(document), tokens(held)) {
        (Some(one), Some(other)) => one.revision != other.revision || one == other,
        _ => true,
    };
    if is_same && is_one {
        return Ok(Order::Same);
    }
    let (offered, have) = (document.digest(), held.digest());
    Err(OfferRefused::Conflict { site: site.clone(), version, offered, have })
}

/// What a document says of the site's tokens.
fn tokens(document: &SettingsDocument) -> Option<&PublishedSigners> {
    document.clients.as_ref()?.tokens.as_ref()
}

/// A document that says this of the site's tokens. Where no client counts none does by a token.
fn with_tokens(document: &SettingsDocument, tokens: Option<&PublishedSigners>) -> SettingsDocument {
    let clients = document.clients.as_ref().map(|clients| {
        let tokens = tokens.cloned();
        ClientTrust { tokens, ..clients.without_tokens() }
    });
    SettingsDocument { clients, ..document.clone() }
}

/// Whether `document` has what two endpoints cannot both have.
fn has(document: &SettingsDocument, clash: &EndpointMapError) -> bool {
    document.endpoints.iter().any(|endpoint| match clash {
        EndpointMapError::DuplicateRoleId { role_id, .. } => endpoint.role_id == *role_id,
        EndpointMapError::DuplicateName { name } => endpoint.name == *name,
        EndpointMapError::UnusablePath { .. } | EndpointMapError::UnusableHeader { .. } => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::{Methods, Strictness};
    use crate::policy::{Access, Endpoint, EndpointKind, RequestHeaders};
    use crate::settings::Deadline;

    fn document(site: &str, version: u64, role_ids: &[u64]) -> SettingsDocument {
        let endpoint = |role_id: &u64| Endpoint {
            name: format!("mp-{role_id}"),
            kind: EndpointKind::ManagementPoint,
            role_id: *role_id,
            paths: None,
            request_body_bytes_max: None,
            request_headers: RequestHeaders::Open,
            access: Access::Anonymous,
        };
        let endpoints = role_ids.iter().map(endpoint).collect();
        let (site, tenants, deadlines) = (site.to_owned(), Vec::new(), Vec::new());
        SettingsDocument { site, version, endpoints, tenants, deadlines, clients: None }
    }

    fn accepted(held: &Settings, document: SettingsDocument) -> Settings {
        match held.offer(document) {
            Ok(Offered::Accepted(settings)) => settings,
            other => panic!("{other:?}"),
        }
    }

    fn versions(held: &Settings) -> Vec<(&str, u64)> {
        held.documents().iter().map(|held| (held.site.as_str(), held.version)).collect()
    }

    #[test]
    fn a_later_version_takes_the_place_of_an_earlier_one_and_nothing_else_does() {
        let first = accepted(&Settings::default(), document("a", 5, &[1]));
        assert!(matches!(first.offer(document("a", 5, &[1])), Ok(Offered::Same)));
        let older = OfferRefused::Older { site: "a".to_owned(), version: 4, have: 5 };
        assert_eq!(first.offer(document("a", 4, &[1])).unwrap_err(), older);
        let conflict = first.offer(document("a", 5, &[2])).unwrap_err();
        assert!(matches!(conflict, OfferRefused::Conflict { version: 5, .. }), "{conflict:?}");
        let later = accepted(&first, document("a", 6, &[2]));
        assert_eq!(versions(&later), [("a", 6)]);
        assert_eq!((later.site_of(1), later.site_of(2)), (None, Some("a")));
        assert_eq!(first.site_of(1), Some("a"), "whoever holds the earlier ones keeps them");
    }

    #[test]
    fn sites_are_merged_and_what_one_has_another_does_not_get() {
        let one = accepted(&Settings::default(), document("a", 1, &[1, 2]));
        let both = accepted(&one, document("b", 9, &[3]));
        assert_eq!(both.endpoints().endpoints().len(), 3);
        assert_eq!((both.site_of(2), both.site_of(3)), (Some("a"), Some("b")));
        // Whichever site came first: what it wants anew is not taken from the other.
        for (site, version, role_ids, keeper) in [("b", 10, [3, 2], "a"), ("a", 2, [1, 3], "b")] {
            let refused = both.offer(document(site, version, &role_ids)).unwrap_err();
            let OfferRefused::Clash { other, .. } = refused else { panic!("{refused:?}") };
            assert_eq!(other, keeper);
        }
        let mut named = document("b", 10, &[4]);
        named.endpoints.first_mut().unwrap().name = "mp-1".to_owned();
        let refused = both.offer(named).unwrap_err();
        let expected = "site `a` has it already: two endpoints are named `mp-1`; give each its own \
                        name";
        assert_eq!(refused.to_string(), expected);
        let freed = accepted(&both, document("a", 2, &[1]));
        assert_eq!(versions(&accepted(&freed, document("b", 10, &[2]))), [("a", 2), ("b", 10)]);
    }

    #[test]
    fn of_a_tenant_of_two_sites_the_one_that_came_first_is_believed() {
        let of = |site, version, application_id, ids: &[u128]| {
            let resource = "https://ConfigMgrService".to_owned();
            let application_id = Guid(application_id);
            let tenant =
                |id: &u128| Tenant { id: Guid(*id), application_id, resource: resource.clone() };
            let tenants = ids.iter().map(tenant).collect();
            SettingsDocument { tenants, ..document(site, version, &[]) }
        };
        let one = accepted(&Settings::default(), of("a", 1, 10, &[1]));
        let both = accepted(&one, of("b", 1, 20, &[1, 2]));
        let known = |held: &Settings, id| held.tenant(Guid(id)).map(|it| it.application_id.0);
        assert_eq!([1, 2, 3].map(|id| known(&both, id)), [Some(10), Some(20), None]);
        let freed = accepted(&both, of("a", 2, 10, &[]));
        assert_eq!(known(&freed, 1), Some(20));
    }

    #[test]
    fn each_sites_deadlines_are_held_until_it_publishes_others() {
        let timed = |site, version, role_id, milliseconds: &[u64]| {
            let deadline = |time: &u64| Deadline { role_id, backend_answer_milliseconds: *time };
            let deadlines = milliseconds.iter().map(deadline).collect();
            SettingsDocument { deadlines, ..document(site, version, &[role_id]) }
        };
        let one = accepted(&Settings::default(), timed("a", 1, 1, &[90_000]));
        let both = accepted(&one, timed("b", 1, 2, &[5]));
        let held_for =
            |held: &Settings| [1, 2, 3].map(|id| held.backend_answer(id).map(|it| it.as_millis()));
        assert_eq!(held_for(&both), [Some(90_000), Some(5), None]);
        assert_eq!(held_for(&accepted(&both, timed("a", 2, 1, &[]))), [None, Some(5), None]);
        let conflict = both.offer(timed("a", 1, 1, &[90_001])).unwrap_err();
        assert!(matches!(conflict, OfferRefused::Conflict { .. }), "{conflict:?}");
    }

    #[test]
    fn settings_of_16_sites_are_held_and_of_one_more_are_not() {
        let mut held = Settings::default();
        for number in 0..16 {
            held = accepted(&held, document(&format!("site-{number}"), 1, &[number]));
        }
        let refused = held.offer(document("one-more", 1, &[99])).unwrap_err();
        assert_eq!(refused, OfferRefused::TooManySites { limit: 16 });
        accepted(&held, document("site-3", 2, &[99]));
    }

    /// A document of site `a` whose tokens have this revision, and block the token of its number.
    fn blocking(version: u64, role_id: u64, revision: u64) -> SettingsDocument {
        let tokens = PublishedSigners {
            tenant: Guid(1),
            revision,
            certificates: Vec::new(),
            blocked: vec![Guid(revision.into())],
        };
        let clients = ClientTrust {
            methods: Methods::default(),
            strictness: Strictness::default(),
            certificates: None,
            tenants: Vec::new(),
            tokens: Some(tokens),
            barred: Vec::new(),
        };
        SettingsDocument { clients: Some(clients), ..document("a", version, &[role_id]) }
    }

    /// Version, endpoint and revision that hold of site `a`.
    fn state(held: &Settings) -> (u64, u64, Option<u64>) {
        let document = held.documents().first().unwrap();
        let blocked = tokens(document).map(|it| it.blocked.clone());
        let revision = tokens(document).map(|it| it.revision);
        assert_eq!(blocked, revision.map(|it| vec![Guid(it.into())]), "both come together");
        (document.version, document.endpoints.first().unwrap().role_id, revision)
    }

    /// What the tokens of a document make of `held`, whose document for the rest is refused.
    fn tokens_alone(held: &Settings, document: SettingsDocument) -> (Settings, OfferRefused) {
        match held.offer(document) {
            Ok(Offered::TokensAlone { settings, why }) => (settings, why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_block_holds_whatever_version_the_file_has_of_the_connection_point_that_brings_it() {
        // One has version 2 of the file and goes down; the other has version 1, and a block.
        let later = accepted(&Settings::default(), blocking(2, 20, 11));
        let (blocked, why) = tokens_alone(&later, blocking(1, 10, 12));
        assert!(matches!(why, OfferRefused::Older { version: 1, have: 2, .. }), "{why:?}");
        assert_eq!(state(&blocked), (2, 20, Some(12)), "endpoints are not rolled back");
        let (blocked, why) = tokens_alone(&blocked, blocking(2, 21, 13));
        assert!(matches!(why, OfferRefused::Conflict { version: 2, .. }), "{why:?}");
        assert_eq!(state(&blocked), (2, 20, Some(13)));
        let older = blocked.offer(blocking(1, 10, 13)).unwrap_err();
        assert!(matches!(older, OfferRefused::Older { .. }), "nothing of it is new: {older:?}");
        // The first comes back and has not looked yet.
        assert!(matches!(blocked.offer(blocking(2, 20, 11)), Ok(Offered::Same)));
        let renewed = accepted(&blocked, blocking(3, 30, 12));
        assert_eq!(state(&renewed), (3, 30, Some(13)), "a later file takes no block back");
        assert_eq!(state(&accepted(&renewed, blocking(3, 30, 14))), (3, 30, Some(14)));
    }

    #[test]
    fn tokens_of_one_revision_are_the_same_or_a_conflict() {
        let held = accepted(&Settings::default(), blocking(1, 10, 5));
        assert!(matches!(held.offer(blocking(1, 10, 5)), Ok(Offered::Same)));
        let mut other = blocking(1, 10, 5);
        other.clients.as_mut().unwrap().tokens.as_mut().unwrap().blocked.clear();
        let conflict = held.offer(other).unwrap_err();
        assert!(matches!(conflict, OfferRefused::Conflict { .. }), "{conflict:?}");
    }

    #[test]
    fn a_later_file_without_tokens_ends_them_and_an_older_one_does_not_bring_them_back() {
        let held = accepted(&Settings::default(), blocking(1, 10, 5));
        let without = with_tokens(&blocking(2, 10, 1), None);
        let ended = accepted(&held, without.clone());
        assert_eq!(state(&ended).2, None);
        let older = ended.offer(blocking(1, 10, 6)).unwrap_err();
        assert!(matches!(older, OfferRefused::Older { .. }), "{older:?}");
        // The first key of its site is made after the file was published.
        let begun = accepted(&ended, blocking(2, 10, 6));
        assert_eq!(state(&begun), (2, 10, Some(6)));
        assert!(matches!(begun.offer(without), Ok(Offered::Same)), "not by the same file");
    }

    proptest! {
        #[test]
        fn whoever_brings_them_the_newest_tokens_and_the_latest_file_hold(
            offers in prop::collection::vec((1..5u64, 1..9u64), 1..24),
        ) {
            let mut held = Settings::default();
            for (version, revision) in &offers {
                match held.offer(blocking(*version, 10 * version, *revision)) {
                    Ok(Offered::Accepted(settings) | Offered::TokensAlone { settings, .. }) => {
                        held = settings;
                    }
                    Ok(Offered::Same) | Err(_) => {}
                }
            }
            let version = offers.iter().map(|it| it.0).max().unwrap();
            let revision = offers.iter().map(|it| it.1).max();
            prop_assert_eq!(state(&held), (version, 10 * version, revision));
        }

        #[test]
        fn offers_in_any_order_end_in_the_highest_version(
            offers in prop::collection::vec((0..3u64, 0..6u64), 1..24),
        ) {
            let mut held = Settings::default();
            for (site, version) in &offers {
                let role_ids = [*site, 10 * version + 100 * site + 3];
                let of = document(&format!("site-{site}"), *version, &role_ids);
                if let Ok(Offered::Accepted(settings)) = held.offer(of) {
                    held = settings;
                }
            }
            for site in 0..3 {
                let highest = offers.iter().filter(|(of, _)| *of == site).map(|(_, it)| *it).max();
                let name = format!("site-{site}");
                let held = versions(&held).into_iter().find(|(of, _)| *of == name);
                prop_assert_eq!(held.map(|(_, version)| version), highest);
            }
        }
    }
}
