//! A flood of clients of whom none proves anything, of every kind and at once: it costs the site
//! and its links nothing and the tenant's provider one request in five minutes, and whoever does
//! prove something is served meanwhile.
//!
//! Providers, links and clients are in memory. While there is nothing but the flood, time is
//! virtual and hardly passes, so that not even a keep-alive is due.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response};
use relay_core::auth::{Issuer, Method, Methods};
use relay_core::connection_point::ConnectionPoint;
use relay_core::fetched::FetchConfig;
use relay_core::gateway::Gateway;
use relay_core::policy::Access;
use relay_core::settings::KeySource;
use relay_core::transport::Network;
use relay_core::transport::memory::MemoryNetwork;
use relay_tests::client::{Client, Http, bare};
use relay_tests::clients::{ClientSite, SigningClient, now, self_signed, showing};
use relay_tests::pki::SiteCa;
use relay_tests::provider::Provider;
use relay_tests::roles::{House, Joined, ROLE, join};
use relay_tests::site::{Backend, Body, full};
use relay_tests::tls_site::open_to_all;
use relay_tests::tokens::{
    Signer, TENANT, bulk_claims, ccm_claims, client_claims, entra_claims, entra_header, site_header,
};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// Requests of each client of a flood.
const EACH: u32 = 20;

/// Runs a test, which fails if it hangs: no test has more time pass.
fn within<'a>(test: impl Future<Output = ()> + 'a) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async {
        tokio::time::timeout(60 * MINUTE, test).await.expect("the test hangs");
    })
}

/// Has time pass, while nobody waits for a socket.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::sleep(time).await;
    tokio::time::resume();
}

/// Both roles, and whom the gateway fetches keys from.
struct Place {
    login: Provider,
    house: House,
    site: ClientSite,
    backend: Backend,
    gateway: Gateway,
    _point: ConnectionPoint,
    _joined: Joined,
    fetching: JoinHandle<Infallible>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.fetching.abort();
    }
}

impl Place {
    async fn new() -> Self {
        let network = MemoryNetwork::new(1);
        let backend = Backend::start(|_| async { Response::new(full("from the site")) }).await;
        let (mut house, site) = (House::before(backend.address), ClientSite::new());
        let tls = open_to_all(&house.ca.server("login.example"));
        let login = Provider::in_memory(&network.host("login.example"), Some(tls));
        login.publish_keys(TENANT, &["key"]);
        let mut config = FetchConfig::new(&house.ca.anchors()).unwrap();
        config.network = Network::Memory(network.host("instance"));
        house.fetch = Some(config);
        let mut trust = site.trust();
        trust.tenants[0].issuers = vec![Issuer::V2];
        trust.tenants[0].keys = KeySource::Authority("https://login.example".to_owned());
        house.endpoint.0.access = Access::Clients(Methods::default());
        house.clients = Some(trust);
        let gateway = house.gateway(1);
        let fetching = gateway.clone();
        let fetching = tokio::spawn(async move { fetching.fetch().await });
        let point = house.connection_point(vec![]);
        let joined = join(&gateway, &point).await;
        pass(SECOND).await;
        assert_eq!(login.take().len(), 2, "metadata and keys");
        Self { login, house, site, backend, gateway, _point: point, _joined: joined, fetching }
    }

    /// What the link has done so far: streams either side has opened; writes, and reads that
    /// brought octets.
    fn link(&self) -> [u64; 4] {
        let links = self.gateway.status().links;
        let [link] = &links[..] else { panic!("there is one link: {links:?}") };
        let (stats, mux) = (link.stats, link.stats.mux);
        [mux.streams_opened, mux.streams_accepted, stats.write_calls, stats.read_calls]
    }

    /// As [`Place::link`], once nothing is under way any more. Time must stand still.
    async fn link_at_rest(&self) -> [u64; 4] {
        loop {
            let before = self.link();
            // It is over when nobody has anything left to do.
            tokio::time::sleep(Duration::from_millis(1)).await;
            if self.link() == before {
                return before;
            }
        }
    }

