//! What a site remembers of its tokens and of the clients it has registered.

use relay_core::auth::Guid;

#[cfg(test)]
pub(super) mod suite;

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
    /// Not at all: it was blocked here, and shows tokens of Entra ID, or what it gets for them.
    Entra,
}

/// Whether a GUID is computed, as those of clients of Entra ID are, and not drawn. RFC 9562,
/// sections 5.4 and 5.8.
pub(super) fn is_of_entra(id: Guid) -> bool {
    id.0 >> 76 & 0xf == 8
}

/// What stands for the thumbprint of a certificate where a client of Entra ID has none. No digest
/// is that: it begins with 128 zeros.
pub(super) fn no_certificate(id: Guid) -> [u8; 32] {
    let mut octets = [0; 32];
    let (_, last) = octets.split_at_mut(16);
    last.copy_from_slice(&id.0.to_be_bytes());
    octets
}

/// How a client has come, as its row tells.
pub(super) fn registration(
    id: Guid,
    certificate: [u8; 32],
    bulk_token: Option<Guid>,
) -> Registration {
    match bulk_token {
        Some(token) => Registration::BulkToken(token),
        None if certificate == no_certificate(id) => Registration::Entra,
        None => Registration::Intranet,
    }
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

/// A certificate that tokens of the site are signed with, as all its connection points know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct KnownSigner {
    /// Its SHA-256 thumbprint.
    pub(crate) thumbprint: [u8; 32],
    /// The whole certificate, in DER.
    pub(crate) certificate: Vec<u8>,
    /// Until when tokens are signed with it.
    pub(crate) signs_until: u64,
    /// Since when nothing that it has signed counts, if that is so.
    pub(crate) distrusted_since: Option<u64>,
}

impl KnownSigner {
    /// Whether tokens that were signed with it may count at `now`.
    pub(super) fn counts_at(&self, now: u64) -> bool {
        self.distrusted_since.is_none() && now <= self.signs_until.saturating_add(SIGNED_COUNTS)
    }
}

/// What instances are told of a store: what counts at one moment, read at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Content {
    /// Certificates whose tokens may count still, in DER, as they came.
    pub(crate) certificates: Vec<Vec<u8>>,
    /// As [`Store::blocked`] tells.
    pub(crate) blocked: Vec<Guid>,
}

/// A fingerprint of [`Content`].
pub(crate) type Digest = [u8; 32];

/// What differs once something has changed in a store. It means nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mark(pub(super) i64, pub(super) u64);

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
/// Methods block, for up to 5 s while another process writes, and up to 20 s while a server does
/// not answer. There is one writer at a time, so a role keeps its store on a thread of its own.
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
    /// certificate, whichever connection point registers them. The end of the last token is never
    /// an earlier one than before: a block holds as long as any of them.
    ///
    /// Where there is no room for another, whoever has had no token that counts for
    /// [`CLIENT_OVER_AFTER`] and is not blocked is forgotten with that.
    ///
    /// # Errors
    ///
    /// [`ChangeError::TooManyClients`] if [`CLIENTS_MAX`] are left,
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

    /// Blocks a bulk token or client from `now` on. A client of Entra ID, of which nothing is kept,
    /// is remembered for that: its GUID tells what it is.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unknown`] if there is none, [`ChangeError::TooMany`] if instances can be
    /// told of no more; [`ChangeError::Store`].
    fn block(&mut self, id: Guid, now: u64) -> Result<Change, ChangeError>;

    /// Ends the block of a bulk token or client.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unknown`] if there is neither; [`ChangeError::Store`].
    fn unblock(&mut self, id: Guid, now: u64) -> Result<Change, ChangeError>;

    /// What is blocked and could count at `now` if it were not, tokens and clients, in the order of
    /// their numbers. What has been over for a day stays blocked, and nobody has to be told.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    #[cfg_attr(not(test), allow(dead_code, reason = "it is published with its number"))]
    fn blocked(&self, now: u64) -> Result<Vec<Guid>, StoreError>;

    /// Remembers a certificate that tokens are signed with, before the first one is. Of one that is
    /// known only the time until which it signs changes, and that only to an earlier one.
    ///
    /// # Errors
    ///
    /// [`ChangeError::TooManySigners`] if more would count at `now` than instances can be told of;
    /// [`ChangeError::Store`].
    fn add_signer(&mut self, signer: &KnownSigner, now: u64) -> Result<Change, ChangeError>;

    /// All certificates that tokens were ever signed with, as they came.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn signers(&self) -> Result<Vec<KnownSigner>, StoreError>;

    /// Has nothing count that was signed with the certificate of this thumbprint, for good.
    ///
    /// # Errors
    ///
    /// [`ChangeError::UnknownSigner`]; [`ChangeError::Store`].
    fn distrust(&mut self, thumbprint: [u8; 32], now: u64) -> Result<Change, ChangeError>;

    /// What is to be published at `now`, and its number: of the last time, if its digest is the
    /// same, else a new one, which is higher than all before and no less than `now`: what is
    /// blocked anew in a store that was restored from a backup has a higher one than what instances
    /// have been told since that was made. Both are of one moment, so that no number stands for
    /// less than another connection point has published under a lower one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn publish(
        &mut self,
        now: u64,
        digest: &dyn Fn(&Content) -> Digest,
    ) -> Result<(Content, u64), StoreError>;

    /// The number of what was published last, if anything ever was.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn revision(&self) -> Result<Option<u64>, StoreError>;

    /// What tells whether anything that is published may have changed, by whichever process, since
    /// it was asked for the last time. Costs little.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] if this is not the store any more that was opened: it has to be
    /// opened anew. [`StoreError`] otherwise.
    fn mark(&mut self) -> Result<Mark, StoreError>;

    /// A number that rises with each block and each end of one, whichever process makes it, and
    /// never falls. Whoever watches asks for it before [`Store::blocked`]: what is blocked in
    /// between is then seen twice, never missed.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn generation(&self) -> Result<u64, StoreError>;
}

