//! Which certificate's key a client has, shown by a signature in the head of its request.
//!
//! A client whose TLS ends at a proxy on the way shows no certificate there. It sends the
//! certificate in a field of its own, beside the signed head of `signature.rs`: whoever signs the
//! time with its key has it. Whether the certificate is anybody's is not decided here: nothing of
//! it counts but its key, and the thumbprint that a token is bound to.
//!
//! Read [`ClaimedPossession`] first. It becomes a [`Possession`] once it is verified.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;

use super::Guid;
use super::replay::{Replay, ReplayFault};
use super::signature::{ClientKey, SignatureFault, SignedDigests, SignedHead};

/// The field that holds a client's certificate: DER in base64, RFC 4648, section 4.
// Our choice: no field of the original's carries it, for its site roles know the key already.
pub const CLIENT_CERTIFICATE_FIELD: &str = "ccmclientcertificate";

/// The largest certificate in it, in octets of DER.
// Our choice: one of RSA with 4,096 bits and a few names has less than 2 KiB.
pub const CLIENT_CERTIFICATE_OCTETS_MAX: usize = 4096;

/// Octets of base64 that so much DER has.
const FIELD_OCTETS_MAX: usize = CLIENT_CERTIFICATE_OCTETS_MAX.div_ceil(3) * 4;

/// Why a certificate that is shown with a signed head proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PossessionFault {
    /// Which of them counts would be up to each reader.
    #[error("CCMClientCertificate stands there twice: the client, or a proxy before it, is broken")]
    Repeated,
    /// Longer than any that a client registers with.
    #[error(
        "CCMClientCertificate has more than {CLIENT_CERTIFICATE_OCTETS_MAX} octets of DER: the \
         client must make itself a plainer certificate"
    )]
    TooLarge,
    /// It is not written as it must be.
    #[error("CCMClientCertificate is no base64: it was damaged on the way, or changed")]
    Base64,
    /// A certificate is no secret: alone it proves nothing.
    #[error("CCMClientCertificate comes without a signed head: the client must sign the time")]
    Unsigned,
    /// The signed head does not show that the client has the certificate's key.
    #[error(transparent)]
    Signature(#[from] SignatureFault),
}

/// A certificate whose key the client says it has; nothing is verified yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimedPossession {
    head: SignedHead,
    certificate: Bytes,
    thumbprint: [u8; 32],
}

/// A certificate whose key the client has proven to have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Possession {
    /// Who the client says it is, signed by that key. It is a name that anybody may give itself:
    /// only a token says whose the certificate is.
    pub client: Guid,
    /// The certificate in DER. Nothing of it counts but its key and its thumbprint.
    pub certificate: Bytes,
    /// Its SHA-256 thumbprint, as in claim `cnf` of a token.
    pub thumbprint: [u8; 32],
}

impl ClaimedPossession {
    /// Reads [`CLIENT_CERTIFICATE_FIELD`] and the signed head beside it. `None` if the field is not
    /// there. Takes no longer than hashing the certificate.
    ///
    /// # Errors
    ///
    /// [`PossessionFault`], of those that concern the form.
    pub fn read(headers: &HeaderMap) -> Result<Option<Self>, PossessionFault> {
        let mut values = headers.get_all(CLIENT_CERTIFICATE_FIELD).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(PossessionFault::Repeated);
        }
        if value.len() > FIELD_OCTETS_MAX {
            return Err(PossessionFault::TooLarge);
        }
        let certificate = STANDARD.decode(value).map_err(|_| PossessionFault::Base64)?;
        if certificate.len() > CLIENT_CERTIFICATE_OCTETS_MAX {
            return Err(PossessionFault::TooLarge);
        }
        let head = SignedHead::read(headers)?.ok_or(PossessionFault::Unsigned)?;
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest::digest(&digest::SHA256, &certificate).as_ref());
        Ok(Some(Self { head, certificate: certificate.into(), thumbprint }))
    }

    /// The SHA-256 thumbprint of the certificate.
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// Judges whether the key of the certificate has signed the head, at a time that is fresh at
    /// `now`. `take` is [`Replay::take`], called once and last, so that whoever shares the memory
    /// of what was used need not hold it while signatures are verified.
    ///
    /// # Errors
    ///
    /// [`PossessionFault::Signature`].
    pub fn verify(
        self,
        now: u64,
        take: impl FnOnce([u8; 32], u64) -> Result<(), ReplayFault>,
    ) -> Result<Possession, PossessionFault> {
        let Self { head, certificate, thumbprint } = self;
        let key = ClientKey::of_certificate(&certificate)?;
        // Those who register here are new; none of them signs by SHA-1.
        let client = head.verify_with(&key, SignedDigests::Sha256, now, take)?;
        Ok(Possession { client, certificate, thumbprint })
    }
}

impl Possession {
    /// Reads and judges what the head of a request shows. `None` if it shows no certificate.
    ///
    /// # Errors
    ///
    /// [`PossessionFault`].
    pub fn judge(
        headers: &HeaderMap,
        now: u64,
        used: &mut Replay,
    ) -> Result<Option<Self>, PossessionFault> {
        let claimed = ClaimedPossession::read(headers)?;
        claimed.map(|it| it.verify(now, |key, at| used.take(key, at, now))).transpose()
    }
}

#[cfg(test)]
#[path = "possession/tests.rs"]
mod tests;
