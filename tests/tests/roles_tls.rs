//! Which TLS is spoken at each port, from outside: versions, and that nothing is heard early.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::Arc;

use relay_core::gateway::Gateway;
use relay_core::transport::{Identity, LINK_ALPN};
use relay_tests::client::pipe_to;
use relay_tests::roles::{House, PIPE, ROGUE, SERVICE, within};
use relay_tests::site::nobody;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, HandshakeKind, ProtocolVersion, SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

// RFC 8446, sections 5.1 and 6.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const FATAL: u8 = 2;
const PROTOCOL_VERSION: u8 = 70;

fn with_length(octets: usize, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[4 - octets..], payload].concat()
}

fn extension(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_length(2, payload)].concat()
}

/// What a client says first that knows no version above `version`: RFC 4346 and RFC 5246, section
/// 7.4.1.2. Whatever else a server asks for is there.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let suites = [0xc0, 0x2f, 0xc0, 0x2b, 0xc0, 0x13, 0xc0, 0x09, 0x00, 0x2f];
    let groups = with_length(2, &[0x00, 0x1d, 0x00, 0x17]);
    let signatures = with_length(2, &[0x04, 0x03, 0x08, 0x04, 0x04, 0x01, 0x02, 0x01]);
    let name = [&[0][..], &with_length(2, SERVICE.as_bytes())].concat();
    let extensions = [
        extension(0, &with_length(2, &name)),
        extension(10, &groups),
        extension(11, &[1, 0]),
        extension(13, &signatures),
        // RFC 7627: without it TLS 1.2 is refused for another reason.
        extension(23, &[]),
    ];
    let body = [
        &version[..],
        &[7; 32],
        &[0],
        &with_length(2, &suites),
        &[1, 0],
        &with_length(2, &extensions.concat()),
    ];
    let message = [&[1][..], &with_length(3, &body.concat())].concat();
    [&[HANDSHAKE, 3, 1][..], &with_length(2, &message)].concat()
}

/// A new connection to the clients' port, and one to the port of links.
fn ports(gateway: &Gateway) -> [DuplexStream; 2] {
    let (near, far) = tokio::io::duplex(PIPE);
    let links = gateway.clone();
    tokio::spawn(async move { links.serve_link(near).await });
    [pipe_to(gateway), far]
}

/// What a port answers to a hello: the type of its record, and what is in that.
async fn answered(mut pipe: DuplexStream, hello: &[u8]) -> (u8, Vec<u8>) {
    pipe.write_all(hello).await.unwrap();
    let mut head = [0; 5];
    pipe.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; u16::from_be_bytes([head[3], head[4]]).into()];
    pipe.read_exact(&mut payload).await.unwrap();
    (head[0], payload)
}

#[tokio::test]
async fn tls_1_1_and_below_are_refused_by_their_version_at_each_port() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        for version in [[3, 0], [3, 1], [3, 2]] {
            for (number, port) in ports(&gateway).into_iter().enumerate() {
                let told = answered(port, &hello(version)).await;
                assert_eq!(told, (ALERT, vec![FATAL, PROTOCOL_VERSION]), "{version:?} {number}");
            }
        }
        // The very same but for its version: clients are served, links are not.
        let [clients, links] = ports(&gateway);
        assert_eq!(answered(clients, &hello([3, 3])).await.0, HANDSHAKE);
        let told = answered(links, &hello([3, 3])).await;
        assert_eq!(told, (ALERT, vec![FATAL, PROTOCOL_VERSION]));
    })
    .await;
}

/// TLS of one version, which trusts the site's authority and shows `identity`.
fn of_version(
    house: &House,
    version: &'static SupportedProtocolVersion,
    identity: Option<Identity>,
    alpn: &[u8],
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(house.ca.roots());
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(it) => {
            config.with_client_auth_cert(it.chain().to_vec(), it.key().clone_key()).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

async fn shake_hands(
    pipe: DuplexStream,
    tls: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<DuplexStream>> {
    let name = ServerName::try_from(SERVICE).unwrap();
    TlsConnector::from(tls).connect(name, pipe).await
}

/// Asks the gateway about itself, and waits for the answer.
async fn ask(stream: &mut TlsStream<DuplexStream>) {
    let request = b"GET /CCM_Proxy_MutualAuth/ServiceMetadata HTTP/1.1\r\nHost: relay.test\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn clients_are_served_over_tls_1_2_and_1_3() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        for (version, expected) in
            [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
        {
            let tls = of_version(&house, version, None, b"http/1.1");
            let mut stream = shake_hands(pipe_to(&gateway), Arc::new(tls)).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
            ask(&mut stream).await;
        }
    })
    .await;
}

#[tokio::test]
async fn links_are_taken_over_tls_1_3_alone_at_each_port() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        let tls = |version| {
            let identity = Some(house.ca.connection_point(ROGUE));
            Arc::new(of_version(&house, version, identity, LINK_ALPN))
        };
        for port in ports(&gateway) {
            let why = shake_hands(port, tls(&TLS12)).await.unwrap_err();
            let why = why.get_ref().unwrap().downcast_ref::<rustls::Error>();
            let expected = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
            assert_eq!(why, Some(&expected));
        }
        for port in ports(&gateway) {
            let mut stream = shake_hands(port, tls(&TLS13)).await.unwrap();
            // The gateway's hello of the link.
            stream.read_exact(&mut [0; 1]).await.unwrap();
        }
    })
    .await;
}

/// Shakes hands again with what was learnt before. Returns how, and whether anything may be said
/// early.
async fn again(pipe: DuplexStream, tls: &Arc<ClientConfig>) -> (HandshakeKind, bool) {
    let name = ServerName::try_from(SERVICE).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::clone(tls), name).unwrap();
    let may = connection.early_data().is_some();
    drop(connection);
    let stream = shake_hands(pipe, Arc::clone(tls)).await.unwrap();
    (stream.get_ref().1.handshake_kind().unwrap(), may)
}

#[tokio::test]
async fn nothing_is_heard_early_of_clients_that_come_again_nor_of_links() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        let mut tls = of_version(&house, &TLS13, None, b"http/1.1");
        tls.enable_early_data = true;
        let tls = Arc::new(tls);
        let mut first = shake_hands(pipe_to(&gateway), Arc::clone(&tls)).await.unwrap();
        // With the answer come tickets.
        ask(&mut first).await;
        // A client is known again, and all the same must wait until the handshake is over.
        assert_eq!(again(pipe_to(&gateway), &tls).await, (HandshakeKind::Resumed, false));

        let identity = Some(house.ca.connection_point(ROGUE));
        let mut tls = of_version(&house, &TLS13, identity, LINK_ALPN);
        tls.enable_early_data = true;
        let tls = Arc::new(tls);
        for at in 0..2 {
            let [_, port] = ports(&gateway);
            let mut first = shake_hands(port, Arc::clone(&tls)).await.unwrap();
            first.read_exact(&mut [0; 1]).await.unwrap();
            let port = ports(&gateway).into_iter().nth(at).unwrap();
            // A link is not even known again: whoever is there shows a certificate each time.
            assert_eq!(again(port, &tls).await, (HandshakeKind::Full, false));
        }
    })
    .await;
}
