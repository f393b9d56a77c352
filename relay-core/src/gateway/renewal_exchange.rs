//! The exchanges by which a connection point renews this instance's link certificate.
//!
//! `GET /relay/certificate-request` yields a PKCS#10 request, 204 if there is nothing to do, or 409
//! while another link has the request. `PUT /relay/certificate` brings the chain as PEM. What is
//! judged stands in `renewal.rs`; nothing here touches a link: those that are up go on, and the
//! next handshake meets the new certificate.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use tokio::time::{Instant, timeout};

use crate::link::RecvStream;

use super::control::{Answer, ReadFailed, Speaker, WITHIN, read_whole};
use super::renewal::{OCTETS_MAX, Renewal, RenewalRefused};
use super::serve::Gateway;

/// What a request travels as. Source: RFC 5967, section 2.
const PKCS10: &str = "application/pkcs10";

impl From<ReadFailed> for RenewalRefused {
    fn from(why: ReadFailed) -> Self {
        match why {
            ReadFailed::BrokenOff(why) => Self::BrokenOff(why),
            ReadFailed::TooLong { .. } => Self::TooLong { limit: OCTETS_MAX },
        }
    }
}

impl Gateway {
    /// Answers whoever asks whether the link certificate is to be renewed.
    pub(super) async fn ask_for_certificate(&self, speaker: &Speaker) -> Answer {
        let Some(renewal) = self.renewal() else { return not_renewed_here() };
        let (number, at) = (speaker.number, Instant::now());
        let request = move |it: &Renewal| it.request(number, SystemTime::now(), at);
        match renewal.in_turn(request).await {
            Ok(Some(request)) => Answer::of(StatusCode::OK, "due").with_content(PKCS10, request),
            Ok(None) => Answer::of(StatusCode::NO_CONTENT, "not due"),
            // Nothing is wrong.
            Err(why @ RenewalRefused::Lent) => Answer::of(why.status(), &why.to_string()),
            Err(why) => refuse(&renewal, &why, speaker),
        }
    }

    /// Takes a certificate, if it may take the place of the one in force.
    pub(super) async fn take_certificate(&self, recv: RecvStream, speaker: &Speaker) -> Answer {
        let Some(renewal) = self.renewal() else { return not_renewed_here() };
        let read = async {
            let _places = self.reading(speaker).await;
            read_whole(recv, OCTETS_MAX).await
        };
        let taken = match timeout(WITHIN, read).await {
            Ok(Ok(chain)) => self.put_in_force(&renewal, chain, &speaker.peer.name).await,
            Ok(Err(why)) => Err(why.into()),
            Err(_) => Err(RenewalRefused::TooSlow(WITHIN)),
        };
        match taken {
            Ok(()) => Answer::of(StatusCode::OK, "in force"),
            Err(why) => refuse(&renewal, &why, speaker),
        }
    }

    /// Has a chain judged, kept and put in force. Goes on even if nobody waits for it any more:
    /// what is kept is in force, too.
    async fn put_in_force(
        &self,
        renewal: &Arc<Renewal>,
        chain: Vec<u8>,
        from: &Arc<str>,
    ) -> Result<(), RenewalRefused> {
        let (gateway, from) = (self.clone(), Arc::clone(from));
        let work = move |renewal: &Renewal| {
            let now = SystemTime::now();
            let renewed = renewal.take(&chain, now)?;
            renewal.went_well();
            gateway.set_link_tls(renewed.tls);
            tracing::info!(
                connection_point = &*from,
                subject = renewed.certificate.subject,
                sha256 = %renewed.certificate.fingerprint,
                days_left = renewed.certificate.validity.days_left(now),
                "link certificate renewed; links that are up go on"
            );
            gateway.show_link_certificate(Some(renewed.certificate));
            Ok(())
        };
        renewal.in_turn(work).await
    }

    /// Lets go of what a link that has ended had of the renewal.
    pub(super) fn forget_in_renewal(&self, link: u64) {
        if let Some(renewal) = &self.inner.renewal {
            renewal.link_ended(link);
        }
    }

    fn renewal(&self) -> Option<Arc<Renewal>> {
        self.inner.renewal.clone()
    }
}

/// The answer of an instance that nobody keeps a certificate for.
fn not_renewed_here() -> Answer {
    Answer::of(StatusCode::NOT_FOUND, "this instance's certificate is not renewed over links")
}

fn refuse(renewal: &Renewal, why: &RenewalRefused, speaker: &Speaker) -> Answer {
    let cause = why.cause();
    let told = format!("{why} {cause:?}");
    // It is tried again and again; the log has it once.
    if renewal.is_news(&told) {
        tracing::warn!(
            connection_point = &*speaker.peer.name, %why, cause,
            "link certificate not renewed; the one before stays in force"
        );
    }
    Answer::of(why.status(), &why.to_string())
}
