//! Every answer of the table in `gateway/ANSWERS.md`, asked for from outside over real sockets: its
//! status, its reason, when it says to come again, that both logs tell it by its message id, and
//! that the role which gave it has counted it.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response};
use relay_core::auth::{Guid, Methods};
use relay_core::connection_point::{BackendConfig, ConnectionPoint};
use relay_core::content::{CONTENT_PATH, Grant, Granted};
use relay_core::exchange::{
    AbortCode, AnswerHead, Assertions, HeadLimits, MessageId, Origin, RequestHead,
};
use relay_core::gateway::{Halt, MemoryLimit};
use relay_core::link::{End, Link};
use relay_core::mux::{Config, HeadKind, StreamCode};
use relay_core::policy::{Access, EndpointKind};
use relay_core::settings::{ClientTrust, SettingsDocument};
use relay_core::transport::{ClientCertificates, backend_client_config_showing};
use relay_tests::client::{Client, Http, bare, tls};
use relay_tests::clients::{ClientSite, SigningClient, now, self_signed, showing};
use relay_tests::content::{MemoryStore, grant};
use relay_tests::logs::Logs;
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, Rogue, counted, counted_since, target, until, within};
use relay_tests::running::{Instance, dialling};
use relay_tests::site::{Backend, Body, RawBackend, full, nobody};
use relay_tests::tls_site::{SecureBackend, demanding, open_to_all};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Status, reason and Retry-After; of the last `–` is that there is none.
type Told = (u16, String, String);

/// The rows of the table.
fn table() -> BTreeSet<Told> {
    let rows = include_str!("../../relay-core/src/gateway/ANSWERS.md").lines();
    let rows = rows.filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let status = cells[0].parse().ok().filter(|_| cells.len() == 6)?;
        Some((status, cells[1].trim_matches('`').to_owned(), cells[5].to_owned()))
    });
    rows.collect()
}

/// Who is at the site's end of links.
#[derive(Clone, Copy)]
enum Site<'a> {
    /// A connection point, which logs and counts what it answers.
    Real(&'a ConnectionPoint),
    /// Nobody, or the test.
    Ours,
}

/// What is asked, and where that is logged.
struct Asker<'a> {
    house: &'a House,
    instance: &'a Instance,
    logs: &'a Logs,
    site: Site<'a>,
}

/// The head of an answer by HTTP/1.1.
struct Head(String);

impl Head {
    fn value(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ str| {
            let (found, _) = line.split_once(": ")?;
            (found == name).then_some(found.len() + 2)
        };
        self.0.lines().find_map(|line| line.get(named(line)?..))
    }
}

