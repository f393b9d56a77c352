//! The folder of a registration: `client.pem`, `client-key.pem` and `client.token`.
//!
//! The token is put there last and tells that the registration is whole. What an interrupted one,
//! or one whose answer was lost, may leave, a key without a certificate or both without a token, is
//! used by the next: the service knows the client by that certificate, and gives it its GUID again.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256,
};
use relay_core::transport::Identity;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::NamedTempFile;
use time::{Duration, OffsetDateTime};

use crate::pki::files::{self, Readers};

use super::credentials::{CERTIFICATE, KEY, TOKEN, Token, identity};

/// How long a client's own certificate is valid. Our choice: it proves a key and nothing else, and
/// the token that is bound to it is over long before.
const VALIDITY: Duration = Duration::days(3650);

/// How far clocks may be apart.
const CLOCK_SLACK: Duration = Duration::hours(24);

/// A registration's folder; one that was made for nothing is removed when dropped.
pub(super) struct Folder {
    path: PathBuf,
    is_for_nothing: Cell<bool>,
}

impl Folder {
    /// Opens it; one that is not there is made.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let is_new = !path.exists();
        if is_new {
            make(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(Self { path: path.to_owned(), is_for_nothing: Cell::new(is_new) })
    }

    /// Whether a registration is there.
    ///
    /// # Errors
    ///
    /// It is no folder.
    pub(super) fn registered(&self) -> anyhow::Result<bool> {
        anyhow::ensure!(self.path.is_dir(), "{} is no folder", self.path.display());
        Ok(self.path.join(TOKEN).exists())
    }

    /// A registration is in it now.
    pub(super) fn is_filled(&self) {
        self.is_for_nothing.set(false);
    }

    /// The certificate and key that are there, or new ones that are not in their places yet.
    ///
    /// # Errors
    ///
    /// What is there cannot be used, or nothing can be written there.
    pub(super) fn identity(&self) -> anyhow::Result<Staged> {
        let [certificate, key, token] = [CERTIFICATE, KEY, TOKEN].map(|name| self.path.join(name));
        let mut steps = Vec::new();
        let identity = match (certificate.exists(), key.exists()) {
            (true, true) => identity(&certificate, &key)?,
            (true, false) => bail!(
                "{} has no key beside it; put client-key.pem there, or move it away for a new one",
                certificate.display()
            ),
            (false, has_key) => {
                let pair = if has_key {
                    let old = fs::read(&key).context("cannot read the key that is there")?;
                    let old = PrivateKeyDer::from_pem_slice(&old).ok();
                    let pair = old.and_then(|old| KeyPair::try_from(&old).ok());
                    pair.with_context(|| format!("{} holds no key", key.display()))?
                } else {
                    KeyPair::generate_for(&PKCS_RSA_SHA256).context("cannot make a key")?
                };
                let made = self_signed(&pair)?;
                if !has_key {
                    let text = pair.serialize_pem();
                    steps.push((files::staged(&key, &text, Readers::Owner)?, key));
                }
                let text = made.pem();
                steps.push((files::staged(&certificate, &text, Readers::Owner)?, certificate));
                identity_of(&made, &pair)?
            }
        };
        Ok(Staged { identity, steps, token })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_for_nothing.get() {
            // Fails if something is in it, and then it stays.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// What a registration needs, ready to be put in its place.
pub(super) struct Staged {
    pub(super) identity: Identity,
    steps: Vec<(NamedTempFile, PathBuf)>,
    token: PathBuf,
}

impl Staged {
    /// Puts key and certificate in their places, and no token: the next registration goes on with
    /// them.
    ///
    /// # Errors
    ///
    /// Something cannot be written.
    pub(super) fn keep_identity(self) -> anyhow::Result<()> {
        self.steps.into_iter().try_for_each(|(staged, place)| files::put(staged, &place))
    }

    /// Puts all in its place: key, certificate, and the token last.
    ///
    /// # Errors
    ///
    /// Something cannot be written; then there is no registration.
    pub(super) fn keep(self, token: &Token) -> anyhow::Result<()> {
        let text = format!("{}\n", token.text());
        let token = (files::staged(&self.token, &text, Readers::Owner)?, self.token);
        let mut steps = self.steps.into_iter().chain([token]);
        steps.try_for_each(|(staged, place)| files::put(staged, &place))
    }
}

/// A new key, and a certificate that it has signed itself. In no file.
pub(crate) fn new_identity() -> anyhow::Result<Identity> {
    let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).context("cannot make a key")?;
    identity_of(&self_signed(&pair)?, &pair)
}

fn identity_of(made: &rcgen::Certificate, pair: &KeyPair) -> anyhow::Result<Identity> {
    let der = PrivateKeyDer::try_from(pair.serialize_der());
    let der = der.map_err(|why| anyhow::anyhow!("cannot use the key made: {why}"))?;
    Ok(Identity::new(vec![made.der().clone()], der))
}

fn self_signed(key: &KeyPair) -> anyhow::Result<rcgen::Certificate> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "relay client");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - CLOCK_SLACK, now + VALIDITY);
    params.self_signed(key).context("cannot make a certificate")
}

#[cfg(unix)]
fn make(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make(path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_registration_that_fails_leaves_nothing_behind() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("me");
        let folder = Folder::open(&path).unwrap();
        drop(folder.identity().unwrap());
        assert_eq!(names(&path), Vec::<String>::new());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_registration_that_was_interrupted_is_gone_on_with() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("me");
        let folder = Folder::open(&path).unwrap();
        let mut staged = folder.identity().unwrap();
        // The machine ends after the first step: the key is there and nothing else.
        let (key, place) = staged.steps.remove(0);
        files::put(key, &place).unwrap();
        drop(staged);
        assert_eq!(names(&path), [KEY]);
        let before = fs::read(path.join(KEY)).unwrap();
        assert!(!folder.registered().unwrap());
        folder.identity().unwrap().keep(&Token::new("token").unwrap()).unwrap();
        assert_eq!(names(&path), [KEY, TOKEN, CERTIFICATE].map(str::to_owned).to_vec().sorted());
        assert_eq!(fs::read(path.join(KEY)).unwrap(), before);
        assert!(folder.registered().unwrap());
        identity(&path.join(CERTIFICATE), &path.join(KEY)).unwrap();
    }

    /// A list in order, for comparison.
    trait Sorted {
        fn sorted(self) -> Self;
    }

    impl Sorted for Vec<String> {
        fn sorted(mut self) -> Self {
            self.sort();
            self
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_a_registration_holds_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/me");
        let folder = Folder::open(&path).unwrap();
        folder.identity().unwrap().keep(&Token::new("token").unwrap()).unwrap();
        folder.is_filled();
        drop(folder);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for name in [CERTIFICATE, KEY, TOKEN] {
            assert_eq!(mode(&path.join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_not_written_over() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(CERTIFICATE), "mine").unwrap();
        let folder = Folder::open(home.path()).unwrap();
        let told = folder.identity().err().unwrap().to_string();
        assert!(told.contains("has no key beside it"), "{told}");
        assert_eq!(names(home.path()), [CERTIFICATE]);
    }
}
