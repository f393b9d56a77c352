//! TLS set-up: identities, trust anchors, and the configurations a site needs.
//!
//! A product may bring its own `rustls` configurations instead; nothing here is global.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use rustls::client::{
    Resumption, ServerCertVerifierBuilder, WantsClientCert, WebPkiServerVerifier,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{
    ClientCertVerifierBuilder, NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};

use super::client_certificates::ClientCertificates;

/// What the link protocol is called, in ALPN and in the header field `Upgrade`. Our choice.
pub(super) const LINK_PROTOCOL: &str = "relay-link/1";

/// The ALPN name of a link, so that a link can never be taken for HTTP or the reverse.
pub const LINK_ALPN: &[u8] = LINK_PROTOCOL.as_bytes();

/// A certificate chain, leaf first, and the private key of the leaf.
#[derive(Debug)]
pub struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// The certificates that a peer's chain must end in, and what their authorities have taken back.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    roots: Arc<RootCertStore>,
    /// Empty if nobody asks whether a certificate was taken back.
    revoked: Arc<[CertificateRevocationListDer<'static>]>,
}

/// Why TLS could not be set up. Always the configuration's fault, never a peer's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsSetupError {
    /// The file is absent, unreadable, or holds no PEM of the kind needed.
    #[error("cannot read {what} from {path}: {source}", path = path.display())]
    Pem {
        /// "certificate", "private key" or "revocation list".
        what: &'static str,
        /// The file as configured.
        path: PathBuf,
        /// What the PEM reader said.
        source: pem::Error,
    },
    /// The file is readable PEM but holds no certificate.
    #[error(
        "{} holds no certificate; it must hold at least one `BEGIN CERTIFICATE` block",
        path.display()
    )]
    NoCertificate {
        /// The file as configured.
        path: PathBuf,
    },
    /// The file is readable PEM but holds no revocation list.
    #[error(
        "{} holds no revocation list; it must hold at least one `BEGIN X509 CRL` block",
        path.display()
    )]
    NoRevocationList {
        /// The file as configured.
        path: PathBuf,
    },
    /// The key does not belong to the certificate, or an algorithm is not supported.
    #[error("certificate and key do not make an identity: {0}")]
    Identity(rustls::Error),
    /// A trust anchor is not a usable certificate.
    #[error("certificate is not usable as a trust anchor: {0}")]
    Anchor(rustls::Error),
    /// The verifier could not be built from the trust anchors or the revocation lists.
    #[error("verifier of the peer: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// Refuses what is no file, or a link to one: a pipe or device would hold up whoever opens it.
///
/// # Errors
///
/// [`io::Error`] of kind `InvalidInput`, or why nothing is known of it.
pub(crate) fn require_file(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

pub(crate) fn read_certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let pem = |source| TlsSetupError::Pem { what: "certificate", path: path.to_owned(), source };
    require_file(path).map_err(pem::Error::Io).map_err(pem)?;
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if chain.is_empty() {
        return Err(TlsSetupError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

impl Identity {
    /// An identity from values already in memory.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key of the leaf: a secret.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// Whether the key belongs to the leaf, and can be used.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError::Identity`].
    pub fn judge(&self) -> Result<(), TlsSetupError> {
        let (chain, key) = (self.chain.clone(), self.key.clone_key());
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(TlsSetupError::Identity)?;
        Ok(())
    }

    /// Reads a PEM certificate chain (leaf first) and a PEM private key.
    ///
    /// Of several keys in the file the leaf's own is taken, or the first if none is. So whoever
    /// renews a certificate can have the file hold both keys while the certificate is replaced, and
    /// whatever befalls the machine in between leaves an identity.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError::Pem`] or [`TlsSetupError::NoCertificate`], naming the file.
    pub fn from_pem_files(certificate: &Path, key: &Path) -> Result<Self, TlsSetupError> {
        let chain = read_certificates(certificate)?;
        let pem = |source| TlsSetupError::Pem { what: "private key", path: key.to_owned(), source };
        require_file(key).map_err(pem::Error::Io).map_err(pem)?;
        let keys = PrivateKeyDer::pem_file_iter(key).map_err(pem)?;
        let keys: Vec<_> = keys.collect::<Result<_, _>>().map_err(pem)?;
        let own = own_key(&chain, keys).ok_or(pem::Error::NoItemsFound).map_err(pem)?;
        Ok(Self { chain, key: own })
    }
}

/// The key that belongs to the leaf, or the first.
fn own_key(
    chain: &[CertificateDer<'static>],
    mut keys: Vec<PrivateKeyDer<'static>>,
) -> Option<PrivateKeyDer<'static>> {
    let provider = aws_lc_rs::default_provider();
    let is_own = |key: &PrivateKeyDer<'static>| {
        CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider).is_ok()
    };
    let at = if keys.len() > 1 { keys.iter().position(is_own).unwrap_or_default() } else { 0 };
    (at < keys.len()).then(|| keys.swap_remove(at))
}

impl TrustAnchors {
    /// Whether both are the same authorities, with the same lists.
    pub fn are_as(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots && self.revoked == other.revoked
    }

    /// Trust anchors from certificates already in memory.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError::Anchor`] if one of them is not a certificate.
    pub fn new(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, TlsSetupError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate).map_err(TlsSetupError::Anchor)?;
        }
        Ok(Self { roots: Arc::new(store), revoked: Arc::default() })
    }

    /// Whether `other` has the same certificates and lists, in the same order.
    pub fn are_those_of(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots && self.revoked == other.revoked
    }

    /// Has certificates on `lists` refused on links. With any list, each authority of a peer's
    /// chain must have one that holds now: without it, or when it is over, the peer is refused.
    #[must_use]
    pub fn with_revoked(
        self,
        lists: impl IntoIterator<Item = CertificateRevocationListDer<'static>>,
    ) -> Self {
        Self { revoked: lists.into_iter().collect(), ..self }
    }

    /// As [`TrustAnchors::with_revoked`], with every list of a PEM file.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError::Pem`] or [`TlsSetupError::NoRevocationList`], naming the file.
    pub fn with_revoked_file(self, path: &Path) -> Result<Self, TlsSetupError> {
        let pem =
            |source| TlsSetupError::Pem { what: "revocation list", path: path.to_owned(), source };
        require_file(path).map_err(pem::Error::Io).map_err(pem)?;
        let lists = CertificateRevocationListDer::pem_file_iter(path).map_err(pem)?;
        let lists: Vec<_> = lists.collect::<Result<_, _>>().map_err(pem)?;
        if lists.is_empty() {
            return Err(TlsSetupError::NoRevocationList { path: path.to_owned() });
        }
        Ok(self.with_revoked(lists))
    }

    /// The lists of what was taken back.
    pub fn revoked(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.revoked
    }

    /// Reads every certificate of a PEM file.
    ///
    /// # Errors
    ///
    /// As [`Identity::from_pem_files`] and [`TrustAnchors::new`].
    pub fn from_pem_file(path: &Path) -> Result<Self, TlsSetupError> {
        Self::new(read_certificates(path)?)
    }
}

