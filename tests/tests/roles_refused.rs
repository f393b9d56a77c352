//! Whoever is refused a link hears why, in the other side's own words: over real sockets and TLS.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::net::SocketAddr;
use std::time::Duration;

use relay_core::connection_point::{
    ConnectionPoint, ConnectionPointStatus, GatewayAddress, LinkEnded, Phase,
};
use relay_core::gateway::{Gateway, LinkRefused, Listeners};
use relay_core::mux::Config;
use relay_core::transport::{Listener, QuicListener, link_client_config, link_server_config};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, PIPE, SERVICE, address, until, within};
use relay_tests::running::{ANY, Running, told};
use relay_tests::site::nobody;

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
        let side = relay_core::mux::Side::Listener;
        let (link, driver) = relay_core::link::new(accepted, side, Config::default()).unwrap();
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
