//! Queries on the addresses of accounts: proven, or to be proven, or replaced.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::{CURRENT_KEY, holder};
use crate::clock::Timestamp;
use crate::email::EmailKey;
use crate::ids::UserId;
use crate::store::engine::connection::in_savepoint;
use crate::store::tables::mail_tokens::{self, Purpose};
use crate::store::tables::schema::users;
use crate::store::{AnyConnection, too_many_conflicts};

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
    let contested = changed.execute(conn)? == 1;
    if contested {
        // It was asked for with another password.
        mail_tokens::kill(conn, id, &[Purpose::Change])?;
    }
    Ok(contested)
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

/// Whether an address cannot become this account's: another one has it, or may still have it back.
pub fn is_taken(conn: &mut AnyConnection, email: &EmailKey, id: UserId, now: Timestamp) -> QueryResult<bool> {
    let has_holder = holder(conn, email)?.is_some_and(|holder| holder != id);
    Ok(has_holder || mail_tokens::is_reserved(conn, email, Some(id), now)?)
}

/// Holds an enabled account's row, if its password is still the one that was verified. `false`: it is not.
pub fn hold(conn: &mut AnyConnection, id: UserId, verified_hash: &str, now: Timestamp) -> QueryResult<bool> {
    let unchanged = users::table
        .filter(users::id.eq(id))
        .filter(users::disabled_at.is_null())
        .filter(users::password_hash.eq(verified_hash));
    Ok(diesel::update(unchanged).set(users::updated_at.eq(now)).execute(conn)? == 1)
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
    if is_taken(conn, &key, id, now)? {
        return Ok(Moved::Taken);
    }
    let change = |conn: &mut AnyConnection| {
        diesel::update(users::table.filter(users::id.eq(id)))
            .set((
                users::email.eq(email),
                users::email_key.eq(key.current()),
                users::email_key_version.eq(CURRENT_KEY),
                users::email_verified.eq(proven),
                users::updated_at.eq(now),
            ))
            .execute(conn)
    };
    match in_savepoint(conn, change) {
        Ok(0) => return Ok(Moved::Gone),
        Ok(_) => {}
        // Taken beside us: everything is undone, and the next look finds it so.
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => return Err(too_many_conflicts()),
        Err(error) => return Err(error),
    }
    // The account's row is held: no other change adds any.
    mail_tokens::kill(conn, id, Purpose::ALL_BUT_UNDO)?;
    mail_tokens::kill_undo_from(conn, id, &key)?;
    Ok(Moved::Yes)
}
