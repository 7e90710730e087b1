//! Queries on the events that are kept.

use diesel::prelude::*;

use super::schema::{events, sessions};
use crate::audit::{Event, When};
use crate::clock::Timestamp;
use crate::ids::{EventId, SessionId, UserId};
use crate::store::AnyConnection;

/// Events in one statement. SQLite takes 32,766 values in one, PostgreSQL 65,535.
const TOGETHER: usize = 1_000;

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

#[derive(Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
struct NewEvent<'a> {
    id: EventId,
    user_id: UserId,
    session_id: Option<SessionId>,
    kind: &'a str,
    detail: Option<&'a str>,
    at: Timestamp,
    ip_address: Option<&'a str>,
    device_name: Option<&'a str>,
}

impl<'a> NewEvent<'a> {
    /// As `event` tells it, of this user and session.
    fn of(
        event: &'a Event,
        user_id: UserId,
        session_id: Option<SessionId>,
        device_name: Option<&'a str>,
        at: Timestamp,
    ) -> Self {
        Self {
            id: EventId::generate(),
            user_id,
            session_id,
            kind: event.kind().as_str(),
            detail: event.detail_text(),
            at,
            ip_address: event.address(),
            device_name,
        }
    }
}

/// In the transaction of what the event tells of, at that moment: a row that its user can read, if it is of a kind that is
/// kept and a user's.
pub struct InTransaction<'c>(pub &'c mut AnyConnection, pub Timestamp);

impl When for InTransaction<'_> {
    type Outcome = QueryResult<()>;

    fn emit(self, event: &Event) -> QueryResult<()> {
        let Self(conn, at) = self;
        let Some(user) = event.kept_for() else { return Ok(()) };
        let device_name = match event.session_id() {
            Some(session) => device_name(conn, session)?,
            None => None,
        };
        let new = NewEvent::of(event, user, event.session_id(), device_name.as_deref(), at);
        diesel::insert_into(events::table).values(new).execute(conn)?;
        Ok(())
    }
}

/// A row of an event for each of these sessions, as [`InTransaction`] writes one, in few statements: a user who has
/// thousands must be able to end them.
pub fn insert_each(
    conn: &mut AnyConnection,
    event: &Event,
    sessions: impl IntoIterator<Item = SessionId>,
    at: Timestamp,
) -> QueryResult<()> {
    let Some(user) = event.kept_for() else { return Ok(()) };
    for some in sessions.into_iter().collect::<Vec<_>>().chunks(TOGETHER) {
        let named: Vec<(SessionId, Option<String>)> = sessions::table
            .filter(sessions::id.eq_any(some))
            .select((sessions::id, sessions::device_name))
            .load(conn)?;
        let new = named.iter().map(|(session, name)| NewEvent::of(event, user, Some(*session), name.as_deref(), at));
        let insert = diesel::insert_into(events::table).values(new.collect::<Vec<_>>());
        // diesel has no statement of several rows for both databases at once.
        match conn {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(sqlite) => insert.execute(sqlite)?,
            #[cfg(feature = "postgres")]
            AnyConnection::Postgresql(postgresql) => insert.execute(postgresql)?,
        };
    }
    Ok(())
}

/// Takes as long as inserting an event, and leaves none: so that the time of an answer does not tell whether there was a user to
/// keep it for.
pub fn pretend_to_insert(conn: &mut AnyConnection, event: &Event, no_user: UserId, at: Timestamp) -> QueryResult<()> {
    InTransaction(&mut *conn, at).emit(&event.clone().user(no_user))?;
    diesel::delete(events::table.filter(events::user_id.eq(no_user))).execute(conn)?;
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

/// When the last event happened.
pub fn newest(conn: &mut AnyConnection) -> QueryResult<Option<Timestamp>> {
    events::table.select(events::at).order(events::at.desc()).first(conn).optional()
}

/// Removes at most `limit` events of a user. Returns how many.
pub fn forget(conn: &mut AnyConnection, user: UserId, limit: i64) -> QueryResult<usize> {
    let theirs: Vec<EventId> =
        events::table.filter(events::user_id.eq(user)).select(events::id).limit(limit).load(conn)?;
    diesel::delete(events::table.filter(events::id.eq_any(theirs))).execute(conn)
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use diesel::connection::{Connection as _, InstrumentationEvent};
    use diesel::sql_query;

    use super::*;
    use crate::audit::Kind;
    use crate::store::testing::TestDatabase;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    /// A user with very many sessions must be able to end them: no statement for each.
    #[test]
    fn of_thousands_of_sessions_an_event_each_is_kept_in_few_statements() {
        let database = TestDatabase::new();
        let mut conn = database.connect();
        sql_query(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
             INSERT INTO sessions SELECT unhex(printf('%032x', i)), randomblob(16), 0, 0, randomblob(32), NULL, zeroblob(16), 'k',
               0, 0, NULL, 0, 0, 0, NULL, NULL, '[]', 'body', 0, 0, 'device ' || i, NULL, NULL, 0, 0, true, NULL, false, NULL FROM n",
        )
        .execute(&mut conn)
        .unwrap();
        let ids: Vec<SessionId> = sessions::table.select(sessions::id).load(&mut conn).unwrap();
        assert_eq!(ids.len(), 2_500);
        let statements = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&statements);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { .. } = event {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let user = UserId::generate();
        let event = Event::new(Kind::Revoked).user(user).detail("test");
        insert_each(&mut conn, &event, ids, NOW).unwrap();
        assert_eq!(statements.load(Ordering::SeqCst), 6, "two for each thousand, or part of it");
        let kept = of_user(&mut conn, user, None, 5_000).unwrap();
        let mut devices: Vec<_> = kept.iter().map(|row| row.device_name.clone().unwrap()).collect();
        devices.sort();
        devices.dedup();
        assert_eq!(devices.len(), 2_500, "one of each");
        assert!(kept.iter().all(|row| (row.kind.as_str(), row.at) == ("revoked", NOW)));
    }
}
