//! Queries on attempts: counted before they are made, so that none slips through beside another.

use std::time::Duration;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::AnyConnection;
use super::outrun;
use super::schema::attempts;
use crate::clock::Timestamp;

/// How often a count that lost a race looks again.
const ROUNDS: usize = 8;

/// What is counted, as a digest.
pub type AttemptKey = [u8; 16];

/// One attempt, counted under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    key: AttemptKey,
    /// The window it was counted in.
    window_ends_at: Timestamp,
    /// The attempts in that window, this one among them.
    pub count: i64,
}

/// Whether an attempt may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It is counted, under each key in the order given.
    Granted(Vec<Counted>),
    /// Some limit is reached, and nothing was counted. From this moment on there is room again.
    Refused(Timestamp),
}

/// Counts an attempt under every key, or, if any has reached its limit, under none. A window begins with its first
/// attempt and lasts `window`. Callers name keys in one order everywhere, so that two never wait for each other.
pub fn count(
    conn: &mut AnyConnection,
    limits: &[(AttemptKey, i64)],
    now: Timestamp,
    window: Duration,
) -> QueryResult<Permission> {
    let mut counted = Vec::with_capacity(limits.len());
    let mut full_until = None;
    for (key, limit) in limits {
        match count_one(conn, key, *limit, now, window)? {
            Ok(one) => counted.push(one),
            Err(until) => full_until = full_until.max(Some(until)),
        }
    }
    match full_until {
        None => Ok(Permission::Granted(counted)),
        Some(until) => {
            give_back(conn, &counted)?;
            Ok(Permission::Refused(until))
        }
    }
}

/// Whether any key has reached its limit: the moment from which on there is room under all of them. Counts nothing.
pub fn full_until(
    conn: &mut AnyConnection,
    limits: &[(AttemptKey, i64)],
    now: Timestamp,
) -> QueryResult<Option<Timestamp>> {
    let mut full_until = None;
    for (key, limit) in limits {
        let full = attempts::table
            .filter(attempts::key.eq(key.as_slice()))
            .filter(attempts::window_ends_at.gt(now))
            .filter(attempts::count.ge(limit))
            .select(attempts::window_ends_at);
        full_until = full_until.max(full.first(conn).optional()?);
    }
    Ok(full_until)
}

fn count_one(
    conn: &mut AnyConnection,
    key: &AttemptKey,
    limit: i64,
    now: Timestamp,
    window: Duration,
) -> QueryResult<Result<Counted, Timestamp>> {
    let ends_at = now.plus(window);
    for _ in 0..ROUNDS {
        let here = attempts::table.filter(attempts::key.eq(key.as_slice()));
        let more = diesel::update(here.filter(attempts::window_ends_at.gt(now)).filter(attempts::count.lt(limit)))
            .set(attempts::count.eq(attempts::count + 1))
            .returning((attempts::count, attempts::window_ends_at));
        if let Some((count, window_ends_at)) = more.get_result(conn).optional()? {
            return Ok(Ok(Counted { key: *key, window_ends_at, count }));
        }
        let first = Ok(Counted { key: *key, window_ends_at: ends_at, count: 1 });
        let anew = diesel::update(here.filter(attempts::window_ends_at.le(now)))
            .set((attempts::count.eq(1), attempts::window_ends_at.eq(ends_at)));
        if anew.execute(conn)? == 1 {
            return Ok(first);
        }
        if let Some(until) = here.select(attempts::window_ends_at).first(conn).optional()? {
            return Ok(Err(until));
        }
        let new = (attempts::key.eq(key.as_slice()), attempts::count.eq(1), attempts::window_ends_at.eq(ends_at));
        match diesel::insert_into(attempts::table).values(new).execute(conn) {
            Ok(_) => return Ok(first),
            Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(outrun())
}

/// Takes counted attempts back, as far as their windows have not ended.
pub fn give_back(conn: &mut AnyConnection, counted: &[Counted]) -> QueryResult<()> {
    for one in counted {
        let same_window = attempts::table
            .filter(attempts::key.eq(one.key.as_slice()))
            .filter(attempts::window_ends_at.eq(one.window_ends_at))
            .filter(attempts::count.gt(0));
        diesel::update(same_window).set(attempts::count.eq(attempts::count - 1)).execute(conn)?;
    }
    Ok(())
}

/// Forgets everything counted under a key.
pub fn clear(conn: &mut AnyConnection, counted: &Counted) -> QueryResult<()> {
    diesel::delete(attempts::table.filter(attempts::key.eq(counted.key.as_slice()))).execute(conn)?;
    Ok(())
}

/// Removes at most `limit` keys whose windows ended before `before`. Returns how many.
pub fn purge(conn: &mut AnyConnection, before: Timestamp, limit: i64) -> QueryResult<usize> {
    let over = attempts::table.filter(attempts::window_ends_at.lt(before)).select(attempts::key).limit(limit);
    let over: Vec<Vec<u8>> = over.load(conn)?;
    let over = attempts::table.filter(attempts::key.eq_any(over)).filter(attempts::window_ends_at.lt(before));
    diesel::delete(over).execute(conn)
}
