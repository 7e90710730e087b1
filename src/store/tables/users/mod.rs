//! Queries on accounts.

mod proof;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
#[cfg(feature = "sqlite")]
use diesel::sql_types::Bool;
use diesel::sql_types::{BigInt, Nullable};

pub use self::proof::{Moved, contest, hold, is_contested, is_taken, prove_email, reset_password, set_email};
use super::columns::Roles;
use super::mail_tokens;
use super::schema::{sessions, users};
use super::sessions::NotEnded;
use crate::clock::Timestamp;
use crate::email::EmailKey;
use crate::ids::{SessionId, UserId};
use crate::store::AnyConnection;
use crate::store::engine::connection::{in_savepoint, prepared};

/// `email_key_version` of a key as earlier versions compared addresses, and of one as they are compared now.
pub(super) const EARLIER_KEY: i64 = 0;
pub(super) const CURRENT_KEY: i64 = 1;

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
    /// Since when it has a second factor in force.
    pub mfa_since: Option<Timestamp>,
}

/// What an account gives its sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Queryable)]
pub struct Bestowed {
    /// Names of roles.
    pub roles: Roles,
    /// JSON object.
    pub claims: Option<String>,
}

type UserColumns = (
    users::id,
    users::email,
    users::name,
    users::roles,
    users::email_verified,
    users::created_at,
    users::disabled_at,
    users::totp_enabled_at,
);
const USER_COLUMNS: UserColumns = (
    users::id,
    users::email,
    users::name,
    users::roles,
    users::email_verified,
    users::created_at,
    users::disabled_at,
    users::totp_enabled_at,
);

/// An account as an operator sees it.
#[derive(Clone, Debug, Queryable)]
pub struct AccountRow {
    /// What others may see.
    pub user: UserRow,
    /// When its user last logged in.
    pub last_login_at: Option<Timestamp>,
    /// JSON object: what access tokens say besides.
    pub claims: Option<String>,
}

