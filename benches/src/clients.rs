//! A site that counts its clients, and what those show: tokens and certificates, made by a library
//! that the code under test does not use.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _};
use relay_core::auth::{Category, Guid, Methods, SigningKey, SiteTrust, Strictness};
use relay_core::settings::{
    ClientTrust, ListSource, PublishedCertificates, PublishedSigners, Revocation,
};
use serde_json::{Value, json};

use crate::pki::SiteCa;

/// What the site names itself by.
const TENANT: Guid = Guid(0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);

/// Certificates on the site's revocation list.
// Our choice: what a few years of a site with some thousand devices leave behind.
const REVOKED: u32 = 1000;

/// A site whose clients have tokens of the site's, or certificates of its authority.
#[derive(Debug)]
pub struct ClientSite {
    key: KeyPair,
    /// What it signs tokens with, in DER.
    certificate: Bytes,
    name: SigningKey,
}

impl ClientSite {
    /// A new one, with an RSA key of 3072 bits: as `relay token new` makes it.
    ///
    /// # Panics
    ///
    /// If the platform gives no randomness.
    pub fn new() -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072);
        let key = key.expect("the platform gives randomness");
        let certificate = CertificateParams::default().self_signed(&key);
        let certificate = certificate.expect("the parameters are constants that fit the key");
        let certificate = Bytes::copy_from_slice(certificate.der());
        let name = SigningKey::of_certificate(&certificate).expect("it is of an RSA key");
        Self { key, certificate, name }
    }

    /// What it trusts of its own tokens.
    pub fn trust(&self) -> SiteTrust {
        SiteTrust { tenant: TENANT, keys: vec![self.name.clone()], blocked: [].into() }
    }

    /// What it publishes: its tokens, and certificates of `authority` with a list of a thousand
    /// that were taken back.
    pub fn published(&self, authority: &SiteCa) -> ClientTrust {
        let list = ListSource::Der(authority.revocation_list(REVOKED).into());
        ClientTrust {
            methods: Methods::default(),
            strictness: Strictness::FallThrough,
            tenants: Vec::new(),
            certificates: Some(PublishedCertificates {
                roots: vec![Bytes::copy_from_slice(authority.der())],
                intermediates: Vec::new(),
                revocation: Revocation::On(vec![list]),
            }),
            tokens: Some(PublishedSigners {
                tenant: TENANT,
                revision: 1,
                certificates: vec![self.certificate.clone()],
                blocked: Vec::new(),
            }),
            barred: Vec::new(),
        }
    }

    /// A token for traffic, of this number, that counts for the next hour.
    ///
    /// # Panics
    ///
    /// Never: the key signs.
    pub fn token(&self, number: u64) -> String {
        let begins = now() - 10;
        let header = json!({
            "typ": "JWT", "alg": "RS256",
            "x5t": base64url(self.name.sha1), "x5t#S256": base64url(self.name.sha256),
        });
        let claims = json!({
            "SCCMTokenCategory": Category::Ccm.text(), "Authority": "SCCM", "License": "SCCM",
            "Type": Category::Ccm.kind(), "TenantId": TENANT.to_string().to_uppercase(),
            "UniqueId": Guid(number.into()).to_string(), "ClientId": Guid(1).to_string(),
            "iss": format!("urn:sccm:oauth2:{TENANT}"), "aud": "urn:sccm:service",
            "nbf": begins, "exp": begins + 3600,
        });
        let segment = |it: &Value| base64url(it.to_string());
        let signed = format!("{}.{}", segment(&header), segment(&claims));
        let signature = self.key.sign(signed.as_bytes()).expect("the key signs");
        format!("{signed}.{}", base64url(signature))
    }
}

impl Default for ClientSite {
    fn default() -> Self {
        Self::new()
    }
}

/// Now, in seconds since 1970 UTC.
///
/// # Panics
///
/// If the clock is set before 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("the clock of this machine is set").as_secs()
}

fn base64url(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}
