//! The keys of a tenant's identity provider, by what the provider says of itself.
//!
//! The metadata tells where the keys are. It is believed no further than the address that it came
//! from:
//!
//! - `issuer` is, letter for letter, the one that tokens of this tenant and version name;
//! - `jwks_uri` is of the same host and port as the metadata, or of a host below that one; and it
//!   is `https`, but for a provider that is itself asked on loopback without TLS.
//!
//! So whoever can answer there decides which keys count, and nobody else does.

use std::fmt;

use crate::auth::{
    Guid, Issuer, KEY_SET_OCTETS_MAX, KeySet, KeySetError, METADATA_OCTETS_MAX, MetadataError,
    ProviderMetadata,
};

use super::address::{Address, AddressFault, Plain};
use super::get::{GetError, Getter, Got, Validators};

/// Octets of a provider's text that an error shows.
const SHOWN_OCTETS_MAX: usize = 200;

/// In which version a provider is asked about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProviderVersion {
    /// `<authority>/<tenant>/.well-known/openid-configuration`.
    V1,
    /// `<authority>/<tenant>/v2.0/.well-known/openid-configuration`.
    V2,
}

/// Where the keys of a tenant come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeySource {
    tenant: Guid,
    authority: Address,
    version: ProviderVersion,
}

/// Why there are no new keys of a tenant. Those that were held before still are.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysFault {
    /// The provider's metadata cannot be fetched.
    #[error("the provider's metadata: {0}")]
    Metadata(#[source] GetError),
    /// What was fetched is no metadata.
    #[error(transparent)]
    NotMetadata(#[from] MetadataError),
    /// The metadata is of another tenant, version or provider: the configuration's fault, usually.
    #[error("the metadata is of issuer {found:?}, not {expected}; is the tenant of that cloud?")]
    Issuer {
        /// What the provider says.
        found: String,
        /// What it is to say.
        expected: String,
    },
    /// The metadata sends elsewhere for keys: the provider's fault.
    #[error("the metadata names {found:?} for keys, which is not at {origin}")]
    Elsewhere {
        /// What the provider says.
        found: String,
        /// Where it was asked.
        origin: String,
    },
    /// The metadata names no address for keys: the provider's fault.
    #[error("the metadata names {found:?} for keys: {fault}")]
    Address {
        /// What the provider says.
        found: String,
        /// What is wrong about it.
        fault: AddressFault,
    },
    /// The keys cannot be fetched.
    #[error("the provider's keys: {0}")]
    Keys(#[source] GetError),
    /// What was fetched are no keys.
    #[error(transparent)]
    NotKeys(#[from] KeySetError),
    /// A task of this machine has failed; it is tried again.
    #[error("the task that fetches it has failed")]
    Task,
}

/// The keys that an address has given, and how to ask there for newer ones.
#[derive(Clone, Debug)]
pub(super) struct GivenBy {
    address: Address,
    validators: Validators,
}

impl KeySource {
    /// The keys of `tenant` as the provider at `authority` tells them, such as
    /// `https://login.microsoftonline.com`.
    ///
    /// # Errors
    ///
    /// [`AddressFault`]: plain HTTP is for loopback alone.
    pub fn new(
        tenant: Guid,
        authority: &str,
        version: ProviderVersion,
    ) -> Result<Self, AddressFault> {
        Ok(Self { tenant, authority: Address::read_host(authority)?, version })
    }

    /// The keys of a tenant of Entra, of the cloud that `issuer` is of.
    // Source: Microsoft Learn, "National clouds": endpoints of Microsoft Entra for each of them.
    pub fn entra(tenant: Guid, issuer: Issuer) -> Self {
        let (host, version) = match issuer {
            Issuer::V1 => ("https://login.microsoftonline.com", ProviderVersion::V1),
            Issuer::V2 => ("https://login.microsoftonline.com", ProviderVersion::V2),
            Issuer::Government => ("https://login.microsoftonline.us", ProviderVersion::V2),
        };
        Self { tenant, authority: Address::from_static(host), version }
    }

    /// Whose keys these are.
    pub fn tenant(&self) -> Guid {
        self.tenant
    }

    /// Where the provider's metadata is.
    fn metadata(&self) -> Result<Address, AddressFault> {
        let version = match self.version {
            ProviderVersion::V1 => "",
            ProviderVersion::V2 => "/v2.0",
        };
        // OpenID Connect Discovery 1.0, section 4.
        let path = format!("/{}{version}/.well-known/openid-configuration", self.tenant);
        self.authority.with_path(&path)
    }

    /// What the metadata may name as the issuer, the usual one first.
    fn issuers(&self) -> Vec<String> {
        let (origin, tenant) = (self.authority.origin(), self.tenant);
        match self.version {
            // Entra's version 1 has an issuer of its own host, unlike section 4.3 of the standard.
            ProviderVersion::V1 => {
                vec![Issuer::V1.text(tenant), format!("{origin}/{tenant}/")]
            }
            ProviderVersion::V2 => vec![format!("{origin}/{tenant}/v2.0")],
        }
    }

    fn judge(&self, metadata: &ProviderMetadata) -> Result<Address, KeysFault> {
        let issuers = self.issuers();
        if !issuers.contains(&metadata.issuer) {
            let found = shown(&metadata.issuer);
            return Err(KeysFault::Issuer { found, expected: issuers.join(" or ") });
        }
        let found = || shown(&metadata.jwks_uri);
        let keys = Address::read(&metadata.jwks_uri, Plain::Loopback)
            .map_err(|fault| KeysFault::Address { found: found(), fault })?;
        if !keys.is_tls() && self.authority.is_tls() {
            return Err(KeysFault::Address { found: found(), fault: AddressFault::Plain });
        }
        let host = self.authority.host().to_ascii_lowercase();
        let named = keys.host().to_ascii_lowercase();
        let is_below = named.strip_suffix(&host).is_some_and(|it| it.ends_with('.'));
        if (named != host && !is_below) || keys.port() != self.authority.port() {
            let origin = self.authority.origin();
            return Err(KeysFault::Elsewhere { found: found(), origin });
        }
        Ok(keys)
    }

    /// Fetches the keys; `None` if they are those that `known` has given last.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends its connections.
    pub(super) async fn fetch(
        &self,
        getter: &Getter,
        known: Option<&GivenBy>,
    ) -> Result<Option<(KeySet, GivenBy)>, KeysFault> {
        let metadata = self.metadata().map_err(|fault| KeysFault::Metadata(fault.into()))?;
        let none = Validators::default();
        let got = getter.get(&metadata, METADATA_OCTETS_MAX, &none).await;
        let Got::New { octets, .. } = got.map_err(KeysFault::Metadata)? else {
            return Err(KeysFault::Metadata(GetError::Status(304)));
        };
        let address = self.judge(&ProviderMetadata::read(&octets)?)?;
        let known = known.filter(|known| known.address == address);
        let validators = known.map_or(&none, |known| &known.validators);
        let got = getter.get(&address, KEY_SET_OCTETS_MAX, validators).await;
        let Got::New { octets, validators } = got.map_err(KeysFault::Keys)? else {
            return Ok(None);
        };
        let (keys, skipped) = KeySet::read(&octets)?;
        for (place, why) in skipped {
            tracing::debug!(source = %self, place, %why, "a key of a provider is left out");
        }
        Ok(Some((keys, GivenBy { address, validators })))
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.metadata() {
            Ok(metadata) => metadata.fmt(f),
            Err(_) => self.authority.fmt(f),
        }
    }
}

/// As much of a stranger's text as people need. Quoted, it holds no controls; a query may be
/// secret.
fn shown(text: &str) -> String {
    let text = text.split('?').next().unwrap_or_default();
    text.chars().take(SHOWN_OCTETS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: Guid = Guid(0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);

    fn judged(source: &KeySource, issuer: &str, jwks_uri: &str) -> Result<Address, KeysFault> {
        let text = serde_json::json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string();
        source.judge(&ProviderMetadata::read(text.as_bytes()).unwrap())
    }

    #[test]
    fn each_cloud_and_version_has_its_metadata_and_issuer() {
        let table = [
            (Issuer::V1, "https://login.microsoftonline.com", ""),
            (Issuer::V2, "https://login.microsoftonline.com", "/v2.0"),
            (Issuer::Government, "https://login.microsoftonline.us", "/v2.0"),
        ];
        for (issuer, host, version) in table {
            let source = KeySource::entra(TENANT, issuer);
            let expected = format!("{host}/{TENANT}{version}/.well-known/openid-configuration");
            assert_eq!(source.to_string(), expected);
            let keys = format!("{host}/common/discovery/keys");
            assert_eq!(judged(&source, &issuer.text(TENANT), &keys).unwrap().to_string(), keys);
        }
    }

    #[test]
    fn metadata_of_another_issuer_is_refused() {
        let source = KeySource::entra(TENANT, Issuer::V2);
        let keys = "https://login.microsoftonline.com/keys";
        let good = Issuer::V2.text(TENANT);
        for issuer in [
            Issuer::V2.text(Guid(1)),
            Issuer::V1.text(TENANT),
            Issuer::Government.text(TENANT),
            good.to_uppercase(),
            format!("{good}/"),
            String::new(),
        ] {
            let fault = judged(&source, &issuer, keys).unwrap_err();
            assert!(matches!(&fault, KeysFault::Issuer { expected, .. } if *expected == good));
        }
        assert!(judged(&source, &good, keys).is_ok());
    }

    #[test]
    fn keys_are_at_the_provider_and_nowhere_else() {
        let source = KeySource::entra(TENANT, Issuer::V2);
        let judge = |jwks_uri: &str| judged(&source, &Issuer::V2.text(TENANT), jwks_uri);
        assert!(judge("https://LOGIN.microsoftonline.com:443/keys").is_ok());
        assert!(judge("https://keys.login.microsoftonline.com/").is_ok());
        for elsewhere in [
            "https://microsoftonline.com/keys",
            "https://evil-login.microsoftonline.com/keys",
            "https://login.microsoftonline.com.evil.example/keys",
            "https://login.microsoftonline.com:8443/keys",
            "https://169.254.169.254/keys",
        ] {
            let fault = judge(elsewhere).unwrap_err();
            assert!(matches!(fault, KeysFault::Elsewhere { .. }), "{elsewhere}: {fault}");
        }
        for none in ["http://login.microsoftonline.com/keys", "http://localhost/", "keys", ""] {
            let fault = judge(none).unwrap_err();
            assert!(matches!(fault, KeysFault::Address { .. }), "{none}: {fault}");
        }
    }

    #[test]
    fn what_a_provider_says_is_shown_without_queries_and_controls() {
        let source = KeySource::entra(TENANT, Issuer::V2);
        let jwks_uri = "https://e.example/\u{1b}[2J?sig=hidden";
        let fault = judged(&source, &Issuer::V2.text(TENANT), jwks_uri).unwrap_err().to_string();
        assert!(!fault.contains("hidden") && !fault.contains('\u{1b}'), "{fault}");
    }

    #[test]
    fn a_provider_without_tls_is_on_this_machine() {
        let version = ProviderVersion::V2;
        let source = KeySource::new(TENANT, "http://127.0.0.1:8080", version).unwrap();
        let issuer = format!("http://127.0.0.1:8080/{TENANT}/v2.0");
        assert!(judged(&source, &issuer, "http://127.0.0.1:8080/keys").is_ok());
        let fault = KeySource::new(TENANT, "http://login.example", version).unwrap_err();
        assert_eq!(fault, AddressFault::Plain);
    }
}
