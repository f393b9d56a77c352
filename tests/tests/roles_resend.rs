//! What becomes of a request whose backend breaks off, and of what is known of a backend when the
//! configuration is read again. Deliveries are counted at the backends.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Uri;
use relay_core::connection_point::{BackendConfig, BackendState, Update};
use relay_core::policy::EndpointKind;
use relay_core::transport::memory::{MemoryNetwork, MemoryStream};
use relay_core::transport::{ClientCertificates, TrustAnchors, backend_client_config_showing};
use relay_tests::bed::{Bed, Role};
use relay_tests::client::{Answer, Client, Http, bare, with_body};
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, join, target, until, within};
use relay_tests::site::{fed, full};
use relay_tests::tls_site::{SecureBackend, open_to_all};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

const WELL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A site role that answers the requests of each connection with what `script` has, in order, and
/// breaks off with the last one.
fn scripted(
    network: &MemoryNetwork,
    name: &'static str,
    script: &'static [&'static [u8]],
) -> (Role, Arc<AtomicUsize>) {
    let deliveries = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&deliveries);
    let counters = (Arc::default(), Arc::default());
    let role = Role::serving(network, name, counters, move |mut stream: MemoryStream| {
        let count = Arc::clone(&count);
        async move {
            for answer in script {
                if !matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                stream.write_all(answer).await.unwrap();
            }
        }
    });
    (role, deliveries)
}

fn reason(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status(), answer.reason())
}

const BROKEN: (u16, Option<&str>) = (502, Some("CMGConnector_Bad_Gateway"));

async fn ask(bed: &Bed, verb: &str) -> Answer {
    bed.client().await.ask(bare(verb, &target("/SMS_MP/x"))).await
}

#[tokio::test(start_paused = true)]
async fn a_request_that_changes_nothing_is_sent_once_more_to_another_backend_if_one_breaks_off() {
    within(async {
        for verb in ["GET", "HEAD", "PROPFIND"] {
            let network = MemoryNetwork::new(1);
            let (_a, at_a) = scripted(&network, "a", &[b""]);
            let b = Role::start(&network, "b", Duration::ZERO);
            let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
            for _ in 0..8 {
                assert_eq!(reason(&ask(&bed, verb).await), (200, None), "{verb}");
            }
            assert_eq!((at_a.load(Ordering::Relaxed), b.requests()), (4, 8), "{verb}");
        }
    })
    .await;
}

/// How often a request reaches backends that all break off.
async fn deliveries(verb: &'static str, has_body: bool) -> usize {
    let network = MemoryNetwork::new(1);
    let roles = ["a", "b", "c"].map(|name| scripted(&network, name, &[b""]));
    let bed = Bed::new(&network, &["a", "b", "c"], |_| ()).await;
    let (bed, path) = match verb {
        "POST" => (bed.of_kind(EndpointKind::SoftwareUpdatePoint).await, "/ClientWebService/x"),
        _ => (bed, "/SMS_MP/x"),
    };
    let path = target(path);
    let changing = || with_body(verb, &path, full("what changes something"));
    let request = if has_body { changing() } else { bare(verb, &path) };
    assert_eq!(bed.client().await.ask(request).await.status(), 502, "{verb}");
    roles.iter().map(|(_, at)| at.load(Ordering::Relaxed)).sum()
}

