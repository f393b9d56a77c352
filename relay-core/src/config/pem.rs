//! Certificates and keys named by a configuration file.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::server::VerifierBuilderError;

use super::error::ConfigError;
use super::material::{IdentityPaths, SitePaths};
use super::source::Source;
use super::spanned::Spanned;
use super::warning::Warning;
use crate::auth::Crl;
use crate::transport::{Identity, RevocationList, TlsSetupError, TrustAnchors, require_file};

/// The two keys of a table that make an identity.
#[derive(Clone, Copy)]
pub(super) struct IdentityFiles<'a> {
    pub(super) certificate: &'a Spanned<PathBuf>,
    pub(super) key: &'a Spanned<PathBuf>,
}

impl IdentityFiles<'_> {
    /// Where both are.
    pub(super) fn paths(self, source: &Source) -> IdentityPaths {
        let resolve = |file: &Spanned<PathBuf>| source.resolve(file.get_ref());
        IdentityPaths::new(resolve(self.certificate), resolve(self.key))
    }

    /// Reads both files. Whether they belong together shows when TLS is set up with them.
    pub(super) fn read(self, source: &Source) -> Result<Identity, ConfigError> {
        let certificate = source.resolve(self.certificate.get_ref());
        let key = source.resolve(self.key.get_ref());
        Identity::from_pem_files(&certificate, &key).map_err(|error| {
            // The certificate is looked at first; of the key that is then not looked at, no more
            // is told than that it is not there.
            if let Err(fault) = require_file(&key) {
                let fault = pem::Error::Io(fault);
                source.note(unreadable(source, self.key, "private key", &key, &fault));
            }
            self.error(source, &error)
        })
    }

    /// Reads both files, and judges that they belong together.
    pub(super) fn read_matching(self, source: &Source) -> Result<Identity, ConfigError> {
        let identity = self.read(source)?;
        identity.judge().map_err(|error| self.error(source, &error))?;
        Ok(identity)
    }

    /// The error that TLS could not be set up with these files, at the one that is at fault.
    pub(super) fn error(self, source: &Source, error: &TlsSetupError) -> ConfigError {
        use rustls::Error::InvalidCertificate;

        match error {
            TlsSetupError::Pem { what: "private key", path, source: fault } => {
                unreadable(source, self.key, "private key", path, fault)
            }
            TlsSetupError::Identity(InvalidCertificate(_)) => source.invalid(
                self.certificate.span(),
                format!("`{}` is not a usable certificate", self.certificate.get_ref().display()),
                format!("{error}; ask whoever issued it for a new one"),
            ),
            TlsSetupError::Identity(rustls::Error::InconsistentKeys(_)) => source.invalid(
                self.key.span(),
                format!(
                    "private key `{}` does not belong to certificate `{}`",
                    self.key.get_ref().display(),
                    self.certificate.get_ref().display()
                ),
                "give the key that was made with this certificate; the leaf must come first in the \
                 certificate file",
            ),
            TlsSetupError::Identity(fault) => source.invalid(
                self.key.span(),
                format!("private key `{}` cannot be used: {fault}", self.key.get_ref().display()),
                "give an RSA key of 2048 bits or more, or an ECDSA P-256, P-384 or Ed25519 key",
            ),
            other => certificate_error(source, self.certificate, other),
        }
    }

    /// What deserves attention about the key file.
    pub(super) fn warning(self, source: &Source) -> Option<Warning> {
        Warning::of_key(&source.resolve(self.key.get_ref()))
    }
}

/// Reads every certificate of the file as a trust anchor.
pub(super) fn trust_anchors(
    source: &Source,
    file: &Spanned<PathBuf>,
) -> Result<TrustAnchors, ConfigError> {
    TrustAnchors::from_pem_file(&source.resolve(file.get_ref()))
        .map_err(|error| certificate_error(source, file, &error))
}

/// Reads the authority of a site and, if there is one, the list of what it has taken back.
pub(super) fn site_anchors(
    source: &Source,
    authority: &Spanned<PathBuf>,
    revoked: Option<&Spanned<PathBuf>>,
) -> Result<TrustAnchors, ConfigError> {
    let anchors = trust_anchors(source, authority)?;
    let Some(file) = revoked else { return Ok(anchors) };
    anchors
        .with_revoked_file(&source.resolve(file.get_ref()))
        .map_err(|error| revocation_error(source, file, &error))
}

/// Where what [`site_anchors`] reads is.
pub(super) fn site_paths(
    source: &Source,
    authority: &Spanned<PathBuf>,
    revoked: Option<&Spanned<PathBuf>>,
) -> SitePaths {
    let resolve = |file: &Spanned<PathBuf>| source.resolve(file.get_ref());
    SitePaths::new(resolve(authority), revoked.map(resolve))
}

/// The error that a verifier could not be built from what [`site_anchors`] has read.
pub(super) fn site_error(
    source: &Source,
    authority: &Spanned<PathBuf>,
    revoked: Option<&Spanned<PathBuf>>,
    error: &TlsSetupError,
) -> ConfigError {
    match (error, revoked) {
        (TlsSetupError::Verifier(VerifierBuilderError::InvalidCrl(_)), Some(file)) => {
            revocation_error(source, file, error)
        }
        _ => certificate_error(source, authority, error),
    }
}

fn revocation_error(
    source: &Source,
    file: &Spanned<PathBuf>,
    error: &TlsSetupError,
) -> ConfigError {
    match error {
        TlsSetupError::Pem { path, source: fault, .. } => {
            unreadable(source, file, "revocation list", path, fault)
        }
        TlsSetupError::NoRevocationList { path } => source.invalid(
            file.span(),
            format!("`{}` holds no revocation list", path.display()),
            "give a PEM file with at least one `BEGIN X509 CRL` block, or remove the line",
        ),
        other => source.invalid(
            file.span(),
            format!("`{}` cannot be used: {other}", file.get_ref().display()),
            "ask whoever signed the list for a new one",
        ),
    }
}

