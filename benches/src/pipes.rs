//! Connected byte pipes over loopback sockets, bare or inside TLS, with their writes counted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use relay_core::transport::{
    Listener, Purpose, Socket, accept_link, link_client_config, link_server_config, secure_link,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::pki::{HOST, SiteCa};

/// Time for a handshake on loopback; only a fixture that is broken takes it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a connection travels in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Carrier {
    /// TCP.
    Plain,
    /// TLS 1.3 over TCP, both sides with certificates, as in production.
    Tls,
}

impl Carrier {
    /// Every carrier.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Tls];

    /// Its name in a benchmark's id.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
        }
    }
}

/// A byte pipe of any carrier.
pub trait Pipe: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<P: AsyncRead + AsyncWrite + Unpin + Send + 'static> Pipe for P {}

/// How many writes both sockets of a pair have taken. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Writes(Arc<AtomicU64>);

impl Writes {
    /// Writes so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Both ends of a connected pipe.
pub struct Pipes {
    /// The end that accepted.
    pub accepted: Box<dyn Pipe>,
    /// The end that dialled.
    pub dialled: Box<dyn Pipe>,
    /// Writes to the sockets of both ends, below TLS.
    pub writes: Writes,
}

impl std::fmt::Debug for Pipes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipes").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl Pipes {
    /// A pair over a fresh connection.
    ///
    /// # Panics
    ///
    /// If loopback cannot be used or the handshake fails.
    pub async fn new(carrier: Carrier) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await;
        let listener = listener.expect("loopback has a free port");
        let dial = TcpStream::connect(listener.local_addr());
        let ((accepted, _), dialled) = tokio::join!(listener.accept(Purpose::Link), dial);
        let dialled = dialled.expect("the listener takes the connection");
        dialled.set_nodelay(true).expect("the socket is connected");
        let writes = Writes::default();
        let accepted = Counted { socket: accepted, writes: writes.clone() };
        let dialled = Counted { socket: dialled.into(), writes: writes.clone() };
        if carrier == Carrier::Plain {
            return Self { accepted: Box::new(accepted), dialled: Box::new(dialled), writes };
        }
        let ca = SiteCa::new();
        let server = link_server_config(&ca.server(), &ca.anchors());
        let server = server.expect("the identity was made for this");
        let client = link_client_config(&ca.link_client(), &ca.anchors());
        let client = client.expect("the identity was made for this");
        let accept = accept_link(accepted, server, HANDSHAKE);
        let (accepted, dialled) = tokio::join!(accept, secure_link(dialled, HOST, client));
        Self {
            accepted: Box::new(accepted.expect("both sides are of one site")),
            dialled: Box::new(dialled.expect("both sides are of one site")),
            writes,
        }
    }
}

/// A socket that counts what is written to it by call, whoever writes: the same small cost for all.
struct Counted {
    socket: Socket,
    writes: Writes,
}

impl Counted {
    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.writes.0.fetch_add(1, Ordering::Relaxed);
        }
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, octets);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
