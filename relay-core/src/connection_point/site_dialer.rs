//! Connections to site roles, over whichever network the connection point is on, and to what stands
//! in for one within the process.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::body::BoxError;
#[cfg(any(test, feature = "test-util"))]
use crate::transport::memory::MemoryHost;
use crate::transport::{Network, Socket};

use super::local_service::LocalService;

/// Octets asked for as the kernel's receive buffer of a connection to a site role; Linux takes
/// twice as much, half of it for its own accounts: tcp(7), `SO_RCVBUF`.
///
/// Left alone, the kernel lets the buffer of a fast backend grow to megabytes, and a client that
/// reads slowly leaves it full. A thousand of them had all that the kernel has for TCP (`tcp_mem`),
/// and it then dropped what arrived for the links. A window of 128 KiB is a gigabit per second and
/// connection while the round trip is at most a millisecond, as it is within a site.
const RECEIVE_BUFFER: usize = 128 << 10;

/// Dials site roles.
#[derive(Clone, Debug)]
pub(super) enum SiteDialer {
    System(HttpConnector),
    /// Dials no network at all.
    Local(LocalService),
    #[cfg(any(test, feature = "test-util"))]
    Memory(MemoryHost),
}

impl SiteDialer {
    /// A dialer on `network`, which gives up after `limit`.
    pub(super) fn new(network: &Network, limit: Duration) -> Self {
        match network {
            Network::System => {
                let mut tcp = HttpConnector::new();
                tcp.set_nodelay(true);
                tcp.enforce_http(false);
                tcp.set_recv_buffer_size(Some(RECEIVE_BUFFER));
                tcp.set_connect_timeout(Some(limit));
                Self::System(tcp)
            }
            #[cfg(any(test, feature = "test-util"))]
            Network::Memory(host) => Self::Memory(host.clone()),
        }
    }
}

impl Service<Uri> for SiteDialer {
    type Response = TokioIo<Socket>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Socket>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::System(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            Self::Local(_) => Poll::Ready(Ok(())),
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        match self {
            Self::System(tcp) => {
                let connecting = tcp.call(to);
                Box::pin(async move {
                    let stream = connecting.await?.into_inner();
                    Ok(TokioIo::new(Socket::from(stream)))
                })
            }
            Self::Local(service) => {
                let service = service.clone();
                Box::pin(async move {
                    let pipe = service.connect().await?;
                    Ok(TokioIo::new(Socket::Local(pipe)))
                })
            }
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(host) => {
                let host = host.clone();
                Box::pin(async move {
                    let port = to.port_u16().unwrap_or(80);
                    let stream = host.dial(to.host().unwrap_or_default(), port).await?;
                    Ok(TokioIo::new(Socket::Memory(stream)))
                })
            }
        }
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        match self {
            Self::Tcp(stream) => stream.connected(),
            Self::Local(_) => Connected::new(),
            #[cfg(any(test, feature = "test-util"))]
            Self::Memory(_) => Connected::new(),
        }
    }
}
