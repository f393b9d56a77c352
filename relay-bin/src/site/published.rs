//! What a connection point publishes of its site's tokens.

use std::time::{Duration, Instant};

use anyhow::ensure;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use relay_core::auth::Guid;
use relay_core::config::SiteTokens;
use relay_core::settings::{BLOCKED_MAX, PublishedSigners};

use super::command::now;
use super::keys::{KeyError, Keys, SigningCertificate};
use super::opening;
use super::store::{Content, Digest, Mark, Store, StoreError};

/// How long what was read counts while nothing has changed: what ends by itself is seen then.
const READ_EVERY_SECONDS: u64 = 60;

/// What a look has found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Looked {
    /// `None` while the site has made no token, so that connection points of a site that makes none
    /// all publish the same.
    pub(crate) published: Option<PublishedSigners>,
    /// Why this connection point's own keys cannot be used, or be made known to the others. What is
    /// published comes from the store and does not wait for them.
    pub(crate) key_fault: Option<String>,
    /// Until when this connection point's key signs, in seconds since 1970 UTC, if it has one.
    pub(crate) signing_ends: Option<u64>,
}

/// What has been read last, and of what.
struct Read {
    mark: Mark,
    /// `None` if they could not be used.
    keys: Option<Vec<SigningCertificate>>,
    /// When, in seconds since 1970 UTC.
    at: u64,
    looked: Looked,
}

/// A store, and what tells whether it has changed.
type Opened = (Box<dyn Store>, Mark);

/// Looks at the keys and the store of a site, again and again, through one connection to the store.
///
/// Methods block, as those of [`Store`] do.
pub(crate) struct Watch {
    tokens: SiteTokens,
    /// Open while it works. What has failed is opened anew, with all that is looked at then.
    store: Option<Box<dyn Store>>,
    read: Option<Read>,
    /// When it first looked, and what this machine's clock said then.
    began: Option<(Instant, u64)>,
    /// The highest there ever was: a store with less has lost blocks.
    generation: u64,
    /// What was published last, through whichever store.
    last: Option<PublishedSigners>,
}

impl Watch {
    /// Looks at nothing yet.
    pub(crate) fn new(tokens: SiteTokens) -> Self {
        Self { tokens, store: None, read: None, began: None, generation: 0, last: None }
    }

    /// Reads what is to be published. Asks for little while nothing has changed. Another store in
    /// the place of the one before is noticed, and one that holds less refused. Keys that cannot be
    /// used keep no block from being published.
    ///
    /// # Errors
    ///
    /// The store cannot be used, and what to do.
    pub(crate) fn look(&mut self) -> anyhow::Result<Looked> {
        let (wall, now) = (now()?, Instant::now());
        let (began, _) = *self.began.get_or_insert((now, wall));
        self.look_after(wall, now.saturating_duration_since(began))
    }

    /// Looks with a clock that says `wall`, so long after the first look.
    fn look_after(&mut self, wall: u64, elapsed: Duration) -> anyhow::Result<Looked> {
        // What is over by a clock that was set ahead counts still for everybody else: its block
        // ends no earlier than time has really passed.
        let at_start = self.began.map_or(wall, |(_, wall)| wall);
        self.look_at(wall.min(at_start.saturating_add(elapsed.as_secs())))
    }

    fn look_at(&mut self, now: u64) -> anyhow::Result<Looked> {
        let keys = Keys::open(&self.tokens.folder);
        let looked = self.judge(&keys, now);
        if looked.is_err() {
            (self.store, self.read) = (None, None);
        }
        looked
    }

    fn judge(&mut self, keys: &Result<Keys, KeyError>, now: u64) -> anyhow::Result<Looked> {
        let (mut store, mark) = match self.open()? {
            Some(opened) => opened,
            // Where keys are a store was, with its blocks: without it nothing is published.
            None if keys.as_ref().is_ok_and(Keys::is_empty) && self.last.is_none() => {
                return Ok(Looked::default());
            }
            None => return Err(StoreError::Missing { place: self.place() }.into()),
        };
        let all = keys.as_ref().ok().map(Keys::all);
        let is_current = |it: &&Read| {
            let is_same = it.mark == mark && it.keys.as_deref() == all;
            is_same && (it.at..it.at.saturating_add(READ_EVERY_SECONDS)).contains(&now)
        };
        let held = self.read.as_ref().filter(is_current).map(|read| read.looked.clone());
        let is_held = held.is_some();
        let mut looked = match held {
            Some(looked) => looked,
            None => self.read(store.as_mut(), keys.as_ref().ok(), now)?,
        };
        if let Err(fault) = keys {
            looked.key_fault = Some(fault.to_string());
        }
        if !is_held {
            let keys = all.map(<[_]>::to_vec);
            self.read = Some(Read { mark, keys, at: now, looked: looked.clone() });
        }
        self.store = Some(store);
        Ok(looked)
    }

