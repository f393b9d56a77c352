//! The site's own certificate authority and what it signs: for `relay init`, which writes both to
//! files, for `relay pki`, which goes on with them, and for the demonstration, which keeps them in
//! memory.
//!
//! Nothing else of the program makes certificates. Read [`SiteCa`] first, then `command.rs`.

mod command;
pub(crate) mod files;
mod issuer;
mod keeper;
mod renewal;
mod revoke;
mod show;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
};
use relay_core::transport::{Certificate, Identity, TrustAnchors, Uses, Validity};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use files::{IdentityText, KeyText};

pub(crate) use command::{Command, EXAMPLES, run};
pub(crate) use issuer::GatewayIssuer;
pub(crate) use keeper::GatewayKeeper;
pub(crate) use renewal::renew_if_due;

/// Life of the authority. Our choice: long, because replacing it means touching every machine.
const CA_LIFE: Duration = Duration::days(3650);

/// Life of a certificate it signs.
///
/// Source: Apple, "Requirements for trusted certificates in iOS 13 and macOS 10.15": server
/// certificates live 825 days or fewer, those of a private authority too.
pub(crate) const LEAF_LIFE: Duration = Duration::days(825);

/// How far certificates reach into the past, so that a machine whose clock is slow takes them.
const CLOCK_SLACK: Duration = Duration::hours(1);

/// A certificate authority with its key. Deliberately without `Debug`: it holds a secret.
pub(crate) struct SiteCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// The whole subject, as certificates that it has signed name their issuer.
    subject: String,
    not_after: OffsetDateTime,
    now: OffsetDateTime,
}

/// What a certificate is to say.
pub(crate) struct Wanted {
    common_name: String,
    /// DNS names and addresses.
    names: Vec<String>,
    uses: Vec<ExtendedKeyUsagePurpose>,
    life: Duration,
}

/// A certificate and its key. Deliberately without `Debug`: it holds a secret.
pub(crate) struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Issued {
    /// The certificate as PEM.
    pub(crate) fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// Both as they are written to files.
    fn text(&self) -> IdentityText {
        IdentityText { certificate: self.certificate_pem(), key: KeyText(self.key_pem()) }
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

impl Wanted {
    /// Of a server with these names. One purpose only, so that a gateway's certificate cannot pose
    /// as a connection point, nor the reverse.
    pub(crate) fn server(names: Vec<String>) -> Self {
        let common_name = names.first().cloned().unwrap_or_default();
        Self {
            common_name,
            names,
            uses: vec![ExtendedKeyUsagePurpose::ServerAuth],
            life: LEAF_LIFE,
        }
    }

    /// Of a connection point named `name`. Its name may be any text; as a DNS name it stands in the
    /// certificate twice.
    pub(crate) fn client(name: &str) -> Self {
        let is_dns = matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)));
        Self {
            common_name: name.to_owned(),
            names: is_dns.then(|| name.to_owned()).into_iter().collect(),
            uses: vec![ExtendedKeyUsagePurpose::ClientAuth],
            life: LEAF_LIFE,
        }
    }

    /// The same names, uses and length of life as `old`.
    pub(crate) fn like(old: &Certificate) -> Self {
        let dns = old.dns_names.iter().cloned();
        let addresses = old.addresses.iter().map(ToString::to_string);
        let Uses { server, client, .. } = old.uses;
        let uses = [
            server.then_some(ExtendedKeyUsagePurpose::ServerAuth),
            client.then_some(ExtendedKeyUsagePurpose::ClientAuth),
        ];
        let life = Duration::try_from(old.validity.life()).unwrap_or(LEAF_LIFE) - CLOCK_SLACK;
        Self {
            common_name: old.common_name.clone().unwrap_or_default(),
            names: dns.chain(addresses).collect(),
            uses: uses.into_iter().flatten().collect(),
            life: life.clamp(Duration::days(1), LEAF_LIFE),
        }
    }

    /// The same for `days`, if they are given.
    pub(crate) fn for_days(self, days: Option<u16>) -> Self {
        Self { life: days.map_or(self.life, |days| Duration::days(days.into())), ..self }
    }
}

impl SiteCa {
    /// Makes an authority named `name`, valid from now.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc();
        let mut params = params(name, Vec::new(), now, now + CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key()?;
        let certificate = params.self_signed(&key).context("cannot sign the authority")?;
        Self::of(Issuer::new(params, key), certificate.der().clone(), certificate.pem(), now)
    }

