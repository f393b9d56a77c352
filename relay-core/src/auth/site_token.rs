//! Tokens that the site issues itself.
//!
//! Three kinds. Claims of bulk tokens are those of the original; `cnf`, `ClientId` and the names of
//! the other two kinds are our choice, since nothing about them is public.

use std::collections::HashSet;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::json::Value;
use super::jwt::{Claims, Jwt, Times};
use super::rs256::{KeyFault, RsaKey};
use super::{Guid, Method, Principal, TokenFault};

/// What `iss` of the site's tokens begins with; the site's tenant follows.
pub const ISSUER: &str = "urn:sccm:oauth2:";

/// What `aud` is.
const AUDIENCE: &str = "urn:sccm:service";

/// How far the clocks of the site and an instance may be apart, in seconds.
pub const SITE_LEEWAY: u64 = 60;

/// What a token of the site is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Category {
    /// A bulk registration token: for registration and nothing else.
    Bulk,
    /// A client's own token, bound to the certificate it has registered with.
    Client,
    /// What a client gets for a token of Entra.
    Ccm,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bulk, Self::Client, Self::Ccm];

    /// Claim `SCCMTokenCategory`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Bulk => "SCCMPreAuthToken",
            Self::Client => "SCCMClientToken",
            Self::Ccm => "SCCMCcmToken",
        }
    }

    /// Claim `Type`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Bulk => "BulkRegistration",
            Self::Client => "ClientRegistration",
            Self::Ccm => "Exchange",
        }
    }

    /// Longest validity, in seconds: 7 days, 90 days, 8 hours.
    pub fn lifetime_max(self) -> u64 {
        match self {
            Self::Bulk => 10_080 * 60,
            Self::Client => 90 * 86_400,
            Self::Ccm => 8 * 3600,
        }
    }
}

/// What a token is shown for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// To be given a token of one's own.
    Registration,
    /// To be given a newer one in its place.
    Renewal,
    /// Everything else.
    Traffic,
}

/// A certificate that the site signs tokens with. Several count while one takes another's place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SigningKey {
    /// Its SHA-1 thumbprint: header `x5t`.
    pub sha1: [u8; 20],
    /// Its SHA-256 thumbprint: header `x5t#S256`, where it is there.
    pub sha256: [u8; 32],
    /// Its key.
    pub key: RsaKey,
}

impl SigningKey {
    /// The key of a certificate in DER. Nothing else of the certificate counts: who has published
    /// it, has said that it signs.
    ///
    /// # Errors
    ///
    /// [`SignerFault`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, SignerFault> {
        let Ok(([], certificate)) = X509Certificate::from_der(der) else {
            return Err(SignerFault::Malformed);
        };
        let Ok(PublicKey::RSA(rsa)) = certificate.public_key().parsed() else {
            return Err(SignerFault::NotRsa);
        };
        let key = RsaKey::new(unsigned(rsa.modulus), unsigned(rsa.exponent))?;
        let (mut sha1, mut sha256) = ([0; 20], [0; 32]);
        sha1.copy_from_slice(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref());
        sha256.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Ok(Self { sha1, sha256, key })
    }
}

/// A positive number of DER without the zero that keeps it from being a negative one.
fn unsigned(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// Why a certificate signs no tokens. The fault of whoever publishes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignerFault {
    /// It is none.
    #[error("it is no certificate")]
    Malformed,
    /// Its key is of another kind.
    #[error("its key is not RSA")]
    NotRsa,
    /// Its key is weak or broken.
    #[error(transparent)]
    Key(#[from] KeyFault),
}

/// The tokens of the site that count.
#[derive(Clone, Debug)]
pub struct SiteTrust {
    /// The tenant that the site names itself by.
    pub tenant: Guid,
    /// What it signs with.
    pub keys: Vec<SigningKey>,
    /// Tokens that are blocked, by claim `UniqueId`, and clients, by claim `ClientId`: whatever one
    /// is given later is blocked as well.
    pub blocked: HashSet<Guid>,
}

/// What a token is held against each time it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// When: seconds since 1970 UTC.
    pub now: u64,
    /// What for.
    pub purpose: Use,
    /// SHA-256 thumbprints of the certificates whose keys the client has proven to have: in TLS,
    /// or by a signed timestamp.
    pub possessed: &'a [[u8; 32]],
}

/// A token of the site. Once its signature is verified, all that is left to ask is what time,
/// administrators and the one who shows it may change: [`SiteToken::admit`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SiteToken {
    category: Category,
    id: Guid,
    client: Option<Guid>,
    bound_to: Option<[u8; 32]>,
    times: Times,
}

impl SiteToken {
    /// Judges a token that is shown. What costs nothing comes first.
    ///
    /// # Errors
    ///
    /// [`TokenFault`].
    pub fn judge(jwt: &Jwt<'_>, trust: &SiteTrust, shown: Shown<'_>) -> Result<Self, TokenFault> {
        let token = Self::read(jwt.claims(), trust.tenant)?;
        token.admit(trust, shown)?;
        jwt.check(key(jwt, &trust.keys)?)?;
        Ok(token)
    }

