//! What a client is told that is given no token.

use http::StatusCode;
use relay_core::auth::{Guid, PossessionFault, TokenFault};

use super::DAY;
use super::certificate::CertificateFault;

/// Why nothing was issued. What is shown of each is for people: what has happened, whose fault it
/// is, and what to do. Nothing was written, either.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refusal {
    /// The path is none of the service's.
    #[error("the token service answers CCM_STS/register, CCM_STS/renew and CCM_STS/exchange")]
    NotFound,
    /// The verb is another.
    #[error("ask by CCM_POST or POST")]
    Verb,
    /// There is more of a body than any client has to say.
    #[error("a request has 64 KiB of body at most")]
    TooLarge,
    /// The body did not come.
    #[error("the body of the request has not come in time, or not whole; ask again")]
    NoBody,
    /// The body is not what this door takes.
    #[error("the body must be {0}")]
    Malformed(&'static str),
    /// No token was shown.
    #[error("show {0} in Authorization, as a bearer token")]
    NoToken(&'static str),
    /// The token is a good one, of another kind.
    #[error("another kind of token is wanted here: show {0}")]
    WrongToken(&'static str),
    /// The token proves nothing.
    #[error("the token proves nothing: {0}")]
    Token(TokenFault),
    /// The token of a client is over.
    #[error(
        "the token is over, or a clock is wrong; register anew, on the site's own network or with \
         a new bulk token"
    )]
    Expired,
    /// The tenant's keys have not been fetched, or the token's is newer than those.
    #[error("the key of the token is not known yet; ask again in a minute")]
    UnknownKey,
    /// An administrator has said so.
    #[error("{0} is blocked; the site's administrator can unblock it")]
    Blocked(Guid),
    /// The site's store has no such bulk token.
    #[error("the site has not issued the bulk token {0}, or has lost its store; get a new one")]
    UnknownToken(Guid),
    /// The site's store has no such client.
    #[error("the site does not know client {0}, or has lost its store; register anew")]
    UnknownClient(Guid),
    /// The last token is too new.
    #[error(
        "a token is renewed once it is 30 days old, or has a day left, this one in {} days, {} \
         seconds after 1970; use it until then", left.div_ceil(DAY), at
    )]
    TooEarly {
        /// When it can be, in seconds since 1970 UTC.
        at: u64,
        /// Seconds until then.
        left: u64,
    },
    /// The client has not proven to have the key of its certificate.
    #[error(
        "the key of the certificate is not proven: show the certificate in TLS, or sign the \
         timestamp of the request and send CCMClientCertificate"
    )]
    NoPossession,
    /// The client has proven to have another key.
    #[error("the certificate whose key is proven is another one than the request is for")]
    OtherCertificate,
    /// The signed timestamp is at fault.
    #[error("the signed timestamp and its certificate prove nothing: {0}")]
    Timestamp(PossessionFault),
    /// The certificate is none that clients register with.
    #[error("the certificate cannot be used: {0}")]
    Certificate(#[from] CertificateFault),
    /// Too many ask.
    #[error("too many ask at present; ask again later")]
    SlowDown,
    /// As many are served as can be.
    #[error("as many requests are served as can be; ask again in a second")]
    Busy,
    /// It has taken too long.
    #[error("the request was not done in time; ask again in a second")]
    Late,
    /// As many clients have registered as the site keeps.
    #[error(
        "the site has no room for another client; its administrator sees by `relay token clients` \
         who has registered"
    )]
    NoRoom,
    /// The store or the signing key cannot be used. The service's log has why.
    #[error("the site cannot issue tokens at present; its connection point's log says why")]
    Unavailable,
}

impl Refusal {
    /// The closed set of what `error` says.
    pub(crate) const CODES: [&'static str; 21] = [
        "not_found",
        "method_not_allowed",
        "too_large",
        "malformed",
        "no_token",
        "wrong_token",
        "invalid_token",
        "not_yet",
        "expired",
        "unknown_key",
        "blocked",
        "unknown_token",
        "unknown_client",
        "too_early",
        "no_possession",
        "other_certificate",
        "certificate",
        "slow_down",
        "busy",
        "no_room",
        "unavailable",
    ];