/// What a log-in is checked against.
#[derive(Clone, Queryable)]
pub struct Credentials {
    /// The account.
    pub user: UserRow,
    /// Tagged bcrypt.
    pub password_hash: String,
    /// Whether the address was registered again before its proof: the password may be a stranger's.
    pub contested: bool,
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

impl From<&NewUser> for UserRow {
    fn from(new: &NewUser) -> Self {
        Self {
            id: new.id,
            email: new.email.clone(),
            name: new.name.clone(),
            roles: new.roles.clone(),
            email_verified: new.email_verified,
            created_at: new.created_at,
            disabled_at: None,
            mfa_since: None,
        }
    }
}

/// Adds an account. `false`: another one has the address, or may still have it back.
pub fn insert(conn: &mut AnyConnection, user: &NewUser) -> QueryResult<bool> {
    let key = EmailKey::of(&user.email);
    if holder(conn, &key)?.is_some() || mail_tokens::is_reserved(conn, &key, None, user.created_at)? {
        return Ok(false);
    }
    // PostgreSQL goes on with a transaction in which a statement has failed only behind a savepoint.
    match in_savepoint(conn, |conn| diesel::insert_into(users::table).values(user).execute(conn)) {
        Ok(_) => Ok(true),
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Asks for the account that is found by an address: the one that is spelt exactly so where it has to be told from another
/// by that, else the one with the same address.
fn by_address<T>(key: &EmailKey, mut query: impl FnMut(&str) -> QueryResult<Option<T>>) -> QueryResult<Option<T>> {
    // No account has one like that, and PostgreSQL takes it for a mistake to ask.
    if key.earlier().contains('\0') {
        return Ok(None);
    }
    match query(key.earlier())? {
        None if key.current() != key.earlier() => query(key.current()),
        found => Ok(found),
    }
}

/// The account with this address, and its password's hash.
pub fn credentials_by_email(conn: &mut AnyConnection, key: &EmailKey) -> QueryResult<Option<Credentials>> {
    by_address(key, |email_key| {
        let theirs = users::table.filter(users::email_key.eq(email_key));
        theirs.select((USER_COLUMNS, users::password_hash, users::contested)).first(conn).optional()
    })
}

/// The account with this id, and its password's hash.
pub fn credentials_by_id(conn: &mut AnyConnection, id: UserId) -> QueryResult<Option<Credentials>> {
    users::table
        .filter(users::id.eq(id))
        .select((USER_COLUMNS, users::password_hash, users::contested))
        .first(conn)
        .optional()
}

/// The account with this address.
pub fn find_by_email(conn: &mut AnyConnection, key: &EmailKey) -> QueryResult<Option<AccountRow>> {
    by_address(key, |email_key| {
        let theirs = users::table.filter(users::email_key.eq(email_key));
        theirs.select((USER_COLUMNS, users::last_login_at, users::claims)).first(conn).optional()
    })
}

/// The highest cost of a stored bcrypt hash. Looks at every account.
pub fn highest_cost(conn: &mut AnyConnection) -> QueryResult<Option<i64>> {
    match conn {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(sqlite) => {
            // None, as of an imported hash of another kind, is 0.
            let cost = "CAST(substr(password_hash, instr(password_hash, '$2') + 4, 2) AS INTEGER)";
            let hashes = users::table.filter(sql::<Bool>(&format!("{cost} BETWEEN 4 AND 31")));
            hashes.select(sql::<Nullable<BigInt>>(&format!("max({cost})"))).get_result(sqlite)
        }
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(postgresql) => {
            let cost = "max(substring(password_hash FROM '[$]2[abxy]?[$](0[4-9]|[12][0-9]|3[01])[$]')::bigint)";
            users::table.select(sql::<Nullable<BigInt>>(cost)).get_result(postgresql)
        }
    }
}

/// Which account has this address, however it is spelt.
fn holder(conn: &mut AnyConnection, key: &EmailKey) -> QueryResult<Option<UserId>> {
    let found = by_address(key, |email_key| {
        users::table.filter(users::email_key.eq(email_key)).select(users::id).first(conn).optional()
    })?;
    if found.is_some() {
        return Ok(found);
    }
    // The few that are kept apart under keys of earlier versions, whose addresses may be this one all the same.
    let apart = users::table.filter(users::email_key_version.eq(EARLIER_KEY)).select((users::id, users::email));
    let apart: Vec<(UserId, String)> = apart.load(conn)?;
    Ok(apart.into_iter().find(|(_, email)| EmailKey::of(email).current() == key.current()).map(|(id, _)| id))
}

/// The account with this id.
pub fn find_by_id(conn: &mut AnyConnection, id: UserId) -> QueryResult<Option<AccountRow>> {
    users::table
        .filter(users::id.eq(id))
        .select((USER_COLUMNS, users::last_login_at, users::claims))
        .first(conn)
        .optional()
}

/// At most `limit` accounts in the order in which they were made, from the one after `after` on.
pub fn page(conn: &mut AnyConnection, after: Option<UserId>, limit: i64) -> QueryResult<Vec<AccountRow>> {
    let ordered =
        users::table.select((USER_COLUMNS, users::last_login_at, users::claims)).order(users::id).limit(limit);
    match after {
        Some(after) => ordered.filter(users::id.gt(after)).load(conn),
        None => ordered.load(conn),
    }
}

/// The user of a live session: both must exist, be each other's, and not be ended or disabled.
pub fn of_live_session(
    conn: &mut AnyConnection,
    user: UserId,
    session: SessionId,
    now: Timestamp,
) -> QueryResult<Option<UserRow>> {
    let theirs = users::table
        .inner_join(sessions::table.on(sessions::user_id.eq(users::id)))
        .filter(users::id.eq(user))
        .filter(users::disabled_at.is_null())
        .filter(sessions::id.eq(session))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .filter(NotEnded)
        .select(USER_COLUMNS);
    // Not `first`: its LIMIT is a parameter, for whose value SQLite plans anew.
    prepared!(conn, conn => theirs.get_result(conn)).optional()
}

/// Marks a log-in, if the account is still as it was when its password was verified, and has a second factor in force or,
/// by `mfa`, none. Returns what it gives the session. `None`: it is not.
pub fn begin_session(
    conn: &mut AnyConnection,
    id: UserId,
    verified_hash: &str,
    mfa: bool,
    now: Timestamp,
) -> QueryResult<Option<Bestowed>> {
    let unchanged = users::table
        .filter(users::id.eq(id))
        .filter(users::disabled_at.is_null())
        .filter(users::password_hash.eq(verified_hash))
        .filter(users::totp_enabled_at.is_not_null().eq(mfa));
    let begun = diesel::update(unchanged).set(users::last_login_at.eq(now)).returning((users::roles, users::claims));
    begun.get_result(conn).optional()
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

/// Sets the password, whatever it was. `false`: there is no such account.
pub fn set_password(conn: &mut AnyConnection, id: UserId, new_hash: &str, now: Timestamp) -> QueryResult<bool> {
    let changed = diesel::update(users::table.filter(users::id.eq(id))).set((
        users::password_hash.eq(new_hash),
        users::contested.eq(false),
        users::updated_at.eq(now),
    ));
    Ok(changed.execute(conn)? == 1)
}

/// Closes the account. `false`: it is closed already, or gone.
pub fn disable(conn: &mut AnyConnection, id: UserId, now: Timestamp) -> QueryResult<bool> {
    let open = users::table.filter(users::id.eq(id)).filter(users::disabled_at.is_null());
    let changed = diesel::update(open).set((users::disabled_at.eq(Some(now)), users::updated_at.eq(now)));
    Ok(changed.execute(conn)? == 1)
}

/// Opens the account again. `false`: it is not closed, or gone.
pub fn enable(conn: &mut AnyConnection, id: UserId, now: Timestamp) -> QueryResult<bool> {
    let closed = users::table.filter(users::id.eq(id)).filter(users::disabled_at.is_not_null());
    let changed = diesel::update(closed).set((users::disabled_at.eq(None::<Timestamp>), users::updated_at.eq(now)));
    Ok(changed.execute(conn)? == 1)
}

/// Whether the account is there.
pub fn exists(conn: &mut AnyConnection, id: UserId) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(users::table.filter(users::id.eq(id)))).get_result(conn)
}

/// The account's roles.
pub fn roles(conn: &mut AnyConnection, id: UserId) -> QueryResult<Option<Roles>> {
    users::table.filter(users::id.eq(id)).select(users::roles).first(conn).optional()
}

/// Replaces the account's roles, if they are still as they were read. `false`: they are not.
pub fn replace_roles(
    conn: &mut AnyConnection,
    id: UserId,
    read: &Roles,
    roles: &Roles,
    now: Timestamp,
) -> QueryResult<bool> {
    let unchanged = diesel::update(users::table.filter(users::id.eq(id)).filter(users::roles.eq(read)));
    Ok(unchanged.set((users::roles.eq(roles), users::updated_at.eq(now))).execute(conn)? == 1)
}

/// Replaces the account's claims. `false`: there is no such account.
pub fn set_claims(conn: &mut AnyConnection, id: UserId, claims: Option<&str>, now: Timestamp) -> QueryResult<bool> {
    let changed = diesel::update(users::table.filter(users::id.eq(id)))
        .set((users::claims.eq(claims), users::updated_at.eq(now)));
    Ok(changed.execute(conn)? == 1)
}

/// The account's claims. `None`: there is no such account.
pub fn claims(conn: &mut AnyConnection, id: UserId) -> QueryResult<Option<Option<String>>> {
    users::table.filter(users::id.eq(id)).select(users::claims).first(conn).optional()
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

/// Removes the account. `false`: there is none.
pub fn remove(conn: &mut AnyConnection, id: UserId) -> QueryResult<bool> {
    Ok(diesel::delete(users::table.filter(users::id.eq(id))).execute(conn)? == 1)
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use super::*;
    use crate::store::testing::TestDatabase;

    #[test]
    fn the_highest_cost_is_that_of_a_hash_that_can_be_read() {
        let database = TestDatabase::new();
        let mut conn = database.connect();
        assert_eq!(highest_cost(&mut conn).unwrap(), None);
        let rest = "$abcdefghijklmnopqrstuu5aJ5lDu4JfvtTWbXU3ZgvZRVRNzVBG6";
        let hashes = ["garbage", "$2b$99", "cs1:-:$2b$10", "$2a$13", "cs1:2aB$2b$:x", "$argon2id$v=19"];
        for (number, hash) in hashes.iter().enumerate() {
            let new = NewUser {
                id: UserId::generate(),
                email: format!("user{number}@example.com"),
                email_key: format!("user{number}@example.com"),
                name: None,
                password_hash: format!("{hash}{rest}"),
                roles: Roles::default(),
                email_verified: false,
                created_at: Timestamp::from_seconds(1),
                updated_at: Timestamp::from_seconds(1),
            };
            assert!(conn.transaction(|conn| insert(conn, &new)).unwrap());
        }
        assert_eq!(highest_cost(&mut conn).unwrap(), Some(13));
    }
}
