//! Sockets, and TLS over them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::proxy::ProxyError;
use super::socket::{Accepting, Socket};
use super::tls::LINK_ALPN;

/// How long sent octets may stay unacknowledged before the kernel gives a connection up. Equal to
/// the mux's own detection of a dead peer while streams are open.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(15);

/// How many octets may wait in the kernel for a link that are not yet on their way. More would only
/// delay small exchanges behind bulk.
const UNSENT_MAX: u32 = 128 << 10;

/// The same for a client. What waits there counts as taken (`gateway/patient.rs`): without a bound
/// Linux's takes 4 MiB of an answer for a client that takes nothing, and with it 192 KiB, most of
/// them in the client's own kernel.
const CLIENT_UNSENT_MAX: u32 = 64 << 10;

/// Octets that TLS takes from a link at once and holds sealed until the socket takes them. The
/// 64 KiB that rustls takes by default are as much again in write calls: 21 for each MiB, not 13.
const SEALED_OCTETS_MAX: usize = 128 << 10;

/// After how much silence a client's connection is probed, how often, and how many probes may go
/// unanswered. A client that vanished during an exchange that is held open on purpose, when there
/// is nothing to send to it, is noticed within two minutes.
const PROBE_AFTER: Duration = Duration::from_mins(1);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES_MAX: u32 = 4;

/// How often a full descriptor table is asked again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often the log is told that nothing can be accepted.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Which peers a socket serves; decides its options.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Many short-lived connections of clients.
    Clients,
    /// A link that is to live for weeks.
    Link,
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Accepting,
    address: SocketAddr,
    failures: Failures,
}

impl Listener {
    /// Listens on `address`; port 0 takes any free one.
    ///
    /// # Errors
    ///
    /// As the operating system says, e.g. that the address is in use.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let (address, socket) = (socket.local_addr()?, Accepting::Tcp(socket));
        Ok(Self { address, socket, failures: Failures::default() })
    }

    /// Listens on a socket that somebody else has opened, such as a supervisor.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it does not listen; else as the operating system says.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn from_std(socket: std::net::TcpListener) -> io::Result<Self> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !socket2::SockRef::from(&socket).is_listener()? {
            let why = "the socket that was passed does not listen";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let (address, socket) = (socket.local_addr()?, Accepting::Tcp(socket));
        Ok(Self { address, socket, failures: Failures::default() })
    }

    /// Listens on a network in memory.
    #[cfg(any(test, feature = "test-util"))]
    pub fn memory(listener: super::memory::MemoryListener) -> Self {
        let (address, socket) = (listener.local_addr(), Accepting::Memory(listener));
        Self { address, socket, failures: Failures::default() }
    }

    /// The address it listens on, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection and sets its options for `purpose`.
    ///
    /// A failure to accept concerns one connection, or passes (the descriptor table is full): it is
    /// logged, once a second at most, and tried again 20 times a second.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn accept(&self, purpose: Purpose) -> (Socket, SocketAddr) {
        self.failures.outlast(self.address, || self.socket.accept(purpose)).await
    }
}

/// Connections that could not be accepted.
#[derive(Debug, Default)]
struct Failures(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    count: u64,
    told_at: Option<Instant>,
}