/// What both roles have counted, without what has not happened.
type Counted = [BTreeMap<&'static str, u64>; 2];

impl Asker<'_> {
    fn counted(&self) -> Counted {
        let at_site = match self.site {
            Site::Real(point) => counted(point.status().counts),
            Site::Ours => BTreeMap::new(),
        };
        [counted(self.instance.gateway.status().counts), at_site]
    }

    /// Whether a real connection point has given an answer with this reason.
    fn is_of_point(&self, reason: &str) -> bool {
        matches!(self.site, Site::Real(_)) && reason.starts_with("CMGConnector_")
    }

    /// Asserts that the role that has answered has counted that since `before`, and nothing else,
    /// and that the other one has counted nothing.
    fn assert_counted(&self, before: &Counted, reason: &str) {
        let now = self.counted();
        let moved = [0, 1].map(|role| counted_since(&before[role], now[role].clone()));
        let mut expected = [BTreeMap::new(), BTreeMap::new()];
        expected[usize::from(self.is_of_point(reason))].insert(reason, 1);
        assert_eq!(moved, expected, "{reason}");
    }

    /// Says `request` on a connection of its own.
    async fn say(&self, request: &str) -> Told {
        self.say_and(request, false).await
    }

    /// As [`Asker::say`], and that this is all, if there is nothing more to say.
    async fn say_and(&self, request: &str, is_all: bool) -> Told {
        let before = self.counted();
        let stream = TcpStream::connect(self.instance.clients).await.unwrap();
        let mut stream = tls(stream, &self.house.ca, b"http/1.1").await;
        stream.write_all(request.as_bytes()).await.unwrap();
        if is_all {
            until(|| self.instance.gateway.in_flight() == 1).await;
            stream.shutdown().await.unwrap();
        }
        let mut head = Vec::new();
        while !head.windows(4).any(|octets| octets == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.unwrap() > 0, "no answer to {request:.200}");
        }
        let head = Head(String::from_utf8_lossy(&head).into_owned());
        let first = head.0.lines().next().unwrap();
        let (status, phrase) = first.strip_prefix("HTTP/1.1 ").unwrap().split_once(' ').unwrap();
        assert_eq!(head.value("relay-reason"), Some(phrase), "{request:.200}\n{}", head.0);
        self.assert_counted(&before, phrase);
        let retry = head.value("retry-after").unwrap_or("–").to_owned();
        let told = (status.parse().unwrap(), phrase.to_owned(), retry);
        let id = head.value("relay-message-id");
        self.until_logged(id.unwrap_or_else(|| panic!("no id: {}", head.0)), &told).await;
        told
    }

    /// Asks for a path of the management point.
    async fn ask(&self, verb: &str, path: &str, rest: &str) -> Told {
        let target = target(path);
        self.say(&format!("{verb} {target} HTTP/1.1\r\nHost: relay.test\r\n{rest}\r\n")).await
    }

    /// As [`Asker::ask`], over HTTP/2.
    async fn ask_by_http_2(&self, request: Request<Body>) -> Told {
        let client = self.instance.client(self.house, Http::Two).await;
        self.ask_over(client, request).await
    }

    /// As [`Asker::ask`], over a client's connection.
    async fn ask_over(&self, mut client: Client, request: Request<Body>) -> Told {
        let before = self.counted();
        let answer = client.ask(request).await;
        self.assert_counted(&before, answer.reason().unwrap());
        let retry = answer.parts.headers.get(RETRY_AFTER);
        let retry = retry.map_or("–", |retry| retry.to_str().unwrap()).to_owned();
        let told = (answer.status(), answer.reason().unwrap().to_owned(), retry);
        self.until_logged(answer.message_id(), &told).await;
        told
    }

    /// Waits until the access log has the one line for this message id, which says what the client
    /// was told; so must the connection point's, if it was that which answered.
    async fn until_logged(&self, id: &str, told: &Told) {
        let (status, reason, _) = told;
        let access = || self.logs.with(&[id, r#""target":"relay::access""#]);
        until(|| !access().is_empty()).await;
        let lines = access();
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        let fields = &line["fields"];
        let logged = (fields["status"].as_u64(), fields["reason"].as_str());
        assert_eq!(logged, (Some((*status).into()), Some(&**reason)), "{lines:?}");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(fields["message_id"], id, "{lines:?}");
        let at_site = self.logs.with(&[id, r#""target":"relay_core::connection_point"#]);
        let answered_there = self.is_of_point(reason);
        assert_eq!(!at_site.is_empty(), answered_there, "{told:?}: {at_site:?}");
    }
}

/// What is refused before any link is asked.
async fn refused(logs: &Logs, told: &mut BTreeSet<Told>) {
    let mut house = House::before(nobody().await);
    house.endpoint.0.request_body_bytes_max = Some(1000);
    house.gateway_limits.link_credit = Duration::ZERO;
    house.initial = vec![house.document()];
    let instance = Instance::start(&house, 1).await;
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Ours };
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
        told.insert(asker.ask("CCM_POST", "/SMS_MP/x", &rest).await);
    }
    for (verb, path) in [("GET", "/else"), ("GET", "/SMS_MP/../x"), ("DELETE", "/SMS_MP/x")] {
        told.insert(asker.ask(verb, path, "").await);
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
        told.insert(asker.say(&request).await);
    }
    // Published, and nobody is there to be asked.
    told.insert(asker.ask("GET", "/SMS_MP/x", "").await);
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
async fn given_up(logs: &Logs, told: &mut BTreeSet<Told>) {
    let mut house = House::before(nobody().await);
    // Long enough for a stream's place to come back on a machine that is busy.
    house.gateway_limits.link_credit = Duration::from_secs(1);
    house.gateway_limits.overload_wait = house.gateway_limits.link_credit;
    let instance = Instance::start(&house, 1).await;
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Ours };
    let silent = house.silent_connection_point(&instance.gateway, Config::default()).await;
    told.insert(asker.ask("GET", "/SMS_MP/x", "").await);
    silent.lose();
    until(|| instance.gateway.links() == 0).await;

    let config = Config { accept_streams_max: 1, ..Config::default() };
    let rogue = house.rogue_connection_point(&instance.gateway, config).await;
    tokio::spawn(obey(rogue.link.clone()));
    let known = AbortCode::KNOWN.map(AbortCode::to_wire);
    for code in known.into_iter().chain([0x1ff]) {
        told.insert(asker.ask("GET", &format!("/SMS_MP/{code}"), "").await);
    }
    let chunked = "Transfer-Encoding: chunked\r\n";
    let extended = format!("{chunked}\r\n1;a={}\r\n", "x".repeat(5000));
    for chunk in [format!("{chunked}\r\nzz\r\n"), extended] {
        told.insert(asker.ask("CCM_POST", "/SMS_MP/hold", &chunk).await);
    }
    let target = target("/SMS_MP/hold");
    let host = "Host: relay.test\r\n";
    let broken = format!("CCM_POST {target} HTTP/1.1\r\n{host}{chunked}\r\n5\r\nabc");
    told.insert(asker.say_and(&broken, true).await);
    told.insert(asker.ask("GET", "/SMS_MP/garble", "").await);
    {
        let held = asker.ask("GET", "/SMS_MP/hold", "");
        let mut held = std::pin::pin!(held);
        let full = async {
            until(|| instance.gateway.in_flight() == 1).await;
            asker.ask("GET", "/SMS_MP/hold", "").await
        };
        tokio::select! {
            answer = held.as_mut() => panic!("{answer:?}"),
            answer = full => told.insert(answer),
        };
    }
    until(|| instance.gateway.in_flight() == 0).await;
    told.insert(asker.ask("CCM_POST", "/SMS_MP/lose", "").await);
}

/// What takes too long.
async fn late(logs: &Logs, told: &mut BTreeSet<Told>) {
    let mut house = House::before(nobody().await);
    house.gateway_limits.answer_head = Duration::from_millis(200);
    house.gateway_limits.body_grace = Duration::from_millis(50);
    let instance = Instance::start(&house, 1).await;
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Ours };
    let config = Config { accept_streams_max: 16, ..Config::default() };
    let rogue = house.rogue_connection_point(&instance.gateway, config).await;
    tokio::spawn(obey(rogue.link.clone()));
    told.insert(asker.ask("GET", "/SMS_MP/hold", "").await);
    let length = "Content-Length: 9\r\n";
    told.insert(asker.ask("CCM_POST", "/SMS_MP/hold", length).await);
}

