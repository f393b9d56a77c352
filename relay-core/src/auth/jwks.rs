//! The keys of an issuer: RFC 7517.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::json::{Object, Value};
use super::rs256::{KeyFault, RsaKey};

/// Longest text of a key set, in octets.
pub const KEY_SET_OCTETS_MAX: usize = 1024 * 1024;

/// Keys in a set, usable or not. Entra publishes about ten.
pub const KEYS_MAX: usize = 128;

/// Longest name of a key, in octets.
pub const KEY_ID_OCTETS_MAX: usize = 256;

/// The keys of an issuer by which tokens are verified, by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeySet {
    keys: Vec<(String, RsaKey)>,
}

/// A text that is no key set; whoever has asked for it keeps the last one that was.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// More than 1 MiB.
    #[error("the key set is longer than 1 MiB: this is not where keys are published")]
    TooLong,
    /// No JSON object with a list `keys`, or some object has a member twice.
    #[error("it is no key set: this is not where keys are published, or the provider is broken")]
    Malformed,
    /// More than 128 of them.
    #[error("the key set has more than {KEYS_MAX} keys: the provider is broken")]
    TooMany,
    /// None of them is usable. Taking it would lock everybody out.
    #[error("no key of the set can verify tokens: the provider is broken or signs otherwise")]
    NoneUsable,
}

/// Why a key of a set is left out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// It is no object, or a member that counts is missing or no text.
    #[error("it is not written as a key")]
    Malformed,
    /// It is of another kind than RSA.
    #[error("it is no RSA key")]
    Kind,
    /// It is for encryption, or anything else but signatures.
    #[error("it is not for verifying signatures")]
    Use,
    /// It is for another algorithm than RS256.
    #[error("it is for another algorithm")]
    Algorithm,
    /// It has no name, or one of more than 256 octets.
    #[error("it has no name of 1 to {KEY_ID_OCTETS_MAX} octets")]
    Unnamed,
    /// Another usable key has the same name, so that neither can be meant.
    #[error("another key has its name")]
    Ambiguous,
    /// It is weak or broken.
    #[error(transparent)]
    Key(#[from] KeyFault),
}

impl KeySet {
    /// Reads a key set, and says of each key that it leaves out where it stands and why.
    ///
    /// # Errors
    ///
    /// [`KeySetError`], if it is none, or has no key that can verify tokens.
    pub fn read(text: &[u8]) -> Result<(Self, Vec<(usize, Unusable)>), KeySetError> {
        if text.len() > KEY_SET_OCTETS_MAX {
            return Err(KeySetError::TooLong);
        }
        let set = Object::read(text).map_err(|_| KeySetError::Malformed)?;
        let Some(Value::List(listed)) = set.get("keys") else {
            return Err(KeySetError::Malformed);
        };
        if listed.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let mut usable: Vec<(usize, (String, RsaKey))> = Vec::new();
        let mut skipped = Vec::new();
        for (place, value) in listed.iter().enumerate() {
            match key(value) {
                Ok(key) => usable.push((place, key)),
                Err(why) => skipped.push((place, why)),
            }
        }
        let names: Vec<String> = usable.iter().map(|(_, (name, _))| name.clone()).collect();
        let mut keys = Vec::new();
        for (place, key) in usable {
            if names.iter().filter(|name| **name == key.0).count() == 1 {
                keys.push(key);
            } else {
                skipped.push((place, Unusable::Ambiguous));
            }
        }
        if keys.is_empty() { Err(KeySetError::NoneUsable) } else { Ok((Self { keys }, skipped)) }
    }

    /// The key of that name, letter for letter.
    pub fn get(&self, name: &str) -> Option<&RsaKey> {
        self.keys.iter().find(|(it, _)| it == name).map(|(_, key)| key)
    }

    /// Whether there is none; a set that was read has one at least.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether each key of `other` is here too, by the same name.
    pub(super) fn has_all_of(&self, other: &Self) -> bool {
        other.keys.iter().all(|key| self.keys.contains(key))
    }

    /// The names of its keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(name, _)| name.as_str())
    }
}

