//! Queries on sessions. [`rotation`] holds the statements that move a session on, [`rows`] what goes in
//! and comes out.

mod admin;
mod advance;
mod ends;
mod expiry;
mod not_ended;
mod rotation;
pub mod rows;

use std::time::Duration;

use diesel::prelude::*;

pub use self::admin::{addresses_of_live, count_live, live_page, opened_since};
pub use self::advance::advance;
#[cfg(any(feature = "postgres", test))]
pub use self::advance::advance_all;
pub use self::ends::{
    AT_ONCE, EndOrder, EndProgress, EndRest, begin_end, copy_claims, copy_roles, count_unmarked, displace, end,
    end_one, go_on_ending, unfinished_ends, would_have_ended,
};
pub use self::expiry::{idle_among, live_among, newest, purge_expired, purge_idle};
pub use self::not_ended::NotEnded;
pub use self::rotation::{adopt, confirm, count_streak, find, recover, revoke_at};
pub use self::rows::{
    Device, Ended, NewSession, NextToken, Origin, OwnedSession, RotatedRow, Rotation, Scope, SessionRow,
    SessionSummary, Transport,
};
use self::rows::{MAX_DEVICE_NAME, cut};
use super::schema::{session_ends, sessions};
use super::users::Bestowed;
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::store::AnyConnection;
use crate::store::engine::connection::prepared;
use crate::tokens::ChainPosition;

/// What a list of sessions shows of each; the order is that of [`SessionSummary`].
type Summary = (
    sessions::id,
    sessions::device_name,
    sessions::user_agent,
    sessions::ip_address,
    sessions::created_at,
    sessions::last_used_at,
    sessions::idle_expires_at,
    sessions::expires_at,
    sessions::remember,
);
const SUMMARY: Summary = (
    sessions::id,
    sessions::device_name,
    sessions::user_agent,
    sessions::ip_address,
    sessions::created_at,
    sessions::last_used_at,
    sessions::idle_expires_at,
    sessions::expires_at,
    sessions::remember,
);
const ENDED: (sessions::id, sessions::access_expires_at) = (sessions::id, sessions::access_expires_at);

/// Opens a session for a user who has these roles and claims.
pub fn insert(conn: &mut AnyConnection, new: &NewSession, Bestowed { roles, claims }: &Bestowed) -> QueryResult<()> {
    diesel::insert_into(sessions::table)
        .values((
            (
                sessions::id.eq(new.id),
                sessions::user_id.eq(new.user_id),
                sessions::generation.eq(i64::from(ChainPosition::FIRST.generation)),
                sessions::branch.eq(i64::from(ChainPosition::FIRST.branch)),
                sessions::token_hash.eq(new.token_hash),
                sessions::salt.eq([0_u8; 16].as_slice()),
                sessions::key_id.eq(&new.key_id),
                sessions::rotated_at.eq(new.now),
                sessions::branched_at.eq(new.now),
            ),
            (
                sessions::access_expires_at.eq(new.access_expires_at),
                sessions::idle_expires_at.eq(new.idle_expires_at),
                sessions::expires_at.eq(new.expires_at),
                sessions::roles.eq(roles),
                sessions::transport.eq(new.transport.as_str()),
                sessions::repeat_streak.eq(0_i64),
                sessions::streak_generation.eq(0_i64),
            ),
            (
                sessions::device_name.eq(new.device_name.as_deref().map(|name| cut(name, MAX_DEVICE_NAME))),
                sessions::user_agent.eq(new.device.stored_user_agent()),
                sessions::ip_address.eq(&new.device.ip_address),
                sessions::created_at.eq(new.now),
                sessions::last_used_at.eq(new.now),
                sessions::remember.eq(new.remember),
                sessions::mfa.eq(new.mfa),
                sessions::claims.eq(claims),
            ),
        ))
        .execute(conn)?;
    Ok(())
}

/// A refresh that came in time may be committed so much later: until then its session has not run out.
const LATE: Duration = Duration::from_secs(60);

/// As many sessions as are listed for a user: an answer must fit into memory, many times over.
const LISTED: i64 = 1_000;

/// A user's live sessions, most recently used first: the first thousand.
pub fn live_of_user(conn: &mut AnyConnection, user: UserId, now: Timestamp) -> QueryResult<Vec<SessionSummary>> {
    sessions::table
        .filter(sessions::user_id.eq(user))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::idle_expires_at.gt(now))
        .filter(sessions::expires_at.gt(now))
        .filter(NotEnded)
        .order((sessions::last_used_at.desc(), sessions::id.desc()))
        .limit(LISTED)
        .select(SUMMARY)
        .load(conn)
}

/// Sessions ended since `since` whose access tokens may be alive after `now`.
pub fn ended_since(conn: &mut AnyConnection, since: Timestamp, alive_after: Timestamp) -> QueryResult<Vec<Ended>> {
    let ended = sessions::table
        .filter(sessions::revoked_at.ge(since))
        .filter(sessions::access_expires_at.gt(alive_after))
        .select(ENDED);
    prepared!(conn, conn => ended.load(conn))
}

/// Sessions that have ended with many others and do not say so themselves yet, whose access tokens may be alive after
/// `alive_after`.
pub fn ended_with_many(conn: &mut AnyConnection, alive_after: Timestamp) -> QueryResult<Vec<Ended>> {
    let ended = sessions::table
        .filter(sessions::user_id.eq_any(session_ends::table.select(session_ends::user_id)))
        .filter(sessions::revoked_at.is_null())
        .filter(diesel::dsl::not(NotEnded))
        .filter(sessions::access_expires_at.gt(alive_after))
        .select(ENDED);
    prepared!(conn, conn => ended.load(conn))
}

/// Whether the session exists and has not been ended.
pub fn is_live(conn: &mut AnyConnection, id: SessionId) -> QueryResult<bool> {
    let live = sessions::table.filter(sessions::id.eq(id)).filter(sessions::revoked_at.is_null()).filter(NotEnded);
    prepared!(conn, conn => diesel::select(diesel::dsl::exists(live)).get_result(conn))
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "ends_tests.rs"]
mod ends_tests;
#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "queries_tests.rs"]
mod tests;
