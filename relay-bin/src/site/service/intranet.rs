//! The listener for clients of the site's own network.
//!
//! TLS has a client prove the key of whatever certificate it shows; what that is worth is decided
//! where tokens are. Without TLS it listens on loopback alone.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use relay_core::config::IdentityPaths;
use relay_core::transport::client_edge_config_asking;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::front::{From, Front};
use super::rate::Source;

/// Connections at a time; others wait in the operating system's queue.
pub(super) const CONNECTIONS_MAX: usize = 256;

/// How long a connection may take, from its first octet to the last of its one answer.
const CONNECTION_TIME: Duration = Duration::from_secs(40);

/// For the handshake of TLS alone.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How often certificate and key are read again.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// How long nothing is accepted after a failure, as when no descriptor is left.
const REST: Duration = Duration::from_millis(100);

/// What is shown to clients.
pub(super) struct IntranetTls {
    files: Option<IdentityPaths>,
    shown: RwLock<Option<Arc<ServerConfig>>>,
    /// Why the files could not be read last.
    told: RwLock<Option<String>>,
}

impl IntranetTls {
    /// Reads certificate and key, if there are to be any.
    ///
    /// # Errors
    ///
    /// They cannot be used.
    pub(super) fn new(files: Option<IdentityPaths>) -> anyhow::Result<Self> {
        let shown = files.as_ref().map(read).transpose()?;
        Ok(Self { files, shown: RwLock::new(shown), told: RwLock::default() })
    }

    /// Reads the files again; what cannot be used changes nothing, and is told once. Blocks.
    pub(super) fn look(&self) {
        let Some(files) = &self.files else { return };
        let told = match read(files) {
            Ok(config) => {
                *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
                None
            }
            Err(why) => Some(format!("{why:#}")),
        };
        let mut before = self.told.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &told
            && *before != told
        {
            tracing::error!(
                why,
                "the token service's certificate cannot be used; the one before still is"
            );
        }
        *before = told;
    }

    fn acceptor(&self) -> Option<TlsAcceptor> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.clone().map(TlsAcceptor::from)
    }
}

fn read(files: &IdentityPaths) -> anyhow::Result<Arc<ServerConfig>> {
    let identity = files.read().context("cannot read the token service's certificate")?;
    let config = client_edge_config_asking(&identity)?;
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The listener.
pub(super) struct Intranet {
    listener: TcpListener,
    tls: Arc<IntranetTls>,
    front: Arc<Front>,
    places: Arc<Semaphore>,
    time: Duration,
}

impl Intranet {
    pub(super) fn new(listener: TcpListener, tls: Arc<IntranetTls>, front: Arc<Front>) -> Self {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { listener, tls, front, places, time: CONNECTION_TIME }
    }

    /// Accepts and serves, for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts all connections.
    pub(super) async fn serve(self) {
        let mut served = JoinSet::new();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                (stream, source, place) = self.accept() => {
                    let one = serve_one(stream, source, self.tls.acceptor(), self.front.clone());
                    let time = self.time;
                    served.spawn(async move {
                        let _ = timeout(time, one).await;
                        drop(place);
                    });
                }
                Some(_) = served.join_next() => {}
                _ = looks.tick() => {
                    let tls = Arc::clone(&self.tls);
                    // One that fails has told so.
                    let _ = tokio::task::spawn_blocking(move || tls.look()).await;
                }
            }
        }
    }

    /// The next connection, once there is a place for it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a place that was taken is given back.
    async fn accept(&self) -> (TcpStream, Source, OwnedSemaphorePermit) {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let Ok(place) = place else { std::future::pending().await };
            match self.listener.accept().await {
                Ok((stream, address)) => return (stream, Source::of(address.ip()), place),
                Err(why) => {
                    tracing::debug!(%why, "the token service cannot accept a connection");
                    sleep(REST).await;
                }
            }
        }
    }
}

async fn serve_one(stream: TcpStream, source: Source, tls: Option<TlsAcceptor>, front: Arc<Front>) {
    let Some(tls) = tls else {
        return front.serve(stream, From::Intranet(source, None)).await;
    };
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIME, tls.accept(stream)).await else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = shown.map(|leaf| leaf.to_vec());
    front.serve(stream, From::Intranet(source, shown)).await;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use relay_core::config::site_tokens;
    use tokio::task::yield_now;

    use super::super::front::Limits;
    use super::super::office::Office;
    use super::*;

    async fn intranet(places: usize) -> (Intranet, std::net::SocketAddr) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file.toml");
        let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        std::fs::write(&file, format!("[tokens]\nfolder = \"t\"\ntenant = \"{tenant}\"\n"))
            .unwrap();
        let (office, _) = Office::open(site_tokens(&file).unwrap(), Arc::default()).unwrap();
        let front = Arc::new(Front::new(office, Limits::default(), Arc::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Arc::new(IntranetTls::new(None).unwrap());
        let places = Arc::new(Semaphore::new(places));
        (Intranet { places, ..Intranet::new(listener, tls, front) }, address)
    }

    #[tokio::test]
    async fn one_connection_more_than_may_be_waits_until_another_ends() {
        let (intranet, address) = intranet(2).await;
        assert_eq!(CONNECTIONS_MAX, 256);
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let (_, _, first) = intranet.accept().await;
        let _second = intranet.accept().await;
        let mut third = pin!(intranet.accept());
        for _ in 0..64 {
            tokio::select! {
                biased;
                _ = &mut third => panic!("there was no place for it"),
                () = yield_now() => {}
            }
        }
        drop(first);
        let (_, source, _) = third.await;
        assert_eq!(source, Source::of([127, 0, 0, 1].into()));
    }
}
