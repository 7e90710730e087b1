//! Sessions: start, refresh, confirm, list, revoke. The rotation of refresh tokens is the heart of it;
//! [`rotation`] decides, this module carries out, [`revocations`] tells the guard.

pub mod administration;
mod inspect;
pub mod offenders;
mod outcome;
mod refresh;
pub mod revocations;
pub mod rotation;

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use self::offenders::Offenders;
pub use self::outcome::{RefreshError, RefusedBecause};
use self::revocations::Revocations;
use self::rotation::Policy;
use crate::clock::{Clock, Timestamp};
use crate::events::{Event, Kind};
use crate::ids::{SessionId, UserId};
use crate::store::columns::Roles;
use crate::store::events;
use crate::store::sessions::{self, Device, Ended, NewSession, Scope, SessionSummary, Transport};
use crate::store::users::{self, NewUser};
use crate::store::{AnyConnection, QueryResult, Store, StoreError};
use crate::tokens::access::{AccessTokens, Bearer};
use crate::tokens::refresh::{RefreshToken, RefreshTokens};
use crate::tokens::{Place, SignError};

/// How long sessions last; section `tokens` of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Unused, a session ends after this.
    pub idle: Duration,
    /// However used, a session ends after this.
    pub absolute: Duration,
}

/// Everything about sessions. Clones share it.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    access: Arc<AccessTokens>,
    refresh: Arc<RefreshTokens>,
    revocations: Revocations,
    lifetimes: Lifetimes,
    policy: Policy,
    offenders: Offenders,
}

/// A pair of tokens, handed out once.
#[derive(Debug)]
pub struct TokenPair {
    /// The access token.
    pub access_token: String,
    /// Seconds until it ends.
    pub expires_in: u64,
    /// The refresh token.
    pub refresh_token: RefreshToken,
    /// Seconds until it can no longer be used.
    pub refresh_expires_in: u64,
    /// Their session.
    pub session_id: SessionId,
    /// Whose they are.
    pub user_id: UserId,
    /// How they are to be handed out.
    pub transport: Transport,
    /// Whether a browser keeps them when it is closed.
    pub remember: bool,
    /// What is still to be told: a plain rotation is not worth a line of its own.
    pub untold: Option<Kind>,
}

/// Who is let in.
#[derive(Clone)]
pub enum Admission {
    /// Somebody whose password was verified against this hash.
    Verified {
        /// The account.
        user_id: UserId,
        /// The stored hash, which must still be the stored one when the session starts.
        password_hash: String,
    },
    /// Somebody new: the account is made in the same transaction as its first session.
    Newcomer(NewUser),
}

impl Admission {
    fn user_id(&self) -> UserId {
        match self {
            Self::Verified { user_id, .. } => *user_id,
            Self::Newcomer(user) => user.id,
        }
    }
}

/// What a client says and shows of itself when it signs in.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// As the client names itself.
    pub device_name: Option<String>,
    /// How it wants its tokens.
    pub transport: Transport,
    /// Whether a browser is to keep them when it is closed.
    pub remember: bool,
    /// What can be seen of it.
    pub device: Device,
}

/// Why a session did not start. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The account has changed since its password was verified: authenticate again.
    #[error("the account changed meanwhile")]
    Changed,
    /// Another account has the address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A token could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Why a pair was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// The pair is not the session's newest.
    #[error("a newer pair exists")]
    Superseded,
    /// The session is over.
    #[error("the session is over")]
    Over,
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

enum Opened {
    Yes(Roles),
    Changed,
    EmailTaken,
}

impl Sessions {
    /// Puts the parts together.
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, and there is one caller")]
    pub fn new(
        store: Store,
        clock: Clock,
        access: Arc<AccessTokens>,
        refresh: Arc<RefreshTokens>,
        revocations: Revocations,
        lifetimes: Lifetimes,
        policy: Policy,
        offenders: Offenders,
    ) -> Self {
        Self(Arc::new(Inner { store, clock, access, refresh, revocations, lifetimes, policy, offenders }))
    }