    /// What `error` says; one of [`Refusal::CODES`].
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Verb => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::NoBody | Self::Malformed(_) => "malformed",
            Self::NoToken(_) => "no_token",
            Self::WrongToken(_) => "wrong_token",
            Self::Token(TokenFault::NotYet | TokenFault::IssuedLater) => "not_yet",
            Self::Token(_) => "invalid_token",
            Self::Expired => "expired",
            Self::UnknownKey => "unknown_key",
            Self::Blocked(_) => "blocked",
            Self::UnknownToken(_) => "unknown_token",
            Self::UnknownClient(_) => "unknown_client",
            Self::TooEarly { .. } => "too_early",
            Self::NoPossession | Self::Timestamp(_) => "no_possession",
            Self::OtherCertificate => "other_certificate",
            Self::Certificate(_) => "certificate",
            Self::SlowDown => "slow_down",
            Self::Busy | Self::Late => "busy",
            Self::NoRoom => "no_room",
            Self::Unavailable => "unavailable",
        }
    }

    /// The status of the answer: 401 where the credential is at fault, 403 where it is known and
    /// not enough, 5xx where it is not the client's fault.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Verb => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoBody | Self::Malformed(_) | Self::Certificate(_) => StatusCode::BAD_REQUEST,
            Self::NoToken(_)
            | Self::Token(_)
            | Self::Expired
            | Self::NoPossession
            | Self::Timestamp(_) => StatusCode::UNAUTHORIZED,
            Self::WrongToken(_)
            | Self::Blocked(_)
            | Self::UnknownToken(_)
            | Self::UnknownClient(_)
            | Self::TooEarly { .. }
            | Self::OtherCertificate => StatusCode::FORBIDDEN,
            Self::SlowDown => StatusCode::TOO_MANY_REQUESTS,
            Self::UnknownKey | Self::Busy | Self::Late | Self::NoRoom | Self::Unavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// After how many seconds it is worth to ask again, where that is soon. RFC 9110, section
    /// 10.2.3.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy | Self::Late => Some(1),
            Self::SlowDown => Some(10),
            Self::UnknownKey | Self::Unavailable => Some(60),
            Self::NoRoom => Some(3600),
            _ => None,
        }
    }

    /// What a fault of a token comes to.
    pub(super) fn of_token(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Expired => Self::Expired,
            TokenFault::Unbound => Self::OtherCertificate,
            TokenFault::RegistrationOnly => Self::WrongToken("the client's own token"),
            TokenFault::TrafficOnly => Self::WrongToken("what the client registers with"),
            fault => Self::Token(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_code_of_the_set_a_status_and_something_to_do() {
        let all = [
            Refusal::NotFound,
            Refusal::Verb,
            Refusal::TooLarge,
            Refusal::NoBody,
            Refusal::Malformed("x"),
            Refusal::NoToken("x"),
            Refusal::WrongToken("x"),
            Refusal::Token(TokenFault::Signature),
            Refusal::Token(TokenFault::NotYet),
            Refusal::of_token(TokenFault::Expired),
            Refusal::UnknownKey,
            Refusal::Blocked(Guid(1)),
            Refusal::UnknownToken(Guid(1)),
            Refusal::UnknownClient(Guid(1)),
            Refusal::TooEarly { at: 1, left: 1 },
            Refusal::NoPossession,
            Refusal::of_token(TokenFault::Unbound),
            Refusal::Timestamp(PossessionFault::Unsigned),
            Refusal::Certificate(CertificateFault::Malformed),
            Refusal::SlowDown,
            Refusal::Busy,
            Refusal::Late,
            Refusal::NoRoom,
            Refusal::Unavailable,
        ];
        for code in Refusal::CODES {
            assert!(all.iter().any(|it| it.code() == code), "{code}");
        }
        for refusal in all {
            assert!(Refusal::CODES.contains(&refusal.code()));
            assert!(refusal.status().is_client_error() || refusal.status().is_server_error());
            let waits = matches!(refusal.status().as_u16(), 429 | 503);
            assert_eq!(refusal.retry_after().is_some(), waits, "{refusal}");
        }
    }
}
