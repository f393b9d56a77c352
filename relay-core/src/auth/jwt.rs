//! Tokens as text: RFC 6750 around them, RFC 7515 in them, and everything refused that has two
//! readings, before anything is computed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::TokenFault;
use super::json::{NotAnObject, Object, Value};
use super::rs256::RsaKey;
use super::token_fault::Part;

/// Longest value of Authorization, in octets.
pub const AUTHORIZATION_OCTETS_MAX: usize = 16 * 1024;

/// Longest header of a token as JSON text, in octets.
pub const HEADER_OCTETS_MAX: usize = 1024;

/// Longest payload of a token as JSON text, in octets.
pub const PAYLOAD_OCTETS_MAX: usize = 8 * 1024;

/// Longest signature, in octets: that of a key of 8,192 bits.
const SIGNATURE_OCTETS_MAX: usize = 1024;

/// Members of a header that bring a key along. RFC 7515, sections 4.1.2, 4.1.3, 4.1.5 and 4.1.6.
const KEYS: [&str; 4] = ["jwk", "jku", "x5u", "x5c"];

/// Members of a header that change what the rest means: extensions (RFC 7515, section 4.1.11),
/// unencoded payloads (RFC 7797), nested tokens (RFC 7519, section 5.2), compression and encryption
/// (RFC 7516).
const EXTENSIONS: [&str; 5] = ["crit", "b64", "cty", "zip", "enc"];

/// The token in the Authorization fields of a request, if any.
///
/// # Errors
///
/// [`TokenFault`], if there are several fields, or the one is no bearer token.
// Our choice: any other scheme is a fault and not an absence, so that the log says what there was.
pub fn bearer<'a>(
    mut fields: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<&'a str>, TokenFault> {
    let Some(value) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(TokenFault::SeveralFields);
    }
    if value.len() > AUTHORIZATION_OCTETS_MAX {
        return Err(TokenFault::FieldTooLong);
    }
    let value = std::str::from_utf8(value).map_err(|_| TokenFault::Malformed)?;
    // RFC 9110, section 11.4: the scheme in any case, and at least one space.
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenFault::Scheme);
    }
    Ok(Some(token.trim_start_matches(' ')))
}

/// What a cache knows a token by: its SHA-256.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A token that is read, and not believed yet.
pub struct Jwt<'a> {
    header: Object,
    payload: Object,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Reads a token in the compact form of RFC 7515, section 7.1.
    ///
    /// # Errors
    ///
    /// [`TokenFault`], if it is none, exceeds a limit, or its header has anything that is never
    /// accepted of anybody.
    pub fn read(token: &'a str) -> Result<Self, TokenFault> {
        if token.len() > AUTHORIZATION_OCTETS_MAX {
            return Err(TokenFault::FieldTooLong);
        }
        let mut segments = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(TokenFault::Malformed);
        };
        let signed = token.as_bytes().get(..header.len() + 1 + payload.len());
        let header = object(header, Part::Header, HEADER_OCTETS_MAX)?;
        judge_header(&header)?;
        Ok(Self {
            header,
            payload: object(payload, Part::Payload, PAYLOAD_OCTETS_MAX)?,
            signed: signed.unwrap_or_default(),
            signature: octets(signature, Part::Signature, SIGNATURE_OCTETS_MAX)?,
        })
    }

    /// Whether the site has issued it, as it says itself. Nothing is proven by that: it decides who
    /// is to judge it.
    pub fn claims_to_be_of_the_site(&self) -> bool {
        self.payload.text("iss").is_some_and(|it| it.starts_with(super::site_token::ISSUER))
    }

    /// A text of the header.
    pub(super) fn key_id(&self, name: &'static str) -> Result<&str, TokenFault> {
        self.header.text(name).ok_or(TokenFault::NoKeyId(name))
    }

    /// A text of the header that may be left out.
    pub(super) fn key_id_if_any(&self, name: &'static str) -> Result<Option<&str>, TokenFault> {
        match self.header.get(name) {
            None => Ok(None),
            Some(_) => self.key_id(name).map(Some),
        }
    }

    /// What is claimed.
    pub(super) fn claims(&self) -> Claims<'_> {
        Claims(&self.payload)
    }

    /// Holds the signature against `key`.
    pub(super) fn check(&self, key: &RsaKey) -> Result<(), TokenFault> {
        if key.has_signed(self.signed, &self.signature) {
            Ok(())
        } else {
            Err(TokenFault::Signature)
        }
    }
}

/// Nothing of it: whoever has the text has the token.
impl fmt::Debug for Jwt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jwt([redacted])")
    }
}

/// What a token claims.
#[derive(Clone, Copy)]
pub(super) struct Claims<'a>(&'a Object);

