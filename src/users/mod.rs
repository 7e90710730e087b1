//! Accounts: register, authenticate, change, delete. Sessions are somebody else's business; where an
//! account and its sessions must change together, both sets of queries run in one transaction here.

use email_address::{EmailAddress, Options};

use crate::clock::Clock;
use crate::events::{Event, Kind};
use crate::ids::{SessionId, UserId};
use crate::passwords::{Comparison, HashError, Hasher, Password};
use crate::problem::FieldError;
use crate::store::columns::Roles;
use crate::store::events;
use crate::store::sessions::{self, Ended, Scope};
use crate::store::users::{self, NewUser, UserRow};
use crate::store::{AnyConnection, Store, StoreError};

/// The longest address, in bytes (RFC 5321 section 4.5.3.1.3, less the brackets).
pub const MAX_EMAIL: usize = 254;
/// The longest name, in characters.
pub const MAX_NAME: usize = 200;
/// How often an account may change under a log-in before it is told to come back.
const ROUNDS: usize = 3;
/// Events that are removed in one transaction.
const AT_ONCE: i64 = 500;
/// Why sessions end.
const PASSWORD_CHANGED: &str = "password_changed";
const ACCOUNT_DELETED: &str = "account_deleted";

/// Everything about accounts. Clones share it.
#[derive(Clone)]
pub struct Users {
    store: Store,
    clock: Clock,
    hasher: Hasher,
    min_password: usize,
}

/// What somebody registers with.
#[derive(Debug)]
pub struct Registration {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: Password,
    /// What the user is called.
    pub name: Option<String>,
}

/// An account whose password has just been verified.
pub struct Authenticated {
    /// The account.
    pub user: UserRow,
    /// The stored hash it was verified against.
    pub password_hash: String,
}

