//! Certificates and keys in PEM files.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rcgen::KeyPair;
use relay_core::transport::Certificate;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::NamedTempFile;

use super::Issued;

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Readers {
    /// Every account.
    Anybody,
    /// Its owner.
    Owner,
}

pub(super) fn text(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The first certificate of a file.
pub(super) fn leaf(file: &Path) -> anyhow::Result<CertificateDer<'static>> {
    let text = text(file)?;
    CertificateDer::from_pem_slice(text.as_bytes())
        .with_context(|| format!("{} holds no certificate that can be read", file.display()))
}

/// What a certificate of `file` says.
pub(super) fn read(file: &Path, der: &CertificateDer<'_>) -> anyhow::Result<Certificate> {
    Certificate::from_der(der).with_context(|| format!("{} cannot be used", file.display()))
}

/// The private key of a file. What is wrong with one is told without a word of what it holds.
pub(super) fn key(file: &Path) -> anyhow::Result<KeyPair> {
    let text = text(file)?;
    KeyPair::from_pem(&text)
        .ok()
        .with_context(|| format!("{} holds no private key that can be used", file.display()))
}

/// Refuses to write over `file` unless that is wanted.
pub(super) fn ensure_free(file: &Path, force: bool) -> anyhow::Result<()> {
    ensure!(
        force || fs::symlink_metadata(file).is_err(),
        "{} exists; nothing was written. Give --force to replace it",
        file.display()
    );
    Ok(())
}

/// Replaces both files of an identity, each at once as a whole. Whoever reads between the two finds
/// that they do not belong together, and reads again.
pub(super) fn replace_identity(
    issued: &Issued,
    certificate: &Path,
    key: &Path,
) -> anyhow::Result<()> {
    // Both are on the disk before the first is replaced, so that little can come between.
    let new_key = staged(key, &issued.key_pem(), Readers::Owner)?;
    let new_certificate = staged(certificate, &issued.certificate_pem(), Readers::Anybody)?;
    put(new_key, key)?;
    put(new_certificate, certificate)
}

/// Replaces a file at once as a whole.
pub(super) fn replace(file: &Path, text: &str, readers: Readers) -> anyhow::Result<()> {
    put(staged(file, text, readers)?, file)
}

fn staged(file: &Path, text: &str, readers: Readers) -> anyhow::Result<NamedTempFile> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let written = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".relay-pki-");
        restrict(&mut builder, readers);
        let mut staged = builder.tempfile_in(folder)?;
        staged.write_all(text.as_bytes())?;
        staged.as_file().sync_all()?;
        Ok::<_, std::io::Error>(staged)
    };
    written().with_context(|| format!("cannot write beside {}", file.display()))
}

fn put(staged: NamedTempFile, file: &Path) -> anyhow::Result<()> {
    staged
        .persist(file)
        .map(drop)
        .map_err(|failed| failed.error)
        .with_context(|| format!("cannot replace {}", file.display()))
}

#[cfg(unix)]
fn restrict(builder: &mut tempfile::Builder<'_, '_>, readers: Readers) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = match readers {
        Readers::Anybody => 0o644,
        Readers::Owner => 0o600,
    };
    builder.permissions(fs::Permissions::from_mode(mode));
}

#[cfg(not(unix))]
fn restrict(_builder: &mut tempfile::Builder<'_, '_>, _readers: Readers) {}
