//! Queries on the list of keys that have signed: which must still be there, and whose tokens go when one is given up.

use std::time::Duration;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::schema::{sessions, signing_keys};
use crate::clock::Timestamp;
use crate::ids::SessionId;
use crate::store::AnyConnection;
use crate::store::engine::connection::in_savepoint;

/// A key that has signed tokens of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct SigningKey {
    /// Its name in the headers of its tokens.
    pub kid: String,
    /// `access` or `refresh`.
    pub purpose: String,
    /// `iss` of those tokens; empty: unknown.
    pub issuer: String,
    /// `alg` of those tokens.
    pub algorithm: String,
    /// The name of the file it was generated into. None: it was configured, or that is unknown.
    pub file: Option<String>,
    /// When a server first had it for these.
    pub first_used_at: Timestamp,
    /// When a server last had it for these, give or take a few minutes.
    pub last_used_at: Timestamp,
    /// The last token signed with it can be used until then.
    pub needed_until: Timestamp,
}

/// The whole list; it has a few rows.
pub fn all(conn: &mut AnyConnection) -> QueryResult<Vec<SigningKey>> {
    signing_keys::table
        .select((
            signing_keys::kid,
            signing_keys::purpose,
            signing_keys::issuer,
            signing_keys::algorithm,
            signing_keys::file,
            signing_keys::first_used_at,
            signing_keys::last_used_at,
            signing_keys::needed_until,
        ))
        .order((signing_keys::purpose, signing_keys::first_used_at, signing_keys::kid, signing_keys::issuer))
        .load(conn)
}

/// Puts a key on the list, or its ends further into the future.
pub fn record(conn: &mut AnyConnection, key: &SigningKey) -> QueryResult<()> {
    let row = || {
        signing_keys::table
            .filter(signing_keys::kid.eq(key.kid.clone()))
            .filter(signing_keys::purpose.eq(key.purpose.clone()))
            .filter(signing_keys::issuer.eq(key.issuer.clone()))
    };
    if !diesel::select(diesel::dsl::exists(row())).get_result::<bool>(conn)? {
        let new = (
            signing_keys::kid.eq(&key.kid),
            signing_keys::purpose.eq(&key.purpose),
            signing_keys::issuer.eq(&key.issuer),
            signing_keys::algorithm.eq(&key.algorithm),
            signing_keys::file.eq(&key.file),
            signing_keys::first_used_at.eq(key.first_used_at),
            signing_keys::last_used_at.eq(key.last_used_at),
            signing_keys::needed_until.eq(key.needed_until),
        );
        match in_savepoint(conn, |conn| diesel::insert_into(signing_keys::table).values(new).execute(conn)) {
            // Another node was faster.
            Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {}
            done => return done.map(|_| ()),
        }
    }
    diesel::update(row().filter(signing_keys::needed_until.lt(key.needed_until)))
        .set((signing_keys::needed_until.eq(key.needed_until), signing_keys::file.eq(&key.file)))
        .execute(conn)?;
    diesel::update(row().filter(signing_keys::last_used_at.lt(key.last_used_at)))
        .set(signing_keys::last_used_at.eq(key.last_used_at))
        .execute(conn)?;
    Ok(())
}

/// Gives up what a key has signed. It stays on the list, as one that is needed no more: that the database was in use
/// is not forgotten with it.
pub fn forget(conn: &mut AnyConnection, kid: &str) -> QueryResult<()> {
    diesel::update(signing_keys::table.filter(signing_keys::kid.eq(kid)))
        .set(signing_keys::needed_until.eq(Timestamp::from_micros(0)))
        .execute(conn)?;
    Ok(())
}

/// Removes what is needed no more since `needed`, and was last used before `used`.
pub fn purge(conn: &mut AnyConnection, needed: Timestamp, used: Timestamp) -> QueryResult<()> {
    let over =
        signing_keys::table.filter(signing_keys::needed_until.lt(needed)).filter(signing_keys::last_used_at.lt(used));
    diesel::delete(over).execute(conn)?;
    Ok(())
}

/// How many live sessions have a token in use that was signed with a key: the current one, or the one before it, whose
/// client may have lost the answer within `recovery`. Reads them all: for a start that is about to be refused, and for
/// operators.
pub fn sessions_signed_with(
    conn: &mut AnyConnection,
    kid: &str,
    recovery: Duration,
    now: Timestamp,
) -> QueryResult<i64> {
    let recoverable = sessions::previous_key_id
        .eq(kid)
        .and(sessions::confirmed_at.is_null())
        .and(sessions::rotated_at.ge(now.minus(recovery)));
    sessions::table
        .filter(sessions::key_id.eq(kid).or(recoverable))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::idle_expires_at.gt(now))
        .filter(sessions::expires_at.gt(now))
        .count()
        .get_result(conn)
}

/// Whether there is a live session that has an access token which is still good.
pub fn any_access_token(conn: &mut AnyConnection, now: Timestamp) -> QueryResult<bool> {
    let live = sessions::table
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .filter(sessions::access_expires_at.gt(now));
    diesel::select(diesel::dsl::exists(live)).get_result(conn)
}

/// Whether there is a live session that was opened between `from` and `to`.
pub fn any_opened_between(
    conn: &mut AnyConnection,
    from: Timestamp,
    to: Timestamp,
    now: Timestamp,
) -> QueryResult<bool> {
    let live = sessions::table
        .filter(sessions::created_at.between(from, to))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::idle_expires_at.gt(now))
        .filter(sessions::expires_at.gt(now));
    diesel::select(diesel::dsl::exists(live)).get_result(conn)
}

/// At most `limit` sessions that have not been ended, and whose current token was signed with a key, from the one after
/// `after` on.
pub fn page_signed_with(
    conn: &mut AnyConnection,
    kid: &str,
    after: Option<SessionId>,
    limit: i64,
) -> QueryResult<Vec<SessionId>> {
    let mut signed = sessions::table
        .filter(sessions::key_id.eq(kid.to_owned()))
        .filter(sessions::revoked_at.is_null())
        .order(sessions::id)
        .select(sessions::id)
        .limit(limit)
        .into_boxed();
    if let Some(after) = after {
        signed = signed.filter(sessions::id.gt(after));
    }
    signed.load(conn)
}
