//! Which store a site has, and how keys and store come together.

use std::path::PathBuf;

use anyhow::Context as _;
use relay_core::config::{SiteStore, SiteTokens};

use super::files;
use super::keys::{Keys, Signer};
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
