//! What a site signs its tokens with: keys, and the certificates they are known by.
//!
//! One file for each in the folder of the site, `signing-1.pem` and on; the highest number signs.
//! Once another takes its place, a file keeps its certificate alone: what it has signed still
//! counts, and nobody signs with it any more.

use std::path::{Path, PathBuf};
use std::{fs, io};

use aws_lc_rs::digest;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    PublicKeyData as _, RsaKeySize,
};
use relay_core::auth::{RsaKey, SigningKey};
use relay_core::settings::SIGNER_OCTETS_MAX;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::NamedTempFile;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::files::{self, FileFault};
use super::store::{KnownSigner, SIGNED_COUNTS};

#[cfg(test)]
pub(super) mod tests;

const DAY: u64 = 86_400;

/// Life of a certificate, in seconds: 2 years. Our choice: whoever rotates once a year is not late.
pub(crate) const LIFE: u64 = 730 * DAY;

/// How long before its end an administrator is told, in seconds.
const WARNED_AHEAD: u64 = 60 * DAY;

/// A certificate that the site signs tokens with, or has signed them with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SigningCertificate {
    /// Which it is, from 1 on. The highest signs.
    pub(crate) number: u32,
    /// The whole certificate.
    pub(crate) der: CertificateDer<'static>,
    /// What tokens name it by, and its public key.
    pub(crate) key: SigningKey,
    /// From when it signs, in seconds since 1970 UTC, as are all times here.
    pub(crate) not_before: u64,
    /// Until when it may.
    pub(crate) not_after: u64,
}

/// What tokens are signed with now. Deliberately without `Debug`: it holds a secret.
pub(crate) struct Signer {
    /// What they name.
    pub(super) key: SigningKey,
    /// What signs them.
    pub(super) secret: KeyPair,
}

/// A key that was made and signs nothing yet. Its file is written, and has no name so far.
/// Deliberately without `Debug`: the file holds a secret.
pub(crate) struct Fresh {
    certificate: SigningCertificate,
    staged: NamedTempFile,
}

impl Fresh {
    /// It, as the store of the site is told of it.
    pub(super) fn known(&self) -> KnownSigner {
        known(&self.certificate, self.certificate.not_after)
    }
}

/// All signing certificates of a site, as its folder holds them.
#[derive(Debug)]
pub(crate) struct Keys {
    folder: PathBuf,
    /// The oldest first.
    all: Vec<SigningCertificate>,
}

/// Why signing keys cannot be used or made. Nothing of a key is ever in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeyError {
    /// The folder or a file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// The folder cannot be written to.
    #[error("cannot write {}: {source}; no key was changed", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    /// A link, folder or device has the name of a key.
    #[error("{} is not a regular file; put the signing key there itself", path.display())]
    NotAFile { path: PathBuf },
    /// Other accounts may read or write it.
    #[error(
        "the signing key {path} has permissions {mode:04o}, so other accounts reach it; run \
         `chmod 600 {path}`, and `relay token rotate` if anybody may have read it",
        path = path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    /// It holds no certificate, or none of RSA with 2,048 to 8,192 bits, or a larger one than
    /// instances are told of.
    #[error(
        "{} holds no certificate of RSA that tokens can be signed with; restore it, or move it \
         away: what it has signed then counts no more", path.display()
    )]
    Certificate { path: PathBuf },
    /// The key of the certificate that signs is not there.
    #[error(
        "{} holds no private key of its certificate; restore it, or make another by `relay token \
         rotate`", path.display()
    )]
    NoKey { path: PathBuf },
    /// There is none at all.
    #[error("{} holds no signing key; `relay token new` makes one", folder.display())]
    None { folder: PathBuf },
    /// The certificate that signs is over, or its time has not come.
    #[error(
        "the certificate {} does not hold now, so no token is signed with it; set this machine's \
         clock, or make another by `relay token rotate`", path.display()
    )]
    NotNow { path: PathBuf },
    /// Another process has made one at the same time.
    #[error("{} has been made by another process; nothing was done", path.display())]
    Taken { path: PathBuf },
    /// What signs no more is still there, with its key.
    #[error(
        "cannot take away the key {}, which signs no more: {source}. Take its private key away, \
         and leave its certificate there", path.display()
    )]
    NotRetired { path: PathBuf, source: io::Error },
    /// Nothing counts that it has signed, at any connection point of the site.
    #[error(
        "the signing key {} is distrusted, so no token is signed with it; make another by `relay \
         token rotate`", path.display()
    )]
    Distrusted { path: PathBuf },
    /// None could be made.
    #[error("cannot make a signing key: {0}")]
    NotMade(#[from] rcgen::Error),
}

