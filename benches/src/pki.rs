//! A site certification authority in memory, for one benchmark.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use relay_core::transport::{Identity, TrustAnchors};
use rustls::pki_types::PrivatePkcs8KeyDer;

/// The name in every server certificate.
pub const HOST: &str = "localhost";

/// The name in every certificate of a connection point.
pub const CONNECTION_POINT: &str = "bench-cp";

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
        let key = KeyPair::generate().expect("the platform gives randomness");
        let issuer = CertifiedIssuer::self_signed(params, key);
        Self { issuer: issuer.expect("the parameters are constants that fit the key") }
    }

    /// The identity of a server named [`HOST`].
    pub fn server(&self) -> Identity {
        self.issue(HOST, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The identity with which a connection point proves itself on a link.
    pub fn link_client(&self) -> Identity {
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

    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Identity {
        let params = CertificateParams::new([name.to_owned()]);
        let mut params = params.expect("the name is a constant that a certificate can carry");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("the platform gives randomness");
        let certificate = params.signed_by(&key, &self.issuer);
        let certificate = certificate.expect("the parameters are constants that fit the key");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Identity::new(vec![certificate.der().clone()], key.into())
    }
}

impl Default for SiteCa {
    fn default() -> Self {
        Self::new()
    }
}