/// How long what is blocked must have been over so that nobody has to be told: a margin for clocks
/// that differ.
pub(super) const OVER_AFTER: u64 = 86_400;

/// How long before `now` a client must have been blocked so that each token it had is over: it is
/// given none while it is blocked, and the longest one lives for 90 days.
pub(super) const CLIENT_OVER_AFTER: u64 = 91 * 86_400;

/// How long the tokens that a client of Entra ID has when it is blocked may count still: as long as
/// the longest of them.
pub(super) const EXCHANGED_COUNTS: u64 = 8 * 3600;

/// Clients that a store keeps. Our choice: a primary site of the original has 150,000 at most. In
/// SQLite 64 MiB.
pub(super) const CLIENTS_MAX: usize = 256 * 1024;

/// For how long what a certificate has signed counts once it signs no more: as long as the longest
/// token, and a day in which whoever still has the old key in memory notices.
pub(super) const SIGNED_COUNTS: u64 = 91 * 86_400;

/// Why the store cannot be used. `place` is its file, or where else it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[cfg_attr(
    not(feature = "postgres"),
    allow(dead_code, reason = "a file is neither reached nor lost over a network")
)]
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
    /// There is no connection to it.
    #[error(
        "the site store {place} cannot be reached: {source}; nothing was changed. Try again later"
    )]
    Unreachable { place: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// It does not let the user in, or do what has to be done.
    #[error(
        "the site store {place} refuses its user: {why}. It must be the owner of the database; its \
         password is in the file that `store_password_file` names"
    )]
    Denied { place: String, why: String },
    /// The connection was lost, or there was no answer, while a change was being made.
    #[error(
        "the site store {place} was lost on the way: what was being changed may have been or not. \
         See what is there (`relay token list`), and do again what was not done"
    )]
    Lost { place: String },
    /// A file that belongs to it cannot be used.
    #[error("cannot use {}, which the site store needs: {why}", path.display())]
    Material { path: std::path::PathBuf, why: String },
    /// This program knows none of its kind.
    #[cfg(not(feature = "postgres"))]
    #[error(
        "the site store {place} is one of PostgreSQL, and this program was built without; use one \
         that was built with the feature `postgres`"
    )]
    Unsupported { place: String },
    /// Another one has its place, or it was written over, since it was opened.
    #[error("the site store {place} was replaced; it is opened anew")]
    Replaced { place: String },
    /// It holds less than it has held before.
    #[error(
        "the site store {place} was replaced by an older one: blocks that were made since are not \
         in it. Start the connection point anew, and block again what was blocked"
    )]
    Older { place: String },
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
    /// There are as many clients as the site has room for.
    #[error(
        "{max} clients have registered and have tokens that count, or are blocked; nobody else can \
         before some are over. Does anybody register again and again (`relay token clients`)?"
    )]
    TooManyClients { max: usize },
    /// There is no room for another block in what instances are told.
    #[error(
        "{max} tokens and clients are blocked whose time is not over, and instances can be told of \
         no more; nothing was blocked. Unblock what need not be (`relay token list`), or distrust \
         what has signed them (`relay token distrust`)"
    )]
    TooMany { max: usize },
    /// There is no room for another signing certificate in what instances are told.
    #[error(
        "{max} signing certificates count, and instances can be told of no more; distrust one that \
         signs no more (`relay token signers`), or wait until it is over"
    )]
    TooManySigners { max: usize },
    /// No certificate has this thumbprint.
    #[error(
        "no signing certificate of this site has the thumbprint {0}; `relay token signers` shows \
         them"
    )]
    UnknownSigner(String),
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}
