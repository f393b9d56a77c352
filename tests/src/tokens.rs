//! Issuers of tokens, good ones and others, on a library of their own: nothing of the code under
//! test makes what it is tested with.

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, PKCS_RSA_SHA256, PublicKeyData};
use relay_core::auth::{Guid, KeySet, RsaKey, SigningKey, SiteTrust, Tokens, TrustedTenant};
use serde_json::{Value, json};

/// When all of it happens: seconds since 1970 UTC.
pub const NOW: u64 = 1_800_000_000;

/// The tenant that is onboarded, and that the site names itself by.
pub const TENANT: Guid = Guid(0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);

/// A tenant that is onboarded and disabled.
pub const DISABLED: Guid = Guid(0x1a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);

/// A device, a user, a client: whoever needs a GUID.
pub const SOMEBODY: &str = "5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4";

/// A token that is blocked.
pub const BLOCKED: &str = "bb2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4";

/// The certificate that the client has.
pub const CERTIFICATE: [u8; 32] = [7; 32];

/// Base64url as in tokens.
pub fn base64url(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

/// A key that tokens are signed with.
pub struct Signer {
    pair: RsaKeyPair,
    certificate: OnceLock<Vec<u8>>,
}

/// The key, as a library that makes certificates knows it.
struct Certified<'a>(&'a Signer);

impl PublicKeyData for Certified<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

impl rcgen::SigningKey for Certified<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message, &RSA_PKCS1_SHA256))
    }
}

impl Signer {
    fn new(size: KeySize) -> Self {
        let pair = RsaKeyPair::generate(size).expect("a key of a usual size");
        Self { pair, certificate: OnceLock::new() }
    }

    /// The key of the tenant's provider.
    pub fn provider() -> &'static Self {
        static KEY: OnceLock<Signer> = OnceLock::new();
        KEY.get_or_init(|| Self::new(KeySize::Rsa2048))
    }

    /// The key of the site.
    pub fn site() -> &'static Self {
        static KEY: OnceLock<Signer> = OnceLock::new();
        KEY.get_or_init(|| Self::new(KeySize::Rsa3072))
    }

    /// Somebody else's key.
    pub fn stranger() -> &'static Self {
        static KEY: OnceLock<Signer> = OnceLock::new();
        KEY.get_or_init(|| Self::new(KeySize::Rsa2048))
    }

    /// Its public key, as a `RSAPublicKey` of RFC 8017 in DER.
    pub fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// Its modulus.
    pub fn modulus(&self) -> Vec<u8> {
        let modulus = self.pair.public_key().modulus().big_endian_without_leading_zero();
        modulus.to_vec()
    }

    /// As a JSON Web Key of this name.
    pub fn jwk(&self, name: &str) -> Value {
        let n = base64url(self.modulus());
        json!({"kty": "RSA", "use": "sig", "kid": name, "n": n, "e": "AQAB"})
    }

    /// A certificate with it, in DER.
    ///
    /// # Panics
    ///
    /// If the library that makes it cannot.
    pub fn certificate_der(&self) -> &[u8] {
        self.certificate.get_or_init(|| {
            let params = CertificateParams::new(Vec::new()).expect("names of nothing");
            params.self_signed(&Certified(self)).expect("a certificate").der().to_vec()
        })
    }

    /// That certificate, as an instance knows it by which it counts.
    ///
    /// # Panics
    ///
    /// If the library that has made the key has made it wrongly.
    pub fn certificate(&self) -> SigningKey {
        let der = self.certificate_der();
        let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, der);
        let sha256 = digest(&SHA256, der);
        SigningKey {
            sha1: sha1.as_ref().try_into().expect("20 octets"),
            sha256: sha256.as_ref().try_into().expect("32 octets"),
            key: RsaKey::new(&self.modulus(), &[1, 0, 1]).expect("a key of a usual size"),
        }
    }

    /// Its signature.
    ///
    /// # Panics
    ///
    /// If the library cannot sign.
    pub fn sign(&self, message: &[u8], by: &'static dyn RsaEncoding) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = SystemRandom::new();
        self.pair.sign(by, &random, message, &mut signature).expect("a signature");
        signature
    }

    /// A token of these texts, RS256 whatever they say.
    pub fn token(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.sign(message.as_bytes(), &RSA_PKCS1_SHA256);
        format!("{message}.{}", base64url(signature))
    }
}

/// The header of a good token of the tenant.
pub fn entra_header() -> Value {
    json!({"typ": "JWT", "alg": "RS256", "x5t": "key", "kid": "key"})
}

/// The claims of a good token of the tenant.
pub fn entra_claims() -> Value {
    json!({
        "aud": "https://ConfigMgrService",
        "iss": format!("https://sts.windows.net/{TENANT}/"),
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 3600,
        "deviceid": SOMEBODY, "oid": SOMEBODY, "tid": TENANT.to_string(), "ver": "1.0",
    })
}

/// The header of a good token of the site.
pub fn site_header() -> Value {
    let key = Signer::site().certificate();
    let (x5t, sha256) = (base64url(key.sha1), base64url(key.sha256));
    json!({"typ": "JWT", "alg": "RS256", "x5t": x5t, "x5t#S256": sha256})
}

/// The claims of a good bulk registration token.
pub fn bulk_claims() -> Value {
    json!({
        "SCCMTokenCategory": "SCCMPreAuthToken", "Authority": "SCCM", "License": "SCCM",
        "Type": "BulkRegistration",
        "TenantId": TENANT.to_string().to_uppercase(), "UniqueId": SOMEBODY,
        "iss": format!("urn:sccm:oauth2:{TENANT}"), "aud": "urn:sccm:service",
        "nbf": NOW - 10, "exp": NOW + 3600,
    })
}

/// The claims of the client's own good token.
pub fn client_claims() -> Value {
    let mut claims = bulk_claims();
    claims["SCCMTokenCategory"] = json!("SCCMClientToken");
    claims["Type"] = json!("ClientRegistration");
    claims["ClientId"] = json!(SOMEBODY);
    claims["cnf"] = json!({"x5t#S256": base64url(CERTIFICATE)});
    claims
}

/// The claims of a good token given for one of Entra.
pub fn ccm_claims() -> Value {
    let mut claims = bulk_claims();
    claims["SCCMTokenCategory"] = json!("SCCMCcmToken");
    claims["Type"] = json!("Exchange");
    claims["ClientId"] = json!(SOMEBODY);
    claims
}

/// An instance that trusts the tenant and the site.
///
/// # Panics
///
/// If it does not take them.
pub fn trusting() -> Tokens {
    let provider = Signer::provider();
    let set = json!({"keys": [provider.jwk("key"), provider.jwk("other")]}).to_string();
    let (keys, _) = KeySet::read(set.as_bytes()).expect("a set of keys");
    let enabled = TrustedTenant::new(TENANT, keys.clone());
    let disabled = TrustedTenant { is_enabled: false, ..TrustedTenant::new(DISABLED, keys) };
    let site = SiteTrust {
        tenant: TENANT,
        keys: vec![Signer::site().certificate()],
        blocked: [BLOCKED.parse().expect("a GUID")].into(),
    };
    let mut tokens = Tokens::default();
    tokens.trust(vec![enabled, disabled], Some(site));
    tokens
}