    /// Starts a session.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing was written.
    pub async fn start(&self, admission: Admission, sign_in: SignIn) -> Result<TokenPair, StartError> {
        let inner = &self.0;
        let now = inner.clock.now();
        let (session_id, user_id) = (SessionId::generate(), admission.user_id());
        let expires_at = now.floor_second().plus(inner.lifetimes.absolute);
        let idle_expires_at = now.floor_second().plus(inner.lifetimes.idle).min(expires_at);
        let access_expires_at = now.floor_second().plus(inner.access.lifetime());
        let minted = inner.refresh.first(user_id, session_id, expires_at, now, idle_expires_at)?;
        let new = NewSession {
            id: session_id,
            user_id,
            token_hash: minted.digest,
            key_id: inner.refresh.active_kid().to_owned(),
            now,
            access_expires_at,
            idle_expires_at,
            expires_at,
            transport: sign_in.transport,
            device_name: sign_in.device_name,
            device: sign_in.device.clone(),
        };
        let kind = if matches!(admission, Admission::Newcomer(_)) { Kind::Registered } else { Kind::LoginOk };
        let event = Event::new(kind).user(user_id).session(session_id);
        let event = event.ip_address(sign_in.device.ip_address.as_deref());
        let told = event.clone();
        let attempt = move |conn: &mut AnyConnection| {
            let opened = open(conn, &admission, &new)?;
            if matches!(opened, Opened::Yes(_)) {
                events::keep(conn, &event, now)?;
            }
            Ok(opened)
        };
        let announce = move |opened: &Opened| {
            if matches!(opened, Opened::Yes(_)) {
                told.record();
            }
        };
        let opened = inner.store.write_and_then(attempt, announce).await?;
        let roles = match opened {
            Opened::Yes(roles) => roles,
            Opened::Changed => return Err(StartError::Changed),
            Opened::EmailTaken => return Err(StartError::EmailTaken),
        };
        let bearer = Bearer {
            user_id,
            session_id,
            place: Place::FIRST,
            roles: roles.into_names(),
            expires_at: access_expires_at,
        };
        let pair = self.pair(&bearer, now, now, minted.token, idle_expires_at, sign_in.transport)?;
        Ok(TokenPair { remember: sign_in.remember, ..pair })
    }

    /// Confirms that the client has stored the pair its access token belongs to: the refresh token before it is dead.
    ///
    /// # Errors
    ///
    /// [`ConfirmError`]; nothing was changed.
    pub async fn confirm(&self, bearer: &Bearer) -> Result<(), ConfirmError> {
        let now = self.0.clock.now();
        let (user, session, place) = (bearer.user_id, bearer.session_id, bearer.place);
        let (confirmed, live) = self
            .0
            .store
            .write(move |conn| {
                let confirmed = sessions::confirm(conn, user, session, place, now)?;
                Ok((confirmed, confirmed || sessions::is_live(conn, session)?))
            })
            .await?;
        match (confirmed, live) {
            (true, _) => Ok(()),
            (false, true) => Err(ConfirmError::Superseded),
            (false, false) => Err(ConfirmError::Over),
        }
    }

    /// Whether it is known what time it is for all nodes. Until then nothing can be decided.
    pub fn has_begun(&self) -> bool {
        self.0.revocations.has_begun()
    }

    /// Whether it is known which sessions have ended lately. Where it is not, guards ask the database.
    pub fn is_informed(&self) -> bool {
        self.0.revocations.is_informed()
    }

