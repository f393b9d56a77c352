//! Gateway instances whose certificate does not hold any more are let go of.

use std::sync::Arc;

use crate::link::Link;
use crate::transport::{Instance, PeerIdentity, PeerTrust, Unfit};

use super::ConnectionPoint;

impl ConnectionPoint {
    /// Has links be judged by `trust` while they are up, now and each minute; before the first call
    /// only the time of their certificates counts. A link whose certificate was revoked is closed
    /// at once; one whose certificate has expired or has an authority that is trusted no more
    /// drains, and another is dialled in its place.
    pub fn set_link_trust(&self, trust: Arc<PeerTrust>) {
        self.inner.link_trust.set(trust);
    }

    /// Lets go of a link, until it has ended, if the certificate of its instance holds no more.
    pub(super) async fn judge(&self, instance: Instance, peer: &PeerIdentity, link: &Link) {
        let trust = &self.inner.link_trust;
        let unfit = tokio::select! {
            biased;
            _ = link.closed() => return,
            unfit = trust.until_unfit(peer) => unfit,
        };
        if unfit != Unfit::Revoked {
            let (certified, why) = (peer.names(), unfit.to_string());
            tracing::info!(%instance, certified, why, "link drains");
            tokio::select! {
                biased;
                _ = link.drain(self.inner.config.limits.drain) => return,
                () = trust.until_revoked(peer) => {}
            }
        }
        let (certified, serial) = (peer.names(), peer.serial());
        tracing::warn!(
            %instance,
            certified,
            serial,
            "link closed: the certificate of the gateway instance was revoked"
        );
        link.refuse("the certificate of the gateway instance was revoked; issue another");
    }
}
