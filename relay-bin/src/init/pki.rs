//! The site's own certificate authority and what it signs.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};

/// Life of the authority. Our choice: long, because replacing it means touching every machine.
const CA_LIFE: Duration = Duration::days(3650);

/// Life of a certificate it signs.
///
/// Source: Apple, "Requirements for trusted certificates in iOS 13 and macOS 10.15": server
/// certificates live 825 days or fewer, those of a private authority too.
pub(super) const LEAF_LIFE: Duration = Duration::days(825);

/// How far certificates reach into the past, so that a machine whose clock is slow takes them.
const CLOCK_SLACK: Duration = Duration::hours(1);

/// A certificate authority with its key.
pub(super) struct SiteCa {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    now: OffsetDateTime,
}

/// A certificate and its key, both PEM. Deliberately without `Debug`: it holds a secret.
pub(super) struct Issued {
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
}

impl SiteCa {
    /// Makes an authority named `name`, valid from now.
    pub(super) fn new(name: &str) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc();
        let mut params = params(name, Vec::new(), now, CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key()?;
        let certificate_pem = params.self_signed(&key).context("cannot sign the authority")?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem, now })
    }

    pub(super) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a server with these names, and for nothing else.
    pub(super) fn issue_server(&self, names: Vec<String>) -> anyhow::Result<Issued> {
        let name = names.first().cloned().unwrap_or_default();
        self.issue(&name, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client named `name`, and for nothing else.
    pub(super) fn issue_client(&self, name: &str) -> anyhow::Result<Issued> {
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
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
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
