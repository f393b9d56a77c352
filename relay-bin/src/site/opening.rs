//! Which store a site has, and how keys and store come together.

use std::path::PathBuf;

use anyhow::Context as _;
use relay_core::config::{SiteStore, SiteTokens};

use super::files;
use super::keys::{Fresh, Keys, Signer};
use super::place::Place;
#[cfg(feature = "postgres")]
use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;
use super::store::{KnownSigner, Store, StoreError};

/// The store in the folder of a site.
const STORE: &str = "site.db";

/// Keys and store of a site. Where there are keys a store was, with its blocks: it is not made
/// anew. A site without either is given a folder and an empty store.
///
/// # Errors
///
/// What cannot be used, and what to do.
pub(super) fn prepare(tokens: &SiteTokens, now: u64) -> anyhow::Result<(Keys, Box<dyn Store>)> {
    let keys = Keys::open(&tokens.folder)?;
    if !keys.is_empty() {
        let mut store = open(tokens)?;
        remember(&keys, store.as_mut(), now)?;
        return Ok((keys, store));
    }
    files::make_folder(&tokens.folder)
        .with_context(|| format!("cannot make the folder {}", tokens.folder.display()))?;
    Ok((keys, create(tokens)?))
}

fn create(tokens: &SiteTokens) -> Result<Box<dyn Store>, StoreError> {
    match &tokens.store {
        #[cfg(feature = "postgres")]
        SiteStore::Postgres(server) => Ok(Box::new(PostgresStore::create(server)?)),
        #[cfg(not(feature = "postgres"))]
        SiteStore::Postgres(_) => Err(StoreError::Unsupported { place: place(tokens) }),
        _ => Ok(Box::new(SqliteStore::create(&file(tokens))?)),
    }
}

/// Opens the store that is there.
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn open(tokens: &SiteTokens) -> Result<Box<dyn Store>, StoreError> {
    match &tokens.store {
        #[cfg(feature = "postgres")]
        SiteStore::Postgres(server) => Ok(Box::new(PostgresStore::open(server)?)),
        #[cfg(not(feature = "postgres"))]
        SiteStore::Postgres(_) => Err(StoreError::Unsupported { place: place(tokens) }),
        _ => Ok(Box::new(SqliteStore::open(&file(tokens))?)),
    }
}

/// Opens the store that is there for what changes nothing.
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn open_to_read(tokens: &SiteTokens) -> Result<Box<dyn Store>, StoreError> {
    match &tokens.store {
        SiteStore::File => Ok(Box::new(SqliteStore::open_to_read(&file(tokens))?)),
        _ => open(tokens),
    }
}

/// What signs at `now`. The store knows it then, so that every connection point publishes it.
///
/// # Errors
///
/// What cannot be used, and what to do.
pub(crate) fn signer(keys: &Keys, store: &mut dyn Store, now: u64) -> anyhow::Result<Signer> {
    remember(keys, store, now)?;
    Ok(keys.trusted_signer(&store.signers()?, now)?)
}

/// Has another key sign from `now` on: first the store knows of it, so that every connection point
/// publishes it, then it has its place, and last the key of before is taken away. Whatever fails on
/// the way, or crashes, there is a key that signs and is known. Returns what an administrator has
/// to be warned of: leavings that harm nothing.
///
/// # Errors
///
/// What cannot be used, and what to do; then the key of before goes on.
pub(super) fn rotate(
    keys: &mut Keys,
    store: &mut dyn Store,
    now: u64,
) -> anyhow::Result<Vec<String>> {
    let fresh = keys.make(now)?;
    install(keys, store, fresh, now)
}

fn install(
    keys: &mut Keys,
    store: &mut dyn Store,
    fresh: Fresh,
    now: u64,
) -> anyhow::Result<Vec<String>> {
    let known = fresh.known();
    store.add_signer(&known, now)?;
    if let Err(error) = keys.put(fresh) {
        // It has signed nothing, and must not take the place of one that does. Where that fails as
        // well, `relay token signers` shows it.
        let _ = store.distrust(known.thumbprint, now);
        return Err(error.into());
    }
    let left = [keys.retire(now).map_err(Into::into), remember(keys, store, now)];
    Ok(left.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect())
}

/// Tells the store of the signing certificates in this connection point's folder, if it does not
/// know them.
///
/// # Errors
///
/// As [`Store::add_signer`].
pub(super) fn remember(keys: &Keys, store: &mut dyn Store, now: u64) -> anyhow::Result<()> {
    let signers = store.signers()?;
    for own in keys.known(now) {
        let is_known =
            |it: &KnownSigner| it.thumbprint == own.thumbprint && it.signs_until <= own.signs_until;
        if !signers.iter().any(is_known) {
            store.add_signer(&own, now)?;
        }
    }
    Ok(())
}

/// What the store is called in errors.
pub(super) fn place(tokens: &SiteTokens) -> String {
    match &tokens.store {
        SiteStore::Postgres(server) => server.to_string(),
        _ => file(tokens).display().to_string(),
    }
}

/// What stands at the path of the store, if it is a file and there.
pub(super) fn file_there(tokens: &SiteTokens) -> Option<Place> {
    match &tokens.store {
        SiteStore::File => Place::of(&file(tokens)).ok(),
        _ => None,
    }
}

