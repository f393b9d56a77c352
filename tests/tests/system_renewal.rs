//! A gateway's link certificate is renewed over real sockets, whatever carries the link.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use relay_core::connection_point::GatewayAddress;
use relay_core::gateway::{Gateway, Listeners};
use relay_core::transport::{
    Listener, QuicListener, Rung, connect, link_client_config, link_server_config, secure_link,
    shown_chain,
};
use relay_tests::renewal::{Chain, Prepared};
use relay_tests::roles::{House, SERVICE, address, until, within};
use tokio::sync::watch;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What the gateway shows on its link port now.
async fn shown(house: &House, at: SocketAddr) -> Chain {
    let socket = connect("127.0.0.1", at.port()).await.unwrap();
    let identity = house.ca.connection_point("looker");
    let tls = link_client_config(&identity, &house.ca.anchors()).unwrap();
    shown_chain(&secure_link(socket, SERVICE, tls).await.unwrap())
}

/// Ways of the links that are up.
fn ways(gateway: &Gateway) -> Vec<Rung> {
    gateway.status().links.iter().map(|link| link.rung).collect()
}

async fn is_renewed_over(rung: Rung) {
    let mut house = House::before(ANY);
    let prepared = Prepared::new(&house, 1);
    let next = prepared.next().chain().to_vec();
    house.keeper = Some(Arc::clone(&prepared) as _);
    house.issuer = Some(Arc::clone(&prepared) as _);
    let gateway = house.gateway(1);
    let clients = Listener::bind(ANY).await.unwrap();
    let links = Listener::bind(ANY).await.unwrap();
    let tls = link_server_config(&house.ca.server(SERVICE), &house.ca.anchors()).unwrap();
    let quic = QuicListener::bind(ANY, tls).unwrap();
    let port = |wanted, port| (wanted == rung).then_some(port);
    let to = GatewayAddress {
        quic_port: port(Rung::Quic, quic.local_addr().port()),
        tcp_tls_port: port(Rung::TcpTls, links.local_addr().port()),
        https_port: port(Rung::Https, clients.local_addr().port()),
        ..address(1, 0)
    };
    let at = links.local_addr();
    let listeners = Listeners { clients, links: Some(links), https_links: None, quic: Some(quic) };
    let stop = watch::Sender::new(false);
    let stopped = || {
        let mut stop = stop.subscribe();
        async move { _ = stop.wait_for(|stop| *stop).await }
    };
    let (serving, stop_serving) = (gateway.clone(), stopped());
    let serving = tokio::spawn(async move { serving.serve(listeners, stop_serving).await });
    let before = shown(&house, at).await;
    let running = tokio::spawn(house.connection_point(vec![to]).run(stopped()));
    until(|| gateway.status().link_certificate.is_some()).await;
    assert_eq!(prepared.peers(), [before], "what the link has met");
    assert_eq!(prepared.held(), next);
    assert_eq!(shown(&house, at).await, next);
    assert_eq!(ways(&gateway), [rung]);
    stop.send_replace(true);
    running.await.unwrap();
    serving.await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_renewed_over_each_way() {
    for rung in [Rung::TcpTls, Rung::Https, Rung::Quic] {
        within(is_renewed_over(rung)).await;
    }
}
