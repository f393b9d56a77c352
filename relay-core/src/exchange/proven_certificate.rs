//! The certificate whose key a client has proven to have.

use bytes::Bytes;

/// A certificate in DER, of 1 to 4,096 octets, whose key the client of a request has proven to
/// have: in TLS, or by a signature in the request's head.
///
/// Whose certificate it is, and whether it counts for anything, is not said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProvenCertificate(Bytes);

impl ProvenCertificate {
    /// Octets of the largest.
    pub const OCTETS_MAX: usize = 4 << 10;

    /// Takes a certificate; `None` if it is empty or too large. It is not read.
    pub fn new(der: Bytes) -> Option<Self> {
        (1..=Self::OCTETS_MAX).contains(&der.len()).then_some(Self(der))
    }

    /// Its DER.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}
