//! Sessions: start, refresh, confirm, list, revoke. The rotation of refresh tokens is the heart of it;
//! [`rotation`] decides, this module carries out, [`Revocations`] tells the guard.

pub mod administration;
mod claims;
mod handing_over;
mod inspect;
mod opening;
mod outcome;
mod plan;
mod refresh;
pub mod refresh_limiter;
pub mod rotation;

use std::sync::Arc;
use std::time::Duration;

pub use self::claims::ClaimsHook;
pub use self::outcome::{RefreshError, RefusedBecause};
use self::refresh_limiter::RefreshLimiter;
use self::rotation::Policy;
use crate::audit::{Kind, emit};
use crate::clock::{Clock, Timestamp};
use crate::current::Current;
use crate::ids::{SessionId, UserId};
use crate::revocation::Revocations;
use crate::store::events::InTransaction;
use crate::store::second_factors::Proof;
use crate::store::sessions::{self, Device, EndOrder, EndProgress, Scope, SessionSummary, Transport};
use crate::store::users::NewUser;
use crate::store::{AnyConnection, QueryResult, Store, StoreError};
use crate::tokens::SignError;
use crate::tokens::access::{AccessTokens, Bearer};
use crate::tokens::refresh::{RefreshToken, RefreshTokens};

/// How long sessions last; section `tokens` of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Unused, a session ends after this.
    pub idle: Duration,
    /// One that is not to be remembered.
    pub short: Duration,
    /// However used, a session ends after this.
    pub absolute: Duration,
}

impl Lifetimes {
    /// When a session ends that is used now and not again, and that ends at `end` in any case.
    fn idle_end(&self, remember: bool, now: Timestamp, end: Timestamp) -> Timestamp {
        now.floor_second().plus(if remember { self.idle } else { self.short }).min(end)
    }
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
    settings: Settings,
    refresh_limiter: RefreshLimiter,
    /// What the application adds to access tokens.
    claims_hook: Current<Option<ClaimsHook>>,
}

/// What sessions are like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long they last.
    pub lifetimes: Lifetimes,
    /// How forgiving the exchange of refresh tokens is.
    pub policy: Policy,
    /// Sessions of one user; zero: no bound.
    pub most: u32,
    /// Whether unusual refreshes are limited.
    pub limited: bool,
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
    /// What kind of refresh has granted it. None: it is the first of its session.
    pub granted: Option<Kind>,
}

/// Who is let in.
#[derive(Clone)]
pub enum Admission {
    /// A user whose password was verified against this hash.
    Verified {
        /// The account.
        user_id: UserId,
        /// The stored hash, which must still be the stored one when the session starts.
        password_hash: String,
        /// What has proven the second factor. None: the account must have none when the session starts.
        proof: Option<Proof>,
    },
    /// A new user: the account is made in the same transaction as its first session.
    Newcomer(NewUser),
}

impl Admission {
    fn user_id(&self) -> UserId {
        match self {
            Self::Verified { user_id, .. } => *user_id,
            Self::Newcomer(user) => user.id,
        }
    }

