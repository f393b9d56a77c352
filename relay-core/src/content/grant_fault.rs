//! Why a grant does not count.

/// Why a grant does not count. What names a parameter names one of ours, and never repeats what
/// was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantFault {
    /// Its query is longer than a site writes any.
    #[error(
        "the grant is longer than {} octets; ask the site for another",
        super::GRANT_OCTETS_MAX
    )]
    TooLong,
    /// A parameter is missing.
    #[error("the grant has no `{0}`; use the location as the site has written it")]
    Missing(&'static str),
    /// A parameter is there twice.
    #[error("the grant has `{0}` twice; use the location as the site has written it")]
    Twice(&'static str),
    /// There is a parameter that no grant has.
    #[error("the grant has a parameter that none has; use the location as the site has written it")]
    Unknown,
    /// A parameter's value is not what it must be.
    #[error("`{0}` of the grant is not in its form; use the location as the site has written it")]
    Form(&'static str),
    /// It is not signed by RS256.
    #[error("the grant is not signed by RS256; ask the site for another")]
    Algorithm,
    /// It ends before it begins, or lives for more than 24 h.
    #[error("the grant is valid for no time or for more than 24 h; ask the site for another")]
    Lifetime,
    /// A file is asked for that it is not for.
    #[error("the grant is for another file; ask the site for one for the package")]
    OtherFile,
    /// Another site has issued it.
    #[error("no site that publishes its signing certificates here has issued the grant")]
    Issuer,
    /// Its client is blocked.
    #[error("the grant's client is blocked; the site's administrator may unblock it")]
    Blocked,
    /// Its time has not come.
    #[error("the grant is not valid yet; is the clock of the site, or of this machine, wrong?")]
    NotYet,
    /// Its time is over.
    #[error("the grant is over; ask the site for another")]
    Over,
    /// A certificate is named that the site does not publish.
    #[error("the site does not publish the certificate that the grant names; ask for another")]
    UnknownSigner,
    /// Somebody else has signed it, or something of it was changed.
    #[error("the grant's signature is not the site's; use the location as the site has written it")]
    Signature,
}

impl GrantFault {
    /// One of each.
    pub const ALL: [Self; 14] = [
        Self::TooLong,
        Self::Missing("sig"),
        Self::Twice("sig"),
        Self::Unknown,
        Self::Form("sig"),
        Self::Algorithm,
        Self::Lifetime,
        Self::OtherFile,
        Self::Issuer,
        Self::Blocked,
        Self::NotYet,
        Self::Over,
        Self::UnknownSigner,
        Self::Signature,
    ];
}