impl Keys {
    /// Reads what the folder holds. A folder that is not there holds none.
    ///
    /// # Errors
    ///
    /// [`KeyError`], if one of the files cannot be used.
    pub(crate) fn open(folder: &Path) -> Result<Self, KeyError> {
        let mut all = Vec::new();
        for number in numbers(folder)? {
            all.push(read(&file(folder, number), number)?);
        }
        Ok(Self { folder: folder.to_owned(), all })
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> &[SigningCertificate] {
        &self.all
    }

    /// The one that signs.
    pub(crate) fn current(&self) -> Option<&SigningCertificate> {
        self.all.last()
    }

    /// Those whose tokens count at `now` for all that this folder knows, the oldest first.
    pub(crate) fn accepted(&self, now: u64) -> impl Iterator<Item = &SigningCertificate> {
        self.counting(now).map(|(one, _)| one)
    }

    /// The same, as the store of the site is told of them.
    pub(crate) fn known(&self, now: u64) -> impl Iterator<Item = KnownSigner> {
        self.counting(now).map(|(one, signs_until)| known(one, signs_until))
    }

    /// Each whose tokens count at `now`, and until when it signs.
    fn counting(&self, now: u64) -> impl Iterator<Item = (&SigningCertificate, u64)> {
        self.all.iter().enumerate().filter_map(move |(place, one)| {
            let replaced = self.all.get(place + 1).map_or(u64::MAX, |next| next.not_before);
            let signs_until = replaced.min(one.not_after);
            (now <= signs_until.saturating_add(SIGNED_COUNTS)).then_some((one, signs_until))
        })
    }

    /// What signs at `now`.
    ///
    /// # Errors
    ///
    /// [`KeyError`], if there is none, it is not to be used now, or its key is not there.
    pub(crate) fn signer(&self, now: u64) -> Result<Signer, KeyError> {
        let none = || KeyError::None { folder: self.folder.clone() };
        let current = self.current().ok_or_else(none)?;
        let path = file(&self.folder, current.number);
        if !(current.not_before..=current.not_after).contains(&now) {
            return Err(KeyError::NotNow { path });
        }
        let secret = secret(&path, &current.der)?;
        Ok(Signer { key: current.key.clone(), secret })
    }

    /// What signs at `now`, if the store of the site, which holds these `signers`, trusts it.
    ///
    /// # Errors
    ///
    /// As [`Keys::signer`], and [`KeyError::Distrusted`].
    pub(crate) fn trusted_signer(
        &self,
        signers: &[KnownSigner],
        now: u64,
    ) -> Result<Signer, KeyError> {
        let signer = self.signer(now)?;
        let is_it = |it: &&KnownSigner| it.thumbprint == signer.key.sha256;
        let is_trusted = |it: &KnownSigner| it.distrusted_since.is_none();
        if !signers.iter().find(is_it).is_some_and(is_trusted) {
            let number = self.current().map_or(0, |current| current.number);
            return Err(KeyError::Distrusted { path: file(&self.folder, number) });
        }
        Ok(signer)
    }

    /// Makes another key of RSA with 3,072 bits, to sign from `now` on. All that can fail for want
    /// of room or of rights has been tried then, and nothing has changed.
    ///
    /// # Errors
    ///
    /// [`KeyError`]; then the one before goes on.
    pub(super) fn make(&self, now: u64) -> Result<Fresh, KeyError> {
        let number = self.current().map_or(0, |current| current.number) + 1;
        let path = file(&self.folder, number);
        // It takes a second; who is late need not wait.
        if fs::symlink_metadata(&path).is_ok() {
            return Err(KeyError::Taken { path });
        }
        let text = make(now)?;
        let der = CertificateDer::from_pem_slice(text.as_bytes()).ok();
        let certificate = der.and_then(|der| certificate(der, number));
        let staged = files::stage_text(&path, &text);
        let staged =
            staged.map_err(|source| KeyError::Unwritable { path: path.clone(), source })?;
        let certificate = certificate.ok_or(KeyError::Certificate { path })?;
        Ok(Fresh { certificate, staged })
    }

    /// Has a key that was made sign from now on, as the store of the site knows of it. The one
    /// before is there still: see [`Keys::retire`].
    ///
    /// # Errors
    ///
    /// [`KeyError`]; then the one before goes on.
    pub(super) fn put(&mut self, fresh: Fresh) -> Result<(), KeyError> {
        let Fresh { certificate, staged } = fresh;
        let path = file(&self.folder, certificate.number);
        files::put_new(staged, &path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Taken { path },
            _ => KeyError::Unwritable { path, source },
        })?;
        self.all.push(certificate);
        Ok(())
    }

    /// Takes away the keys of all but the one that signs, and certificates that nothing counts of
    /// at `now`.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotRetired`]; the next time it is tried again.
    pub(super) fn retire(&mut self, now: u64) -> Result<(), KeyError> {
        let accepted: Vec<u32> = self.accepted(now).map(|one| one.number).collect();
        let before = self.all.len().saturating_sub(1);
        for one in &self.all[..before] {
            let path = file(&self.folder, one.number);
            let retired = if accepted.contains(&one.number) {
                files::replace(&path, &pem_of("CERTIFICATE", &one.der))
            } else {
                fs::remove_file(&path)
            };
            retired.map_err(|source| KeyError::NotRetired { path, source })?;
        }
        self.all.retain(|one| accepted.contains(&one.number));
        Ok(())
    }

