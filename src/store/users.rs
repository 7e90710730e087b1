//! Queries on accounts.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::AnyConnection;
use super::columns::Roles;
use super::schema::{sessions, users};
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};

/// An account as others may see it.
#[derive(Clone, Debug, Queryable)]
pub struct UserRow {
    /// Its id.
    pub id: UserId,
    /// As it was registered.
    pub email: String,
    /// What the user is called.
    pub name: Option<String>,
    /// Names of roles.
    pub roles: Roles,
    /// Whether the address was proven.
    pub email_verified: bool,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was disabled.
    pub disabled_at: Option<Timestamp>,
}

type UserColumns =
    (users::id, users::email, users::name, users::roles, users::email_verified, users::created_at, users::disabled_at);
const USER_COLUMNS: UserColumns =
    (users::id, users::email, users::name, users::roles, users::email_verified, users::created_at, users::disabled_at);

/// What a log-in is checked against.
#[derive(Clone, Queryable)]
pub struct Credentials {
    /// The account.
    pub user: UserRow,
    /// Tagged bcrypt.
    pub password_hash: String,
}

/// An account to be made.
#[derive(Clone, Insertable)]
#[diesel(table_name = users)]
pub struct NewUser {
    /// Its id.
    pub id: UserId,
    /// As it was given.
    pub email: String,
    /// As it is compared.
    pub email_key: String,
    /// What the user is called.
    pub name: Option<String>,
    /// Tagged bcrypt.
    pub password_hash: String,
    /// Names of roles.
    pub roles: Roles,
    /// Whether the address was proven.
    pub email_verified: bool,
    /// Now.
    pub created_at: Timestamp,
    /// Now.
    pub updated_at: Timestamp,
}

/// Adds an account. `false`: another one has the address.
pub fn insert(conn: &mut AnyConnection, user: &NewUser) -> QueryResult<bool> {
    let taken = users::table.filter(users::email_key.eq(&user.email_key));
    if diesel::select(diesel::dsl::exists(taken)).get_result(conn)? {
        return Ok(false);
    }
    match diesel::insert_into(users::table).values(user).execute(conn) {
        Ok(_) => Ok(true),
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The account with this address, and its password's hash.
pub fn credentials_by_email(conn: &mut AnyConnection, email_key: &str) -> QueryResult<Option<Credentials>> {
    users::table
        .filter(users::email_key.eq(email_key))
        .select((USER_COLUMNS, users::password_hash))
        .first(conn)
        .optional()
}

/// The account with this id, and its password's hash.
pub fn credentials_by_id(conn: &mut AnyConnection, id: UserId) -> QueryResult<Option<Credentials>> {
    users::table.filter(users::id.eq(id)).select((USER_COLUMNS, users::password_hash)).first(conn).optional()
}

/// The user of a live session: both must exist, be each other's, and not be ended or disabled.
pub fn of_live_session(
    conn: &mut AnyConnection,
    user: UserId,
    session: SessionId,
    now: Timestamp,
) -> QueryResult<Option<UserRow>> {
    users::table
        .inner_join(sessions::table.on(sessions::user_id.eq(users::id)))
        .filter(users::id.eq(user))
        .filter(users::disabled_at.is_null())
        .filter(sessions::id.eq(session))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .select(USER_COLUMNS)
        .first(conn)
        .optional()
}

/// Marks a log-in, if the account is still as it was when its password was verified, and returns its
/// roles. `None`: it is not.
pub fn begin_session(
    conn: &mut AnyConnection,
    id: UserId,
    verified_hash: &str,
    now: Timestamp,
) -> QueryResult<Option<Roles>> {
    let unchanged = users::table
        .filter(users::id.eq(id))
        .filter(users::disabled_at.is_null())
        .filter(users::password_hash.eq(verified_hash));
    diesel::update(unchanged).set(users::last_login_at.eq(now)).returning(users::roles).get_result(conn).optional()
}

/// Replaces the password, if it is still the one that was verified. `false`: it is not.
pub fn replace_password(
    conn: &mut AnyConnection,
    id: UserId,
    verified_hash: &str,
    new_hash: &str,
    now: Timestamp,
) -> QueryResult<bool> {
    let unchanged = users::table.filter(users::id.eq(id)).filter(users::password_hash.eq(verified_hash));
    let changed = diesel::update(unchanged).set((users::password_hash.eq(new_hash), users::updated_at.eq(now)));
    Ok(changed.execute(conn)? == 1)
}

/// Changes the name, and returns the account.
pub fn rename(
    conn: &mut AnyConnection,
    id: UserId,
    name: Option<&str>,
    now: Timestamp,
) -> QueryResult<Option<UserRow>> {
    diesel::update(users::table.filter(users::id.eq(id)))
        .set((users::name.eq(name), users::updated_at.eq(now)))
        .returning(USER_COLUMNS)
        .get_result(conn)
        .optional()
}

/// Removes the account, if its password is still the one that was verified. `false`: it is not.
pub fn delete(conn: &mut AnyConnection, id: UserId, verified_hash: &str) -> QueryResult<bool> {
    let unchanged = users::table.filter(users::id.eq(id)).filter(users::password_hash.eq(verified_hash));
    Ok(diesel::delete(unchanged).execute(conn)? == 1)
}
