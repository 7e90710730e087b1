//! Queries on attempts: counted before they are made, so that none slips through beside another.

use std::time::Duration;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::AnyConnection;
use super::connection::in_savepoint;
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
    /// Under which.
    pub key: AttemptKey,
    /// The window it was counted in.
    window_ends_at: Timestamp,
    /// The attempts in that window, this one among them.
    pub count: i64,
}

/// Counts an attempt under every key, in the order given, or, if any has reached its limit, under none. A window begins with its first
/// attempt and lasts `window`. Callers name keys in one order everywhere, so that two never wait for each other.
pub fn count(
    conn: &mut AnyConnection,
    limits: &[(AttemptKey, i64)],
    now: Timestamp,
    window: Duration,
) -> QueryResult<Option<Vec<Counted>>> {
    let mut counted = Vec::with_capacity(limits.len());
    for (key, limit) in limits {
        let Some(one) = count_one(conn, key, *limit, now, window)? else {
            give_back(conn, &counted)?;
            return Ok(None);
        };
        counted.push(one);
    }
    Ok(Some(counted))
}

/// Those keys that have reached their limits, with their counts and when their windows end. Counts nothing.
pub fn full(
    conn: &mut AnyConnection,
    limits: &[(AttemptKey, i64)],
    now: Timestamp,
) -> QueryResult<Vec<(AttemptKey, i64, Timestamp)>> {
    let mut all = Vec::new();
    for (key, limit) in limits {
        let full = attempts::table
            .filter(attempts::key.eq(key.as_slice()))
            .filter(attempts::window_ends_at.gt(now))
            .filter(attempts::count.ge(limit))
            .select((attempts::count, attempts::window_ends_at));
        let row: Option<(i64, Timestamp)> = full.first(conn).optional()?;
        all.extend(row.map(|(count, window_ends_at)| (*key, count, window_ends_at)));
    }
    Ok(all)
}

fn count_one(
    conn: &mut AnyConnection,
    key: &AttemptKey,
    limit: i64,
    now: Timestamp,
    window: Duration,
) -> QueryResult<Option<Counted>> {
    let ends_at = now.plus(window);
    for _ in 0..ROUNDS {
        let here = attempts::table.filter(attempts::key.eq(key.as_slice()));
        let more = diesel::update(here.filter(attempts::window_ends_at.gt(now)).filter(attempts::count.lt(limit)))
            .set(attempts::count.eq(attempts::count + 1))
            .returning((attempts::count, attempts::window_ends_at));
        if let Some((count, window_ends_at)) = more.get_result(conn).optional()? {
            return Ok(Some(Counted { key: *key, window_ends_at, count }));
        }
        let first = Some(Counted { key: *key, window_ends_at: ends_at, count: 1 });
        let anew = diesel::update(here.filter(attempts::window_ends_at.le(now)))
            .set((attempts::count.eq(1), attempts::window_ends_at.eq(ends_at)));
        if anew.execute(conn)? == 1 {
            return Ok(first);
        }
        // Another transaction may have begun a window meanwhile: only one that is full is a refusal.
        let full = here.filter(attempts::window_ends_at.gt(now)).filter(attempts::count.ge(limit));
        if diesel::select(diesel::dsl::exists(full)).get_result(conn)? {
            return Ok(None);
        }
        let new = (attempts::key.eq(key.as_slice()), attempts::count.eq(1), attempts::window_ends_at.eq(ends_at));
        match in_savepoint(conn, |conn| diesel::insert_into(attempts::table).values(new).execute(conn)) {
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
