//! Limits on connections, from the sockets of their clients.

use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::time::Duration;

use http::Response;
use relay_core::transport::{link_client_config, secure_link};
use relay_tests::client::{Client, Http, bare, client_hello, tls};
use relay_tests::roles::{House, ROGUE, SERVICE, counted, target, until, within};
use relay_tests::running::{Instance, connection_point};
use relay_tests::site::{Backend, full, nobody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Long enough that nobody is let go of for being slow.
const PATIENCE: Duration = Duration::from_mins(5);

/// Requests in which a connection that need not wait would have come up.
const REQUESTS: usize = 50;

/// Where nobody is let go of for being slow to shake hands.
pub(super) fn house_of(nobody: std::net::SocketAddr) -> House {
    let mut house = House::before(nobody);
    house.gateway_limits.client_hello = PATIENCE;
    house.gateway_limits.tls_handshake = PATIENCE;
    house
}

/// Asks the instance about itself.
pub(super) async fn ask(client: &mut Client) -> u16 {
    client.ask(bare("GET", "/CCM_Proxy_MutualAuth/ServiceMetadata")).await.status()
}

/// Asks again and again on `client`, for as long as `waiting` has to wait meanwhile.
async fn still_waits<T>(
    mut waiting: Pin<&mut impl Future<Output = T>>,
    client: &mut Client,
) -> bool {
    for _ in 0..REQUESTS {
        tokio::select! {
            biased;
            _ = waiting.as_mut() => return false,
            status = ask(client) => assert_eq!(status, 200),
        }
    }
    true
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_until_one_ends() {
    within(async {
        let mut house = house_of(nobody().await);
        house.gateway_limits.client_connections_max = 3;
        let instance = Instance::start(&house, 1).await;
        let mut served = Vec::new();
        for _ in 0..3 {
            let mut client = instance.client(&house, Http::One).await;
            assert_eq!(ask(&mut client).await, 200);
            served.push(client);
        }
        let mut fourth = Box::pin(instance.client(&house, Http::One));
        assert!(still_waits(fourth.as_mut(), &mut served[2]).await);
        let counts = counted(instance.gateway.status().counts);
        assert_eq!(counts, [("client_connections_max", 1)].into());
        served.pop();
        assert_eq!(ask(&mut fourth.await).await, 200);
    })
    .await;
}

#[tokio::test]
async fn a_limit_beyond_what_can_be_counted_to_is_none() {
    within(async {
        let backend = Backend::start(|_| async { Response::new(full("whole")) }).await;
        let mut house = House::before(backend.address);
        house.gateway_limits.client_connections_max = usize::MAX;
        house.gateway_limits.client_handshakes_max = usize::MAX;
        house.gateway_limits.links_max = usize::MAX;
        house.gateway_limits.link_handshakes_max = usize::MAX;
        house.connection_point_limits.backend_connections_max = usize::MAX;
        let instance = Instance::start(&house, 1).await;
        let _point = connection_point(&house, &[instance.links]);
        instance.until_links(1).await;
        let mut client = instance.client(&house, Http::Two).await;
        assert_eq!(client.ask(bare("GET", &target("/SMS_MP/x"))).await.status(), 200);
    })
    .await;
}

/// A connection that stands still within its handshake, behind its `ClientHello`.
async fn in_handshake(house: &House, instance: &Instance) -> TcpStream {
    let hello = client_hello(house.ca.client_tls(b"http/1.1"));
    let mut stream = TcpStream::connect(instance.clients).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    // What the gateway says to it: it has its place.
    stream.readable().await.unwrap();
    stream
}

#[tokio::test]
async fn a_handshake_beyond_the_limit_waits_until_one_ends() {
    within(async {
        let mut house = house_of(nobody().await);
        house.gateway_limits.client_handshakes_max = 2;
        let instance = Instance::start(&house, 1).await;
        let mut before = instance.client(&house, Http::One).await;
        // Who has not said a hello has no place.
        let _silent = TcpStream::connect(instance.clients).await.unwrap();
        let first = in_handshake(&house, &instance).await;
        let mut beside = instance.client(&house, Http::One).await;
        assert_eq!(ask(&mut beside).await, 200, "one in its handshake of two");
        let _second = in_handshake(&house, &instance).await;
        let mut third = Box::pin(instance.client(&house, Http::One));
        assert!(still_waits(third.as_mut(), &mut before).await);
        let counts = counted(instance.gateway.status().counts);
        assert_eq!(counts, [("client_handshakes_max", 1)].into());
        drop(first);
        assert_eq!(ask(&mut third.await).await, 200);
    })
    .await;
}

#[tokio::test]
async fn of_one_address_a_handshake_beyond_its_share_waits_and_no_others_does() {
    within(async {
        let house = house_of(nobody().await);
        let instance = Instance::start(&house, 1).await;
        let mut before = instance.client(&house, Http::One).await;
        let mut held = Vec::new();
        for _ in 0..15 {
            held.push(in_handshake(&house, &instance).await);
        }
        let mut sixteenth = instance.client(&house, Http::One).await;
        assert_eq!(ask(&mut sixteenth).await, 200);
        held.push(in_handshake(&house, &instance).await);
        let mut beyond = Box::pin(instance.client(&house, Http::One));
        assert!(still_waits(beyond.as_mut(), &mut before).await);
        let other = TcpSocket::new_v4().unwrap();
        other.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let other = other.connect(instance.clients).await.unwrap();
        tls(other, &house.ca, b"http/1.1").await;
        assert!(still_waits(beyond.as_mut(), &mut before).await);
        held.pop();
        assert_eq!(ask(&mut beyond.await).await, 200);
    })
    .await;
}

/// A connection from `last` of loopback to the port for links.
async fn to_links(instance: &Instance, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    socket.connect(instance.links).await.unwrap()
}

/// Shakes hands with the port for links, and waits for what the instance says then.
async fn linked(house: &House, pipe: TcpStream) {
    let identity = house.ca.connection_point(ROGUE);
    let tls = link_client_config(&identity, &house.ca.anchors()).unwrap();
    let mut stream = secure_link(pipe, SERVICE, tls).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 1);
}

/// How often a link has waited for its address's share.
fn waited(instance: &Instance) -> u64 {
    let counts = counted(instance.gateway.status().counts);
    counts.get("link_handshakes_per_address").copied().unwrap_or(0)
}

#[tokio::test]
async fn of_one_address_a_links_handshake_beyond_its_share_waits_and_no_others_does() {
    within(async {
        let house = house_of(nobody().await);
        let instance = Instance::start(&house, 1).await;
        let mut client = instance.client(&house, Http::One).await;
        let mut held = Vec::new();
        for _ in 0..30 {
            held.push(to_links(&instance, 1).await);
        }
        for _ in 31..=32 {
            linked(&house, to_links(&instance, 1).await).await;
            held.push(to_links(&instance, 1).await);
        }
        assert_eq!(waited(&instance), 0);
        let beyond = to_links(&instance, 1).await;
        let mut beyond = Box::pin(linked(&house, beyond));
        assert!(still_waits(beyond.as_mut(), &mut client).await);
        assert_eq!(waited(&instance), 1);
        linked(&house, to_links(&instance, 2).await).await;
        assert!(still_waits(beyond.as_mut(), &mut client).await);
        held.pop();
        beyond.await;
    })
    .await;
}

#[tokio::test]
async fn so_many_links_of_one_address_wait_and_one_more_is_let_go_of() {
    within(async {
        let mut house = house_of(nobody().await);
        house.gateway_limits.link_handshakes_max = 32;
        let instance = Instance::start(&house, 1).await;
        // Two of them are in their handshake.
        let mut held = Vec::new();
        for _ in 0..31 {
            held.push(to_links(&instance, 1).await);
        }
        let last = to_links(&instance, 1).await;
        let mut beyond = to_links(&instance, 1).await;
        // Closed, before anything was said.
        assert_eq!(beyond.read(&mut [0; 16]).await.unwrap_or(0), 0);
        until(|| waited(&instance) == 30).await;
        linked(&house, to_links(&instance, 2).await).await;
        // As many wait of all addresses together.
        for _ in 0..4 {
            held.push(to_links(&instance, 3).await);
        }
        let mut beyond = to_links(&instance, 3).await;
        assert_eq!(beyond.read(&mut [0; 16]).await.unwrap_or(0), 0);
        linked(&house, to_links(&instance, 2).await).await;
        drop(held);
        linked(&house, last).await;
    })
    .await;
}
