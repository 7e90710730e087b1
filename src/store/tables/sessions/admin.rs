//! The live sessions of all users, as an operator lists and ends them.

use diesel::prelude::*;

use super::SUMMARY;
use super::not_ended::NotEnded;
use super::rows::OwnedSession;
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::store::AnyConnection;
use crate::store::tables::schema::{sessions, users};

/// At most `limit` live sessions, of one user or of all, in the order in which they were opened, from the one after
/// `after` on.
pub fn live_page(
    conn: &mut AnyConnection,
    user: Option<UserId>,
    after: Option<SessionId>,
    now: Timestamp,
    limit: i64,
) -> QueryResult<Vec<OwnedSession>> {
    let mut live = sessions::table
        .inner_join(users::table.on(sessions::user_id.eq(users::id)))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::idle_expires_at.gt(now))
        .filter(sessions::expires_at.gt(now))
        .filter(NotEnded)
        .order(sessions::id)
        .select((SUMMARY, users::id, users::email))
        .limit(limit)
        .into_boxed();
    if let Some(user) = user {
        live = live.filter(sessions::user_id.eq(user));
    }
    if let Some(after) = after {
        live = live.filter(sessions::id.gt(after));
    }
    live.load(conn)
}

/// At most `limit` sessions that have not been ended, and that were opened at `since` or later, from the one after `after` on.
pub fn opened_since(
    conn: &mut AnyConnection,
    since: Timestamp,
    after: Option<SessionId>,
    limit: i64,
) -> QueryResult<Vec<SessionId>> {
    let mut opened = sessions::table
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::created_at.ge(since))
        .order(sessions::id)
        .select(sessions::id)
        .limit(limit)
        .into_boxed();
    if let Some(after) = after {
        opened = opened.filter(sessions::id.gt(after));
    }
    opened.load(conn)
}

/// How many live sessions a user has.
pub fn count_live(conn: &mut AnyConnection, user: UserId, now: Timestamp) -> QueryResult<i64> {
    sessions::table
        .filter(sessions::user_id.eq(user))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::idle_expires_at.gt(now))
        .filter(sessions::expires_at.gt(now))
        .filter(NotEnded)
        .count()
        .get_result(conn)
}

/// Where a user's live sessions were last used.
pub fn addresses_of_live(conn: &mut AnyConnection, user: UserId, now: Timestamp) -> QueryResult<Vec<String>> {
    let known: Vec<Option<String>> = sessions::table
        .filter(sessions::user_id.eq(user))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::idle_expires_at.gt(now))
        .filter(sessions::expires_at.gt(now))
        .filter(sessions::ip_address.is_not_null())
        .filter(NotEnded)
        .select(sessions::ip_address)
        .distinct()
        .load(conn)?;
    Ok(known.into_iter().flatten().collect())
}
