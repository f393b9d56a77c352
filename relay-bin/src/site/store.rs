//! What a site remembers of its tokens and of the clients it has registered.

use relay_core::auth::Guid;

/// A bulk registration token as it is remembered: never the token itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BulkToken {
    /// What it is listed and blocked by: claim `UniqueId`.
    pub(crate) id: Guid,
    /// When it was made, in seconds since 1970 UTC, as are all times here.
    pub(crate) issued: u64,
    /// From when it counts.
    pub(crate) not_before: u64,
    /// Until when it counts.
    pub(crate) expires: u64,
    /// Since when it is blocked, if it is.
    pub(crate) blocked_since: Option<u64>,
}

/// How a client came to be registered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Registration {
    /// On the internal network, where no token is asked for.
    Intranet,
    /// By this bulk token.
    BulkToken(Guid),
}

/// A client that the site has registered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Client {
    /// What it is called and blocked by.
    pub(crate) id: Guid,
    /// SHA-256 thumbprint of the certificate that its token is bound to.
    pub(crate) certificate: [u8; 32],
    /// When it was registered.
    pub(crate) registered: u64,
    /// When it was last given a token; at first when it was registered.
    pub(crate) renewed: u64,
    /// Until when the last token it was given counts.
    pub(crate) token_expires: u64,
    /// How it was registered.
    pub(crate) registration: Registration,
    /// Since when it is blocked, if it is.
    pub(crate) blocked_since: Option<u64>,
}

/// What a block, or the end of one, has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// It is as asked for from now on.
    Made,
    /// It was so already; nothing was written.
    None,
}

/// Where a site remembers. Whatever a method has returned `Ok` for is on the disk: no crash takes
/// it back. Each change is made as a whole or not at all.
///
/// Methods block, for up to 5 s while another process writes. There is one writer at a time, so a
/// role keeps its store on a thread of its own.
pub(crate) trait Store: Send {
    /// Remembers a bulk token before it is handed out, as not blocked.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Known`] if there is one with this GUID, or a client; [`ChangeError::Store`].
    fn add_bulk_token(&mut self, token: &BulkToken) -> Result<(), ChangeError>;

    /// All bulk tokens, the last one issued first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn bulk_tokens(&self) -> Result<Vec<BulkToken>, StoreError>;

    /// Registers a client, or registers it anew: then all but its block is replaced. Whether one
    /// may be registered anew, and by whom, is not decided here. No two clients have one
    /// certificate, whichever connection point registers them.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Registered`] if another client has its certificate,
    /// [`ChangeError::Blocked`] if the client or the bulk token it comes with is blocked,
    /// [`ChangeError::Unknown`] if no such bulk token was issued, [`ChangeError::Known`] if a bulk
    /// token has the client's GUID; [`ChangeError::Store`].
    fn register(&mut self, client: &Client) -> Result<(), ChangeError>;

    /// Remembers that a client was given a newer token at `renewed`.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unknown`], [`ChangeError::Blocked`], [`ChangeError::Store`].
    fn renew(&mut self, client: Guid, renewed: u64, token_expires: u64) -> Result<(), ChangeError>;

    /// A client, if it is registered.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn client(&self, id: Guid) -> Result<Option<Client>, StoreError>;

    /// The client that has registered with the certificate of this SHA-256 thumbprint.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn client_of(&self, certificate: [u8; 32]) -> Result<Option<Client>, StoreError>;

    /// All clients, the last one registered first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn clients(&self) -> Result<Vec<Client>, StoreError>;

    /// Blocks a bulk token or client from `now` on.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unknown`] if there is neither; [`ChangeError::Store`].
    fn block(&mut self, id: Guid, now: u64) -> Result<Change, ChangeError>;

    /// Ends the block of a bulk token or client.
    ///
    /// # Errors
    ///
    /// As [`Store::block`].
    fn unblock(&mut self, id: Guid, now: u64) -> Result<Change, ChangeError>;

    /// All that is blocked, tokens and clients, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn blocked(&self) -> Result<Vec<Guid>, StoreError>;

    /// The number of what is published with this digest: of the last time, if that was the same,
    /// else a new one, which is higher than all before.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn publish(&mut self, digest: [u8; 32]) -> Result<u64, StoreError>;

    /// Whether anything was ever published.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn was_published(&self) -> Result<bool, StoreError>;

    /// A number that rises with each block and each end of one, whichever process makes it, and
    /// never falls. Whoever watches asks for it before [`Store::blocked`]: what is blocked in
    /// between is then seen twice, never missed.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    #[allow(dead_code, reason = "what is published is compared as a whole")]
    fn generation(&self) -> Result<u64, StoreError>;
}

/// Why the store cannot be used. `place` is its file, or where else it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// Nothing is there.
    #[error(
        "there is no site store at {place}; `relay token new` makes it with the first token. If \
         there was one, restore it from a backup, with all its blocks"
    )]
    Missing { place: String },
    /// The operating system does not let this account open or make it.
    #[error("cannot open the site store {place}: {source}")]
    Unreadable { place: String, source: std::io::Error },
    /// A symbolic link, folder or device has its name.
    #[error("the site store {place} is not a regular file; name the file itself, not a link to it")]
    NotAFile { place: String },
    /// Other accounts may read or write it.
    #[error(
        "the site store {place} has permissions {mode:04o}, so other accounts reach it; run \
         `chmod 600 {place}`"
    )]
    Exposed { place: String, mode: u32 },
    /// Another process has been writing for as long as was waited.
    #[error("the site store {place} is locked by another process; try again when that has ended")]
    Locked { place: String },
    /// What is in it does not hold together.
    #[error(
        "the site store {place} is corrupt; restore it from a backup, and block again what was \
         blocked since"
    )]
    Corrupt { place: String },
    /// It is a database, but none of a site.
    #[error("{place} is not a site store; name another folder in `[tokens]`")]
    Foreign { place: String },
    /// A newer program has written it.
    #[error(
        "the site store {place} has version {found}, and this program knows versions up to \
         {known}; use the newer program"
    )]
    Newer { place: String, found: i64, known: i64 },
    /// The file, its folder or the file system may not be written to.
    #[error(
        "the site store {place} is read-only; nothing was changed. This account must be able to \
         write the file and its folder"
    )]
    ReadOnly { place: String },
    /// The disk is full.
    #[error("no room is left for the site store {place}; nothing was changed. Free some and retry")]
    Full { place: String },
    /// It failed otherwise.
    #[error("the site store {place} failed: {source}")]
    Failed { place: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Why a change was not made. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChangeError {
    /// Neither token nor client has this GUID.
    #[error("no token or client of this site has the GUID {0}; `relay token list` shows them")]
    Unknown(Guid),
    /// It is blocked, so nothing is given for it.
    #[error("{0} is blocked; `relay token unblock {0}` ends that")]
    Blocked(Guid),
    /// The GUID is taken.
    #[error("the GUID {0} is taken by another token or client; make another one")]
    Known(Guid),
    /// The certificate is that of another client.
    #[error("client {0} has registered with this certificate; go on with its GUID")]
    Registered(Guid),
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}
