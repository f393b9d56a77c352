use std::sync::OnceLock;

use rcgen::PKCS_ECDSA_P256_SHA256;
use tempfile::TempDir;

use super::*;

/// When the first key of a test is made.
pub(in crate::site) const START: u64 = 1_800_000_000;

/// Puts a first key into a folder. It is the same for all tests: to make one takes a second.
pub(in crate::site) fn put_first(folder: &Path) {
    static MADE: OnceLock<String> = OnceLock::new();
    let made = MADE.get_or_init(|| make(START).unwrap());
    files::replace(&file(folder, 1), made).unwrap();
}

/// Has another key sign, and nobody told of it.
pub(in crate::site) fn rotate(keys: &mut Keys, now: u64) {
    let fresh = keys.make(now).unwrap();
    keys.put(fresh).unwrap();
    keys.retire(now).unwrap();
}

struct Home {
    folder: TempDir,
}

impl Home {
    /// A site with one key.
    fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        put_first(home.folder.path());
        home
    }

    fn keys(&self) -> Keys {
        Keys::open(self.folder.path()).unwrap()
    }

    fn file(&self, number: u32) -> PathBuf {
        file(self.folder.path(), number)
    }

    fn text(&self, number: u32) -> String {
        fs::read_to_string(self.file(number)).unwrap()
    }

    fn files(&self) -> usize {
        fs::read_dir(self.folder.path()).unwrap().count()
    }
}

fn numbers_of(keys: &Keys, now: u64) -> Vec<u32> {
    keys.accepted(now).map(|one| one.number).collect()
}

#[test]
fn a_key_is_made_when_asked_for_and_signs_until_its_certificate_is_over() {
    let home = Home { folder: tempfile::tempdir().unwrap() };
    let mut keys = home.keys();
    assert!(keys.is_empty());
    assert!(matches!(keys.signer(START), Err(KeyError::None { .. })));
    rotate(&mut keys, START);
    let current = keys.current().unwrap();
    assert_eq!((current.number, current.key.key.bits()), (1, 3072));
    assert_eq!((current.not_before, current.not_after), (START, START + LIFE));
    for (now, signs) in
        [(START - 1, false), (START, true), (START + LIFE, true), (START + LIFE + 1, false)]
    {
        let signer = keys.signer(now).map(drop);
        assert_eq!(signer.is_ok(), signs, "{now}");
        assert!(signs || matches!(signer, Err(KeyError::NotNow { .. })));
    }
    let again = home.keys();
    assert_eq!(again.current(), keys.current(), "it is read as it was made");
    assert_eq!(home.files(), 1, "nothing else is left behind");
}

#[test]
fn its_end_is_warned_of_60_days_ahead() {
    let keys = Home::new().keys();
    let end = START + LIFE;
    assert_eq!(keys.warning(end - 60 * DAY), None);
    let warning = keys.warning(end - 60 * DAY + 1).unwrap();
    assert!(warning.contains("ends in 59 days"), "{warning}");
    assert!(keys.warning(end + DAY).unwrap().contains("ends in 0 days"));
}

#[test]
fn one_that_was_replaced_counts_until_its_last_token_is_over_and_signs_no_more() {
    let home = Home::new();
    let mut keys = home.keys();
    let replaced = START + 1000;
    rotate(&mut keys, replaced);
    for keys in [&keys, &home.keys()] {
        assert_eq!(keys.current().unwrap().number, 2);
        assert_eq!(numbers_of(keys, replaced + 91 * DAY), [1, 2]);
        assert_eq!(numbers_of(keys, replaced + 91 * DAY + 1), [2]);
        // Nobody signs with the second once it is over; so both end.
        assert_eq!(numbers_of(keys, replaced + LIFE + SIGNED_COUNTS), [2]);
        assert_eq!(numbers_of(keys, replaced + LIFE + SIGNED_COUNTS + 1), [0; 0]);
    }
    assert!(!home.text(1).contains("PRIVATE"), "its key is gone");
    assert!(home.text(1).contains("BEGIN CERTIFICATE") && home.text(2).contains("PRIVATE"));
    rotate(&mut keys, replaced + SIGNED_COUNTS + 1);
    assert_eq!(home.files(), 2, "the first is needed no more");
    assert_eq!(numbers_of(&home.keys(), replaced + SIGNED_COUNTS + 2), [2, 3]);
}