    /// A user's live sessions, most recently used first.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn list(&self, user: UserId) -> Result<Vec<SessionSummary>, StoreError> {
        let now = self.0.clock.now();
        self.0.store.read(move |conn| sessions::live_of_user(conn, user, now)).await
    }

    /// Ends some of a user's sessions, on somebody's request from `address`, and returns how many it has ended.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn revoke(
        &self,
        user: UserId,
        scope: Scope,
        reason: &'static str,
        address: Option<String>,
    ) -> Result<usize, StoreError> {
        self.revoke_all(vec![(user, scope)], reason, address).await
    }

    /// The same for sessions of several users: all of them end, or none.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn revoke_all(
        &self,
        whose: Vec<(UserId, Scope)>,
        reason: &'static str,
        address: Option<String>,
    ) -> Result<usize, StoreError> {
        let now = self.0.clock.now();
        let attempt = move |conn: &mut AnyConnection| {
            let revoke = |(user, scope): &(UserId, Scope)| {
                let event = Event::new(Kind::Revoked).user(*user).detail(reason).ip_address(address.as_deref());
                let ended = sessions::revoke(conn, *user, *scope, now, reason)?;
                events::keep_of_each(conn, &event, ended.iter().map(|session| session.id), now)?;
                Ok((event, ended))
            };
            whose.iter().map(revoke).collect::<QueryResult<Vec<_>>>()
        };
        let (felt, store) = (self.clone(), self.0.store.clone());
        let announce = move |all: &Vec<(Event, Vec<Ended>)>| {
            all.iter().for_each(|(event, ended)| felt.note_ended(event, ended));
        };
        // A task of its own: whoever wants out gets out, even if they hang up at once.
        let carried_out = async move { store.write_and_then(attempt, announce).await };
        let all = tokio::spawn(carried_out.in_current_span());
        let all = all.await.map_err(|panic| StoreError::Broken(panic.into()))??;
        Ok(all.iter().map(|(_, ended)| ended.len()).sum())
    }

    /// The session that a token of either kind belongs to, however old the token is and whatever has become of its
    /// session. `None`: the token is not ours.
    pub fn session_of(&self, token: &str) -> Option<(UserId, SessionId)> {
        match self.0.refresh.verify(token, Timestamp::from_seconds(0)) {
            Ok(presented) => Some((presented.user_id(), presented.session_id())),
            Err(_) => self.0.access.session_of(token).ok(),
        }
    }

    /// Makes the end of sessions felt at once, after the commit that ended them: `event` tells of each.
    pub fn note_ended(&self, event: &Event, ended: &[Ended]) {
        self.0.revocations.add(ended);
        ended.iter().for_each(|session| event.clone().session(session.id).record());
    }

    fn pair(
        &self,
        bearer: &Bearer,
        now: Timestamp,
        issued_at: Timestamp,
        refresh_token: RefreshToken,
        refresh_expires_at: Timestamp,
        transport: Transport,
    ) -> Result<TokenPair, SignError> {
        let (access_token, access_expires_at) = self.0.access.issue(bearer, issued_at)?;
        let now = now.floor_second();
        Ok(TokenPair {
            access_token,
            expires_in: now.seconds_until(access_expires_at),
            refresh_token,
            refresh_expires_in: now.seconds_until(refresh_expires_at),
            session_id: bearer.session_id,
            user_id: bearer.user_id,
            transport,
            remember: true,
            untold: None,
        })
    }
}

/// Lets somebody in, if the account is (still) as they were told it is.
fn open(conn: &mut AnyConnection, admission: &Admission, new: &NewSession) -> QueryResult<Opened> {
    let (user, password_hash) = match admission {
        Admission::Verified { user_id, password_hash } => (*user_id, password_hash),
        Admission::Newcomer(user) => {
            if !users::insert(conn, user)? {
                return Ok(Opened::EmailTaken);
            }
            (user.id, &user.password_hash)
        }
    };
    let Some(roles) = users::begin_session(conn, user, password_hash, new.now)? else { return Ok(Opened::Changed) };
    sessions::insert(conn, new, &roles)?;
    Ok(Opened::Yes(roles))
}
