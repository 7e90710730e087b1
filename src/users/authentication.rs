//! Whether a user is who they say they are: a password, compared within the guesses that are left.

use std::net::IpAddr;
use std::thread;

use tracing::Instrument as _;

use super::login_limiter::Target;
use super::{UserError, Users};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::config::VerifyEmail;
use crate::email::EmailKey;
use crate::ids::UserId;
use crate::passwords::{Comparison, Password};
use crate::store::AnyConnection;
use crate::store::events::{self, InTransaction};
use crate::store::users::{self, UserRow};

/// An account whose password has just been verified.
pub struct Authenticated {
    /// The account.
    pub user: UserRow,
    /// The stored hash it was verified against.
    pub password_hash: String,
}

impl Users {
    /// Checks an e-mail address and a password that came from `address`. An unknown account takes as long as a wrong
    /// password. A stored hash that is not as it would be made today is replaced.
    ///
    /// # Errors
    ///
    /// [`UserError::Wrong`], [`UserError::Disabled`], [`UserError::TooMany`], or no answer.
    pub async fn authenticate(
        &self,
        email: &str,
        password: Password,
        address: Option<IpAddr>,
        signed_in: Option<UserId>,
    ) -> Result<Authenticated, UserError> {
        // A full queue turns away before the database is troubled, a spent budget before a place is taken in it.
        self.look_for_room(address).await?;
        let key = EmailKey::of(email);
        let unknown = Target::Unknown(key.current().to_owned());
        let found = self.store.read(move |conn| users::credentials_by_email(conn, &key)).await?;
        let target = found.as_ref().map_or(unknown, |found| Target::Account(found.user.id));
        let allowed = match (&target, signed_in) {
            (Target::Account(id), Some(caller)) if *id == caller => {
                self.login_limiter.look_signed_in(caller, address).await?
            }
            _ => self.login_limiter.check(&target, address).await?,
        };
        let guess = allowed.count().await?;
        let stored = found.as_ref().map(|found| found.password_hash.clone());
        let comparison = self.hasher.compare(self.room(address)?, password.clone(), stored, guess.begun()).await?;
        let failed = Event::new(Kind::LoginFailed).ip_address(address.map(|address| address.to_string()).as_deref());
        let found = match (found, comparison) {
            (Some(found), Comparison::Same | Comparison::SameButOutdated) => found,
            (found, _) => {
                let user = found.map(|found| found.user.id);
                let event = match user {
                    Some(user) => failed.user(user).detail("wrong_password"),
                    None => failed.detail("unknown_user"),
                };
                guess.was_wrong(&event);
                self.emit_failure(event).await;
                return Err(UserError::Wrong(user));
            }
        };
        guess.was_right().await?;
        if found.user.disabled_at.is_some() {
            self.emit_failure(failed.user(found.user.id).detail("disabled")).await;
            return Err(UserError::Disabled(found.user.id));
        }
        let is_required = self.rules.verify_email == VerifyEmail::Required;
        if found.contested || (is_required && !found.user.email_verified) {
            self.emit_failure(failed.user(found.user.id).detail("email_not_verified")).await;
            return Err(UserError::Unproven(found.user.id));
        }
        let verified = Authenticated { user: found.user, password_hash: found.password_hash };
        if comparison == Comparison::Same { Ok(verified) } else { self.renew_hash(verified, password, address).await }
    }

    /// Finds out, on a thread of its own, how long the slowest stored hash takes: guesses at unknown accounts must take as
    /// long. Until then, and where the database cannot be asked, that is learnt from the hashes that are compared.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn look_for_slow_hashes(&self) -> std::io::Result<()> {
        let (store, hasher) = (self.store.clone(), self.hasher.clone());
        let look = move || match store.read_blocking(users::highest_cost) {
            Ok(cost) => hasher.has_seen(cost.and_then(|cost| u32::try_from(cost).ok()).unwrap_or_default()),
            Err(error) => tracing::debug!(error = error.chain(), "the costs of stored hashes are not known yet"),
        };
        thread::Builder::new().name("hash-costs".into()).spawn(look).map(drop)
    }

    /// Replaces a hash that is not as it would be made today. Where nothing can be hashed just now, the next log-in will.
    async fn renew_hash(
        &self,
        verified: Authenticated,
        password: Password,
        address: Option<IpAddr>,
    ) -> Result<Authenticated, UserError> {
        let Ok(room) = self.room(address) else { return Ok(verified) };
        let Ok(new) = self.hasher.hash(room, password).await else { return Ok(verified) };
        let (id, old, hash, now) = (verified.user.id, verified.password_hash.clone(), new.clone(), self.clock.now());
        let replaced = self.store.write(move |conn| users::replace_password(conn, id, &old, &hash, now)).await?;
        Ok(if replaced { Authenticated { password_hash: new, ..verified } } else { verified })
    }

    /// Tells of a log-in that failed, and keeps that for the user to read, if there is one. If it cannot be kept, that
    /// is logged, and the answer is the same.
    pub(super) async fn emit_failure(&self, event: Event) {
        emit(AfterCommit, &event);
        let (store, now, no_user) = (self.store.clone(), self.clock.now(), UserId::generate());
        // A task of its own: it is done even if the client hangs up now.
        let keep = async move {
            let attempt = move |conn: &mut AnyConnection| {
                // Nothing is kept of an account that has been deleted by now.
                if users::exists(conn, event.kept_for().unwrap_or(no_user))? {
                    emit(InTransaction(conn, now), &event)
                } else {
                    events::pretend_to_insert(conn, &event, no_user, now)
                }
            };
            store.write(attempt).await
        };
        if let Ok(Err(error)) = tokio::spawn(keep.in_current_span()).await {
            tracing::error!(error = error.chain(), "a failed log-in could not be kept");
        }
    }

    /// Checks the password of a signed-in user. A wrong one counts like one at a log-in: a stolen access token
    /// must not open a second door for guessing.
    pub(super) async fn verify(
        &self,
        id: UserId,
        password: Password,
        address: Option<IpAddr>,
    ) -> Result<Authenticated, UserError> {
        self.look_for_room(address).await?;
        let found = self.store.read(move |conn| users::credentials_by_id(conn, id)).await?;
        let found = found.ok_or(UserError::Gone)?;
        let allowed = self.login_limiter.look_signed_in(id, address).await?;
        let guess = allowed.count().await?;
        match self
            .hasher
            .compare(self.room(address)?, password, Some(found.password_hash.clone()), guess.begun())
            .await?
        {
            Comparison::Different => {
                let from = address.map(|address| address.to_string());
                let event = Event::new(Kind::LoginFailed).user(id).detail("wrong_password");
                let event = event.ip_address(from.as_deref());
                guess.was_wrong(&event);
                self.emit_failure(event).await;
                Err(UserError::Wrong(Some(id)))
            }
            Comparison::Same | Comparison::SameButOutdated => {
                guess.was_right().await?;
                Ok(Authenticated { user: found.user, password_hash: found.password_hash })
            }
        }
    }
}