#[test]
fn of_two_processes_that_rotate_at_once_one_is_told_of_the_other() {
    let home = Home::new();
    let (mut first, mut second) = (home.keys(), home.keys());
    let late = second.make(START + 1).unwrap();
    rotate(&mut first, START + 1);
    let made = home.text(2);
    for taken in [second.put(late), second.make(START + 1).map(drop)] {
        assert!(matches!(taken, Err(KeyError::Taken { .. })), "{taken:?}");
    }
    assert_eq!(home.text(2), made);
    assert_eq!(second.current().unwrap().number, 1, "it goes on as it was");
}

#[test]
fn a_folder_that_is_gone_holds_no_key_and_takes_none() {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::open(&home.path().join("gone")).unwrap();
    let refused = keys.make(START).map(drop).unwrap_err();
    assert!(matches!(refused, KeyError::Unwritable { .. }), "{refused}");
    assert!(keys.is_empty());
}

#[test]
fn a_file_without_what_belongs_into_it_is_refused_by_name() {
    let home = Home::new();
    let (whole, end) = (home.text(1), "-----END PRIVATE KEY-----\n");
    let (_, certificate) = whole.split_at(whole.find(end).unwrap() + end.len());
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let of_ec = CertificateParams::default().self_signed(&ec).unwrap();

    for text in ["", "nothing", &whole[..200], &of_ec.pem()] {
        fs::write(home.file(1), text).unwrap();
        let refused = Keys::open(home.folder.path()).unwrap_err();
        assert!(matches!(refused, KeyError::Certificate { .. }), "{refused}");
        assert!(refused.to_string().contains("signing-1.pem"), "{refused}");
    }
    for text in [certificate.to_owned(), ec.serialize_pem() + certificate] {
        fs::write(home.file(1), text).unwrap();
        let refused = home.keys().signer(START).map(drop).unwrap_err();
        assert!(matches!(refused, KeyError::NoKey { .. }), "{refused}");
    }
    fs::write(home.file(1), whole).unwrap();
    home.keys().signer(START).map(drop).unwrap();
}

#[test]
fn a_certificate_that_instances_would_not_be_told_of_is_refused() {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let of_octets = |octets: usize| {
        let named = |length: usize| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "a".repeat(length));
            params.self_signed(&key).unwrap().der().clone()
        };
        // Issuer and subject have the name; only some lengths can be met by it.
        (600..1400).map(named).rfind(|der| der.len() <= octets).unwrap()
    };
    let (within, beyond) = (of_octets(SIGNER_OCTETS_MAX), of_octets(SIGNER_OCTETS_MAX + 2));
    assert!(SIGNER_OCTETS_MAX < beyond.len(), "{}", beyond.len());
    assert!(certificate(within, 1).is_some());
    assert!(certificate(beyond, 1).is_none());
}

#[test]
fn only_files_with_the_name_of_a_key_are_read() {
    for (name, expected) in [
        ("signing-1.pem", Some(1)),
        ("signing-4294967295.pem", Some(u32::MAX)),
        ("signing-4294967296.pem", None),
        ("signing-01.pem", None),
        ("signing-+1.pem", None),
        ("signing-.pem", None),
        ("signing-1.pem.bak", None),
        ("site.db", None),
    ] {
        assert_eq!(number(name), expected, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_reach_or_that_is_a_link_is_refused() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let home = Home::new();
    let mode = fs::metadata(home.file(1)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mode_of = |mode| fs::set_permissions(home.file(1), fs::Permissions::from_mode(mode));
    for mode in [0o640, 0o604, 0o610] {
        mode_of(mode).unwrap();
        let refused = Keys::open(home.folder.path()).unwrap_err();
        assert!(matches!(refused, KeyError::Exposed { mode: it, .. } if it == mode), "{refused}");
    }
    mode_of(0o600).unwrap();
    let moved = home.folder.path().join("moved.pem");
    fs::rename(home.file(1), &moved).unwrap();
    symlink(&moved, home.file(1)).unwrap();
    let refused = Keys::open(home.folder.path()).unwrap_err();
    assert!(matches!(refused, KeyError::NotAFile { .. }), "{refused}");
}
