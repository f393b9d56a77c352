//! What an instance fetches by itself: from a provider that speaks `OpenID` Connect Discovery over
//! TLS, from a server of revocation lists, and from files.
//!
//! Time is virtual where the network is in memory; TLS and HTTP are real everywhere.

use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use relay_core::auth::{CertificateTrust, Crl, CrlFault, Guid, KeySetError, MetadataError};
use relay_core::auth::{KEY_SET_OCTETS_MAX, METADATA_OCTETS_MAX, RevocationCheck};
use relay_core::fetched::{
    Asked, Clock, FetchConfig, FetchDriver, Fetched, GetError, KEY_SOURCES_MAX, KeySource,
    KeysFault, LIST_SOURCES_MAX, LISTS_OCTETS_MAX, ListFault, ListLocation, ListSource, ListState,
    ListStatus, ProviderVersion, WantError,
};
use relay_core::transport::Network;
use relay_core::transport::memory::{Dials, MemoryNetwork};
use relay_tests::logs::Logs;
use relay_tests::pki::SiteCa;
use relay_tests::provider::{Manner, Provider, metadata_path};
use relay_tests::roles::until;
use relay_tests::tls_site::open_to_all;
use relay_tests::tokens::{NOW, TENANT};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const DAY_SECONDS: u64 = 86_400;

/// Ended with the test.
struct Driving(JoinHandle<Infallible>);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn driven((fetched, driver): (Fetched, FetchDriver)) -> (Fetched, Driving) {
    (fetched, Driving(tokio::spawn(driver.run())))
}

/// A provider and a server of lists on a network in memory, and who fetches from them.
struct World {
    network: MemoryNetwork,
    ca: SiteCa,
    provider: Provider,
    lists: Provider,
    fetched: Fetched,
    driving: Driving,
    /// Seconds by which the clock was set ahead.
    ahead: Arc<AtomicU64>,
}

impl World {
    /// In memory; the clock begins at [`NOW`] and goes with virtual time.
    fn new() -> Self {
        Self::with_room(LISTS_OCTETS_MAX)
    }

    fn with_room(lists_octets_max: usize) -> Self {
        let (network, ca) = (MemoryNetwork::new(1), SiteCa::new());
        let tls = open_to_all(&ca.server("login.example"));
        let provider = Provider::in_memory(&network.host("login.example"), Some(tls));
        let lists = Provider::in_memory(&network.host("ca.example"), None);
        let mut config = FetchConfig::new(&ca.anchors()).expect("anchors");
        config.network = Network::Memory(network.host("instance"));
        config.lists_octets_max = lists_octets_max;
        let began = Instant::now();
        let ahead = Arc::<AtomicU64>::default();
        let step = Arc::clone(&ahead);
        let now = move || NOW + step.load(Ordering::Relaxed) + began.elapsed().as_secs();
        config.clock = Clock::new(now);
        let (fetched, driving) = driven(Fetched::new(config));
        Self { network, ca, provider, lists, fetched, driving, ahead }
    }

    fn source(&self) -> KeySource {
        KeySource::new(TENANT, &self.provider.origin, ProviderVersion::V2).expect("an address")
    }

    fn want_keys(&self) {
        self.fetched.want(vec![self.source()], vec![]).expect("one tenant");
    }

    /// The list of the authority, or of another one, at `location`.
    fn list_at(&self, location: ListLocation) -> ListSource {
        ListSource { location, authorities: trust(&self.ca) }
    }

    fn want_list(&self, location: &str) {
        let location = location.parse().expect("an address or a file");
        self.fetched.want(vec![], vec![self.list_at(location)]).expect("one list");
    }

    /// Publishes a list that holds between so many days from now.
    fn publish_list(&self, days: std::ops::Range<u64>, number: u64) {
        let [from, until] = [days.start, days.end].map(|days| NOW + days * DAY_SECONDS);
        self.lists.publish("/a.crl", self.ca.list_between(from, until, number));
    }

    fn names(&self) -> Vec<String> {
        self.fetched
            .keys(&self.source())
            .iter()
            .flat_map(|it| it.names())
            .map(str::to_owned)
            .collect()
    }

    /// Why there are no newer keys.
    fn fault(&self) -> Option<KeysFault> {
        self.fetched.tenants().pop().and_then(|it| it.failure).map(|it| it.why)
    }

    fn list(&self) -> ListStatus {
        self.fetched.lists().pop().expect("a list is wanted")
    }

    fn list_fault(&self) -> Option<ListFault> {
        self.list().failure.map(|it| it.why)
    }
}

fn trust(ca: &SiteCa) -> Arc<CertificateTrust> {
    trust_of(&[ca])
}

