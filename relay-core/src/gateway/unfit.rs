//! Connection points whose certificate does not hold any more are let go of.

use std::sync::Arc;

use crate::link::Link;
use crate::transport::{PeerIdentity, PeerTrust, Unfit};

use super::drained::drain;
use super::serve::Gateway;

impl Gateway {
    /// Has links be judged by `trust` while they are up, now and each minute; before the first call
    /// only the time of their certificates counts. A link whose certificate was revoked is closed
    /// at once; one whose certificate has expired or has an authority that is trusted no more
    /// drains, and its connection point dials another, with its newer certificate if it has one.
    pub fn set_link_trust(&self, trust: Arc<PeerTrust>) {
        self.inner.link_trust.set(trust);
    }

    /// Lets go of a link, until it has ended, if the certificate of its peer holds no more.
    pub(super) async fn judge(&self, number: u64, peer: &PeerIdentity, link: &Link) {
        let trust = &self.inner.link_trust;
        let unfit = tokio::select! {
            biased;
            _ = link.closed() => return,
            unfit = trust.until_unfit(peer) => unfit,
        };
        if unfit != Unfit::Revoked {
            let (certified, why) = (peer.names(), unfit.to_string());
            tracing::info!(link = number, certified, why, "link drains");
            tokio::select! {
                biased;
                _ = drain(link, number, self.terms().limits.drain) => return,
                () = trust.until_revoked(peer) => {}
            }
        }
        let (certified, serial) = (peer.names(), peer.serial());
        tracing::warn!(
            link = number,
            certified,
            serial,
            "link closed: the certificate of its connection point was revoked"
        );
        link.refuse("the certificate of the connection point was revoked; issue another");
    }
}
