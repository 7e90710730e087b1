//! The end of all sessions of a user, however many there are. One transaction marks no more than [`AT_ONCE`] of them, so
//! that the writer is soon free for others. Where that is not all, it leaves a row in `session_ends`, which every statement
//! honours that takes a session for live ([`NotEnded`]): the rest has ended with the same commit. It is marked in
//! transactions that follow, by this process or, should it die, by the next that looks for such rows.

use std::time::Duration;

use diesel::prelude::*;

use super::not_ended::NotEnded;
use super::rows::Ended;
use super::{ENDED, LATE};
use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::ids::{SessionEndId, SessionId, UserId};
use crate::store::AnyConnection;
use crate::store::tables::columns::Roles;
use crate::store::tables::events;
use crate::store::tables::schema::{session_ends, sessions};

/// Sessions that one transaction marks: a few milliseconds' work.
pub const AT_ONCE: i64 = 128;

/// Why sessions end that a newer one has displaced.
const DISPLACED: &str = "displaced";

/// Which sessions of a user are to end, and why.
#[derive(Clone, Debug)]
pub struct EndOrder {
    /// Whose.
    pub user_id: UserId,
    /// The one that goes on.
    pub kept: Option<SessionId>,
    /// Why, from a fixed list.
    pub reason: String,
    /// From where that was asked for.
    pub ip_address: Option<String>,
    /// Whether the user is gone: nothing personal may stay, in sessions that had ended before either.
    pub erase: bool,
}

impl EndOrder {
    /// All sessions of this user, for this reason.
    pub fn all(user_id: UserId, reason: &str) -> Self {
        Self { user_id, kept: None, reason: reason.to_owned(), ip_address: None, erase: false }
    }

    /// What is told of each of them.
    pub fn event(&self) -> Event {
        let event = Event::new(Kind::Revoked).user(self.user_id).detail(self.reason.clone());
        event.ip_address(self.ip_address.as_deref())
    }
}

/// What one transaction has done of an order, and what is left.
#[derive(Clone, Debug)]
pub struct EndProgress {
    /// What is to be told of each of those that it has marked.
    pub event: Event,
    /// Those that it has marked.
    pub ended: Vec<Ended>,
    /// The others: they have ended too.
    pub rest: Option<EndRest>,
}

/// Sessions that have ended and are not marked yet.
#[derive(Clone, Debug)]
pub struct EndRest {
    id: SessionEndId,
    order: EndOrder,
    last: SessionId,
    next: Position,
}

/// Where to go on, in the order of ids.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// Among live sessions, after this one.
    Live(Option<SessionId>),
    /// Among those that have ended, after this one, to erase what they say.
    Ended(Option<SessionId>),
}

/// Ends sessions of a user. Those that are not marked yet have ended all the same when this transaction is committed.
pub fn begin_end(conn: &mut AnyConnection, order: &EndOrder, now: Timestamp) -> QueryResult<EndProgress> {
    let live = sessions::table.filter(sessions::user_id.eq(order.user_id)).filter(sessions::revoked_at.is_null());
    // What is opened after this one does not end with it.
    let newest: Option<SessionId> = live.order(sessions::id.desc()).select(sessions::id).first(conn).optional()?;
    let (last, first) = match newest {
        Some(newest) => (newest, Position::Live(None)),
        None if order.erase => (SessionId::generate(), Position::Ended(None)),
        None => return Ok(EndProgress { event: order.event(), ended: Vec::new(), rest: None }),
    };
    let (ended, next) = step(conn, order, last, first, now)?;
    let rest = next.map(|next| EndRest { id: SessionEndId::generate(), order: order.clone(), last, next });
    if let Some(rest) = &rest {
        insert(conn, rest, now)?;
    }
    Ok(EndProgress { event: order.event(), ended, rest })
}

/// Marks some more.
pub fn go_on_ending(conn: &mut AnyConnection, rest: &EndRest, now: Timestamp) -> QueryResult<EndProgress> {
    let (ended, next) = step(conn, &rest.order, rest.last, rest.next, now)?;
    if next.is_none() {
        diesel::delete(session_ends::table.filter(session_ends::id.eq(rest.id))).execute(conn)?;
    }
    let event = rest.order.event();
    Ok(EndProgress { event, ended, rest: next.map(|next| EndRest { next, ..rest.clone() }) })
}

/// How many live sessions are left to be marked.
pub fn count_unmarked(conn: &mut AnyConnection, rest: &EndRest, now: Timestamp) -> QueryResult<usize> {
    let mut left = sessions::table
        .filter(sessions::user_id.eq(rest.order.user_id))
        .filter(sessions::id.le(rest.last))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::idle_expires_at.gt(now))
        .filter(sessions::expires_at.gt(now))
        .count()
        .into_boxed();
    if let Some(kept) = rest.order.kept {
        left = left.filter(sessions::id.ne(kept));
    }
    let count: i64 = left.get_result(conn)?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// What is left of those that were begun so long ago, or at a time still to come: a clock was ahead then.
