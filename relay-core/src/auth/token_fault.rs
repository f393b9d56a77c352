//! Why a token proves nothing.

/// Why a token proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFault {
    /// It is no signed token: the client, or whatever stands between, is broken.
    #[error("it is no signed token")]
    Malformed,
}
