//! Queries on sessions. What may change a session's place in its history is one conditional statement
//! each; `revoked_at IS NULL` stands in all of them, so nothing brings an ended session back.

use diesel::prelude::*;

use super::AnyConnection;
use super::columns::Roles;
use super::schema::sessions;
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::tokens::Place;
use crate::tokens::refresh::{Salt, TokenDigest};

/// What decides about a presented refresh token.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Whose.
    pub user_id: UserId,
    /// Where the current token stands.
    pub place: Place,
    /// The current token.
    pub token_hash: TokenDigest,
    /// The token it was exchanged for.
    pub previous_hash: Option<TokenDigest>,
    /// What the current token was derived with.
    pub salt: Salt,
    /// The key the current token was derived and signed with.
    pub key_id: String,
    /// When this generation began.
    pub rotated_at: Timestamp,
    /// When this branch began.
    pub branched_at: Timestamp,
    /// When the client said it had stored the current token.
    pub confirmed_at: Option<Timestamp>,
    /// When the newest access token ends.
    pub access_expires_at: Timestamp,
    /// When the current refresh token ends.
    pub idle_expires_at: Timestamp,
    /// When the session ends.
    pub expires_at: Timestamp,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
    /// Names of the user's roles.
    pub roles: Roles,
    /// How tokens are handed out.
    pub transport: Transport,
    /// Generations running in which an overlap was answered to a second address.
    pub repeat_streak: u32,
    /// The generation that counted last.
    pub streak_generation: u32,
    /// Where the last refresh came from.
    pub ip_address: Option<String>,
}

/// How a session's tokens are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In the answer's body.
    Body,
    /// In cookies only.
    Cookie,
}

impl Transport {
    fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Cookie => "cookie",
        }
    }

    /// The check constraint leaves only these two.
    fn from_column(text: &str) -> Self {
        if text == "cookie" { Self::Cookie } else { Self::Body }
    }
}

/// Who refreshed, as far as one can see.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// The client's address.
    pub ip_address: Option<String>,
}

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub user_id: UserId,
    /// The first token.
    pub token_hash: TokenDigest,
    /// The key it was signed with.
    pub key_id: String,
    /// Now.
    pub now: Timestamp,
    /// When the first access token ends.
    pub access_expires_at: Timestamp,
    /// When the first refresh token ends.
    pub idle_expires_at: Timestamp,
    /// When the session ends.
    pub expires_at: Timestamp,
    /// How tokens are handed out.
    pub transport: Transport,
    /// As the client named it.
    pub device_name: Option<String>,
    /// Who logged in.
    pub device: Device,
}

/// What takes the place of a session's current token.
#[derive(Clone, Debug)]
pub struct Successor {
    /// Where it stands.
    pub place: Place,
    /// What it was derived with.
    pub salt: Salt,
    /// The key it was derived and signed with.
    pub key_id: String,
    /// It.
    pub token_hash: TokenDigest,
    /// Now.
    pub now: Timestamp,
    /// When the access token handed out with it ends.
    pub access_expires_at: Timestamp,
    /// When it ends.
    pub idle_expires_at: Timestamp,
    /// Who asked for it.
    pub device: Device,
}

/// What an answer to a refresh needs from the row beside the successor itself.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct Handover {
    /// Names of the user's roles.
    pub roles: Roles,
    /// `body` or `cookie`.
    transport: String,
}

impl Handover {
    /// How the tokens are handed out.
    pub fn transport(&self) -> Transport {
        Transport::from_column(&self.transport)
    }
}

impl From<&SessionRow> for Handover {
    fn from(row: &SessionRow) -> Self {
        Self { roles: row.roles.clone(), transport: row.transport.as_str().to_owned() }
    }
}

/// A session as its user sees it.
#[derive(Clone, Debug, Queryable)]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// As the client named it.
    pub device_name: Option<String>,
    /// Of the last refresh.
    pub user_agent: Option<String>,
    /// Of the last refresh.
    pub ip_address: Option<String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last refreshed.
    pub last_used_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A session that has ended while one of its access tokens may still be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable)]