/// Judges the certificates of connection points by `site`.
pub(super) fn client_verifier(site: &TrustAnchors) -> ClientCertVerifierBuilder {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::clone(&site.roots);
    // Without a list nobody asks.
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        .with_crls(site.revoked.iter().cloned())
}

/// Judges the certificates of gateway instances by `site`.
pub(super) fn server_verifier(site: &TrustAnchors) -> ServerCertVerifierBuilder {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::clone(&site.roots);
    WebPkiServerVerifier::builder_with_provider(roots, provider)
        .with_crls(site.revoked.iter().cloned())
}

/// The gateway's side of a link: TLS 1.3 only, a client certificate of the site is required, and
/// only [`LINK_ALPN`] is spoken.
///
/// # Errors
///
/// [`TlsSetupError::Identity`] or [`TlsSetupError::Verifier`].
pub fn link_server_config(
    identity: &Identity,
    site: &TrustAnchors,
) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let verifier = client_verifier(site).enforce_revocation_expiration();
    let Identity { chain, key } = identity.clone();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsSetupError::Identity)?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)
        .map_err(TlsSetupError::Identity)?;
    // A resumed session would skip the verifier: a certificate that is over or was taken back would
    // go on to pass. Links live long enough to shake hands in full.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![LINK_ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The connection point's side of a link: TLS 1.3 only, presents the site's link certificate.
///
/// # Errors
///
/// [`TlsSetupError::Identity`] or [`TlsSetupError::Verifier`].
pub fn link_client_config(
    identity: &Identity,
    site: &TrustAnchors,
) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let Identity { chain, key } = identity.clone();
    let verifier = server_verifier(site).enforce_revocation_expiration();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsSetupError::Identity)?
        .with_webpki_verifier(verifier.build()?)
        .with_client_auth_cert(chain, key)
        .map_err(TlsSetupError::Identity)?;
    // As in `link_server_config`.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![LINK_ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The gateway's client edge: TLS 1.2 or 1.3, HTTP/2 or HTTP/1.1, no client certificate asked for.
///
/// # Errors
///
/// [`TlsSetupError::Identity`].
pub fn client_edge_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let Identity { chain, key } = identity.clone();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Identity)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsSetupError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The connection point's side towards an `https://` backend, and of the HTTPS around a link that
/// is upgraded: trusts exactly `anchors`, HTTP/1.1, no certificate is shown.
///
/// # Errors
///
/// [`TlsSetupError::Identity`] if the provider supports no common protocol version.
pub fn backend_client_config(anchors: &TrustAnchors) -> Result<Arc<ClientConfig>, TlsSetupError> {
    backend_config(anchors, ConfigBuilder::<ClientConfig, WantsClientCert>::with_no_client_auth)
}

/// As [`backend_client_config`], but a backend that asks is shown one of `certificates`.
///
/// # Errors
///
/// As [`backend_client_config`].
pub fn backend_client_config_showing(
    anchors: &TrustAnchors,
    certificates: Arc<ClientCertificates>,
) -> Result<Arc<ClientConfig>, TlsSetupError> {
    backend_config(anchors, |builder| builder.with_client_cert_resolver(certificates))
}

fn backend_config(
    anchors: &TrustAnchors,
    show: impl FnOnce(ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig,
) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Identity)?
        .with_root_certificates(Arc::clone(&anchors.roots));
    let mut config = show(builder);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
