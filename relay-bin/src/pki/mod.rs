//! The site's own certificate authority and what it signs: for `relay init`, which writes both to
//! files, and for the demonstration, which keeps them in memory.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use relay_core::transport::{Identity, TrustAnchors};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// Life of the authority. Our choice: long, because replacing it means touching every machine.
const CA_LIFE: Duration = Duration::days(3650);

/// Life of a certificate it signs.
///
/// Source: Apple, "Requirements for trusted certificates in iOS 13 and macOS 10.15": server
/// certificates live 825 days or fewer, those of a private authority too.
pub(crate) const LEAF_LIFE: Duration = Duration::days(825);

/// How far certificates reach into the past, so that a machine whose clock is slow takes them.
const CLOCK_SLACK: Duration = Duration::hours(1);

/// A certificate authority with its key.
pub(crate) struct SiteCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
    now: OffsetDateTime,
}

/// A certificate and its key. Deliberately without `Debug`: it holds a secret.
pub(crate) struct Issued {
    certificate: Certificate,
    key: KeyPair,
}

impl Issued {
    /// The certificate as PEM.
    pub(crate) fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// The private key as PKCS#8 PEM.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Both as TLS wants them.
    pub(crate) fn identity(&self) -> Identity {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        Identity::new(vec![self.certificate.der().clone()], key.into())
    }
}

impl SiteCa {
    /// Makes an authority named `name`, valid from now.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc();
        let mut params = params(name, Vec::new(), now, CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key()?;
        let issuer = CertifiedIssuer::self_signed(params, key);
        Ok(Self { issuer: issuer.context("cannot sign the authority")?, now })
    }

    pub(crate) fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The authority as the only trust anchor of a link.
    pub(crate) fn anchors(&self) -> anyhow::Result<TrustAnchors> {
        Ok(TrustAnchors::new([self.certificate()])?)
    }

    /// The authority as the only root of a client.
    pub(crate) fn roots(&self) -> anyhow::Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate())?;
        Ok(Arc::new(roots))
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A certificate for a server with these names, and for nothing else.
    pub(crate) fn issue_server(&self, names: Vec<String>) -> anyhow::Result<Issued> {
        let name = names.first().cloned().unwrap_or_default();
        self.issue(&name, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client named `name`, and for nothing else.
    pub(crate) fn issue_client(&self, name: &str) -> anyhow::Result<Issued> {
        self.issue(name, vec![name.to_owned()], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// One purpose only, so that a gateway's certificate cannot pose as a connection point, nor the
    /// reverse.
    fn issue(
        &self,
        name: &str,
        names: Vec<String>,
        purpose: ExtendedKeyUsagePurpose,
    ) -> anyhow::Result<Issued> {
        let mut params = params(name, names, self.now, LEAF_LIFE)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = new_key()?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("cannot sign the certificate of {name}"))?;
        Ok(Issued { certificate, key })
    }
}

fn params(
    name: &str,
    names: Vec<String>,
    now: OffsetDateTime,
    life: Duration,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)
        .with_context(|| format!("`{name}` cannot stand in a certificate"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    // RFC 5280, appendix A: a common name has at most 64 characters. Verifiers read the
    // alternative names, so a shortened one loses nothing.
    let common_name: String = name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + life;
    Ok(params)
}

fn new_key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")
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
        let server = ca.issue_server(vec!["localhost".to_owned()]).unwrap().identity();
        let client = ca.issue_client("cp-1").unwrap().identity();
        let foreign = SiteCa::new("Other site").unwrap().issue_client("cp-1").unwrap().identity();

        assert_eq!(shake_hands(&server, &client, &ca).await, Ok(()));
        assert!(shake_hands(&server, &server, &ca).await.is_err());
        assert!(shake_hands(&server, &foreign, &ca).await.is_err());
        assert!(shake_hands(&client, &client, &ca).await.is_err());
    }
}
