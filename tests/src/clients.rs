//! Clients of a site, and what the site publishes of them: three methods, each with what proves
//! something and what does not.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, PKCS_RSA_SHA256,
    RsaKeySize, SigningKey as _,
};
use relay_core::auth::{Guid, Issuer, Methods, Strictness};
use relay_core::content::{Grant, GrantFault, SignedGrant};
use relay_core::settings::{
    ClientTrust, KeySource, PublishedCertificates, PublishedSigners, Revocation, TenantTrust,
};
use relay_core::transport::Identity;
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::pki::SiteCa;
use crate::tokens::{
    SOMEBODY, Signer, TENANT, base64url, bulk_claims, ccm_claims, client_claims, entra_claims,
    entra_header,
};

/// Now, in seconds since 1970 UTC.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A site that counts clients by all three methods.
pub struct ClientSite {
    /// Whose certificates count.
    pub authority: SiteCa,
    /// The certificate that tokens are signed with, in DER.
    signer: Bytes,
}

impl Default for ClientSite {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientSite {
    /// A new one. All of them sign tokens with one key, which takes long to make.
    pub fn new() -> Self {
        let signer = Bytes::from_static(Signer::site().certificate_der());
        Self { authority: SiteCa::new(), signer }
    }

    /// What it publishes: all methods in their usual order, no revocation lists, nothing blocked.
    pub fn trust(&self) -> ClientTrust {
        let set = json!({"keys": [Signer::provider().jwk("key")]}).to_string();
        ClientTrust {
            methods: Methods::default(),
            strictness: Strictness::FallThrough,
            certificates: Some(PublishedCertificates {
                roots: vec![self.authority.der().into()],
                intermediates: Vec::new(),
                revocation: Revocation::Off,
            }),
            tenants: vec![TenantTrust {
                id: TENANT,
                is_enabled: true,
                issuers: vec![Issuer::V1],
                audiences: vec!["https://ConfigMgrService".to_owned()],
                keys: KeySource::Published(set.into()),
            }],
            tokens: Some(PublishedSigners {
                tenant: TENANT,
                revision: 1,
                certificates: vec![self.signer.clone()],
                blocked: Vec::new(),
            }),
            barred: Vec::new(),
        }
    }

    /// As [`ClientSite::trust`], with these tokens and clients blocked.
    pub fn trust_blocking(&self, blocked: &[Guid]) -> ClientTrust {
        let mut trust = self.trust();
        trust.tokens.as_mut().unwrap().blocked = blocked.to_vec();
        trust
    }

    fn token(&self, claims: Value, from: i64) -> String {
        self.token_by(Signer::site(), claims, from)
    }

    fn token_by(&self, signer: &Signer, mut claims: Value, from: i64) -> String {
        let begins = now().checked_add_signed(from).unwrap();
        (claims["nbf"], claims["exp"]) = (json!(begins), json!(begins + 3600));
        let sha = |by, octets: &[u8]| base64url(aws_lc_rs::digest::digest(by, octets));
        let header = json!({
            "typ": "JWT", "alg": "RS256",
            "x5t": sha(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &self.signer),
            "x5t#S256": sha(&aws_lc_rs::digest::SHA256, &self.signer),
        });
        signer.token(header.to_string(), claims.to_string())
    }

    /// A bulk registration token that counts.
    pub fn bulk(&self) -> String {
        self.token(bulk_claims(), -10)
    }

    /// A token of the site for traffic that counts.
    pub fn ccm(&self) -> String {
        self.token(ccm_claims(), -10)
    }

    /// As [`ClientSite::ccm`], but it was over half an hour ago.
    pub fn expired_ccm(&self) -> String {
        self.token(ccm_claims(), -5400)
    }

    /// A grant for content, signed.
    pub fn grant(&self, grant: Grant) -> SignedGrant {
        let key = relay_core::auth::SigningKey::of_certificate(&self.signer).unwrap();
        let sign = |text: &[u8]| Ok(Signer::site().sign(text, &RSA_PKCS1_SHA256));
        let signed: Result<_, GrantFault> = grant.sign(&key, sign);
        signed.unwrap()
    }

    /// A client's own token, bound to its certificate.
    pub fn client(&self, certificate: &Identity) -> String {
        self.client_by(Signer::site(), certificate)
    }

