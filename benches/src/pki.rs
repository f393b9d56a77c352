//! A site certification authority in memory, for one benchmark.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use relay_core::transport::{Identity, TrustAnchors};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

/// The name in every server certificate.
pub const HOST: &str = "localhost";

/// The name in every certificate of a connection point.
pub const CONNECTION_POINT: &str = "bench-cp";

/// What a part of the relay shows and trusts, for one that runs in a process of its own.
#[derive(Clone, Serialize, Deserialize)]
pub struct Papers {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

impl std::fmt::Debug for Papers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Papers").finish_non_exhaustive()
    }
}

impl Papers {
    /// What it shows.
    pub fn identity(&self) -> Identity {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        Identity::new(vec![CertificateDer::from(self.certificate.clone())], key.into())
    }

    /// The only authority that it trusts.
    ///
    /// # Panics
    ///
    /// Never: the certificate was made here.
    pub fn anchors(&self) -> TrustAnchors {
        let authority = CertificateDer::from(self.authority.clone());
        TrustAnchors::new([authority]).expect("the authority is a certificate")
    }
}

/// A certification authority with an ECDSA P-256 key.
#[derive(Debug)]
pub struct SiteCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl SiteCa {
    /// A new authority.
    ///
    /// # Panics
    ///
    /// If the platform gives no randomness.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("the platform gives randomness");
        let issuer = CertifiedIssuer::self_signed(params, key);
        Self { issuer: issuer.expect("the parameters are constants that fit the key") }
    }

    /// The identity of a server named [`HOST`].
    pub fn server(&self) -> Identity {
        self.server_papers().identity()
    }

    /// As [`SiteCa::server`], with what it trusts.
    pub fn server_papers(&self) -> Papers {
        self.issue(HOST, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The identity with which a connection point proves itself on a link.
    pub fn link_client(&self) -> Identity {
        self.link_client_papers().identity()
    }

    /// As [`SiteCa::link_client`], with what it trusts.
    pub fn link_client_papers(&self) -> Papers {
        self.issue(CONNECTION_POINT, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The authority as the only trust anchor.
    ///
    /// # Panics
    ///
    /// Never: the certificate was made here.
    pub fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new([self.issuer.der().clone()]).expect("the authority is a certificate")
    }

    /// The authority's own certificate, in DER.
    pub fn der(&self) -> &[u8] {
        self.issuer.der()
    }

    /// A list in DER, from a year ago for a hundred years, of as many certificates that were taken
    /// back.
    ///
    /// # Panics
    ///
    /// Never: the parameters fit the key.
    pub fn revocation_list(&self, revoked: u32) -> Vec<u8> {
        let revoked = (1..=revoked).map(|number| RevokedCertParams {
            serial_number: SerialNumber::from(u64::from(number)),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2126, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer);
        list.expect("the parameters are constants that fit the key").der().to_vec()
    }

    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Papers {
        let params = CertificateParams::new([name.to_owned()]);
        let mut params = params.expect("the name is a constant that a certificate can carry");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("the platform gives randomness");
        let certificate = params.signed_by(&key, &self.issuer);
        let certificate = certificate.expect("the parameters are constants that fit the key");
        Papers {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            authority: self.issuer.der().to_vec(),
        }
    }
}

impl Default for SiteCa {
    fn default() -> Self {
        Self::new()
    }
}
