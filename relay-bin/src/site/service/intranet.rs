//! The listener for clients of the site's own network.
//!
//! TLS has a client prove the key of whatever certificate it shows; what that is worth is decided
//! where tokens are. Without TLS it listens on loopback alone.

use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use relay_core::config::IdentityPaths;
use relay_core::transport::client_edge_config_asking;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::front::{From, Front};
use super::places::{Places, Taken};
use super::rate::Source;
use super::tally::Came;

/// Connections at a time; others wait in the operating system's queue.
const CONNECTIONS_MAX: usize = 256;

/// Of one source; one more is closed. Our choice: eight hosts at least have to work together to
/// keep others waiting, and a proxy has places for all clients behind it that ask at a time.
const CONNECTIONS_OF_SOURCE_MAX: usize = 32;

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
    places: Places,
}

impl Intranet {
    pub(super) fn new(listener: TcpListener, tls: Arc<IntranetTls>, front: Arc<Front>) -> Self {
        let places = Places::new(CONNECTIONS_MAX, CONNECTIONS_OF_SOURCE_MAX);
        Self { listener, tls, front, places }
    }

    /// Accepts and serves until `stop` says so, or nobody is left who could. Then it accepts no
    /// more, and ends with the last of the requests that have begun; each has a limit of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts all connections.
    pub(super) async fn serve(self, stop: watch::Receiver<bool>) {
        let mut served = JoinSet::new();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = pin!(stopped(stop.clone()));
        loop {
            tokio::select! {
                (stream, place) = self.accept() => {
                    let (tls, front) = (self.tls.acceptor(), Arc::clone(&self.front));
                    let stop = stop.clone();
                    served.spawn(async move {
                        serve_one(stream, place.source(), (tls, front), stop).await;
                        drop(place);
                    });
                }
                Some(_) = served.join_next() => {}
                _ = looks.tick() => {
                    let tls = Arc::clone(&self.tls);
                    // One that fails has told so.
                    let _ = tokio::task::spawn_blocking(move || tls.look()).await;
                }
                () = &mut stopping => break,
            }
        }
        drop(self.listener);
        while served.join_next().await.is_some() {}
    }

    /// The next connection, once there is a place for it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a place that was taken is given back.
    async fn accept(&self) -> (TcpStream, Taken) {
        loop {
            let place = self.places.free().await;
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(why) => {
                    tracing::debug!(%why, "the token service cannot accept a connection");
                    sleep(REST).await;
                    continue;
                }
            };
            let Some(place) = self.places.take(place, Source::of(address.ip())) else {
                self.front.tally.came(Came::OverSource);
                continue;
            };
            if self.places.are_taken() {
                self.front.tally.came(Came::Last);
            }
            return (stream, place);
        }
    }
}

/// Serves a connection for as long as it may take.
async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    source: Source,
    (tls, front): (Option<TlsAcceptor>, Arc<Front>),
    stop: watch::Receiver<bool>,
) {
    let tally = Arc::clone(&front.tally);
    let served = async {
        let Some(tls) = tls else {
            return front.serve(stream, From::Intranet(source, None), stopped(stop)).await;
        };
        let shaken = tokio::select! {
            shaken = timeout(HANDSHAKE_TIME, tls.accept(stream)) => shaken,
            // Nothing has been asked on it.
            () = stopped(stop.clone()) => return,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return,
            Err(_) => return front.tally.came(Came::LateHandshake),
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let shown = shown.map(|leaf| leaf.to_vec());
        front.serve(stream, From::Intranet(source, shown), stopped(stop)).await;
    };
    if timeout(CONNECTION_TIME, served).await.is_err() {
        tally.came(Came::Late);
    }
}

/// Ends once it is to stop.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // Nobody is left who could say so: that says it as well.
    let _ = stop.wait_for(|is_to_stop| *is_to_stop).await;
}

#[cfg(test)]
#[path = "intranet/tests.rs"]
mod tests;
