//! The store of a site with one connection point: a file of SQLite.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relay_core::auth::Guid;
use relay_core::settings::{BLOCKED_MAX, SIGNERS_MAX};
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use rusqlite::{Transaction, TransactionBehavior};

use super::files::{self, FileFault};
use super::place::Place;
use super::shown::hex;
use super::store::{
    BulkToken, CLIENTS_MAX, Change, ChangeError, Client, Content, Digest, KnownSigner, Mark,
    Registration, SIGNED_COUNTS, Store, StoreError, is_of_entra,
};

mod rows;
#[cfg(test)]
mod tests;

use rows::{
    BLOCKED, CLIENT, COUNTED, add_of_entra, block_in, blocked, client, content, count, count_of,
    guid, is_blocked, last_published, octets, other_of, others_left, params_of_blocked, rows,
    seconds, since, time, time_if_any,
};

/// How long is waited while another process writes.
const BUSY: Duration = Duration::from_secs(5);

/// What tells a site store from other databases: `RlSt` in the header of the file.
// Source: SQLite, "Database File Format", section 1.2.17.
const APPLICATION_ID: i64 = 0x526c_5374;

/// What leads from each version of the store to the next. A version that has been in use never
/// changes here; another is appended.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE bulk_tokens (
        id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
        issued INTEGER NOT NULL,
        not_before INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        blocked_since INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE clients (
        id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
        certificate BLOB NOT NULL CHECK (length(certificate) = 32),
        registered INTEGER NOT NULL,
        renewed INTEGER NOT NULL,
        token_expires INTEGER NOT NULL,
        bulk_token BLOB REFERENCES bulk_tokens (id),
        blocked_since INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX clients_of_a_bulk_token ON clients (bulk_token);
    CREATE TABLE journal (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        subject BLOB NOT NULL,
        change TEXT NOT NULL CHECK (change IN ('blocked', 'unblocked')),
        at INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE published (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        digest BLOB NOT NULL CHECK (length(digest) = 32)
    ) STRICT;
",
    "
    CREATE UNIQUE INDEX clients_by_certificate ON clients (certificate);
",
    "
    CREATE TABLE signers (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        thumbprint BLOB NOT NULL UNIQUE CHECK (length(thumbprint) = 32),
        certificate BLOB NOT NULL,
        signs_until INTEGER NOT NULL,
        distrusted_since INTEGER
    ) STRICT;
    CREATE INDEX blocked_bulk_tokens ON bulk_tokens (id, expires)
        WHERE blocked_since IS NOT NULL;
    CREATE INDEX blocked_clients ON clients (id, token_expires, blocked_since)
        WHERE blocked_since IS NOT NULL;
",
];

/// A site store in one file, beside which SQLite keeps two more while it is open. Each change is on
/// the disk before its method returns: write-ahead log, `synchronous` FULL.
pub(crate) struct SqliteStore {
    connection: Connection,
    file: PathBuf,
    /// What was opened.
    opened: Place,
}

impl SqliteStore {
    /// Opens the store that is there, and brings an older one up to this version.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a store that other accounts can reach, a link and an empty file are refused.
    pub(crate) fn open(file: &Path) -> Result<Self, StoreError> {
        Self::open_waiting(file, BUSY)
    }

    /// Makes an empty store in a folder that is there, and opens it; or opens the one that is
    /// there. Its name appears once all is in it: a crash leaves nothing half made.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`].
    pub(crate) fn create(file: &Path) -> Result<Self, StoreError> {
        let failed = |source: io::Error| unwritable(file, source);
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        // Files of this kind begin with access for their owner alone.
        let staged =
            tempfile::Builder::new().prefix(".relay-site-").tempfile_in(folder).map_err(failed)?;
        let connection = connect(staged.path(), file, Purpose::Change)?;
        let opened = Place::of(staged.path()).map_err(failed)?;
        let mut made = Self { connection, file: file.to_owned(), opened };
        made.prepare()?;
        made.migrate(MIGRATIONS)?;
        // The last connection that closes moves everything into the file itself.
        made.connection.close().map_err(|(_, error)| told(file, error))?;
        staged.as_file().sync_all().map_err(failed)?;
        match files::put_new(staged, file) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
            _ => Self::open(file),
        }
    }

    /// Opens the store that is there, which must be of this version, for what changes nothing.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`].
    pub(crate) fn open_to_read(file: &Path) -> Result<Self, StoreError> {
        let store = Self::open_for(Purpose::Read, file, BUSY)?;
        store.check()?;
        let (found, known) = (store.version()?, known(MIGRATIONS));
        if found < known {
            // What is read has to be there first.
            drop(store);
            return Self::open(file);
        }
        if known < found {
            return Err(StoreError::Newer { place: place(file), found, known });
        }
        Ok(store)
    }

    fn open_waiting(file: &Path, busy: Duration) -> Result<Self, StoreError> {
        let mut store = Self::open_for(Purpose::Change, file, busy)?;
        store.prepare()?;
        store.check()?;
        store.migrate(MIGRATIONS)?;
        // What preparing has written is this process's own doing.
        store.opened = store.place()?;
        Ok(store)
    }

    /// Opens what is a site store, of whatever version.
    fn open_for(purpose: Purpose, file: &Path, busy: Duration) -> Result<Self, StoreError> {
        files::judge(file).map_err(|fault| unfit(file, fault))?;
        let opened = Place::of(file).map_err(|source| unwritable(file, source))?;
        let connection = connect(file, file, purpose)?;
        connection.busy_timeout(busy).map_err(|error| told(file, error))?;
        let store = Self { connection, file: file.to_owned(), opened };
        if !store.place()?.is_same_file(&store.opened) {
            return Err(StoreError::Replaced { place: place(file) });
        }
        if store.version()? == 0 {
            return Err(store.foreign_or_corrupt());
        }
        store.judge_owner()?;
        Ok(store)
    }

    /// What has the name of the store now.
    fn place(&self) -> Result<Place, StoreError> {
        files::judge(&self.file).map_err(|fault| unfit(&self.file, fault))?;
        Place::of(&self.file).map_err(|source| unwritable(&self.file, source))
    }

    /// What holds for the connection from now on. Never done to a file that is no site store.
    fn prepare(&self) -> Result<(), StoreError> {
        let prepared = || {
            self.connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            // In a write-ahead log, NORMAL may lose the last transactions when power fails.
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            self.connection.pragma_update(None, "foreign_keys", true)
        };
        prepared().map_err(|error| self.told(error))
    }

    fn version(&self) -> Result<i64, StoreError> {
        let version = self.connection.pragma_query_value(None, "user_version", |row| row.get(0));
        version.map_err(|error| self.told(error))
    }

    /// A file without a version: another program's, or one that was cut.
    fn foreign_or_corrupt(&self) -> StoreError {
        let tables = self.connection.query_row("SELECT count(*) FROM sqlite_schema", [], count);
        match tables {
            Ok(0) => StoreError::Corrupt { place: place(&self.file) },
            Ok(_) => StoreError::Foreign { place: place(&self.file) },
            Err(error) => self.told(error),
        }
    }

    /// Takes the store through the migrations it has not seen, each in a transaction of its own.
    fn migrate(&mut self, migrations: &[&str]) -> Result<(), StoreError> {
        let known = known(migrations);
        let file = self.file.clone();
        loop {
            let found = self.version()?;
            if known < found {
                return Err(StoreError::Newer { place: place(&file), found, known });
            }
            if found == known {
                return Ok(());
            }
            self.migrate_once(migrations).map_err(|error| told(&file, error))?;
        }
    }

    fn migrate_once(&mut self, migrations: &[&str]) -> rusqlite::Result<()> {
        let transaction = begin(&mut self.connection)?;
        // Another process may have done it while this one waited for its turn.
        let version: i64 =
            transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let next = usize::try_from(version).ok().and_then(|version| migrations.get(version));
        if let Some(migration) = next {
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "user_version", version + 1)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        transaction.commit()
    }

    fn judge_owner(&self) -> Result<(), StoreError> {
        let of = self.connection.pragma_query_value(None, "application_id", count);
        match of.map_err(|error| self.told(error))? {
            APPLICATION_ID => Ok(()),
            _ => Err(StoreError::Foreign { place: place(&self.file) }),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let found: rusqlite::Result<String> =
            self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        match found.map_err(|error| self.told(error))?.as_str() {
            "ok" => Ok(()),
            _ => Err(StoreError::Corrupt { place: place(&self.file) }),
        }
    }

    fn told(&self, error: rusqlite::Error) -> StoreError {
        told(&self.file, error)
    }

    /// Makes one change in one transaction; what is refused is rolled back.
    fn change<T>(
        &mut self,
        make: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, ChangeError> {
        let changed = begin(&mut self.connection).map_err(Fault::from).and_then(|transaction| {
            let outcome = make(&transaction)?;
            transaction.commit()?;
            Ok(outcome)
        });
        changed.map_err(|fault| match fault {
            Fault::Refused(refused) => refused,
            Fault::Sqlite(error) => ChangeError::Store(told(&self.file, error)),
        })
    }

    /// Blocks, or ends a block, where `since` says from when.
    fn set_block(&mut self, id: Guid, since: Option<u64>, now: u64) -> Result<Change, ChangeError> {
        self.change(|transaction| {
            let is_blocked = is_blocked(transaction, id)?;
            if is_blocked.is_none() && since.is_some() && is_of_entra(id) {
                add_of_entra(transaction, id, now)?;
            } else if is_blocked.ok_or(ChangeError::Unknown(id))? == since.is_some() {
                return Ok(Change::None);
            }
            for table in ["bulk_tokens", "clients"] {
                let update = format!("UPDATE {table} SET blocked_since = ?2 WHERE id = ?1");
                transaction.execute(&update, params![octets(id), since.map(seconds)])?;
            }
            let blocked = count_of(transaction, BLOCKED, params_of_blocked(now))?;
            if since.is_some() && BLOCKED_MAX < blocked {
                return Err(ChangeError::TooMany { max: BLOCKED_MAX }.into());
            }
            let change = if since.is_some() { "blocked" } else { "unblocked" };
            transaction.execute(
                "INSERT INTO journal (subject, change, at) VALUES (?1, ?2, ?3)",
                params![octets(id), change, seconds(now)],
            )?;
            Ok(Change::Made)
        })
    }
}

impl SqliteStore {
    fn client_where(&self, what: &str, is: &[u8]) -> Result<Option<Client>, StoreError> {
        let query = format!("SELECT {CLIENT} FROM clients WHERE {what}");
        let found = self.connection.query_row(&query, [is], client).optional();
        found.map_err(|error| self.told(error))
    }
}

impl Store for SqliteStore {
    fn add_bulk_token(&mut self, token: &BulkToken) -> Result<(), ChangeError> {
        self.change(|transaction| {
            if is_blocked(transaction, token.id)?.is_some() {
                return Err(ChangeError::Known(token.id).into());
            }
            transaction.execute(
                "INSERT INTO bulk_tokens (id, issued, not_before, expires) VALUES (?1, ?2, ?3, ?4)",
                params![
                    octets(token.id),
                    seconds(token.issued),
                    seconds(token.not_before),
                    seconds(token.expires)
                ],
            )?;
            Ok(())
        })
    }

    fn bulk_tokens(&self) -> Result<Vec<BulkToken>, StoreError> {
        let tokens = rows(
            &self.connection,
            "SELECT id, issued, not_before, expires, blocked_since FROM bulk_tokens
             ORDER BY issued DESC, id",
            [],
            |row| {
                Ok(BulkToken {
                    id: guid(row, 0)?,
                    issued: time(row, 1)?,
                    not_before: time(row, 2)?,
                    expires: time(row, 3)?,
                    blocked_since: time_if_any(row, 4)?,
                })
            },
        );
        tokens.map_err(|error| self.told(error))
    }

    fn register(&mut self, client: &Client) -> Result<(), ChangeError> {
        self.change(|transaction| {
            let bulk_token = match client.registration {
                Registration::Intranet | Registration::Entra => None,
                Registration::BulkToken(id) => Some(id),
            };
            if let Some(id) = bulk_token {
                let is_blocked = block_in(transaction, "bulk_tokens", id)?;
                if is_blocked.ok_or(ChangeError::Unknown(id))? {
                    return Err(ChangeError::Blocked(id).into());
                }
            }
            if block_in(transaction, "bulk_tokens", client.id)?.is_some() {
                return Err(ChangeError::Known(client.id).into());
            }
            if block_in(transaction, "clients", client.id)? == Some(true) {
                return Err(ChangeError::Blocked(client.id).into());
            }
            // To replace another row by its certificate would take away the block of that client.
            if let Some(other) = other_of(transaction, client)? {
                return Err(ChangeError::Registered(other).into());
            }
            if CLIENTS_MAX <= others_left(transaction, client.id, client.registered)? {
                return Err(ChangeError::TooManyClients { max: CLIENTS_MAX }.into());
            }
            transaction.execute(
                "INSERT OR REPLACE INTO clients
                 (id, certificate, registered, renewed, token_expires, bulk_token)
                 VALUES (?1, ?2, ?3, ?4,
                 max(?5, coalesce((SELECT token_expires FROM clients WHERE id = ?1), 0)), ?6)",
                params![
                    octets(client.id),
                    client.certificate,
                    seconds(client.registered),
                    seconds(client.renewed),
                    seconds(client.token_expires),
                    bulk_token.map(octets)
                ],
            )?;
            Ok(())
        })
    }

    fn renew(&mut self, client: Guid, renewed: u64, token_expires: u64) -> Result<(), ChangeError> {
        self.change(|transaction| {
            let is_blocked = block_in(transaction, "clients", client)?;
            if is_blocked.ok_or(ChangeError::Unknown(client))? {
                return Err(ChangeError::Blocked(client).into());
            }
            transaction.execute(
                "UPDATE clients SET renewed = ?2, token_expires = max(token_expires, ?3)
                 WHERE id = ?1",
                params![octets(client), seconds(renewed), seconds(token_expires)],
            )?;
            Ok(())
        })
    }

    fn client(&self, id: Guid) -> Result<Option<Client>, StoreError> {
        self.client_where("id = ?1", &octets(id))
    }

    fn client_of(&self, certificate: [u8; 32]) -> Result<Option<Client>, StoreError> {
        self.client_where("certificate = ?1", &certificate)
    }

    fn clients(&self) -> Result<Vec<Client>, StoreError> {
        let query = format!("SELECT {CLIENT} FROM clients ORDER BY registered DESC, id");
        rows(&self.connection, &query, [], client).map_err(|error| self.told(error))
    }

    fn block(&mut self, id: Guid, now: u64) -> Result<Change, ChangeError> {
        self.set_block(id, Some(now), now)
    }

    fn unblock(&mut self, id: Guid, now: u64) -> Result<Change, ChangeError> {
        self.set_block(id, None, now)
    }

    fn blocked(&self, now: u64) -> Result<Vec<Guid>, StoreError> {
        blocked(&self.connection, now).map_err(|error| self.told(error))
    }

    fn add_signer(&mut self, signer: &KnownSigner, now: u64) -> Result<Change, ChangeError> {
        self.change(|transaction| {
            let lowered = transaction.execute(
                "UPDATE signers SET signs_until = ?2 WHERE thumbprint = ?1 AND ?2 < signs_until",
                params![signer.thumbprint, seconds(signer.signs_until)],
            )?;
            let added = transaction.execute(
                "INSERT INTO signers (thumbprint, certificate, signs_until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (thumbprint) DO NOTHING",
                params![signer.thumbprint, signer.certificate, seconds(signer.signs_until)],
            )?;
            let counted = count_of(transaction, COUNTED, [since(now, SIGNED_COUNTS)])?;
            if added == 1 && SIGNERS_MAX < counted {
                return Err(ChangeError::TooManySigners { max: SIGNERS_MAX }.into());
            }
            Ok(if lowered + added == 0 { Change::None } else { Change::Made })
        })
    }

    fn signers(&self) -> Result<Vec<KnownSigner>, StoreError> {
        let signers = rows(
            &self.connection,
            "SELECT thumbprint, certificate, signs_until, distrusted_since FROM signers
             ORDER BY number",
            [],
            |row| {
                Ok(KnownSigner {
                    thumbprint: row.get(0)?,
                    certificate: row.get(1)?,
                    signs_until: time(row, 2)?,
                    distrusted_since: time_if_any(row, 3)?,
                })
            },
        );
        signers.map_err(|error| self.told(error))
    }

    fn distrust(&mut self, thumbprint: [u8; 32], now: u64) -> Result<Change, ChangeError> {
        self.change(|transaction| {
            let found = "SELECT distrusted_since IS NOT NULL FROM signers WHERE thumbprint = ?1";
            let is_known = transaction.query_row(found, [thumbprint], |row| row.get(0));
            let is_distrusted: Option<bool> = is_known.optional()?;
            if is_distrusted.ok_or_else(|| ChangeError::UnknownSigner(hex(&thumbprint)))? {
                return Ok(Change::None);
            }
            transaction.execute(
                "UPDATE signers SET distrusted_since = ?2 WHERE thumbprint = ?1",
                params![thumbprint, seconds(now)],
            )?;
            Ok(Change::Made)
        })
    }

    fn publish(
        &mut self,
        now: u64,
        digest: &dyn Fn(&Content) -> Digest,
    ) -> Result<(Content, u64), StoreError> {
        let file = self.file.clone();
        let read = |transaction: &Transaction<'_>| -> rusqlite::Result<_> {
            let content = content(transaction, now)?;
            let digest = digest(&content);
            let last = last_published(transaction)?;
            let number = last.filter(|(_, it)| *it == digest).map(|(number, _)| number);
            Ok((content, digest, number))
        };
        let mut publish = || -> rusqlite::Result<(Content, u64)> {
            // Nothing is written, and nobody waits, each time that nothing has changed.
            if let (content, _, Some(number)) = read(&self.connection.transaction()?)? {
                return Ok((content, number));
            }
            let transaction = begin(&mut self.connection)?;
            let (content, digest, number) = read(&transaction)?;
            if let Some(number) = number {
                return Ok((content, number));
            }
            transaction.execute(NEXT_PUBLISHED, params![digest, seconds(now)])?;
            let number = transaction.last_insert_rowid();
            transaction.execute("DELETE FROM published WHERE number < ?1", [number])?;
            transaction.commit()?;
            Ok((content, u64::try_from(number).unwrap_or(0)))
        };
        publish().map_err(|error| told(&file, error))
    }

    fn revision(&self) -> Result<Option<u64>, StoreError> {
        let last = last_published(&self.connection).map_err(|error| self.told(error))?;
        Ok(last.map(|(number, _)| number))
    }

    fn mark(&mut self) -> Result<Mark, StoreError> {
        if self.place()? != self.opened {
            return Err(StoreError::Replaced { place: place(&self.file) });
        }
        // It tells of what others have written alone.
        let version = self.connection.pragma_query_value(None, "data_version", count);
        let version = version.map_err(|error| self.told(error))?;
        Ok(Mark(version, self.connection.total_changes()))
    }

    fn generation(&self) -> Result<u64, StoreError> {
        // Unlike the highest number there is, it stays when rows of the journal are cleared away.
        let last = self.connection.query_row(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'journal'), 0)",
            [],
            |row| time(row, 0),
        );
        last.map_err(|error| self.told(error))
    }
}