pub struct Ended {
    /// Which.
    pub id: SessionId,
    /// When its newest access token ends.
    pub access_expires_at: Timestamp,
}

const ENDED: (sessions::id, sessions::access_expires_at) = (sessions::id, sessions::access_expires_at);

/// Which of a user's sessions to end.
#[derive(Clone, Copy, Debug)]
pub enum Scope {
    /// Every one.
    All,
    /// Every one but this.
    Except(SessionId),
    /// This one.
    Only(SessionId),
}

/// Opens a session for a user who has these roles.
pub fn insert(conn: &mut AnyConnection, new: &NewSession, roles: &Roles) -> QueryResult<()> {
    diesel::insert_into(sessions::table)
        .values((
            (
                sessions::id.eq(new.id),
                sessions::user_id.eq(new.user_id),
                sessions::generation.eq(i64::from(Place::FIRST.generation)),
                sessions::branch.eq(i64::from(Place::FIRST.branch)),
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
                sessions::device_name.eq(&new.device_name),
                sessions::user_agent.eq(&new.device.user_agent),
                sessions::ip_address.eq(&new.device.ip_address),
                sessions::created_at.eq(new.now),
                sessions::last_used_at.eq(new.now),
            ),
        ))
        .execute(conn)?;
    Ok(())
}

/// Rotates: `presented` at `from` gives way to `next`. `None`: it is not the current token of a live session.
pub fn advance(
    conn: &mut AnyConnection,
    id: SessionId,
    from: Place,
    presented: TokenDigest,
    next: &Successor,
) -> QueryResult<Option<Handover>> {
    diesel::update(
        sessions::table
            .filter(sessions::id.eq(id))
            .filter(sessions::generation.eq(i64::from(from.generation)))
            .filter(sessions::branch.eq(i64::from(from.branch)))
            .filter(sessions::token_hash.eq(presented))
            .filter(sessions::revoked_at.is_null())
            .filter(sessions::idle_expires_at.gt(next.now))
            .filter(sessions::expires_at.gt(next.now)),
    )
    .set((
        sessions::generation.eq(i64::from(next.place.generation)),
        sessions::branch.eq(i64::from(next.place.branch)),
        sessions::previous_hash.eq(sessions::token_hash.nullable()),
        sessions::token_hash.eq(next.token_hash),
        sessions::salt.eq(next.salt.as_slice()),
        sessions::key_id.eq(&next.key_id),
        sessions::rotated_at.eq(next.now),
        sessions::branched_at.eq(next.now),
        sessions::confirmed_at.eq(None::<Timestamp>),
        sessions::access_expires_at.eq(next.access_expires_at),
        sessions::idle_expires_at.eq(next.idle_expires_at),
        sessions::last_used_at.eq(next.now),
        sessions::user_agent.eq(&next.device.user_agent),
        sessions::ip_address.eq(&next.device.ip_address),
    ))
    .returning((sessions::roles, sessions::transport))
    .get_result(conn)
    .optional()
}

/// Recovers: the successor at `from` was lost on its way, and `next`, a branch beside it, takes its place.
/// `false`: the session has moved on since `from` was read.
pub fn recover(conn: &mut AnyConnection, id: SessionId, from: Place, next: &Successor) -> QueryResult<bool> {
    let changed = diesel::update(
        sessions::table
            .filter(sessions::id.eq(id))
            .filter(sessions::generation.eq(i64::from(from.generation)))
            .filter(sessions::branch.eq(i64::from(from.branch)))
            .filter(sessions::confirmed_at.is_null())
            .filter(sessions::revoked_at.is_null()),
    )
    .set((
        sessions::branch.eq(i64::from(next.place.branch)),
        sessions::token_hash.eq(next.token_hash),
        sessions::salt.eq(next.salt.as_slice()),
        sessions::key_id.eq(&next.key_id),
        sessions::branched_at.eq(next.now),
        sessions::access_expires_at.eq(next.access_expires_at),
        sessions::last_used_at.eq(next.now),
        sessions::user_agent.eq(&next.device.user_agent),
        sessions::ip_address.eq(&next.device.ip_address),
    ))
    .execute(conn)?;
    Ok(changed == 1)
}

