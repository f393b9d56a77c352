//! What a connection point publishes of its site's tokens.

use anyhow::ensure;
use bytes::Bytes;
use relay_core::config::SiteTokens;
use relay_core::settings::{BLOCKED_MAX, PublishedSigners};

use super::command::{now, open};
use super::keys::Keys;
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

/// Reads what is to be published; `None` while the site has made no token, so that connection
/// points of a site that makes none all publish the same.
///
/// # Errors
///
/// What cannot be used, and what to do.
pub(crate) fn published(tokens: &SiteTokens) -> anyhow::Result<Option<Published>> {
    let keys = Keys::open(&tokens.folder)?;
    let Some(current) = keys.current() else { return Ok(None) };
    // Where keys are a store was, with its blocks: without it nothing is published.
    let store = open(tokens)?;
    // Before the blocks: one that comes in between is then published twice, never missed.
    let generation = store.generation()?;
    let blocked = store.blocked()?;
    ensure!(
        blocked.len() <= BLOCKED_MAX,
        "{} tokens and clients are blocked, and instances take {BLOCKED_MAX}: unblock those whose \
         tokens are over (`relay token list`)",
        blocked.len()
    );
    let certificates: Vec<_> =
        keys.accepted(now()?).map(|one| Bytes::copy_from_slice(&one.der)).collect();
    // A key that comes adds two and takes one away; one that goes adds one.
    let numbers = u64::from(current.number) * 2;
    let revision = generation + numbers.saturating_sub(certificates.len() as u64);
    let signers = PublishedSigners { tenant: tokens.tenant, certificates, blocked };
    Ok(Some(Published { signers, revision }))
}

#[cfg(test)]
mod tests {
    use super::super::SqliteStore;
    use super::super::command::prepare;
    use super::*;
    use crate::site::{BulkToken, new_guid};

    #[test]
    fn blocks_their_ends_and_new_keys_each_raise_the_revision() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens_in(folder.path());
        let published = |tokens| published(tokens).unwrap().unwrap();
        assert!(super::published(&tokens).unwrap().is_none(), "no token was made");
        prepare(&tokens).unwrap().0.rotate(now().unwrap()).unwrap();
        let first = published(&tokens);
        assert_eq!((first.signers.certificates.len(), first.signers.blocked.len()), (1, 0));
        assert_eq!(published(&tokens), first, "nothing has changed");
        let mut store = SqliteStore::open(&folder.path().join("tokens/site.db")).unwrap();
        let (id, now) = (new_guid().unwrap(), now().unwrap());
        let token =
            BulkToken { id, issued: now, not_before: now, expires: now + 60, blocked_since: None };
        store.add_bulk_token(&token).unwrap();
        assert_eq!(published(&tokens), first, "what is issued is not published");
        let mut before = first.revision;
        for is_blocked in [true, false, true] {
            let change = if is_blocked { store.block(id, now) } else { store.unblock(id, now) };
            change.unwrap();
            let after = published(&tokens);
            assert!(before < after.revision);
            assert_eq!(after.signers.blocked, if is_blocked { vec![id] } else { vec![] });
            before = after.revision;
        }
        Keys::open(&tokens.folder).unwrap().rotate(now + 1).unwrap();
        let rotated = published(&tokens);
        assert!(before < rotated.revision);
        assert_eq!(rotated.signers.certificates.len(), 2);
        assert_eq!(rotated.signers.certificates[0], first.signers.certificates[0]);
        drop(store);
        std::fs::remove_file(folder.path().join("tokens/site.db")).unwrap();
        assert!(super::published(&tokens).is_err(), "blocks that are lost are not passed over");
    }

    fn tokens_in(folder: &std::path::Path) -> SiteTokens {
        let file = folder.join("connection-point.toml");
        let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let text = format!("[tokens]\nfolder = \"tokens\"\ntenant = \"{tenant}\"\n");
        std::fs::write(&file, text).unwrap();
        relay_core::config::site_tokens(&file).unwrap()
    }
}