    /// Has a flood come, all clients of it at once, and waits until it has gone.
    async fn flood(&self, round: u32) {
        let mut clients = JoinSet::new();
        for Attacker { tls, requests } in self.attackers(round) {
            let gateway = self.gateway.clone();
            clients.spawn(async move {
                for (number, request) in requests.into_iter().enumerate() {
                    let http = Http::BOTH[number % 2];
                    // Each by a connection of its own, as a flood has it.
                    let mut client = Client::join_with(&gateway, &tls, http).await;
                    let answer = client.ask(request).await;
                    let told = (answer.status(), answer.reason());
                    let is_refused = matches!(told.0, 401 | 403);
                    assert!(is_refused, "{told:?}");
                }
            });
        }
        assert!(clients.len() >= 10, "of every kind: {}", clients.len());
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    }

    /// One of each kind.
    fn attackers(&self, round: u32) -> Vec<Attacker> {
        let plain = showing(&self.house.ca, None);
        let shown = |identity| showing(&self.house.ca, Some(identity));
        let shows_tokens = |token: &dyn Fn(u32) -> String| Attacker {
            tls: Arc::clone(&plain),
            requests: (0..EACH).map(|n| with_token(&token(round * EACH + n))).collect(),
        };
        let (site, stranger) = (&self.site, Signer::stranger());
        let by_stranger =
            |claims: Value, n| stranger.token(site_header().to_string(), dated(claims, n));
        let unknown_signer = |n: u32| {
            let mut header = site_header();
            (header["x5t"], header["x5t#S256"]) = (json!(format!("unknown {n}")), Value::Null);
            header.as_object_mut().unwrap().remove("x5t#S256");
            Signer::site().token(header.to_string(), dated(ccm_claims(), n))
        };
        let bound = site.client(&self_signed());
        let expired = site.expired_ccm();
        let mut all = vec![
            shows_tokens(&|n| entra(&format!("unknown {n}"), Signer::provider(), n)),
            shows_tokens(&|n| entra("key", stranger, n)),
            shows_tokens(&|n| by_stranger(bulk_claims(), n)),
            shows_tokens(&|n| by_stranger(client_claims(), n)),
            shows_tokens(&|n| by_stranger(ccm_claims(), n)),
            shows_tokens(&unknown_signer),
            shows_tokens(&|n| format!("damaged-{n}")),
            shows_tokens(&|_| expired.clone()),
            shows_tokens(&|_| bound.clone()),
        ];
        // An authority of the same name as the site's, and a certificate of nobody's.
        let forged = SiteCa::new().connection_point("a device");
        for identity in [&forged, &self_signed()] {
            let requests = (0..EACH).map(|_| bare("GET", &path())).collect();
            all.push(Attacker { tls: shown(identity), requests });
        }
        // One that signs with its own key, and shows another's certificate.
        let (own, other) = (SigningClient::new(), SigningClient::new());
        let token = site.client(&other.identity);
        let requests = (0..EACH).map(|n| signed(&own, &other, &token, now() - u64::from(n)));
        all.push(Attacker { tls: Arc::clone(&plain), requests: requests.collect() });
        all
    }

    /// All ways in which something was found of clients so far.
    fn found(&self) -> BTreeSet<(Method, &'static str)> {
        let proofs = self.gateway.status().proofs.into_iter().filter(|it| it.count > 0);
        proofs.map(|it| (it.method, it.outcome)).collect()
    }
}

/// A client of the flood.
struct Attacker {
    tls: Arc<ClientConfig>,
    requests: Vec<Request<Body>>,
}

fn path() -> String {
    format!("/CCM_Proxy_ServerAuth/{ROLE}/SMS_MP/x")
}

fn with_token(token: &str) -> Request<Body> {
    let mut request = bare("GET", &path());
    let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    request.headers_mut().insert("authorization", value);
    request
}

/// Claims of now, which are nobody else's: what is remembered of one is of no use for the next.
fn dated(mut claims: Value, n: u32) -> String {
    let begins = now() - 10;
    (claims["nbf"], claims["exp"]) = (json!(begins), json!(begins + 3600));
    claims["n"] = json!(n);
    claims.to_string()
}

