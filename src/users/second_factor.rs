//! The second factor of an account: begun, confirmed, checked, removed.

use std::net::IpAddr;

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer};

use super::login_limiter::Guess;
use super::mailing::{Asker, tell};
use super::{Authenticated, MAX_RETRIES, UserError, Users};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::ids::{SessionId, UserId};
use crate::passwords::Password;
use crate::second_factor::{self, NotMade, recovery_codes};
use crate::secret::Secret;
use crate::store::events::InTransaction;
use crate::store::second_factors::{self, Proof, RecoveryHash, SecondFactor};
use crate::store::{AnyConnection, StoreError, users};
use crate::tokens::keys::KeyError;
use crate::tokens::sealing::{SECOND_FACTORS, Sealed, SealingKeys};

/// A code as it was typed.
#[derive(Clone, Debug)]
pub struct Typed(Secret);

impl Typed {
    /// The text.
    pub fn into_secret(self) -> Secret {
        self.0
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        String::deserialize(text).map(|text| Self(Secret::new(text)))
    }
}

/// What a client shows of a second factor.
#[derive(Clone, Debug)]
pub enum Shown {
    /// A code of the authenticator.
    Code(Typed),
    /// A recovery code.
    Recovery(Typed),
}

/// Why a second factor was not begun, confirmed, accepted or removed.
#[derive(Debug, thiserror::Error)]
pub enum SecondFactorError {
    /// The account, its password, the limits, the database.
    #[error(transparent)]
    User(#[from] UserError),
    /// The code is wrong, or has been used.
    #[error("the code is wrong, or has been used")]
    WrongCode,
    /// Too many wrong codes. There is room again after so many seconds.
    #[error("too many codes were wrong")]
    TooMany(u64),
    /// One is in force.
    #[error("a second factor is in force")]
    Enabled,
    /// There is none, or none that waits to be confirmed.
    #[error("there is no second factor")]
    NoneThere,
    /// It could not be made.
    #[error(transparent)]
    NotMade(#[from] NotMade),
    /// It could not be sealed, or was sealed under a key that is not there.
    #[error("the secret of a second factor cannot be sealed or opened")]
    Sealing(#[source] KeyError),
    /// It was sealed under a key that is not there.
    #[error("the key that opens a second factor is not there")]
    KeyMissing,
}

impl From<StoreError> for SecondFactorError {
    fn from(error: StoreError) -> Self {
        Self::User(error.into())
    }
}

impl From<KeyError> for SecondFactorError {
    fn from(error: KeyError) -> Self {
        Self::Sealing(error)
    }
}

/// A second factor that has been proven. The guess counts until it is said to have been right.
pub struct Proven {
    /// What is used up when it is accepted.
    pub proof: Proof,
    guess: Guess,
}

impl Proven {
    /// It has been accepted: what was got wrong before is forgotten. A failure of that refuses nothing.
    pub async fn was_accepted(self) {
        if let Err(error) = self.guess.was_right().await {
            tracing::warn!(error = error.chain(), "wrong codes before a right one still count");
        }
    }
}

/// What is kept of a password's hash in a token: which one was verified.
pub fn digest_of(password_hash: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, password_hash.as_bytes());
    digest.as_ref().try_into().unwrap_or_default()
}

impl Users {
    /// A user whose password was verified a moment ago: it is still that one.
    ///
    /// # Errors
    ///
    /// [`UserError::Wrong`], [`UserError::Disabled`], or no answer.
    pub async fn still_verified(&self, id: UserId, hash: &[u8; 32]) -> Result<Authenticated, UserError> {
        let found = self.store.read(move |conn| users::credentials_by_id(conn, id)).await?;
        let found = found.filter(|found| digest_of(&found.password_hash) == *hash).ok_or(UserError::Wrong(Some(id)))?;
        if found.user.disabled_at.is_some() {
            return Err(UserError::Disabled(id));
        }
        Ok(Authenticated { user: found.user, password_hash: found.password_hash })
    }

    /// How many recovery codes of an account are unused.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn recovery_codes_left(&self, id: UserId) -> Result<i64, StoreError> {
        self.store.read(move |conn| second_factors::codes_left(conn, id)).await
    }

    /// Makes a secret for a signed-in user who knows the password, in the place of one that was not confirmed. Returns it,
    /// and the account's address.
    ///
    /// # Errors
    ///
    /// [`SecondFactorError::Enabled`], [`UserError::Wrong`], [`UserError::TooMany`], or no answer.
    pub async fn begin_second_factor(
        &self,
        id: UserId,
        password: Password,
        address: Option<IpAddr>,
        sealing: &SealingKeys,
    ) -> Result<(Secret, String), SecondFactorError> {
        for _ in 0..MAX_RETRIES {
            let Authenticated { user, password_hash } = self.verify(id, password.clone(), address).await?;
            if user.mfa_since.is_some() {
                return Err(SecondFactorError::Enabled);
            }
            let secret = second_factor::new_secret()?;
            let sealed = sealing.seal(SECOND_FACTORS, id.as_bytes(), &secret)?;
            if self.store.write(move |conn| second_factors::begin(conn, id, &password_hash, &sealed)).await? {
                return Ok((secret, user.email));
            }
        }
        Err(UserError::Changed.into())
    }

    /// Puts the second factor that waits in force, since its authenticator makes the right codes. Returns recovery codes, to
    /// be shown this once.
    ///
    /// # Errors
    ///
    /// [`SecondFactorError::NoneThere`], [`SecondFactorError::Enabled`], [`SecondFactorError::WrongCode`],
    /// [`SecondFactorError::TooMany`], or no answer.
    pub async fn confirm_second_factor(
        &self,
        (id, session): (UserId, SessionId),
        code: &Typed,
        asker: &Asker,
        sealing: &SealingKeys,
    ) -> Result<Vec<Secret>, SecondFactorError> {
        let address = asker.address;
        let found = self.store.read(move |conn| second_factors::find(conn, id)).await?;
        let SecondFactor { sealed, enabled, .. } = found.ok_or(SecondFactorError::NoneThere)?;
        if enabled {
            return Err(SecondFactorError::Enabled);
        }
        // Its key may have been given up meanwhile: it is to be begun anew.
        let secret = sealing.open(SECOND_FACTORS, id.as_bytes(), &sealed).ok_or(SecondFactorError::NoneThere)?;
        let guess = self.count_code(id, address).await?;
        let Some(step) = second_factor::step_of_code(&secret, code.text(), self.clock.now(), None) else {
            return Err(self.wrong_code(id, guess, address, "wrong_code").await);
        };
        let codes = (0..recovery_codes::NUMBER).map(|_| recovery_codes::generate());
        let codes: Vec<Secret> = codes.collect::<Result<_, _>>()?;
        let text =
            |code: &Secret| std::str::from_utf8(code.expose()).ok().and_then(|code| recovery_codes::hash(id, code));
        let hashes: Vec<RecoveryHash> = codes.iter().filter_map(text).collect();
        let (now, event) = (self.clock.now(), event_of(Kind::MfaEnabled, (id, session), address));
        let told = event.clone();
        let notice = self.notice_of(id, "A second factor was set up for your account", asker).await?;
        let attempt = move |conn: &mut AnyConnection| {
            let enabled = second_factors::enable(conn, id, (&sealed, step), &hashes, now)?;
            if enabled {
                emit(InTransaction(conn, now), &event)?;
                tell(conn, notice.as_ref())?;
            }
            Ok(enabled)
        };
        let after_commit = move |enabled: &bool| {
            if *enabled {
                emit(AfterCommit, &told);
            }
        };
        let enabled = self.store.write_and_then(attempt, after_commit).await?;
        // The codes are shown this once: no failure may keep them back.
        if let Err(error) = guess.was_right().await {
            tracing::warn!(error = error.chain(), "wrong codes before a right one still count");
        }
        if enabled { Ok(codes) } else { Err(UserError::Changed.into()) }
    }

    /// Removes the second factor of a signed-in user who knows the password and has the factor.
    ///
    /// # Errors
    ///
    /// [`SecondFactorError::NoneThere`], [`SecondFactorError::WrongCode`], [`SecondFactorError::TooMany`],
    /// [`UserError::Wrong`], [`UserError::TooMany`], or no answer.
    pub async fn remove_second_factor(
        &self,
        (id, session): (UserId, SessionId),
        password: Password,
        shown: &Shown,
        asker: &Asker,
        sealing: &SealingKeys,
    ) -> Result<(), SecondFactorError> {
        let address = asker.address;
        let Authenticated { user, password_hash } = self.verify(id, password, address).await?;
        if user.mfa_since.is_none() {
            return Err(SecondFactorError::NoneThere);
        }
        for _ in 0..MAX_RETRIES {
            let proven = self.prove(id, shown, address, sealing).await?;
            let (now, event) = (self.clock.now(), event_of(Kind::MfaDisabled, (id, session), address));
            let (told, proof, hash) = (event.clone(), proven.proof.clone(), password_hash.clone());
            let notice = self.notice_of(id, "The second factor of your account was removed", asker).await?;
            let attempt = move |conn: &mut AnyConnection| {
                // Before the codes, as at a log-in; and the password is still the one that was verified.
                let accepted = users::hold(conn, id, &hash, now)? && second_factors::accept(conn, id, &proof)?;
                if accepted && second_factors::disable(conn, id, now)? {
                    emit(InTransaction(conn, now), &event)?;
                    tell(conn, notice.as_ref())?;
                }
                Ok(accepted)
            };
            let after_commit = move |accepted: &bool| {
                if *accepted {
                    emit(AfterCommit, &told);
                }
            };
            if self.store.write_and_then(attempt, after_commit).await? {
                proven.was_accepted().await;
                return Ok(());
            }
        }
        Err(UserError::Changed.into())
    }

    /// Checks what a client shows of a user's second factor, counted before it is looked at. Nothing is used up yet.
    ///
    /// # Errors
    ///
    /// [`SecondFactorError::NoneThere`], [`SecondFactorError::WrongCode`], [`SecondFactorError::TooMany`], or no answer.
    pub async fn prove(
        &self,
        id: UserId,
        shown: &Shown,
        address: Option<IpAddr>,
        sealing: &SealingKeys,
    ) -> Result<Proven, SecondFactorError> {
        let guess = self.count_code(id, address).await?;
        let hash = match shown {
            Shown::Code(_) => None,
            Shown::Recovery(code) => recovery_codes::hash(id, code.text()),
        };
        let read = move |conn: &mut AnyConnection| {
            let has_code = hash.map(|hash| second_factors::has_code(conn, id, &hash)).transpose()?;
            Ok((second_factors::find(conn, id)?, has_code == Some(true)))
        };
        let (found, has_code) = self.store.read(read).await?;
        let SecondFactor { sealed, step: used, .. } =
            found.filter(|found| found.enabled).ok_or(SecondFactorError::NoneThere)?;
        let proof = match shown {
            Shown::Recovery(_) => hash.filter(|_| has_code).map(Proof::Recovery),
            Shown::Code(code) => {
                let opened = sealing.open(SECOND_FACTORS, id.as_bytes(), &sealed);
                let secret = opened.ok_or(SecondFactorError::KeyMissing)?;
                let step = second_factor::step_of_code(&secret, code.text(), self.clock.now(), used);
                let anew = sealed_anew(id, &secret, &sealed, sealing)?;
                step.map(|step| Proof::Code { step, sealed, anew })
            }
        };
        match (proof, shown) {
            (Some(proof), _) => Ok(Proven { proof, guess }),
            (None, Shown::Code(_)) => Err(self.wrong_code(id, guess, address, "wrong_code").await),
            (None, Shown::Recovery(_)) => Err(self.wrong_code(id, guess, address, "wrong_recovery_code").await),
        }
    }

    async fn count_code(&self, id: UserId, address: Option<IpAddr>) -> Result<Guess, SecondFactorError> {
        let too_many = |error: UserError| match error {
            UserError::TooMany(seconds) => SecondFactorError::TooMany(seconds),
            other => other.into(),
        };
        let allowed = self.login_limiter.check_code(id, address).await;
        let counted = allowed.map_err(|denied| too_many(denied.into()))?.count().await;
        counted.map_err(|denied| too_many(denied.into()))
    }

    async fn wrong_code(
        &self,
        id: UserId,
        guess: Guess,
        address: Option<IpAddr>,
        what: &'static str,
    ) -> SecondFactorError {
        let from = address.map(|address| address.to_string());
        let event = Event::new(Kind::LoginFailed).user(id).ip_address(from.as_deref()).detail(what);
        guess.was_wrong(&event);
        self.emit_failure(event).await;
        SecondFactorError::WrongCode
    }
}

/// The secret sealed under the present key, if it is sealed under an older one.
fn sealed_anew(
    id: UserId,
    secret: &Secret,
    sealed: &Sealed,
    sealing: &SealingKeys,
) -> Result<Option<Sealed>, KeyError> {
    let is_present = sealing.active() == Some(sealed.under.as_str());
    (!is_present).then(|| sealing.seal(SECOND_FACTORS, id.as_bytes(), secret)).transpose()
}

fn event_of(kind: Kind, (user, session): (UserId, SessionId), address: Option<IpAddr>) -> Event {
    let from = address.map(|address| address.to_string());
    Event::new(kind).user(user).session(session).ip_address(from.as_deref())
}
