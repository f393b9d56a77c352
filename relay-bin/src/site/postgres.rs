//! The store of a site with several connection points: a database of PostgreSQL that they share.
//!
//! One row of `relay_site` is the lock of all writers: whoever changes anything holds it until it
//! is committed, so that there is one writer at a time, as in a file of SQLite. Readers wait for
//! nobody.

use relay_core::auth::Guid;
use relay_core::config::PostgresStore as Server;
use relay_core::settings::{BLOCKED_MAX, SIGNERS_MAX};
use tokio_postgres::{Client as Connection, GenericClient, IsolationLevel, Row, Transaction};

use super::shown::hex;
use super::store::{
    BulkToken, CLIENT_OVER_AFTER, CLIENTS_MAX, Change, ChangeError, Client, Content, Digest,
    EXCHANGED_COUNTS, KnownSigner, Mark, OVER_AFTER, Registration, SIGNED_COUNTS, Store,
    StoreError, is_of_entra, no_certificate, registration,
};

mod link;
#[cfg(test)]
mod tests;

use link::{Fault, Link};

/// Who makes tables is alone with that, for as long as the transaction. Any number that others do
/// not take: `RlSt`, as in files of SQLite.
const MAKER: i64 = 0x526c_5374;

/// What is there before the first migration.
const FOUNDATION: &str = "
    CREATE TABLE IF NOT EXISTS relay_site (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        version bigint NOT NULL DEFAULT 0,
        generation bigint NOT NULL DEFAULT 0,
        revision bigint,
        digest bytea CHECK (octet_length(digest) = 32)
    );
    INSERT INTO relay_site DEFAULT VALUES ON CONFLICT DO NOTHING;
";

/// What leads from each version of the store to the next. A version that has been in use never
/// changes here; another is appended.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE relay_bulk_tokens (
        id bytea PRIMARY KEY CHECK (octet_length(id) = 16),
        issued bigint NOT NULL,
        not_before bigint NOT NULL,
        expires bigint NOT NULL,
        blocked_since bigint
    );
    CREATE TABLE relay_clients (
        id bytea PRIMARY KEY CHECK (octet_length(id) = 16),
        certificate bytea NOT NULL UNIQUE CHECK (octet_length(certificate) = 32),
        registered bigint NOT NULL,
        renewed bigint NOT NULL,
        token_expires bigint NOT NULL,
        bulk_token bytea REFERENCES relay_bulk_tokens (id),
        blocked_since bigint
    );
    CREATE INDEX relay_clients_of_a_bulk_token ON relay_clients (bulk_token);
    CREATE TABLE relay_journal (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        subject bytea NOT NULL,
        change text NOT NULL CHECK (change IN ('blocked', 'unblocked')),
        at bigint NOT NULL
    );
    CREATE TABLE relay_signers (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        thumbprint bytea NOT NULL UNIQUE CHECK (octet_length(thumbprint) = 32),
        certificate bytea NOT NULL,
        signs_until bigint NOT NULL,
        distrusted_since bigint
    );
    CREATE INDEX relay_blocked_bulk_tokens ON relay_bulk_tokens (id, expires)
        WHERE blocked_since IS NOT NULL;
    CREATE INDEX relay_blocked_clients ON relay_clients (id, token_expires, blocked_since)
        WHERE blocked_since IS NOT NULL;
"];

/// What is blocked and not over.
const BLOCKED: &str = "
    SELECT id FROM relay_bulk_tokens WHERE blocked_since IS NOT NULL AND expires >= $1
    UNION ALL
    SELECT id FROM relay_clients
        WHERE blocked_since IS NOT NULL AND (token_expires >= $1 OR blocked_since >= $2)
    ORDER BY id";

/// A site store in a database. Each change is on the server's disk before its method returns.
pub(crate) struct PostgresStore {
    link: Link,
    place: String,
}

impl PostgresStore {
    /// Opens the store that is there, and brings an older one up to this version.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::Missing`] if the database holds none.
    pub(crate) fn open(server: &Server) -> Result<Self, StoreError> {
        let mut store = Self { link: Link::new(server)?, place: server.to_string() };
        if store.version()?.ok_or(StoreError::Missing { place: server.to_string() })? < known() {
            store.migrate("")?;
        }
        Ok(store)
    }

