//! Queries on the events that are kept.

use diesel::prelude::*;

use super::AnyConnection;
use super::schema::{events, sessions};
use crate::clock::Timestamp;
use crate::events::Event;
use crate::ids::{EventId, SessionId, UserId};

/// An event as its user may read it.
#[derive(Clone, Debug, Queryable)]
pub struct EventRow {
    /// Its id.
    pub id: EventId,
    /// What happened.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// The subtype or reason.
    pub detail: Option<String>,
    /// From where.
    pub ip_address: Option<String>,
    /// What the session is called that it happened in.
    pub device_name: Option<String>,
}

/// Keeps an event, if it is of a kind that is kept and somebody's. What it tells of belongs in the same transaction.
pub fn keep(conn: &mut AnyConnection, event: &Event, at: Timestamp) -> QueryResult<()> {
    let Some(user) = event.kept_for() else { return Ok(()) };
    let device_name = match event.session_id() {
        Some(session) => device_name(conn, session)?,
        None => None,
    };
    diesel::insert_into(events::table)
        .values((
            events::id.eq(EventId::generate()),
            events::user_id.eq(user),
            events::session_id.eq(event.session_id()),
            events::kind.eq(event.name()),
            events::detail.eq(event.detail_text()),
            events::at.eq(at),
            events::ip_address.eq(event.address()),
            events::device_name.eq(device_name),
        ))
        .execute(conn)?;
    Ok(())
}

/// Keeps an event of each of these sessions, as [`keep`] does.
pub fn keep_of_each(
    conn: &mut AnyConnection,
    event: &Event,
    sessions: impl IntoIterator<Item = SessionId>,
    at: Timestamp,
) -> QueryResult<()> {
    sessions.into_iter().try_for_each(|session| keep(conn, &event.clone().session(session), at))
}

/// Takes as long as keeping an event, and keeps none: so that nobody learns by the clock whether there was anybody to
/// keep it for.
pub fn pretend_to_keep(conn: &mut AnyConnection, event: &Event, at: Timestamp) -> QueryResult<()> {
    let nobody = UserId::generate();
    keep(conn, &event.clone().user(nobody), at)?;
    diesel::delete(events::table.filter(events::user_id.eq(nobody))).execute(conn)?;
    Ok(())
}

fn device_name(conn: &mut AnyConnection, session: SessionId) -> QueryResult<Option<String>> {
    let named = sessions::table.filter(sessions::id.eq(session)).select(sessions::device_name);
    Ok(named.first(conn).optional()?.flatten())
}

/// At most `limit` of a user's events, newest first, from the one before `before` on.
pub fn of_user(
    conn: &mut AnyConnection,
    user: UserId,
    before: Option<(Timestamp, EventId)>,
    limit: i64,
) -> QueryResult<Vec<EventRow>> {
    let theirs = events::table
        .filter(events::user_id.eq(user))
        .order((events::at.desc(), events::id.desc()))
        .select((events::id, events::kind, events::at, events::detail, events::ip_address, events::device_name))
        .limit(limit);
    match before {
        None => theirs.load(conn),
        Some((at, id)) => theirs.filter(events::at.lt(at).or(events::at.eq(at).and(events::id.lt(id)))).load(conn),
    }
}

/// Removes at most `limit` events of before `before`. Returns how many.
pub fn purge(conn: &mut AnyConnection, before: Timestamp, limit: i64) -> QueryResult<usize> {
    let old: Vec<EventId> = events::table.filter(events::at.lt(before)).select(events::id).limit(limit).load(conn)?;
    diesel::delete(events::table.filter(events::id.eq_any(old))).execute(conn)
}

/// Removes at most `limit` events of a user. Returns how many.
pub fn forget(conn: &mut AnyConnection, user: UserId, limit: i64) -> QueryResult<usize> {
    let theirs: Vec<EventId> =
        events::table.filter(events::user_id.eq(user)).select(events::id).limit(limit).load(conn)?;
    diesel::delete(events::table.filter(events::id.eq_any(theirs))).execute(conn)
}
