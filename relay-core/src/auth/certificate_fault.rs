//! Why a certificate proves nothing.

/// Why a certificate proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// It is no certificate, or the chain has one that is none: the client is broken.
    #[error("it is no certificate")]
    Malformed,
    /// The client shows more certificates, or larger ones, than any chain needs.
    #[error("the chain is too large: the client shows what it need not")]
    TooLarge,
    /// More authorities stand between it and a root than are followed.
    #[error("too many authorities stand between the certificate and a root")]
    TooDeep,
    /// Judging it takes more signatures than are checked for one client.
    #[error("there are too many ways in which the chain could be read")]
    TooCostly,
    /// No published root has signed it, directly or through authorities that are shown or
    /// published. The site may have to publish a root or an intermediate authority.
    #[error("no published root stands behind it; is an intermediate authority missing?")]
    Untrusted,
    /// A certificate of the chain is over: have it renewed.
    #[error("it, or an authority of it, has expired")]
    Expired,
    /// A certificate of the chain begins to hold later, or a clock is wrong.
    #[error("it, or an authority of it, is not valid yet; is a clock wrong?")]
    NotYetValid,
    /// It is not for clients: it names uses, or lacks them, such that TLS clients may not show it.
    #[error("it is not for clients: extended key usage needs client authentication")]
    NoClientUse,
    /// An authority of the chain may not sign it: its constraints say so.
    #[error("an authority of the chain may not sign it")]
    NotPermitted,
    /// It, or an authority of it, has been taken back.
    #[error("it, or an authority of it, was revoked")]
    Revoked,
    /// Revocation is checked, and there is no list of an authority's. The site has to publish one.
    #[error("there is no revocation list of an authority of the chain")]
    ListMissing,
    /// Revocation is checked, and a list that is to be fetched is not there. The instance that says
    /// so fetches nothing, or whoever publishes the list cannot be reached.
    #[error(
        "a revocation list has not been fetched, and none is there of an authority of the chain; \
         `relay status` of this instance says why"
    )]
    ListNotFetched,
    /// The list of an authority is over. The authority has to issue, the site to publish another.
    #[error("the revocation list of an authority of the chain has expired")]
    ListExpired,
    /// The list of an authority begins to hold later, or a clock is wrong.
    #[error("the revocation list of an authority of the chain is not valid yet")]
    ListNotYetValid,
    /// The list of an authority is not signed by it, or with an algorithm that is not accepted.
    #[error("the revocation list of an authority of the chain is not signed by it")]
    ListUntrusted,
    /// A key is too short, or an algorithm too old: RSA below 2048 bits, SHA-1, DSA.
    #[error("a key or signature of the chain is too weak")]
    Weak,
}

impl CertificateFault {
    /// One of each.
    pub const ALL: [Self; 16] = [
        Self::Malformed,
        Self::TooLarge,
        Self::TooDeep,
        Self::TooCostly,
        Self::Untrusted,
        Self::Expired,
        Self::NotYetValid,
        Self::NoClientUse,
        Self::NotPermitted,
        Self::Revoked,
        Self::ListMissing,
        Self::ListNotFetched,
        Self::ListExpired,
        Self::ListNotYetValid,
        Self::ListUntrusted,
        Self::Weak,
    ];

    /// Its name where such faults are counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::TooCostly => "too_costly",
            Self::Untrusted => "untrusted",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NoClientUse => "no_client_use",
            Self::NotPermitted => "not_permitted",
            Self::Revoked => "revoked",
            Self::ListMissing => "list_missing",
            Self::ListNotFetched => "list_not_fetched",
            Self::ListExpired => "list_expired",
            Self::ListNotYetValid => "list_not_yet_valid",
            Self::ListUntrusted => "list_untrusted",
            Self::Weak => "weak",
        }
    }
}
