//! A backend within the process.
//!
//! The site's token service must know that a request comes from the connection point and from
//! nobody else: what it is told of a client's certificate counts for that reason alone. A socket
//! could be connected to by any program on the machine; so here is none. Connections are pipes in
//! memory, which nobody else can open, and everything else is as for every backend: pools, limits,
//! deadlines and health.
//!
//! Read [`LocalService`] first. The connection point has it, and whoever answers has
//! [`LocalConnections`].

use std::io;

use tokio::io::{DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};

/// Connections that may wait to be taken; one more waits for a place among them. As many as that
/// are the backend's limit of connections at most.
const WAITING_MAX: usize = 64;

/// Octets that a pipe holds each way. Both take their memory when it is made: 32 KiB.
// Messages to a token service have a few KiB, and there is no way to be filled by one write.
const PIPE_OCTETS: usize = 16 << 10;

/// A backend within the process, as the connection point sees it. Clones are one and the same.
///
/// # Examples
///
/// ```
/// use relay_core::connection_point::{BackendConfig, LocalService};
///
/// let (service, mut connections) = LocalService::new();
/// let backend = BackendConfig::local(service);
/// assert_eq!(backend.urls, ["local"]);
/// # let _ = async move {
/// while let Some(pipe) = connections.next().await {
///     // Serve HTTP/1.1 on it.
///     # drop(pipe);
/// }
/// # };
/// ```
#[derive(Clone, Debug)]
pub struct LocalService(mpsc::Sender<oneshot::Sender<DuplexStream>>);

/// Where the connections of a [`LocalService`] arrive. While nobody takes them, and once this is
/// dropped, the service is unreachable.
#[derive(Debug)]
pub struct LocalConnections(mpsc::Receiver<oneshot::Sender<DuplexStream>>);

impl LocalService {
    /// A service and its connections.
    // Not `Self` alone: without the other half it is of no use.
    #[allow(clippy::new_ret_no_self, reason = "it is a pair")]
    pub fn new() -> (Self, LocalConnections) {
        let (asked, asking) = mpsc::channel(WAITING_MAX);
        (Self(asked), LocalConnections(asking))
    }

    /// Whether both are one service.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }

    /// A new connection, once it is taken.
    ///
    /// # Errors
    ///
    /// Nobody takes connections any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection that nobody waits for is never made.
    pub(super) async fn connect(&self) -> io::Result<DuplexStream> {
        let nobody = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody serves it");
        let (taken, connected) = oneshot::channel();
        self.0.send(taken).await.map_err(|_| nobody())?;
        connected.await.map_err(|_| nobody())
    }
}

impl LocalConnections {
    /// The next connection; `None` once no connection point has the service any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn next(&mut self) -> Option<DuplexStream> {
        loop {
            let asking = self.0.recv().await?;
            let (near, far) = duplex(PIPE_OCTETS);
            // Who has given up has no need of it.
            if asking.send(near).is_ok() {
                return Some(far);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn each_connection_is_a_pipe_to_whoever_takes_it() {
        let (service, mut connections) = LocalService::new();
        for octet in [1, 2] {
            let (near, far) = tokio::join!(service.connect(), connections.next());
            let (mut near, mut far) = (near.unwrap(), far.unwrap());
            near.write_u8(octet).await.unwrap();
            assert_eq!(far.read_u8().await.unwrap(), octet);
            drop(far);
            assert_eq!(near.read(&mut [0]).await.unwrap(), 0, "the end");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_takes_connections_none_is_made() {
        let (service, mut connections) = LocalService::new();
        let waiting = timeout(Duration::from_secs(5), service.connect());
        assert!(waiting.await.is_err(), "it waits");
        // The one that has given up is not handed over.
        let (near, far) = tokio::join!(service.connect(), connections.next());
        drop(near.unwrap());
        assert_eq!(far.unwrap().read(&mut [0]).await.unwrap(), 0);
        drop(connections);
        let refused = service.connect().await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn who_waits_is_told_when_the_service_is_dropped_within_the_line_and_behind_it() {
        let (service, connections) = LocalService::new();
        let mut waiting: Vec<_> = (0..=WAITING_MAX).map(|_| Box::pin(service.connect())).collect();
        let mut cx = Context::from_waker(Waker::noop());
        for waiting in &mut waiting {
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(connections.0.len(), WAITING_MAX, "and one that waits for a place");
        drop(connections);
        for waiting in waiting {
            waiting.await.unwrap_err();
        }
    }

    #[tokio::test]
    async fn a_service_that_no_connection_point_has_gets_no_connection_any_more() {
        let (service, mut connections) = LocalService::new();
        let clone = service.clone();
        assert!(service.is(&clone) && !service.is(&LocalService::new().0));
        drop((service, clone));
        assert!(connections.next().await.is_none());
    }
}
