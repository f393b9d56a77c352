//! What a connection point publishes of its site's tokens.

use anyhow::ensure;
use bytes::Bytes;
use relay_core::config::SiteTokens;
use relay_core::settings::{BLOCKED_MAX, PublishedSigners};

use super::command::{now, prepare};
use super::store::Store as _;

/// What is published of a site's tokens at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Published {
    /// By what instances judge them.
    pub(crate) signers: PublishedSigners,
    /// Rises with each change of that, whichever process makes it: with each block and end of one,
    /// each key that comes and each that counts no more.
    pub(crate) revision: u64,
}

/// Reads what is to be published, and makes the first key and the store where neither is there.
///
/// # Errors
///
/// What cannot be used, and what to do.
pub(crate) fn published(tokens: &SiteTokens) -> anyhow::Result<Published> {
    let (mut keys, store) = prepare(tokens)?;
    if keys.is_empty() {
        keys.rotate(now()?)?;
    }
    // Before the blocks: one that comes in between is then published twice, never missed.
    let generation = store.generation()?;
    let blocked = store.blocked()?;
    ensure!(
        blocked.len() <= BLOCKED_MAX,
        "{} tokens and clients are blocked, and instances take {BLOCKED_MAX}: rotate the signing \
         key (`relay token rotate`) and unblock those whose tokens are over",
        blocked.len()
    );
    let certificates: Vec<_> =
        keys.accepted(now()?).map(|one| Bytes::copy_from_slice(&one.der)).collect();
    // A key that comes adds two and takes one away; one that goes adds one.
    let numbers = u64::from(keys.current().map_or(0, |one| one.number)) * 2;
    let revision = generation + numbers.saturating_sub(certificates.len() as u64);
    let signers = PublishedSigners { tenant: tokens.tenant, certificates, blocked };
    Ok(Published { signers, revision })
}

#[cfg(test)]
mod tests {
    use super::super::SqliteStore;
    use super::super::keys::Keys;
    use super::*;
    use crate::site::{BulkToken, new_guid};

    #[test]
    fn blocks_their_ends_and_new_keys_each_raise_the_revision() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens_in(folder.path());
        let first = published(&tokens).unwrap();
        assert_eq!((first.signers.certificates.len(), first.signers.blocked.len()), (1, 0));
        assert_eq!(published(&tokens).unwrap(), first, "nothing has changed");
        let mut store = SqliteStore::open(&folder.path().join("tokens/site.db")).unwrap();
        let (id, now) = (new_guid().unwrap(), now().unwrap());
        let token =
            BulkToken { id, issued: now, not_before: now, expires: now + 60, blocked_since: None };
        store.add_bulk_token(&token).unwrap();
        assert_eq!(published(&tokens).unwrap(), first, "what is issued is not published");
        let mut before = first.revision;
        for is_blocked in [true, false, true] {
            let change = if is_blocked { store.block(id, now) } else { store.unblock(id, now) };
            change.unwrap();
            let after = published(&tokens).unwrap();
            assert!(before < after.revision);
            assert_eq!(after.signers.blocked, if is_blocked { vec![id] } else { vec![] });
            before = after.revision;
        }
        Keys::open(&tokens.folder).unwrap().rotate(now + 1).unwrap();
        let rotated = published(&tokens).unwrap();
        assert!(before < rotated.revision);
        assert_eq!(rotated.signers.certificates.len(), 2);
        assert_eq!(rotated.signers.certificates[0], first.signers.certificates[0]);
    }

    fn tokens_in(folder: &std::path::Path) -> SiteTokens {
        let file = folder.join("connection-point.toml");
        let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let text = format!("[tokens]\nfolder = \"tokens\"\ntenant = \"{tenant}\"\n");
        std::fs::write(&file, text).unwrap();
        relay_core::config::site_tokens(&file).unwrap()
    }
}
