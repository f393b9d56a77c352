//! RSA signatures: the one file that names the library which checks them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::verify;
use jsonwebtoken::{Algorithm, DecodingKey};

/// Bits of a key. Longer ones cost too much to check, shorter ones prove too little.
// RFC 7518, section 3.3, asks for 2,048 at least.
const KEY_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key of RSA, by which RS256 is checked and nothing else.
#[derive(Clone, Eq, PartialEq)]
pub struct RsaKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// Numbers that are no [`RsaKey`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// Fewer than 2,048 or more than 8,192 bits.
    #[error("a key has 2,048 to 8,192 bits, this one {0}: its owner must make another")]
    Bits(usize),
    /// The modulus is even or has leading zeros.
    #[error("the modulus is none: whoever has written it is broken")]
    Modulus,
    /// The exponent is even, has leading zeros, or lies outside 65,537 to 2^33 - 1.
    // Our choice: small ones have only made trouble, and nobody who issues tokens uses them.
    #[error("the exponent is not odd, or not from 65,537 to 2^33 - 1: make another key")]
    Exponent,
}

impl RsaKey {
    /// The key of these two numbers, each in as few octets as hold it, the highest first.
    ///
    /// # Errors
    ///
    /// [`KeyFault`], if they are no key that is good enough.
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyFault> {
        let bits = bits(modulus).filter(|_| is_odd(modulus)).ok_or(KeyFault::Modulus)?;
        if !KEY_BITS.contains(&bits) {
            return Err(KeyFault::Bits(bits));
        }
        let is_exponent = |bits| (17..=33).contains(&bits) && is_odd(exponent);
        if !self::bits(exponent).is_some_and(is_exponent) {
            return Err(KeyFault::Exponent);
        }
        Ok(Self { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// Bits of the modulus.
    pub fn bits(&self) -> usize {
        bits(&self.modulus).unwrap_or_default()
    }

    /// Whether `signature` is this key's of `message`, by RSASSA-PKCS1-v1_5 with SHA-256.
    // RFC 7518, section 3.3.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = DecodingKey::from_rsa_raw_components(&self.modulus, &self.exponent);
        let signature = URL_SAFE_NO_PAD.encode(signature);
        verify(&signature, message, &key, Algorithm::RS256).unwrap_or(false)
    }
}

/// How long it is; the numbers themselves help nobody.
impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaKey({} bits)", self.bits())
    }
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|octet| octet % 2 == 1)
}

/// Bits of a number in as few octets as hold it; `None` if they are not as few.
fn bits(number: &[u8]) -> Option<usize> {
    let first = *number.first().filter(|octet| **octet != 0)?;
    Some(number.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An odd number of so many bits.
    fn number(bits: usize) -> Vec<u8> {
        let mut octets = vec![0xff; bits.div_ceil(8)];
        if let Some(first) = octets.first_mut() {
            *first >>= (8 - bits % 8) % 8;
        }
        octets
    }

    #[test]
    fn a_key_has_2048_to_8192_bits() {
        let f4 = [1, 0, 1];
        for good in [2048, 2049, 3072, 8191, 8192] {
            assert_eq!(RsaKey::new(&number(good), &f4).unwrap().bits(), good);
        }
        for bad in [1, 512, 1024, 2047, 8193, 16384] {
            assert_eq!(RsaKey::new(&number(bad), &f4), Err(KeyFault::Bits(bad)));
        }
        let even = [&number(2040)[..], &[2]].concat();
        let padded = [&[0], &number(2048)[..]].concat();
        for modulus in [&[][..], &[0], &even, &padded] {
            assert_eq!(RsaKey::new(modulus, &f4), Err(KeyFault::Modulus));
        }
    }

    #[test]
    fn an_exponent_is_odd_and_neither_small_nor_long() {
        let modulus = number(2048);
        for good in [&[1, 0, 1][..], &[1, 0, 3], &[1, 0xff, 0xff, 0xff, 0xff]] {
            assert!(RsaKey::new(&modulus, good).is_ok(), "{good:?}");
        }
        for bad in
            [&[][..], &[0], &[1], &[3], &[0xff, 0xff], &[1, 0, 0], &[0, 1, 0, 1], &[2, 0, 0, 0, 1]]
        {
            assert_eq!(RsaKey::new(&modulus, bad), Err(KeyFault::Exponent), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_number() {
        let key = RsaKey::new(&number(2048), &[1, 0, 1]).unwrap();
        assert_eq!(format!("{key:?}"), "RsaKey(2048 bits)");
        assert!(!key.has_signed(b"message", &[1; 256]));
    }
}