/// A token of the tenant, by a key that is called so.
fn entra(key: &str, signer: &Signer, n: u32) -> String {
    let (mut header, mut claims) = (entra_header(), entra_claims());
    header["kid"] = json!(key);
    claims["iss"] = json!(Issuer::V2.text(TENANT));
    claims["iat"] = json!(now() - 10);
    signer.token(header.to_string(), dated(claims, n))
}

/// A head that `own` has signed, and says that it is by the key of `other`.
fn signed(own: &SigningClient, other: &SigningClient, token: &str, at: u64) -> Request<Body> {
    let mut request = with_token(token);
    let certificate = other.signed_head(at).swap_remove(0);
    assert_eq!(certificate.0, "CCMClientCertificate");
    for (name, value) in own.signed_head(at).into_iter().skip(1).chain([certificate]) {
        let name = HeaderName::try_from(name).unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_flood_of_every_kind_costs_a_link_and_the_site_nothing_and_the_provider_one_request() {
    within(async {
        let place = Place::new().await;
        // Within five minutes of the first, the second has nobody asked.
        for (round, asked) in [(0, 2), (1, 0)] {
            tokio::time::pause();
            let before = place.link_at_rest().await;
            place.flood(round).await;
            assert_eq!(place.link_at_rest().await, before, "not an octet, and no stream");
            tokio::time::resume();
            pass(4 * MINUTE).await;
            assert_eq!(place.login.take().len(), asked, "metadata and keys, in round {round}");
            let streams = |link: [u64; 4]| [link[0], link[1]];
            assert_eq!(streams(place.link()), streams(before), "nor did one come later");
        }
        assert_eq!(place.backend.seen().len(), 0);
        let expected = [
            (Method::Entra, "unknown_key"),
            (Method::Entra, "signature"),
            (Method::Entra, "malformed"),
            (Method::Certificate, "untrusted"),
            (Method::SiteToken, "unknown_key"),
            (Method::SiteToken, "signature"),
            (Method::SiteToken, "malformed"),
            (Method::SiteToken, "registration_only"),
            (Method::SiteToken, "expired"),
            (Method::SiteToken, "unbound"),
            (Method::SiteToken, "possession"),
        ];
        assert_eq!(place.found(), expected.into(), "and nobody was let in");
    })
    .await;
}

/// Asks with each token, and then with the certificate of the connection alone; how often.
async fn ask_with_each(client: &mut Client, tokens: &[String]) -> u64 {
    let requests = tokens.iter().map(|it| with_token(it)).chain([bare("GET", &path())]);
    let mut asked = 0;
    for request in requests {
        let answer = client.ask(request).await;
        assert_eq!(answer.status(), 200, "{:?}", answer.reason());
        asked += 1;
    }
    asked
}

#[tokio::test]
async fn whoever_proves_something_is_served_during_a_flood_and_nobody_else_has_a_stream() {
    within(async {
        let place = Place::new().await;
        let (before, is_over) = (place.link(), Arc::new(AtomicBool::new(false)));
        let device = place.site.authority.connection_point("a device");
        let tls = showing(&place.house.ca, Some(&device));
        let mut client = Client::join_with(&place.gateway, &tls, Http::Two).await;
        let tokens = [place.site.ccm(), entra("key", Signer::provider(), 0)];
        let over = Arc::clone(&is_over);
        let neighbour = tokio::spawn(async move {
            let mut served = 0;
            while !over.load(Ordering::Relaxed) {
                served += ask_with_each(&mut client, &tokens).await;
            }
            served
        });
        place.flood(0).await;
        is_over.store(true, Ordering::Relaxed);
        let served = neighbour.await.unwrap();
        // The last round may have begun at the end of the flood; another was within it.
        assert!(served > 3, "one after the other, while the flood came: {served}");
        assert_eq!(place.link()[0] - before[0], served, "each has a stream, and nobody else");
        assert_eq!(place.backend.seen().len() as u64, served);
        assert!(place.login.take().len() <= 2, "metadata and keys");
    })
    .await;
}