impl Failures {
    /// Tries until it works.
    async fn outlast<T, F>(&self, listener: SocketAddr, attempt: impl Fn() -> F) -> T
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            let error = match attempt().await {
                Ok(done) => return done,
                Err(error) => error,
            };
            if let Some(failures) = self.note() {
                tracing::warn!(%listener, %error, failures, "could not accept");
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    /// Counts one more. Returns how many the log is to tell of now, if it is not to wait.
    fn note(&self) -> Option<u64> {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        untold.count += 1;
        if untold.told_at.is_some_and(|told| now < told + TELL_EVERY) {
            return None;
        }
        untold.told_at = Some(now);
        Some(std::mem::take(&mut untold.count))
    }
}

/// Sets what can be set; an option that the system does not have is no reason to refuse.
pub(super) fn set_options(stream: &TcpStream, purpose: Purpose) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    if purpose == Purpose::Clients {
        let probes = socket2::TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
        let probes = probes.with_retries(PROBES_MAX);
        #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
        let _ = PROBES_MAX;
        let _ = socket.set_tcp_keepalive(&probes);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket.set_tcp_notsent_lowat(CLIENT_UNSENT_MAX);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = CLIENT_UNSENT_MAX;
        return;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
        let _ = socket.set_tcp_notsent_lowat(UNSENT_MAX);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (UNACKNOWLEDGED_MAX, UNSENT_MAX);
}

/// Why a TLS connection did not come about. The text ends an administrator's search.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name did not resolve, or nobody listens there.
    #[error("cannot connect to {host}:{port}: {source}")]
    Connect {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// Connecting or the handshake took too long: a filtered port, usually.
    #[error("no TLS connection within {} s; is the port filtered on the way?", limit.as_secs())]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
    /// The handshake failed: a certificate that is not of the site, expired, or of another name.
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    /// A QUIC connection did not come about: a certificate that is not of the site, expired, or of
    /// another name, or a peer that speaks no QUIC.
    #[error("QUIC handshake failed: {0}")]
    Quic(Box<str>),
    /// The name to verify is neither a DNS name nor an address. The configuration's fault.
    #[error("`{0}` is not a name that a certificate can carry")]
    BadName(String),
    /// The peer does not speak the link protocol.
    #[error("the peer does not offer `relay-link/1`; is this the link port?")]
    NotALink,
    /// The web proxy did not give a tunnel.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// An HTTP upgrade was answered otherwise. Whoever answers on the HTTPS port is no gateway
    /// instance, or is one that takes no links there.
    #[error(
        "the upgrade to a link was answered {status}, not 101; is this a gateway's HTTPS port?"
    )]
    NotUpgraded {
        /// The answer's status.
        status: u16,
    },
    /// An extended CONNECT was answered otherwise, as in [`ConnectError::NotUpgraded`].
    #[error(
        "the CONNECT of a link was answered {status}, not 200; is this a gateway's HTTPS port?"
    )]
    NotConnected {
        /// The answer's status.
        status: u16,
    },
    /// The far end speaks HTTP/2 and offers no extended CONNECT: RFC 8441, section 3.
    #[error(
        "the far end's HTTP/2 offers no extended CONNECT (RFC 8441); whatever ends TLS on the way \
         must pass it on"
    )]
    NoExtendedConnect,
    /// HTTP/2 failed before the link was granted.
    #[error("no link over HTTP/2: {0}")]
    Http2(Box<str>),
    /// An HTTP upgrade failed before or behind its answer.
    #[error("the upgrade to a link failed: {0}")]
    Upgrade(String),
}

/// Connects to a port on which links are taken.
///
/// The name is resolved anew at each call, and each of its addresses is tried.
///
/// # Errors
///
/// [`ConnectError::Connect`].
///
/// # Cancel safety
///
/// Cancel safe: nothing is left behind.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let stream = TcpStream::connect((host, port)).await;
    let stream =
        stream.map_err(|source| ConnectError::Connect { host: host.to_owned(), port, source })?;
    set_options(&stream, Purpose::Link);
    Ok(stream)
}

/// Speaks TLS on a connected pipe, and verifies that the peer is `server_name`.
///
/// # Errors
///
/// [`ConnectError::BadName`] and [`ConnectError::Tls`].
///
/// # Cancel safety
///
/// Dropping the future ends the connection.
pub async fn secure<P: AsyncRead + AsyncWrite + Unpin>(
    pipe: P,
    server_name: &str,
    tls: Arc<ClientConfig>,
) -> Result<client::TlsStream<P>, ConnectError> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| ConnectError::BadName(server_name.to_owned()))?;
    TlsConnector::from(tls).connect(name, pipe).await.map_err(ConnectError::Tls)
}

/// Makes a link of a connected pipe: TLS with both sides' certificates verified, and the link's
/// ALPN name.
///
/// # Errors
///
/// [`ConnectError`].
///
/// # Cancel safety
///
/// Dropping the future drops the pipe.
pub async fn secure_link<P: AsyncRead + AsyncWrite + Unpin>(
    pipe: P,
    server_name: &str,
    tls: Arc<ClientConfig>,
) -> Result<client::TlsStream<P>, ConnectError> {
    let mut stream = secure(pipe, server_name, tls).await?;
    stream.get_mut().1.set_buffer_limit(Some(SEALED_OCTETS_MAX));
    if stream.get_ref().1.alpn_protocol() != Some(LINK_ALPN) {
        return Err(ConnectError::NotALink);
    }
    Ok(stream)
}

