//! What an instance fetches decides who clients are: keys of a tenant from a provider that speaks
//! TLS, revocation lists over plain HTTP, both named by what a site publishes.
//!
//! Providers are on a network in memory, links and clients in memory besides them. While nothing
//! but fetching goes on, time is virtual.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use http::{HeaderValue, Response};
use relay_core::auth::{Issuer, Method, Methods};
use relay_core::connection_point::{ConnectionPoint, Update};
use relay_core::fetched::{FetchConfig, KEY_SOURCES_MAX};
use relay_core::gateway::{
    Gateway, Listeners, RefusedSettings, SiteSettings, SourceKind, SourceState, SourceStatus,
};
use relay_core::policy::Access;
use relay_core::settings::{ClientTrust, KeySource, ListSource, Revocation, TENANTS_MAX};
use relay_core::transport::memory::MemoryNetwork;
use relay_core::transport::{Identity, Listener, Network};
use relay_tests::client::{Answer, Client, Http, bare};
use relay_tests::clients::{ClientSite, now, showing};
use relay_tests::logs::Logs;
use relay_tests::provider::{Manner, Provider};
use relay_tests::roles::{House, Joined, join, until};
use relay_tests::site::{Backend, full};
use relay_tests::tls_site::open_to_all;
use relay_tests::tokens::{Signer, TENANT, entra_claims, entra_header};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY_SECONDS: u64 = 86_400;

/// Where the site's revocation list is.
const LIST: &str = "http://ca.example/a.crl";

/// A token that proves nothing, and so a certificate.
const INVALID_TOKEN: (u16, Option<&str>) = (401, Some("CMGService_Invalid_Token"));
const INVALID_CERTIFICATE: (u16, Option<&str>) = (401, Some("CMGService_Invalid_Certificate"));
const GOOD: (u16, Option<&str>) = (200, None);

/// Runs a test, which fails if it hangs: no test has more time pass.
fn within<'a>(test: impl Future<Output = ()> + 'a) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async {
        tokio::time::timeout(1000 * HOUR, test).await.expect("the test hangs");
    })
}

/// Has time pass, while nobody waits for a socket.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::sleep(time).await;
    tokio::time::resume();
}

/// Ended with the test.
struct Fetching(JoinHandle<Infallible>);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Both roles, and whom the gateway fetches from.
struct Place {
    login: Provider,
    lists: Provider,
    house: House,
    site: ClientSite,
    backend: Backend,
    gateway: Gateway,
    point: ConnectionPoint,
    _joined: Joined,
    _fetching: Fetching,
}

impl Place {
    /// The provider publishes keys of these names, and the site whose clients count.
    async fn with_keys(names: &[&str]) -> Self {
        Self::new(|login, _, _| login.publish_keys(TENANT, names)).await
    }

    /// `prepare` is told the provider, the server of lists, and the site.
    async fn new(prepare: impl FnOnce(&Provider, &Provider, &ClientSite)) -> Self {
        let network = MemoryNetwork::new(1);
        let backend = Backend::start(|_| async { Response::new(full("from the site")) }).await;
        let (mut house, site) = (House::before(backend.address), ClientSite::new());
        let tls = open_to_all(&house.ca.server("login.example"));
        let login = Provider::in_memory(&network.host("login.example"), Some(tls));
        let lists = Provider::in_memory(&network.host("ca.example"), None);
        prepare(&login, &lists, &site);
        let mut config = FetchConfig::new(&house.ca.anchors()).unwrap();
        config.network = Network::Memory(network.host("instance"));
        house.fetch = Some(config);
        // Clients stay while time passes.
        house.gateway_limits.idle = 1000 * HOUR;
        house.endpoint.0.access = Access::Clients(Methods::default());
        house.clients = Some(trust(&site));
        let gateway = house.gateway(1);
        let fetching = gateway.clone();
        let fetching = Fetching(tokio::spawn(async move { fetching.fetch().await }));
        let point = house.connection_point(vec![]);
        let joined = join(&gateway, &point).await;
        pass(SECOND).await;
        Self {
            login,
            lists,
            house,
            site,
            backend,
            gateway,
            point,
            _joined: joined,
            _fetching: fetching,
        }
    }

