//! QUIC endpoints: UDP sockets on which connections with a link's own TLS are dialled or taken.
//!
//! TLS is that of every other link: version 1.3, both sides' certificates of the site, and the ALPN
//! name `relay-link/1`. What a connection may carry is raised by whoever makes a link of it; until
//! then its peer has one stream and a few kilooctets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{
    HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig,
};
use quinn::{Endpoint, EndpointConfig, Incoming, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use tokio::task::JoinSet;

use super::certificate::{Certificate, CertificateError};
use super::tcp::ConnectError;
use super::tls::LINK_ALPN;

/// A connection of QUIC's, whose handshake is over.
pub use quinn::Connection as QuicConnection;

/// Octets that the peer may send on a stream beyond what was read of it.
///
/// Our choice: 100 Mbit/s for one exchange on a path of 20 ms. QUIC's window does not grow with
/// the path, and all windows of a link are reserved, so it is less than a link over TCP may reach.
pub const QUIC_STREAM_WINDOW: u32 = 256 << 10;

/// Streams of a link at most, each way: their windows are eight times those over TCP.
pub const QUIC_STREAMS_MAX: u32 = 1024;

/// Octets of receive memory with which 1,040 streams have their windows.
pub const QUIC_LINK_MEMORY: u64 = 1040 * QUIC_STREAM_WINDOW as u64;

/// Octets that may be on their way, or wait to be, on one connection.
const SEND_WINDOW: u64 = 8 << 20;

/// Octets that all streams may bring before there is a link.
const FIRST_WINDOW: u32 = 16 << 10;

/// How often the dialer gives a sign of life. The listener answers, so one side is enough.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// After how much silence the connection is given up.
///
/// RFC 9000, section 10.1: the time begins anew with the first sign that is sent into the silence,
/// so a dead path is noticed within this and [`KEEP_ALIVE`]: 15 s, as over TCP.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Connections whose first packet has come and that nobody has taken up yet.
const WAITING_MAX: usize = 512;

/// How long one address has before the next one is tried beside it.
///
/// Source: RFC 8305, section 5.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// What connections may use before they carry a link.
fn transport(control_streams: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(control_streams.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(QUIC_STREAM_WINDOW.into())
        .receive_window(FIRST_WINDOW.into())
        .send_window(SEND_WINDOW)
        .max_idle_timeout(SILENCE_MAX.try_into().ok());
    transport
}

/// What a failed handshake is to an administrator.
fn failed(what: impl std::fmt::Display) -> ConnectError {
    ConnectError::Quic(what.to_string().into())
}

/// What a listener does with peers.
fn server_config(tls: Arc<ServerConfig>) -> Result<quinn::ServerConfig, NoInitialCipherSuite> {
    let crypto = QuicServerConfig::try_from(tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport(1)))
        // A connection point does not move, and an address that changes is more often forged.
        .migration(false)
        .max_incoming(WAITING_MAX);
    Ok(config)
}

/// The certificate that the peer of a connection has shown and that was verified.
///
/// # Errors
///
/// [`CertificateError`].
pub fn quic_certificate(connection: &QuicConnection) -> Result<Certificate, CertificateError> {
    Certificate::of_chain(&quic_chain(connection))
}

/// The certificates that the peer of a connection has shown and that were verified, leaf first.
pub fn quic_chain(connection: &QuicConnection) -> Vec<CertificateDer<'static>> {
    let shown = connection.peer_identity();
    shown.and_then(|it| it.downcast().ok()).map(|chain| *chain).unwrap_or_default()
}

/// A UDP socket on which links are taken. Once it is dropped, new peers are refused; connections
/// that were taken go on.
#[derive(Debug)]
pub struct QuicListener {
    endpoint: Endpoint,
    address: SocketAddr,
}

