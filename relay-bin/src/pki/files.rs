//! Certificates and keys in PEM files.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rcgen::{KeyPair, PublicKeyData as _};
use relay_core::transport::Certificate;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::NamedTempFile;

/// A private key as PEM. Deliberately without `Debug`: it is a secret.
pub(super) struct KeyText(pub(super) String);

/// A certificate, or a whole chain, and its key as they are written to files.
pub(super) struct IdentityText {
    pub(super) certificate: String,
    pub(super) key: KeyText,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Readers {
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

/// The private key of a file that belongs to `public_key`; of several in it the one that does.
/// `None` if none does. What is wrong with one is told without a word of what it holds.
pub(super) fn key(file: &Path, public_key: &[u8]) -> anyhow::Result<Option<KeyPair>> {
    let text = text(file)?;
    let keys: Result<Vec<_>, _> = PrivateKeyDer::pem_slice_iter(text.as_bytes()).collect();
    let keys = keys.ok().filter(|keys| !keys.is_empty());
    let pairs = keys.map(|keys| keys.iter().map(KeyPair::try_from).collect::<Result<Vec<_>, _>>());
    let pairs = pairs
        .and_then(Result::ok)
        .with_context(|| format!("{} holds no private key that can be used", file.display()))?;
    Ok(pairs.into_iter().find(|pair| pair.subject_public_key_info() == public_key))
}

/// A certificate as PEM.
pub(super) fn certificate_pem(der: &CertificateDer<'_>) -> String {
    pem_of("CERTIFICATE", der)
}

/// A private key as PEM.
pub(super) fn key_pem(key: &PrivateKeyDer<'_>) -> KeyText {
    // RFC 7468, section 10; the other two are older than it.
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    KeyText(pem_of(label, key.secret_der()))
}

fn pem_of(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
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

/// Replaces both files of an identity so that they belong together at every moment: whoever reads a
/// key file with several keys takes the one of the certificate.
///
/// | step | key file | certificate |
/// |---|---|---|
/// | before | old | old |
/// | 1 | old and new | old |
/// | 2 | old and new | new |
/// | 3 | new | new |
///
/// Each step replaces one file as a whole, and is on the disk before the next begins; so a process
/// or machine that ends in between leaves one of these rows. The next renewal clears an old key
/// that was left. Both in one file are replaced in one step.
pub(super) fn replace_identity(
    new: &IdentityText,
    certificate: &Path,
    key: &Path,
) -> anyhow::Result<()> {
    if let Some(file) = one_file(certificate, key) {
        let both = format!("{}{}", new.key.0, new.certificate);
        return replace(&file, &both, Readers::Owner);
    }
    steps(new, certificate, key)?.into_iter().try_for_each(|(staged, file)| put(staged, file))
}

/// What is put where, one after the other. All is on the disk before the first is, so that a full
/// one changes nothing.
fn steps<'a>(
    new: &IdentityText,
    certificate: &'a Path,
    key: &'a Path,
) -> anyhow::Result<Vec<(NamedTempFile, &'a Path)>> {
    let mut steps = Vec::new();
    if let Some(old_key) = old_key(certificate, key) {
        let both = format!("{}{}", old_key.0, new.key.0);
        steps.push((staged(key, &both, Readers::Owner)?, key));
        steps.push((staged(certificate, &new.certificate, Readers::Anybody)?, certificate));
        steps.push((staged(key, &new.key.0, Readers::Owner)?, key));
    } else {
        steps.push((staged(key, &new.key.0, Readers::Owner)?, key));
        steps.push((staged(certificate, &new.certificate, Readers::Anybody)?, certificate));
    }
    Ok(steps)
}

/// The file that both are in, if they are in one.
fn one_file(certificate: &Path, key: &Path) -> Option<PathBuf> {
    let [certificate, key] = [certificate, key].map(|file| fs::canonicalize(file).ok());
    certificate.filter(|file| Some(file) == key.as_ref())
}

/// The key of the certificate that is to be replaced, if the two make an identity.
fn old_key(certificate: &Path, key: &Path) -> Option<KeyText> {
    let public_key = read(certificate, &leaf(certificate).ok()?).ok()?.public_key;
    let old = self::key(key, &public_key).ok()??;
    Some(KeyText(old.serialize_pem()))
}

/// Replaces a file at once as a whole.
pub(crate) fn replace(file: &Path, text: &str, readers: Readers) -> anyhow::Result<()> {
    put(staged(file, text, readers)?, file)
}

/// Writes a file beside its place, on the disk.
pub(crate) fn staged(file: &Path, text: &str, readers: Readers) -> anyhow::Result<NamedTempFile> {
    let written = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".relay-pki-");
        restrict(&mut builder, readers);
        let mut staged = builder.tempfile_in(folder(file))?;
        staged.write_all(text.as_bytes())?;
        staged.as_file().sync_all()?;
        Ok::<_, std::io::Error>(staged)
    };
    written().with_context(|| format!("cannot write beside {}", file.display()))
}