/// Accepts TLS on a connected pipe.
///
/// # Errors
///
/// [`ConnectError::Tls`] and [`ConnectError::Timeout`].
pub async fn accept_tls<P: AsyncRead + AsyncWrite + Unpin>(
    pipe: P,
    tls: Arc<ServerConfig>,
    limit: Duration,
) -> Result<server::TlsStream<P>, ConnectError> {
    in_time(limit, TlsAcceptor::from(tls).accept(pipe)).await
}

/// One step of a handshake, which has `limit` to end.
pub(super) async fn in_time<T>(
    limit: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, ConnectError> {
    match tokio::time::timeout(limit, step).await {
        Ok(ended) => ended.map_err(ConnectError::Tls),
        Err(_) => Err(ConnectError::Timeout { limit }),
    }
}

/// Accepts a link: as [`accept_tls`], and the peer must speak the link protocol.
///
/// # Errors
///
/// [`ConnectError`].
pub async fn accept_link<P: AsyncRead + AsyncWrite + Unpin>(
    pipe: P,
    tls: Arc<ServerConfig>,
    limit: Duration,
) -> Result<server::TlsStream<P>, ConnectError> {
    is_link(accept_tls(pipe, tls, limit).await?)
}

/// Judges an accepted connection: the peer must speak the link protocol.
pub(super) fn is_link<P>(
    mut stream: server::TlsStream<P>,
) -> Result<server::TlsStream<P>, ConnectError> {
    stream.get_mut().1.set_buffer_limit(Some(SEALED_OCTETS_MAX));
    if stream.get_ref().1.alpn_protocol() != Some(LINK_ALPN) {
        return Err(ConnectError::NotALink);
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_there_is_no_descriptor_one_is_asked_for_20_times_a_second_and_told_once() {
        // Source: the table of descriptors of a process is full, errno(3).
        const EMFILE: i32 = 24;
        let (begun, failures) = (Instant::now(), Failures::default());
        let (tried, told) = (Cell::new(0), Cell::new(0));
        let attempt = || {
            tried.set(tried.get() + 1);
            let is_over = begun.elapsed() >= Duration::from_secs(10);
            std::future::ready(if is_over {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(EMFILE))
            })
        };
        failures.outlast(([127, 0, 0, 1], 1).into(), attempt).await;
        assert_eq!(tried.get(), 201, "for ten seconds");
        // 19 came behind the last that was told of.
        assert_eq!(failures.0.lock().unwrap().count, 19);
        for _ in 0..40 {
            tokio::time::advance(ACCEPT_PAUSE).await;
            told.set(told.get() + failures.note().unwrap_or(0));
        }
        assert!((40..=59).contains(&told.get()), "{}", told.get());
    }

    #[tokio::test]
    async fn a_socket_of_somebody_else_is_listened_on_and_one_that_does_not_listen_is_refused() {
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = socket.local_addr().unwrap();
        let listener = Listener::from_std(socket).unwrap();
        assert_eq!(listener.local_addr(), at);
        let (accepted, client) =
            tokio::join!(listener.accept(Purpose::Clients), TcpStream::connect(at));
        assert_eq!(accepted.1, client.unwrap().local_addr().unwrap());

        #[cfg(target_os = "linux")]
        {
            let idle = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let refused = Listener::from_std(idle.unwrap().into()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[tokio::test]
    async fn a_clients_connection_is_probed_when_it_is_silent() {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr());
        let (accepted, _client) = tokio::join!(listener.accept(Purpose::Clients), dialled);
        let Socket::Tcp(accepted) = accepted.0 else { panic!("a socket of another network") };
        assert!(socket2::SockRef::from(&accepted).keepalive().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_takes_little_of_what_a_client_does_not() {
        // The client's own buffer, which would follow the path otherwise, and what is on its way to
        // it.
        const CLIENTS_KERNEL_MAX: usize = 256 << 10;
        let client = tokio::net::TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(64 << 10).unwrap();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let dialled = client.connect(listener.local_addr());
        let (accepted, _client) = tokio::join!(listener.accept(Purpose::Clients), dialled);
        let Socket::Tcp(accepted) = accepted.0 else { panic!("a socket of another network") };
        accepted.writable().await.unwrap();
        let mut taken = 0;
        while let Ok(octets) = accepted.try_write(&[0; 16 << 10]) {
            taken += octets;
            // Else it does not hear that there is room.
            tokio::task::yield_now().await;
        }
        assert!(taken > 0);
        assert!(taken <= CLIENT_UNSENT_MAX as usize + CLIENTS_KERNEL_MAX, "{taken}");
    }
}