    /// As [`ClientSite::client`], but somebody else has signed it.
    pub fn forged_client(&self, certificate: &Identity) -> String {
        self.client_by(Signer::stranger(), certificate)
    }

    fn client_by(&self, signer: &Signer, certificate: &Identity) -> String {
        let fingerprint = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            certificate.chain().first().unwrap(),
        );
        let mut claims = client_claims();
        claims["cnf"] = json!({"x5t#S256": base64url(fingerprint)});
        self.token_by(signer, claims, -10)
    }

    /// A token of the tenant that counts.
    pub fn entra(&self) -> String {
        Self::entra_by(Signer::provider())
    }

    /// A token of the tenant that somebody else has signed.
    pub fn forged_entra(&self) -> String {
        Self::entra_by(Signer::stranger())
    }

    fn entra_by(signer: &Signer) -> String {
        let mut claims = entra_claims();
        let begins = now() - 10;
        claims["iat"] = json!(begins);
        (claims["nbf"], claims["exp"]) = (json!(begins), json!(begins + 3600));
        signer.token(entra_header().to_string(), claims.to_string())
    }
}

/// A certificate that its holder has signed itself.
pub fn self_signed() -> Identity {
    self_signed_by(&CertificateParams::new(Vec::new()).unwrap())
}

/// As [`self_signed`], but it says of itself that it is an authority's, as many tools have it.
pub fn self_signed_authority() -> Identity {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    self_signed_by(&params)
}

fn self_signed_by(params: &CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    Identity::new(vec![certificate.der().clone()], key.into())
}

/// A client with an RSA key that signs the heads of its requests.
pub struct SigningClient {
    key: KeyPair,
    /// The certificate that it has made itself.
    pub identity: Identity,
}

impl Default for SigningClient {
    fn default() -> Self {
        Self::new()
    }
}

impl SigningClient {
    /// A new one.
    pub fn new() -> Self {
        Self::padded(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(), 0)
    }

    /// A new one, whose certificate has so many octets of DER, 2,000 at least.
    pub fn of_octets(octets: usize) -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let pem = key.serialize_pem();
        let plain = Self::padded(key, 1000).der().len();
        let padded =
            |less| Self::padded(KeyPair::from_pem(&pem).unwrap(), 1000 + octets - plain - less);
        (0..8).map(padded).find(|it| it.der().len() == octets).unwrap()
    }

    fn padded(key: KeyPair, octets: usize) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let padding = CustomExtension::from_oid_content(&[1, 3, 6, 1], vec![7; octets]);
        params.custom_extensions.push(padding);
        let certificate = params.self_signed(&key).unwrap();
        let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let identity = Identity::new(vec![certificate.der().clone()], private.into());
        Self { key, identity }
    }

    /// Its certificate in DER.
    pub fn der(&self) -> &[u8] {
        self.identity.chain().first().unwrap()
    }

    /// Fields that show that it has its key, signed at `at`: seconds since 1970 UTC.
    pub fn signed_head(&self, at: u64) -> Vec<(&'static str, String)> {
        let id = format!("GUID:{}", SOMEBODY.to_ascii_uppercase());
        let at = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at);
        let day = format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day());
        let at = format!("{day}T{:02}:{:02}:{:02}Z", at.hour(), at.minute(), at.second());
        vec![
            ("CCMClientCertificate", STANDARD.encode(self.der())),
            ("CCMClientIDSignature", self.sign(&id)),
            ("CCMClientID", id),
            ("CCMClientTimestampsSignature", self.sign(&at)),
            ("CCMClientTimestamp", at),
        ]
    }

    fn sign(&self, text: &str) -> String {
        let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let octets = self.key.sign(&wide).unwrap();
        let digit = |it: u8| char::from_digit(it.into(), 16).unwrap().to_ascii_uppercase();
        octets.iter().rev().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
    }
}

/// TLS of a client that trusts `ca` and shows this, if anything.
pub fn showing(ca: &SiteCa, certificate: Option<&Identity>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca.roots());
    Arc::new(match certificate {
        None => builder.with_no_client_auth(),
        Some(it) => {
            builder.with_client_auth_cert(it.chain().to_vec(), it.key().clone_key()).unwrap()
        }
    })
}
