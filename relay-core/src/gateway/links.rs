//! One link of a connection point, from its handshake to its end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, SemaphorePermit};
use tokio::time::Instant;

use crate::link::{self, Link};
use crate::mux::{Config, ConfigError, LinkError, Side};
use crate::transport::{
    AcceptedLink, Certificate, ConnectError, Greeted, PeerIdentity, Rung, accept_link,
};

use super::accept::Counted;
use super::drained::drain;
use super::history::LinkEnd;
use super::newcomer::Newcomer;
use super::published::Peer;
use super::registry::{Arrival, Start};
use super::serve::{Gateway, LinkRefused};

impl Gateway {
    /// Serves one link of a connection point: mutual TLS, then the mux, until it ends. It shows as
    /// one over TCP-TLS.
    ///
    /// # Errors
    ///
    /// [`LinkRefused`] if it never came up. A link that was up and ends is logged, and `Ok`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the link.
    pub async fn serve_link<P>(&self, pipe: P) -> Result<(), LinkRefused>
    where
        P: AsyncRead + AsyncWrite + Unpin,
    {
        self.serve_link_over(Rung::TcpTls, pipe, None).await
    }

    /// As [`Gateway::serve_link`], over a pipe that `rung` names.
    pub(super) async fn serve_link_over<P>(
        &self,
        rung: Rung,
        pipe: P,
        newcomer: Option<Newcomer>,
    ) -> Result<(), LinkRefused>
    where
        P: AsyncRead + AsyncWrite + Unpin,
    {
        self.serve_link_begun(rung, pipe, newcomer, over_pipe).await
    }

    /// As [`Gateway::serve_link_over`]; `begin` makes a link of what the handshake comes to.
    pub(super) async fn serve_link_begun<P, D>(
        &self,
        rung: Rung,
        pipe: P,
        newcomer: Option<Newcomer>,
        begin: impl FnOnce(AcceptedLink<P>, Config) -> Result<(Link, D), ConfigError>,
    ) -> Result<(), LinkRefused>
    where
        P: AsyncRead + AsyncWrite + Unpin,
        D: Future<Output = LinkError>,
    {
        let handshake = |tls, limit| accept_link(pipe, tls, limit);
        self.admit(rung, newcomer, handshake, PeerIdentity::of_accepted, begin).await
    }

    /// As [`Gateway::serve_link`], for a peer whose `ClientHello` has been read.
    pub(super) async fn serve_greeted_link<P>(
        &self,
        peer: Greeted<P>,
        counted: Counted,
    ) -> Result<(), LinkRefused>
    where
        P: AsyncRead + AsyncWrite + Unpin,
    {
        let newcomer = Some(Newcomer::from(counted));
        let handshake = |tls, limit| peer.accept_link(tls, limit);
        self.admit(Rung::Https, newcomer, handshake, PeerIdentity::of_accepted, over_pipe).await
    }

    /// Has `handshake` authenticate a peer, if there is a place for it, and serves the link that
    /// `begin` makes of it, of a peer who has shown what `identify` reads. A `newcomer` has its
    /// places until then.
    pub(super) async fn admit<S, F, D>(
        &self,
        rung: Rung,
        newcomer: Option<Newcomer>,
        handshake: impl FnOnce(Arc<ServerConfig>, Duration) -> F,
        identify: impl FnOnce(&S) -> PeerIdentity,
        begin: impl FnOnce(S, Config) -> Result<(Link, D), ConfigError>,
    ) -> Result<(), LinkRefused>
    where
        F: Future<Output = Result<S, ConnectError>>,
        D: Future<Output = LinkError>,
    {
        let limits = Arc::clone(&self.terms().limits);
        if self.inner.link_places.available_permits() == 0 && self.is_crowded() {
            // Only authenticated peers hold places, so a handshake would serve but to say why, and
            // others need it more.
            return Err(LinkRefused::TooMany(limits.links_max));
        }
        let deadline = Instant::now() + limits.tls_handshake;
        let share = match &newcomer {
            None => None,
            Some(newcomer) => Some(self.share_of(newcomer, deadline).await?),
        };
        let Ok(in_handshake) = self.inner.link_handshakes.try_acquire() else {
            return Err(LinkRefused::TooManyHandshakes(limits.link_handshakes_max));
        };
        let tls = self.inner.link_tls.get();
        let stream = handshake(tls, limits.tls_handshake).await?;
        let shown = identify(&stream);
        let certified = shown.certificate().map_err(LinkRefused::from);
        let (link, driver) = begin(stream, self.link_config())?;
        // Only now: a stranger must not take the place of a connection point.
        let place = self.inner.link_places.try_acquire();
        let place = place.map_err(|_| LinkRefused::TooMany(limits.links_max));
        drop((in_handshake, share, newcomer));
        let (certificate, place) = match certified.and_then(|it| Ok((it, place?))) {
            Ok(admitted) => admitted,
            Err(why) => return Err(self.turn_away(&link, driver, why).await),
        };
        self.serve_authenticated(rung, (shown, certificate, place), link, driver).await
    }

