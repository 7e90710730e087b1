//! Sessions that are over for good: found and removed a few at a time, so that no request waits for it.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::ids::SessionId;
use crate::store::AnyConnection;
use crate::store::tables::schema::sessions;

/// Removes at most `limit` sessions whose absolute end was before `before`. Returns how many.
pub fn purge_expired(conn: &mut AnyConnection, before: Timestamp, limit: i64) -> QueryResult<usize> {
    let expired = sessions::table.filter(sessions::expires_at.lt(before)).select(sessions::id).limit(limit);
    let expired: Vec<SessionId> = expired.load(conn)?;
    diesel::delete(sessions::table.filter(sessions::id.eq_any(expired))).execute(conn)
}

/// Looks at the `step` sessions that follow `after`, and returns which of them fell idle before `before` without having
/// been ended, and where to go on. There is no index to ask instead: it would be on a column that every refresh writes.
pub fn idle_among(
    conn: &mut AnyConnection,
    after: Option<SessionId>,
    step: i64,
    before: Timestamp,
) -> QueryResult<(Vec<SessionId>, Option<SessionId>)> {
    let columns = (sessions::id, sessions::idle_expires_at, sessions::revoked_at.is_null());
    let ordered = sessions::table.select(columns).order(sessions::id).limit(step);
    let seen: Vec<(SessionId, Timestamp, bool)> = match after {
        Some(after) => ordered.filter(sessions::id.gt(after)).load(conn)?,
        None => ordered.load(conn)?,
    };
    let full = i64::try_from(seen.len()).is_ok_and(|seen| seen == step);
    let next = seen.last().filter(|_| full).map(|(id, ..)| *id);
    let idle = seen.into_iter().filter(|(_, idle_at, live)| *live && *idle_at < before);
    Ok((idle.map(|(id, ..)| id).collect(), next))
}

/// How many of the `step` sessions that follow `after` are alive at `now`, and where to go on.
pub fn live_among(
    conn: &mut AnyConnection,
    after: Option<SessionId>,
    step: i64,
    now: Timestamp,
) -> QueryResult<(usize, Option<SessionId>)> {
    let is_live =
        sessions::revoked_at.is_null().and(sessions::idle_expires_at.gt(now)).and(sessions::expires_at.gt(now));
    let ordered = sessions::table.select((sessions::id, is_live)).order(sessions::id).limit(step);
    let seen: Vec<(SessionId, bool)> = match after {
        Some(after) => ordered.filter(sessions::id.gt(after)).load(conn)?,
        None => ordered.load(conn)?,
    };
    let full = i64::try_from(seen.len()).is_ok_and(|seen| seen == step);
    let next = seen.last().filter(|_| full).map(|(id, _)| *id);
    Ok((seen.iter().filter(|(_, is_live)| *is_live).count(), next))
}

/// Removes those of `ids` that are still idle since before `before`, and no tombstones. Returns how many.
pub fn purge_idle(conn: &mut AnyConnection, ids: &[SessionId], before: Timestamp) -> QueryResult<usize> {
    let idle = sessions::table
        .filter(sessions::id.eq_any(ids))
        .filter(sessions::idle_expires_at.lt(before))
        .filter(sessions::revoked_at.is_null());
    diesel::delete(idle).execute(conn)
}

/// When the session was opened that was opened last.
pub fn newest(conn: &mut AnyConnection) -> QueryResult<Option<Timestamp>> {
    sessions::table.select(sessions::created_at).order(sessions::id.desc()).first(conn).optional()
}