/// The revocation lists of a file, in PEM, or the one that it is in DER.
pub(super) fn revocation_lists(
    source: &Source,
    file: &Spanned<PathBuf>,
) -> Result<Vec<Bytes>, ConfigError> {
    let path = source.resolve(file.get_ref());
    let unread = |fault| unreadable(source, file, "revocation list", &path, &fault);
    let octets = require_file(&path).and_then(|()| std::fs::read(&path));
    let octets = octets.map_err(|error| unread(pem::Error::Io(error)))?;
    let lists: Vec<Bytes> = if Crl::from_der(&octets).is_ok() {
        vec![octets.into()]
    } else {
        let lists = CertificateRevocationListDer::pem_slice_iter(&octets);
        let der = |list: CertificateRevocationListDer<'_>| Bytes::copy_from_slice(&list);
        lists.map(|list| list.map(der)).collect::<Result<_, _>>().map_err(unread)?
    };
    if lists.is_empty() {
        return Err(unread(pem::Error::NoItemsFound));
    }
    for list in &lists {
        Crl::from_der(list).map_err(|why| {
            source.invalid(
                file.span(),
                format!("`{}` cannot be used: {why}", path.display()),
                "ask whoever signed the list for a new one",
            )
        })?;
    }
    Ok(lists)
}

/// What deserves attention about a site's revocation lists at `now`.
pub(super) fn revocation_warning(
    source: &Source,
    anchors: &TrustAnchors,
    revoked: Option<&Spanned<PathBuf>>,
    now: SystemTime,
) -> Option<Warning> {
    let lists = anchors.revoked().iter().filter_map(|der| RevocationList::from_der(der).ok());
    let is_over = lists.filter_map(|list| list.next_update).any(|end| end < now);
    let file = source.resolve(revoked?.get_ref());
    is_over.then_some(Warning::RevocationListOver { file })
}

/// The error that certificates of `file` cannot be used.
pub(super) fn certificate_error(
    source: &Source,
    file: &Spanned<PathBuf>,
    error: &TlsSetupError,
) -> ConfigError {
    match error {
        TlsSetupError::Pem { path, source: fault, .. } => {
            unreadable(source, file, "certificate", path, fault)
        }
        TlsSetupError::NoCertificate { path } => source.invalid(
            file.span(),
            format!("`{}` holds no certificate", path.display()),
            "give a PEM file with at least one `BEGIN CERTIFICATE` block",
        ),
        other => source.invalid(
            file.span(),
            format!("`{}` cannot be used: {other}", file.get_ref().display()),
            "ask whoever issued the certificate for a new one",
        ),
    }
}

/// The error that a file holds no readable PEM.
fn unreadable(
    source: &Source,
    file: &Spanned<PathBuf>,
    what: &str,
    path: &Path,
    fault: &pem::Error,
) -> ConfigError {
    let path = path.display();
    let label = match what {
        "certificate" => "CERTIFICATE",
        "revocation list" => "X509 CRL",
        _ => "PRIVATE KEY",
    };
    let (problem, help) = match fault {
        pem::Error::Io(error) => (
            format!("cannot read the {what} `{path}`: {error}"),
            "check the path and its permissions; a relative path starts at the folder of this file"
                .to_owned(),
        ),
        pem::Error::NoItemsFound => (
            format!("`{path}` holds no {what}"),
            format!("give a PEM file with a `BEGIN {label}` block"),
        ),
        other => (
            format!("the {what} `{path}` is not valid PEM: {other}"),
            format!("give a PEM file with a `BEGIN {label}` block, unchanged by an editor"),
        ),
    };
    source.invalid(file.span(), problem, help)
}

/// The permission bits of a file, where the platform has them.
#[cfg(unix)]
pub(super) fn permission_bits(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some(metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
pub(super) fn permission_bits(_path: &Path) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{Site, message};
    use crate::config::{ConfigError, Warning};

    const SITE_CA: &str = "site_ca = \"site-ca.pem\"";

    /// The warnings of both roles' files with a list of what was taken back.
    fn loaded(file: &str) -> [Result<Vec<Warning>, ConfigError>; 2] {
        let site = Site::new();
        let with = |text: &str| text.replace(SITE_CA, &format!("{SITE_CA}\nsite_crl = {file:?}"));
        let gateway = site.gateway_with(with).map(|loaded| loaded.warnings);
        [gateway, site.connection_point_with(with).map(|loaded| loaded.warnings)]
    }

    #[test]
    fn a_list_of_what_was_taken_back_is_read_and_warned_about_once_it_is_over() {
        let is_warned = |warnings: Vec<Warning>| {
            let of_list = |warning: &Warning| matches!(warning, Warning::RevocationListOver { .. });
            warnings.iter().any(of_list)
        };
        for warnings in loaded("site-ca.crl") {
            assert!(!is_warned(warnings.unwrap()));
        }
        for warnings in loaded("over.crl") {
            assert!(is_warned(warnings.unwrap()));
        }
    }

    #[test]
    fn a_file_without_a_list_is_refused_at_its_line() {
        for (file, told) in [
            ("absent.crl", "cannot read the revocation list `"),
            ("links.pem", "links.pem` holds no revocation list\n"),
        ] {
            for loaded in loaded(file) {
                let shown = message(loaded);
                assert!(shown.contains(told) && shown.contains("site_crl = "), "{shown}");
            }
        }
    }
}