    /// Whether half of the handshakes that may be under way are: whoever forges addresses, or comes
    /// in vain, must not have the rest.
    pub(super) fn is_crowded(&self) -> bool {
        let free = self.inner.link_handshakes.available_permits();
        free <= self.terms().limits.link_handshakes_max / 2
    }

    /// What this instance's side of every link has.
    fn link_config(&self) -> Config {
        let (limits, answerer) = (Arc::clone(&self.terms().limits), &self.inner.relay.answerer);
        let sized = Config::for_streams(16, limits.streams_per_link_max);
        Config {
            instance: answerer.instance.number().into(),
            name: answerer.service.chars().take(64).collect(),
            link: fastrand::u64(..),
            memory: Some(self.inner.link_memory.clone()),
            // A client that takes nothing is cut by its own limit, which says why.
            consumer_timeout: sized.consumer_timeout.max(2 * limits.answer_stall),
            ..sized
        }
    }

    /// Serves the link of a peer that has shown `certificate` and has a place.
    async fn serve_authenticated(
        &self,
        rung: Rung,
        (shown, certificate, place): (PeerIdentity, Arc<Certificate>, SemaphorePermit<'_>),
        link: Link,
        driver: impl Future<Output = LinkError>,
    ) -> Result<(), LinkRefused> {
        let mut driver = pin!(driver);
        let hello = tokio::select! {
            // First, or a peer that sends on and on would keep its hello from being noticed.
            biased;
            hello = link.established() => hello?,
            ended = driver.as_mut() => return Err(ended.into()),
        };
        if let Err(why) = prove_name(&certificate, &hello.name) {
            drop(place);
            return Err(self.turn_away(&link, driver, why).await);
        }
        let number = self.inner.links.fetch_add(1, Ordering::Relaxed) + 1;
        let name: Arc<str> = hello.name.as_str().into();
        let peer = Peer { name: Arc::clone(&name), site: hello.site.as_str().into() };
        let superseded = Arc::new(Notify::new());
        let arrival = Arrival {
            number,
            name: Arc::clone(&name),
            site: Arc::clone(&peer.site),
            start: Start::new(hello.epoch, hello.link),
            link: link.clone(),
            rung,
            certificate,
            superseded: Arc::clone(&superseded),
        };
        let Ok(registration) = self.inner.relay.registry.register(arrival) else {
            let why = LinkRefused::Stale(name.to_string());
            drop(place);
            return Err(self.turn_away(&link, driver, why).await);
        };
        tracing::info!(
            link = number,
            connection_point = &*name,
            %rung,
            site = hello.site,
            software = hello.software,
            "link up"
        );
        // When the instance stops, the link is drained after the last request: see `drain`.
        // All to their end: the driver goes on until its last octets have left.
        let retire = retire((&link, number), &superseded, || self.terms().limits.drain);
        let judge = self.judge(number, &shown, &link);
        let control = self.serve_control(&link, &peer, number);
        let (why, (), (), ()) = tokio::join!(driver, control, retire, judge);
        drop((registration, place));
        self.forget_in_renewal(number);
        tracing::info!(link = number, connection_point = &*name, %why, "link down");
        self.inner.history.note(LinkEnd::Down { number, connection_point: name }, &why);
        Ok(())
    }
}

/// Begins a link over a pipe.
pub(super) fn over_pipe<P>(pipe: P, config: Config) -> Result<(Link, link::Driver<P>), ConfigError>
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    link::new(pipe, Side::Listener, config)
}

/// Judges the name that a hello claims: whoever holds any certificate of the site could otherwise
/// take the place of another connection point.
fn prove_name(certificate: &Certificate, claimed: &str) -> Result<(), LinkRefused> {
    if certificate.is_named(claimed) {
        return Ok(());
    }
    let names = certificate.names().map(|name| format!("`{name}`")).collect::<Vec<_>>();
    Err(LinkRefused::NotItsName {
        claimed: claimed.to_owned(),
        certified: if names.is_empty() { "nobody".to_owned() } else { names.join(", ") },
    })
}

/// Drains the link once it has been superseded: it may be half-open, but it may also be alive, with
/// requests in flight.
async fn retire(
    (link, number): (&Link, u64),
    superseded: &Notify,
    limit: impl FnOnce() -> Duration,
) {
    tokio::select! {
        biased;
        _ = link.closed() => return,
        () = superseded.notified() => {}
    }
    drain(link, number, limit()).await;
}