pub fn unfinished_ends(conn: &mut AnyConnection, now: Timestamp, age: Duration) -> QueryResult<Vec<EndRest>> {
    type Row = (SessionEndId, UserId, SessionId, Option<SessionId>, String, Option<String>, bool);
    let rows: Vec<Row> = session_ends::table
        .filter(session_ends::ended_at.le(now.minus(age)).or(session_ends::ended_at.gt(now)))
        .order(session_ends::id)
        .select((
            session_ends::id,
            session_ends::user_id,
            session_ends::last_session,
            session_ends::kept_session,
            session_ends::reason,
            session_ends::ip_address,
            session_ends::erase,
        ))
        .load(conn)?;
    let rest = |(id, user_id, last, kept, reason, ip_address, erase): Row| {
        let order = EndOrder { user_id, kept, reason, ip_address, erase };
        EndRest { id, order, last, next: Position::Live(None) }
    };
    Ok(rows.into_iter().map(rest).collect())
}

/// Whether a session of this id would have ended before it is opened, as after a clock that stepped back.
pub fn would_have_ended(conn: &mut AnyConnection, user: UserId, id: SessionId) -> QueryResult<bool> {
    let ended = session_ends::table.filter(session_ends::user_id.eq(user)).filter(session_ends::last_session.ge(id));
    diesel::select(diesel::dsl::exists(ended)).get_result(conn)
}

fn insert(conn: &mut AnyConnection, rest: &EndRest, now: Timestamp) -> QueryResult<()> {
    let order = &rest.order;
    diesel::insert_into(session_ends::table)
        .values((
            session_ends::id.eq(rest.id),
            session_ends::user_id.eq(order.user_id),
            session_ends::last_session.eq(rest.last),
            session_ends::ended_at.eq(now),
            session_ends::kept_session.eq(order.kept),
            session_ends::reason.eq(&order.reason),
            // Of a user who is gone, nothing personal.
            session_ends::ip_address.eq(order.ip_address.as_ref().filter(|_| !order.erase)),
            session_ends::erase.eq(order.erase),
        ))
        .execute(conn)?;
    Ok(())
}

/// Marks the next few, and returns them and where to go on.
fn step(
    conn: &mut AnyConnection,
    order: &EndOrder,
    last: SessionId,
    at: Position,
    now: Timestamp,
) -> QueryResult<(Vec<Ended>, Option<Position>)> {
    let Position::Live(after) = at else {
        let Position::Ended(after) = at else { return Ok((Vec::new(), None)) };
        let page = page(conn, order.user_id, false, after)?;
        erase(conn, &page)?;
        return Ok((Vec::new(), further(&page).map(|last| Position::Ended(Some(last)))));
    };
    let page: Vec<SessionId> = page(conn, order.user_id, true, after)?;
    let next = further(&page).filter(|reached| *reached < last);
    let these: Vec<SessionId> = page.into_iter().filter(|id| *id <= last && Some(*id) != order.kept).collect();
    let ended = of_one_user(end(conn, &these, now, &order.reason)?);
    if order.erase {
        erase(conn, &these)?;
    } else {
        events::insert_each(conn, &order.event(), ended.iter().map(|session| session.id), now)?;
    }
    match next {
        Some(reached) => Ok((ended, Some(Position::Live(Some(reached))))),
        None if order.erase => step(conn, order, last, Position::Ended(None), now).map(|(_, next)| (ended, next)),
        None => Ok((ended, None)),
    }
}

/// A user's next few sessions, whether they have run out or not.
fn page(conn: &mut AnyConnection, user: UserId, live: bool, after: Option<SessionId>) -> QueryResult<Vec<SessionId>> {
    let theirs = sessions::table.filter(sessions::user_id.eq(user)).order(sessions::id).limit(AT_ONCE);
    let mut theirs = theirs.select(sessions::id).into_boxed();
    theirs = if live {
        theirs.filter(sessions::revoked_at.is_null())
    } else {
        theirs.filter(sessions::revoked_at.is_not_null())
    };
    if let Some(after) = after {
        theirs = theirs.filter(sessions::id.gt(after));
    }
    theirs.load(conn)
}

/// The last of a full page, after which there may be more.
fn further(page: &[SessionId]) -> Option<SessionId> {
    let full = i64::try_from(page.len()).is_ok_and(|length| length >= AT_ONCE);
    page.last().filter(|_| full).copied()
}

/// Ends those that have not been ended yet, and returns the live ones among them, each with its user. Those that have run out
/// are marked all the same: a clock that is ahead may say so, and once it is right they would live again.
pub fn end(
    conn: &mut AnyConnection,
    ids: &[SessionId],
    now: Timestamp,
    reason: &str,
) -> QueryResult<Vec<(Ended, UserId)>> {
    let marked: Vec<(Ended, UserId, Timestamp, Timestamp)> =
        diesel::update(sessions::table.filter(sessions::id.eq_any(ids)).filter(sessions::revoked_at.is_null()))
            .set((sessions::revoked_at.eq(Some(now)), sessions::revoked_reason.eq(Some(reason))))
            .returning((ENDED, sessions::user_id, sessions::idle_expires_at, sessions::expires_at))
            .get_results(conn)?;
    let reached = now.minus(LATE);
    let live = marked.into_iter().filter(|(_, _, idle_end, end)| *idle_end > reached && *end > reached);
    Ok(live.map(|(ended, user, ..)| (ended, user)).collect())
}