/// By the clock, so that a store that was restored goes on beyond what it has published since.
const NEXT_PUBLISHED: &str = "INSERT INTO published (digest, number)
    VALUES (?1, max(?2, (SELECT coalesce(max(number), 0) + 1 FROM published)))";

/// Why a change ended: by SQLite, or by what was asked.
enum Fault {
    Refused(ChangeError),
    Sqlite(rusqlite::Error),
}

impl From<ChangeError> for Fault {
    fn from(refused: ChangeError) -> Self {
        Self::Refused(refused)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    Change,
    Read,
}

/// Opens a file that is there. `named` is what it is called in errors.
fn connect(file: &Path, named: &Path, purpose: Purpose) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | match purpose {
            Purpose::Change => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Purpose::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
    let open = || {
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(BUSY)?;
        let is_readonly = connection.is_readonly("main")?;
        Ok((connection, is_readonly))
    };
    match open().map_err(|error| told(named, error))? {
        (_, true) if purpose == Purpose::Change => {
            Err(StoreError::ReadOnly { place: place(named) })
        }
        (connection, _) => Ok(connection),
    }
}

/// Whoever writes begins as the writer: one that has read first could not wait for its turn.
fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// What is said of a file that is none of this account's own.
fn unfit(file: &Path, fault: FileFault) -> StoreError {
    let place = place(file);
    match fault {
        FileFault::Missing => StoreError::Missing { place },
        FileFault::Unreadable(source) => StoreError::Unreadable { place, source },
        FileFault::NotAFile => StoreError::NotAFile { place },
        FileFault::Exposed(mode) => StoreError::Exposed { place, mode },
    }
}

/// What an error of SQLite says about the store.
fn told(file: &Path, error: rusqlite::Error) -> StoreError {
    let place = place(file);
    let extended = error.sqlite_error().map(|error| error.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { place },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt { place },
        // Whoever may not write beside the file is told that it cannot be opened.
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => StoreError::ReadOnly { place },
        Some(ErrorCode::DiskFull) => StoreError::Full { place },
        // What stands beside the file has no room: each reader and writer needs it.
        Some(_) if extended == Some(SQLITE_IOERR_SHMSIZE) => StoreError::Full { place },
        _ => StoreError::Failed { place, source: Box::new(error) },
    }
}

/// What an error of the file system says about a store that is being made.
fn unwritable(file: &Path, source: io::Error) -> StoreError {
    let place = place(file);
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { place },
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { place },
        _ => StoreError::Unreadable { place, source },
    }
}

fn place(file: &Path) -> String {
    file.display().to_string()
}

/// The version that these migrations lead to.
fn known(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}
