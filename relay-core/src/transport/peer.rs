//! Whether the certificate of a peer whose link is up still holds.
//!
//! A handshake judges once, and links live for weeks: meanwhile a certificate is taken back, or is
//! over, or its authority is not trusted any more. [`PeerTrust::judge`] is pure; a
//! [`TrustInForce`] asks it each minute, and whenever what is in force changes.

use std::fmt::Write as _;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::CertificateError as Fault;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio::sync::Notify;
use tokio_rustls::client;

use super::certificate::{AcceptedLink, Certificate, CertificateError};
use super::tls::{TlsSetupError, TrustAnchors, client_verifier, server_verifier};

/// How often a certificate is judged while its link is up. Our choice: as often as the program
/// looks at its files. One takes about 0.2 ms.
const JUDGE_EVERY: Duration = Duration::from_mins(1);

/// What the peer of a link has shown in the handshake, which has verified it.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    /// Leaf first.
    chain: Vec<CertificateDer<'static>>,
    /// What was dialled; `None` for a peer that has dialled.
    name: Option<ServerName<'static>>,
    certificate: Result<Arc<Certificate>, CertificateError>,
}

impl PeerIdentity {
    /// A peer that has dialled and has shown `chain`, leaf first.
    pub fn of_dialler(chain: &[CertificateDer<'_>]) -> Self {
        Self::new(chain, None)
    }

    /// A peer that was dialled as `server_name` and has shown `chain`, leaf first.
    pub fn of_dialled(chain: &[CertificateDer<'_>], server_name: &str) -> Self {
        Self::new(chain, ServerName::try_from(server_name.to_owned()).ok())
    }

    /// The peer of a link that was accepted.
    pub fn of_accepted<P>(link: &AcceptedLink<P>) -> Self {
        Self::of_dialler(link.get_ref().1.peer_certificates().unwrap_or_default())
    }

    /// The peer of a link that was dialled as `server_name`.
    pub fn of_secured<P>(link: &client::TlsStream<P>, server_name: &str) -> Self {
        Self::of_dialled(link.get_ref().1.peer_certificates().unwrap_or_default(), server_name)
    }

    fn new(chain: &[CertificateDer<'_>], name: Option<ServerName<'static>>) -> Self {
        let certificate = Certificate::of_chain(chain).map(Arc::new);
        let chain = chain.iter().map(|it| it.clone().into_owned()).collect();
        Self { chain, name, certificate }
    }

    /// What it has shown, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What the leaf says.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if it cannot be read.
    pub fn certificate(&self) -> Result<Arc<Certificate>, CertificateError> {
        self.certificate.clone()
    }

    /// The leaf's names, for logs.
    pub fn names(&self) -> String {
        let names = self.certificate.iter().flat_map(|it| it.names());
        names.collect::<Vec<_>>().join(", ")
    }

    /// The leaf's serial number in hexadecimal, for logs.
    pub fn serial(&self) -> String {
        let mut text = String::new();
        for octet in self.certificate.iter().flat_map(|it| &it.serial) {
            write!(text, "{octet:02x}").expect("writing to a String does not fail");
        }
        text
    }
}

/// Why the peer of a link that is up may not keep it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Its authority has taken the certificate back: whoever holds the key is not to be trusted.
    #[error("its certificate was revoked")]
    Revoked,
    /// The certificate is over. Its owner may have a newer one.
    #[error("its certificate has expired")]
    Expired,
    /// The certificate's authority is trusted no more. Its owner may have one of another.
    #[error("the authority of its certificate is trusted no more")]
    Distrusted,
}

/// What [`PeerTrust::judge`] says.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// The certificate holds.
    Holds,
    /// It cannot be said, and why: a list of its authority's is missing, or the clock is before the
    /// certificate's time. A new link would be refused; one that is up does no harm it did not do
    /// before.
    Unknown(String),
    /// It does not hold.
    Unfit(Unfit),
}

#[derive(Clone, Debug)]
enum Verifier {
    Diallers(Arc<dyn ClientCertVerifier>),
    Dialled(Arc<WebPkiServerVerifier>),
}

/// What certificates of peers are judged by while their links are up: as in a handshake, but that
/// what a list of revoked certificates says counts although the list itself is over.
#[derive(Clone, Debug)]
pub struct PeerTrust(Verifier);

impl PeerTrust {
    /// For a gateway instance: judges connection points.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError::Verifier`].
    pub fn of_diallers(site: &TrustAnchors) -> Result<Self, TlsSetupError> {
        Ok(Self(Verifier::Diallers(client_verifier(site).build()?)))
    }

