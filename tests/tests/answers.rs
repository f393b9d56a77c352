//! Every answer of the table in `gateway/ANSWERS.md`, asked for from outside over real sockets.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use relay_core::connection_point::{BackendConfig, ConnectionPoint};
use relay_core::exchange::{AbortCode, HeadLimits, RequestHead};
use relay_core::gateway::MemoryLimit;
use relay_core::link::Link;
use relay_core::mux::{Config, HeadKind, StreamCode};
use relay_core::policy::EndpointKind;
use relay_core::settings::SettingsDocument;
use relay_core::transport::{ClientCertificates, backend_client_config_showing};
use relay_tests::client::tls;
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, counted, counted_since, target, until, within};
use relay_tests::running::{Instance, dialling};
use relay_tests::site::{Backend, RawBackend, full, nobody};
use relay_tests::tls_site::{SecureBackend, demanding, open_to_all};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Status and reason.
type Told = (u16, String);

/// Answers that no client of HTTP/1.1 can bring about alone, with the reason why.
const NOT_FROM_OUTSIDE: [(&str, &str); 5] = [
    ("CMGService_Bad_Body", "whoever breaks a body off has closed its connection"),
    ("CMGConnector_Bad_Header", "the gateway judges by the same rule, and first"),
    ("CMGConnector_Unsafe_Path", "the gateway judges by the same rule, and first"),
    ("CMGConnector_Bad_Target", "over HTTP/1.1 the gateway judges by the same rule, and first"),
    ("CMGConnector_Expectation_Failed", "the same; `roles_backend.rs` asks for it over HTTP/2"),
];

/// The rows of the table.
fn table() -> BTreeSet<Told> {
    let rows = include_str!("../../relay-core/src/gateway/ANSWERS.md").lines();
    let rows = rows.filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let status = cells[0].parse().ok().filter(|_| cells.len() == 6)?;
        Some((status, cells[1].trim_matches('`').to_owned()))
    });
    rows.collect()
}

/// Says `request` on a connection of its own, and reads the head of the answer. The instance must
/// have counted it, unless the connection point gave it, and nothing else.
async fn say(house: &House, instance: &Instance, request: &str) -> Told {
    let before = counted(instance.gateway.status().counts);
    let stream = TcpStream::connect(instance.clients).await.unwrap();
    let mut stream = tls(stream, &house.ca, b"http/1.1").await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.windows(4).any(|octets| octets == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "no answer to {request:.200}");
    }
    let head = String::from_utf8_lossy(&head);
    let first = head.lines().next().unwrap();
    let (status, phrase) = first.strip_prefix("HTTP/1.1 ").unwrap().split_once(' ').unwrap();
    let reason = head.lines().find_map(|line| line.strip_prefix("relay-reason: "));
    assert_eq!(reason, Some(phrase), "{request:.200}\n{head}");
    let moved = counted_since(&before, &instance.gateway);
    let is_of_the_point = moved.is_empty() && phrase.starts_with("CMGConnector_");
    assert!(is_of_the_point || moved == BTreeMap::from([(phrase, 1)]), "{phrase}: {moved:?}");
    (status.parse().unwrap(), phrase.to_owned())
}

/// Asks for a path of the management point.
async fn ask(house: &House, instance: &Instance, verb: &str, path: &str, rest: &str) -> Told {
    let target = target(path);
    say(house, instance, &format!("{verb} {target} HTTP/1.1\r\nHost: relay.test\r\n{rest}\r\n"))
        .await
}

/// Asserts that `point` has counted each of `answers` once, and nothing else.
fn assert_counted(point: &ConnectionPoint, answers: &[Told]) {
    let expected = answers.iter().map(|(_, reason)| (reason.as_str(), 1));
    assert_eq!(counted(point.status().counts), expected.collect());
}