/// Adopts: a restored database knows less than `presented` says, and catches up by rotating from it.
/// `false`: the session has moved on since `from` was read.
pub fn adopt(
    conn: &mut AnyConnection,
    id: SessionId,
    from: Place,
    presented: TokenDigest,
    next: &Successor,
) -> QueryResult<bool> {
    let changed = diesel::update(
        sessions::table
            .filter(sessions::id.eq(id))
            .filter(sessions::generation.eq(i64::from(from.generation)))
            .filter(sessions::branch.eq(i64::from(from.branch)))
            .filter(sessions::revoked_at.is_null()),
    )
    .set((
        sessions::generation.eq(i64::from(next.place.generation)),
        sessions::branch.eq(i64::from(next.place.branch)),
        sessions::previous_hash.eq(Some(presented)),
        sessions::token_hash.eq(next.token_hash),
        sessions::salt.eq(next.salt.as_slice()),
        sessions::key_id.eq(&next.key_id),
        sessions::rotated_at.eq(next.now),
        sessions::branched_at.eq(next.now),
        sessions::confirmed_at.eq(None::<Timestamp>),
        sessions::access_expires_at.eq(next.access_expires_at),
        sessions::idle_expires_at.eq(next.idle_expires_at),
        sessions::last_used_at.eq(next.now),
        sessions::user_agent.eq(&next.device.user_agent),
        sessions::ip_address.eq(&next.device.ip_address),
    ))
    .execute(conn)?;
    Ok(changed == 1)
}

/// Ends a session, if it still stands at `from`. `false`: it has moved on, or is over already.
pub fn revoke_at(
    conn: &mut AnyConnection,
    id: SessionId,
    from: Place,
    now: Timestamp,
    reason: &'static str,
) -> QueryResult<bool> {
    let changed = diesel::update(
        sessions::table
            .filter(sessions::id.eq(id))
            .filter(sessions::generation.eq(i64::from(from.generation)))
            .filter(sessions::branch.eq(i64::from(from.branch)))
            .filter(sessions::revoked_at.is_null()),
    )
    .set((sessions::revoked_at.eq(Some(now)), sessions::revoked_reason.eq(Some(reason))))
    .execute(conn)?;
    Ok(changed == 1)
}

/// Ends a user's live sessions, and returns them.
pub fn revoke(
    conn: &mut AnyConnection,
    user: UserId,
    scope: Scope,
    now: Timestamp,
    reason: &'static str,
) -> QueryResult<Vec<Ended>> {
    let live = sessions::table.filter(
        sessions::user_id
            .eq(user)
            .and(sessions::revoked_at.is_null())
            .and(sessions::idle_expires_at.gt(now))
            .and(sessions::expires_at.gt(now)),
    );
    let ended = (sessions::revoked_at.eq(Some(now)), sessions::revoked_reason.eq(Some(reason)));
    match scope {
        Scope::All => diesel::update(live).set(ended).returning(ENDED).get_results(conn),
        Scope::Except(id) => {
            diesel::update(live.filter(sessions::id.ne(id))).set(ended).returning(ENDED).get_results(conn)
        }
        Scope::Only(id) => {
            diesel::update(live.filter(sessions::id.eq(id))).set(ended).returning(ENDED).get_results(conn)
        }
    }
}

