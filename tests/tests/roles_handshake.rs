//! How long a peer on an HTTPS port may take for its handshake, at both sides of each limit.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use relay_core::gateway::Gateway;
use relay_core::transport::{link_client_config, secure_link};
use relay_tests::client::{pipe_to, tls};
use relay_tests::roles::{House, PIPE, ROGUE, SERVICE, within};
use relay_tests::site::nobody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep_until};

const TICK: Duration = Duration::from_millis(1);

/// When a `ClientHello` must be there, and the last moment before.
const HELLO: Duration = Duration::from_secs(3);
const HELLO_LAST: Duration = Duration::from_millis(2_999);

/// When the whole handshake must be over, and the last moment before.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HANDSHAKE_LAST: Duration = Duration::from_millis(9_999);

/// A pipe to the clients' port on which what the peer says first arrives after `hello`, and
/// whatever it says then after `rest`, both from now.
fn slow_pipe(gateway: &Gateway, hello: Duration, rest: Duration) -> DuplexStream {
    let began = Instant::now();
    let (peer, near) = tokio::io::duplex(PIPE);
    let (mut from_gateway, mut to_gateway) = tokio::io::split(pipe_to(gateway));
    let (mut from_peer, mut to_peer) = tokio::io::split(near);
    tokio::spawn(async move {
        for due in [hello, rest] {
            let mut said = Vec::with_capacity(PIPE);
            from_peer.read_buf(&mut said).await.unwrap();
            sleep_until(began + due).await;
            // Fails once the gateway has given up.
            let _ = to_gateway.write_all(&said).await;
        }
        let _ = tokio::io::copy(&mut from_peer, &mut to_gateway).await;
    });
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_gateway, &mut to_peer).await;
        let _ = to_peer.shutdown().await;
    });
    peer
}

/// Whether a client that takes so long is answered.
async fn is_served(gateway: &Gateway, house: &House, hello: Duration, rest: Duration) -> bool {
    let pipe = slow_pipe(gateway, hello, rest);
    let ca = house.ca.client_tls(b"http/1.1");
    let name = rustls::pki_types::ServerName::try_from(SERVICE).unwrap();
    let connecting = tokio_rustls::TlsConnector::from(ca).connect(name, pipe);
    let Ok(mut stream) = connecting.await else { return false };
    let request = b"GET /x HTTP/1.1\r\nHost: relay.test\r\n\r\n";
    if stream.write_all(request).await.is_err() {
        return false;
    }
    stream.read(&mut [0; 1]).await.is_ok_and(|octets| octets > 0)
}

#[tokio::test(start_paused = true)]
async fn a_client_has_three_seconds_for_its_hello_and_ten_for_all_of_its_handshake() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        let (before, behind) = (HELLO_LAST, HELLO + TICK);
        let none = Duration::ZERO;
        for (hello, rest, expected) in [
            (none, none, true),
            (before, before, true),
            (behind, behind, false),
            (none, HANDSHAKE_LAST, true),
            (none, HANDSHAKE + TICK, false),
            (before, HANDSHAKE_LAST, true),
            (before, HANDSHAKE + TICK, false),
        ] {
            let served = is_served(&gateway, &house, hello, rest).await;
            assert_eq!(served, expected, "hello after {hello:?}, the rest after {rest:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_link_on_the_clients_port_has_no_longer() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        for (rest, expected) in [(HANDSHAKE_LAST, true), (HANDSHAKE + TICK, false)] {
            let pipe = slow_pipe(&gateway, HELLO_LAST, rest);
            let identity = house.ca.connection_point(ROGUE);
            let tls = link_client_config(&identity, &house.ca.anchors()).unwrap();
            let mut stream = secure_link(pipe, SERVICE, tls).await.unwrap();
            // The gateway's hello of the link, if there is to be one.
            let heard = stream.read(&mut [0; 1]).await;
            assert_eq!(heard.is_ok_and(|octets| octets > 0), expected, "{rest:?}");
        }
        let ended = gateway.status().ended;
        assert!(ended.iter().any(|it| it.why.starts_with("no TLS connection within 10 s")));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_given_up_after_three_seconds() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        let mut pipe = pipe_to(&gateway);
        let began = Instant::now();
        assert_eq!(pipe.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(began.elapsed(), HELLO);
        // One that speaks is not.
        tls(pipe_to(&gateway), &house.ca, b"h2").await;
    })
    .await;
}