/// What the two ends of TLS to a backend do not agree on.
async fn before_https(logs: &Logs, told: &mut BTreeSet<Told>) {
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
        let site = Site::Real(&point);
        let asker = Asker { house: &house, instance: &instance, logs, site };
        instance.until_links(1).await;
        told.insert(asker.ask("GET", "/SMS_MP/x", "").await);
    }
}

/// What a backend has no room for.
async fn too_many(logs: &Logs, told: &mut BTreeSet<Told>) {
    let backend = Backend::start(|_| std::future::pending()).await;
    let mut house = House::before(backend.address);
    house.connection_point_limits.backend_connections_max = 1;
    house.connection_point_limits.backend_wait_max = 0;
    let instance = Instance::start(&house, 1).await;
    let (point, _running) = dialling(&house, &[instance.links]);
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Real(&point) };
    instance.until_links(1).await;
    let held = asker.ask("GET", "/SMS_MP/x", "");
    let refused = async {
        backend.until_in_flight(1).await;
        asker.ask("GET", "/SMS_MP/x", "").await
    };
    tokio::select! {
        answer = held => panic!("{answer:?}"),
        answer = refused => told.insert(answer),
    };
}

/// What there is no memory for.
async fn out_of_memory(logs: &Logs, told: &mut BTreeSet<Told>) {
    let mut house = House::before(nobody().await);
    house.gateway_limits.memory = Some(MemoryLimit::new("resident", 100, || Ok(86)));
    let instance = Instance::start(&house, 1).await;
    until(|| instance.gateway.status().memory.is_some_and(|it| it.used > 0)).await;
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Ours };
    told.insert(asker.ask("GET", "/SMS_MP/x", "").await);
}

/// Where nobody is served.
async fn halted(logs: &Logs, told: &mut BTreeSet<Told>) {
    let house = House::before(nobody().await);
    let instance = Instance::start(&house, 1).await;
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Ours };
    for halt in [Halt::Administrator, Halt::Egress] {
        assert!(instance.gateway.halt(halt));
        told.insert(asker.ask("GET", "/SMS_MP/x", "").await);
        assert!(instance.gateway.resume(halt));
    }
}