    /// Who shows this token, if it counts for what it is shown for.
    ///
    /// # Errors
    ///
    /// [`TokenFault`], if its time is over or has not come, it is blocked, or it is another's or
    /// for another purpose.
    pub fn admit(&self, trust: &SiteTrust, shown: Shown<'_>) -> Result<Principal, TokenFault> {
        let named = [Some(self.id), self.client];
        if named.iter().flatten().any(|it| trust.blocked.contains(it)) {
            return Err(TokenFault::Blocked);
        }
        let until = self.times.judge(shown.now, SITE_LEEWAY, self.category.lifetime_max())?;
        // RFC 7800, section 3.1: whatever is bound must be proven to be held.
        if self.bound_to.is_some_and(|bound| !shown.possessed.contains(&bound)) {
            return Err(TokenFault::Unbound);
        }
        match (self.category, shown.purpose) {
            // Nor is it renewed: what it opens is a client's first step and no other.
            (Category::Bulk, Use::Renewal | Use::Traffic) => Err(TokenFault::RegistrationOnly),
            // Eight hours must not become ninety days: a client registers with what it began with.
            (Category::Ccm, Use::Registration | Use::Renewal) => Err(TokenFault::TrafficOnly),
            _ => {
                let (name, client) = (self.name(), self.client);
                Ok(Principal { method: Method::SiteToken, name, client, until })
            }
        }
    }

    /// What it is for.
    pub fn category(&self) -> Category {
        self.category
    }

    /// What it is blocked by: claim `UniqueId`.
    pub fn id(&self) -> Guid {
        self.id
    }

    /// From when it counts, in seconds since 1970 UTC: when it was issued.
    pub fn not_before(&self) -> u64 {
        self.times.not_before()
    }

    /// Until when it counts, in seconds since 1970 UTC.
    pub fn expires(&self) -> u64 {
        self.times.expires()
    }

    /// The client it was issued to; none if anybody may register with it.
    pub fn client(&self) -> Option<Guid> {
        self.client
    }

    fn read(claims: Claims<'_>, tenant: Guid) -> Result<Self, TokenFault> {
        claims.text("SCCMTokenCategory")?;
        let category = claimed_category(claims).ok_or(TokenFault::Claim("SCCMTokenCategory"))?;
        for (name, wanted) in
            [("Authority", "SCCM"), ("License", "SCCM"), ("Type", category.kind())]
        {
            if claims.text(name)? != wanted {
                return Err(TokenFault::Claim(name));
            }
        }
        if claims.text("TenantId")? != tenant.to_string().to_ascii_uppercase() {
            return Err(TokenFault::Tenant);
        }
        if claims.text("iss")?.strip_prefix(ISSUER) != Some(&*tenant.to_string()) {
            return Err(TokenFault::Issuer);
        }
        if claims.text("aud")? != AUDIENCE {
            return Err(TokenFault::Audience);
        }
        let bound_to = claims.if_any("cnf", confirmation)?;
        let client = claims.if_any("ClientId", guid)?;
        if category == Category::Client {
            bound_to.ok_or(TokenFault::NoClaim("cnf"))?;
        }
        if category != Category::Bulk {
            client.ok_or(TokenFault::NoClaim("ClientId"))?;
        }
        let id = guid(claims, "UniqueId")?;
        Ok(Self { category, id, client, bound_to, times: claims.times()? })
    }

    fn name(&self) -> String {
        match self.client {
            Some(client) => format!("client {client} by token {}", self.id),
            None => format!("bearer of token {}", self.id),
        }
    }
}

/// What a token says that it is for.
pub(super) fn claimed_category(claims: Claims<'_>) -> Option<Category> {
    let category = claims.text("SCCMTokenCategory").ok()?;
    Category::ALL.into_iter().find(|it| it.text() == category)
}

/// The thumbprint that a token says it is bound to.
pub(super) fn claimed_certificate(claims: Claims<'_>) -> Option<[u8; 32]> {
    claims.if_any("cnf", confirmation).ok().flatten()
}

/// The key that the header names. Where it names it twice, both must mean one.
fn key<'a>(jwt: &Jwt<'_>, keys: &'a [SigningKey]) -> Result<&'a RsaKey, TokenFault> {
    let (sha1, sha256) = (jwt.key_id("x5t")?, jwt.key_id_if_any("x5t#S256")?);
    let named = keys.iter().find(|key| URL_SAFE_NO_PAD.encode(key.sha1) == sha1);
    let named = named.ok_or(TokenFault::UnknownKey)?;
    if sha256.is_some_and(|it| URL_SAFE_NO_PAD.encode(named.sha256) != it) {
        return Err(TokenFault::KeyIdsDisagree);
    }
    Ok(&named.key)
}

/// The thumbprint that a token is bound to. RFC 8705, section 3.1.
fn confirmation(claims: Claims<'_>, name: &'static str) -> Result<[u8; 32], TokenFault> {
    let Value::Object(confirmation) = claims.get(name)? else {
        return Err(TokenFault::ClaimForm(name));
    };
    let text = confirmation.text("x5t#S256").ok_or(TokenFault::ClaimForm(name))?;
    let octets = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenFault::ClaimForm(name))?;
    octets.try_into().map_err(|_| TokenFault::ClaimForm(name))
}

/// A GUID in either case: what is blocked is found however it is written.
fn guid(claims: Claims<'_>, name: &'static str) -> Result<Guid, TokenFault> {
    claims.text(name)?.parse().map_err(|_| TokenFault::ClaimForm(name))
}