/// Why an account was not made, found or changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Members that are not acceptable.
    #[error("{} members are not acceptable", .0.len())]
    Invalid(Vec<FieldError>),
    /// No such account, or another password: nobody is told which. The account, for the log.
    #[error("the e-mail address or the password is wrong")]
    Wrong(Option<UserId>),
    /// The right password of a disabled account.
    #[error("the account is disabled")]
    Disabled(UserId),
    /// The account is gone.
    #[error("the account is gone")]
    Gone,
    /// The account kept changing.
    #[error("the account changed meanwhile")]
    Changed,
    /// Nothing was hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Users {
    /// Puts the parts together. `min_password` is in characters.
    pub fn new(store: Store, clock: Clock, hasher: Hasher, min_password: usize) -> Self {
        Self { store, clock, hasher, min_password }
    }

    /// Checks a registration and hashes its password. The account is made by the transaction that starts
    /// its first session, so that there is never one without the other.
    ///
    /// # Errors
    ///
    /// [`UserError::Invalid`] naming every bad member, or a hashing failure.
    pub async fn prepare(&self, registration: Registration) -> Result<NewUser, UserError> {
        let mut errors = Vec::new();
        let mut check = |field, result: Result<(), String>| {
            if let Err(message) = result {
                errors.push(FieldError { field, message });
            }
        };
        check("email", check_email(&registration.email));
        check("password", registration.password.check(self.min_password, &registration.email));
        check("name", check_name(registration.name.as_deref()));
        if !errors.is_empty() {
            return Err(UserError::Invalid(errors));
        }
        let password_hash = self.hasher.hash(registration.password).await?;
        let now = self.clock.now();
        Ok(NewUser {
            id: UserId::generate(),
            email_key: comparable(&registration.email),
            email: registration.email,
            name: registration.name,
            password_hash,
            roles: Roles::default(),
            email_verified: false,
            created_at: now,
            updated_at: now,
        })
    }

    /// Checks an address and a password. An unknown address takes as long as a wrong password. A stored
    /// hash that is not as it would be made today is replaced.
    ///
    /// # Errors
    ///
    /// [`UserError::Wrong`], [`UserError::Disabled`], or no answer.
    pub async fn authenticate(&self, email: &str, password: Password) -> Result<Authenticated, UserError> {
        let key = comparable(email);
        let found = self.store.read(move |conn| users::credentials_by_email(conn, &key)).await?;
        let Some(found) = found else {
            self.hasher.compare(password, None).await?;
            return Err(UserError::Wrong(None));
        };
        match self.hasher.compare(password.clone(), Some(found.password_hash.clone())).await? {
            Comparison::Different => Err(UserError::Wrong(Some(found.user.id))),
            _ if found.user.disabled_at.is_some() => Err(UserError::Disabled(found.user.id)),
            Comparison::Same => Ok(Authenticated { user: found.user, password_hash: found.password_hash }),
            Comparison::SameButOutdated => {
                let (id, old) = (found.user.id, found.password_hash);
                let new = self.hasher.hash(password).await?;
                let (now, hash) = (self.clock.now(), new.clone());
                let old_hash = old.clone();
                let replaced =
                    self.store.write(move |conn| users::replace_password(conn, id, &old_hash, &hash, now)).await?;
                Ok(Authenticated { user: found.user, password_hash: if replaced { new } else { old } })
            }
        }
    }

    /// Replaces the password of somebody who is signed in, from `address`, and knows the old one. Every other session
    /// ends in the same transaction; `announce` is told of them after the commit.
    ///
    /// # Errors
    ///
    /// [`UserError::Wrong`], [`UserError::Invalid`], [`UserError::Gone`], or no answer.
    pub async fn change_password(
        &self,
        id: UserId,
        keep: SessionId,
        current: Password,
        new: Password,
        announce: impl Fn(&Event, &[Ended]) + Clone + Send + 'static,
        address: Option<&str>,
    ) -> Result<(), UserError> {
        for _ in 0..ROUNDS {
            let Authenticated { user, password_hash } = self.verify(id, current.clone()).await?;
            if let Err(message) = new.check(self.min_password, &user.email) {
                return Err(UserError::Invalid(vec![FieldError { field: "new_password", message }]));
            }
            let new_hash = self.hasher.hash(new.clone()).await?;
            let now = self.clock.now();
            let changed = Event::new(Kind::PasswordChanged).user(id).session(keep).ip_address(address);
            let revoked = Event::new(Kind::Revoked).user(id).detail(PASSWORD_CHANGED).ip_address(address);
            let (kept, kept_revoked, announce) = (changed.clone(), revoked.clone(), announce.clone());
            let attempt = move |conn: &mut AnyConnection| {
                if !users::replace_password(conn, id, &password_hash, &new_hash, now)? {
                    return Ok(None);
                }
                events::keep(conn, &kept, now)?;
                let ended = sessions::revoke(conn, id, Scope::Except(keep), now, PASSWORD_CHANGED)?;
                ended
                    .iter()
                    .try_for_each(|session| events::keep(conn, &kept_revoked.clone().session(session.id), now))?;
                Ok(Some(ended))
            };
            let announce = move |ended: &Option<Vec<Ended>>| {
                if let Some(ended) = ended {
                    changed.record();
                    announce(&revoked, ended);
                }
            };
            if self.store.write_and_then(attempt, announce).await?.is_some() {
                return Ok(());
            }
        }
        Err(UserError::Changed)
    }

    /// Changes the name; `None` removes it.
    ///
    /// # Errors
    ///
    /// [`UserError::Invalid`], [`UserError::Gone`], or no answer.
    pub async fn rename(&self, id: UserId, name: Option<String>) -> Result<UserRow, UserError> {
        if let Err(message) = check_name(name.as_deref()) {
            return Err(UserError::Invalid(vec![FieldError { field: "name", message }]));
        }
        let now = self.clock.now();
        let renamed = self.store.write(move |conn| users::rename(conn, id, name.as_deref(), now)).await?;
        renamed.ok_or(UserError::Gone)
    }

    /// Deletes the account of somebody who is signed in and knows its password, and what is kept of its past. Its sessions
    /// end in the same transaction and lose everything personal; `announce` is told of them after the commit.
    ///
    /// # Errors
    ///
    /// [`UserError::Wrong`], [`UserError::Gone`], or no answer.
    pub async fn delete(
        &self,
        id: UserId,
        password: Password,
        announce: impl Fn(&Event, &[Ended]) + Clone + Send + 'static,
        address: Option<&str>,
    ) -> Result<(), UserError> {
        for _ in 0..ROUNDS {
            let Authenticated { password_hash, .. } = self.verify(id, password.clone()).await?;
            let now = self.clock.now();
            let deleted = Event::new(Kind::AccountDeleted).user(id).ip_address(address);
            let revoked = Event::new(Kind::Revoked).user(id).detail(ACCOUNT_DELETED).ip_address(address);
            let announce = announce.clone();
            let attempt = move |conn: &mut AnyConnection| {
                if !users::delete(conn, id, &password_hash)? {
                    return Ok(None);
                }
                let ended = sessions::revoke(conn, id, Scope::All, now, ACCOUNT_DELETED)?;
                sessions::anonymise(conn, id)?;
                events::forget(conn, id, AT_ONCE)?;
                Ok(Some(ended))
            };
            let announce = move |ended: &Option<Vec<Ended>>| {
                if let Some(ended) = ended {
                    deleted.record();
                    announce(&revoked, ended);
                }
            };
            if self.store.write_and_then(attempt, announce).await?.is_some() {
                return self.forget(id).await;
            }
        }
        Err(UserError::Changed)
    }

    /// Removes what is left of a past too long for one transaction. What a crash leaves is nobody's, and goes with age.
    async fn forget(&self, id: UserId) -> Result<(), UserError> {
        while self.store.write(move |conn| events::forget(conn, id, AT_ONCE)).await? > 0 {}
        Ok(())
    }

    /// Tells of a log-in that failed, and keeps that for the user to read. The answer does not wait for luck: if it
    /// cannot be kept, that is logged.
    pub async fn note_failed_login(&self, error: &UserError, address: Option<&str>) {
        let event = Event::new(Kind::LoginFailed).ip_address(address);
        let event = match error {
            UserError::Wrong(Some(user)) => event.user(*user).detail("wrong_password"),
            UserError::Wrong(None) => event.detail("unknown_user"),
            UserError::Disabled(user) => event.user(*user).detail("disabled"),
            _ => return,
        };
        event.record();
        let now = self.clock.now();
        if event.kept_for().is_some()
            && let Err(error) = self.store.write(move |conn| events::keep(conn, &event, now)).await
        {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "a failed log-in could not be kept");
        }
    }

    async fn verify(&self, id: UserId, password: Password) -> Result<Authenticated, UserError> {
        let found = self.store.read(move |conn| users::credentials_by_id(conn, id)).await?;
        let found = found.ok_or(UserError::Gone)?;
        match self.hasher.compare(password, Some(found.password_hash.clone())).await? {
            Comparison::Different => Err(UserError::Wrong(Some(id))),
            Comparison::Same | Comparison::SameButOutdated => {
                Ok(Authenticated { user: found.user, password_hash: found.password_hash })
            }
        }
    }
}

/// Addresses are compared without case.
fn comparable(email: &str) -> String {
    email.to_lowercase()
}

fn check_email(email: &str) -> Result<(), String> {
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    let valid = email.len() <= MAX_EMAIL
        && EmailAddress::parse_with_options(email, options).is_ok()
        && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if valid { Ok(()) } else { Err("must be an e-mail address".into()) }
}

/// Whether a name, of a person or of a device, can be kept: not blank, not too long, on one line.
///
/// # Errors
///
/// A sentence for whoever chose it.
pub fn check_name(name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    if name.chars().count() > MAX_NAME {
        return Err(format!("must have at most {MAX_NAME} characters"));
    }
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err("must be one line of text".into());
    }
    Ok(())
}
