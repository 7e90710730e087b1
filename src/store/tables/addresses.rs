//! Accounts whose addresses earlier versions compared in another way: their keys are made anew, and where two accounts have
//! one address by now, that is told.

use std::fmt;

#[cfg(feature = "sqlite")]
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

use super::schema::users;
use super::users::{CURRENT_KEY, EARLIER_KEY};
use crate::email::EmailKey;
use crate::ids::UserId;
use crate::store::AnyConnection;

/// Accounts that are looked at in one transaction.
const PAGE: i64 = 500;
/// Two accounts whose addresses are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The address of the one that is found by any spelling of it but the other's.
    pub found: String,
    /// The address of the one that is found by exactly this, without case.
    pub kept_apart: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, kept_apart } = self;
        write!(
            f,
            "two accounts have the same e-mail address by now, {found:?} and {kept_apart:?}: each is still found as it is \
             spelt; give one of them another with `countersign user set-email`"
        )
    }
}

/// An account with an earlier key: its id, address and key.
type Earlier = (UserId, String, String);

/// Gives every account with an earlier key the present one, unless another account has it. The older of two comes first.
/// Doing it again does no harm: what another account has given up by then is free.
pub fn renew_keys(conn: &mut AnyConnection) -> QueryResult<()> {
    // Nearly always: a start beside others that write waits for none of them.
    if earlier(conn, None)?.is_empty() {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = in_transaction(conn, |conn| {
            let page = earlier(conn, after)?;
            page.iter().try_for_each(|row| renew(conn, row))?;
            Ok(page)
        })?;
        let Some((last, ..)) = page.last() else { return Ok(()) };
        after = Some(*last);
    }
}

/// The accounts that could not be given the present key, each with the one that has it.
pub fn conflicts(conn: &mut AnyConnection) -> QueryResult<Vec<Conflict>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = earlier(conn, after)?;
        let Some((last, ..)) = page.last() else { return Ok(found) };
        after = Some(*last);
        for (id, kept_apart, _) in page {
            let key = EmailKey::of(&kept_apart);
            let other = users::table.filter(users::email_key.eq(key.current())).filter(users::id.ne(id));
            let other: Option<String> = other.select(users::email).first(conn).optional()?;
            found.extend(other.map(|found| Conflict { found, kept_apart }));
        }
    }
}

fn earlier(conn: &mut AnyConnection, after: Option<UserId>) -> QueryResult<Vec<Earlier>> {
    let ordered = users::table
        .filter(users::email_key_version.eq(EARLIER_KEY))
        .select((users::id, users::email, users::email_key))
        .order(users::id)
        .limit(PAGE);
    match after {
        Some(after) => ordered.filter(users::id.gt(after)).load(conn),
        None => ordered.load(conn),
    }
}

fn renew(conn: &mut AnyConnection, (id, email, email_key): &Earlier) -> QueryResult<()> {
    let key = EmailKey::of(email);
    let taken = users::table.filter(users::email_key.eq(key.current())).filter(users::id.ne(id));
    if key.current() != email_key && diesel::select(diesel::dsl::exists(taken)).get_result(conn)? {
        return Ok(());
    }
    diesel::update(users::table.filter(users::id.eq(id)))
        .set((users::email_key.eq(key.current()), users::email_key_version.eq(CURRENT_KEY)))
        .execute(conn)?;
    Ok(())
}

/// On PostgreSQL there is one already, in which the migrations run.
fn in_transaction<T>(
    conn: &mut AnyConnection,
    work: impl FnOnce(&mut AnyConnection) -> QueryResult<T>,
) -> QueryResult<T> {
    match conn {
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(_) => work(conn),
        // Another process may write to the file: who has read cannot begin to write then, so writing begins at once.
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(_) => {
            conn.batch_execute("BEGIN IMMEDIATE")?;
            let result = work(conn);
            conn.batch_execute(if result.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
            result
        }
    }
}