/// Ends one session of a user, and returns it if it was live. All of them: [`begin_end`].
pub fn end_one(
    conn: &mut AnyConnection,
    user: UserId,
    id: SessionId,
    now: Timestamp,
    reason: &str,
) -> QueryResult<Option<Ended>> {
    let theirs = sessions::table.filter(sessions::id.eq(id)).filter(sessions::user_id.eq(user));
    let theirs: Vec<SessionId> = theirs.select(sessions::id).load(conn)?;
    Ok(of_one_user(end(conn, &theirs, now, reason)?).pop())
}

fn of_one_user(ended: Vec<(Ended, UserId)>) -> Vec<Ended> {
    ended.into_iter().map(|(session, _)| session).collect()
}

/// Strips them of everything personal. They stay, as tombstones.
fn erase(conn: &mut AnyConnection, ids: &[SessionId]) -> QueryResult<()> {
    let says_something = sessions::device_name
        .is_not_null()
        .or(sessions::user_agent.is_not_null())
        .or(sessions::ip_address.is_not_null())
        .or(sessions::claims.is_not_null())
        .or(sessions::roles.ne(Roles::default()));
    diesel::update(sessions::table.filter(sessions::id.eq_any(ids)).filter(says_something))
        .set((
            sessions::device_name.eq(None::<String>),
            sessions::user_agent.eq(None::<String>),
            sessions::ip_address.eq(None::<String>),
            sessions::roles.eq(Roles::default()),
            sessions::claims.eq(None::<String>),
        ))
        .execute(conn)?;
    Ok(())
}

/// Ends the sessions of a user that were used least recently, so that with a new one there are no more than `most`; at most
/// [`AT_ONCE`] of them, and none of `left_out`: the new one itself, and those that it replaces. Zero: no bound.
pub fn displace(
    conn: &mut AnyConnection,
    event: &Event,
    (user, left_out): (UserId, &[SessionId]),
    most: u32,
    now: Timestamp,
) -> QueryResult<Vec<Ended>> {
    let Some(others) = most.checked_sub(1).map(i64::from) else { return Ok(Vec::new()) };
    let theirs = || {
        let theirs = sessions::table.filter(sessions::user_id.eq(user)).filter(sessions::revoked_at.is_null());
        theirs.filter(sessions::id.ne_all(left_out))
    };
    // Answered by the index alone, and nearly always with no.
    let one_more: Option<SessionId> =
        theirs().order(sessions::id).select(sessions::id).offset(others).limit(1).get_result(conn).optional()?;
    if one_more.is_none() {
        return Ok(Vec::new());
    }
    // Of any that many, those beyond the bound are beyond it among all of them.
    let mut live: Vec<(Timestamp, SessionId)> = theirs()
        .filter(sessions::idle_expires_at.gt(now))
        .filter(sessions::expires_at.gt(now))
        .filter(NotEnded)
        .order(sessions::id)
        .select((sessions::last_used_at, sessions::id))
        .limit(others.saturating_add(AT_ONCE))
        .load(conn)?;
    live.sort_unstable();
    let surplus = live.len().saturating_sub(usize::try_from(others).unwrap_or(usize::MAX));
    let least_used: Vec<SessionId> = live.into_iter().take(surplus).map(|(_, id)| id).collect();
    let ended = of_one_user(end(conn, &least_used, now, DISPLACED)?);
    events::insert_each(conn, event, ended.iter().map(|session| session.id), now)?;
    Ok(ended)
}

/// Replaces the copy of a user's roles in the next few live sessions, so that the next refresh hands them out. Returns
/// where to go on.
pub fn copy_roles(
    conn: &mut AnyConnection,
    user: UserId,
    roles: &Roles,
    after: Option<SessionId>,
) -> QueryResult<Option<SessionId>> {
    let page = page(conn, user, true, after)?;
    let stale = sessions::table.filter(sessions::id.eq_any(&page)).filter(sessions::roles.ne(roles));
    diesel::update(stale).set(sessions::roles.eq(roles)).execute(conn)?;
    Ok(further(&page))
}

/// The same for the copy of a user's claims.
pub fn copy_claims(
    conn: &mut AnyConnection,
    user: UserId,
    claims: Option<&str>,
    after: Option<SessionId>,
) -> QueryResult<Option<SessionId>> {
    let page = page(conn, user, true, after)?;
    diesel::update(sessions::table.filter(sessions::id.eq_any(&page)))
        .set(sessions::claims.eq(claims))
        .execute(conn)?;
    Ok(further(&page))
}