    /// The store, if there is one, and what tells whether it has changed.
    fn open(&mut self) -> Result<Option<Opened>, StoreError> {
        let open = self.store.take().map(|mut store| store.mark().map(|mark| (store, mark)));
        match open {
            Some(Ok(open)) => return Ok(Some(open)),
            Some(Err(StoreError::Replaced { .. })) | None => {}
            Some(Err(error)) => return Err(error),
        }
        self.read = None;
        match opening::open(&self.tokens) {
            Ok(mut store) => store.mark().map(|mark| Some((store, mark))),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(
        &mut self,
        store: &mut dyn Store,
        keys: Option<&Keys>,
        now: u64,
    ) -> anyhow::Result<Looked> {
        // Before anything is written to it.
        let (generation, revision) = (store.generation()?, store.revision()?);
        if generation < self.generation || revision < self.last.as_ref().map(|it| it.revision) {
            return Err(StoreError::Older { place: self.place() }.into());
        }
        // The certificates of before are in the store: blocks do not wait for another one.
        let remembered = keys.map_or(Ok(()), |keys| opening::remember(keys, store, now));
        let signing_ends = keys.and_then(Keys::signing_ends);
        let key_fault = remembered.err().map(|error| format!("{error:#}"));
        // Its first key is about to be made.
        if revision.is_none() && store.signers()?.is_empty() {
            return Ok(Looked { published: None, key_fault, signing_ends });
        }
        let tenant = self.tokens.tenant;
        let (content, revision) = store.publish(now, &|content| digest(tenant, content))?;
        ensure!(
            content.blocked.len() <= BLOCKED_MAX,
            "{} tokens and clients are blocked whose time is not over, and instances take \
             {BLOCKED_MAX}: unblock what need not be (`relay token list`)",
            content.blocked.len()
        );
        let certificates: Vec<_> = content.certificates.into_iter().map(Bytes::from).collect();
        let blocked = content.blocked;
        let published = Some(PublishedSigners { tenant, revision, certificates, blocked });
        let is_same = self.last.as_ref().is_some_and(|it| it.revision == revision);
        if is_same && self.last != published {
            return Err(StoreError::Older { place: self.place() }.into());
        }
        (self.generation, self.last) = (generation, published.clone());
        Ok(Looked { published, key_fault, signing_ends })
    }

    fn place(&self) -> String {
        opening::place(&self.tokens)
    }
}

/// Tells two contents apart.
fn digest(tenant: Guid, content: &Content) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(&tenant.0.to_be_bytes());
    hash.update(&content.certificates.len().to_be_bytes());
    for certificate in &content.certificates {
        hash.update(&certificate.len().to_be_bytes());
        hash.update(certificate);
    }
    for blocked in &content.blocked {
        hash.update(&blocked.0.to_be_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::site::keys::LIFE;
    use crate::site::keys::tests::{START, put_first, rotate};
    use crate::site::opening::prepare;
    use crate::site::store::{KnownSigner, OVER_AFTER};
    use crate::site::{BulkToken, new_guid};

    /// A site with a key, and who looks at it.
    struct Home {
        folder: tempfile::TempDir,
        tokens: SiteTokens,
        watch: Watch,
    }

    impl Home {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("connection-point.toml");
            let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
            let text = format!("[tokens]\nfolder = \"tokens\"\ntenant = \"{tenant}\"\n");
            fs::write(&file, text).unwrap();
            let tokens = relay_core::config::site_tokens(&file).unwrap();
            let watch = Watch::new(tokens.clone());
            Self { folder, tokens, watch }
        }

        /// With the store and the first key.
        fn with_key() -> Self {
            let home = Self::new();
            drop(prepare(&home.tokens, START).unwrap());
            put_first(&home.tokens.folder);
            home
        }

        fn store(&self) -> Box<dyn Store> {
            opening::open(&self.tokens).unwrap()
        }

        fn file(&self) -> std::path::PathBuf {
            self.tokens.folder.join("site.db")
        }

        fn look(&mut self) -> PublishedSigners {
            self.watch.look_at(START).unwrap().published.unwrap()
        }

        fn refusal(&mut self) -> String {
            format!("{:#}", self.watch.look_at(START).unwrap_err())
        }

        /// Makes a token, and blocks it.
        fn block(&self) -> Guid {
            let (mut store, id) = (self.store(), new_guid().unwrap());
            let (issued, expires) = (START, START + 60);
            let token = BulkToken { id, issued, not_before: issued, expires, blocked_since: None };
            store.add_bulk_token(&token).unwrap();
            store.block(id, START).unwrap();
            id
        }
    }

    fn copy(from: &Path, to: &Path) {
        // As a backup is made: nothing stands beside it.
        rusqlite::Connection::open(from)
            .and_then(|it| it.execute("VACUUM INTO ?1", [to.to_str().unwrap()]))
            .unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(to, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    fn counts(published: &PublishedSigners) -> (usize, usize) {
        (published.certificates.len(), published.blocked.len())
    }

    #[test]
    fn nothing_is_published_before_the_first_key_is_made() {
        let mut home = Home::new();
        assert!(home.watch.look_at(START).unwrap().published.is_none(), "no token was made");
        drop(prepare(&home.tokens, START).unwrap());
        assert!(home.watch.look_at(START).unwrap().published.is_none(), "no key was made");
        put_first(&home.tokens.folder);
        assert_eq!(counts(&home.look()), (1, 0));
    }

    #[test]
    fn blocks_new_keys_and_distrusted_ones_each_raise_the_revision() {
        let mut home = Home::with_key();
        let first = home.look();
        assert_eq!(home.look(), first, "nothing has changed");
        let id = home.block();
        let blocked = home.look();
        assert!(first.revision < blocked.revision);
        assert_eq!(blocked.blocked, [id]);
        let over = home.watch.look_at(START + 61 + OVER_AFTER).unwrap().published.unwrap();
        assert!(blocked.revision < over.revision, "it is read again though nothing has changed");
        assert_eq!(counts(&over), (1, 0));
        assert_eq!(counts(&home.look()), (1, 1), "a clock that is set back");
        let before = home.look();
        rotate(&mut Keys::open(&home.tokens.folder).unwrap(), START + 1);
        let rotated = home.look();
        assert!(before.revision < rotated.revision);
        let signers = |it: &PublishedSigners| it.certificates.clone();
        assert_eq!(signers(&rotated).len(), 2);
        assert_eq!(signers(&rotated)[0], signers(&first)[0]);

        // Of a key that was stolen nothing counts; the file alone is no matter.
        fs::remove_file(home.tokens.folder.join("signing-1.pem")).unwrap();
        assert_eq!(signers(&home.look()).len(), 2);
        let known = home.store().signers().unwrap();
        let mut before = rotated.revision;
        for (signer, left) in [(&known[0], (1, 1)), (&known[1], (0, 1))] {
            home.store().distrust(signer.thumbprint, START).unwrap();
            let now = home.look();
            assert_eq!(counts(&now), left);
            assert!(before < now.revision);
            before = now.revision;
        }
        let keys = Keys::open(&home.tokens.folder).unwrap();
        let refused = opening::signer(&keys, home.store().as_mut(), START + 1).err().unwrap();
        assert!(refused.to_string().contains("is distrusted"), "{refused}");
    }

    /// Blocks are published with whatever keys `spoil` leaves, and the `fault` is told beside them.
    fn assert_published_beside(fault: &str, spoil: impl FnOnce(&Home)) {
        let mut home = Home::with_key();
        let before = home.look();
        spoil(&home);
        let beside = home.watch.look_at(START).unwrap();
        assert!(beside.key_fault.as_ref().is_some_and(|it| it.contains(fault)), "{beside:?}");
        let id = home.block();
        for _ in 0..2 {
            let looked = home.watch.look_at(START).unwrap();
            assert!(looked.key_fault.is_some_and(|it| it.contains(fault)), "{fault}");
            let published = looked.published.unwrap();
            assert!(before.revision < published.revision);
            assert_eq!(published.blocked, [id]);
            let whole = published.certificates.starts_with(&before.certificates);
            assert!(whole, "what counted still does");
        }
        // Whoever starts anew publishes it too.
        let anew = Watch::new(home.tokens.clone()).look_at(START).unwrap();
        assert_eq!(anew.published.unwrap().blocked, [id]);
    }

    fn first_key(home: &Home) -> std::path::PathBuf {
        home.tokens.folder.join("signing-1.pem")
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_keeps_no_block_from_being_published() {
        use std::os::unix::fs::PermissionsExt as _;
        assert_published_beside("has permissions 0644", |home| {
            fs::set_permissions(first_key(home), fs::Permissions::from_mode(0o644)).unwrap();
        });
    }

    #[test]
    fn a_key_that_is_cut_keeps_no_block_from_being_published() {
        assert_published_beside("holds no certificate of RSA", |home| {
            fs::File::options()
                .write(true)
                .open(first_key(home))
                .and_then(|it| it.set_len(100))
                .unwrap();
        });
    }

    #[test]
    fn a_certificate_more_than_can_be_told_of_keeps_no_block_from_being_published() {
        assert_published_beside("16 signing certificates count", |home| {
            let mut store = home.store();
            for number in 1..16 {
                let certificate = vec![number; 8];
                let (thumbprint, signs_until) = ([number; 32], START + 60);
                let signer =
                    KnownSigner { thumbprint, certificate, signs_until, distrusted_since: None };
                store.add_signer(&signer, START).unwrap();
            }
            // As whoever makes one before it is remembered, and finds no room for it.
            rotate(&mut Keys::open(&home.tokens.folder).unwrap(), START + 1);
        });
    }

    #[test]
    fn keys_that_can_be_used_again_are_told_of_no_more() {
        let mut home = Home::with_key();
        let whole = home.watch.look_at(START).unwrap();
        assert_eq!((&whole.key_fault, whole.signing_ends), (&None, Some(START + LIFE)));
        let text = fs::read(first_key(&home)).unwrap();
        fs::File::options()
            .write(true)
            .open(first_key(&home))
            .and_then(|it| it.set_len(0))
            .unwrap();
        let beside = home.watch.look_at(START).unwrap();
        assert!(beside.key_fault.is_some() && beside.signing_ends.is_none());
        assert_eq!(beside.published, whole.published);
        fs::write(first_key(&home), text).unwrap();
        assert_eq!(home.watch.look_at(START).unwrap(), whole);
    }

    #[test]
    fn a_clock_that_is_set_ahead_ends_no_block_before_its_time() {
        let mut home = Home::with_key();
        home.watch.began = Some((Instant::now(), START));
        let id = home.block();
        let over = 61 + OVER_AFTER;
        let mut blocked = |wall, elapsed| {
            let looked = home.watch.look_after(wall, Duration::from_secs(elapsed)).unwrap();
            looked.published.unwrap().blocked
        };
        assert_eq!(blocked(START + over, 1), [id], "the clock alone has moved");
        assert_eq!(blocked(START + 400 * 86_400, over - 1), [id]);
        assert_eq!(blocked(START + over - 1, over), [id], "a clock that was set back");
        let later = over + READ_EVERY_SECONDS;
        assert_eq!(blocked(START + later, later), [], "both say so");
    }

    #[test]
    fn a_store_that_is_gone_is_told_of_and_its_blocks_hold_when_it_is_back() {
        let mut home = Home::with_key();
        home.block();
        let before = home.look();
        let away = home.folder.path().join("away");
        fs::rename(&home.tokens.folder, &away).unwrap();
        assert!(home.refusal().starts_with("there is no site store at "));
        assert!(home.refusal().starts_with("there is no site store at "), "it is said again");
        fs::rename(&away, &home.tokens.folder).unwrap();
        assert_eq!(home.look(), before);
    }

    #[test]
    fn a_copy_of_the_store_is_taken_and_an_older_one_or_one_made_anew_refused() {
        let mut home = Home::with_key();
        let (older, newest) = (home.folder.path().join("older"), home.folder.path().join("newest"));
        home.look();
        copy(&home.file(), &older);
        home.block();
        let before = home.look();
        copy(&home.file(), &newest);
        let put = |home: &Home, from: &Path| {
            for file in ["site.db-wal", "site.db-shm"] {
                let _ = fs::remove_file(home.tokens.folder.join(file));
            }
            fs::copy(from, home.tokens.folder.join("new")).unwrap();
            fs::rename(home.tokens.folder.join("new"), home.file()).unwrap();
        };
        put(&home, &newest);
        assert_eq!(home.look(), before, "it holds the same");
        home.block();
        let newer = home.look();
        assert!(before.revision < newer.revision, "the copy is looked at from now on");
        for refused in [&older, &newest] {
            put(&home, refused);
            let refusal = home.refusal();
            assert!(refusal.contains("was replaced by an older one"), "{refusal}");
            assert_eq!(home.refusal(), refusal, "it is not passed over the next time");
        }
        fs::remove_file(home.file()).unwrap();
        drop(crate::site::sqlite::SqliteStore::create(&home.file()).unwrap());
        let refusal = home.refusal();
        assert!(refusal.contains("was replaced by an older one"), "{refusal}");
        let anew = Watch::new(home.tokens.clone()).look_at(START).unwrap();
        assert_eq!(counts(&anew.published.unwrap()), (1, 0));
    }
}