impl<'a> Claims<'a> {
    /// A claim that must be there.
    pub(super) fn get(self, name: &'static str) -> Result<&'a Value, TokenFault> {
        self.0.get(name).ok_or(TokenFault::NoClaim(name))
    }

    /// A claim of text.
    pub(super) fn text(self, name: &'static str) -> Result<&'a str, TokenFault> {
        match self.get(name)? {
            Value::Text(text) => Ok(text),
            _ => Err(TokenFault::ClaimForm(name)),
        }
    }

    /// A time, in seconds since 1970 UTC.
    // RFC 7519, section 2, lets a NumericDate have a fraction. Our choice: it is refused. Entra
    // documents its times as integers and the site writes integers, so that a fraction is of
    // neither; and a reader that rounds it does so in one of three ways.
    pub(super) fn time(self, name: &'static str) -> Result<u64, TokenFault> {
        match self.get(name)? {
            Value::Integer(seconds) => Ok(*seconds),
            _ => Err(TokenFault::ClaimForm(name)),
        }
    }

    /// A claim that may be left out.
    pub(super) fn if_any<T>(
        self,
        name: &'static str,
        read: impl Fn(Self, &'static str) -> Result<T, TokenFault>,
    ) -> Result<Option<T>, TokenFault> {
        self.0.get(name).map(|_| read(self, name)).transpose()
    }

    /// When it is valid.
    pub(super) fn times(self) -> Result<Times, TokenFault> {
        let issued = self.if_any("iat", Self::time)?;
        Ok(Times { not_before: self.time("nbf")?, expires: self.time("exp")?, issued })
    }
}

/// When a token is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Times {
    not_before: u64,
    expires: u64,
    issued: Option<u64>,
}

impl Times {
    /// From when it counts, in seconds since 1970 UTC.
    pub(super) fn not_before(self) -> u64 {
        self.not_before
    }

    /// Until when it counts, in seconds since 1970 UTC.
    pub(super) fn expires(self) -> u64 {
        self.expires
    }

    /// Whether it is valid at `now`, if clocks may differ by `leeway` and it may be valid for
    /// `lifetime_max`; all in seconds. Answers when it will not be any more.
    ///
    /// Asked each time a token is shown, also one that has been verified before: no step of the
    /// clock, back or forth, is outlived by a verdict.
    // RFC 7519, section 4.1.4: `exp` itself is past.
    pub(super) fn judge(self, now: u64, leeway: u64, lifetime_max: u64) -> Result<u64, TokenFault> {
        let lifetime = self.expires.checked_sub(self.not_before).ok_or(TokenFault::Expired)?;
        if lifetime > lifetime_max {
            return Err(TokenFault::LivesTooLong);
        }
        let until = self.expires.saturating_add(leeway);
        let latest = now.saturating_add(leeway);
        if self.not_before > latest {
            return Err(TokenFault::NotYet);
        }
        if self.issued.is_some_and(|issued| issued > latest) {
            return Err(TokenFault::IssuedLater);
        }
        if now >= until { Err(TokenFault::Expired) } else { Ok(until) }
    }
}

/// What no header may have, of whatever issuer.
fn judge_header(header: &Object) -> Result<(), TokenFault> {
    if let Some(name) = KEYS.into_iter().find(|name| header.get(name).is_some()) {
        return Err(TokenFault::EmbeddedKey(name));
    }
    if let Some(name) = EXTENSIONS.into_iter().find(|name| header.get(name).is_some()) {
        return Err(TokenFault::Extension(name));
    }
    // RFC 8725, section 3.1: letter for letter, and never as the key would have it.
    if header.text("alg") != Some("RS256") {
        return Err(TokenFault::Algorithm);
    }
    // RFC 8725, section 3.11. Both issuers write it, and in capitals.
    if header.text("typ") != Some("JWT") {
        return Err(TokenFault::Type);
    }
    Ok(())
}

/// Octets in base64url, without padding and with nothing in the bits left over.
fn octets(segment: &str, part: Part, max: usize) -> Result<Vec<u8>, TokenFault> {
    // Before anything is allocated. Four digits are three octets.
    if segment.len() > max.div_ceil(3) * 4 {
        return Err(TokenFault::TooLong(part));
    }
    let octets = URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenFault::Base64(part))?;
    if octets.len() > max { Err(TokenFault::TooLong(part)) } else { Ok(octets) }
}

fn object(segment: &str, part: Part, max: usize) -> Result<Object, TokenFault> {
    Object::read(&octets(segment, part, max)?).map_err(|fault| match fault {
        NotAnObject::Json => TokenFault::Json(part),
        NotAnObject::Duplicate => TokenFault::Duplicate(part),
    })
}