/// Strips a deleted user's sessions of everything personal. They stay, as tombstones.
pub fn anonymise(conn: &mut AnyConnection, user: UserId) -> QueryResult<()> {
    diesel::update(sessions::table.filter(sessions::user_id.eq(user)))
        .set((
            sessions::device_name.eq(None::<String>),
            sessions::user_agent.eq(None::<String>),
            sessions::ip_address.eq(None::<String>),
            sessions::roles.eq(Roles::default()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Confirms that the client has stored the pair at `place`. `false`: that is not the current pair of a live session.
pub fn confirm(
    conn: &mut AnyConnection,
    user: UserId,
    id: SessionId,
    place: Place,
    now: Timestamp,
) -> QueryResult<bool> {
    let changed = diesel::update(
        sessions::table
            .filter(sessions::id.eq(id))
            .filter(sessions::user_id.eq(user))
            .filter(sessions::generation.eq(i64::from(place.generation)))
            .filter(sessions::branch.eq(i64::from(place.branch)))
            .filter(sessions::revoked_at.is_null()),
    )
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
            .filter(sessions::revoked_at.is_null()),
    )
    .set((sessions::repeat_streak.eq(i64::from(streak)), sessions::streak_generation.eq(i64::from(generation))))
    .execute(conn)?;
    Ok(changed == 1)
}

/// The session with this id, live or not.
pub fn find(conn: &mut AnyConnection, id: SessionId) -> QueryResult<Option<SessionRow>> {
    let row: Option<RawRow> = sessions::table
        .filter(sessions::id.eq(id))
        .select((
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
        ))
        .first(conn)
        .optional()?;
    row.map(SessionRow::try_from).transpose()
}

/// A user's live sessions, most recently used first.
pub fn live_of_user(conn: &mut AnyConnection, user: UserId, now: Timestamp) -> QueryResult<Vec<SessionSummary>> {
    sessions::table
        .filter(sessions::user_id.eq(user))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::idle_expires_at.gt(now))
        .filter(sessions::expires_at.gt(now))
        .order((sessions::last_used_at.desc(), sessions::id.desc()))
        .select((
            sessions::id,
            sessions::device_name,
            sessions::user_agent,
            sessions::ip_address,
            sessions::created_at,
            sessions::last_used_at,
            sessions::expires_at,
        ))
        .load(conn)
}

/// Sessions ended since `since` whose access tokens may be alive after `now`.
pub fn ended_since(conn: &mut AnyConnection, since: Timestamp, alive_after: Timestamp) -> QueryResult<Vec<Ended>> {
    sessions::table
        .filter(sessions::revoked_at.ge(since))
        .filter(sessions::access_expires_at.gt(alive_after))
        .select(ENDED)
        .load(conn)
}

/// Whether the session exists and has not been ended.
pub fn is_live(conn: &mut AnyConnection, id: SessionId) -> QueryResult<bool> {
    let live = sessions::table.filter(sessions::id.eq(id)).filter(sessions::revoked_at.is_null());
    diesel::select(diesel::dsl::exists(live)).get_result(conn)
}

type RawRow = (
    (UserId, i64, i64, TokenDigest, Option<TokenDigest>, Vec<u8>, String, Timestamp, Timestamp, Option<Timestamp>),
    (Timestamp, Timestamp, Timestamp, Option<Timestamp>, Roles, String, i64, i64, Option<String>),
);

impl TryFrom<RawRow> for SessionRow {
    type Error = diesel::result::Error;

    fn try_from((rotation, rest): RawRow) -> QueryResult<Self> {
        let (
            user_id,
            generation,
            branch,
            token_hash,
            previous_hash,
            salt,
            key_id,
            rotated_at,
            branched_at,
            confirmed_at,
        ) = rotation;
        let (access_expires_at, idle_expires_at, expires_at, revoked_at, roles, transport, streak, counted, ip_address) =
            rest;
        Ok(Self {
            user_id,
            place: Place { generation: small(generation)?, branch: small(branch)? },
            token_hash,
            previous_hash,
            salt: Salt::try_from(salt).map_err(|salt| undecodable(format!("salt of {} bytes", salt.len())))?,
            key_id,
            rotated_at,
            branched_at,
            confirmed_at,
            access_expires_at,
            idle_expires_at,
            expires_at,
            revoked_at,
            roles,
            transport: Transport::from_column(&transport),
            repeat_streak: small(streak)?,
            streak_generation: small(counted)?,
            ip_address,
        })
    }
}

fn small(number: i64) -> QueryResult<u32> {
    u32::try_from(number).map_err(|error| diesel::result::Error::DeserializationError(error.into()))
}

fn undecodable(what: String) -> diesel::result::Error {
    diesel::result::Error::DeserializationError(what.into())
}
