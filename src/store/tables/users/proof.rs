//! Queries on the addresses of accounts: proven, or to be proven, or replaced.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::{CURRENT_KEY, holder};
use crate::clock::Timestamp;
use crate::email::EmailKey;
use crate::ids::UserId;
use crate::store::AnyConnection;
use crate::store::engine::connection::in_savepoint;
use crate::store::tables::mail_tokens::{self, Purpose};
use crate::store::tables::schema::users;

/// Sets the password of an enabled account whose user has just proven its address. `false`: there is none.
pub fn reset_password(conn: &mut AnyConnection, id: UserId, new_hash: &str, now: Timestamp) -> QueryResult<bool> {
    let enabled = users::table.filter(users::id.eq(id)).filter(users::disabled_at.is_null());
    let changed = diesel::update(enabled).set((
        users::password_hash.eq(new_hash),
        users::email_verified.eq(true),
        users::contested.eq(false),
        users::updated_at.eq(now),
    ));
    Ok(changed.execute(conn)? == 1)
}

/// Marks the address of an enabled account as proven, unless who proves it has to choose the password. `false`: it is not so.
pub fn prove_email(conn: &mut AnyConnection, id: UserId, now: Timestamp) -> QueryResult<bool> {
    let enabled = users::table.filter(users::id.eq(id)).filter(users::disabled_at.is_null());
    let changed = diesel::update(enabled.filter(users::contested.eq(false)))
        .set((users::email_verified.eq(true), users::updated_at.eq(now)));
    Ok(changed.execute(conn)? == 1)
}

/// Whether the account's address was registered again before it was proven.
pub fn is_contested(conn: &mut AnyConnection, id: UserId) -> QueryResult<bool> {
    let contested = users::table.filter(users::id.eq(id)).filter(users::contested.eq(true));
    diesel::select(diesel::dsl::exists(contested)).get_result(conn)
}

/// Registers an address again that has not been proven: the account gets this name and password, and who proves the address
/// chooses another one. `false`: it has been proven, or disabled.
pub fn contest(
    conn: &mut AnyConnection,
    id: UserId,
    (name, new_hash): (Option<&str>, &str),
    now: Timestamp,
) -> QueryResult<bool> {
    let unproven = users::table
        .filter(users::id.eq(id))
        .filter(users::disabled_at.is_null())
        .filter(users::email_verified.eq(false));
    let changed = diesel::update(unproven).set((
        users::name.eq(name),
        users::password_hash.eq(new_hash),
        users::contested.eq(true),
        users::updated_at.eq(now),
    ));
    Ok(changed.execute(conn)? == 1)
}

/// What came of a change of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The account has it now.
    Yes,
    /// Another account has it, or may still have it back.
    Taken,
    /// There is no such account.
    Gone,
}

/// Replaces the account's address, proven or not. What was mailed to prove anything before is good no more.
pub fn set_email(
    conn: &mut AnyConnection,
    id: UserId,
    email: &str,
    proven: bool,
    now: Timestamp,
) -> QueryResult<Moved> {
    let key = EmailKey::of(email);
    let is_taken = holder(conn, &key)?.is_some_and(|holder| holder != id);
    if is_taken || mail_tokens::is_reserved(conn, &key, Some(id), now)? {
        return Ok(Moved::Taken);
    }
    mail_tokens::kill(conn, id, &[Purpose::Reset, Purpose::Verify, Purpose::Change])?;
    let change = |conn: &mut AnyConnection| {
        diesel::update(users::table.filter(users::id.eq(id)))
            .set((
                users::email.eq(email),
                users::email_key.eq(key.current()),
                users::email_key_version.eq(CURRENT_KEY),
                users::email_verified.eq(proven),
                users::contested.eq(false),
                users::updated_at.eq(now),
            ))
            .execute(conn)
    };
    match in_savepoint(conn, change) {
        Ok(0) => Ok(Moved::Gone),
        Ok(_) => Ok(Moved::Yes),
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(Moved::Taken),
        Err(error) => Err(error),
    }
}
