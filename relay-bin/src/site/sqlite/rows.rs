//! What is read from a store of SQLite, and how values stand in it.

use relay_core::auth::Guid;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, Transaction, params};

use super::super::store::{
    CLIENT_OVER_AFTER, CLIENTS_MAX, Client, Content, Digest, EXCHANGED_COUNTS, OVER_AFTER,
    SIGNED_COUNTS, no_certificate, registration,
};

/// What is blocked and not over. Whose tokens are over is no matter of their order.
pub(super) const BLOCKED: &str = "
    SELECT id FROM bulk_tokens WHERE blocked_since IS NOT NULL AND expires >= ?1
    UNION ALL
    SELECT id FROM clients
        WHERE blocked_since IS NOT NULL AND (token_expires >= ?1 OR blocked_since >= ?2)
    ORDER BY id";

/// Whose tokens may count still.
pub(super) const COUNTED: &str = "
    SELECT certificate FROM signers WHERE distrusted_since IS NULL AND signs_until >= ?1
    ORDER BY number";

/// Whether a token or client is blocked; none if neither is there.
pub(super) fn is_blocked(
    transaction: &Transaction<'_>,
    id: Guid,
) -> rusqlite::Result<Option<bool>> {
    match block_in(transaction, "bulk_tokens", id)? {
        Some(is_blocked) => Ok(Some(is_blocked)),
        None => block_in(transaction, "clients", id),
    }
}

pub(super) fn block_in(
    transaction: &Transaction<'_>,
    table: &'static str,
    id: Guid,
) -> rusqlite::Result<Option<bool>> {
    let query = format!("SELECT blocked_since IS NOT NULL FROM {table} WHERE id = ?1");
    transaction.query_row(&query, [octets(id)], |row| row.get(0)).optional()
}

pub(super) fn blocked(connection: &Connection, now: u64) -> rusqlite::Result<Vec<Guid>> {
    rows(connection, BLOCKED, params_of_blocked(now), |row| guid(row, 0))
}

pub(super) fn content(connection: &Connection, now: u64) -> rusqlite::Result<Content> {
    let counted = [since(now, SIGNED_COUNTS)];
    let certificates = rows(connection, COUNTED, counted, |row| row.get(0))?;
    Ok(Content { certificates, blocked: blocked(connection, now)? })
}

/// Number and digest of what was published last.
pub(super) fn last_published(connection: &Connection) -> rusqlite::Result<Option<(u64, Digest)>> {
    let last = "SELECT number, digest FROM published ORDER BY number DESC LIMIT 1";
    connection.query_row(last, [], |row| Ok((time(row, 0)?, row.get(1)?))).optional()
}

pub(super) fn params_of_blocked(now: u64) -> [i64; 2] {
    [since(now, OVER_AFTER), since(now, CLIENT_OVER_AFTER)]
}

pub(super) fn since(now: u64, ago: u64) -> i64 {
    seconds(now.saturating_sub(ago))
}

/// How many rows a query finds.
pub(super) fn count_of(
    connection: &Connection,
    query: &str,
    params: impl Params,
) -> rusqlite::Result<usize> {
    let query = format!("SELECT count(*) FROM ({query})");
    let found = connection.query_row(&query, params, count)?;
    Ok(usize::try_from(found).unwrap_or(usize::MAX))
}

pub(super) fn rows<T>(
    connection: &Connection,
    query: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare(query)?;
    let rows = statement.query_map(params, read)?;
    rows.collect()
}

/// The columns that [`client`] reads.
pub(super) const CLIENT: &str =
    "id, certificate, registered, renewed, token_expires, bulk_token, blocked_since";

pub(super) fn client(row: &Row<'_>) -> rusqlite::Result<Client> {
    let bulk_token = row.get::<_, Option<[u8; 16]>>(5)?;
    let bulk_token = bulk_token.map(|id| Guid(u128::from_be_bytes(id)));
    let (id, certificate) = (guid(row, 0)?, row.get(1)?);
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

/// Remembers a client of Entra ID that is to be blocked.
pub(super) fn add_of_entra(
    transaction: &Transaction<'_>,
    id: Guid,
    now: u64,
) -> rusqlite::Result<usize> {
    let expires = seconds(now.saturating_add(EXCHANGED_COUNTS));
    transaction.execute(
        "INSERT INTO clients (id, certificate, registered, renewed, token_expires)
         VALUES (?1, ?2, ?3, ?3, ?4)",
        params![octets(id), no_certificate(id), seconds(now), expires],
    )
}

/// How many clients there are without this one. Those whose tokens were over long before `now` are
/// forgotten where there is no room, and only there: a clock that is ahead makes nobody unknown.
pub(super) fn others_left(
    transaction: &Transaction<'_>,
    id: Guid,
    now: u64,
) -> rusqlite::Result<usize> {
    let others = || count_of(transaction, "SELECT id FROM clients WHERE id <> ?1", [octets(id)]);
    let before = others()?;
    if before < CLIENTS_MAX {
        return Ok(before);
    }
    transaction.execute(
        "DELETE FROM clients WHERE blocked_since IS NULL AND token_expires < ?1",
        [since(now, CLIENT_OVER_AFTER)],
    )?;
    others()
}

/// Another client that has the certificate of this one.
pub(super) fn other_of(
    transaction: &Transaction<'_>,
    client: &Client,
) -> rusqlite::Result<Option<Guid>> {
    let query = "SELECT id FROM clients WHERE certificate = ?1 AND id <> ?2";
    let named = params![client.certificate, octets(client.id)];
    transaction.query_row(query, named, |row| guid(row, 0)).optional()
}

pub(super) fn octets(id: Guid) -> [u8; 16] {
    id.0.to_be_bytes()
}

pub(super) fn guid(row: &Row<'_>, column: usize) -> rusqlite::Result<Guid> {
    row.get(column).map(|octets| Guid(u128::from_be_bytes(octets)))
}

/// Times end where SQLite's integers do, 292 thousand million years from now.
pub(super) fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let seconds = row.get::<_, i64>(column)?;
    u64::try_from(seconds).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, Box::new(error))
    })
}

pub(super) fn time_if_any(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    if row.get_ref(column)?.data_type() == Type::Null {
        return Ok(None);
    }
    time(row, column).map(Some)
}

pub(super) fn count(row: &Row<'_>) -> rusqlite::Result<i64> {
    row.get(0)
}
