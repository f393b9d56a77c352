//! Certificates that are the same in every process, so that a TLS message is as long in each.
//!
//! Ed25519: its signatures have one length, and none of them is drawn.

use std::sync::{Arc, LazyLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ED25519, SerialNumber,
};
use relay_core::transport::{Identity, TrustAnchors};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::world::SERVICE;

/// What comes before the 32 octets of an Ed25519 key.
// RFC 8410, section 7.
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The names of all connection points of a world: they share a certificate.
const CONNECTION_POINTS: [&str; 3] = ["cp-0", "cp-1", "cp-2"];

/// A site's identities.
pub(crate) struct Site {
    pub(crate) gateway: Identity,
    pub(crate) connection_point: Identity,
    /// Somebody of this site, and none of its connection points here.
    pub(crate) stranger: Identity,
    authority: CertificateDer<'static>,
}

/// The site of every world, made once.
pub(crate) static SITE: LazyLock<Site> = LazyLock::new(|| Site::new(1));

/// Another site, which is trusted by nobody here.
pub(crate) static FOREIGN: LazyLock<Site> = LazyLock::new(|| Site::new(101));

fn key(number: u8) -> KeyPair {
    let der = [&PKCS8_ED25519[..], &[number; 32]].concat();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519).unwrap()
}

impl Site {
    /// `number` and the three behind it name its keys.
    fn new(number: u8) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.serial_number = Some(SerialNumber::from(vec![number]));
        let authority = CertifiedIssuer::self_signed(params, key(number)).unwrap();
        let issue = |number: u8, names: &[&str], purpose| {
            let mut params = CertificateParams::new(
                names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(),
            )
            .unwrap();
            params.extended_key_usages = vec![purpose];
            params.serial_number = Some(SerialNumber::from(vec![number]));
            let key = key(number);
            let certificate = params.signed_by(&key, &authority).unwrap();
            let key = PrivatePkcs8KeyDer::from(key.serialize_der());
            Identity::new(vec![certificate.der().clone()], key.into())
        };
        Self {
            gateway: issue(number + 1, &[SERVICE], ExtendedKeyUsagePurpose::ServerAuth),
            connection_point: issue(
                number + 2,
                &CONNECTION_POINTS,
                ExtendedKeyUsagePurpose::ClientAuth,
            ),
            stranger: issue(number + 3, &["stranger"], ExtendedKeyUsagePurpose::ClientAuth),
            authority: authority.der().clone(),
        }
    }

    pub(crate) fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new([self.authority.clone()]).unwrap()
    }

    /// TLS of a peer that trusts this site, offers `alpn`, and shows nothing.
    pub(crate) fn client_tls(&self, alpn: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }
}
