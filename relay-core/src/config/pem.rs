//! Certificates and keys named by a configuration file.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem;
use toml::Spanned;

use super::error::ConfigError;
use super::source::Source;
use super::warning::Warning;
use crate::transport::{Identity, TlsSetupError, TrustAnchors};

/// The two keys of a table that make an identity.
#[derive(Clone, Copy)]
pub(super) struct IdentityFiles<'a> {
    pub(super) certificate: &'a Spanned<PathBuf>,
    pub(super) key: &'a Spanned<PathBuf>,
}

impl IdentityFiles<'_> {
    /// Reads both files. Whether they belong together shows when TLS is set up with them.
    pub(super) fn read(self, source: &Source) -> Result<Identity, ConfigError> {
        let certificate = source.resolve(self.certificate.get_ref());
        let key = source.resolve(self.key.get_ref());
        Identity::from_pem_files(&certificate, &key).map_err(|error| self.error(source, &error))
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
        let key = source.resolve(self.key.get_ref());
        let mode = permission_bits(&key)?;
        (mode & 0o007 != 0).then_some(Warning::KeyReadableByOthers { key, mode })
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
    let label = if what == "certificate" { "CERTIFICATE" } else { "PRIVATE KEY" };
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
