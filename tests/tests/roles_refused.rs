//! Whoever is refused a link, or may not keep it, hears why in the other side's own words: over
//! real sockets and TLS.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use relay_core::connection_point::{
    ConnectionPoint, ConnectionPointStatus, GatewayAddress, LinkEnded, Phase,
};
use relay_core::gateway::{EndedLink, Gateway, LinkEnd, LinkRefused, Listeners};
use relay_core::mux::{Config, Side};
use relay_core::transport::{
    Identity, Listener, PeerIdentity, PeerTrust, QuicListener, link_client_config,
    link_server_config,
};
use relay_tests::client::{Client, Http, bare};
use relay_tests::logs::Logs;
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, PIPE, SERVICE, address, has_settings, target, until, within};
use relay_tests::running::{ANY, Running, told};
use relay_tests::site::{Backend, full, nobody};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A way to an instance's link port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    TcpTls,
    Quic,
}

impl Way {
    const BOTH: [Self; 2] = [Self::TcpTls, Self::Quic];

    fn to(self, instance: u64, links: SocketAddr) -> GatewayAddress {
        let gateway = address(instance, links.port());
        match self {
            Self::TcpTls => gateway,
            Self::Quic => {
                GatewayAddress { quic_port: gateway.tcp_tls_port, tcp_tls_port: None, ..gateway }
            }
        }
    }
}

/// Starts an instance that takes links on one way, and returns where.
async fn start(gateway: &Gateway, house: &House, way: Way) -> (SocketAddr, Running) {
    let clients = Listener::bind(ANY).await.unwrap();
    let tls = link_server_config(&house.ca.server(SERVICE), &house.ca.anchors()).unwrap();
    let (links, quic) = match way {
        Way::TcpTls => (Some(Listener::bind(ANY).await.unwrap()), None),
        Way::Quic => (None, Some(QuicListener::bind(ANY, tls).unwrap())),
    };
    let at = links.as_ref().map(Listener::local_addr);
    let at = at.or(quic.as_ref().map(QuicListener::local_addr)).unwrap();
    let listeners = Listeners { clients, links, https_links: None, quic };
    let serving = gateway.clone();
    let running = Running::start(|stop| async move { serving.serve(listeners, told(stop)).await });
    (at, running)
}

fn run(point: &ConnectionPoint) -> Running {
    let serving = point.clone();
    Running::start(|stop| async move { serving.run(told(stop)).await })
}

/// Why the one place of a connection point waits, and why its way failed, once both are there.
async fn refused(point: &ConnectionPoint) -> [String; 2] {
    let told = |status: &ConnectionPointStatus| match &status.places[..] {
        [place] => match (&place.phase, &place.missteps[..]) {
            (Phase::Waiting { why, .. }, [misstep]) => {
                Some([why.to_string(), misstep.why.to_string()])
            }
            _ => None,
        },
        _ => None,
    };
    until(|| told(&point.status()).is_some()).await;
    told(&point.status()).unwrap()
}

/// Asserts that a connection point has heard `told` from its gateway, and shows and logs it.
async fn assert_hears(logs: &Logs, point: &ConnectionPoint, told: &str, what: &str) {
    let [why, misstep] = refused(point).await;
    let told = format!("the gateway refused the link: {told}");
    assert!(why.ends_with(&told), "{what}: {why}");
    assert_eq!(misstep, told, "{what}");
    let logged = logs.with(&["\"WARN\"", "no link to the gateway instance", &told]);
    assert!(!logged.is_empty(), "{what}");
}

#[tokio::test]
async fn a_connection_point_hears_why_the_gateway_refuses_its_link() {
    let logs = Logs::capture();
    within(async {
        for way in Way::BOTH {
            let mut house = House::before(nobody().await);
            house.gateway_limits.links_max = 2;
            let gateway = house.gateway(1);
            let (at, _instance) = start(&gateway, &house, way).await;

            let point = house.connection_point(vec![way.to(1, at)]);
            let other = house.ca.connection_point("cp-9");
            point.set_link_tls(link_client_config(&other, &house.ca.anchors()).unwrap());
            let running = run(&point);
            let told = "the certificate names `cp-9`, not `cp-1`; change either";
            assert_hears(&logs, &point, told, "name").await;
            running.stop().await;

            // A later start of a connection point in the same name.
            let later = Config { name: "cp-2".to_owned(), epoch: u64::MAX, ..Config::default() };
            let _later = house.silent_connection_point(&gateway, later).await;
            let point = house.connection_point(vec![way.to(1, at)]);
            let running = run(&point);
            let told = "a later link has its place; do two connection points share its name?";
            assert_hears(&logs, &point, told, "stale").await;
            running.stop().await;

            let _last = house.silent_connection_point(&gateway, Config::default()).await;
            let point = house.connection_point(vec![way.to(1, at)]);
            let running = run(&point);
            assert_hears(&logs, &point, "as many links as it takes are up (2)", "limit").await;
            running.stop().await;
            assert_eq!(gateway.links(), 2, "the others stay");
        }
    })
    .await;
}

