//! Clients that show a certificate: TLS has them prove that they have its key, and no more.
//!
//! Whether the certificate itself proves anything is judged later, for each connection and by what
//! the site has published then: `auth`. So a client whose certificate is worth nothing here can
//! still show a token, and a self-signed certificate can prove that a token is its holder's.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use super::tls::{Identity, TlsSetupError};

/// Octets of all that a client may show. It is kept for as long as the connection is there, and of
/// more than that `auth` would judge nothing.
const SHOWN_OCTETS_MAX: usize = 16 << 10;

/// Takes any certificate whose key the client has, and clients without one.
#[derive(Debug)]
struct Possession(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a client then shows what it has. With hints, one that has a self-signed certificate
    /// alone would show nothing.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let octets: usize = others.iter().chain([leaf]).map(|it| it.len()).sum();
        if octets > SHOWN_OCTETS_MAX {
            return Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    /// No SHA-1, no RSA key below 2048 bits.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// As [`client_edge_config`](super::client_edge_config), but a client is asked for a certificate,
/// and may have none. What it shows is proven to be its own and is otherwise not judged; a resumed
/// session has what was shown in the first handshake, and is to be judged as well.
///
/// # Errors
///
/// [`TlsSetupError::Identity`].
pub fn client_edge_config_asking(identity: &Identity) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let Identity { chain, key } = identity.clone();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Possession(provider.signature_verification_algorithms);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Identity)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)
        .map_err(TlsSetupError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
