//! A site certification authority in memory, for as long as the demonstration runs.
//!
//! Nothing here is written to a disk. Server certificates carry the serverAuth purpose alone and
//! link client certificates clientAuth alone, so that neither can pose as the other.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use relay_core::transport::{Identity, TlsSetupError, TrustAnchors};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// How far back a certificate is valid: covers a clock that was set back within the hour.
const VALID_BEFORE_NOW: Duration = Duration::hours(1);

/// How long a certificate is valid: long enough for `--stay` over a long weekend.
const VALID_FROM_NOW: Duration = Duration::days(7);

/// A certification authority with its key in memory.
#[derive(Debug)]
pub(crate) struct SiteCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Why a certificate could not be made. Never a peer's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PkiError {
    /// The key or the certificate could not be made, for instance for a name that is not ASCII.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The authority's own certificate is not usable as a trust anchor.
    #[error(transparent)]
    Anchor(#[from] TlsSetupError),
    /// As [`PkiError::Anchor`], towards `rustls` itself.
    #[error("certificate is not usable as a trust anchor: {0}")]
    Root(#[from] rustls::Error),
}

impl SiteCa {
    /// A new authority named `name`, with an ECDSA P-256 key.
    ///
    /// # Errors
    ///
    /// [`PkiError::Make`] if the platform gives no randomness.
    pub(crate) fn new(name: &str) -> Result<Self, PkiError> {
        let mut params = params(name, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// A server certificate for `names` (DNS names or address literals), good for nothing else.
    ///
    /// # Errors
    ///
    /// [`PkiError::Make`] if a name cannot stand in a certificate.
    pub(crate) fn issue_server(&self, names: &[&str]) -> Result<Identity, PkiError> {
        let subject = names.first().copied().unwrap_or("server");
        let names = names.iter().map(ToString::to_string).collect();
        self.issue(subject, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The certificate with which the connection point `name` proves itself on a link.
    ///
    /// # Errors
    ///
    /// [`PkiError::Make`], as [`SiteCa::issue_server`].
    pub(crate) fn issue_link_client(&self, name: &str) -> Result<Identity, PkiError> {
        self.issue(name, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The authority as the only trust anchor, for the relay's own configurations.
    ///
    /// # Errors
    ///
    /// [`PkiError::Anchor`]; not seen in practice, the certificate was made here.
    pub(crate) fn anchors(&self) -> Result<TrustAnchors, PkiError> {
        Ok(TrustAnchors::new([self.certificate()])?)
    }

    /// The authority as the only root, for a client.
    ///
    /// # Errors
    ///
    /// [`PkiError::Root`]; not seen in practice, the certificate was made here.
    pub(crate) fn roots(&self) -> Result<Arc<RootCertStore>, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate())?;
        Ok(Arc::new(roots))
    }

    /// The authority's certificate as PEM, for `curl --cacert`.
    pub(crate) fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    fn issue(
        &self,
        subject: &str,
        names: Vec<String>,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, PkiError> {
        let mut params = params(subject, names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(Identity::new(vec![certificate.der().clone()], key.into()))
    }
}

fn params(subject: &str, names: Vec<String>) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - VALID_BEFORE_NOW;
    params.not_after = now + VALID_FROM_NOW;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use relay_core::transport::{LINK_ALPN, link_client_config, link_server_config};
    use rustls::pki_types::ServerName;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Shakes hands over an in-memory pipe; `Err` says which side refused.
    async fn shake_hands(
        server: &Identity,
        client: &Identity,
        ca: &SiteCa,
    ) -> Result<(), &'static str> {
        let anchors = ca.anchors().unwrap();
        let acceptor = TlsAcceptor::from(link_server_config(server, &anchors).unwrap());
        let connector = TlsConnector::from(link_client_config(client, &anchors).unwrap());
        let (near, far) = tokio::io::duplex(16 * 1024);
        let name = ServerName::try_from("localhost").unwrap();
        let (accepted, dialled) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
        let accepted = accepted.map_err(|_| "the gateway refused")?;
        dialled.map_err(|_| "the connection point refused")?;
        assert_eq!(accepted.get_ref().1.alpn_protocol(), Some(LINK_ALPN));
        Ok(())
    }

    #[tokio::test]
    async fn a_link_comes_up_between_the_two_kinds_of_certificate_and_no_other_pair() {
        let ca = SiteCa::new("Demonstration site").unwrap();
        let server = ca.issue_server(&["localhost", "127.0.0.1"]).unwrap();
        let client = ca.issue_link_client("cp-1").unwrap();
        let foreign = SiteCa::new("Other site").unwrap().issue_link_client("cp-1").unwrap();

        assert_eq!(shake_hands(&server, &client, &ca).await, Ok(()));
        assert!(shake_hands(&server, &server, &ca).await.is_err());
        assert!(shake_hands(&server, &foreign, &ca).await.is_err());
        assert!(shake_hands(&client, &client, &ca).await.is_err());
    }
}