#[tokio::test]
async fn a_gateway_hears_why_a_connection_point_refuses_its_link() {
    let logs = Logs::capture();
    within(async {
        for way in Way::BOTH {
            let house = House::before(nobody().await);
            let gateway = house.gateway(2);
            let (at, _instance) = start(&gateway, &house, way).await;
            let point = house.connection_point(vec![way.to(1, at)]);
            let _running = run(&point);
            let told = "the peer refused the link: this was to be instance 1; where does the port \
                        lead?";
            until(|| gateway.status().ended.iter().any(|ended| ended.why == told)).await;
            assert!(!logs.with(&["\"link ", told]).is_empty());
            let [_, misstep] = refused(&point).await;
            assert!(misstep.starts_with("this port leads to instance 2,"), "{misstep}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_gateway_says_cannot_break_a_line_and_is_cut_to_its_length() {
    within(async {
        let house = House::before(nobody().await);
        let point = house.connection_point(Vec::new());
        let words = format!("one\n\x1b[31mtwo\u{7f}{}", "x".repeat(200));
        let (near, far) = tokio::io::duplex(PIPE);
        let to = address(1, 0);
        let mut serving = std::pin::pin!(point.serve_link(far, &to));
        let tls = link_server_config(&house.ca.server(SERVICE), &house.ca.anchors()).unwrap();
        let accept = relay_core::transport::accept_link(near, tls, Duration::from_secs(30));
        let accepted = tokio::select! {
            accepted = accept => accepted.unwrap(),
            ended = &mut serving => panic!("{ended:?}"),
        };
        let (link, driver) =
            relay_core::link::new(accepted, Side::Listener, Config::default()).unwrap();
        let ((), ended) = tokio::join!(relay_core::link::turn_away(&link, driver, &words), serving);
        let Err(LinkEnded::Refused { why }) = ended else { panic!("{ended:?}") };
        assert!(why.starts_with("one?") && !why.contains(char::is_control), "{why:?}");
        assert_eq!(why.len(), 128);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_comes_in_vain_is_not_told_while_handshakes_are_scarce() {
    within(async {
        let mut house = House::before(nobody().await);
        house.gateway_limits.links_max = 1;
        house.gateway_limits.link_handshakes_max = 2;
        let (gateway, _first) = house.joined().await;
        let pipe = || {
            let (near, far) = tokio::io::duplex(PIPE);
            let gateway = gateway.clone();
            (far, tokio::spawn(async move { gateway.serve_link(near).await }))
        };
        // Neither says a word: the first is waited for, the second is not.
        let (_first, waited_for) = pipe();
        let (_second, served) = pipe();
        assert!(matches!(served.await.unwrap(), Err(LinkRefused::TooMany(1))));
        assert!(!waited_for.is_finished());
    })
    .await;
}

/// A backend that answers once the gate is open.
async fn gated() -> (watch::Sender<bool>, Backend) {
    let (open, gate) = watch::channel(false);
    let answer = move |mut gate: watch::Receiver<bool>| async move {
        gate.wait_for(|open| *open).await.unwrap();
        Response::new(full("late"))
    };
    (open, Backend::start(move |_| answer(gate.clone())).await)
}

/// A request that nobody may send a second time.
async fn post(gateway: &Gateway, house: &House) -> JoinHandle<(u16, Option<String>)> {
    let mut client = Client::join(gateway, &house.ca, Http::One).await;
    tokio::spawn(async move {
        let answer = client.ask(bare("CCM_POST", &target("/SMS_MP/x"))).await;
        (answer.status(), answer.reason().map(str::to_owned))
    })
}

/// Has `point` show a certificate, and returns it.
fn show(house: &House, point: &ConnectionPoint, name: &str) -> Identity {
    let identity = house.ca.connection_point(name);
    point.set_link_tls(link_client_config(&identity, &house.ca.anchors()).unwrap());
    identity
}

fn serial(identity: &Identity) -> String {
    PeerIdentity::of_dialler(identity.chain()).serial()
}

#[tokio::test]
async fn a_connection_point_whose_certificate_is_revoked_loses_its_link_at_once_and_alone() {
    let logs = Logs::capture();
    within(async {
        for way in Way::BOTH {
            let (_open, backend) = gated().await;
            let house = House::before(backend.address);
            let gateway = house.gateway(1);
            let (at, _instance) = start(&gateway, &house, way).await;
            let point = house.connection_point(vec![way.to(1, at)]);
            let stolen = show(&house, &point, "cp-1");
            let _running = run(&point);
            until(|| gateway.links() == 1 && has_settings(&gateway)).await;
            let asked = post(&gateway, &house).await;
            backend.until_in_flight(1).await;
            let other = house.connection_point(vec![way.to(1, at)]);
            let _other = run(&other);
            until(|| gateway.links() == 2).await;

            let listed = house.ca.anchors().with_revoked([house.ca.revoke(&[&stolen], 3000)]);
            gateway.set_link_tls(link_server_config(&house.ca.server(SERVICE), &listed).unwrap());
            gateway.set_link_trust(Arc::new(PeerTrust::of_diallers(&listed).unwrap()));
            let lost = (502, Some("CMGService_Connector_Lost".to_owned()));
            assert_eq!(asked.await.unwrap(), lost, "{way:?}");
            let serial = format!("\"serial\":\"{}\"", serial(&stolen));
            let logged = || logs.with(&["\"WARN\"", "was revoked", "\"cp-1\"", &serial]);
            assert_eq!(logged().len(), 1);
            let told = "the gateway refused the link: the certificate of the connection point was \
                        revoked; issue another";
            until(|| !logs.with(&["no link to the gateway instance", told]).is_empty()).await;

            // Not again, and not the other.
            let is_refused = |ended: &EndedLink| {
                matches!(ended.end, LinkEnd::Refused { .. }) && ended.why.contains("Revoked")
            };
            until(|| gateway.status().ended.iter().any(is_refused)).await;
            until(|| gateway.links() == 1).await;
            let up = gateway.status().links;
            let [link] = &up[..] else { panic!("{up:?}") };
            assert!(&*link.connection_point == "cp-2" && !link.is_draining, "{up:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_gateway_whose_certificate_is_revoked_loses_its_link_at_once() {
    let logs = Logs::capture();
    within(async {
        for way in Way::BOTH {
            let house = House::before(nobody().await);
            let gateway = house.gateway(1);
            let stolen = house.ca.server(SERVICE);
            gateway.set_link_tls(link_server_config(&stolen, &house.ca.anchors()).unwrap());
            let (at, _instance) = start(&gateway, &house, way).await;
            let point = house.connection_point(vec![way.to(1, at)]);
            let _running = run(&point);
            until(|| gateway.links() == 1).await;

            let listed = house.ca.anchors().with_revoked([house.ca.revoke(&[&stolen], 3000)]);
            let identity = house.ca.connection_point("cp-1");
            point.set_link_tls(link_client_config(&identity, &listed).unwrap());
            point.set_link_trust(Arc::new(PeerTrust::of_dialled(&listed).unwrap()));
            let told = "the peer refused the link: the certificate of the gateway instance was \
                        revoked; issue another";
            until(|| gateway.status().ended.iter().any(|ended| ended.why == told)).await;
            let serial = format!("\"serial\":\"{}\"", serial(&stolen));
            assert_eq!(logs.with(&["\"WARN\"", "was revoked", SERVICE, &serial]).len(), 1);
            until(|| point.status().places[0].missteps.iter().any(|it| it.why.contains("Revoked")))
                .await;
            assert_eq!(gateway.links(), 0);
        }
    })
    .await;
}

/// Links two roles, has one side trust their authority no more, and shows that the link is replaced
/// while a request on it goes on.
async fn replaced(way: Way, judge: Side) {
    let (open, backend) = gated().await;
    let house = House::before(backend.address);
    let gateway = house.gateway(1);
    let (at, _instance) = start(&gateway, &house, way).await;
    let point = house.connection_point(vec![way.to(1, at)]);
    let _running = run(&point);
    until(|| gateway.links() == 1 && has_settings(&gateway)).await;
    let asked = post(&gateway, &house).await;
    backend.until_in_flight(1).await;

    let new = SiteCa::new();
    let (server, client) = (new.server(SERVICE), new.connection_point("cp-1"));
    gateway.set_link_tls(link_server_config(&server, &new.anchors()).unwrap());
    point.set_link_tls(link_client_config(&client, &new.anchors()).unwrap());
    let standing = || {
        let links = gateway.status().links.into_iter();
        links.map(|it| (it.number, it.is_draining)).collect::<Vec<_>>()
    };
    assert_eq!(standing(), [(1, false)], "links that are up stay until they are judged");
    match judge {
        Side::Listener => {
            gateway.set_link_trust(Arc::new(PeerTrust::of_diallers(&new.anchors()).unwrap()));
        }
        Side::Dialer => {
            point.set_link_trust(Arc::new(PeerTrust::of_dialled(&new.anchors()).unwrap()));
        }
    }
    until(|| standing() == [(1, true), (2, false)]).await;
    open.send_replace(true);
    assert_eq!(asked.await.unwrap(), (200, None));
    until(|| standing() == [(2, false)]).await;
}

#[tokio::test]
async fn a_certificate_that_holds_no_more_has_its_link_replaced_and_nothing_is_lost() {
    let logs = Logs::capture();
    within(async {
        for way in Way::BOTH {
            for judge in [Side::Listener, Side::Dialer] {
                replaced(way, judge).await;
            }
        }
        let why = "the authority of its certificate is trusted no more";
        assert_eq!(logs.with(&["\"INFO\"", "link drains", why]).len(), 4);
        // An instance tells of the drains that it began, a connection point of all.
        let report = "\"finished\":1,\"reset\":0";
        for (side, count) in [("\"link\":1,", 2), ("\"instance\":\"1\",", 4)] {
            let drained = logs.with(&["\"INFO\"", "link drained", side, report]);
            assert_eq!(drained.len(), count, "{side}");
        }
    })
    .await;
}
