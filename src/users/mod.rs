//! Accounts: register, authenticate, change, delete. Sessions are another room's business; where an
//! account and its sessions must change together, both sets of queries run in one transaction here.

pub mod administration;
mod allowance;
mod authentication;
mod guess_keys;
pub mod login_limiter;
pub mod search;
pub mod second_factor;
mod undecided;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::Instrument as _;

use self::allowance::Allowance;
pub use self::authentication::Authenticated;
use self::login_limiter::{Denied, Limits, LoginLimiter};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::clock::{Clock, Timestamp};
use crate::email::{self, EmailKey};
use crate::ids::{SessionId, UserId};
use crate::passwords::{HashError, Hasher, Password, Room};
use crate::problem::FieldError;
use crate::revocation::Revocations;
use crate::store::columns::Roles;
use crate::store::events::{self, InTransaction};
use crate::store::sessions::{self, EndOrder, EndProgress};
use crate::store::users::{self, NewUser, UserRow};
use crate::store::{AnyConnection, QueryResult, Store, StoreError, attempts, second_factors};

/// The longest name, in characters.
pub const MAX_NAME: usize = 200;
/// How often an account may change under a log-in before it is told to come back.
const MAX_RETRIES: usize = 3;
/// Events that are removed in one transaction.
const AT_ONCE: i64 = 500;
/// How often the rest of a deleted account's past may fail to go, and the rest between.
const MOST_FAILURES: u32 = 10;
const A_REST: Duration = Duration::from_secs(1);
/// How long a client waits to hear that the queue is full: one that asks again at once then asks four times a second.
const REFUSAL_DELAY: Duration = Duration::from_millis(250);
/// Why sessions end.
const ACCOUNT_DISABLED: &str = "account_disabled";
const PASSWORD_CHANGED: &str = "password_changed";
const ACCOUNT_DELETED: &str = "account_deleted";

/// Everything about accounts. Clones share it.
#[derive(Clone)]
pub struct Users {
    store: Store,
    clock: Clock,
    revocations: Revocations,
    hasher: Hasher,
    login_limiter: LoginLimiter,
    allowance: Allowance,
    rules: Rules,
}

/// What accounts must be like; sections `passwords` and `registration` of the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The shortest password, in characters.
    pub min_password: usize,
    /// The domains, as A-labels, whose addresses may register. None: any.
    pub allowed_domains: Arc<[String]>,
}

/// What a registration consists of.
#[derive(Debug)]
pub struct Registration {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: Password,
    /// What the user is called.
    pub name: Option<String>,
}

impl Registration {
    /// What stands around an address is no part of it.
    fn trimmed(mut self) -> Self {
        self.email = email::trim(&self.email).to_owned();
        self
    }
}

/// Why an account was not made, found or changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Members that are not acceptable.
    #[error("{} fields are not acceptable", .0.len())]
    Invalid(Vec<FieldError>),
    /// No such account, or another password: the client is not told which. The account, for the log.
    #[error("the e-mail address or the password is wrong")]
    Wrong(Option<UserId>),
    /// The right password of a disabled account.
    #[error("the account is disabled")]
    Disabled(UserId),
    /// The account is gone.
    #[error("the account is gone")]
    Gone,
    /// Another account has the address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// The account kept changing.
    #[error("the account changed meanwhile")]
    Changed,
    /// Too many attempts. There is room again after so many seconds.
    #[error("too many attempts")]
    TooMany(u64),
    /// Nothing was hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Denied> for UserError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Spent(seconds) => Self::TooMany(seconds),
            Denied::Store(error) => Self::Store(error),
        }
    }
}

impl Users {
    /// Puts the parts together.
    pub fn new(
        store: Store,
        clock: Clock,
        revocations: Revocations,
        hasher: Hasher,
        login_limiter: LoginLimiter,
        rules: Rules,
    ) -> Self {
        let allowance = Allowance::new(clock.clone(), login_limiter.is_limited());
        Self { store, clock, revocations, hasher, login_limiter, allowance, rules }
    }