    /// For a connection point: judges gateway instances, by the names they were dialled as.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError::Verifier`].
    pub fn of_dialled(site: &TrustAnchors) -> Result<Self, TlsSetupError> {
        Ok(Self(Verifier::Dialled(server_verifier(site).build()?)))
    }

    /// Whether what `peer` has shown still holds at `now`.
    pub fn judge(&self, peer: &PeerIdentity, now: SystemTime) -> Verdict {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(now);
        let Some((leaf, others)) = peer.chain.split_first() else {
            return Verdict::Unknown(CertificateError::Absent.to_string());
        };
        let judged = match (&self.0, &peer.name) {
            (Verifier::Diallers(verifier), _) => {
                verifier.verify_client_cert(leaf, others, now).map(drop)
            }
            (Verifier::Dialled(verifier), Some(name)) => {
                verifier.verify_server_cert(leaf, others, name, &[], now).map(drop)
            }
            (Verifier::Dialled(_), None) => Err(Fault::NotValidForName.into()),
        };
        match judged {
            Ok(()) => Verdict::Holds,
            Err(rustls::Error::InvalidCertificate(fault)) => verdict(&fault),
            Err(other) => Verdict::Unknown(other.to_string()),
        }
    }
}

fn verdict(fault: &Fault) -> Verdict {
    match fault {
        Fault::Revoked => Verdict::Unfit(Unfit::Revoked),
        Fault::Expired | Fault::ExpiredContext { .. } => Verdict::Unfit(Unfit::Expired),
        Fault::UnknownIssuer | Fault::BadSignature => Verdict::Unfit(Unfit::Distrusted),
        other => Verdict::Unknown(other.to_string()),
    }
}

/// The [`PeerTrust`] that holds now, replaced while a role runs. Without one only the time of a
/// certificate counts.
#[derive(Debug, Default)]
pub struct TrustInForce {
    trust: RwLock<Option<Arc<PeerTrust>>>,
    /// Told in the order in which they wait.
    changed: Notify,
}

impl TrustInForce {
    /// Has `next` hold from now on: links that are up are judged by it at once.
    pub fn set(&self, next: Arc<PeerTrust>) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = Some(next);
        self.changed.notify_waiters();
    }

    /// Waits until `peer` may not keep its link, and says why. What cannot be said is logged, once
    /// for each reason.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn until_unfit(&self, peer: &PeerIdentity) -> Unfit {
        self.until(peer, SystemTime::now, |_| true).await
    }

    /// Waits until the certificate of `peer` is revoked: for a link that drains already.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn until_revoked(&self, peer: &PeerIdentity) {
        self.until(peer, SystemTime::now, |unfit| *unfit == Unfit::Revoked).await;
    }

    async fn until(
        &self,
        peer: &PeerIdentity,
        clock: impl Fn() -> SystemTime,
        counts: impl Fn(&Unfit) -> bool,
    ) -> Unfit {
        let mut doubted = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            // First, or a change between this look and the wait for the next would be missed.
            changed.as_mut().enable();
            match self.judge(peer, clock()) {
                Verdict::Unfit(unfit) if counts(&unfit) => return unfit,
                Verdict::Unknown(why) if doubted.as_ref() != Some(&why) => {
                    let (names, serial) = (peer.names(), peer.serial());
                    tracing::warn!(
                        names,
                        serial,
                        why,
                        "whether a link's certificate still holds cannot be said; the link stays"
                    );
                    doubted = Some(why);
                }
                _ => {}
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep(JUDGE_EVERY) => {}
            }
        }
    }

    fn judge(&self, peer: &PeerIdentity, now: SystemTime) -> Verdict {
        let trust = self.trust.read().unwrap_or_else(PoisonError::into_inner).clone();
        let over = |it: &Arc<Certificate>| it.validity.not_after < now;
        match trust {
            Some(trust) => trust.judge(peer, now),
            None if peer.certificate.as_ref().is_ok_and(over) => Verdict::Unfit(Unfit::Expired),
            None => Verdict::Holds,
        }
    }
}

#[cfg(test)]
#[path = "peer/tests.rs"]
mod tests;