impl QuicListener {
    /// Listens on `address`; port 0 takes any free one. `tls` is usually from
    /// [`link_server_config`](super::link_server_config).
    ///
    /// # Errors
    ///
    /// As the operating system says, e.g. that the address is in use;
    /// [`io::ErrorKind::InvalidInput`] if `tls` is not for TLS 1.3.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn bind(address: SocketAddr, tls: Arc<ServerConfig>) -> io::Result<Self> {
        Self::from_std(UdpSocket::bind(address)?, tls)
    }

    /// As [`bind`](Self::bind), on a socket that somebody else has opened, such as a supervisor.
    ///
    /// # Errors
    ///
    /// As of [`bind`](Self::bind).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn from_std(socket: UdpSocket, tls: Arc<ServerConfig>) -> io::Result<Self> {
        let config =
            server_config(tls).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime)?;
        let address = endpoint.local_addr()?;
        Ok(Self { endpoint, address })
    }

    /// The address it listens on, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next peer that begins a connection. Never ready once the socket has failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn accept(&self) -> QuicArrival {
        match self.endpoint.accept().await {
            Some(incoming) => QuicArrival { incoming },
            None => std::future::pending().await,
        }
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        self.endpoint.set_server_config(None);
    }
}

/// A peer that begins a connection. Dropping it refuses the peer.
#[derive(Debug)]
pub struct QuicArrival {
    incoming: Incoming,
}

impl QuicArrival {
    /// Where it comes from; may be forged unless [`QuicArrival::is_validated`].
    pub fn from(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Whether the peer has shown that it receives at its address.
    pub fn is_validated(&self) -> bool {
        self.incoming.remote_address_validated()
    }

    /// Has the peer show that it receives at its address, and come again. Costs it a round trip and
    /// this side no memory. Refuses a peer that has done so already.
    ///
    /// Source: RFC 9000, section 8.1.2.
    pub fn ask_back(self) {
        // Whoever may not be asked is refused by being dropped.
        let _ = self.incoming.retry();
    }

    /// Takes the connection: TLS as `tls` says, which need not be what the listener began with,
    /// with both sides' certificates verified, and the link's ALPN name.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; the handshake has `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn accept(
        self,
        tls: Arc<ServerConfig>,
        limit: Duration,
    ) -> Result<QuicConnection, ConnectError> {
        let handshake = async {
            let config = Arc::new(server_config(tls).map_err(failed)?);
            let connecting = self.incoming.accept_with(config).map_err(failed)?;
            connecting.await.map_err(failed)
        };
        let made = tokio::time::timeout(limit, handshake).await;
        is_link(made.unwrap_or(Err(ConnectError::Timeout { limit }))?)
    }
}

/// Dials a gateway instance's UDP port.
///
/// The name is resolved anew at each call. Its addresses are tried one after the other, each beside
/// those before it. Never through a web proxy: those carry no UDP.
///
/// # Errors
///
/// [`ConnectError`]. A port whose packets are swallowed shows only in that nothing comes of it: the
/// caller has a deadline.
///
/// # Cancel safety
///
/// Cancel safe: nothing is left behind.
pub async fn dial_quic(
    host: &str,
    port: u16,
    server_name: &str,
    tls: Arc<ClientConfig>,
) -> Result<QuicConnection, ConnectError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(failed)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = transport(0);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    let unreachable = |source| ConnectError::Connect { host: host.to_owned(), port, source };
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(unreachable)?;
    let mut attempts = JoinSet::new();
    for (nth, address) in (0..).zip(addresses) {
        let (config, name) = (config.clone(), server_name.to_owned());
        attempts.spawn(async move {
            tokio::time::sleep(NEXT_ADDRESS * nth).await;
            attempt(address, config, &name).await
        });
    }
    let mut why = None;
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(connection)) => return is_link(connection),
            Ok(Err(error)) => why = Some(error),
            Err(_) => {}
        }
    }
    Err(why.unwrap_or_else(|| {
        unreachable(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }))
}

async fn attempt(
    address: SocketAddr,
    config: quinn::ClientConfig,
    server_name: &str,
) -> Result<QuicConnection, ConnectError> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(any).map_err(failed)?;
    let connecting = endpoint.connect_with(config, address, server_name).map_err(failed)?;
    // The socket lives as long as its connection.
    connecting.await.map_err(failed)
}

/// Judges a connection: both sides must speak the link protocol.
fn is_link(connection: QuicConnection) -> Result<QuicConnection, ConnectError> {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    if data.and_then(|data| data.protocol).as_deref() == Some(LINK_ALPN) {
        return Ok(connection);
    }
    connection.close(VarInt::from_u32(0), b"not a link");
    Err(ConnectError::NotALink)
}
