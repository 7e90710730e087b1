//! Queries on accounts whose address is proven, or is to be.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::store::AnyConnection;
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
