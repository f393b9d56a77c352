//! Signatures that CCM clients put into the head of a request: who sends it, and when.
//!
//! A client signs with the key of a certificate that it has registered. Which key that is, is not
//! decided here. Read [`SignedHead`] first.
//!
//! A signature is the RSA operation of PKCS #1 v1.5 over SHA-256 of the text in UTF-16LE with a NUL
//! behind it, its octets in reverse order, in hexadecimal. Some clients leave out which digest it
//! is (`CRYPT_NOHASHOID`), which no library verifies; so the RSA operation is done here, and the
//! whole block compared with the ones that are right. Nothing of a block is ever parsed.
// Source: MS Learn, `CryptSignHash`: dwFlags, CRYPT_NOHASHOID; and its remark on octet order.
// RFC 8017, sections 8.2.2 and 9.2: a verifier that encodes and compares.

use aws_lc_rs::digest;
use http::HeaderMap;
use x509_parser::certificate::X509Certificate;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::Guid;
use super::replay::{Replay, ReplayFault};

/// How far a timestamp may be from the clock, in seconds, either way.
// Our choice: Kerberos keeps clocks of clients within five minutes; as much again for the way.
pub const SIGNATURE_WINDOW: u64 = 600;

/// Bits of a key. Above, one signature would cost too much.
const KEY_BITS: std::ops::RangeInclusive<u64> = 2048..=4096;

/// The highest exponent, in bits: all that are in use are 65537 or less.
const EXPONENT_BITS_MAX: u64 = 33;

/// What stands before a digest to say that it is SHA-256.
// RFC 8017, section 9.2, note 1.
const SHA256_INFO: &[u8] = &[
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// As [`SHA256_INFO`], for SHA-1.
const SHA1_INFO: &[u8] =
    &[0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14];

/// Which digests a client may sign.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SignedDigests {
    /// SHA-256 alone.
    #[default]
    Sha256,
    /// SHA-1 too, for old clients: whoever can make two texts of one digest can pass for one that
    /// has signed the other.
    Sha1Too,
}

/// Why a signed head proves nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// The certificate or public key cannot be read.
    #[error("the key that must have signed cannot be read")]
    Key,
    /// The key is not RSA of 2,048 to 4,096 bits.
    #[error("only RSA keys of 2,048 to 4,096 bits sign requests")]
    WeakKey,
    /// A header field stands there twice, or is no text.
    #[error("a signed header field is repeated or is no text")]
    Field,
    /// A part is missing: id, timestamp, or the signature of one of them.
    #[error("the signed head lacks an id, a timestamp, or a signature")]
    Incomplete,
    /// The id is no GUID.
    #[error("the client's id is no GUID")]
    Id,
    /// Two header fields name different clients, or one request has two times.
    #[error("header fields name different clients or times")]
    Contradiction,
    /// The timestamp is not in the form `2026-11-21T18:00:00Z`, or no such time.
    #[error("the timestamp is not of the form 2026-11-21T18:00:00Z")]
    Timestamp,
    /// The signature is not hexadecimal, or not as long as the key's modulus.
    #[error("the signature is not as many hexadecimal octets as the key has")]
    Form,
    /// The signature is not that of this key over this text.
    #[error("the signature is not that key's, or not of that text")]
    Mismatch,
    /// The timestamp is older than [`SIGNATURE_WINDOW`]; the request is old, or a clock is wrong.
    #[error("the signed timestamp is more than {SIGNATURE_WINDOW} s old; is a clock wrong?")]
    Stale,
    /// The timestamp is later than [`SIGNATURE_WINDOW`] from now: a clock is wrong.
    #[error("the signed timestamp is more than {SIGNATURE_WINDOW} s ahead; is a clock wrong?")]
    Ahead,
    /// It was used already, or too much is remembered.
    #[error(transparent)]
    Replay(#[from] ReplayFault),
}

/// The public key that a client signs with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientKey {
    modulus: BigUint,
    exponent: BigUint,
    octets: usize,
    fingerprint: [u8; 32],
}