/// What strangers are told where clients have to show who they are.
async fn strangers(logs: &Logs, told: &mut BTreeSet<Told>) {
    let site = ClientSite::new();
    let mut house = House::before(nobody().await);
    house.endpoint.0.access = Access::Clients(Methods::default());
    let barred = vec!["certificate:CN=a device".parse().unwrap()];
    house.clients = Some(ClientTrust { barred, ..site.trust() });
    house.initial = vec![house.document()];
    let instance = Instance::start(&house, 1).await;
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Ours };
    told.insert(asker.ask("GET", "/SMS_MP/x", "").await);
    for token in [site.forged_entra(), site.expired_ccm(), site.bulk()] {
        let field = format!("Authorization: Bearer {token}\r\n");
        told.insert(asker.ask("GET", "/SMS_MP/x", &field).await);
        assert!(logs.with(&[&token]).is_empty(), "a token is in no log");
    }
    let signing = SigningClient::new();
    let token = site.client(&signing.identity);
    let mut fields = format!("Authorization: Bearer {token}\r\n");
    for (name, value) in signing.signed_head(now() - 3600) {
        fields.extend([name, ": ", &value, "\r\n"]);
    }
    told.insert(asker.ask("GET", "/SMS_MP/x", &fields).await);
    for certificate in [self_signed(), site.authority.connection_point("a device")] {
        let tls = showing(&house.ca, Some(&certificate));
        let client = Client::dial_with(instance.clients, &tls, Http::Two).await;
        told.insert(asker.ask_over(client, bare("GET", &target("/SMS_MP/x"))).await);
    }
}

/// What is refused of content, which no site is asked for.
async fn of_content(logs: &Logs, told: &mut BTreeSet<Told>) {
    let site = ClientSite::new();
    let store = Arc::new(MemoryStore::with(&[("setup.exe", b"0123456789")]));
    let mut house = House::before(nobody().await);
    let mut trust = site.trust();
    trust.tokens.as_mut().unwrap().blocked = vec![Guid(9)];
    house.clients = Some(trust);
    house.initial = vec![house.document()];
    house.content = Some(store.clone());
    let instance = Instance::start(&house, 1).await;
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Ours };
    let file = Granted::File("setup.exe".parse().unwrap());
    let good = Grant { granted: file, ..grant() };
    let ended = Grant { begins: now() - 9, ends: now() - 5, ..good.clone() };
    let begun = Grant { begins: now() + 900, ends: now() + 990, ..good.clone() };
    let elsewhere = Grant { package: "OTHER".parse().unwrap(), ..good.clone() };
    let token = format!("Authorization: Bearer {}\r\n", site.ccm());
    for (grant, more) in [
        (ended, ""),
        (begun, ""),
        (elsewhere, ""),
        (Grant { issuer: Guid(1), ..good.clone() }, ""),
        (Grant { client: Guid(9), ..good.clone() }, ""),
        (Grant { client: Guid(8), ..good.clone() }, ""),
        (good.clone(), "Range: bytes=10-\r\n"),
        (good.clone(), "If-Match: \"x\"\r\n"),
    ] {
        let location = site.grant(grant).location();
        let fields = format!("Host: relay.test\r\n{token}{more}");
        told.insert(asker.say(&format!("GET {location} HTTP/1.1\r\n{fields}\r\n")).await);
    }
    let malformed = format!("GET {CONTENT_PATH}?x HTTP/1.1\r\nHost: relay.test\r\n\r\n");
    told.insert(asker.say(&malformed).await);
    *store.broken.lock().unwrap() = Some("it is broken".to_owned());
    let location = site.grant(good).location();
    let request = format!("GET {location} HTTP/1.1\r\nHost: relay.test\r\n{token}\r\n");
    told.insert(asker.say(&request).await);
    assert_eq!(logs.with(&["it is broken", "the store of content cannot be read"]).len(), 1);
}

