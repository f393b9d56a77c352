//! What a connection point publishes of its site's tokens.

use anyhow::ensure;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use relay_core::config::SiteTokens;
use relay_core::settings::{BLOCKED_MAX, PublishedSigners};

use super::command::{self, now};
use super::keys::Keys;
use super::sqlite::SqliteStore;
use super::store::{Store as _, StoreError};

/// What is published of a site's tokens at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Published {
    /// By what instances judge them; `None` if there is no key, so that none counts.
    pub(crate) signers: Option<PublishedSigners>,
    /// Rises with each change of that, whichever process makes it and however: with a block, the
    /// end of one, a key that comes or is taken away. The store keeps it.
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
    // Where keys are a store was, with its blocks: without it nothing is published.
    let mut store = match open(tokens)? {
        Some(store) => store,
        None if keys.is_empty() => return Ok(None),
        None => command::open(tokens)?,
    };
    // Its first key is about to be made.
    if keys.is_empty() && !store.was_published()? {
        return Ok(None);
    }
    let blocked = store.blocked()?;
    ensure!(
        blocked.len() <= BLOCKED_MAX,
        "{} tokens and clients are blocked, and instances take {BLOCKED_MAX}: unblock those whose \
         tokens are over (`relay token list`)",
        blocked.len()
    );
    let certificates: Vec<_> =
        keys.accepted(now()?).map(|one| Bytes::copy_from_slice(&one.der)).collect();
    let signers = PublishedSigners { tenant: tokens.tenant, certificates, blocked };
    let revision = store.publish(digest(&signers))?;
    let signers = Some(signers).filter(|it| !it.certificates.is_empty());
    Ok(Some(Published { signers, revision }))
}

/// The store, if there is one.
fn open(tokens: &SiteTokens) -> anyhow::Result<Option<SqliteStore>> {
    match command::open(tokens) {
        Ok(store) => Ok(Some(store)),
        Err(error) => match error.downcast_ref() {
            Some(StoreError::Missing { .. }) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Tells two of them apart.
fn digest(signers: &PublishedSigners) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&signers.tenant.0.to_be_bytes());
    context.update(&signers.certificates.len().to_be_bytes());
    for certificate in &signers.certificates {
        context.update(&certificate.len().to_be_bytes());
        context.update(certificate);
    }
    for blocked in &signers.blocked {
        context.update(&blocked.0.to_be_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::super::command::prepare;
    use super::*;
    use crate::site::{BulkToken, new_guid};

    #[test]
    fn blocks_their_ends_and_new_keys_each_raise_the_revision() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens_in(folder.path());
        let published = |tokens| published(tokens).unwrap().unwrap();
        assert!(super::published(&tokens).unwrap().is_none(), "no token was made");
        let (mut keys, _) = prepare(&tokens).unwrap();
        assert!(super::published(&tokens).unwrap().is_none(), "no key was made");
        keys.rotate(now().unwrap()).unwrap();
        let first = published(&tokens);
        let signers = |it: &Published| it.signers.clone().unwrap();
        assert_eq!((signers(&first).certificates.len(), signers(&first).blocked.len()), (1, 0));
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
            assert_eq!(signers(&after).blocked, if is_blocked { vec![id] } else { vec![] });
            before = after.revision;
        }
        Keys::open(&tokens.folder).unwrap().rotate(now + 1).unwrap();
        let rotated = published(&tokens);
        assert!(before < rotated.revision);
        assert_eq!(signers(&rotated).certificates.len(), 2);
        assert_eq!(signers(&rotated).certificates[0], signers(&first).certificates[0]);
        // A key that was stolen is taken away: what is left is published as something new.
        let mut before = rotated.revision;
        for (file, left) in [("signing-2.pem", Some(1)), ("signing-1.pem", None)] {
            std::fs::remove_file(tokens.folder.join(file)).unwrap();
            let now = published(&tokens);
            assert_eq!(now.signers.map(|it| it.certificates.len()), left, "{file}");
            assert!(before < now.revision, "{file}");
            before = now.revision;
        }
        prepare(&tokens).unwrap().0.rotate(super::now().unwrap()).unwrap();
        assert!(before < published(&tokens).revision);
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