    /// The same accounts under other limits and rules. What has been counted still counts.
    #[must_use]
    pub fn reconfigured(&self, limits: Option<Limits>, rules: Rules) -> Self {
        let login_limiter = self.login_limiter.reconfigured(limits);
        let allowance = self.allowance.reconfigured(login_limiter.is_limited());
        Self { login_limiter, allowance, rules, ..self.clone() }
    }

    /// How many passwords wait to be hashed.
    pub fn waiting_passwords(&self) -> usize {
        self.hasher.waiting()
    }

    /// Looks whether a password from `address` may be hashed, and would find a place in the queue: a flood of those that
    /// may not or would not troubles no database, nor, as it is told so only after a moment, the cores that hash.
    async fn look_for_room(&self, address: Option<IpAddr>) -> Result<(), UserError> {
        self.allowance.check(address).map_err(UserError::TooMany)?;
        if let Err(full) = self.hasher.check(address) {
            tokio::time::sleep(REFUSAL_DELAY).await;
            return Err(full.into());
        }
        Ok(())
    }

    /// A place in the queue for a password from `address`, to be asked for when everything else that the hash needs is
    /// there: no place is kept while the database is waited for.
    fn room(&self, address: Option<IpAddr>) -> Result<Room, UserError> {
        self.allowance.check(address).map_err(UserError::TooMany)?;
        let room = self.hasher.room(address)?;
        self.allowance.count(address);
        Ok(room)
    }

    /// Checks a registration from `address` and hashes its password. The account is made by the transaction that
    /// starts its first session, so that there is never one without the other.
    ///
    /// # Errors
    ///
    /// [`UserError::Invalid`] naming every bad member, [`UserError::TooMany`], or a hashing failure.
    pub async fn prepare(&self, registration: Registration, address: Option<IpAddr>) -> Result<NewUser, UserError> {
        let registration = registration.trimmed();
        let mut errors = self.mistakes(&registration);
        if !errors.iter().any(|error| error.field == "email") && !self.is_allowed(&registration.email) {
            let message = "is not of a domain whose addresses may register here".to_owned();
            errors.insert(0, FieldError { field: "email", message });
        }
        if !errors.is_empty() {
            return Err(UserError::Invalid(errors));
        }
        self.look_for_room(address).await?;
        self.login_limiter.registration(address).await?;
        self.hash(self.room(address)?, registration).await
    }

    /// Whether an address is of a domain that may register.
    fn is_allowed(&self, email: &str) -> bool {
        let allowed = &self.rules.allowed_domains;
        let domain = email.rsplit_once('@').and_then(|(_, domain)| email::domain(domain));
        allowed.is_empty() || domain.is_some_and(|domain| allowed.contains(&domain))
    }

    /// Every member of a registration that is not acceptable.
    fn mistakes(&self, registration: &Registration) -> Vec<FieldError> {
        let checked = [
            ("email", email::check(&registration.email)),
            (
                "password",
                registration.password.check(self.rules.min_password, &registration.email, registration.name.as_deref()),
            ),
            ("name", check_name(registration.name.as_deref())),
        ];
        checked.into_iter().filter_map(|(field, result)| Some(FieldError { field, message: result.err()? })).collect()
    }

    /// The account that an acceptable registration makes.
    async fn hash(&self, room: Room, registration: Registration) -> Result<NewUser, UserError> {
        let password_hash = self.hasher.hash(room, registration.password).await?;
        let now = self.clock.now();
        Ok(NewUser {
            id: UserId::generate(),
            email_key: EmailKey::of(&registration.email).current().to_owned(),
            email: registration.email,
            name: registration.name,
            password_hash,
            roles: Roles::default(),
            email_verified: false,
            created_at: now,
            updated_at: now,
        })
    }