    /// Reads an authority and its key from PEM files.
    ///
    /// # Errors
    ///
    /// If one cannot be read, they do not belong together, the certificate is no authority's, or
    /// it does not hold now.
    pub(crate) fn load(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let der = files::leaf(certificate)?;
        let read = files::read(certificate, &der)?;
        let shown = certificate.display();
        ensure!(read.uses.authority, "{shown} is no certificate authority; give the site's own");
        let key_pair = files::key(key, &read.public_key)?.with_context(|| {
            let key = key.display();
            format!(
                "private key {key} does not belong to {shown}; give the two files that were made \
                 together"
            )
        })?;
        let now = SystemTime::now();
        ensure!(
            now <= read.validity.not_after,
            "the authority {shown} expired on {}; nothing that it signs would be trusted",
            show::date(read.validity.not_after)
        );
        ensure!(
            read.validity.not_before <= now,
            "the authority {shown} does not hold before {}; is this machine's clock right?",
            show::date(read.validity.not_before)
        );
        let issuer = Issuer::from_ca_cert_der(&der, key_pair)
            .with_context(|| format!("cannot sign with {shown}"))?;
        let pem = files::text(certificate)?;
        Self::of(issuer, der, pem, now.into())
    }

    fn of(
        issuer: Issuer<'static, KeyPair>,
        certificate: CertificateDer<'static>,
        pem: String,
        now: OffsetDateTime,
    ) -> anyhow::Result<Self> {
        let read = Certificate::from_der(&certificate)?;
        let not_after = read.validity.not_after.into();
        Ok(Self { issuer, certificate, pem, subject: read.subject, not_after, now })
    }

    pub(crate) fn certificate_pem(&self) -> String {
        self.pem.clone()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The authority as the only trust anchor of a link.
    pub(crate) fn anchors(&self) -> anyhow::Result<TrustAnchors> {
        Ok(TrustAnchors::new([self.certificate.clone()])?)
    }

    /// The authority as the only root of a client.
    pub(crate) fn roots(&self) -> anyhow::Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(Arc::new(roots))
    }

    /// A certificate for a server with these names, and for nothing else.
    pub(crate) fn issue_server(&self, names: Vec<String>) -> anyhow::Result<Issued> {
        self.issue(&Wanted::server(names))
    }

    /// A certificate for a client named `name`, and for nothing else.
    pub(crate) fn issue_client(&self, name: &str) -> anyhow::Result<Issued> {
        self.issue(&Wanted::client(name))
    }

    /// Signs a certificate with a new key. It does not outlive the authority.
    pub(crate) fn issue(&self, wanted: &Wanted) -> anyhow::Result<Issued> {
        let key = new_key()?;
        Ok(Issued { certificate: self.sign(wanted, &key)?, key })
    }

    /// Signs a certificate for somebody's key. It does not outlive the authority.
    fn sign(
        &self,
        wanted: &Wanted,
        key: &impl PublicKeyData,
    ) -> anyhow::Result<rcgen::Certificate> {
        let name = &wanted.common_name;
        let not_after = (self.now + wanted.life).min(self.not_after);
        let mut params = params(name, wanted.names.clone(), self.now, not_after)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&wanted.uses);
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(key));
        params
            .signed_by(key, &self.issuer)
            .with_context(|| format!("cannot sign the certificate of {name}"))
    }

    /// Makes sure that this authority has signed `certificate`, by the name of the issuer: whoever
    /// has the authority's key can be trusted with the files beside it. `shown` names it to people.
    fn ensure_issued(
        &self,
        certificate: &Certificate,
        shown: impl fmt::Display,
    ) -> anyhow::Result<()> {
        ensure!(
            certificate.issuer == self.subject,
            "{shown} was signed by `{}`, not by `{}`; give the authority that has signed it",
            certificate.issuer,
            self.subject
        );
        Ok(())
    }

    /// Makes sure that a certificate signed now would hold longer than one with `validity`. `shown`
    /// names the authority to people.
    fn ensure_outlives(&self, validity: Validity, shown: &Path) -> anyhow::Result<()> {
        let end = SystemTime::from(self.not_after);
        ensure!(
            validity.not_after < end,
            "the authority {} expires on {}, and no certificate can outlive it; make a new one \
             and give it to every role",
            shown.display(),
            show::date(end)
        );
        Ok(())
    }
}

/// A serial number for a certificate of `key`, of 16 octets: another whenever one is signed, for
/// one key, too. Source: RFC 5280, section 4.1.2.2, which wants it positive.
fn serial(key: &impl PublicKeyData) -> SerialNumber {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
    let hash = Sha256::new().chain_update(key.subject_public_key_info());
    let mut octets: [u8; 32] = hash.chain_update(now.to_be_bytes()).finalize().into();
    octets[0] = octets[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&octets[..16])
}

fn params(
    name: &str,
    names: Vec<String>,
    now: OffsetDateTime,
    not_after: OffsetDateTime,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)
        .with_context(|| format!("`{name}` cannot stand in a certificate"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    // RFC 5280, appendix A: a common name has at most 64 characters. Verifiers read the
    // alternative names, so a shortened one loses nothing.
    let common_name: String = name.chars().take(64).collect();
    // One that replaces a certificate without a common name has none either.
    if !common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.not_before = now - CLOCK_SLACK;
    params.not_after = not_after;
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
