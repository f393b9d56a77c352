//! Why a token proves nothing.

/// One of the three segments of a token, or its key set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// What it is signed with.
    Header,
    /// What it says.
    Payload,
    /// The signature.
    Signature,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// Why a token proves nothing: what is wrong, whose fault that is, what can be done. Nothing of the
/// token itself is in it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFault {
    /// Which of them counts would be up to each reader.
    #[error("there are several Authorization fields: the client, or a proxy before it, is broken")]
    SeveralFields,
    /// Longer than any token that is issued.
    #[error("Authorization is longer than 16 KiB: no issuer writes such tokens")]
    FieldTooLong,
    /// It is not for us.
    #[error(
        "Authorization has another scheme than Bearer: the client is set up for another service"
    )]
    Scheme,
    /// It is no signed token.
    #[error("it is no signed token: the client, or whatever stands between, is broken")]
    Malformed,
    /// A part is longer than any issuer writes it.
    #[error("its {0} is too long: no issuer writes such tokens")]
    TooLong(Part),
    /// A part is not written as RFC 7515 says.
    #[error("its {0} is no base64url: it was damaged on the way, or changed")]
    Base64(Part),
    /// A part is no JSON object.
    #[error("its {0} is no JSON object: it was damaged on the way, or changed")]
    Json(Part),
    /// Which of them counts would be up to each reader.
    #[error("its {0} has a member twice: it was made to deceive")]
    Duplicate(Part),
    /// An extension that must be understood, and is not. RFC 7515, section 4.1.11.
    #[error("its header has {0}, which is not understood: its issuer must leave that out")]
    Extension(&'static str),
    /// A key that comes with the token proves nothing.
    #[error("its header brings a key of its own, {0}: it was made to deceive")]
    EmbeddedKey(&'static str),
    /// No other algorithm is ever tried.
    #[error(
        "its algorithm is not RS256: it was made to deceive, or its issuer is set up otherwise"
    )]
    Algorithm,
    /// It is a token for another purpose.
    #[error("its type is not JWT: it is a token for another purpose")]
    Type,
    /// The header does not name the key.
    #[error("its header has no {0} of text: it is of another issuer")]
    NoKeyId(&'static str),
    /// Two names of the key do not go together.
    #[error("x5t and x5t#S256 in its header name different certificates: it was made to deceive")]
    KeyIdsDisagree,
    /// Nobody who is trusted has said that this key is theirs. Keys may have been replaced since.
    #[error("its key is not known: the issuer has a new one, or it is of another issuer")]
    UnknownKey,
    /// Of the keys of its tenant none has been fetched.
    #[error(
        "the keys of its tenant have not been fetched: the provider cannot be reached, or this \
         instance fetches nothing; its `relay status` says why"
    )]
    KeysNotFetched,
    /// It was not signed by the key it names.
    #[error("its signature is wrong: it was damaged on the way, or changed")]
    Signature,
    /// A claim is not there.
    #[error("it has no claim {0}: it is of another issuer")]
    NoClaim(&'static str),
    /// A claim is of another type, or no issuer would write it so.
    #[error("its claim {0} is not written as its issuer writes it: it was made to deceive")]
    ClaimForm(&'static str),
    /// A claim says something else than it must.
    #[error("its claim {0} is another one than this kind of token has: it is for another purpose")]
    Claim(&'static str),
    /// Another issuer, or one that was not opted for.
    #[error("its issuer is not accepted: check which versions of tokens the site accepts")]
    Issuer,
    /// It is for another service.
    #[error("its audience is another service: check the audiences the site accepts")]
    Audience,
    /// It is of a tenant that is not this site's.
    #[error("its tenant is not onboarded: onboard it, or the client belongs elsewhere")]
    Tenant,
    /// The administrator has switched the tenant off.
    #[error("its tenant is disabled: the administrator may enable it")]
    TenantDisabled,
    /// Not valid yet.
    #[error("it is not valid yet: a clock is wrong, the client's issuer's or this one")]
    NotYet,
    /// Issued in the future.
    #[error("it was issued in the future: a clock is wrong, its issuer's or this one")]
    IssuedLater,
    /// Valid no more.
    #[error("it has expired: the client must get a new one; if it is new, a clock is wrong")]
    Expired,
    /// Valid for longer than any issuer lets it be.
    #[error("it is valid for longer than such tokens may be: its issuer is set up wrongly")]
    LivesTooLong,
    /// It says nobody.
    #[error("it names neither device nor user: it is a token of an application")]
    Nobody,
    /// The administrator has blocked it.
    #[error("it is blocked: the administrator may unblock it, or issue another")]
    Blocked,
    /// A bulk token opens the door to registration and to nothing else.
    #[error("it is good for registration only: the client must register and use what it gets")]
    RegistrationOnly,
    /// What is exchanged for another credential does not renew itself.
    #[error("it is good for traffic only: the client must show its own token, or register")]
    TrafficOnly,
    /// The token of a client, without the client's key.
    #[error("it is bound to a certificate that the client has not shown: it is another client's")]
    Unbound,
}

impl TokenFault {
    /// One of each.
    pub const ALL: [Self; 33] = [
        Self::SeveralFields,
        Self::FieldTooLong,
        Self::Scheme,
        Self::Malformed,
        Self::TooLong(Part::Header),
        Self::Base64(Part::Header),
        Self::Json(Part::Header),
        Self::Duplicate(Part::Header),
        Self::Extension(""),
        Self::EmbeddedKey(""),
        Self::Algorithm,
        Self::Type,
        Self::NoKeyId(""),
        Self::KeyIdsDisagree,
        Self::UnknownKey,
        Self::KeysNotFetched,
        Self::Signature,
        Self::NoClaim(""),
        Self::ClaimForm(""),
        Self::Claim(""),
        Self::Issuer,
        Self::Audience,
        Self::Tenant,
        Self::TenantDisabled,
        Self::NotYet,
        Self::IssuedLater,
        Self::Expired,
        Self::LivesTooLong,
        Self::Nobody,
        Self::Blocked,
        Self::RegistrationOnly,
        Self::TrafficOnly,
        Self::Unbound,
    ];

    /// Its name where such faults are counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SeveralFields => "several_fields",
            Self::FieldTooLong => "field_too_long",
            Self::Scheme => "scheme",
            Self::Malformed => "malformed",
            Self::TooLong(_) => "part_too_long",
            Self::Base64(_) => "base64",
            Self::Json(_) => "json",
            Self::Duplicate(_) => "duplicate_member",
            Self::Extension(_) => "extension",
            Self::EmbeddedKey(_) => "embedded_key",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::NoKeyId(_) => "no_key_id",
            Self::KeyIdsDisagree => "key_ids_disagree",
            Self::UnknownKey => "unknown_key",
            Self::KeysNotFetched => "keys_not_fetched",
            Self::Signature => "signature",
            Self::NoClaim(_) => "no_claim",
            Self::ClaimForm(_) => "claim_form",
            Self::Claim(_) => "claim",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Tenant => "tenant",
            Self::TenantDisabled => "tenant_disabled",
            Self::NotYet => "not_yet_valid",
            Self::IssuedLater => "issued_later",
            Self::Expired => "expired",
            Self::LivesTooLong => "lives_too_long",
            Self::Nobody => "nobody",
            Self::Blocked => "blocked",
            Self::RegistrationOnly => "registration_only",
            Self::TrafficOnly => "traffic_only",
            Self::Unbound => "unbound",
        }
    }
}
