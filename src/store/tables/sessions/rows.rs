//! What a session is, in and out of its row.

use diesel::prelude::*;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::store::columns::Roles;
use crate::tokens::ChainPosition;
use crate::tokens::refresh::{Salt, TokenDigest};

/// What decides about a presented refresh token.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Whose.
    pub user_id: UserId,
    /// Names of the user's roles.
    pub roles: Roles,
    /// The tokens.
    pub chain: TokenChain,
    /// When what ends.
    pub expiry: Expiry,
    /// Who refreshes.
    pub client: SessionClient,
    /// How it began.
    pub origin: Origin,
}

/// How a session began, and what its access tokens say besides.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct Origin {
    /// Whether with a second factor.
    pub mfa: bool,
    /// When its user signed in.
    pub created_at: Timestamp,
    /// JSON object: a copy of the user's claims.
    pub claims: Option<String>,
}

/// The current refresh token of a session, and the one before it.
#[derive(Clone, Debug)]
pub struct TokenChain {
    /// Where the current token stands.
    pub position: ChainPosition,
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
}

/// When a session and its tokens end.
#[derive(Clone, Debug)]
pub struct Expiry {
    /// When the newest access token ends.
    pub access_expires_at: Timestamp,
    /// When the current refresh token ends.
    pub idle_expires_at: Timestamp,
    /// When the session ends.
    pub expires_at: Timestamp,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
    /// Whether its idle time is the long one.
    pub remember: bool,
}

/// Who refreshes a session, and how.
#[derive(Clone, Debug)]
pub struct SessionClient {
    /// How tokens are handed out.
    pub transport: Transport,
    /// Where the last refresh came from.
    pub ip_address: Option<String>,
    /// Generations running in which an overlap was answered to a second address.
    pub repeat_streak: u32,
    /// The generation that counted last.
    pub streak_generation: u32,
}

/// How a session's tokens are handed out.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In the answer's body.
    Body,
    /// In cookies only.
    Cookie,
}

impl Transport {
    pub(super) fn as_str(self) -> &'static str {
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

impl Device {
    /// As much of `User-Agent` as is stored.
    pub(super) fn stored_user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref().map(|text| cut(text, MAX_USER_AGENT))
    }
}

/// The most that is stored of a `User-Agent`, in bytes.
const MAX_USER_AGENT: usize = 512;
/// The most that is stored of a device's name, in bytes: 100 characters of four.
pub(super) const MAX_DEVICE_NAME: usize = 400;

/// A text without what is beyond so many bytes.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
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
    /// Whether its idle time is the long one.
    pub remember: bool,
    /// Whether it begins with a second factor.
    pub mfa: bool,
}

/// What takes the place of a session's current token.
#[derive(Clone, Debug)]
pub struct NextToken {
    /// Where it stands.
    pub position: ChainPosition,
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

/// A rotation: `presented`, the current token of session `id` at `from`, gives way to `next`.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The session.
    pub id: SessionId,
    /// Where the presented token stands.
    pub from: ChainPosition,
    /// It.
    pub presented: TokenDigest,
    /// What takes its place.
    pub next: NextToken,
    /// What `next` takes the session for; if that is not so, nothing is rotated.
    pub remember: bool,
}

/// What an answer to a refresh needs from the row beside the successor itself.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct RotatedRow {
    /// Names of the user's roles.
    pub roles: Roles,
    /// `body` or `cookie`.
    transport: String,
    /// Whether the session's idle time is the long one.
    pub remember: bool,
    /// How the session began.
    pub origin: Origin,
}

impl RotatedRow {
    /// How the tokens are handed out.
    pub fn transport(&self) -> Transport {
        Transport::from_column(&self.transport)
    }
}

impl From<&SessionRow> for RotatedRow {
    fn from(row: &SessionRow) -> Self {
        Self {
            roles: row.roles.clone(),
            transport: row.client.transport.as_str().to_owned(),
            remember: row.expiry.remember,
            origin: row.origin.clone(),
        }
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
    /// When it ends if it is not refreshed again.
    pub idle_expires_at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
    /// Whether its idle time is the long one.
    pub remember: bool,
}

impl SessionSummary {
    /// When it ends if it is not refreshed again.
    pub fn ends_unless_refreshed(&self) -> Timestamp {
        self.idle_expires_at.min(self.expires_at)
    }
}

/// A session and whose it is.
#[derive(Clone, Debug, Queryable)]
pub struct OwnedSession {
    /// As its user sees it.
    pub session: SessionSummary,
    /// Whose.
    pub user_id: UserId,
    /// Their address.
    pub email: String,
}

/// A session that has ended while one of its access tokens may still be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable)]
pub struct Ended {
    /// Which.
    pub id: SessionId,
    /// When its newest access token ends.
    pub access_expires_at: Timestamp,
}

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

pub(super) type RawRow = (
    (UserId, i64, i64, TokenDigest, Option<TokenDigest>, Vec<u8>, String, Timestamp, Timestamp, Option<Timestamp>),
    (Timestamp, Timestamp, Timestamp, Option<Timestamp>, Roles, String, i64, i64, Option<String>),
    (bool, Option<Timestamp>),
    Origin,
);

impl TryFrom<RawRow> for SessionRow {
    type Error = diesel::result::Error;

    fn try_from((rotation, rest, (remember, ended_at), origin): RawRow) -> QueryResult<Self> {
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
        let chain = TokenChain {
            position: ChainPosition { generation: small(generation)?, branch: small(branch)? },
            token_hash,
            previous_hash,
            salt: Salt::try_from(salt).map_err(|salt| undecodable(format!("salt of {} bytes", salt.len())))?,
            key_id,
            rotated_at,
            branched_at,
            confirmed_at,
        };
        // Ended with many others, of which it is to be told itself shortly.
        let revoked_at = revoked_at.or(ended_at);
        let expiry = Expiry { access_expires_at, idle_expires_at, expires_at, revoked_at, remember };
        let client = SessionClient {
            transport: Transport::from_column(&transport),
            ip_address,
            repeat_streak: small(streak)?,
            streak_generation: small(counted)?,
        };
        Ok(Self { user_id, roles, chain, expiry, client, origin })
    }
}

fn small(number: i64) -> QueryResult<u32> {
    u32::try_from(number).map_err(|error| diesel::result::Error::DeserializationError(error.into()))
}

fn undecodable(what: String) -> diesel::result::Error {
    diesel::result::Error::DeserializationError(what.into())
}
