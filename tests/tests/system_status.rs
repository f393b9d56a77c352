//! What an administrator sees of links, on both sides, and what draining one of them does. Over
//! real sockets.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use relay_core::connection_point::{ConnectionPoint, ConnectionPointLimits, Phase, PlaceStatus};
use relay_core::gateway::{Gateway, LinkEnd};
use relay_core::link;
use relay_core::mux::{Config, Side};
use relay_core::transport::{Rung, link_client_config, secure_link};
use relay_tests::client::{Client, Http, bare};
use relay_tests::roles::{House, SERVICE, target, until, within};
use relay_tests::running::{ANY, Instance, dialling, dialling_from};
use relay_tests::site::Backend;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// Asks `count` times, one after the other, and is answered well each time.
async fn read(client: &mut Client, count: usize) {
    for n in 0..count {
        let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (200, None), "request {n}");
    }
}

/// The one place of a connection point that has one.
fn place(point: &ConnectionPoint) -> PlaceStatus {
    let [place] = &point.status().places[..] else { panic!("one place is configured") };
    place.clone()
}

/// The links that take requests, as the gateway numbers them.
fn open_links(gateway: &Gateway) -> Vec<u64> {
    let links = gateway.status().links;
    links.iter().filter(|link| !link.is_draining).map(|link| link.number).collect()
}