    /// Replaces the password of a signed-in user who knows the old one, from `address`. Every other session
    /// ends in the same transaction.
    ///
    /// # Errors
    ///
    /// [`UserError::Wrong`], [`UserError::TooMany`], [`UserError::Invalid`], [`UserError::Gone`], or no answer.
    pub async fn change_password(
        &self,
        id: UserId,
        keep: SessionId,
        current: Password,
        new: Password,
        address: Option<IpAddr>,
    ) -> Result<(), UserError> {
        let from = address.map(|address| address.to_string());
        for _ in 0..MAX_RETRIES {
            let Authenticated { user, password_hash } = self.verify(id, current.clone(), address).await?;
            if let Err(message) = new.check(self.rules.min_password, &user.email, user.name.as_deref()) {
                return Err(UserError::Invalid(vec![FieldError { field: "new_password", message }]));
            }
            let new_hash = self.hasher.hash(self.room(address)?, new.clone()).await?;
            let changed = Event::new(Kind::PasswordChanged).user(id).session(keep).ip_address(from.as_deref());
            let others = EndOrder { kept: Some(keep), ip_address: from.clone(), ..EndOrder::all(id, PASSWORD_CHANGED) };
            let (kept, clock) = (changed.clone(), self.clock.clone());
            let attempt = move |conn: &mut AnyConnection| {
                if !users::replace_password(conn, id, &password_hash, &new_hash, clock.now())? {
                    return Ok((false, Vec::new()));
                }
                // Read when no log-in with the old password can begin any more.
                let now = clock.now();
                emit(InTransaction(conn, now), &kept)?;
                Ok((true, vec![sessions::begin_end(conn, &others, now)?]))
            };
            let told = move |done: &bool| {
                if *done {
                    emit(AfterCommit, &changed);
                }
            };
            let (done, _ended) = self.revocations.end(attempt, told).await?;
            if done {
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

    /// Deletes the account of a signed-in user who knows its password, and what is kept of its past. Its sessions
    /// end in the same transaction and lose everything personal.
    ///
    /// # Errors
    ///
    /// [`UserError::Wrong`], [`UserError::TooMany`], [`UserError::Gone`], or no answer.
    pub async fn delete(&self, id: UserId, password: Password, address: Option<IpAddr>) -> Result<(), UserError> {
        let from = address.map(|address| address.to_string());
        for _ in 0..MAX_RETRIES {
            let Authenticated { password_hash, .. } = self.verify(id, password.clone(), address).await?;
            let deleted = Event::new(Kind::AccountDeleted).user(id).ip_address(from.as_deref());
            let (clock, address) = (self.clock.clone(), from.clone());
            let attempt = move |conn: &mut AnyConnection| {
                if !users::delete(conn, id, &password_hash)? {
                    return Ok((false, Vec::new()));
                }
                Ok((true, vec![clear_away(conn, id, address.clone(), clock.now())?]))
            };
            let (this, runtime) = (self.clone(), Handle::current());
            let told = move |done: &bool| {
                if *done {
                    emit(AfterCommit, &deleted);
                    // The client need not wait for it, and may hang up.
                    runtime.spawn(async move { this.forget(id).await }.in_current_span());
                }
            };
            let (done, _ended) = self.revocations.end(attempt, told).await?;
            if done {
                return Ok(());
            }
        }
        Err(UserError::Changed)
    }

    /// Removes what is left of a past too long for one transaction. The account is gone already; what an outage or the end
    /// of this process leaves belongs to no user, and goes with age.
    async fn forget(&self, id: UserId) {
        let mut failures = 0;
        loop {
            match self.store.write(move |conn| events::forget(conn, id, AT_ONCE)).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) if failures < MOST_FAILURES => {
                    failures += 1;
                    tokio::time::sleep(A_REST).await;
                }
                Err(error) => {
                    tracing::warn!(
                        error = error.chain(),
                        "some of a deleted account's events are left until they are too old"
                    );
                    return;
                }
            }
        }
    }
}

/// What a deleted account leaves behind: its sessions end and lose everything personal, and its past goes.
fn clear_away(
    conn: &mut AnyConnection,
    id: UserId,
    ip_address: Option<String>,
    now: Timestamp,
) -> QueryResult<EndProgress> {
    let order = EndOrder { ip_address, erase: true, ..EndOrder::all(id, ACCOUNT_DELETED) };
    let progress = sessions::begin_end(conn, &order, now)?;
    attempts::forget(conn, id, now)?;
    second_factors::forget_codes(conn, id)?;
    events::forget(conn, id, AT_ONCE)?;
    Ok(progress)
}

/// Whether a name, of a person or of a device, can be kept: not blank, not too long, on one line.
///
/// # Errors
///
/// A sentence for the person who chose it.
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