    /// Publishes whose clients count, and waits until that is in force.
    async fn publish(&self, version: u64, trust: ClientTrust) {
        self.offer(version, trust);
        let applied = || {
            let sites = self.gateway.settings().sites;
            sites.iter().any(|it| it.applied.as_ref().is_some_and(|it| it.version == version))
        };
        until(applied).await;
    }

    fn offer(&self, settings_version: u64, trust: ClientTrust) {
        let endpoints = vec![self.house.site_endpoint()];
        let (gateways, tenants, clients) = (vec![], vec![], Some(trust));
        let update = Update { gateways, endpoints, tenants, clients, settings_version };
        self.point.update(update).unwrap();
    }

    /// Has another site publish whose clients count there, beside the first.
    async fn join_other(&mut self, site: &ClientSite) -> (ConnectionPoint, Joined) {
        self.house.settings = ("other".to_owned(), 1);
        (self.house.endpoint.0.name, self.house.endpoint.0.role_id) = ("other".to_owned(), 8);
        self.house.clients = Some(trust(site));
        let point = self.house.connection_point(vec![]);
        let joined = join(&self.gateway, &point).await;
        until(|| self.gateway.settings().sites.len() == 2).await;
        (point, joined)
    }

    async fn client(&self, shows: Option<&Identity>) -> Client {
        let tls = showing(&self.house.ca, shows);
        Client::join_with(&self.gateway, &tls, Http::One).await
    }

    /// How the keys of the tenant stand.
    fn keys(&self) -> SourceStatus {
        self.source(SourceKind::Keys(TENANT))
    }

    /// How the revocation list stands.
    fn list(&self) -> SourceStatus {
        self.source(SourceKind::Lists)
    }

    fn source(&self, kind: SourceKind) -> SourceStatus {
        let sources = self.gateway.status().sources;
        sources.into_iter().find(|it| it.kind == kind).unwrap()
    }

    /// What a method has found, and how often.
    fn found(&self, method: Method) -> BTreeMap<&'static str, u64> {
        found(&self.gateway, method)
    }
}

fn found(gateway: &Gateway, method: Method) -> BTreeMap<&'static str, u64> {
    let proofs = gateway.status().proofs.into_iter();
    let proofs = proofs.filter(|it| it.method == method && it.count > 0);
    proofs.map(|it| (it.outcome, it.count)).collect()
}

/// All methods; keys of the tenant at its provider, the list of the authority at its server.
fn trust(site: &ClientSite) -> ClientTrust {
    let mut trust = site.trust();
    trust.tenants[0].issuers = vec![Issuer::V2];
    trust.tenants[0].keys = KeySource::Authority("https://login.example".to_owned());
    let list = ListSource::Url(LIST.to_owned());
    trust.certificates.as_mut().unwrap().revocation = Revocation::On(vec![list]);
    trust
}

/// A good token of the tenant, by the key of this name.
fn token(key: &str) -> String {
    let (mut header, mut claims) = (entra_header(), entra_claims());
    header["kid"] = json!(key);
    claims["iss"] = json!(Issuer::V2.text(TENANT));
    let begins = now() - 10;
    claims["iat"] = json!(begins);
    (claims["nbf"], claims["exp"]) = (json!(begins), json!(begins + 3600));
    Signer::provider().token(header.to_string(), claims.to_string())
}

/// A list of the site's authority that takes these back, and holds from so many days ago for so
/// many days from now.
fn list(site: &ClientSite, taken_back: &[&Identity], ago: u64, left: i64, number: u64) -> Vec<u8> {
    let from = now() - ago * DAY_SECONDS;
    let until = now().checked_add_signed(left * i64::try_from(DAY_SECONDS).unwrap()).unwrap();
    site.authority.list_revoking(taken_back, from, until, number)
}

