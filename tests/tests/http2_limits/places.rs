//! The place of a request that its client has reset, while a connection point is slow to let go.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::Method;
use relay_core::gateway::{Gateway, Listeners};
use relay_core::link::{Incoming, Link, new_quic};
use relay_core::mux::{Config, Side};
use relay_core::transport::{
    Listener, QuicListener, dial_quic, link_client_config, link_server_config,
};
use relay_tests::quic::{ANY, HANDSHAKE, config};
use relay_tests::roles::{SERVICE, publish, tell};
use relay_tests::site::nobody;

use super::*;

/// Requests that are reset: fewer than the client may reset, and more than one.
const RESET: u32 = 30;

/// Returns once everything that the gateway had to say before is known at the site.
async fn settled(site: &Link) {
    for _ in 0..3 {
        tell(site, Method::GET, "/relay/certificate-request", "").await;
    }
}

/// Whether a request waits at the site.
fn comes(site: &Link) -> Option<Incoming> {
    match pin!(site.accept()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(incoming) => Some(incoming.unwrap()),
        Poll::Pending => None,
    }
}

/// A client asks a hundred times, resets some and asks anew; `site` is in the test's hands and lets
/// go of nothing by itself.
async fn a_place_is_free_when_the_site_lets_go(gateway: &Gateway, house: &House, site: &Link) {
    let mut client = Http2Client::join(gateway, &house.ca).await;
    client.until(|frame| frame.kind == kind::SETTINGS).await.unwrap();
    let asked: Vec<u8> = streams(0, STREAMS_MAX).flat_map(held).collect();
    client.send(&asked).await;
    let mut work = VecDeque::new();
    for _ in 0..STREAMS_MAX {
        work.push_back(site.accept().await.unwrap());
    }
    let (old, new) = (streams(0, RESET), streams(STREAMS_MAX, RESET));
    let again: Vec<u8> =
        old.zip(new).flat_map(|(old, new)| [reset(old), held(new)].concat()).collect();
    client.send(&again).await;
    let mut given_up = VecDeque::new();
    for _ in 0..RESET {
        let mut incoming = work.pop_front().unwrap();
        incoming.send.stopped().await;
        given_up.push_back(incoming);
    }
    // What was sent before it has been looked at when it is answered.
    client.send(&frame(kind::PING, 0, 0, b"settled?")).await;
    client.until(|frame| frame.kind == kind::PING && frame.flags & ACK != 0).await.unwrap();
    settled(site).await;
    assert!(comes(site).is_none(), "a hundred are at work");
    while let Some(incoming) = given_up.pop_front() {
        drop(incoming);
        work.push_back(site.accept().await.unwrap());
        settled(site).await;
        assert!(comes(site).is_none(), "one for one");
    }
    assert_eq!(work.len(), STREAMS_MAX as usize);
}

#[tokio::test]
async fn a_request_that_was_reset_keeps_its_place_until_the_site_has_let_go_of_it() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        a_place_is_free_when_the_site_lets_go(&gateway, &house, &rogue.link).await;
    })
    .await;
}

#[tokio::test]
async fn a_request_that_was_reset_keeps_its_place_over_quic_too() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        let tls = link_server_config(&house.ca.server(SERVICE), &house.ca.anchors()).unwrap();
        let quic = QuicListener::bind(ANY, tls).unwrap();
        let port = quic.local_addr().port();
        let clients = Listener::bind(ANY).await.unwrap();
        let listeners = Listeners { clients, links: None, https_links: None, quic: Some(quic) };
        let serving = gateway.clone();
        tokio::spawn(async move { serving.serve(listeners, std::future::pending()).await });
        let identity = house.ca.connection_point("rogue");
        let tls = Arc::clone(&link_client_config(&identity, &house.ca.anchors()).unwrap());
        let dialled = dial_quic("127.0.0.1", port, SERVICE, tls);
        let connection = tokio::time::timeout(HANDSHAKE, dialled).await.unwrap().unwrap();
        let site = house.document().site;
        let config = Config { name: "rogue".to_owned(), site, ..config(1024) };
        let (site, driver) = new_quic(connection, Side::Dialer, config).unwrap();
        tokio::spawn(driver);
        publish(&site, house.document().encode().unwrap()).await;
        a_place_is_free_when_the_site_lets_go(&gateway, &house, &site).await;
    })
    .await;
}