fn trust_of(all: &[&SiteCa]) -> Arc<CertificateTrust> {
    let roots: Vec<_> = all.iter().map(|ca| ca.der()).collect();
    let roots: Vec<_> = roots.iter().map(Vec::as_slice).collect();
    let trust = CertificateTrust::new(&roots, &[], RevocationCheck::On, 1);
    Arc::new(trust.expect("authorities"))
}

/// Lists in one text, in whatever order.
fn pem(lists: &[Vec<u8>]) -> String {
    let block = |der| {
        let text = STANDARD.encode(der);
        format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n")
    };
    lists.iter().map(block).collect()
}

#[tokio::test(start_paused = true)]
async fn keys_that_rolled_come_by_one_request_for_a_thousand_who_ask_and_once_in_five_minutes() {
    let world = World::new();
    world.provider.publish_keys(TENANT, &["old"]);
    world.want_keys();
    assert_eq!(world.fetched.keys(&world.source()), None);
    let seen = world.fetched.changed(0).await;
    assert_eq!(world.names(), ["old"]);
    assert_eq!(world.provider.take().len(), 2, "metadata and keys");

    world.provider.publish_keys(TENANT, &["old", "new"]);
    let asking: Vec<_> = (0..1000)
        .map(|_| {
            let fetched = world.fetched.clone();
            let source = world.source();
            tokio::spawn(async move { fetched.ask_again(&source) })
        })
        .collect();
    let mut begun = 0;
    for asked in asking {
        begun += usize::from(asked.await.expect("an answer") == Asked::Begun);
    }
    assert_eq!(begun, 1);
    let seen = world.fetched.changed(seen).await;
    assert_eq!(world.names(), ["old", "new"]);
    assert_eq!(world.provider.take().len(), 2);

    world.provider.publish_keys(TENANT, &["new"]);
    sleep(298 * SECOND).await;
    for _ in 0..1000 {
        assert_eq!(world.fetched.ask_again(&world.source()), Asked::TooSoon);
    }
    sleep(SECOND).await;
    assert_eq!(world.provider.take(), []);
    sleep(2 * SECOND).await;
    assert_eq!(world.fetched.ask_again(&world.source()), Asked::Begun);
    world.fetched.changed(seen).await;
    assert_eq!(world.names(), ["new"], "the old key is gone");
    let other = KeySource::new(Guid(1), &world.provider.origin, ProviderVersion::V2);
    assert_eq!(world.fetched.ask_again(&other.expect("an address")), Asked::Unwanted);
}