async fn ask(client: &mut Client, token: Option<&str>) -> Answer {
    ask_at(client, relay_tests::roles::ROLE, token).await
}

async fn ask_at(client: &mut Client, role_id: u64, token: Option<&str>) -> Answer {
    let mut request = bare("GET", &format!("/CCM_Proxy_ServerAuth/{role_id}/SMS_MP/x"));
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        request.headers_mut().insert("authorization", value);
    }
    client.ask(request).await
}

fn told(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status(), answer.reason())
}

#[tokio::test]
async fn keys_that_the_provider_rolls_count_without_a_restart_and_on_a_connection_that_is_open() {
    within(async {
        let place = Place::with_keys(&["old"]).await;
        let mut client = place.client(None).await;
        assert_eq!(told(&ask(&mut client, Some(&token("old"))).await), GOOD);
        assert_eq!(place.login.take().len(), 2, "metadata and keys");

        place.login.publish_keys(TENANT, &["old", "new"]);
        assert_eq!(told(&ask(&mut client, Some(&token("new"))).await), INVALID_TOKEN);
        pass(SECOND).await;
        assert_eq!(told(&ask(&mut client, Some(&token("new"))).await), GOOD, "the next try");
        assert_eq!(told(&ask(&mut client, Some(&token("old"))).await), GOOD);
        assert_eq!(place.login.take().len(), 2);

        // A key that the provider takes out counts no more, verified or not.
        let verified = token("old");
        assert_eq!(told(&ask(&mut client, Some(&verified)).await), GOOD);
        place.login.publish_keys(TENANT, &["new"]);
        pass(24 * HOUR).await;
        for old in [&verified, &token("old")] {
            assert_eq!(told(&ask(&mut client, Some(old)).await), INVALID_TOKEN);
        }
        assert_eq!(told(&ask(&mut client, Some(&token("new"))).await), GOOD);
        let found = place.found(Method::Entra);
        assert_eq!(found, [("proven", 5), ("unknown_key", 3)].into(), "each try is counted");
        assert_eq!(place.backend.seen().len(), 5);
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_the_provider_one_request_in_five_minutes_and_the_site_none()
{
    within(async {
        let place = Place::with_keys(&["key"]).await;
        let mut client = place.client(None).await;
        place.login.take();
        for round in 0..2 {
            for at in 0..100 {
                let token = token(&format!("unknown {round} {at}"));
                assert_eq!(told(&ask(&mut client, Some(&token)).await), INVALID_TOKEN);
            }
            pass(4 * MINUTE).await;
            let asked = place.login.take();
            assert_eq!(asked.len(), 2 * (1 - round), "metadata and keys, once: {asked:?}");
        }
        pass(MINUTE).await;
        assert_eq!(told(&ask(&mut client, Some(&token("other"))).await), INVALID_TOKEN);
        pass(SECOND).await;
        assert_eq!(place.login.take().len(), 2, "the five minutes are over");
        assert_eq!(told(&ask(&mut client, Some(&token("key"))).await), GOOD);
        assert_eq!(place.found(Method::Entra), [("proven", 1), ("unknown_key", 201)].into());
        assert_eq!(place.backend.seen().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_token_that_would_be_refused_with_a_known_key_asks_nobody_for_one() {
    within(async {
        let place = Place::with_keys(&["key"]).await;
        let mut trust = trust(&place.site);
        place.login.take();
        let mut client = place.client(None).await;
        // Of a tenant that is disabled, and for an audience that is not the tenant's.
        trust.tenants[0].is_enabled = false;
        place.publish(2, trust.clone()).await;
        assert_eq!(told(&ask(&mut client, Some(&token("unknown"))).await), INVALID_TOKEN);
        trust.tenants[0].audiences = vec!["https://other".to_owned()];
        trust.tenants[0].is_enabled = true;
        place.publish(3, trust.clone()).await;
        assert_eq!(told(&ask(&mut client, Some(&token("unknown"))).await), INVALID_TOKEN);
        pass(SECOND).await;
        assert_eq!(place.login.take(), []);
        let found = place.found(Method::Entra);
        assert_eq!(found, [("audience", 1), ("tenant_disabled", 1)].into());
    })
    .await;
}

#[tokio::test]
async fn a_tenant_that_is_enabled_again_counts_while_its_provider_is_down() {
    within(async {
        let place = Place::with_keys(&["key"]).await;
        let mut client = place.client(None).await;
        let good = token("key");
        assert_eq!(told(&ask(&mut client, Some(&good)).await), GOOD);
        place.login.set(Manner::Down);
        let mut trust = trust(&place.site);
        for (version, is_enabled) in [(2, false), (3, true)] {
            trust.tenants[0].is_enabled = is_enabled;
            place.publish(version, trust.clone()).await;
            let expected = if is_enabled { GOOD } else { INVALID_TOKEN };
            assert_eq!(told(&ask(&mut client, Some(&good)).await), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_provider_is_down_the_last_good_keys_count_and_the_status_says_so() {
    within(async {
        let place = Place::with_keys(&["key"]).await;
        place.login.set(Manner::Down);
        pass(25 * HOUR).await;
        let mut client = place.client(None).await;
        assert_eq!(told(&ask(&mut client, Some(&token("key"))).await), GOOD);
        let keys = place.keys();
        assert_eq!(keys.state, SourceState::Held);
        assert!(keys.failure.is_some_and(|it| it.count > 1) && keys.fetched_at.is_some());
        assert!(keys.next_in.is_some_and(|next| next <= 5 * MINUTE), "{:?}", keys.next_in);
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_is_down_from_the_start_has_tokens_refused_with_a_reason_until_it_comes() {
    within(async {
        let place = Place::new(|login, _, _| login.set(Manner::Down)).await;
        let mut client = place.client(None).await;
        assert_eq!(told(&ask(&mut client, Some(&token("key"))).await), INVALID_TOKEN);
        assert_eq!(place.found(Method::Entra), [("keys_not_fetched", 1)].into());
        let keys = place.keys();
        assert_eq!((keys.state, keys.fetched_at), (SourceState::Awaited, None));
        assert!(keys.failure.is_some());
        place.login.publish_keys(TENANT, &["key"]);
        place.login.set(Manner::Well);
        pass(5 * MINUTE).await;
        assert_eq!(told(&ask(&mut client, Some(&token("key"))).await), GOOD);
        assert_eq!((place.keys().state, place.keys().failure), (SourceState::Held, None));
    })
    .await;
}

#[tokio::test]
async fn a_certificate_is_revoked_by_the_next_list_on_its_open_connection_and_a_resumed_one() {
    within(async {
        let device = std::cell::OnceCell::new();
        let place = Place::new(|_, lists, site| {
            lists.publish("/a.crl", list(site, &[], 7, 1, 1));
            device.set(site.authority.connection_point("a device")).unwrap();
        })
        .await;
        let device = device.get().unwrap();
        let tls = showing(&place.house.ca, Some(device));
        let mut open = Client::join_with(&place.gateway, &tls, Http::One).await;
        assert_eq!(told(&ask(&mut open, None).await), GOOD);
        place.lists.publish("/a.crl", list(&place.site, &[device], 7, 2, 2));
        assert_eq!(told(&ask(&mut open, None).await), GOOD, "until it is fetched");
        // Three quarters of the life of the first one are over, so it is asked for each hour.
        pass(HOUR).await;
        let mut resumed = Client::join_with(&place.gateway, &tls, Http::One).await;
        for client in [&mut open, &mut resumed] {
            assert_eq!(told(&ask(client, None).await), INVALID_CERTIFICATE);
        }
        let found = place.found(Method::Certificate);
        assert_eq!(found, [("proven", 2), ("revoked", 2)].into());
        assert_eq!(place.backend.seen().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_list_that_is_not_there_or_over_has_certificates_refused_each_with_its_reason() {
    within(async {
        let place = Place::new(|_, lists, _| lists.set(Manner::Down)).await;
        let device = place.site.authority.connection_point("a device");
        let mut client = place.client(Some(&device)).await;
        assert_eq!(told(&ask(&mut client, None).await), INVALID_CERTIFICATE);
        assert_eq!(place.found(Method::Certificate), [("list_not_fetched", 1)].into());
        assert_eq!(place.list().state, SourceState::Awaited);

        place.lists.publish("/a.crl", list(&place.site, &[], 7, 1, 1));
        place.lists.set(Manner::Well);
        pass(5 * MINUTE).await;
        assert_eq!(told(&ask(&mut client, None).await), GOOD);
        assert!(place.list().next_update.is_some_and(|it| it > now()));

        // Over when it comes; and then there is no other to be had.
        place.lists.publish("/a.crl", list(&place.site, &[], 7, -1, 2));
        pass(HOUR).await;
        place.lists.set(Manner::Down);
        for _ in 0..2 {
            assert_eq!(told(&ask(&mut client, None).await), INVALID_CERTIFICATE);
            pass(HOUR).await;
        }
        let found = place.found(Method::Certificate);
        assert_eq!(found, [("list_expired", 2), ("list_not_fetched", 1), ("proven", 1)].into());
        assert_eq!(place.list().state, SourceState::Expired);
        assert!(place.list().failure.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_published_list_is_enough_while_another_is_still_to_be_fetched() {
    within(async {
        let place = Place::new(|_, lists, _| lists.set(Manner::Down)).await;
        let device = place.site.authority.connection_point("a device");
        let mut client = place.client(Some(&device)).await;
        let mut trust = trust(&place.site);
        let der = ListSource::Der(list(&place.site, &[], 7, 1, 1).into());
        let both = vec![der, ListSource::Url(LIST.to_owned())];
        trust.certificates.as_mut().unwrap().revocation = Revocation::On(both);
        place.publish(2, trust).await;
        assert_eq!(told(&ask(&mut client, None).await), GOOD);
        // An older one that comes later says nothing.
        place.lists.publish("/a.crl", list(&place.site, &[&device], 8, 1, 0));
        place.lists.set(Manner::Well);
        pass(5 * MINUTE).await;
        assert_eq!(place.list().state, SourceState::Held);
        assert_eq!(told(&ask(&mut client, None).await), GOOD);
    })
    .await;
}

#[tokio::test]
async fn two_sites_share_a_tenant_and_a_list_and_each_goes_by_its_own_authority() {
    within(async {
        let mut place = Place::new(|login, lists, site| {
            login.publish_keys(TENANT, &["key"]);
            lists.publish("/a.crl", list(site, &[], 7, 1, 1));
        })
        .await;
        assert_eq!((place.login.take().len(), place.lists.take().len()), (2, 1));
        let other = ClientSite::new();
        let theirs = other.authority.connection_point("theirs");
        let ours = place.site.authority.connection_point("ours");
        let revoked = other.authority.connection_point("revoked");
        let (_point, _joined) = place.join_other(&other).await;
        pass(SECOND).await;
        // The list may be of either authority now, so it was fetched again; the keys were not.
        assert_eq!((place.login.take().len(), place.lists.take().len()), (0, 1));
        assert_eq!(place.gateway.status().sources.len(), 2);

        let good = token("key");
        for (shows, role_id, expected) in [
            (&ours, 7, GOOD),
            (&ours, 8, INVALID_CERTIFICATE),
            (&theirs, 7, INVALID_CERTIFICATE),
            // There is no list of their authority at that place yet.
            (&theirs, 8, INVALID_CERTIFICATE),
        ] {
            let mut client = place.client(Some(shows)).await;
            assert_eq!(told(&ask_at(&mut client, role_id, None).await), expected);
            assert_eq!(told(&ask_at(&mut client, role_id, Some(&good)).await), GOOD);
        }
        place.lists.publish("/a.crl", list(&other, &[&revoked], 7, 1, 1));
        pass(HOUR).await;
        for (shows, role_id, expected) in [
            (&ours, 7, GOOD),
            (&theirs, 8, GOOD),
            (&revoked, 8, INVALID_CERTIFICATE),
            (&ours, 8, INVALID_CERTIFICATE),
        ] {
            let mut client = place.client(Some(shows)).await;
            let answer = ask_at(&mut client, role_id, None).await;
            assert_eq!(told(&answer), expected, "{role_id}: of each authority its last list");
        }
    })
    .await;
}

#[tokio::test]
async fn another_authoritys_list_in_between_brings_no_older_list_of_the_first_into_force() {
    within(async {
        let devices = std::cell::OnceCell::new();
        let place = Place::new(|_, lists, site| {
            let [stolen, good] = ["stolen", "good"].map(|it| site.authority.connection_point(it));
            lists.publish("/a.crl", list(site, &[&stolen], 7, 1, 2));
            devices.set((stolen, good)).unwrap();
        })
        .await;
        let (stolen, good) = devices.get().unwrap();
        let other = ClientSite::new();
        let mut trust = trust(&place.site);
        let root = other.authority.der().into();
        trust.certificates.as_mut().unwrap().roots.push(root);
        place.publish(2, trust).await;
        pass(SECOND).await;
        let theirs = list(&other, &[], 7, 1, 9);
        let answers = [
            (list(&place.site, &[stolen], 7, 1, 3), false),
            (theirs.clone(), false),
            // All that whoever stands on the way could have kept.
            (list(&place.site, &[], 8, 1, 1), true),
            (theirs, false),
            (list(&place.site, &[], 7, 1, 2), true),
        ];
        for (octets, is_refused) in answers {
            place.lists.publish("/a.crl", octets);
            pass(HOUR).await;
            assert_eq!(place.list().failure.is_some(), is_refused);
            assert_eq!(place.list().state, SourceState::Held);
            for (shows, expected) in [(stolen, INVALID_CERTIFICATE), (good, GOOD)] {
                let mut client = place.client(Some(shows)).await;
                assert_eq!(told(&ask(&mut client, None).await), expected);
            }
        }
        assert_eq!(place.found(Method::Certificate), [("proven", 5), ("revoked", 5)].into());
    })
    .await;
}

#[tokio::test]
async fn sites_that_publish_in_turn_have_the_list_that_they_share_fetched_once() {
    within(async {
        let mut place = Place::new(|login, lists, site| {
            login.publish_keys(TENANT, &["key"]);
            lists.publish("/a.crl", list(site, &[], 7, 1, 1));
        })
        .await;
        let (ours, other) = (place.house.site_endpoint(), ClientSite::new());
        let (point, _joined) = place.join_other(&other).await;
        let theirs = place.house.site_endpoint();
        pass(SECOND).await;
        place.lists.take();
        for version in 2..6 {
            let both = [(&place.point, &place.site, &ours), (&point, &other, &theirs)];
            for (before, (point, site, endpoint)) in both.into_iter().enumerate() {
                let mut trust = trust(site);
                let blocked = vec![relay_core::auth::Guid(version.into())];
                trust.tokens.as_mut().unwrap().blocked = blocked;
                let (gateways, tenants, clients) = (vec![], vec![], Some(trust));
                let (endpoints, settings_version) = (vec![endpoint.clone()], version);
                let update = Update { gateways, endpoints, tenants, clients, settings_version };
                point.update(update).unwrap();
                let is_new =
                    |it: &SiteSettings| it.applied.as_ref().is_some_and(|it| it.version == version);
                let count =
                    || place.gateway.settings().sites.iter().filter(|it| is_new(it)).count();
                until(|| count() == before + 1).await;
            }
        }
        pass(SECOND).await;
        assert_eq!((place.login.take().len(), place.lists.take()), (2, vec![]));
    })
    .await;
}

#[tokio::test]
async fn settings_that_change_nothing_of_it_have_nothing_fetched_again() {
    within(async {
        let place = Place::new(|login, lists, site| {
            login.publish_keys(TENANT, &["key"]);
            lists.publish("/a.crl", list(site, &[], 7, 1, 1));
        })
        .await;
        assert_eq!((place.login.take().len(), place.lists.take().len()), (2, 1));
        let device = place.site.authority.connection_point("a device");
        let mut client = place.client(Some(&device)).await;
        for version in 2..5 {
            let mut trust = trust(&place.site);
            trust.tokens.as_mut().unwrap().blocked = vec![relay_core::auth::Guid(version.into())];
            place.publish(version, trust).await;
            assert_eq!(told(&ask(&mut client, None).await), GOOD);
            assert_eq!(told(&ask(&mut client, Some(&token("key"))).await), GOOD);
        }
        pass(SECOND).await;
        assert_eq!((place.login.take(), place.lists.take()), (vec![], vec![]));
        // What nobody needs any more is forgotten.
        place.publish(5, place.site.trust()).await;
        assert!(place.gateway.status().sources.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_an_instance_does_not_fetch_is_said_once_and_shown() {
    within(async {
        let logs = Logs::capture();
        let place = Place::with_keys(&["key"]).await;
        let mut house = place.house;
        house.fetch = None;
        let gateway = house.gateway(2);
        let point = house.connection_point(vec![]);
        let _joined = join(&gateway, &point).await;
        let sources = gateway.status().sources;
        let shown: Vec<_> = sources.iter().map(|it| (it.kind, &*it.source, it.state)).collect();
        let metadata = relay_tests::provider::metadata_path(TENANT);
        let metadata = format!("https://login.example{metadata}");
        let not_fetched = SourceState::NotFetched;
        assert_eq!(
            shown,
            [
                (SourceKind::Keys(TENANT), &*metadata, not_fetched),
                (SourceKind::Lists, LIST, not_fetched)
            ]
        );
        let mut trust = trust(&place.site);
        trust.tokens.as_mut().unwrap().blocked = vec![relay_core::auth::Guid(1)];
        let endpoints = vec![house.site_endpoint()];
        let (gateways, tenants, clients) = (vec![], vec![], Some(trust));
        let update = Update { gateways, endpoints, tenants, clients, settings_version: 2 };
        point.update(update).unwrap();
        let version = || gateway.settings().sites[0].applied.as_ref().map(|it| it.version);
        until(|| version() == Some(2)).await;
        assert_eq!(logs.with(&["this instance fetches nothing", LIST, &metadata]).len(), 1);

        let device = place.site.authority.connection_point("a device");
        let tls = showing(&house.ca, Some(&device));
        let mut client = Client::join_with(&gateway, &tls, Http::One).await;
        assert_eq!(told(&ask(&mut client, Some(&token("key"))).await), INVALID_TOKEN);
        assert_eq!(found(&gateway, Method::Entra), [("keys_not_fetched", 1)].into());
        assert_eq!(found(&gateway, Method::Certificate), [("list_not_fetched", 1)].into());
        assert!(place.backend.seen().is_empty());
    })
    .await;
}

#[tokio::test]
async fn settings_that_need_more_fetched_than_there_may_be_are_refused_and_those_before_hold() {
    within(async {
        let mut place = Place::with_keys(&["key"]).await;
        let with_tenants = |trust: ClientTrust, from: usize, count: usize| {
            let mut trust = trust;
            let mut tenant = trust.tenants.remove(0);
            for id in from..from + count {
                tenant.id = relay_core::auth::Guid(u128::try_from(id).unwrap() + 1);
                trust.tenants.push(tenant.clone());
            }
            trust
        };
        // One is of the first site; three others have as many as a site may have.
        let mut joined = Vec::new();
        for at in 1..=4 {
            let left = KEY_SOURCES_MAX - 1 - 3 * TENANTS_MAX;
            let count = if at < 4 { TENANTS_MAX } else { left + 1 };
            place.house.settings.0 = format!("other {at}");
            let endpoint = &mut place.house.endpoint.0;
            (endpoint.name, endpoint.role_id) = (format!("other-{at}"), 100 + at);
            let all = with_tenants(trust(&place.site), 1000 * usize::try_from(at).unwrap(), count);
            place.house.clients = Some(all);
            let point = place.house.connection_point(vec![]);
            let sites = place.gateway.settings().sites.len();
            joined.push(join(&place.gateway, &point).await);
            until(|| place.gateway.settings().sites.len() > sites).await;
        }
        let sites = place.gateway.settings().sites;
        let refused: Vec<&RefusedSettings> =
            sites.iter().filter_map(|it| it.refused.as_ref()).collect();
        let [refused] = &refused[..] else { panic!("{sites:?}") };
        assert_eq!(refused.status, 400);
        assert!(refused.reason.contains("keys of more than 256 tenants"), "{}", refused.reason);
        let keys = place.gateway.status().sources.len();
        assert_eq!(keys, 1 + 3 * TENANTS_MAX + 1, "and one list");
        let mut client = place.client(None).await;
        assert_eq!(told(&ask(&mut client, Some(&token("key"))).await), GOOD);
    })
    .await;
}

#[tokio::test]
async fn an_authority_that_cannot_be_asked_has_the_settings_refused() {
    within(async {
        let place = Place::with_keys(&["key"]).await;
        let mut trust = trust(&place.site);
        trust.tenants[0].keys = KeySource::Authority("https://login.example/path".to_owned());
        place.offer(2, trust);
        let refused = || place.gateway.settings().sites[0].refused.clone();
        until(|| refused().is_some()).await;
        let reason = refused().unwrap().reason;
        assert!(reason.contains("the authority of tenant 1"), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_serves_fetches_over_sockets_and_stops_with_its_fetching() {
    within(async {
        let (mut house, site) = (House::before(([127, 0, 0, 1], 1).into()), ClientSite::new());
        let login = Provider::on_loopback(Some(open_to_all(&house.ca.server("localhost")))).await;
        login.publish_keys(TENANT, &["key"]);
        house.fetch = Some(FetchConfig::new(&house.ca.anchors()).unwrap());
        let mut trust = trust(&site);
        trust.tenants[0].keys = KeySource::Authority(login.origin.clone());
        let lists = Provider::on_loopback(None).await;
        lists.set(Manner::Silent);
        let list = ListSource::Url(format!("{}/a.crl", lists.origin));
        trust.certificates.as_mut().unwrap().revocation = Revocation::On(vec![list]);
        house.clients = Some(trust);
        house.endpoint.0.access = Access::Clients(Methods::default());
        house.initial = vec![house.document()];
        let gateway = house.gateway(1);
        let any = ([127, 0, 0, 1], 0).into();
        let clients = Listener::bind(any).await.unwrap();
        let listeners = Listeners { clients, links: None, https_links: None, quic: None };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(gateway.clone().serve(listeners, async {
            let _ = stopped.await;
        }));
        let is_held = |it: &SourceStatus| it.state == SourceState::Held;
        until(|| gateway.status().sources.iter().any(is_held)).await;
        assert_eq!(login.take().len(), 2);
        until(|| lists.take().len() == 1).await;
        assert_eq!(lists.connections(), 1, "what is fetched is under way");
        stop.send(()).unwrap();
        serving.await.unwrap();
        // By itself it would end after 15 s.
        let ended = tokio::time::timeout(10 * SECOND, until(|| lists.connections() == 0));
        ended.await.expect("it is fetched by whoever has stopped");
        assert_eq!((login.take(), lists.take()), (vec![], vec![]));
    })
    .await;
}
