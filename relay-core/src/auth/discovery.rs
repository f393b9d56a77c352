//! What an identity provider says of itself: where its keys are.

use super::json::{Object, Value};

/// Longest text of a provider's metadata, in octets. Entra's has about two thousand.
pub const METADATA_OCTETS_MAX: usize = 64 << 10;

/// The members of a provider's metadata that count, as they are written: neither is judged.
// Source: OpenID Connect Discovery 1.0, section 3.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ProviderMetadata {
    /// What its tokens name as their issuer.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_uri: String,
}

/// A text that is no metadata of a provider. The provider's fault, or that of whoever has written
/// down where to ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// More than 64 KiB.
    #[error("the metadata is longer than 64 KiB: this is not where a provider publishes it")]
    TooLong,
    /// No JSON object, or some object has a member twice.
    #[error("it is no JSON object: this is not where a provider publishes its metadata")]
    Malformed,
    /// A member that counts is missing, or is no text.
    #[error("the metadata has no text `{0}`: the provider is broken")]
    Missing(&'static str),
}

impl ProviderMetadata {
    /// Reads it. Members that do not count may be anything.
    ///
    /// # Errors
    ///
    /// [`MetadataError`].
    pub fn read(text: &[u8]) -> Result<Self, MetadataError> {
        if text.len() > METADATA_OCTETS_MAX {
            return Err(MetadataError::TooLong);
        }
        let object = Object::read(text).map_err(|_| MetadataError::Malformed)?;
        let text = |name| match object.get(name) {
            Some(Value::Text(text)) => Ok(text.clone()),
            _ => Err(MetadataError::Missing(name)),
        };
        Ok(Self { issuer: text("issuer")?, jwks_uri: text("jwks_uri")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_members_are_read_whatever_else_is_there() {
        let text = br#"{"issuer":"https://a/","token_endpoint":1,"jwks_uri":"https://a/keys"}"#;
        let read = ProviderMetadata::read(text).unwrap();
        assert_eq!((&*read.issuer, &*read.jwks_uri), ("https://a/", "https://a/keys"));
    }

    #[test]
    fn what_is_no_metadata_is_refused_with_its_reason() {
        let read = |text: &[u8]| ProviderMetadata::read(text).unwrap_err();
        assert_eq!(read(b"<html>"), MetadataError::Malformed);
        assert_eq!(read(br#"{"issuer":"a","issuer":"b"}"#), MetadataError::Malformed);
        assert_eq!(read(br#"{"jwks_uri":"b"}"#), MetadataError::Missing("issuer"));
        assert_eq!(read(br#"{"issuer":"a","jwks_uri":1}"#), MetadataError::Missing("jwks_uri"));
        let mut long = br#"{"issuer":"a","jwks_uri":"b"}"#.to_vec();
        long.resize(METADATA_OCTETS_MAX, b' ');
        assert!(ProviderMetadata::read(&long).is_ok());
        long.push(b' ');
        assert_eq!(read(&long), MetadataError::TooLong);
    }
}