/// Puts a staged file in its place, on the disk too: so what is put later is never there before it.
pub(crate) fn put(staged: NamedTempFile, file: &Path) -> anyhow::Result<()> {
    staged
        .persist(file)
        .map(drop)
        .map_err(|failed| failed.error)
        .with_context(|| format!("cannot replace {}", file.display()))?;
    sync_folder(folder(file));
    Ok(())
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) {
    // A file system that cannot do that knows no better; the file is replaced all the same.
    let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) {}

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

#[cfg(test)]
mod tests {
    use relay_core::transport::Identity;
    use tempfile::TempDir;

    use super::*;
    use crate::pki::{Issued, SiteCa};

    struct Home {
        folder: TempDir,
        ca: SiteCa,
    }

    impl Home {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), ca: SiteCa::new("site").unwrap() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn text(&self, name: &str) -> String {
            text(&self.path(name)).unwrap()
        }

        fn issue(&self) -> Issued {
            self.ca.issue_server(vec!["gw.example".to_owned()]).unwrap()
        }

        fn replace(&self, new: &Issued) -> anyhow::Result<()> {
            replace_identity(&new.text(), &self.path("links.pem"), &self.path("key.pem"))
        }

        /// Whether the files make an identity whose certificate is this one.
        fn holds(&self, issued: &Issued) -> bool {
            let read = Identity::from_pem_files(&self.path("links.pem"), &self.path("key.pem"));
            let read = read.unwrap();
            let tls = relay_core::transport::client_edge_config(&read);
            assert!(tls.is_ok(), "the key is not the certificate's");
            read.chain() == [issued.certificate.der().clone()]
        }
    }

    #[test]
    fn files_that_are_replaced_belong_together_whichever_step_was_the_last() {
        for done in 0..=3 {
            let home = Home::new();
            let (old, new, next) = (home.issue(), home.issue(), home.issue());
            home.replace(&old).unwrap();
            let (certificate, key) = (home.path("links.pem"), home.path("key.pem"));
            let text = new.text();
            let steps = steps(&text, &certificate, &key).unwrap();
            assert_eq!(steps.len(), 3);
            for (staged, file) in steps.into_iter().take(done) {
                put(staged, file).unwrap();
            }
            assert!(home.holds(if done < 2 { &old } else { &new }), "after {done} steps");
            // The next renewal, by hand or not, goes on from there.
            home.replace(&next).unwrap();
            assert!(home.holds(&next), "after {done} steps");
            assert_eq!(home.text("key.pem"), next.key_pem());
            assert_eq!(home.text("links.pem"), next.certificate_pem());
        }
    }

    #[test]
    fn a_certificate_and_key_in_one_file_are_replaced_at_once() {
        let home = Home::new();
        let (old, new) = (home.issue(), home.issue());
        let file = home.path("both.pem");
        fs::write(&file, old.certificate_pem() + &old.key_pem()).unwrap();
        replace_identity(&new.text(), &file, &file).unwrap();
        let read = Identity::from_pem_files(&file, &file).unwrap();
        assert_eq!(read.chain(), [new.certificate.der().clone()]);
        relay_core::transport::client_edge_config(&read).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_may_read_a_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = Home::new();
        for _ in 0..2 {
            home.replace(&home.issue()).unwrap();
            let mode = |name| fs::metadata(home.path(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode("key.pem"), mode("links.pem")), (0o600, 0o644));
        }
        let left = fs::read_dir(home.folder.path()).unwrap().count();
        assert_eq!(left, 2, "nothing else is left behind");
    }

    #[test]
    fn a_folder_that_is_gone_changes_nothing() {
        let home = Home::new();
        let old = home.issue();
        home.replace(&old).unwrap();
        let elsewhere = home.path("gone/links.pem");
        let new = home.issue().text();
        assert!(replace_identity(&new, &elsewhere, &home.path("key.pem")).is_err());
        assert!(home.holds(&old));
        assert_eq!(home.text("key.pem"), old.key_pem());
    }
}
