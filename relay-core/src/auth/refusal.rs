//! What a client is told that has shown nothing.

use super::{Finding, Presented, TokenFault, Trail, Unproven};

/// What a client is told when no method has found out who it is. It is told little; the log has
/// the [`Trail`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// It has shown nothing that is allowed here.
    NoCredential,
    /// It has shown a token that proves nothing.
    // The original's own words; the other reasons are our choice, in the same pattern.
    InvalidToken,
    /// It has shown a certificate that proves nothing, and no token.
    InvalidCertificate,
    /// It has shown a good token, or a good certificate, and a signed head that does not prove the
    /// key that it needs.
    InvalidSignature,
    /// It has shown a good bulk token where that does not count.
    RegistrationOnly,
    /// It has shown who it is, and the site has barred that client from the gateway. No findings
    /// come to that: whoever knows what the site says of its clients does.
    ClientBarred,
}

impl Refusal {
    /// One of each.
    pub const ALL: [Self; 6] = [
        Self::NoCredential,
        Self::InvalidToken,
        Self::InvalidCertificate,
        Self::InvalidSignature,
        Self::RegistrationOnly,
        Self::ClientBarred,
    ];

    /// What to do, for people.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoCredential => {
                "the client has shown neither a token nor a certificate that is allowed here"
            }
            Self::InvalidToken => {
                "the token proves nothing; the gateway's access log says why, by the message id"
            }
            Self::InvalidCertificate => {
                "the certificate proves nothing; the gateway's access log says why, by the \
                 message id"
            }
            Self::InvalidSignature => {
                "the signed timestamp does not prove that the client has the key of its \
                 certificate; is its clock right? The gateway's access log says why, by the \
                 message id"
            }
            Self::RegistrationOnly => {
                "a bulk registration token is good for registration only: the client has to \
                 register, and to show the token that it is given"
            }
            Self::ClientBarred => {
                "the site has barred this client from the gateway: `barred` of `[clients]` in \
                 connection-point.toml names it"
            }
        }
    }

    /// The value of `WWW-Authenticate`. RFC 6750, section 3.
    pub fn challenge(self) -> &'static str {
        match self {
            Self::NoCredential | Self::InvalidCertificate => "Bearer",
            Self::InvalidToken | Self::InvalidSignature => "Bearer error=\"invalid_token\"",
            Self::RegistrationOnly | Self::ClientBarred => "Bearer error=\"insufficient_scope\"",
        }
    }

    /// What the findings of a request come to; `None` if somebody is proven.
    ///
    /// A token counts before a certificate: the client has shown it on purpose, for this request,
    /// while its certificate went along with the connection. One that no method which is allowed
    /// here reads is a token still.
    pub fn of(trail: &Trail, presented: &Presented<'_>) -> Option<Self> {
        if trail.principal().is_some() {
            return None;
        }
        let unproven = trail.iter().filter_map(|(_, finding)| match finding {
            Finding::Unproven(why) => Some(why),
            Finding::Absent | Finding::Proven(_) => None,
        });
        let refusals = unproven.map(|why| match why {
            Unproven::Token(TokenFault::RegistrationOnly) => Self::RegistrationOnly,
            Unproven::Token(_) => Self::InvalidToken,
            Unproven::Certificate(_) => Self::InvalidCertificate,
            Unproven::Possession(_) => Self::InvalidSignature,
        });
        let none = if presented.is_there() { Self::InvalidToken } else { Self::NoCredential };
        Some(refusals.chain([none]).max_by_key(|it| it.weight()).unwrap_or(none))
    }

    /// The status of the answer. 403 where what was shown is good, and not for this: RFC 6750,
    /// section 3.1, `insufficient_scope`.
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::NoCredential
            | Self::InvalidToken
            | Self::InvalidCertificate
            | Self::InvalidSignature => http::StatusCode::UNAUTHORIZED,
            Self::RegistrationOnly | Self::ClientBarred => http::StatusCode::FORBIDDEN,
        }
    }

    /// The reason, without the hop: `CMGService_` goes before it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoCredential => "No_Credential",
            Self::InvalidToken => "Invalid_Token",
            Self::InvalidCertificate => "Invalid_Certificate",
            Self::InvalidSignature => "Invalid_Signature",
            Self::RegistrationOnly => "Registration_Only",
            Self::ClientBarred => "Client_Barred",
        }
    }

    /// The heavier one is told.
    fn weight(self) -> u8 {
        match self {
            Self::NoCredential => 0,
            Self::InvalidCertificate => 1,
            Self::InvalidToken => 2,
            Self::InvalidSignature => 3,
            Self::RegistrationOnly => 4,
            Self::ClientBarred => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        CertificateFault, Method, Methods, PossessionFault, Principal, Strictness, search,
    };
    use super::*;

    fn told(entra: &Finding, certificate: &Finding, site: &Finding) -> Option<Refusal> {
        let trail = search(&Methods::default(), Strictness::FallThrough, |method| match method {
            Method::Entra => entra.clone(),
            Method::Certificate => certificate.clone(),
            Method::SiteToken => site.clone(),
        });
        Refusal::of(&trail, &Presented::new([].into_iter()))
    }

    #[test]
    fn a_token_that_no_allowed_method_reads_is_an_invalid_one() {
        let trail = search(&Methods::default(), Strictness::FallThrough, |_| Finding::Absent);
        let token = Presented::new([&b"Bearer a.b.c"[..]].into_iter());
        assert_eq!(Refusal::of(&trail, &token), Some(Refusal::InvalidToken));
        assert_eq!(format!("{token:?}"), "Presented(Ok(Some(\"[redacted]\")))");
    }

    #[test]
    fn the_client_is_told_what_to_bring() {
        let absent = Finding::Absent;
        let token = Finding::Unproven(TokenFault::Expired.into());
        let certificate = Finding::Unproven(CertificateFault::Malformed.into());
        let bulk = Finding::Unproven(TokenFault::RegistrationOnly.into());
        let (method, name) = (Method::SiteToken, String::new());
        let somebody = Principal { method, name, client: None, until: 1 };
        let proven = Finding::Proven(somebody);

        assert_eq!(told(&absent, &absent, &absent), Some(Refusal::NoCredential));
        assert_eq!(told(&token, &absent, &absent), Some(Refusal::InvalidToken));
        assert_eq!(told(&absent, &certificate, &absent), Some(Refusal::InvalidCertificate));
        assert_eq!(told(&absent, &certificate, &token), Some(Refusal::InvalidToken));
        assert_eq!(told(&token, &certificate, &absent), Some(Refusal::InvalidToken));
        assert_eq!(told(&absent, &certificate, &bulk), Some(Refusal::RegistrationOnly));
        let signature = Finding::Unproven(PossessionFault::Unsigned.into());
        assert_eq!(told(&token, &certificate, &signature), Some(Refusal::InvalidSignature));
        assert_eq!(told(&absent, &signature, &token), Some(Refusal::InvalidSignature));
        assert_eq!(told(&token, &certificate, &proven), None);
    }

    #[test]
    fn all_but_a_bulk_token_and_a_client_that_is_barred_is_401() {
        for refusal in Refusal::ALL {
            let is_good = matches!(refusal, Refusal::RegistrationOnly | Refusal::ClientBarred);
            assert_eq!(refusal.status(), if is_good { 403 } else { 401 });
        }
        assert_eq!(Refusal::InvalidToken.reason(), "Invalid_Token");
    }
}