#[tokio::test(start_paused = true)]
async fn no_request_is_delivered_more_than_twice_and_none_that_may_change_something_twice() {
    within(async {
        for (verb, bare, with_body) in [
            ("GET", 2, 1),
            ("HEAD", 2, 1),
            ("PROPFIND", 2, 1),
            ("CCM_POST", 1, 1),
            ("BITS_POST", 1, 1),
            ("POST", 1, 1),
        ] {
            let found = [deliveries(verb, false).await, deliveries(verb, true).await];
            assert_eq!(found, [bare, with_body], "{verb}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_breaks_is_replaced_for_a_request_that_changes_nothing() {
    within(async {
        for (verb, status, deliveries, connections) in
            [("GET", 200, 3, 2), ("PROPFIND", 200, 3, 2), ("CCM_POST", 502, 2, 1)]
        {
            let network = MemoryNetwork::new(1);
            let (a, at_a) = scripted(&network, "a", &[WELL, b""]);
            let bed = Bed::new(&network, &["a"], |_| ()).await;
            assert_eq!(ask(&bed, "GET").await.status(), 200);
            assert_eq!(ask(&bed, verb).await.status(), status, "{verb}");
            assert_eq!(at_a.load(Ordering::Relaxed), deliveries, "{verb}");
            assert_eq!(a.connections(), connections, "{verb}");
        }
        let network = MemoryNetwork::new(1);
        let (_a, at_a) = scripted(&network, "a", &[b""]);
        let bed = Bed::new(&network, &["a"], |_| ()).await;
        assert_eq!(reason(&ask(&bed, "GET").await), BROKEN, "a new one that breaks is no race");
        assert_eq!(at_a.load(Ordering::Relaxed), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_of_whose_answer_an_octet_came_is_not_sent_again() {
    const PIECES: [&[&[u8]]; 3] =
        [&[b"H"], &[b"HTTP/1.1 200 OK\r\nContent-Le"], &[b"HTTP/1.1 103 Early Hints\r\n\r\n"]];
    within(async {
        for piece in PIECES {
            let network = MemoryNetwork::new(1);
            let roles = ["a", "b"].map(|name| scripted(&network, name, piece));
            let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
            assert_eq!(reason(&ask(&bed, "GET").await), BROKEN);
            let all: usize = roles.iter().map(|(_, at)| at.load(Ordering::Relaxed)).sum();
            assert_eq!(all, 1, "{:?}", String::from_utf8_lossy(piece[0]));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_has_the_time_of_one_request_and_blames_nobody_for_the_rest() {
    within(async {
        let network = MemoryNetwork::new(1);
        let counters = (Arc::default(), Arc::default());
        let _a = Role::serving(&network, "a", counters, |mut stream: MemoryStream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            sleep(3 * S).await;
        });
        let _b = Role::start(&network, "b", 60 * S);
        let bed = Bed::new(&network, &["a", "b"], |backend| {
            backend.limits.answer = Some(5 * S);
            backend.limits.failures_max = Some(1);
        })
        .await;
        let (answer, took) = bed.ask("GET").await;
        assert_eq!(reason(&answer), (504, Some("CMGConnector_Timeout")));
        assert!((5 * S..5 * S + 10 * MS).contains(&took), "{took:?}");
        assert_eq!(bed.status("b").state, BackendState::Up);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_takes_a_connection_that_is_kept_where_no_other_may_be_opened() {
    within(async {
        let network = MemoryNetwork::new(1);
        let (_a, at_a) = scripted(&network, "a", &[b""]);
        let b = Role::start(&network, "b", Duration::ZERO);
        let bed = Bed::new(&network, &["a", "b"], |backend| {
            backend.limits.connections_max = Some(1);
            backend.limits.failures_max = Some(1);
        })
        .await;
        for _ in 0..6 {
            let (answer, took) = bed.ask("GET").await;
            assert_eq!((reason(&answer), took < S), ((200, None), true), "{took:?}");
        }
        assert_eq!((at_a.load(Ordering::Relaxed), b.requests()), (3, 6));
        let b = bed.status("b");
        assert_eq!((b.state, b.why), (BackendState::Up, None));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_delivered_is_not_told_that_no_connection_came_free() {
    within(async {
        let network = MemoryNetwork::new(1);
        let (_a, at_a) = scripted(&network, "a", &[b""]);
        let _b = Role::start(&network, "b", 100 * S);
        let bed = Bed::new(&network, &["a", "b"], |backend| {
            backend.limits.connections_max = Some(1);
            backend.limits.wait = Some(60 * S);
            backend.limits.answer = Some(20 * S);
        })
        .await;
        let reasons = bed.ask_at_once(2).await;
        let timeout = (504, Some("CMGConnector_Timeout".to_owned()));
        assert_eq!(reasons, [timeout.clone(), timeout]);
        assert_eq!(at_a.load(Ordering::Relaxed), 1);
    })
    .await;
}

/// What `bed` was made from, after `change`, as an update to `version`.
fn update(bed: &Bed, version: u64, change: impl FnOnce(&mut BackendConfig)) -> Update {
    let mut site = bed.house.site_endpoint();
    change(&mut site.backend);
    let (gateways, tenants) = (Vec::new(), Vec::new());
    Update { gateways, endpoints: vec![site], tenants, clients: None, settings_version: version }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_rests_and_the_connections_to_one_that_works_outlive_an_update() {
    within(async {
        let network = MemoryNetwork::new(1);
        let b = Role::start(&network, "b", Duration::ZERO);
        let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
        for _ in 0..8 {
            assert_eq!(ask(&bed, "GET").await.status(), 200);
        }
        let before = bed.status("a");
        assert_eq!((before.state, b.connections()), (BackendState::Resting, 1));
        let more = |backend: &mut BackendConfig| {
            backend.urls.insert(0, Uri::from_static("http://c"));
        };
        for change in [None, Some(more)] {
            bed.point.update(update(&bed, 1, |to| _ = change.map(|change| change(to)))).unwrap();
            let after = bed.status("a");
            assert_eq!((after.state, after.until), (before.state, before.until));
            assert_eq!((after.since, after.why), (before.since, before.why.clone()));
            assert_eq!(ask(&bed, "GET").await.status(), 200);
            assert_eq!(b.connections(), 1, "it is used again");
        }
        // Other limits are another backend.
        bed.point.update(update(&bed, 1, |to| to.limits.idle = Some(S))).unwrap();
        assert_eq!(bed.status("a").state, BackendState::Up);
        assert_eq!(bed.status("b").connections, 0);
    })
    .await;
}

#[tokio::test]
async fn a_connection_over_https_outlives_an_update_that_makes_the_same_tls_anew() {
    within(async {
        let (ca, other) = (SiteCa::new(), SiteCa::new());
        let backend = SecureBackend::start(open_to_all(&ca.server("localhost"))).await;
        let url: Uri = format!("https://localhost:{}", backend.address.port()).parse().unwrap();
        let shown = ca.connection_point("cp");
        let secured = |trusted: &[&SiteCa], name: &str| {
            let set = Arc::new(ClientCertificates::new("mp").with(name, Ok(shown.clone())));
            let anchors = TrustAnchors::new(trusted.iter().map(|ca| ca.certificate())).unwrap();
            let tls = backend_client_config_showing(&anchors, Arc::clone(&set)).unwrap();
            let mut config = BackendConfig::new(url.clone(), Some(tls));
            (config.trust, config.certificates) = (Some(anchors), Some(set));
            config
        };
        let mut house = House::before(backend.address);
        house.backend = Some(secured(&[&ca], "a"));
        let gateway = house.gateway(1);
        let point = house.connection_point(Vec::new());
        let _link = join(&gateway, &point).await;
        let connections = || point.status().backends[0].connections;
        for (trusted, name, kept) in [
            (&[&ca][..], "a", 1),
            (&[&ca, &other], "a", 0),
            (&[&ca, &other], "b", 0),
            (&[&ca, &other], "b", 1),
        ] {
            let mut client = Client::join(&gateway, &house.ca, Http::One).await;
            let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!(reason(&answer), (200, None));
            until(|| connections() == 1).await;
            let mut site = house.site_endpoint();
            site.backend = secured(trusted, name);
            let (gateways, tenants) = (Vec::new(), Vec::new());
            let endpoints = vec![site];
            let update =
                Update { gateways, endpoints, tenants, clients: None, settings_version: 1 };
            point.update(update).unwrap();
            assert_eq!(connections(), kept, "{name}, {} trusted", trusted.len());
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_or_goes_away_is_not_held_against_the_backend() {
    within(async {
        let network = MemoryNetwork::new(1);
        let _a = Role::start(&network, "a", 30 * S);
        let bed = Bed::new(&network, &["a"], |backend| {
            backend.limits.answer = Some(2 * S);
            backend.limits.failures_max = Some(1);
        })
        .await;
        let is_well = || {
            let status = bed.status("a");
            assert_eq!((status.state, status.failures, status.why), (BackendState::Up, 0, None));
        };
        for verb in ["GET", "CCM_POST"] {
            let mut client = bed.client().await;
            let request = match verb {
                "GET" => bare(verb, &target("/SMS_MP/x")),
                _ => with_body(verb, &target("/SMS_MP/x"), full("whole")),
            };
            assert!(timeout(S, client.ask(request)).await.is_err());
            drop(client);
            until(|| bed.gateway.in_flight() == 0).await;
            sleep(10 * S).await;
            is_well();
        }
        let (feed, body) = fed();
        feed.send("half".into()).await.unwrap();
        let stalled = with_body("CCM_POST", &target("/SMS_MP/x"), body);
        let answer = bed.client().await.ask(stalled).await;
        assert_eq!(answer.status(), 504, "the connection point's time is shorter");
        is_well();
        assert_eq!(bed.ask("GET").await.0.status(), 504);
        assert_eq!(bed.status("a").state, BackendState::Resting, "that was the backend's");
    })
    .await;
}
