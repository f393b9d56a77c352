//! Who is taken on an HTTPS port: places among connections and handshakes, and what there is memory
//! for.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, SemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::transport::{ConnectError, Listener, Purpose, Socket};

use super::addresses::{Placed, Share, TooMany};
use super::counted::Limit;
use super::serve::{Gateway, PendingLink, Port};

/// The places of a connection to an HTTPS port: among all, and among those of its address.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) placed: Placed,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    pub(super) fn new(placed: Placed, place: OwnedSemaphorePermit) -> Self {
        Self { placed, _place: place }
    }
}

impl Gateway {
    /// Takes what connects to an HTTPS port. What turns out to be a link is handed over.
    pub(super) async fn accept_https(
        &self,
        listener: Option<&Listener>,
        port: Port,
        hand_over: &mpsc::Sender<PendingLink>,
        tasks: &mut JoinSet<()>,
    ) {
        let Some(listener) = listener else { return std::future::pending().await };
        loop {
            let (stream, from) = tokio::select! {
                biased;
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = self.accept_on(listener, port) => accepted,
            };
            // Before TLS: who has too many gets nothing that costs more.
            let Some(placed) = self.count_in(from) else {
                tokio::task::yield_now().await;
                continue;
            };
            // One without a place waits here, and those behind it in the kernel's queue. Before it
            // is accepted none may be taken: a port at which nobody comes would keep that one.
            let Some(place) = self.place(port).await else { return };
            let counted = Counted::new(placed, place);
            let (gateway, hand_over) = (self.clone(), hand_over.clone());
            tasks.spawn(async move {
                if let Some(link) = gateway.serve_https(stream, from, port, counted).await {
                    // Nobody takes it when the instance stops.
                    let _ = hand_over.send(link).await;
                }
            });
            // One a turn: a port that is flooded keeps no other from its turn.
            tokio::task::yield_now().await;
        }
    }

    /// A place for one more connection; waits for one. `None` never comes.
    async fn place(&self, port: Port) -> Option<OwnedSemaphorePermit> {
        let places = || match port {
            Port::Shared => Arc::clone(&self.inner.connections),
            // Clients that come again and again must not keep a link from coming back.
            Port::Links => Arc::clone(&self.inner.link_connections),
        };
        if let Ok(place) = places().try_acquire_owned() {
            return Some(place);
        }
        self.note(Limit::Connections);
        places().acquire_owned().await.ok()
    }

    /// Waits for the next connection to an HTTPS port, if the memory in use lets it have one.
    async fn accept_on(&self, listener: &Listener, port: Port) -> (Socket, SocketAddr) {
        let memory = &self.inner.relay.memory;
        loop {
            if port == Port::Shared {
                memory.may_accept().await;
            }
            tokio::select! {
                biased;
                () = memory.may_not_accept(), if port == Port::Shared => {}
                accepted = listener.accept(Purpose::Clients) => return accepted,
            }
        }
    }

    /// A place among the connections of an address; `None` if it has too many.
    pub(super) fn count_in(&self, from: SocketAddr) -> Option<Placed> {
        let placed = self.inner.addresses.place(from.ip());
        if placed.is_err() {
            self.note(Limit::OfAddress);
        }
        if let Err(TooMany { to_tell: Some(refused) }) = placed {
            let limit = self.terms().limits.connections_per_address_max;
            tracing::info!(%from, limit, refused, "more connections than one address may have");
        }
        placed.ok()
    }

    /// Places for a handshake, until `deadline`: first one of its own address, since who waits for
    /// that is in nobody's way.
    pub(super) async fn handshake_places(
        &self,
        counted: &Counted,
        deadline: Instant,
    ) -> Option<(OwnedSemaphorePermit, SemaphorePermit<'_>)> {
        let share = self.handshake_share(&counted.placed.share(), deadline).await?;
        // Never closed.
        let place = timeout_at(deadline, self.handshake_place()).await.ok()?.ok()?;
        Some((share, place))
    }

    /// A place for a handshake; waits for one.
    async fn handshake_place(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        let places = &self.inner.client_handshakes;
        if let Ok(place) = places.try_acquire() {
            return Ok(place);
        }
        self.note(Limit::Handshakes);
        places.acquire().await
    }

    /// A place for a handshake among those of its address; `None` if there is none until
    /// `deadline`.
    pub(super) async fn handshake_share(
        &self,
        share: &Share,
        deadline: Instant,
    ) -> Option<OwnedSemaphorePermit> {
        if let Some(place) = share.try_take() {
            return Some(place);
        }
        self.note(Limit::HandshakesOfAddress);
        share.take(deadline).await
    }

    /// Tells of a client that did not come to a request; `limit` is what it had time by.
    pub(super) fn failed_handshake(
        &self,
        from: SocketAddr,
        limit: Limit,
        why: &ConnectError,
    ) -> Option<PendingLink> {
        tracing::debug!(%from, %why, "client handshake failed");
        if matches!(why, ConnectError::Timeout { .. }) {
            self.note(limit);
        }
        None
    }
}
