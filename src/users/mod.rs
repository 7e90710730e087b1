//! Accounts: register, authenticate, change, delete. Sessions are another room's business; where an
//! account and its sessions must change together, both sets of queries run in one transaction here.

mod address_change;
mod address_proof;
pub mod administration;
mod allowance;
mod authentication;
mod changes;
mod guess_keys;
pub mod login_limiter;
mod mail_limits;
mod mailing;
mod recovery;
pub mod search;
pub mod second_factor;
mod undecided;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use self::allowance::Allowance;
pub use self::authentication::Authenticated;
use self::login_limiter::{Denied, Limits, LoginLimiter};
pub use self::mailing::{Asker, Mailed, Proof};
use crate::clock::Clock;
use crate::config::VerifyEmail;
use crate::email::{self, EmailKey};
use crate::ids::UserId;
use crate::outbox::Outbox;
use crate::passwords::{HashError, Hasher, Password, Room};
use crate::problem::FieldError;
use crate::revocation::Revocations;
use crate::store::columns::Roles;
use crate::store::users::NewUser;
use crate::store::{Store, StoreError};
use crate::tokens::keys::KeyError;

/// The longest name, in characters.
pub const MAX_NAME: usize = 200;
/// How often an account may change under a log-in before it is told to come back.
const MAX_RETRIES: usize = 3;
/// How long a client waits to hear that the queue is full: one that asks again at once then asks four times a second.
const REFUSAL_DELAY: Duration = Duration::from_millis(250);
/// Why sessions end.
const ACCOUNT_DISABLED: &str = "account_disabled";
const PASSWORD_CHANGED: &str = "password_changed";

/// Everything about accounts. Clones share it.
#[derive(Clone)]
pub struct Users {
    store: Store,
    clock: Clock,
    revocations: Revocations,
    hasher: Hasher,
    login_limiter: LoginLimiter,
    allowance: Allowance,
    outbox: Option<Outbox>,
    rules: Rules,
}

/// What accounts must be like; sections `passwords` and `registration` of the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The shortest password, in characters.
    pub min_password: usize,
    /// The domains, as A-labels, whose addresses may register. None: any.
    pub allowed_domains: Arc<[String]>,
    /// Whether an address is to be proven, and when.
    pub verify_email: VerifyEmail,
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
    /// The right password of an account whose address has to be proven first.
    #[error("the e-mail address is not proven")]
    Unproven(UserId),
    /// No such code or token, or not any more.
    #[error("the code or token is wrong, used or expired")]
    WrongCode,
    /// There is no way to send mail.
    #[error("there is no way to send mail")]
    NoMail,
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
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
        (outbox, rules): (Option<Outbox>, Rules),
    ) -> Self {
        let allowance = Allowance::new(clock.clone(), login_limiter.is_limited());
        Self { store, clock, revocations, hasher, login_limiter, allowance, outbox, rules }
    }

    /// The same accounts under other limits and rules, and with another way to send mail. What has been counted still counts.
    #[must_use]
    pub fn reconfigured(&self, limits: Option<Limits>, outbox: Option<Outbox>, rules: Rules) -> Self {
        let login_limiter = self.login_limiter.reconfigured(limits);
        let allowance = self.allowance.reconfigured(login_limiter.is_limited());
        Self { login_limiter, allowance, outbox, rules, ..self.clone() }
    }

    /// Whether the address of a new account is to be proven, and when.
    pub fn verify_email(&self) -> VerifyEmail {
        self.rules.verify_email
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
