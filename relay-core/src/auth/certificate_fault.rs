//! Why a certificate proves nothing.

/// Why a certificate proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// It is no certificate: the client is broken.
    #[error("it is no certificate")]
    Malformed,
}