    fn proof(&self) -> Option<&Proof> {
        match self {
            Self::Verified { proof, .. } => proof.as_ref(),
            Self::Newcomer(_) => None,
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
    /// Whether a browser is to keep them when it is closed; the session's idle time is the long one then.
    pub remember: bool,
    /// Sessions that end as soon as this one has begun: they do not count towards the bound.
    pub replaces: Vec<SessionId>,
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

impl Sessions {
    /// Puts the parts together.
    pub fn new(
        store: Store,
        clock: Clock,
        revocations: Revocations,
        access: Arc<AccessTokens>,
        refresh: Arc<RefreshTokens>,
        settings: Settings,
    ) -> Self {
        let refresh_limiter = RefreshLimiter::new(settings.limited);
        Self(Arc::new(Inner {
            store,
            clock,
            access,
            refresh,
            revocations,
            settings,
            refresh_limiter,
            claims_hook: Current::new(None),
        }))
    }

    /// The same sessions with other keys and settings. What has been counted still counts.
    #[must_use]
    pub fn reconfigured(&self, access: Arc<AccessTokens>, refresh: Arc<RefreshTokens>, settings: Settings) -> Self {
        let Inner { store, clock, revocations, refresh_limiter, claims_hook, .. } = &*self.0;
        Self(Arc::new(Inner {
            store: store.clone(),
            clock: clock.clone(),
            access,
            refresh,
            revocations: revocations.clone(),
            settings,
            refresh_limiter: refresh_limiter.reconfigured(settings.limited),
            claims_hook: claims_hook.clone(),
        }))
    }

    /// Confirms that the client has stored the pair its access token belongs to: the refresh token before it is dead.
    ///
    /// # Errors
    ///
    /// [`ConfirmError`]; nothing was changed.
    pub async fn confirm(&self, bearer: &Bearer) -> Result<(), ConfirmError> {
        let now = self.0.clock.now();
        let (user, session, position) = (bearer.user_id, bearer.session_id, bearer.position);
        let (confirmed, live) = self
            .0
            .store
            .write(move |conn| {
                let confirmed = sessions::confirm(conn, user, session, position, now)?;
                Ok((confirmed, confirmed || sessions::is_live(conn, session)?))
            })
            .await?;
        match (confirmed, live) {
            (true, _) => Ok(()),
            (false, true) => Err(ConfirmError::Superseded),
            (false, false) => Err(ConfirmError::Over),
        }
    }

    /// Whether it is known what time it is for all nodes, and with which key to sign. Until then nothing can be decided.
    pub fn has_begun(&self) -> bool {
        self.0.revocations.has_begun() && self.0.access.can_sign()
    }

    /// Whether it is known which sessions have ended lately. Where it is not, guards ask the database.
    pub fn is_informed(&self) -> bool {
        self.0.revocations.is_informed()
    }

    /// A user's live sessions, most recently used first: the first thousand.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn list(&self, user: UserId) -> Result<Vec<SessionSummary>, StoreError> {
        let now = self.0.clock.now();
        self.0.store.read(move |conn| sessions::live_of_user(conn, user, now)).await
    }

    /// Ends some of a user's sessions, on a request from `address`, and returns how many it has ended.
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
        let clock = self.0.clock.clone();
        let attempt = move |conn: &mut AnyConnection| {
            let end = |(user, scope): &(UserId, Scope)| {
                let order = EndOrder { ip_address: address.clone(), ..EndOrder::all(*user, reason) };
                // Read in the transaction: one that had to wait must not be dated back.
                let now = clock.now();
                match scope {
                    Scope::All => sessions::begin_end(conn, &order, now),
                    Scope::Except(kept) => sessions::begin_end(conn, &EndOrder { kept: Some(*kept), ..order }, now),
                    Scope::Only(id) => {
                        let (event, ended) = (order.event(), sessions::end_one(conn, *user, *id, now, reason)?);
                        if let Some(ended) = &ended {
                            emit(InTransaction(conn, now), &event.clone().session(ended.id))?;
                        }
                        Ok(EndProgress { event, ended: ended.into_iter().collect(), rest: None })
                    }
                }
            };
            Ok(((), whose.iter().map(end).collect::<QueryResult<Vec<_>>>()?))
        };
        let ((), ended) = self.0.revocations.end(attempt, |()| ()).await?;
        Ok(ended)
    }

    /// The session that a token of either kind belongs to, however old the token is and whatever has become of its
    /// session. `None`: the token is not ours.
    pub fn session_of(&self, token: &str) -> Option<(UserId, SessionId)> {
        match self.0.refresh.verify(token, Timestamp::from_seconds(0)) {
            Ok(presented) => Some((presented.user_id(), presented.session_id())),
            Err(_) => self.0.access.session_of(token).ok(),
        }
    }

    /// Whether it cannot be told if a token of either kind is ours, for it names a key that may be a new one.
    pub fn cannot_tell(&self, token: &str) -> bool {
        self.0.refresh.cannot_tell(token) || self.0.access.cannot_tell(token)
    }

    fn pair(
        &self,
        bearer: &Bearer,
        now: Timestamp,
        issued_at: Timestamp,
        refresh_token: RefreshToken,
        handed: Handed,
    ) -> Result<TokenPair, SignError> {
        let (access_token, access_expires_at) = self.0.access.issue(bearer, issued_at)?;
        let now = now.floor_second();
        Ok(TokenPair {
            access_token,
            expires_in: now.seconds_until(access_expires_at),
            refresh_token,
            refresh_expires_in: now.seconds_until(handed.until),
            session_id: bearer.session_id,
            user_id: bearer.user_id,
            transport: handed.transport,
            remember: handed.remember,
            granted: None,
        })
    }
}

/// How a pair is handed out, and how long its refresh token can be used.
struct Handed {
    transport: Transport,
    remember: bool,
    until: Timestamp,
}