fn key(value: &Value) -> Result<(String, RsaKey), Unusable> {
    let Value::Object(key) = value else { return Err(Unusable::Malformed) };
    if key.text("kty") != Some("RSA") {
        return Err(Unusable::Kind);
    }
    // RFC 7517, sections 4.2 to 4.4: each may be left out.
    let is = |name, wanted| key.get(name).is_none() || key.text(name) == Some(wanted);
    let verifies = match key.get("key_ops") {
        None => true,
        Some(Value::List(uses)) => uses.contains(&Value::Text("verify".to_owned())),
        Some(_) => false,
    };
    if !is("use", "sig") || !verifies {
        return Err(Unusable::Use);
    }
    if !is("alg", "RS256") {
        return Err(Unusable::Algorithm);
    }
    let is_name = |name: &&str| (1..=KEY_ID_OCTETS_MAX).contains(&name.len());
    let name = key.text("kid").filter(is_name).ok_or(Unusable::Unnamed)?;
    let number = |of| {
        let text = key.text(of).ok_or(Unusable::Malformed)?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| Unusable::Malformed)
    };
    Ok((name.to_owned(), RsaKey::new(&number("n")?, &number("e")?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus(octets: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xff; octets])
    }

    fn with(extra: &str) -> String {
        format!("{{\"kty\":\"RSA\",\"n\":\"{}\",\"e\":\"AQAB\"{extra}}}", modulus(256))
    }

    fn read(keys: &[String]) -> Result<(KeySet, Vec<(usize, Unusable)>), KeySetError> {
        KeySet::read(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes())
    }

    #[test]
    fn keys_that_cannot_verify_are_left_out_each_with_its_reason() {
        let long = "k".repeat(KEY_ID_OCTETS_MAX + 1);
        let weak =
            format!("{{\"kty\":\"RSA\",\"kid\":\"w\",\"n\":\"{}\",\"e\":\"AQAB\"}}", modulus(128));
        let table = [
            ("1".to_owned(), Unusable::Malformed),
            ("{}".to_owned(), Unusable::Kind),
            (r#"{"kty":"oct","kid":"a","k":"AA"}"#.to_owned(), Unusable::Kind),
            (r#"{"kty":"rsa","kid":"a"}"#.to_owned(), Unusable::Kind),
            (with(r#","kid":"a","use":"enc""#), Unusable::Use),
            (with(r#","kid":"a","use":1"#), Unusable::Use),
            (with(r#","kid":"a","key_ops":["encrypt"]"#), Unusable::Use),
            (with(r#","kid":"a","key_ops":"verify""#), Unusable::Use),
            (with(r#","kid":"a","alg":"PS256""#), Unusable::Algorithm),
            (with(""), Unusable::Unnamed),
            (with(r#","kid":"""#), Unusable::Unnamed),
            (with(&format!(",\"kid\":\"{long}\"")), Unusable::Unnamed),
            (r#"{"kty":"RSA","kid":"a","e":"AQAB"}"#.to_owned(), Unusable::Malformed),
            (r#"{"kty":"RSA","kid":"a","n":"AQ==","e":"AQAB"}"#.to_owned(), Unusable::Malformed),
            (weak, Unusable::Key(KeyFault::Bits(1024))),
        ];
        for (text, why) in table {
            let good = with(r#","kid":"good","use":"sig","alg":"RS256","key_ops":["verify"]"#);
            let (set, skipped) = read(&[text.clone(), good]).unwrap();
            assert_eq!(skipped, [(0, why)], "{text}");
            assert_eq!(set.names().collect::<Vec<_>>(), ["good"]);
            assert_eq!(read(&[text]), Err(KeySetError::NoneUsable));
        }
    }

    #[test]
    fn of_two_keys_with_one_name_neither_counts() {
        let same = with(r#","kid":"same""#);
        let (set, skipped) = read(&[same.clone(), with(r#","kid":"other""#), same]).unwrap();
        assert_eq!(skipped, [(0, Unusable::Ambiguous), (2, Unusable::Ambiguous)]);
        assert!(set.get("same").is_none());
        assert!(set.get("other").is_some());
        assert!(set.get("Other").is_none(), "letter for letter");
    }

    #[test]
    fn a_set_has_128_keys_and_a_mebibyte_at_most() {
        let keys = |count: usize| -> Vec<_> {
            (0..count).map(|place| with(&format!(",\"kid\":\"{place}\""))).collect()
        };
        assert_eq!(read(&keys(KEYS_MAX)).unwrap().0.names().count(), KEYS_MAX);
        assert_eq!(read(&keys(KEYS_MAX + 1)), Err(KeySetError::TooMany));
        let mut text = format!("{{\"keys\":[{}]}}", with(r#","kid":"a""#)).into_bytes();
        text.resize(KEY_SET_OCTETS_MAX, b' ');
        assert!(KeySet::read(&text).is_ok());
        text.push(b' ');
        assert_eq!(KeySet::read(&text), Err(KeySetError::TooLong));
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>"] {
            assert_eq!(KeySet::read(text.as_bytes()), Err(KeySetError::Malformed), "{text}");
        }
        let twice = with(r#","kid":"a","kid":"b""#);
        assert_eq!(read(&[twice]), Err(KeySetError::Malformed));
        assert_eq!(read(&[]), Err(KeySetError::NoneUsable));
    }
}