impl ClientKey {
    /// The key of a certificate in DER. Nothing else of the certificate counts.
    ///
    /// # Errors
    ///
    /// [`SignatureFault::Key`], [`SignatureFault::WeakKey`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, SignatureFault> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Self::read(certificate.public_key()),
            _ => Err(SignatureFault::Key),
        }
    }

    /// A key as a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    ///
    /// As [`ClientKey::of_certificate`].
    pub fn from_der(der: &[u8]) -> Result<Self, SignatureFault> {
        match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], key)) => Self::read(&key),
            _ => Err(SignatureFault::Key),
        }
    }

    fn read(key: &SubjectPublicKeyInfo<'_>) -> Result<Self, SignatureFault> {
        let Ok(PublicKey::RSA(rsa)) = key.parsed() else {
            return Err(SignatureFault::WeakKey);
        };
        let modulus = BigUint::from_bytes_be(rsa.modulus);
        let exponent = BigUint::from_bytes_be(rsa.exponent);
        let is_usual = exponent.bit(0)
            && exponent.bits() > 1
            && exponent.bits() <= EXPONENT_BITS_MAX
            && modulus.bit(0);
        if !is_usual || !KEY_BITS.contains(&modulus.bits()) {
            return Err(SignatureFault::WeakKey);
        }
        let octets = modulus.to_bytes_be().len();
        let fingerprint = digest::digest(&digest::SHA256, key.raw);
        let fingerprint = fingerprint.as_ref().try_into().expect("SHA-256 has 32 octets");
        Ok(Self { modulus, exponent, octets, fingerprint })
    }

    /// SHA-256 of the public key with its algorithm.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Whether `signature` is this key's, of `text`.
    ///
    /// # Errors
    ///
    /// [`SignatureFault::Form`], [`SignatureFault::Mismatch`].
    pub fn verify(
        &self,
        text: &str,
        signature: &str,
        digests: SignedDigests,
    ) -> Result<(), SignatureFault> {
        let mut octets = from_hex(signature).ok_or(SignatureFault::Form)?;
        if octets.len() != self.octets {
            return Err(SignatureFault::Form);
        }
        octets.reverse();
        let number = BigUint::from_bytes_be(&octets);
        if number >= self.modulus {
            return Err(SignatureFault::Mismatch);
        }
        let block = number.modpow(&self.exponent, &self.modulus);
        let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let mut right = vec![(&digest::SHA256, SHA256_INFO)];
        if digests == SignedDigests::Sha1Too {
            right.push((&digest::SHA1_FOR_LEGACY_USE_ONLY, SHA1_INFO));
        }
        let is_right = right.into_iter().any(|(algorithm, info)| {
            let digest = digest::digest(algorithm, &wide);
            [info, &[]].into_iter().any(|info| block == self.block(info, digest.as_ref()))
        });
        if is_right { Ok(()) } else { Err(SignatureFault::Mismatch) }
    }

    /// The one block that is right for this digest, with this in front of it.
    fn block(&self, info: &[u8], digest: &[u8]) -> BigUint {
        // The shortest key has 256 octets, far more than 3 and 8 and the longest of these.
        let ones = self.octets - 3 - info.len() - digest.len();
        let block = [&[0, 1], &vec![0xff; ones][..], &[0], info, digest].concat();
        BigUint::from_bytes_be(&block)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

/// What the head of a request says of who sends it and when, with signatures; not verified yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedHead {
    id: Guid,
    /// In seconds since 1970 UTC.
    at: u64,
    /// Each text with its signature. All must be of one key.
    signed: Vec<(String, String)>,
}

impl SignedHead {
    /// Reads the fields `CCMClientID`, `CCMClientTimestamp` and their signatures, or `ClientToken`
    /// and its signature. Where both are there both must hold and say the same, for it is not known
    /// which of them a site role goes by. `None` if there is neither.
    ///
    /// # Errors
    ///
    /// [`SignatureFault`], of those that concern the form.
    pub fn read(headers: &HeaderMap) -> Result<Option<Self>, SignatureFault> {
        let token = Self::of_token(headers)?;
        let fields = Self::of_fields(headers)?;
        match (token, fields) {
            (Some(token), Some(fields)) => {
                if (token.id, token.at) != (fields.id, fields.at) {
                    return Err(SignatureFault::Contradiction);
                }
                let signed = [token.signed, fields.signed].concat();
                Ok(Some(Self { signed, ..fields }))
            }
            (token, fields) => Ok(token.or(fields)),
        }
    }

    // Source: open-source clients send `GUID:<id>;<timestamp>;2`, older ones without the version.
    fn of_token(headers: &HeaderMap) -> Result<Option<Self>, SignatureFault> {
        let (text, signature) =
            match (field(headers, "clienttoken")?, field(headers, "clienttokensignature")?) {
                (Some(text), Some(signature)) => (text, signature),
                (None, None) => return Ok(None),
                _ => return Err(SignatureFault::Incomplete),
            };
        let mut parts = text.split(';');
        let (id, at) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let version = parts.next().unwrap_or("2");
        if version != "2" || parts.next().is_some() {
            return Err(SignatureFault::Field);
        }
        let signed = vec![(text.to_owned(), signature.to_owned())];
        Ok(Some(Self { id: read_id(id)?, at: read_timestamp(at)?, signed }))
    }