    /// Until when tokens can be signed with what signs now.
    pub(super) fn signing_ends(&self) -> Option<u64> {
        self.current().map(|current| current.not_after)
    }

    /// What an administrator should be told at `now` about the certificate that signs.
    pub(crate) fn warning(&self, now: u64) -> Option<String> {
        let left = self.signing_ends()?.saturating_sub(now);
        (left < WARNED_AHEAD).then(|| {
            format!(
                "the certificate that tokens are signed with ends in {} days, and none is signed \
                 from then on; run `relay token rotate`",
                left / DAY
            )
        })
    }
}

/// A certificate that signs until then, as the store of the site is told of it.
fn known(one: &SigningCertificate, signs_until: u64) -> KnownSigner {
    KnownSigner {
        thumbprint: one.key.sha256,
        certificate: one.der.to_vec(),
        signs_until,
        distrusted_since: None,
    }
}

/// The numbers of all signing keys in a folder, the lowest first.
fn numbers(folder: &Path) -> Result<Vec<u32>, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        numbers.extend(name.to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number in the name of a file, written as [`file()`] writes it.
fn number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("signing-")?.strip_suffix(".pem")?.parse().ok()?;
    (name == format!("signing-{number}.pem")).then_some(number)
}

/// The file of the key that signs, if there is one and the folder can be read.
pub(crate) fn signing_file(folder: &Path) -> Option<PathBuf> {
    let last = numbers(folder).ok()?.pop()?;
    Some(file(folder, last))
}

fn file(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("signing-{number}.pem"))
}

/// The text of a file, of this account alone.
fn text(path: &Path) -> Result<Vec<u8>, KeyError> {
    let path = path.to_owned();
    match files::judge(&path) {
        Ok(()) => fs::read(&path).map_err(|source| KeyError::Unreadable { path, source }),
        Err(FileFault::Missing) => {
            Err(KeyError::Unreadable { path, source: io::ErrorKind::NotFound.into() })
        }
        Err(FileFault::Unreadable(source)) => Err(KeyError::Unreadable { path, source }),
        Err(FileFault::NotAFile) => Err(KeyError::NotAFile { path }),
        Err(FileFault::Exposed(mode)) => Err(KeyError::Exposed { path, mode }),
    }
}

fn read(path: &Path, number: u32) -> Result<SigningCertificate, KeyError> {
    let der = CertificateDer::from_pem_slice(&text(path)?).ok();
    let read = der.and_then(|der| certificate(der, number));
    read.ok_or_else(|| KeyError::Certificate { path: path.to_owned() })
}

/// What a certificate says; none if tokens cannot be signed with it.
fn certificate(der: CertificateDer<'static>, number: u32) -> Option<SigningCertificate> {
    if SIGNER_OCTETS_MAX < der.len() {
        return None;
    }
    let (_, read) = X509Certificate::from_der(&der).ok()?;
    let PublicKey::RSA(rsa) = read.public_key().parsed().ok()? else { return None };
    // X.690, section 8.3.2: a zero goes before a number whose first bit is set.
    let bare = |number: &[u8]| number.iter().copied().skip_while(|it| *it == 0).collect::<Vec<_>>();
    let key = RsaKey::new(&bare(rsa.modulus), &bare(rsa.exponent)).ok()?;
    let validity = read.validity();
    let not_before = u64::try_from(validity.not_before.timestamp()).ok()?;
    let not_after = u64::try_from(validity.not_after.timestamp()).ok()?;
    // RFC 7515, section 4.1.7: SHA-1 names a certificate here, and vouches for nothing.
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &der).as_ref().try_into().ok()?;
    let sha256 = digest::digest(&digest::SHA256, &der).as_ref().try_into().ok()?;
    let key = SigningKey { sha1, sha256, key };
    Some(SigningCertificate { number, der, key, not_before, not_after })
}

/// The private key of a certificate, from the file of both.
fn secret(path: &Path, certificate: &CertificateDer<'_>) -> Result<KeyPair, KeyError> {
    let text = text(path)?;
    let pair = || {
        let pair = KeyPair::try_from(&PrivateKeyDer::from_pem_slice(&text).ok()?).ok()?;
        let (_, read) = X509Certificate::from_der(certificate).ok()?;
        let is_its_own = pair.subject_public_key_info() == read.public_key().raw;
        (is_its_own && pair.is_compatible(&PKCS_RSA_SHA256)).then_some(pair)
    };
    pair().ok_or_else(|| KeyError::NoKey { path: path.to_owned() })
}

/// A key and its certificate, as PEM.
fn make(now: u64) -> Result<String, KeyError> {
    let at = |time: u64| {
        let time = i64::try_from(time).ok();
        time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok())
    };
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "relay site tokens");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = at(now).ok_or(rcgen::Error::Time)?;
    params.not_after = at(now.saturating_add(LIFE)).ok_or(rcgen::Error::Time)?;
    let certificate = params.self_signed(&key)?;
    Ok(pem_of("PRIVATE KEY", &key.serialize_der()) + &pem_of("CERTIFICATE", certificate.der()))
}

fn pem_of(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}