#[tokio::test]
async fn both_sides_show_the_same_link_and_what_it_carried() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let instance = Instance::start(&house, 3).await;
        let (point, _running) = dialling_from(3, &house, &[instance.links]);
        instance.until_links(1).await;
        read(&mut instance.client(&house, Http::One).await, 5).await;

        let status = instance.gateway.status();
        assert_eq!((status.instance.number(), status.is_draining), (3, false));
        let [link] = &status.links[..] else { panic!("{status:?}") };
        assert_eq!((&*link.connection_point, link.place, link.rung), ("cp-1", 0, Rung::TcpTls));
        assert!(!link.is_draining && link.software.starts_with("relay/"), "{link:?}");
        assert_eq!((link.in_flight, link.stats.mux.streams_opened), (0, 5));
        assert!(link.stats.mux.payload_received > 0);

        let there = place(&point);
        assert!(matches!(there.phase, Phase::Up), "{there:?}");
        let [end] = &there.links[..] else { panic!("{there:?}") };
        assert_eq!((end.rung, end.is_draining), (Rung::TcpTls, false));
        // The end of a stream may still be on its way to this side's counters, but not its opening.
        assert_eq!(end.stats.mux.streams_accepted, 5);
        assert_eq!(end.stats.mux.payload_sent, link.stats.mux.payload_received);
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_refuses_is_shown_with_the_reason_and_the_next_dial() {
    within(async {
        let house = House::before(ANY);
        // Nobody else can have the port while the socket is held.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(ANY).unwrap();
        let at = socket.local_addr().unwrap();
        let (point, _running) = dialling(&house, &[at]);
        let waits = |place: &PlaceStatus| matches!(place.phase, Phase::Waiting { .. });
        until(|| point.status().places.iter().any(waits)).await;
        let there = place(&point);
        let [misstep] = &there.missteps[..] else { panic!("{there:?}") };
        let expected = format!("cannot connect to 127.0.0.1:{}: Connection refused", at.port());
        assert_eq!(misstep.rung, Rung::TcpTls);
        assert!(misstep.why.starts_with(&expected), "{there:?}");
        assert!(there.links.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_link_that_is_drained_by_the_gateway_is_replaced_and_nothing_is_lost() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let instance = Instance::start(&house, 1).await;
        let (point, _running) = dialling(&house, &[instance.links]);
        instance.until_links(1).await;
        let mut client = instance.client(&house, Http::One).await;
        for turn in 1..=5 {
            let [number] = open_links(&instance.gateway)[..] else { panic!("one is up") };
            assert_eq!(number, turn);
            let report = instance.gateway.drain_link(number).await.unwrap();
            assert_eq!(report.reset, 0);
            // At once: the request waits for the link that is dialled again.
            read(&mut client, 1).await;
        }
        assert!(matches!(place(&point).phase, Phase::Up));
        let status = instance.gateway.status();
        let downs = status.ended.iter().filter(|it| matches!(it.end, LinkEnd::Down { .. })).count();
        assert_eq!(downs, 5, "{status:?}");
        assert!(instance.gateway.drain_link(1).await.is_none(), "it is gone");
    })
    .await;
}

#[tokio::test]
async fn a_link_that_is_drained_by_its_connection_point_is_replaced_and_nothing_is_lost() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let instance = Instance::start(&house, 1).await;
        let (point, _running) = dialling(&house, &[instance.links]);
        instance.until_links(1).await;
        let mut client = instance.client(&house, Http::One).await;
        let there = place(&point);
        for _ in 0..5 {
            let report = point.drain_link(there.instance, there.place).await.unwrap();
            assert_eq!(report.reset, 0);
            read(&mut client, 1).await;
        }
        assert!(point.drain_link(there.instance, 1).await.is_none(), "there is no second place");
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_no_connection_point_is_shown_as_refused() {
    within(async {
        let house = House::before(ANY);
        let instance = Instance::start(&house, 1).await;
        let stranger = TcpStream::connect(instance.links).await.unwrap();
        let from = stranger.local_addr().unwrap();
        drop(stranger);
        until(|| !instance.gateway.status().ended.is_empty()).await;
        let [ended] = &instance.gateway.status().ended[..] else { panic!("one was refused") };
        assert_eq!(ended.end, LinkEnd::Refused { from });
        assert!(ended.why.starts_with("TLS handshake failed"), "{ended:?}");
    })
    .await;
}

#[tokio::test]
async fn a_port_that_leads_to_another_instance_is_shown_with_both_numbers() {
    within(async {
        let house = House::before(ANY);
        let instance = Instance::start(&house, 2).await;
        let (point, _running) = dialling(&house, &[instance.links]);
        let waits = |place: &PlaceStatus| matches!(place.phase, Phase::Waiting { .. });
        until(|| point.status().places.iter().any(waits)).await;
        let there = place(&point);
        let [misstep] = &there.missteps[..] else { panic!("{there:?}") };
        let told = "this port leads to instance 2, not to instance 1;";
        assert!(misstep.why.starts_with(told), "{there:?}");
        assert!(there.links.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_carry_is_shown_as_refused() {
    within(async {
        let house = House::before(ANY);
        let instance = Instance::start(&house, 1).await;
        let (point, _running) = dialling(&house, &[instance.links]);
        instance.until_links(1).await;
        let impostor = house.ca.connection_point("cp-2");
        let tls = link_client_config(&impostor, &house.ca.anchors()).unwrap();
        let pipe = TcpStream::connect(instance.links).await.unwrap();
        let from = pipe.local_addr().unwrap();
        let pipe = secure_link(pipe, SERVICE, tls).await.unwrap();
        let config = Config { name: "cp-1".to_owned(), epoch: u64::MAX, ..Config::default() };
        let (_link, driver) = link::new(pipe, Side::Dialer, config).unwrap();
        driver.await;
        until(|| !instance.gateway.status().ended.is_empty()).await;
        let [ended] = &instance.gateway.status().ended[..] else { panic!("one was refused") };
        assert_eq!(ended.end, LinkEnd::Refused { from });
        let told = "the peer calls itself `cp-1`, but its certificate names `cp-2`;";
        assert!(ended.why.starts_with(told), "{ended:?}");
        // The link of that name stays.
        until(|| matches!(place(&point).phase, Phase::Up)).await;
        assert_eq!(open_links(&instance.gateway), [1]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_connection_points_mesh_with_sixteen_instances() {
    within(async {
        let backend = Backend::echo_path().await;
        let mut house = House::before(backend.address);
        house.connection_point_limits.dial_pace = ConnectionPointLimits::default().dial_pace;
        let mut instances = Vec::new();
        for number in 1..=16 {
            instances.push(Instance::start(&house, number).await);
        }
        let links: Vec<SocketAddr> = instances.iter().map(|instance| instance.links).collect();
        let begun = Instant::now();
        let points: Vec<_> = (0..4).map(|_| dialling(&house, &links)).collect();
        for instance in &instances {
            instance.until_links(4).await;
        }
        // The site's side learns of a link half a round trip later.
        until(|| points.iter().all(|(point, _)| seen_by(point).len() == 16)).await;
        println!("64 links on both sides after {:?}", begun.elapsed());
        let there: BTreeSet<_> = points.iter().flat_map(|(point, _)| seen_by(point)).collect();
        let here: BTreeSet<_> = instances.iter().flat_map(|it| seen_at(&it.gateway)).collect();
        assert_eq!((there.len(), &there), (64, &here));
        for instance in &instances {
            read(&mut instance.client(&house, Http::Two).await, 4).await;
        }
        for (_, running) in points {
            assert_eq!(running.stop().await.reset, 0);
        }
        for instance in &instances {
            instance.until_links(0).await;
        }
    })
    .await;
}

/// The links that a connection point shows as up: its name and the instance's number.
fn seen_by(point: &ConnectionPoint) -> Vec<(String, u64)> {
    let status = point.status();
    let up = status.places.iter().filter(|place| place.links.iter().any(|it| !it.is_draining));
    up.map(|place| (status.name.clone(), place.instance.number().into())).collect()
}

/// The same, as an instance shows them.
fn seen_at(gateway: &Gateway) -> Vec<(String, u64)> {
    let status = gateway.status();
    let number = u64::from(status.instance.number());
    let up = status.links.iter().filter(|link| !link.is_draining);
    up.map(|link| (link.connection_point.to_string(), number)).collect()
}