    fn of_fields(headers: &HeaderMap) -> Result<Option<Self>, SignatureFault> {
        let id = field(headers, "ccmclientid")?;
        let id_signature = field(headers, "ccmclientidsignature")?;
        let at = field(headers, "ccmclienttimestamp")?;
        // Source: the plural is documented, the singular is sent.
        let plural = field(headers, "ccmclienttimestampssignature")?;
        let singular = field(headers, "ccmclienttimestampsignature")?;
        if plural.is_some() && singular.is_some() && plural != singular {
            return Err(SignatureFault::Contradiction);
        }
        match (id, id_signature, at, plural.or(singular)) {
            // An id alone claims something and signs nothing: no credential.
            (_, None, None, None) => Ok(None),
            (Some(id), Some(id_signature), Some(at), Some(at_signature)) => {
                let signed = [(id, id_signature), (at, at_signature)];
                let signed =
                    signed.map(|(text, signature)| (text.to_owned(), signature.to_owned()));
                Ok(Some(Self {
                    id: read_id(id)?,
                    at: read_timestamp(at)?,
                    signed: signed.to_vec(),
                }))
            }
            _ => Err(SignatureFault::Incomplete),
        }
    }

    /// Who it says it is from.
    pub fn id(&self) -> Guid {
        self.id
    }

    /// Whether all of it is signed by `key`, at a time that is fresh at `now` and was not used.
    /// Cheap reasons come first; only what holds is remembered in `used`.
    ///
    /// # Errors
    ///
    /// [`SignatureFault`].
    pub fn verify(
        &self,
        key: &ClientKey,
        digests: SignedDigests,
        now: u64,
        used: &mut Replay,
    ) -> Result<Guid, SignatureFault> {
        self.verify_with(key, digests, now, |key, at| used.take(key, at, now))
    }

    /// As [`SignedHead::verify`], for whoever shares the memory of what was used: `take` is
    /// [`Replay::take`], called once and last, so that nobody need hold the memory while the
    /// signatures are verified.
    ///
    /// # Errors
    ///
    /// [`SignatureFault`].
    pub fn verify_with(
        &self,
        key: &ClientKey,
        digests: SignedDigests,
        now: u64,
        take: impl FnOnce([u8; 32], u64) -> Result<(), ReplayFault>,
    ) -> Result<Guid, SignatureFault> {
        if now.saturating_sub(self.at) > SIGNATURE_WINDOW {
            return Err(SignatureFault::Stale);
        }
        if self.at.saturating_sub(now) > SIGNATURE_WINDOW {
            return Err(SignatureFault::Ahead);
        }
        for (text, signature) in &self.signed {
            key.verify(text, signature, digests)?;
        }
        take(*key.fingerprint(), self.at)?;
        Ok(self.id)
    }
}

/// The only value of a field.
fn field<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, SignatureFault> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(SignatureFault::Field);
    }
    value.to_str().map(Some).map_err(|_| SignatureFault::Field)
}

/// Clients write `GUID:` before it.
fn read_id(text: &str) -> Result<Guid, SignatureFault> {
    let text = text.strip_prefix("GUID:").unwrap_or(text);
    text.parse().map_err(|_| SignatureFault::Id)
}

/// Reads `2026-11-21T18:00:00Z`, and nothing but that form.
fn read_timestamp(text: &str) -> Result<u64, SignatureFault> {
    let parts = timestamp_parts(text).ok_or(SignatureFault::Timestamp)?;
    let [year, month, day, hour, minute, second] = parts;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(is_leap(year)),
        1..=12 => 31,
        _ => return Err(SignatureFault::Timestamp),
    };
    if year < 1970 || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return Err(SignatureFault::Timestamp);
    }
    // Days of whole years since the year 0, then of whole months of a year without leap day.
    let before =
        |year: u64| year * 365 + year.div_ceil(4) - year.div_ceil(100) + year.div_ceil(400);
    let of_months = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let place = usize::try_from(month - 1).map_err(|_| SignatureFault::Timestamp)?;
    let of_months = of_months.get(place).ok_or(SignatureFault::Timestamp)?;
    let leap_day = u64::from(month > 2 && is_leap(year));
    let days = before(year) - before(1970) + of_months + leap_day + day - 1;
    Ok(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn timestamp_parts(text: &str) -> Option<[u64; 6]> {
    const SHAPE: &[u8; 20] = b"0000-00-00T00:00:00Z";
    let mut parts = [0; 6];
    let mut part = parts.iter_mut();
    let mut number = part.next()?;
    if text.len() != SHAPE.len() {
        return None;
    }
    for (octet, shape) in text.bytes().zip(SHAPE) {
        match shape {
            b'0' if octet.is_ascii_digit() => *number = *number * 10 + u64::from(octet - b'0'),
            b'0' => return None,
            mark if octet != *mark => return None,
            b'Z' => {}
            _ => number = part.next()?,
        }
    }
    Some(parts)
}

#[cfg(test)]
#[path = "signature/tests.rs"]
mod tests;
