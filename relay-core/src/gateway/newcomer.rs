//! Peers that are to become links and have not shown who they are: how many of one address may be
//! in their handshake at once.

use std::net::SocketAddr;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::accept::Counted;
use super::addresses::{Placed, Share};
use super::counted::Limit;
use super::serve::{Gateway, LinkRefused};

/// A peer that is to become a link, before it has shown who it is.
#[derive(Debug)]
pub(super) enum Newcomer {
    /// Of an HTTPS port, which bounds how many of its kind there are.
    Https {
        /// Its address's places among handshakes there.
        share: Share,
        /// Its place among connections, unless somebody else keeps that.
        _counted: Option<Counted>,
    },
    /// Of a port for links alone, over TCP or QUIC.
    Own(Placed),
}

impl From<Counted> for Newcomer {
    fn from(counted: Counted) -> Self {
        Self::Https { share: counted.placed.share(), _counted: Some(counted) }
    }
}

impl From<Share> for Newcomer {
    fn from(share: Share) -> Self {
        Self::Https { share, _counted: None }
    }
}

impl Gateway {
    /// A peer that has come to a port for links alone; refused if too many of its address have.
    pub(super) fn count_in_link(&self, from: SocketAddr) -> Result<Newcomer, LinkRefused> {
        let placed = self.inner.link_addresses.place(from.ip());
        placed.map(Newcomer::Own).map_err(|_| self.too_many_waiting())
    }

    /// Whether a peer has to show that it receives at `from`. Whoever forges that address would
    /// else have the places of those who are there.
    #[cfg(feature = "quic")]
    pub(super) fn is_to_be_asked_back(&self, from: SocketAddr) -> bool {
        self.is_crowded() || self.inner.link_addresses.is_crowded(from.ip())
    }

    /// A place among the handshakes of a newcomer's address. Waits for one until `deadline`:
    /// behind one address there may be a whole site.
    pub(super) async fn share_of(
        &self,
        newcomer: &Newcomer,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, LinkRefused> {
        let too_many = |limit| move || LinkRefused::TooManyOfAddress(limit);
        let placed = match newcomer {
            Newcomer::Https { share, .. } => {
                let limit = self.inner.addresses.handshakes_max();
                return self.handshake_share(share, deadline).await.ok_or_else(too_many(limit));
            }
            Newcomer::Own(placed) => placed,
        };
        let share = placed.share();
        if let Some(place) = share.try_take() {
            return Ok(place);
        }
        self.note(Limit::LinkHandshakesOfAddress);
        // Bounds all who wait; nobody needs it whose address has places left.
        let waits = self.inner.link_waits.try_acquire();
        let _waits = waits.map_err(|_| self.too_many_waiting())?;
        let limit = self.inner.link_addresses.handshakes_max();
        share.take(deadline).await.ok_or_else(too_many(limit))
    }

    fn too_many_waiting(&self) -> LinkRefused {
        LinkRefused::TooManyWaiting(self.terms().limits.link_handshakes_max)
    }
}