#[tokio::test(start_paused = true)]
async fn while_one_fetches_whoever_asks_is_served_by_that_and_silence_ends_it_in_15_s() {
    let world = World::new();
    for (manner, is_heard) in [(Manner::Silent, 1), (Manner::Stalling, 1), (Manner::Silent, 0)] {
        world.provider.set(manner.clone());
        if is_heard == 0 {
            world.network.partition("instance", "login.example", Dials::Silent);
        }
        world.provider.take();
        world.fetched.want(vec![], vec![]).expect("nothing");
        world.want_keys();
        sleep(14 * SECOND).await;
        assert_eq!(world.fetched.ask_again(&world.source()), Asked::UnderWay, "{manner:?}");
        assert_eq!(world.fault(), None, "{manner:?}");
        sleep(2 * SECOND).await;
        assert_eq!(world.provider.take().len(), is_heard, "{manner:?}");
        let expected = KeysFault::Metadata(GetError::Timeout);
        assert_eq!(world.fault(), Some(expected), "{manner:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_provider_is_down_the_last_good_keys_stay_and_the_log_has_it_once() {
    let logs = Logs::capture();
    let world = World::new();
    world.provider.publish_keys(TENANT, &["key"]);
    world.want_keys();
    let seen = world.fetched.changed(0).await;
    world.provider.set(Manner::Down);
    sleep(3 * DAY).await;
    assert_eq!(world.names(), ["key"]);
    assert_eq!(world.fetched.generation(), seen);
    let status = world.fetched.tenants().pop().expect("a tenant");
    let failure = status.failure.expect("it fails");
    assert!(matches!(&failure.why, KeysFault::Metadata(GetError::Tls(_))), "{}", failure.why);
    assert!((200..2000).contains(&failure.count), "{}", failure.count);
    assert!(failure.since <= NOW + DAY_SECONDS, "since the first");
    assert!(status.fetched_at.is_some_and(|at| at < NOW + 60));
    assert!(status.next_in.is_some_and(|next| next <= 5 * MINUTE));
    assert_eq!(logs.with(&["not fetched"]).len(), 1);

    world.provider.set(Manner::Well);
    sleep(5 * MINUTE + SECOND).await;
    let status = world.fetched.tenants().pop().expect("a tenant");
    assert_eq!(status.failure, None);
    assert!(status.fetched_at.is_some_and(|at| at > NOW + 3 * DAY_SECONDS));
    assert_eq!(logs.with(&["keys of a tenant fetched"]).len(), 2);
    assert_eq!(world.fetched.generation(), seen, "they are the same");
}

#[tokio::test(start_paused = true)]
async fn keys_are_looked_at_daily_and_come_only_if_they_are_new() {
    let world = World::new();
    world.provider.publish_keys(TENANT, &["key"]);
    world.want_keys();
    let seen = world.fetched.changed(0).await;
    world.provider.take();
    sleep(DAY.mul_f64(0.89)).await;
    assert_eq!(world.provider.take(), []);
    sleep(DAY.mul_f64(0.12)).await;
    let asked: Vec<bool> = world.provider.take().into_iter().map(|(_, newer)| newer).collect();
    assert_eq!(asked, [false, true], "keys only if there are newer ones");
    assert_eq!((world.fetched.generation(), world.names()), (seen, vec!["key".to_owned()]));
    world.provider.publish_keys(TENANT, &["other"]);
    timeout(DAY, world.fetched.changed(seen)).await.expect("rolled within a day");
    assert_eq!(world.names(), ["other"]);
}

/// What a provider does wrong, where, and what is said of it.
fn wrongs() -> Vec<(&'static str, Manner, KeysFault)> {
    let metadata = |get| KeysFault::Metadata(get);
    let redirect = |to: &str| GetError::Redirect { status: 302, to: to.to_owned() };
    let says = |text: &str| Manner::Saying(text.to_owned().into());
    let wide = |octets| Manner::Saying(vec![b' '; octets].into());
    let too_long = |octets_max| GetError::TooLong { octets_max };
    vec![
        ("metadata", Manner::Status(404), metadata(GetError::Status(404))),
        ("metadata", Manner::Status(204), metadata(GetError::Status(204))),
        // Nobody has said what they have.
        ("metadata", Manner::Status(304), metadata(GetError::Status(304))),
        ("keys", Manner::Status(500), KeysFault::Keys(GetError::Status(500))),
        (
            "metadata",
            Manner::Redirecting("https://login.example/other?secret".to_owned()),
            metadata(redirect("https://login.example/other?…")),
        ),
        ("keys", Manner::Redirecting("/x".to_owned()), KeysFault::Keys(redirect("nowhere"))),
        ("metadata", Manner::Compressed, metadata(GetError::Encoded)),
        ("metadata", says("<html>"), KeysFault::NotMetadata(MetadataError::Malformed)),
        ("metadata", says("{}"), KeysFault::NotMetadata(MetadataError::Missing("issuer"))),
        ("keys", says("{}"), KeysFault::NotKeys(KeySetError::Malformed)),
        ("keys", says(r#"{"keys":[]}"#), KeysFault::NotKeys(KeySetError::NoneUsable)),
        ("metadata", wide(METADATA_OCTETS_MAX), KeysFault::NotMetadata(MetadataError::Malformed)),
        ("metadata", wide(METADATA_OCTETS_MAX + 1), metadata(too_long(METADATA_OCTETS_MAX))),
        ("keys", wide(KEY_SET_OCTETS_MAX), KeysFault::NotKeys(KeySetError::Malformed)),
        ("keys", wide(KEY_SET_OCTETS_MAX + 1), KeysFault::Keys(too_long(KEY_SET_OCTETS_MAX))),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_answers_wrongly_changes_nothing_and_the_reason_is_told() {
    let world = World::new();
    world.provider.publish_keys(TENANT, &["key"]);
    world.want_keys();
    world.fetched.changed(0).await;
    for (at, manner, expected) in wrongs() {
        let path = match at {
            "metadata" => metadata_path(TENANT),
            _ => format!("/{TENANT}/discovery/v2.0/keys"),
        };
        world.provider.set_at(&path, manner.clone());
        world.provider.take();
        sleep(5 * MINUTE).await;
        world.fetched.ask_again(&world.source());
        sleep(SECOND).await;
        assert_eq!(world.fault(), Some(expected), "{at} {manner:?}");
        assert_eq!(world.names(), ["key"], "{at} {manner:?}");
        let asked = world.provider.take();
        let known = |path: &str| path == metadata_path(TENANT) || path.ends_with("/keys");
        assert!(asked.iter().all(|(path, _)| known(path)), "no redirect is followed: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_that_sends_elsewhere_for_keys_has_nobody_asked_there() {
    let world = World::new();
    world.lists.publish_keys(TENANT, &["evil"]);
    let issuer = format!("{}/{TENANT}/v2.0", world.provider.origin);
    for jwks_uri in ["https://ca.example/keys", "http://ca.example/keys", "http://127.0.0.1/"] {
        let metadata = serde_json::json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string();
        world.provider.publish(&metadata_path(TENANT), metadata);
        world.fetched.want(vec![], vec![]).expect("nothing");
        world.want_keys();
        sleep(SECOND).await;
        let fault = world.fault().expect("it is refused");
        let is_elsewhere = matches!(fault, KeysFault::Elsewhere { .. } | KeysFault::Address { .. });
        assert!(is_elsewhere, "{fault}");
    }
    assert_eq!(world.lists.take(), []);
    assert_eq!(world.network.who_dialled().len(), 1, "the provider alone");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_proven_is_told_nothing() {
    let ca = SiteCa::new();
    for identity in [SiteCa::new().server("login.example"), ca.server("other.example")] {
        let network = MemoryNetwork::new(1);
        let tls = open_to_all(&identity);
        let provider = Provider::in_memory(&network.host("login.example"), Some(tls));
        provider.publish_keys(TENANT, &["key"]);
        let mut config = FetchConfig::new(&ca.anchors()).expect("anchors");
        config.network = Network::Memory(network.host("instance"));
        let (fetched, _driving) = driven(Fetched::new(config));
        let source = KeySource::new(TENANT, &provider.origin, ProviderVersion::V2);
        fetched.want(vec![source.expect("an address")], vec![]).expect("one tenant");
        sleep(SECOND).await;
        let failure = fetched.tenants().pop().and_then(|it| it.failure).expect("it fails");
        let is_tls = matches!(failure.why, KeysFault::Metadata(GetError::Tls(_)));
        assert!(is_tls, "{}", failure.why);
        assert_eq!(provider.take(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_no_more_is_forgotten_and_not_asked_for() {
    let world = World::new();
    world.provider.publish_keys(TENANT, &["key"]);
    world.publish_list(0..8, 1);
    let list = world.list_at(ListLocation::server("http://ca.example/a.crl").expect("an address"));
    world.fetched.want(vec![world.source()], vec![list.clone()]).expect("little");
    sleep(SECOND).await;
    assert_eq!((world.provider.take().len(), world.lists.take().len()), (2, 1));
    let seen = world.fetched.generation();
    world.fetched.want(vec![world.source()], vec![list.clone()]).expect("little");
    sleep(SECOND).await;
    assert_eq!((world.provider.take().len(), world.lists.take().len()), (0, 0), "nothing is new");
    assert_eq!((world.fetched.generation(), world.names().len()), (seen, 1));

    world.fetched.want(vec![], vec![]).expect("nothing");
    assert_eq!(world.fetched.changed(seen).await, seen + 1);
    assert_eq!((world.fetched.keys(&world.source()), world.fetched.lists().len()), (None, 0));
    sleep(3 * DAY).await;
    assert_eq!((world.provider.take().len(), world.lists.take().len()), (0, 0));

    world.provider.set(Manner::Silent);
    world.want_keys();
    sleep(SECOND).await;
    world.fetched.want(vec![], vec![list]).expect("one list");
    sleep(20 * SECOND).await;
    assert_eq!((world.fault(), world.list().state), (None, ListState::Held));
}

#[tokio::test(start_paused = true)]
async fn more_than_is_fetched_is_refused_whole() {
    let world = World::new();
    let keys = |count: u128| -> Vec<_> {
        let version = ProviderVersion::V2;
        (1..=count)
            .map(|tenant| KeySource::new(Guid(tenant), "https://login.example", version).unwrap())
            .collect()
    };
    let lists = |count: usize| -> Vec<_> {
        (0..count).map(|at| world.list_at(ListLocation::file(format!("/absent/{at}")))).collect()
    };
    let fetched = &world.fetched;
    fetched.want(keys(256), lists(LIST_SOURCES_MAX)).expect("as many as may be");
    assert_eq!(KEY_SOURCES_MAX, 256);
    assert_eq!(fetched.want(keys(257), vec![]), Err(WantError::TooManyTenants));
    assert_eq!(fetched.want(vec![], lists(LIST_SOURCES_MAX + 1)), Err(WantError::TooManyLists));
    assert_eq!((fetched.tenants().len(), fetched.lists().len()), (256, LIST_SOURCES_MAX));
    let twice = [keys(1), keys(1)].concat();
    fetched.want(twice, [lists(1), lists(1)].concat()).expect("one, said twice");
    assert_eq!((fetched.tenants().len(), fetched.lists().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_fetched_ahead_of_its_end_and_daily() {
    let world = World::new();
    world.publish_list(0..8, 1);
    world.want_list("http://ca.example/a.crl");
    let mut seen = world.fetched.changed(0).await;
    assert_eq!(world.list().state, ListState::Held);
    assert_eq!(world.lists.take(), [("/a.crl".to_owned(), false)]);
    sleep(4 * DAY).await;
    let asked = world.lists.take();
    assert!((4..=5).contains(&asked.len()), "daily: {asked:?}");
    assert!(asked.iter().all(|(_, newer)| *newer), "only for something newer");

    // Issued when six days are over, and overlapping: fetched before the old one is over.
    sleep(2 * DAY + MINUTE).await;
    world.publish_list(6..14, 2);
    let issued = Instant::now();
    loop {
        seen = world.fetched.changed(seen).await;
        assert_eq!(world.list().state, ListState::Held, "never over");
        if world.list().lists[0].next_update() == NOW + 14 * DAY_SECONDS {
            break;
        }
    }
    assert!(issued.elapsed() <= 2 * Duration::from_hours(1));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_over_is_told_as_such_once_and_its_successor_is_found() {
    let logs = Logs::capture();
    let world = World::new();
    world.publish_list(0..8, 1);
    world.want_list("http://ca.example/a.crl");
    sleep(SECOND).await;
    world.lists.set(Manner::Down);
    sleep(Duration::from_secs(8 * DAY_SECONDS - 2)).await;
    let list = world.list();
    assert_eq!((list.state, list.lists.len()), (ListState::Held, 1), "the last good one is kept");
    assert!(matches!(world.list_fault(), Some(ListFault::Get(GetError::Broken(_)))));
    let seen = world.fetched.generation();
    assert_eq!(logs.with(&["is over"]).len(), 0);
    sleep(SECOND).await;
    assert_eq!(world.list().state, ListState::Expired, "by the second");
    timeout(MINUTE, world.fetched.changed(seen)).await.expect("whoever waits is told");
    sleep(DAY).await;
    assert_eq!(logs.with(&["is over", "http://ca.example/a.crl"]).len(), 1);
    assert_eq!(logs.with(&["not fetched"]).len(), 1);

    world.publish_list(9..17, 2);
    world.lists.set(Manner::Well);
    sleep(5 * MINUTE + SECOND).await;
    assert_eq!((world.list().state, world.list_fault()), (ListState::Held, None));

    // A server that goes on to say that nothing is newer than what is over is not believed.
    world.lists.take();
    sleep(9 * DAY).await;
    assert_eq!(world.list().state, ListState::Expired);
    let asked = world.lists.take();
    assert_eq!(asked.last().map(|(_, newer)| *newer), Some(false), "all of it, not what is newer");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_ahead_has_a_list_fetched_and_told_as_over_within_a_minute() {
    let world = World::new();
    world.publish_list(0..8, 1);
    world.want_list("http://ca.example/a.crl");
    let seen = world.fetched.changed(0).await;
    world.lists.take();
    sleep(MINUTE).await;
    assert_eq!(world.lists.take(), []);
    world.ahead.store(20 * DAY_SECONDS, Ordering::Relaxed);
    assert_eq!(world.list().state, ListState::Expired, "to whoever looks, at once");
    timeout(MINUTE + SECOND, world.fetched.changed(seen)).await.expect("to whoever waits, soon");
    sleep(2 * MINUTE).await;
    let asked = world.lists.take();
    assert!((1..=3).contains(&asked.len()), "{asked:?}");
    assert_eq!(asked[0], ("/a.crl".to_owned(), false), "all of it");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_a_time_to_come_is_told_as_such() {
    let logs = Logs::capture();
    let world = World::new();
    world.publish_list(1..8, 1);
    world.want_list("http://ca.example/a.crl");
    sleep(2 * MINUTE).await;
    assert_eq!(world.list().state, ListState::NotYetValid);
    assert_eq!(logs.with(&["is this machine's clock right?"]).len(), 1);
    sleep(DAY).await;
    assert_eq!(world.list().state, ListState::Held);
}

#[tokio::test(start_paused = true)]
async fn whoever_drops_the_driver_ends_what_it_does_and_keeps_what_is_held() {
    let world = World::new();
    world.provider.publish_keys(TENANT, &["key"]);
    world.want_keys();
    world.fetched.changed(0).await;
    world.provider.set(Manner::Silent);
    sleep(5 * MINUTE).await;
    world.fetched.ask_again(&world.source());
    sleep(SECOND).await;
    let connections = || world.network.between("instance", "login.example").len();
    assert_eq!(connections(), 1);
    world.driving.0.abort();
    sleep(SECOND).await;
    assert_eq!((connections(), world.names()), (0, vec!["key".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_nobody_trusted_has_signed_or_an_older_one_takes_no_place() {
    let world = World::new();
    world.publish_list(0..8, 5);
    world.want_list("http://ca.example/a.crl");
    sleep(SECOND).await;
    let good = world.list().lists;
    let foreign = SiteCa::new().list_between(NOW, NOW + 99 * DAY_SECONDS, 9);
    let wrongs: [(Vec<u8>, ListFault); 4] = [
        (foreign, CrlFault::Unsigned.into()),
        (world.ca.list_between(NOW, NOW + 99 * DAY_SECONDS, 4), CrlFault::Older.into()),
        (b"<html>".to_vec(), ListFault::NotAList),
        (good[0].der()[..100].to_vec(), CrlFault::Malformed.into()),
    ];
    for (octets, fault) in wrongs {
        world.lists.publish("/a.crl", octets);
        sleep(DAY + SECOND).await;
        assert_eq!(world.list_fault(), Some(fault));
        assert_eq!((world.list().lists, world.list().state), (good.clone(), ListState::Held));
    }

    // With its authority published, the list counts.
    let other = SiteCa::new();
    world.lists.publish("/a.crl", other.list_between(NOW, NOW + 99 * DAY_SECONDS, 1));
    sleep(5 * MINUTE).await;
    assert_eq!(world.list_fault(), Some(CrlFault::Unsigned.into()));
    let location = ListLocation::server("http://ca.example/a.crl").expect("an address");
    let source = ListSource { location, authorities: trust(&other) };
    world.fetched.want(vec![], vec![source]).expect("one list");
    sleep(SECOND).await;
    assert_eq!(world.list_fault(), None);
    assert_eq!(world.list().lists[0].next_update(), NOW + 99 * DAY_SECONDS);
}

#[tokio::test(start_paused = true)]
async fn of_each_authority_the_newest_list_stays_whatever_the_place_gives_next() {
    let (world, other) = (World::new(), SiteCa::new());
    let location = ListLocation::server("http://ca.example/a.crl").expect("an address");
    let want = |authorities| {
        let source = ListSource { location: location.clone(), authorities };
        world.fetched.want(vec![], vec![source]).expect("one list");
    };
    let list = |ca: &SiteCa, days, number| ca.list_between(NOW, NOW + days * DAY_SECONDS, number);
    let held = || -> Vec<u64> {
        world.list().lists.iter().map(|it| (it.next_update() - NOW) / DAY_SECONDS).collect()
    };
    want(trust_of(&[&world.ca, &other]));
    let theirs = list(&other, 91, 1);
    let steps = [
        (list(&world.ca, 90, 5), None, vec![90]),
        (theirs.clone(), None, vec![90, 91]),
        (list(&world.ca, 89, 4), Some(CrlFault::Older), vec![90, 91]),
        (theirs.clone(), None, vec![90, 91]),
        (list(&world.ca, 89, 4), Some(CrlFault::Older), vec![90, 91]),
        (list(&world.ca, 92, 6), None, vec![92, 91]),
    ];
    for (octets, fault, expected) in steps {
        world.lists.publish("/a.crl", octets);
        sleep(DAY + SECOND).await;
        assert_eq!((world.list_fault(), held()), (fault.map(ListFault::from), expected));
        assert_eq!(world.list().state, ListState::Held);
    }
    let seen = world.fetched.generation();
    world.lists.publish("/a.crl", theirs);
    sleep(DAY + SECOND).await;
    assert_eq!(world.fetched.generation(), seen, "what is held already is no change");

    // Whose list it is that nobody trusts any more is forgotten, once there is another.
    want(trust(&other));
    sleep(SECOND).await;
    assert_eq!((world.list_fault(), held()), (None, vec![91]));
}

#[tokio::test(start_paused = true)]
async fn a_place_has_16_lists_held_and_one_more_takes_the_room_of_one_that_is_over() {
    let (world, others) = (World::new(), (0..17).map(|_| SiteCa::new()).collect::<Vec<_>>());
    let location = ListLocation::server("http://ca.example/a.crl").expect("an address");
    let authorities = trust_of(&others.iter().collect::<Vec<_>>());
    world.fetched.want(vec![], vec![ListSource { location, authorities }]).expect("one place");
    let list = |at: usize, days| others[at].list_between(NOW, NOW + days * DAY_SECONDS, 1);
    // The first of them is over soonest, the second somewhat later.
    let days = |at| [10, 12].get(at).copied().unwrap_or(99);
    let first: Vec<_> = (0..15).map(|at| list(at, days(at))).collect();
    world.lists.publish("/a.crl", pem(&first));
    sleep(SECOND).await;
    assert_eq!(world.list().lists.len(), 15);
    for (at, fault) in [(15, None), (16, Some(ListFault::TooMany))] {
        world.lists.publish("/a.crl", list(at, 99));
        sleep(DAY + SECOND).await;
        assert_eq!((world.list_fault(), world.list().lists.len()), (fault, 16));
    }
    sleep(10 * DAY).await;
    assert_eq!((world.list_fault(), world.list().lists.len()), (None, 16));
    let ends: Vec<_> = world.list().lists.iter().map(Crl::next_update).collect();
    assert!(!ends.contains(&(NOW + 10 * DAY_SECONDS)), "the one that was over first has gone");
    assert!(ends.contains(&(NOW + 12 * DAY_SECONDS)), "another one stays, over or not");
}

#[tokio::test(start_paused = true)]
async fn a_place_whose_list_is_over_beside_another_is_asked_each_minute_for_a_day_then_each_hour() {
    let (world, other) = (World::new(), SiteCa::new());
    let location = ListLocation::server("http://ca.example/a.crl").expect("an address");
    let authorities = trust_of(&[&world.ca, &other]);
    world.fetched.want(vec![], vec![ListSource { location, authorities }]).expect("one place");
    world.publish_list(0..2, 1);
    sleep(SECOND).await;
    world.lists.publish("/a.crl", other.list_between(NOW, NOW + 99 * DAY_SECONDS, 1));
    sleep(2 * DAY).await;
    assert_eq!((world.list().state, world.list().lists.len()), (ListState::Expired, 2));
    for (passes, expected) in [(1439 * MINUTE, 1400..1700), (2 * MINUTE, 0..4), (DAY, 20..30)] {
        world.lists.take();
        sleep(passes).await;
        let asked = world.lists.take().len();
        assert!(expected.contains(&asked), "{asked} times in {passes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stays_takes_of_the_room_for_all_of_them_until_it_is_over() {
    let [first, second, third] = [0; 3].map(|_| SiteCa::new());
    let whole = first.list_between(NOW, NOW + DAY_SECONDS, 1).len();
    let world = World::with_room(2 * whole + 16);
    let location = ListLocation::server("http://ca.example/a.crl").expect("an address");
    let authorities = trust_of(&[&first, &second, &third]);
    world.fetched.want(vec![], vec![ListSource { location, authorities }]).expect("one place");
    let no_room = ListFault::NoRoom { octets_max: 2 * whole + 16 };
    for (ca, days, fault, held) in
        [(&first, 4, None, 1), (&second, 99, None, 2), (&third, 99, Some(no_room), 2)]
    {
        world.lists.publish("/a.crl", ca.list_between(NOW, NOW + days * DAY_SECONDS, 1));
        sleep(DAY + SECOND).await;
        assert_eq!((world.list_fault(), world.list().lists.len()), (fault, held));
    }
    sleep(DAY + 5 * MINUTE).await;
    assert_eq!((world.list_fault(), world.list().state), (None, ListState::Held));
    let ends: Vec<_> = world.list().lists.iter().map(Crl::next_update).collect();
    assert_eq!(ends, [NOW + 99 * DAY_SECONDS; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_list_in_a_file_is_read_in_either_form_and_read_again_when_it_was_replaced() {
    let world = World::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.crl");
    world.want_list(path.to_str().expect("a path"));
    sleep(SECOND).await;
    assert!(matches!(world.list_fault(), Some(ListFault::File(_))));
    assert_eq!(world.list().state, ListState::Awaited);

    let list = |days, number| world.ca.list_between(NOW, NOW + days * DAY_SECONDS, number);
    fs::write(&path, list(8, 1)).expect("a file");
    sleep(10 * SECOND).await;
    assert_eq!((world.list().state, world.list_fault()), (ListState::Held, None));

    fs::write(&path, pem(&[list(9, 2)])).expect("a file");
    sleep(MINUTE + SECOND).await;
    assert_eq!(world.list().lists[0].next_update(), NOW + 9 * DAY_SECONDS);

    fs::write(&path, pem(&[list(9, 3)]).repeat(17)).expect("a file");
    sleep(MINUTE + SECOND).await;
    assert_eq!(world.list_fault(), Some(ListFault::TooMany));
    fs::remove_file(&path).expect("it was there");
    sleep(MINUTE).await;
    assert_eq!(world.list().state, ListState::Held, "what was read still holds");
}

#[tokio::test(start_paused = true)]
async fn lists_beyond_the_room_for_all_of_them_are_refused_and_others_stay() {
    let whole = SiteCa::new().list_between(NOW, NOW + DAY_SECONDS, 1).len();
    let world = World::with_room(2 * whole + 16);
    for name in ["a", "b", "c"] {
        let list = world.ca.list_between(NOW, NOW + 8 * DAY_SECONDS, 1);
        world.lists.publish(&format!("/{name}.crl"), list);
    }
    let at = |name| ListLocation::server(&format!("http://ca.example/{name}.crl"));
    let wanted = ["a", "b", "c"].map(|name| world.list_at(at(name).expect("an address")));
    world.fetched.want(vec![], wanted.to_vec()).expect("three lists");
    sleep(SECOND).await;
    let is_refused = |it: &ListStatus| {
        let octets_max = 2 * whole + 16;
        it.failure.as_ref().is_some_and(|it| it.why == ListFault::NoRoom { octets_max })
    };
    let lists = world.fetched.lists();
    assert_eq!(lists.iter().filter(|it| it.state == ListState::Held).count(), 2);
    assert_eq!(lists.iter().filter(|it| is_refused(it)).count(), 1);
    let held: Vec<_> = wanted.into_iter().zip(&lists).filter(|(_, it)| !is_refused(it)).collect();
    let one = held.into_iter().map(|(source, _)| source).next().expect("two are held");
    let other = world.list_at(at("c").expect("an address"));
    world.fetched.want(vec![], vec![one, other]).expect("two lists");
    sleep(5 * MINUTE).await;
    assert!(world.fetched.lists().iter().all(|it| it.state == ListState::Held));
}

#[tokio::test(start_paused = true)]
async fn the_query_of_an_address_is_asked_for_and_shown_nowhere() {
    let logs = Logs::capture_all();
    let world = World::new();
    world.want_list("http://ca.example/a.crl?sig=hidden");
    sleep(SECOND).await;
    assert_eq!(world.list_fault(), Some(ListFault::Get(GetError::Status(404))));
    assert_eq!(logs.with(&["http://ca.example/a.crl?…", "404"]).len(), 1);
    assert_eq!(logs.with(&["hidden"]), [""; 0]);
    assert!(!format!("{:?}", world.fetched).contains("hidden"));
}

/// Waits for a change, but not for ever.
async fn changed(fetched: &Fetched, seen: u64) -> u64 {
    timeout(30 * SECOND, fetched.changed(seen)).await.expect("a change")
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sockets_keys_roll_by_one_request_for_a_thousand_who_ask_at_once() {
    let ca = SiteCa::new();
    let tls = open_to_all(&ca.server("localhost"));
    let provider = Provider::on_loopback(Some(tls)).await;
    provider.publish_keys(TENANT, &["old"]);
    let (fetched, _driving) =
        driven(Fetched::new(FetchConfig::new(&ca.anchors()).expect("anchors")));
    let source = KeySource::new(TENANT, &provider.origin, ProviderVersion::V2);
    let source = source.expect("an address");
    fetched.want(vec![source.clone()], vec![]).expect("one tenant");
    let seen = changed(&fetched, 0).await;
    assert_eq!(provider.take().len(), 2);

    provider.publish_keys(TENANT, &["new"]);
    let asking: Vec<_> = (0..1000)
        .map(|_| {
            let fetched = fetched.clone();
            let source = source.clone();
            tokio::spawn(async move { fetched.ask_again(&source) })
        })
        .collect();
    let mut begun = 0;
    for asked in asking {
        begun += usize::from(asked.await.expect("an answer") == Asked::Begun);
    }
    changed(&fetched, seen).await;
    let keys = fetched.keys(&source).expect("keys");
    assert_eq!((begun, keys.names().collect::<Vec<_>>()), (1, vec!["new"]));
    assert_eq!(provider.take().len(), 2);
}

#[tokio::test]
async fn over_sockets_an_answer_without_an_end_is_given_up_at_its_limit() {
    let ca = SiteCa::new();
    let provider = Provider::on_loopback(Some(open_to_all(&ca.server("localhost")))).await;
    provider.set(Manner::Endless);
    let (fetched, _driving) =
        driven(Fetched::new(FetchConfig::new(&ca.anchors()).expect("anchors")));
    let source = KeySource::new(TENANT, &provider.origin, ProviderVersion::V2);
    fetched.want(vec![source.expect("an address")], vec![]).expect("one tenant");
    let fault = || fetched.tenants().pop().and_then(|it| it.failure).map(|it| it.why);
    until(|| fault().is_some()).await;
    let octets_max = METADATA_OCTETS_MAX;
    assert_eq!(fault(), Some(KeysFault::Metadata(GetError::TooLong { octets_max })));
}

#[tokio::test]
async fn over_sockets_a_list_of_plain_http_is_held() {
    let ca = SiteCa::new();
    let server = Provider::on_loopback(None).await;
    server.publish("/a.crl", ca.list_between(0, 4_000_000_000, 1));
    let (fetched, _driving) =
        driven(Fetched::new(FetchConfig::new(&ca.anchors()).expect("anchors")));
    let location = ListLocation::server(&format!("{}/a.crl", server.origin)).expect("an address");
    let source = ListSource { location, authorities: trust(&ca) };
    fetched.want(vec![], vec![source]).expect("one list");
    changed(&fetched, 0).await;
    let list = fetched.lists().pop().expect("it is wanted");
    assert_eq!((list.state, list.lists[0].next_update()), (ListState::Held, 4_000_000_000));
    assert_eq!(server.take(), [("/a.crl".to_owned(), false)]);
}
