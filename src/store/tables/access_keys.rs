//! Queries on the access keys that nodes share, sealed as they are kept.

#[cfg(feature = "postgres")]
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

use super::schema::access_keys;
use crate::clock::Timestamp;
use crate::store::AnyConnection;

/// A sealed key.
#[derive(Clone, Debug, PartialEq, Eq, Insertable, Queryable)]
pub struct AccessKey {
    /// Its name in the headers of its tokens.
    pub kid: String,
    /// `alg` of those tokens.
    pub algorithm: String,
    /// What only the secret opens.
    pub sealed: Vec<u8>,
    /// The name of the refresh key whose secret that is.
    pub sealed_under: String,
    /// When it was generated.
    pub made_at: Timestamp,
    /// It signs from then on.
    pub signs_from: Timestamp,
}

/// All of them, in the order in which they were made.
pub fn all(conn: &mut AnyConnection) -> QueryResult<Vec<AccessKey>> {
    access_keys::table
        .select((
            access_keys::kid,
            access_keys::algorithm,
            access_keys::sealed,
            access_keys::sealed_under,
            access_keys::made_at,
            access_keys::signs_from,
        ))
        .order((access_keys::made_at, access_keys::kid))
        .load(conn)
}

/// Adds a key, if there is none yet for which `is_enough`. Nodes that would do so at the same time wait for each other.
pub fn add_unless(
    conn: &mut AnyConnection,
    key: &AccessKey,
    is_enough: impl Fn(&AccessKey) -> bool,
) -> QueryResult<bool> {
    lock(conn)?;
    if all(conn)?.iter().any(is_enough) {
        return Ok(false);
    }
    diesel::insert_into(access_keys::table).values(key).execute(conn)?;
    Ok(true)
}

/// Changes the time from which a key signs.
pub fn begin_at(conn: &mut AnyConnection, kid: &str, from: Timestamp) -> QueryResult<()> {
    diesel::update(access_keys::table.find(kid)).set(access_keys::signs_from.eq(from)).execute(conn)?;
    Ok(())
}

/// Keeps what is sealed in `key` in place of what is there under its name.
pub fn seal_anew(conn: &mut AnyConnection, key: &AccessKey) -> QueryResult<()> {
    diesel::update(access_keys::table.find(&key.kid))
        .set((access_keys::sealed.eq(&key.sealed), access_keys::sealed_under.eq(&key.sealed_under)))
        .execute(conn)?;
    Ok(())
}

/// Removes a key for good. Returns whether it was there.
pub fn remove(conn: &mut AnyConnection, kid: &str) -> QueryResult<bool> {
    Ok(diesel::delete(access_keys::table.find(kid)).execute(conn)? > 0)
}

/// Until the end of the transaction, no other one adds a key. SQLite has one writer.
fn lock(conn: &mut AnyConnection) -> QueryResult<()> {
    match conn {
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(postgres) => {
            postgres.batch_execute("LOCK TABLE access_keys IN SHARE ROW EXCLUSIVE MODE")
        }
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(_) => Ok(()),
    }
}
