//! Clients that say nothing, as many as there may be handshakes, and others who come meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use relay_core::transport::{Rung, link_client_config};
use relay_tests::client::{Http, client_hello};
use relay_tests::roles::{House, ROGUE, address, within};
use relay_tests::running::{Instance, Running, told};
use relay_tests::site::nobody;
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::listener::{ask, house_of};

/// Handshakes of clients at once, and of links: the shares of all `ADDRESSES`, and few more. Less
/// than the default, so that what the tests open together is within the 1,024 descriptors that a
/// process usually may have.
const HANDSHAKES_MAX: usize = SHARE * ADDRESSES + 8;

/// Who says nothing: enough to have all places, were there no shares.
const SILENT: usize = HANDSHAKES_MAX + 16;

/// From so many addresses: each has no more connections than it may.
const ADDRESSES: usize = 6;

/// Places among handshakes of one address.
const SHARE: usize = 16;

/// One connection from the address of this number, on which nothing is said but `hello`.
async fn silent(number: usize, to: SocketAddr, hello: &[u8]) -> TcpStream {
    let last = 2 + u8::try_from(number % ADDRESSES).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(hello).await.unwrap();
    stream
}

/// Whether the gateway has let go of it. What it has said is read.
fn is_over(stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(why) => return why.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Has a client and a link on each rung of the clients' port come while `SILENT` others have said
/// `hello` at most. Nobody's time runs out.
async fn others_get_through(hello: Option<Arc<ClientConfig>>) {
    let mut house = house_of(nobody().await);
    house.gateway_limits.client_handshakes_max = HANDSHAKES_MAX;
    house.gateway_limits.link_handshakes_max = HANDSHAKES_MAX;
    let instance = Instance::start(&house, 1).await;
    let hello = hello.map(client_hello);
    let mut flood = Vec::new();
    for number in 0..SILENT {
        let said = hello.as_deref().unwrap_or_default();
        flood.push(silent(number, instance.clients, said).await);
    }
    if hello.is_some() {
        // What the gateway says to them: they have their places.
        for holder in &flood[..SHARE * ADDRESSES] {
            holder.readable().await.unwrap();
        }
    }
    for http in Http::BOTH {
        let mut client = instance.client(&house, http).await;
        assert_eq!(ask(&mut client).await, 200);
    }
    let mut points = Vec::new();
    for rung in [Rung::Https, Rung::HttpsUpgrade, Rung::HttpsHttp2] {
        let mut gateway = address(1, 0);
        gateway.tcp_tls_port = None;
        gateway.https_port = Some(instance.clients.port());
        gateway.only = Some(rung);
        let point = house.connection_point(vec![gateway]);
        points.push(Running::start(|stop| async move { point.run(told(stop)).await }));
        let links = house.connection_point_limits.links_per_instance;
        instance.until_links(links * points.len()).await;
    }
    let over = flood.iter().filter(|stream| is_over(stream)).count();
    assert_eq!(over, 0, "nobody has made room for them");
}

#[tokio::test]
async fn those_who_connect_and_say_nothing_hold_nobody_up() {
    within(others_get_through(None)).await;
}

#[tokio::test]
async fn clients_that_say_hello_and_then_nothing_hold_nobody_up() {
    within(async {
        let house = House::before(nobody().await);
        others_get_through(Some(house.ca.client_tls(b"http/1.1"))).await;
    })
    .await;
}

#[tokio::test]
async fn links_that_say_hello_and_then_nothing_hold_nobody_up() {
    within(async {
        let house = House::before(nobody().await);
        let identity = house.ca.connection_point(ROGUE);
        let tls = link_client_config(&identity, &house.ca.anchors()).unwrap();
        others_get_through(Some(tls)).await;
    })
    .await;
}
