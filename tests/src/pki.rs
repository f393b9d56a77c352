//! A site's certificates, in memory.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use relay_core::mux::Side;
use relay_core::transport::{Certificate, Identity, TrustAnchors};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Authorities made so far.
static AUTHORITIES: AtomicUsize = AtomicUsize::new(0);

/// A certification authority. Two of them trust nothing of each other.
#[derive(Debug)]
pub struct SiteCa(CertifiedIssuer<'static, KeyPair>);

impl Default for SiteCa {
    fn default() -> Self {
        Self::new()
    }
}

impl SiteCa {
    /// A new authority.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Of each authority another, as with real ones: lists of what was taken back are matched
        // to authorities by name.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("site {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for a server named `name`, and for nothing else.
    pub fn server(&self, name: &str) -> Identity {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// As [`SiteCa::server`], for a program that is not ours: certificate and key, as PEM.
    pub fn server_pem(&self, name: &str) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        certificate.pem() + &key.serialize_pem()
    }

    /// The authority's own certificate, in DER.
    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// The authority's own certificate, as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a connection point named `name`, and for nothing else.
    pub fn connection_point(&self, name: &str) -> Identity {
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Identity {
        self.issue_from(name, purpose, |_| ())
    }

    fn issue_from(
        &self,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Identity::new(vec![certificate.der().clone()], key.into())
    }

    /// As [`SiteCa::server`] or [`SiteCa::connection_point`], but valid in these years alone.
    pub fn in_years(&self, years: std::ops::Range<i32>, side: Side, name: &str) -> Identity {
        let purpose = match side {
            Side::Listener => ExtendedKeyUsagePurpose::ServerAuth,
            Side::Dialer => ExtendedKeyUsagePurpose::ClientAuth,
        };
        self.issue_from(name, purpose, |params| {
            params.not_before = date_time_ymd(years.start, 1, 1);
            params.not_after = date_time_ymd(years.end, 1, 1);
        })
    }

    /// As [`SiteCa::server`], but valid from so long before now until so long after.
    pub fn server_around_now(&self, name: &str, before: Duration, after: Duration) -> Identity {
        let now = SystemTime::now();
        self.issue_from(name, ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.not_before = (now - before).into();
            params.not_after = (now + after).into();
        })
    }

    /// A list of what was taken back, signed by this authority, that holds until a year begins.
    pub fn revoke(
        &self,
        taken_back: &[&Identity],
        until_year: i32,
    ) -> CertificateRevocationListDer<'static> {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2000, 1, 1),
            next_update: date_time_ymd(until_year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: taken_back.iter().map(|it| revoked(it)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().into()
    }

    /// A list that takes nothing back and holds between two times, in seconds since 1970 UTC: DER.
    pub fn list_between(&self, from: u64, until: u64, number: u64) -> Vec<u8> {
        self.list_revoking(&[], from, until, number)
    }

    /// As [`SiteCa::list_between`], and takes these back.
    pub fn list_revoking(
        &self,
        taken_back: &[&Identity],
        from: u64,
        until: u64,
        number: u64,
    ) -> Vec<u8> {
        let time = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        let list = CertificateRevocationListParams {
            this_update: time(from),
            next_update: time(until),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: taken_back.iter().map(|it| revoked(it)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().der().to_vec()
    }

    /// This authority as the only one that is trusted.
    pub fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new([self.certificate()]).unwrap()
    }

    /// TLS of a client that trusts this authority, shows no certificate and offers `alpn` alone.
    pub fn client_tls(&self, alpn: &[u8]) -> Arc<ClientConfig> {
        let roots = self.roots();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }

    /// This authority as the only one that a program's own TLS trusts.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).unwrap();
        Arc::new(roots)
    }

    /// Its certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }
}

/// The entry of a list that takes this back.
fn revoked(identity: &Identity) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: Certificate::of_chain(identity.chain()).unwrap().serial.into(),
        revocation_time: date_time_ymd(1999, 1, 1),
        reason_code: None,
        invalidity_date: None,
    }
}