/// What is refused before any link is asked.
async fn refused(told: &mut BTreeSet<Told>) {
    let mut house = House::before(nobody().await);
    house.endpoint.0.request_body_bytes_max = Some(1000);
    house.gateway_limits.link_credit = Duration::ZERO;
    house.initial = vec![house.document()];
    let instance = Instance::start(&house, 1).await;
    let long = |octets: usize| "a".repeat(octets);
    let chunked = "Transfer-Encoding: chunked\r\n";
    for rest in [
        format!("Content-Length: 1\r\n{chunked}"),
        "Content-Length: +1\r\n".to_owned(),
        "X : y\r\n".to_owned(),
        "Connection: CCMClientID\r\n".to_owned(),
        "Host: other.test\r\n".to_owned(),
        "X: y\n".to_owned(),
        "X: \u{1}\r\n".to_owned(),
        "X: y\r\n z\r\n".to_owned(),
        "Transfer-Encoding: gzip\r\n".to_owned(),
        "Expect: x\r\n".to_owned(),
        "Content-Length: 1001\r\n".to_owned(),
        format!("X: {}\r\n", long(9000)),
        format!("X: {}\r\n", long(7000)).repeat(5),
        "X: y\r\n".repeat(64),
    ] {
        told.insert(ask(&house, &instance, "CCM_POST", "/SMS_MP/x", &rest).await);
    }
    for (verb, path) in [("GET", "/else"), ("GET", "/SMS_MP/../x"), ("DELETE", "/SMS_MP/x")] {
        told.insert(ask(&house, &instance, verb, path, "").await);
    }
    let host = "Host: relay.test\r\n\r\n";
    for request in [
        format!("GET  / HTTP/1.1\r\n{host}"),
        format!("GET /a<b HTTP/1.1\r\n{host}"),
        format!("CONNECT relay.test:443 HTTP/1.1\r\n{host}"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\n{host}", long(9000)),
        format!("GET / HTTP/3.0\r\n{host}"),
        format!("GET /CCM_Proxy_ServerAuth/AADAuthInfo?TenantID=1 HTTP/1.1\r\n{host}"),
    ] {
        told.insert(say(&house, &instance, &request).await);
    }
    // Published, and nobody is there to be asked.
    told.insert(ask(&house, &instance, "GET", "/SMS_MP/x", "").await);
}

/// Does with each request as the last segment of its path says.
async fn obey(link: Link) {
    while let Ok(mut incoming) = link.accept().await {
        let head = RequestHead::decode(incoming.head.clone(), &HeadLimits::default()).unwrap();
        match head.target.path().rsplit('/').next().unwrap() {
            "lose" => link.close(),
            "garble" => {
                let garbage = Bytes::from_static(b"\xff\xff\xff");
                incoming.send.send_head(garbage, HeadKind::FinalAndEnd).unwrap();
            }
            "hold" => {
                tokio::spawn(async move { incoming.send.stopped().await });
            }
            code => incoming.send.reset(StreamCode(code.parse().unwrap())),
        }
    }
}

/// What a connection point brings about that gives up, falls silent or is lost.
async fn given_up(told: &mut BTreeSet<Told>) {
    let mut house = House::before(nobody().await);
    // Long enough for a stream's place to come back on a machine that is busy.
    house.gateway_limits.link_credit = Duration::from_secs(1);
    let instance = Instance::start(&house, 1).await;
    let silent = house.silent_connection_point(&instance.gateway, Config::default()).await;
    told.insert(ask(&house, &instance, "GET", "/SMS_MP/x", "").await);
    silent.lose();
    until(|| instance.gateway.links() == 0).await;

    let config = Config { accept_streams_max: 1, ..Config::default() };
    let rogue = house.rogue_connection_point(&instance.gateway, config).await;
    tokio::spawn(obey(rogue.link.clone()));
    let known = AbortCode::KNOWN.map(AbortCode::to_wire);
    for code in known.into_iter().chain([0x1ff]) {
        told.insert(ask(&house, &instance, "GET", &format!("/SMS_MP/{code}"), "").await);
    }
    let chunked = "Transfer-Encoding: chunked\r\n";
    let extended = format!("{chunked}\r\n1;a={}\r\n", "x".repeat(5000));
    for chunk in [format!("{chunked}\r\nzz\r\n"), extended] {
        told.insert(ask(&house, &instance, "CCM_POST", "/SMS_MP/hold", &chunk).await);
    }
    told.insert(ask(&house, &instance, "GET", "/SMS_MP/garble", "").await);
    {
        let held = ask(&house, &instance, "GET", "/SMS_MP/hold", "");
        let mut held = std::pin::pin!(held);
        let full = async {
            until(|| instance.gateway.in_flight() == 1).await;
            ask(&house, &instance, "GET", "/SMS_MP/hold", "").await
        };
        tokio::select! {
            answer = held.as_mut() => panic!("{answer:?}"),
            answer = full => told.insert(answer),
        };
    }
    until(|| instance.gateway.in_flight() == 0).await;
    told.insert(ask(&house, &instance, "CCM_POST", "/SMS_MP/lose", "").await);
}

/// What takes too long.
async fn late(told: &mut BTreeSet<Told>) {
    let mut house = House::before(nobody().await);
    house.gateway_limits.answer_head = Duration::from_millis(200);
    house.gateway_limits.body_grace = Duration::from_millis(50);
    let instance = Instance::start(&house, 1).await;
    let config = Config { accept_streams_max: 16, ..Config::default() };
    let rogue = house.rogue_connection_point(&instance.gateway, config).await;
    tokio::spawn(obey(rogue.link.clone()));
    told.insert(ask(&house, &instance, "GET", "/SMS_MP/hold", "").await);
    let length = "Content-Length: 9\r\n";
    told.insert(ask(&house, &instance, "CCM_POST", "/SMS_MP/hold", length).await);
}

/// What the two ends of TLS to a backend do not agree on.
async fn before_https(told: &mut BTreeSet<Told>) {
    let (ca, other) = (SiteCa::new(), SiteCa::new());
    for (tls, trusted) in [
        (open_to_all(&ca.server("else.test")), &ca),
        (open_to_all(&ca.server("localhost")), &other),
        (demanding(&ca.server("localhost"), &ca), &ca),
    ] {
        let backend = SecureBackend::start(tls).await;
        let url = format!("https://localhost:{}", backend.address.port()).parse().unwrap();
        let certificates = Arc::new(ClientCertificates::new("mp"));
        let shown = Arc::clone(&certificates);
        let tls = backend_client_config_showing(&trusted.anchors(), shown).unwrap();
        let mut house = House::before(backend.address);
        let mut config = BackendConfig::new(url, Some(tls));
        config.certificates = Some(certificates);
        house.backend = Some(config);
        let instance = Instance::start(&house, 1).await;
        let (point, _running) = dialling(&house, &[instance.links]);
        instance.until_links(1).await;
        let answer = ask(&house, &instance, "GET", "/SMS_MP/x", "").await;
        assert_counted(&point, std::slice::from_ref(&answer));
        told.insert(answer);
    }
}

/// What a backend has no room for.
async fn too_many(told: &mut BTreeSet<Told>) {
    let backend = Backend::start(|_| std::future::pending()).await;
    let mut house = House::before(backend.address);
    house.connection_point_limits.backend_connections_max = 1;
    house.connection_point_limits.backend_wait_max = 0;
    let instance = Instance::start(&house, 1).await;
    let (point, _running) = dialling(&house, &[instance.links]);
    instance.until_links(1).await;
    let held = ask(&house, &instance, "GET", "/SMS_MP/x", "");
    let refused = async {
        backend.until_in_flight(1).await;
        ask(&house, &instance, "GET", "/SMS_MP/x", "").await
    };
    tokio::select! {
        answer = held => panic!("{answer:?}"),
        answer = refused => {
            assert_counted(&point, std::slice::from_ref(&answer));
            told.insert(answer);
        }
    }
}

/// What there is no memory for.
async fn out_of_memory(told: &mut BTreeSet<Told>) {
    let mut house = House::before(nobody().await);
    house.gateway_limits.memory = Some(MemoryLimit::new(100, || Ok(86)));
    let instance = Instance::start(&house, 1).await;
    until(|| instance.gateway.status().memory.is_some_and(|it| it.used > 0)).await;
    told.insert(ask(&house, &instance, "GET", "/SMS_MP/x", "").await);
}

/// What happens at a real connection point, or behind it.
async fn at_the_site(told: &mut BTreeSet<Told>) {
    let large = Backend::start(|_| async {
        let value = "y".repeat(7_000);
        let head = Response::builder().header("a", &value).header("b", &value).header("c", value);
        head.body(full("")).unwrap()
    });
    let large = large.await;
    let garbage = RawBackend::saying("no HTTP at all\r\n\r\n").await;
    for backend in [nobody().await, large.address, garbage.address] {
        let house = House::before(backend);
        let instance = Instance::start(&house, 1).await;
        let (point, _running) = dialling(&house, &[instance.links]);
        instance.until_links(1).await;
        let answer = ask(&house, &instance, "GET", "/SMS_MP/x", "").await;
        assert_counted(&point, std::slice::from_ref(&answer));
        told.insert(answer);
    }

    // The two roles differ about what is published.
    let mut house = House::before(nobody().await);
    house.endpoint.0.request_body_bytes_max = Some(10);
    let mut wide = house.endpoint.0.clone();
    wide.kind = EndpointKind::SoftwareUpdatePoint;
    wide.paths = Some(vec!["SMS_MP".to_owned(), "else".to_owned()]);
    wide.request_body_bytes_max = None;
    let document = house.document();
    house.initial = vec![SettingsDocument { version: 9, endpoints: vec![wide], ..document }];
    let instance = Instance::start(&house, 1).await;
    let (point, _running) = dialling(&house, &[instance.links]);
    instance.until_links(1).await;
    let length = "Content-Length: 11\r\n";
    let mut answers = Vec::new();
    for (verb, path, rest) in
        [("GET", "/else", ""), ("POST", "/SMS_MP/x", ""), ("CCM_POST", "/SMS_MP/x", length)]
    {
        answers.push(ask(&house, &instance, verb, path, rest).await);
    }
    assert_counted(&point, &answers);
    told.extend(answers);
}

#[tokio::test]
async fn every_answer_of_the_table_is_given_to_a_client_and_no_other() {
    within(async {
        let mut told = BTreeSet::new();
        refused(&mut told).await;
        given_up(&mut told).await;
        late(&mut told).await;
        at_the_site(&mut told).await;
        before_https(&mut told).await;
        too_many(&mut told).await;
        out_of_memory(&mut told).await;
        let mut expected = table();
        assert!(expected.len() > 40, "the table is read");
        for (reason, _why) in NOT_FROM_OUTSIDE {
            let before = expected.len();
            expected.retain(|(_, known)| known != reason);
            assert_eq!(expected.len(), before - 1, "{reason} is in the table");
        }
        let (unknown, unseen): (Vec<_>, Vec<_>) =
            (told.difference(&expected).collect(), expected.difference(&told).collect());
        assert!(
            unknown.is_empty() && unseen.is_empty(),
            "not listed: {unknown:?}\nnot seen: {unseen:?}"
        );
    })
    .await;
}
