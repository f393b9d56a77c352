//! A connected socket, and the network that it is of.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

#[cfg(any(test, feature = "test-util"))]
use super::memory::{MemoryHost, MemoryStream};
use super::tcp::{ConnectError, Purpose, connect, set_options};

/// A connected socket of any network that the roles run on.
///
/// Without the feature `test-util` that is the system's, and this a [`TcpStream`] in all but name,
/// unless the other end is within the process.
#[derive(Debug)]
#[non_exhaustive]
pub enum Socket {
    /// The operating system's.
    Tcp(TcpStream),
    /// A pipe within the process.
    Local(DuplexStream),
    /// A test's, in memory.
    #[cfg(any(test, feature = "test-util"))]
    Memory(MemoryStream),
}

/// Which network is dialled.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Network {
    /// The operating system's. The default.
    #[default]
    System,
    /// A test's, in memory, as one of its hosts sees it. A web proxy is not looked for there.
    #[cfg(any(test, feature = "test-util"))]
    Memory(MemoryHost),
}

impl Network {
    /// Connects to a port on which links are taken: over the system's network as [`connect`].
    ///
    /// # Errors
    ///
    /// [`ConnectError::Connect`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left behind.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Socket, ConnectError> {
        match self {
            Self::System => connect(host, port).await.map(Socket::Tcp),
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(from) => {
                let dialled = from.dial(host, port).await.map(Socket::Memory);
                let failed = |source| ConnectError::Connect { host: host.to_owned(), port, source };
                dialled.map_err(failed)
            }
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Local(stream) => Pin::new(stream).poll_read(cx, into),
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Local(stream) => Pin::new(stream).poll_write(cx, octets),
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Local(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Each of them takes many slices at once.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Local(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Local(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// What a port is listened on with.
#[derive(Debug)]
pub(super) enum Accepting {
    Tcp(tokio::net::TcpListener),
    #[cfg(any(test, feature = "test-util"))]
    Memory(super::memory::MemoryListener),
}

impl Accepting {
    /// Waits for the next connection, and sets its options.
    pub(super) async fn accept(&self, purpose: Purpose) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                set_options(&stream, purpose);
                Ok((Socket::Tcp(stream), from))
            }
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(listener) => {
                let (stream, from) = listener.accept().await;
                Ok((Socket::Memory(stream), from))
            }
        }
    }
}