    /// Makes an empty store in a database that is there, as a whole or not at all, and opens it; or
    /// opens the one that is there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub(crate) fn create(server: &Server) -> Result<Self, StoreError> {
        let mut store = Self { link: Link::new(server)?, place: server.to_string() };
        if store.version()?.is_none_or(|version| version < known()) {
            store.migrate(FOUNDATION)?;
        }
        Ok(store)
    }

    /// The version of the store that is there.
    fn version(&self) -> Result<Option<i64>, StoreError> {
        self.read(async |client| {
            let is_there = "SELECT to_regclass('relay_site') IS NOT NULL";
            if !client.query_one(is_there, &[]).await?.try_get::<_, bool>(0)? {
                return Ok(None);
            }
            let found = client.query_opt("SELECT version FROM relay_site", &[]).await?;
            let found: i64 = match found {
                Some(row) => row.try_get(0)?,
                None => return Err(StoreError::Corrupt { place: self.place.clone() }.into()),
            };
            self.judge(found).map(|()| Some(found))
        })
    }

    fn judge(&self, found: i64) -> Result<(), Fault> {
        let known = known();
        if known < found {
            return Err(StoreError::Newer { place: self.place.clone(), found, known }.into());
        }
        Ok(())
    }

    /// Does what comes `first`, and takes the store through the migrations it has not seen: all or
    /// nothing.
    fn migrate(&mut self, first: &str) -> Result<(), StoreError> {
        self.read(async |client| {
            let transaction = client.transaction().await?;
            transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MAKER]).await?;
            transaction.batch_execute(first).await?;
            let found = transaction.query_one("SELECT version FROM relay_site FOR UPDATE", &[]);
            let found = found.await?.try_get::<_, i64>(0)?;
            // Another process may have done it while this one waited for its turn.
            self.judge(found)?;
            let seen = usize::try_from(found).unwrap_or(0);
            for migration in MIGRATIONS.iter().skip(seen) {
                transaction.batch_execute(migration).await?;
            }
            transaction.execute("UPDATE relay_site SET version = $1", &[&known()]).await?;
            transaction.commit().await.map_err(Fault::Commit)
        })
    }

    fn read<T>(
        &self,
        read: impl AsyncFn(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.link.run(read).map_err(|fault| match self.link.told(fault) {
            ChangeError::Store(error) => error,
            refused => StoreError::Failed { place: self.place.clone(), source: Box::new(refused) },
        })
    }

    /// Makes one change in one transaction, alone; what is refused is rolled back.
    #[allow(clippy::needless_pass_by_value, reason = "it is written where it is handed over")]
    fn change<T>(
        &mut self,
        make: impl AsyncFn(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, ChangeError> {
        let changed = self.link.run(async |client| {
            let transaction = client.transaction().await?;
            let found = transaction.query_one("SELECT version FROM relay_site FOR UPDATE", &[]);
            self.judge(found.await?.try_get(0)?)?;
            let outcome = make(&transaction).await?;
            transaction.commit().await.map_err(Fault::Commit)?;
            Ok(outcome)
        });
        changed.map_err(|fault| self.link.told(fault))
    }

    /// Blocks, or ends a block, where `since` says from when.
    fn set_block(&mut self, id: Guid, since: Option<u64>, now: u64) -> Result<Change, ChangeError> {
        self.change(async |transaction| {
            let is_blocked = is_blocked(transaction, id).await?;
            if is_blocked.is_none() && since.is_some() && is_of_entra(id) {
                add_of_entra(transaction, id, now).await?;
            } else if is_blocked.ok_or(ChangeError::Unknown(id))? == since.is_some() {
                return Ok(Change::None);
            }
            for table in ["relay_bulk_tokens", "relay_clients"] {
                let update = format!("UPDATE {table} SET blocked_since = $2 WHERE id = $1");
                transaction.execute(&update, &[&octets(id), &since.map(seconds)]).await?;
            }
            if since.is_some() && BLOCKED_MAX < blocked(transaction, now).await?.len() {
                return Err(ChangeError::TooMany { max: BLOCKED_MAX }.into());
            }
            let change = if since.is_some() { "blocked" } else { "unblocked" };
            let insert = "INSERT INTO relay_journal (subject, change, at) VALUES ($1, $2, $3)";
            transaction.execute(insert, &[&octets(id), &change, &seconds(now)]).await?;
            changed(transaction).await
        })
    }
}

impl Store for PostgresStore {
    fn add_bulk_token(&mut self, token: &BulkToken) -> Result<(), ChangeError> {
        self.change(async |transaction| {
            if is_blocked(transaction, token.id).await?.is_some() {
                return Err(ChangeError::Known(token.id).into());
            }
            let (issued, not_before) = (seconds(token.issued), seconds(token.not_before));
            let insert = "INSERT INTO relay_bulk_tokens (id, issued, not_before, expires)
                VALUES ($1, $2, $3, $4)";
            let (id, expires) = (octets(token.id), seconds(token.expires));
            transaction.execute(insert, &[&id, &issued, &not_before, &expires]).await?;
            Ok(())
        })
    }

    fn bulk_tokens(&self) -> Result<Vec<BulkToken>, StoreError> {
        self.read(async |client| {
            let query = "SELECT id, issued, not_before, expires, blocked_since
                FROM relay_bulk_tokens ORDER BY issued DESC, id";
            let rows = client.query(query, &[]).await?;
            let token = |row: &Row| {
                Ok(BulkToken {
                    id: guid(row, 0)?,
                    issued: time(row, 1)?,
                    not_before: time(row, 2)?,
                    expires: time(row, 3)?,
                    blocked_since: time_if_any(row, 4)?,
                })
            };
            rows.iter().map(token).collect()
        })
    }

    fn register(&mut self, client: &Client) -> Result<(), ChangeError> {
        self.change(async |transaction| {
            let bulk_token = match client.registration {
                Registration::Intranet | Registration::Entra => None,
                Registration::BulkToken(id) => Some(id),
            };
            if let Some(id) = bulk_token {
                let is_blocked = block_in(transaction, "relay_bulk_tokens", id).await?;
                if is_blocked.ok_or(ChangeError::Unknown(id))? {
                    return Err(ChangeError::Blocked(id).into());
                }
            }
            if block_in(transaction, "relay_bulk_tokens", client.id).await?.is_some() {
                return Err(ChangeError::Known(client.id).into());
            }
            if block_in(transaction, "relay_clients", client.id).await? == Some(true) {
                return Err(ChangeError::Blocked(client.id).into());
            }
            let other = "SELECT id FROM relay_clients WHERE certificate = $1 AND id <> $2";
            let named = (&client.certificate[..], octets(client.id));
            if let Some(other) = transaction.query_opt(other, &[&named.0, &named.1]).await? {
                return Err(ChangeError::Registered(guid(&other, 0)?).into());
            }
            if CLIENTS_MAX <= others_left(transaction, client.id, client.registered).await? {
                return Err(ChangeError::TooManyClients { max: CLIENTS_MAX }.into());
            }
            let insert = "INSERT INTO relay_clients
                (id, certificate, registered, renewed, token_expires, bulk_token)
                VALUES ($1, $2, $3, $4, $5, $6)
                ON CONFLICT (id) DO UPDATE SET (certificate, registered, renewed, token_expires,
                bulk_token) = (EXCLUDED.certificate, EXCLUDED.registered, EXCLUDED.renewed,
                greatest(relay_clients.token_expires, EXCLUDED.token_expires),
                EXCLUDED.bulk_token)";
            let (certificate, bulk_token) = (&client.certificate[..], bulk_token.map(octets));
            let (registered, renewed) = (seconds(client.registered), seconds(client.renewed));
            let expires = seconds(client.token_expires);
            let id = octets(client.id);
            let row: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                &[&id, &certificate, &registered, &renewed, &expires, &bulk_token];
            transaction.execute(insert, row).await?;
            Ok(())
        })
    }

    fn renew(&mut self, client: Guid, renewed: u64, token_expires: u64) -> Result<(), ChangeError> {
        self.change(async |transaction| {
            let is_blocked = block_in(transaction, "relay_clients", client).await?;
            if is_blocked.ok_or(ChangeError::Unknown(client))? {
                return Err(ChangeError::Blocked(client).into());
            }
            let update = "UPDATE relay_clients
                SET renewed = $2, token_expires = greatest(token_expires, $3) WHERE id = $1";
            let (renewed, token_expires) = (seconds(renewed), seconds(token_expires));
            transaction.execute(update, &[&octets(client), &renewed, &token_expires]).await?;
            Ok(())
        })
    }

    fn client(&self, id: Guid) -> Result<Option<Client>, StoreError> {
        self.read(async |client| {
            let query = format!("SELECT {CLIENT} FROM relay_clients WHERE id = $1");
            client.query_opt(&query, &[&octets(id)]).await?.as_ref().map(client_in).transpose()
        })
    }

    fn client_of(&self, certificate: [u8; 32]) -> Result<Option<Client>, StoreError> {
        self.read(async |client| {
            let query = format!("SELECT {CLIENT} FROM relay_clients WHERE certificate = $1");
            let found = client.query_opt(&query, &[&&certificate[..]]).await?;
            found.as_ref().map(client_in).transpose()
        })
    }

    fn clients(&self) -> Result<Vec<Client>, StoreError> {
        self.read(async |client| {
            let query = format!("SELECT {CLIENT} FROM relay_clients ORDER BY registered DESC, id");
            client.query(&query, &[]).await?.iter().map(client_in).collect()
        })
    }

    fn block(&mut self, id: Guid, now: u64) -> Result<Change, ChangeError> {
        self.set_block(id, Some(now), now)
    }

    fn unblock(&mut self, id: Guid, now: u64) -> Result<Change, ChangeError> {
        self.set_block(id, None, now)
    }

    fn blocked(&self, now: u64) -> Result<Vec<Guid>, StoreError> {
        self.read(async |client| blocked(client, now).await)
    }

    fn add_signer(&mut self, signer: &KnownSigner, now: u64) -> Result<Change, ChangeError> {
        self.change(async |transaction| {
            let (thumbprint, until) = (&signer.thumbprint[..], seconds(signer.signs_until));
            let lower = "UPDATE relay_signers SET signs_until = $2
                WHERE thumbprint = $1 AND $2 < signs_until";
            let lowered = transaction.execute(lower, &[&thumbprint, &until]).await?;
            let add = "INSERT INTO relay_signers (thumbprint, certificate, signs_until)
                VALUES ($1, $2, $3) ON CONFLICT (thumbprint) DO NOTHING";
            let added =
                transaction.execute(add, &[&thumbprint, &signer.certificate, &until]).await?;
            if added == 1 && SIGNERS_MAX < counted(transaction, now).await?.len() {
                return Err(ChangeError::TooManySigners { max: SIGNERS_MAX }.into());
            }
            if lowered + added == 0 { Ok(Change::None) } else { changed(transaction).await }
        })
    }

    fn signers(&self) -> Result<Vec<KnownSigner>, StoreError> {
        self.read(async |client| {
            let query = "SELECT thumbprint, certificate, signs_until, distrusted_since
                FROM relay_signers ORDER BY number";
            let rows = client.query(query, &[]).await?;
            let signer = |row: &Row| {
                Ok(KnownSigner {
                    thumbprint: array(row, 0)?,
                    certificate: row.try_get(1)?,
                    signs_until: time(row, 2)?,
                    distrusted_since: time_if_any(row, 3)?,
                })
            };
            rows.iter().map(signer).collect()
        })
    }

    fn distrust(&mut self, thumbprint: [u8; 32], now: u64) -> Result<Change, ChangeError> {
        self.change(async |transaction| {
            let named = &thumbprint[..];
            let known = "SELECT distrusted_since IS NOT NULL FROM relay_signers
                WHERE thumbprint = $1";
            let known = transaction.query_opt(known, &[&named]).await?;
            let known = known.ok_or_else(|| ChangeError::UnknownSigner(hex(&thumbprint)))?;
            if known.try_get(0)? {
                return Ok(Change::None);
            }
            let update = "UPDATE relay_signers SET distrusted_since = $2 WHERE thumbprint = $1";
            transaction.execute(update, &[&named, &seconds(now)]).await?;
            changed(transaction).await
        })
    }

    fn publish(
        &mut self,
        now: u64,
        digest: &dyn Fn(&Content) -> Digest,
    ) -> Result<(Content, u64), StoreError> {
        // Nothing is written, and nobody waits, each time that nothing has changed.
        let same = self.read(async |client| {
            let snapshot = client.build_transaction().read_only(true);
            let snapshot = snapshot.isolation_level(IsolationLevel::RepeatableRead).start().await?;
            let content = content(&snapshot, now).await?;
            let (number, last) = last_published(&snapshot).await?;
            let is_same = last == Some(digest(&content));
            Ok(number.filter(|_| is_same).map(|number| (content, number)))
        })?;
        if let Some(same) = same {
            return Ok(same);
        }
        let published = self.change(async |transaction| {
            let content = content(transaction, now).await?;
            let digest = digest(&content);
            let (number, last) = last_published(transaction).await?;
            if let (Some(number), true) = (number, last == Some(digest)) {
                return Ok((content, number));
            }
            // By the clock, so that one that was restored goes on beyond what it has said since.
            let update = "UPDATE relay_site
                SET revision = greatest($2, coalesce(revision, 0) + 1), digest = $1
                RETURNING revision";
            let row = transaction.query_one(update, &[&&digest[..], &seconds(now)]).await?;
            let number = time(&row, 0)?;
            Ok((content, number))
        });
        published.map_err(|error| match error {
            ChangeError::Store(error) => error,
            refused => StoreError::Failed { place: self.place.clone(), source: Box::new(refused) },
        })
    }

    fn revision(&self) -> Result<Option<u64>, StoreError> {
        self.read(async |client| last_published(client).await.map(|(number, _)| number))
    }

    fn mark(&mut self) -> Result<Mark, StoreError> {
        self.read(async |client| {
            let query = "SELECT generation, hashtextextended(id::text, 0) FROM relay_site";
            let row = client.query_one(query, &[]).await?;
            Ok(Mark(row.try_get(0)?, row.try_get::<_, i64>(1)?.cast_unsigned()))
        })
    }

    fn generation(&self) -> Result<u64, StoreError> {
        self.read(async |client| {
            time(&client.query_one("SELECT generation FROM relay_site", &[]).await?, 0)
        })
    }
}

/// The version that the migrations lead to.
fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Has everybody see that something has changed.
async fn changed(transaction: &Transaction<'_>) -> Result<Change, Fault> {
    transaction.execute("UPDATE relay_site SET generation = generation + 1", &[]).await?;
    Ok(Change::Made)
}

async fn content(client: &impl GenericClient, now: u64) -> Result<Content, Fault> {
    let certificates = counted(client, now).await?;
    Ok(Content { certificates, blocked: blocked(client, now).await? })
}

/// The certificates whose tokens may count still.
async fn counted(client: &impl GenericClient, now: u64) -> Result<Vec<Vec<u8>>, Fault> {
    let query = "SELECT certificate FROM relay_signers
        WHERE distrusted_since IS NULL AND signs_until >= $1 ORDER BY number";
    let rows = client.query(query, &[&since(now, SIGNED_COUNTS)]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn blocked(client: &impl GenericClient, now: u64) -> Result<Vec<Guid>, Fault> {
    let (token, of_client) = (since(now, OVER_AFTER), since(now, CLIENT_OVER_AFTER));
    let rows = client.query(BLOCKED, &[&token, &of_client]).await?;
    rows.iter().map(|row| guid(row, 0)).collect()
}

/// Number and digest of what was published last.
async fn last_published(
    client: &impl GenericClient,
) -> Result<(Option<u64>, Option<Digest>), Fault> {
    let row = client.query_one("SELECT revision, digest FROM relay_site", &[]).await?;
    let digest = row.try_get::<_, Option<&[u8]>>(1)?.and_then(|it| it.try_into().ok());
    Ok((time_if_any(&row, 0)?, digest))
}

/// Whether a token or client is blocked; none if neither is there.
async fn is_blocked(transaction: &Transaction<'_>, id: Guid) -> Result<Option<bool>, Fault> {
    match block_in(transaction, "relay_bulk_tokens", id).await? {
        Some(is_blocked) => Ok(Some(is_blocked)),
        None => block_in(transaction, "relay_clients", id).await,
    }
}

async fn block_in(
    transaction: &Transaction<'_>,
    table: &'static str,
    id: Guid,
) -> Result<Option<bool>, Fault> {
    let query = format!("SELECT blocked_since IS NOT NULL FROM {table} WHERE id = $1");
    let found = transaction.query_opt(&query, &[&octets(id)]).await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?)
}

/// The columns that [`client_in`] reads.
const CLIENT: &str =
    "id, certificate, registered, renewed, token_expires, bulk_token, blocked_since";

/// Remembers a client of Entra ID that is to be blocked.
async fn add_of_entra(transaction: &Transaction<'_>, id: Guid, now: u64) -> Result<(), Fault> {
    let insert = "INSERT INTO relay_clients (id, certificate, registered, renewed, token_expires)
        VALUES ($1, $2, $3, $3, $4)";
    let expires = seconds(now.saturating_add(EXCHANGED_COUNTS));
    let certificate = &no_certificate(id)[..];
    transaction.execute(insert, &[&octets(id), &certificate, &seconds(now), &expires]).await?;
    Ok(())
}

/// How many clients there are without this one. Those whose tokens were over long before `now` are
/// forgotten where there is no room, and only there: a clock that is ahead makes nobody unknown.
async fn others_left(transaction: &Transaction<'_>, id: Guid, now: u64) -> Result<usize, Fault> {
    let others = async || {
        let others = "SELECT count(*) FROM relay_clients WHERE id <> $1";
        let count: i64 = transaction.query_one(others, &[&octets(id)]).await?.try_get(0)?;
        Ok::<_, Fault>(usize::try_from(count).unwrap_or(usize::MAX))
    };
    let before = others().await?;
    if before < CLIENTS_MAX {
        return Ok(before);
    }
    let over = "DELETE FROM relay_clients WHERE blocked_since IS NULL AND token_expires < $1";
    transaction.execute(over, &[&since(now, CLIENT_OVER_AFTER)]).await?;
    others().await
}

fn client_in(row: &Row) -> Result<Client, Fault> {
    let bulk_token = row.try_get::<_, Option<&[u8]>>(5)?;
    let bulk_token = bulk_token.map(|_| guid(row, 5)).transpose()?;
    let (id, certificate) = (guid(row, 0)?, array(row, 1)?);
    Ok(Client {
        id,
        certificate,
        registered: time(row, 2)?,
        renewed: time(row, 3)?,
        token_expires: time(row, 4)?,
        registration: registration(id, certificate, bulk_token),
        blocked_since: time_if_any(row, 6)?,
    })
}

fn octets(id: Guid) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

fn guid(row: &Row, column: usize) -> Result<Guid, Fault> {
    array(row, column).map(|octets| Guid(u128::from_be_bytes(octets)))
}

/// Octets of a column that has so many by its own check; whatever else is there is as good as none.
fn array<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], Fault> {
    let octets: &[u8] = row.try_get(column)?;
    Ok(octets.try_into().unwrap_or([0; N]))
}

/// Times end where integers of the database do, 292 thousand million years from now.
fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

fn since(now: u64, ago: u64) -> i64 {
    seconds(now.saturating_sub(ago))
}

fn time(row: &Row, column: usize) -> Result<u64, Fault> {
    Ok(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0))
}

fn time_if_any(row: &Row, column: usize) -> Result<Option<u64>, Fault> {
    let time = row.try_get::<_, Option<i64>>(column)?;
    Ok(time.map(|time| u64::try_from(time).unwrap_or(0)))
}