fn file(tokens: &SiteTokens) -> PathBuf {
    tokens.folder.join(STORE)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::site::keys::KeyError;
    use crate::site::keys::tests::{START, put_first};
    use crate::site::store::ChangeError;

    /// A site with a key that its store knows.
    fn home() -> (tempfile::TempDir, SiteTokens, Keys, Box<dyn Store>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("connection-point.toml");
        let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let text = format!("[tokens]\nfolder = \"tokens\"\ntenant = \"{tenant}\"\n");
        fs::write(&file, text).unwrap();
        let tokens = relay_core::config::site_tokens(&file).unwrap();
        let (_, mut store) = prepare(&tokens, START).unwrap();
        put_first(&tokens.folder);
        let keys = Keys::open(&tokens.folder).unwrap();
        remember(&keys, store.as_mut(), START).unwrap();
        (folder, tokens, keys, store)
    }

    fn second(tokens: &SiteTokens) -> PathBuf {
        tokens.folder.join("signing-2.pem")
    }

    fn states(store: &dyn Store) -> Vec<bool> {
        store.signers().unwrap().iter().map(|it| it.distrusted_since.is_some()).collect()
    }

    #[test]
    fn another_key_is_known_signs_and_the_one_before_has_none() {
        let (_folder, tokens, mut keys, mut store) = home();
        let first = keys.current().cloned();
        assert_eq!(rotate(&mut keys, store.as_mut(), START + 9).unwrap(), [""; 0]);
        let again = Keys::open(&tokens.folder).unwrap();
        assert_eq!(again.all(), keys.all());
        assert_eq!(again.all().first(), first.as_ref());
        drop(signer(&again, store.as_mut(), START + 9).unwrap());
        let until: Vec<_> = store.signers().unwrap().iter().map(|it| it.signs_until).collect();
        assert_eq!(until, [START + 9, START + 9 + crate::site::keys::LIFE]);
        let text = fs::read_to_string(tokens.folder.join("signing-1.pem")).unwrap();
        assert!(!text.contains("PRIVATE"));
    }

    #[test]
    fn a_store_without_room_for_another_certificate_changes_no_key() {
        let (_folder, tokens, mut keys, mut store) = home();
        let one = |number| KnownSigner {
            thumbprint: [number; 32],
            certificate: vec![number; 8],
            signs_until: START + 60,
            distrusted_since: None,
        };
        for number in 1..16 {
            store.add_signer(&one(number), START).unwrap();
        }
        let refused = rotate(&mut keys, store.as_mut(), START + 1).unwrap_err();
        let why = refused.downcast_ref();
        assert!(matches!(why, Some(ChangeError::TooManySigners { max: 16 })), "{refused}");
        assert!(!second(&tokens).exists());
        let names = fs::read_dir(&tokens.folder).unwrap().map(|it| it.unwrap().file_name());
        let mut names = names.map(|name| name.into_string().unwrap());
        assert!(!names.any(|name| name.starts_with(".relay")), "nothing half made is left");
        let mut keys = Keys::open(&tokens.folder).unwrap();
        drop(signer(&keys, store.as_mut(), START + 1).unwrap());

        // As many as may be.
        store.distrust([1; 32], START).unwrap();
        rotate(&mut keys, store.as_mut(), START + 1).unwrap();
        assert!(second(&tokens).exists());
    }

    #[test]
    fn a_crash_between_store_and_folder_leaves_the_key_of_before_signing() {
        let (_folder, tokens, keys, mut store) = home();
        let fresh = keys.make(START + 1).unwrap();
        store.add_signer(&fresh.known(), START + 1).unwrap();
        drop((fresh, keys));
        let mut keys = Keys::open(&tokens.folder).unwrap();
        drop(signer(&keys, store.as_mut(), START + 1).unwrap());
        rotate(&mut keys, store.as_mut(), START + 2).unwrap();
        drop(signer(&keys, store.as_mut(), START + 2).unwrap());
        assert_eq!(states(store.as_ref()), [false; 3]);
    }

    #[test]
    fn a_crash_before_the_key_of_before_is_taken_away_leaves_the_new_one_signing() {
        let (_folder, tokens, mut keys, mut store) = home();
        let fresh = keys.make(START + 1).unwrap();
        store.add_signer(&fresh.known(), START + 1).unwrap();
        keys.put(fresh).unwrap();
        let mut keys = Keys::open(&tokens.folder).unwrap();
        assert_eq!(keys.current().unwrap().number, 2);
        drop(signer(&keys, store.as_mut(), START + 1).unwrap());
        rotate(&mut keys, store.as_mut(), START + 2).unwrap();
        for number in [1, 2] {
            let file = tokens.folder.join(format!("signing-{number}.pem"));
            assert!(!fs::read_to_string(file).unwrap().contains("PRIVATE"), "{number}");
        }
    }

    #[test]
    fn a_key_that_finds_its_place_taken_counts_for_nothing() {
        let (_folder, tokens, mut keys, mut store) = home();
        let fresh = keys.make(START + 1).unwrap();
        fs::write(second(&tokens), "another's").unwrap();
        let refused = install(&mut keys, store.as_mut(), fresh, START + 1).unwrap_err();
        assert!(matches!(refused.downcast_ref(), Some(KeyError::Taken { .. })), "{refused}");
        assert_eq!(states(store.as_ref()), [false, true], "it leaves its room to others");
        assert!(rotate(&mut keys, store.as_mut(), START + 1).is_err());
        assert_eq!(states(store.as_ref()).len(), 2, "who is late is not even added");
        assert_eq!(fs::read_to_string(second(&tokens)).unwrap(), "another's");
    }
}
