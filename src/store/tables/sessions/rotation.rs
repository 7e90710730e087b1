//! The conditional statements of a rotation: each names the place it was decided on, and
//! `revoked_at IS NULL` stands in all of them, and [`NotEnded`], so the loser of a race changes nothing and
//! nothing brings an ended session back.

use diesel::prelude::*;

use super::not_ended::{EndedAt, NotEnded};
use super::rows::{NextToken, RawRow, SessionRow};
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::store::AnyConnection;
use crate::store::engine::connection::prepared;
use crate::store::tables::schema::sessions;
use crate::tokens::ChainPosition;
use crate::tokens::refresh::TokenDigest;

/// What a new generation writes, however it came about; all but the token it takes the place of.
#[derive(AsChangeset)]
#[diesel(table_name = sessions, treat_none_as_null = true)]
struct Generation<'a> {
    generation: i64,
    branch: i64,
    token_hash: TokenDigest,
    salt: &'a [u8],
    key_id: &'a str,
    rotated_at: Timestamp,
    branched_at: Timestamp,
    confirmed_at: Option<Timestamp>,
    access_expires_at: Timestamp,
    idle_expires_at: Timestamp,
    last_used_at: Timestamp,
    user_agent: Option<&'a str>,
    ip_address: Option<&'a str>,
}

impl<'a> From<&'a NextToken> for Generation<'a> {
    fn from(next: &'a NextToken) -> Self {
        Self {
            generation: i64::from(next.position.generation),
            branch: i64::from(next.position.branch),
            token_hash: next.token_hash,
            salt: next.salt.as_slice(),
            key_id: &next.key_id,
            rotated_at: next.now,
            branched_at: next.now,
            confirmed_at: None,
            access_expires_at: next.access_expires_at,
            idle_expires_at: next.idle_expires_at,
            last_used_at: next.now,
            user_agent: next.device.stored_user_agent(),
            ip_address: next.device.ip_address.as_deref(),
        }
    }
}

/// The session, if it stands at `position` and has not ended.
#[diesel::dsl::auto_type(no_type_alias)]
fn live_at(id: SessionId, position: ChainPosition) -> _ {
    let (generation, branch): (i64, i64) = (position.generation.into(), position.branch.into());
    sessions::table
        .filter(sessions::id.eq(id))
        .filter(sessions::generation.eq(generation))
        .filter(sessions::branch.eq(branch))
        .filter(sessions::revoked_at.is_null())
        .filter(NotEnded)
}

/// Recovers: the successor at `from` was lost on its way, and `next`, a branch beside it, takes its place.
/// `false`: the session has moved on since `from` was read.
pub fn recover(conn: &mut AnyConnection, id: SessionId, from: ChainPosition, next: &NextToken) -> QueryResult<bool> {
    let changed = diesel::update(live_at(id, from).filter(sessions::confirmed_at.is_null()))
        .set((
            sessions::branch.eq(i64::from(next.position.branch)),
            sessions::token_hash.eq(next.token_hash),
            sessions::salt.eq(next.salt.as_slice()),
            sessions::key_id.eq(&next.key_id),
            sessions::branched_at.eq(next.now),
            sessions::access_expires_at.eq(next.access_expires_at),
            sessions::last_used_at.eq(next.now),
            sessions::user_agent.eq(next.device.stored_user_agent()),
            sessions::ip_address.eq(&next.device.ip_address),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Adopts: a restored database knows less than the token that was presented says, signed with `key_id`, and catches up by
/// rotating from it.
/// `false`: the session has moved on since `from` was read.
pub fn adopt(
    conn: &mut AnyConnection,
    id: SessionId,
    from: ChainPosition,
    (presented, key_id): (TokenDigest, &str),
    next: &NextToken,
) -> QueryResult<bool> {
    let changed = diesel::update(live_at(id, from))
        .set((
            sessions::previous_hash.eq(Some(presented)),
            sessions::previous_key_id.eq(Some(key_id)),
            Generation::from(next),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Ends a session, if it still stands at `from`. `false`: it has moved on, or is over already.
pub fn revoke_at(
    conn: &mut AnyConnection,
    id: SessionId,
    from: ChainPosition,
    now: Timestamp,
    reason: &'static str,
) -> QueryResult<bool> {
    let changed = diesel::update(live_at(id, from))
        .set((sessions::revoked_at.eq(Some(now)), sessions::revoked_reason.eq(Some(reason))))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Confirms that the client has stored the pair at `position`. `false`: that is not the current pair of a live session.
pub fn confirm(
    conn: &mut AnyConnection,
    user: UserId,
    id: SessionId,
    position: ChainPosition,
    now: Timestamp,
) -> QueryResult<bool> {
    let changed = diesel::update(live_at(id, position).filter(sessions::user_id.eq(user)))
        .set(sessions::confirmed_at.eq(Some(now)))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Counts a generation whose overlap was answered to a second address. `false`: it has counted already, or is past.
pub fn count_streak(conn: &mut AnyConnection, id: SessionId, generation: u32, streak: u32) -> QueryResult<bool> {
    let changed = diesel::update(
        sessions::table
            .filter(sessions::id.eq(id))
            .filter(sessions::generation.eq(i64::from(generation)))
            .filter(sessions::streak_generation.ne(i64::from(generation)))
            .filter(sessions::revoked_at.is_null())
            .filter(NotEnded),
    )
    .set((sessions::repeat_streak.eq(i64::from(streak)), sessions::streak_generation.eq(i64::from(generation))))
    .execute(conn)?;
    Ok(changed == 1)
}

/// The session with this id, live or not.
pub fn find(conn: &mut AnyConnection, id: SessionId) -> QueryResult<Option<SessionRow>> {
    let session = sessions::table.filter(sessions::id.eq(id)).select((
        (
            sessions::user_id,
            sessions::generation,
            sessions::branch,
            sessions::token_hash,
            sessions::previous_hash,
            sessions::salt,
            sessions::key_id,
            sessions::rotated_at,
            sessions::branched_at,
            sessions::confirmed_at,
        ),
        (
            sessions::access_expires_at,
            sessions::idle_expires_at,
            sessions::expires_at,
            sessions::revoked_at,
            sessions::roles,
            sessions::transport,
            sessions::repeat_streak,
            sessions::streak_generation,
            sessions::ip_address,
        ),
        (sessions::remember, EndedAt),
        (sessions::mfa, sessions::created_at, sessions::claims),
    ));
    let row: Option<RawRow> = prepared!(conn, conn => session.get_result(conn)).optional()?;
    row.map(SessionRow::try_from).transpose()
}
