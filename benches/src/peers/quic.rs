//! `quinn` over UDP on loopback, with the same certificates and cipher suites as the TLS carrier.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, MtuDiscoveryConfig, RecvStream, SendStream, ServerConfig,
    TransportConfig,
};
use relay_core::transport::{link_client_config, link_server_config};
use tokio::task::JoinSet;

use super::octets;
use crate::pki::{HOST, SiteCa};
use crate::{CHUNK_OCTETS, HEAD_OCTETS, payload};

/// Octets of a stream's receive window.
const STREAM_WINDOW: u32 = 1 << 20;

/// Octets of the connection's receive and send windows.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Streams at once, more than any load opens.
const STREAMS: u32 = 1024;

/// The opening end.
#[derive(Clone, Debug)]
pub(super) struct Quic {
    connection: Connection,
    /// The sockets live as long as somebody may open a stream.
    _endpoints: [Endpoint; 2],
}

pub(super) async fn connect(tasks: &mut JoinSet<()>) -> Quic {
    let ca = SiteCa::new();
    let server = link_server_config(&ca.server(), &ca.anchors());
    let server = QuicServerConfig::try_from(server.expect("the identity was made for this"));
    let server = server.expect("the provider has QUIC's initial suite");
    let client = link_client_config(&ca.link_client(), &ca.anchors());
    let client = QuicClientConfig::try_from(client.expect("the identity was made for this"));
    let client = client.expect("the provider has QUIC's initial suite");

    let transport = Arc::new(transport());
    let mut server = ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(Arc::clone(&transport));
    let mut client = ClientConfig::new(Arc::new(client));
    client.transport_config(transport);

    let loopback = (Ipv4Addr::LOCALHOST, 0).into();
    let listening = Endpoint::server(server, loopback).expect("loopback has a free port");
    let dialling = Endpoint::client(loopback).expect("loopback has a free port");
    let address = listening.local_addr().expect("the socket is bound");
    let dial = dialling.connect_with(client, address, HOST).expect("the name is valid");
    let accept = async { listening.accept().await.expect("the endpoint is open").await };
    let (accepted, dialled) = tokio::join!(accept, dial);
    tasks.spawn(serve(dialled.expect("both sides are of one site")));
    let connection = accepted.expect("both sides are of one site");
    Quic { connection, _endpoints: [listening, dialling] }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(CONNECTION_WINDOW.into())
        .max_concurrent_bidi_streams(STREAMS.into())
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()))
        .keep_alive_interval(Some(Duration::from_secs(5)));
    transport
}

impl Quic {
    /// Makes one exchange and returns the octets of its answer.
    pub(super) async fn exchange(&self, request: Bytes, asked: usize) -> usize {
        let (_send, mut recv) = self.ask(&request, asked).await;
        let mut read = 0;
        while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.expect("the server answers")
        {
            read += chunk.bytes.len();
        }
        read.saturating_sub(HEAD_OCTETS)
    }

    /// Begins an exchange and reads the head of its answer only.
    pub(super) async fn hold(&self, asked: usize) -> (SendStream, RecvStream) {
        let (send, mut recv) = self.ask(&Bytes::new(), asked).await;
        let mut head = [0; HEAD_OCTETS];
        recv.read_exact(&mut head).await.expect("the server answers");
        (send, recv)
    }

    async fn ask(&self, request: &Bytes, asked: usize) -> (SendStream, RecvStream) {
        let opened = self.connection.open_bi().await;
        let (mut send, recv) = opened.expect("the connection is up");
        send.write_chunk(octets::request(request, asked)).await.expect("the stream is open");
        send.finish().expect("it was not finished before");
        (send, recv)
    }
}

async fn serve(connection: Connection) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(answer(send, recv));
    }
}

/// Ends early when the exchange is abandoned; the opener sees whether its answer was whole.
async fn answer(mut send: SendStream, mut recv: RecvStream) -> Option<()> {
    let mut head = [0; HEAD_OCTETS];
    recv.read_exact(&mut head).await.ok()?;
    let (_, asked) = octets::read_head(&head);
    while recv.read_chunk(usize::MAX, true).await.ok()?.is_some() {}
    let (first, mut left) = octets::answer(asked);
    send.write_chunk(first).await.ok()?;
    while left > 0 {
        let chunk = payload(left.min(CHUNK_OCTETS));
        left -= chunk.len();
        send.write_chunk(chunk).await.ok()?;
    }
    send.finish().ok()
}