/// What happens at a real connection point, or behind it.
async fn at_the_site(logs: &Logs, told: &mut BTreeSet<Told>) {
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
        let site = Site::Real(&point);
        let asker = Asker { house: &house, instance: &instance, logs, site };
        instance.until_links(1).await;
        told.insert(asker.ask("GET", "/SMS_MP/x", "").await);
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
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Real(&point) };
    instance.until_links(1).await;
    let length = "Content-Length: 11\r\n";
    for (verb, path, rest) in
        [("GET", "/else", ""), ("POST", "/SMS_MP/x", ""), ("CCM_POST", "/SMS_MP/x", length)]
    {
        told.insert(asker.ask(verb, path, rest).await);
    }
}

/// What only HTTP/2 can say, and a gateway that judges by other rules would let pass.
async fn by_http_2(logs: &Logs, told: &mut BTreeSet<Told>) {
    let backend = Backend::echo_path().await;
    let house = House::before(backend.address);
    let instance = Instance::start(&house, 1).await;
    let (point, _running) = dialling(&house, &[instance.links]);
    let asker = Asker { house: &house, instance: &instance, logs, site: Site::Real(&point) };
    instance.until_links(1).await;
    told.insert(asker.ask_by_http_2(bare("GET", &target("/SMS_MP/x?\u{e9}"))).await);
    let mut request = bare("GET", &target("/SMS_MP/x"));
    request.headers_mut().insert("expect", "the-worst".parse().unwrap());
    told.insert(asker.ask_by_http_2(request).await);
    assert_eq!(backend.seen().len(), 0);
}

/// Sends a request over a link as a gateway might that judges nothing. Returns what its client
/// would be told.
async fn let_pass(rogue: &Rogue, id: MessageId, path: &str, headers: HeaderMap) -> Told {
    let limits = HeadLimits::default();
    let (method, assertions) = (Method::GET, Assertions::new(id));
    let head = RequestHead { method, target: path.parse().unwrap(), headers, assertions };
    let block = head.encode(&limits).unwrap();
    let (_send, mut recv) = rogue.link.open(block, End::NoPayload).await.unwrap();
    let answer = AnswerHead::decode(recv.head().await.unwrap().block, &limits).unwrap();
    assert_eq!(answer.origin, Origin::ConnectionPoint);
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let retry = answer.headers.get(RETRY_AFTER).map_or("–".to_owned(), |it| text(it.as_bytes()));
    (answer.status.as_u16(), text(&answer.reason.unwrap()), retry)
}

/// What a connection point refuses that no gateway of its own version lets pass.
async fn of_another_version(logs: &Logs, told: &mut BTreeSet<Told>) {
    let backend = Backend::echo_path().await;
    let house = House::before(backend.address);
    let point = house.connection_point(Vec::new());
    let rogue = house.rogue_gateway(&point).await;
    let path = target("/SMS_MP/x");
    let named = HeaderMap::from_iter([(CONNECTION, "CCMClientID".parse().unwrap())]);
    for (number, (path, headers)) in
        (1..).zip([(target("/SMS_MP/../x"), HeaderMap::new()), (path, named)])
    {
        let id = MessageId([number; 16]);
        let answer = let_pass(&rogue, id, &path, headers).await;
        let status = format!("\"status\":{}", answer.0);
        let logged = logs.with(&[&id.to_string(), "\"not forwarded\"", &status]);
        assert_eq!(logged.len(), 1, "{answer:?}");
        told.insert(answer);
    }
    assert_eq!(backend.seen().len(), 0);
}

#[tokio::test]
async fn every_answer_of_the_table_is_given_to_a_client_and_no_other() {
    within(async {
        let (logs, mut told) = (Logs::capture(), BTreeSet::new());
        refused(&logs, &mut told).await;
        given_up(&logs, &mut told).await;
        late(&logs, &mut told).await;
        at_the_site(&logs, &mut told).await;
        before_https(&logs, &mut told).await;
        too_many(&logs, &mut told).await;
        out_of_memory(&logs, &mut told).await;
        halted(&logs, &mut told).await;
        strangers(&logs, &mut told).await;
        of_content(&logs, &mut told).await;
        by_http_2(&logs, &mut told).await;
        of_another_version(&logs, &mut told).await;
        let expected = table();
        assert!(expected.len() > 50, "the table is read");
        let (unknown, unseen): (Vec<_>, Vec<_>) =
            (told.difference(&expected).collect(), expected.difference(&told).collect());
        assert!(
            unknown.is_empty() && unseen.is_empty(),
            "not listed: {unknown:?}\nnot seen: {unseen:?}"
        );
    })
    .await;
}
