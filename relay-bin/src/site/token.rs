//! Tokens of the site: what they claim, and their signature.

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::SigningKey as _;
use relay_core::auth::{Category, Guid};
use serde::Serialize;

use super::keys::Signer;

#[cfg(test)]
mod tests;

/// Who a token is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Holder {
    /// Whoever has it, to register with: a bulk token of this GUID.
    Anybody(Guid),
    /// A client's own token, bound to the certificate with this SHA-256 thumbprint.
    Client(Guid, [u8; 32]),
    /// A client that has shown a token of Entra.
    OfEntra(Guid),
}

/// A token that is to be signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    /// The tenant that the site names itself by.
    pub(crate) tenant: Guid,
    /// Who it is for. A client's tokens are called by the client's GUID, so that a block of the
    /// client is one of all of them.
    pub(crate) holder: Holder,
    /// From when it counts, in seconds since 1970 UTC.
    pub(crate) not_before: u64,
    /// For how long, in seconds: 1 to what its category may have.
    pub(crate) lifetime: u64,
}

/// A token in the compact form of RFC 7515, section 7.1. Whoever has the text has the token.
pub(crate) struct Token(String);

/// Why no token was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SignError {
    /// It would be valid for no time, or for more than its category may have.
    #[error("a token of this kind is valid for 1 to {max} seconds, not for {wanted}; ask for less")]
    Lifetime { wanted: u64, max: u64 },
    /// The key signs nothing.
    #[error("cannot sign the token: {0}; make another key by `relay token rotate`")]
    Key(#[from] rcgen::Error),
    /// It cannot be written as JSON: a fault of this program.
    #[error("cannot write the token: {0}; this is a fault of this program")]
    Json(#[from] serde_json::Error),
    /// The operating system gives no random octets.
    #[error("the operating system gives no random octets; try again later")]
    Random,
}

/// RFC 7515, sections 4.1.1, 4.1.7, 4.1.8 and 4.1.9.
#[derive(Serialize)]
struct Header {
    typ: &'static str,
    alg: &'static str,
    x5t: String,
    #[serde(rename = "x5t#S256")]
    x5t_s256: String,
}

#[derive(Serialize)]
struct Claims {
    #[serde(rename = "SCCMTokenCategory")]
    category: &'static str,
    #[serde(rename = "Authority")]
    authority: &'static str,
    #[serde(rename = "License")]
    license: &'static str,
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "TenantId")]
    tenant: String,
    #[serde(rename = "UniqueId")]
    id: String,
    #[serde(rename = "ClientId", skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    iss: String,
    aud: &'static str,
    nbf: u64,
    exp: u64,
}

/// RFC 8705, section 3.1.
#[derive(Serialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

impl Token {
    /// Signs a token.
    ///
    /// # Errors
    ///
    /// [`SignError`].
    pub(crate) fn sign(signer: &Signer, wanted: &Wanted) -> Result<Self, SignError> {
        let max = wanted.holder.category().lifetime_max();
        if !(1..=max).contains(&wanted.lifetime) {
            return Err(SignError::Lifetime { wanted: wanted.lifetime, max });
        }
        let header = Header {
            typ: "JWT",
            alg: "RS256",
            x5t: URL_SAFE_NO_PAD.encode(signer.key.sha1),
            x5t_s256: URL_SAFE_NO_PAD.encode(signer.key.sha256),
        };
        let mut text = segment(&header)? + "." + &segment(&claims(wanted))?;
        // `Keys::signer` takes no key but those of RSASSA-PKCS1-v1_5 with SHA-256.
        let signature = signer.secret.sign(text.as_bytes())?;
        text += ".";
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(Self(text))
    }

    /// Its text, for the one it is handed to.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

impl Holder {
    /// What a token of such a holder is for.
    pub(crate) fn category(self) -> Category {
        match self {
            Self::Anybody(_) => Category::Bulk,
            Self::Client(..) => Category::Client,
            Self::OfEntra(_) => Category::Ccm,
        }
    }
}

impl Wanted {
    /// Until when it counts.
    pub(crate) fn expires(&self) -> u64 {
        self.not_before.saturating_add(self.lifetime)
    }
}

/// A GUID that nobody has: RFC 9562, section 5.4.
///
/// # Errors
///
/// [`SignError::Random`].
pub(crate) fn new_guid() -> Result<Guid, SignError> {
    let mut octets = [0; 16];
    rand::fill(&mut octets).map_err(|_| SignError::Random)?;
    let random = u128::from_be_bytes(octets);
    let version = 0x4 << 76 | 0b10 << 62;
    Ok(Guid(random & !(0xf << 76 | 0b11 << 62) | version))
}

fn segment(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_vec(value).map(|json| URL_SAFE_NO_PAD.encode(json))
}

fn claims(wanted: &Wanted) -> Claims {
    let category = wanted.holder.category();
    let (id, client, bound_to) = match wanted.holder {
        Holder::Anybody(id) => (id, None, None),
        Holder::Client(client, certificate) => (client, Some(client), Some(certificate)),
        Holder::OfEntra(client) => (client, Some(client), None),
    };
    let certificate = |octets: [u8; 32]| URL_SAFE_NO_PAD.encode(octets);
    Claims {
        category: category.text(),
        authority: "SCCM",
        license: "SCCM",
        kind: category.kind(),
        tenant: wanted.tenant.to_string().to_ascii_uppercase(),
        id: id.to_string(),
        client: client.map(|client| client.to_string()),
        cnf: bound_to.map(|octets| Confirmation { certificate: certificate(octets) }),
        iss: format!("urn:sccm:oauth2:{}", wanted.tenant),
        aud: "urn:sccm:service",
        nbf: wanted.not_before,
        exp: wanted.expires(),
    }
}
