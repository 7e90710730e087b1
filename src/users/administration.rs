//! Accounts in the hands of an operator, who knows no password of theirs and needs none.
//!
//! What is done is kept among the account's events as done by the operator, in the same transaction, and
//! so is the end of its sessions.

mod claims;
mod second_factor;

use std::time::Duration;

use super::changes::clear_away;
use super::login_limiter::Lock;
use super::mailing::{Asker, recipient, tell};
use super::{ACCOUNT_DISABLED, PASSWORD_CHANGED, Registration, UserError, Users};
use crate::audit::{Event, Kind, emit};
use crate::config::VerifyEmail;
use crate::email::{self, EmailKey};
use crate::ids::UserId;
use crate::outbox::Draft;
use crate::passwords::Password;
use crate::problem::FieldError;
use crate::store::columns::Roles;
use crate::store::events::{self, EventRow, InTransaction};
use crate::store::mail_tokens::{self, Purpose};
use crate::store::sessions::{self, EndOrder};
use crate::store::users::{self, AccountRow, Moved, NewUser, UserRow};
use crate::store::{AnyConnection, QueryResult, StoreError, attempts, mails, too_many_conflicts};

/// How often a change of roles that lost a race against another looks again.
const MAX_CAS_RETRIES: usize = 8;

/// Rest between two transactions that copy roles into sessions.
const BETWEEN_COPIES: Duration = Duration::from_millis(2);
/// The longest name of a role, in characters.
const MAX_ROLE: usize = 64;
/// The most roles of one account: they are in every access token, which must still fit into a cookie.
const MAX_ROLES: usize = 32;
/// Accounts that are read at once.
const PAGE: i64 = 500;
/// Who did it: the detail of events.
const BY_OPERATOR: &str = "by_operator";

/// An account, looked at closely.
pub struct Portrait {
    /// The account.
    pub account: AccountRow,
    /// How many live sessions it has.
    pub live_sessions: i64,
    /// What keeps guesses at its password from it at present.
    pub locks: Vec<Lock>,
    /// What has happened to it lately, newest first.
    pub events: Vec<EventRow>,
}

impl Users {
    /// The account with this address, however it is spelt, or this id.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn find(&self, name: &str) -> Result<Option<AccountRow>, StoreError> {
        let name = Name::of(name);
        self.store.read(move |conn| name.find(conn)).await
    }

    /// The account with this id.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn find_by_id(&self, id: UserId) -> Result<Option<AccountRow>, StoreError> {
        self.store.read(move |conn| users::find_by_id(conn, id)).await
    }

    /// The same with its live sessions counted, what keeps guesses from it, and at most `events` of its events.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn portray(&self, name: &str, events: i64) -> Result<Option<Portrait>, StoreError> {
        let (name, now, login_limiter) = (Name::of(name), self.clock.now(), self.login_limiter.clone());
        let portray = move |conn: &mut AnyConnection| {
            let Some(account) = name.find(conn)? else { return Ok(None) };
            let id = account.user.id;
            let live_sessions = sessions::count_live(conn, id, now)?;
            let locks = login_limiter.locks(attempts::of_user(conn, id, now, login_limiter.window())?);
            Ok(Some(Portrait { account, live_sessions, locks, events: events::of_user(conn, id, None, events)? }))
        };
        self.store.read(portray).await
    }

    /// Some accounts in the order in which they were made, from the one after `after` on. None: there are no more.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn page(&self, after: Option<UserId>) -> Result<Vec<AccountRow>, StoreError> {
        self.store.read(move |conn| users::page(conn, after, PAGE)).await
    }

    /// Makes an account with these roles, and no session.
    ///
    /// # Errors
    ///
    /// [`UserError::Invalid`] naming every bad member, [`UserError::EmailTaken`], or no answer.
    pub async fn create(&self, registration: Registration, roles: Vec<String>) -> Result<NewUser, UserError> {
        let registration = registration.trimmed();
        let mut errors = self.mistakes(&registration);
        let mut granted: Vec<String> = Vec::new();
        for role in roles {
            match check_role(&role) {
                Err(message) => errors.push(FieldError { field: "role", message }),
                Ok(()) if granted.contains(&role) => {}
                Ok(()) => granted.push(role),
            }
        }
        errors.extend(too_many(&granted));
        if !errors.is_empty() {
            return Err(UserError::Invalid(errors));
        }
        let new = NewUser { roles: Roles::new(granted), ..self.hash(self.room(None)?, registration).await? };
        let registered = Event::new(Kind::Registered).user(new.id).detail(BY_OPERATOR);
        let (made, proof) = (new.clone(), self.proof_of(&UserRow::from(&new))?);
        let inserted = self.store.write(move |conn| {
            let inserted = users::insert(conn, &new)?;
            if inserted {
                emit(InTransaction(conn, new.created_at), &registered)?;
                if let Some(draft) = &proof {
                    mail_tokens::replace(conn, &draft.token)?;
                    mails::insert(conn, &draft.mail)?;
                }
            }
            Ok(inserted)
        });
        if inserted.await? { Ok(made) } else { Err(UserError::EmailTaken) }
    }

    /// A mail that proves the address of an account that an operator has made or moved, where addresses are to be proven.
    fn proof_of(&self, user: &UserRow) -> Result<Option<Draft>, UserError> {
        let Some(outbox) = self.outbox().filter(|_| self.verify_email() != VerifyEmail::Off) else { return Ok(None) };
        let to = recipient(user, &Asker::default());
        Ok(Some(outbox.draft(Purpose::Verify, &to, (&user.email, None), self.clock.now())?))
    }

    /// Closes an account and ends its sessions. Returns whether it was open, and how many sessions have ended.
    ///
    /// # Errors
    ///
    /// [`UserError::Gone`], or no answer.
    pub async fn disable(&self, id: UserId) -> Result<(bool, usize), UserError> {
        let clock = self.clock.clone();
        let attempt = move |conn: &mut AnyConnection| {
            let changed = users::disable(conn, id, clock.now())?;
            if !changed && !users::exists(conn, id)? {
                return Ok((None, Vec::new()));
            }
            let now = clock.now();
            if changed {
                emit(InTransaction(conn, now), &Event::new(Kind::AccountDisabled).user(id).detail(BY_OPERATOR))?;
            }
            Ok((Some(changed), vec![sessions::begin_end(conn, &EndOrder::all(id, ACCOUNT_DISABLED), now)?]))
        };
        let (changed, ended) = self.revocations.end_for_operator(attempt).await?;
        Ok((changed.ok_or(UserError::Gone)?, ended))
    }

    /// Opens a disabled account again. Returns whether it was closed.
    ///
    /// # Errors
    ///
    /// [`UserError::Gone`], or no answer.
    pub async fn enable(&self, id: UserId) -> Result<bool, UserError> {
        let now = self.clock.now();
        let attempt = move |conn: &mut AnyConnection| {
            let changed = users::enable(conn, id, now)?;
            if changed {
                emit(InTransaction(conn, now), &Event::new(Kind::AccountEnabled).user(id).detail(BY_OPERATOR))?;
            }
            Ok(if changed || users::exists(conn, id)? { Some(changed) } else { None })
        };
        self.store.write(attempt).await?.ok_or(UserError::Gone)
    }

    /// Replaces an account's password, ends its sessions, and forgets what was got wrong before. Returns how many have ended.
    ///
    /// # Errors
    ///
    /// [`UserError::Invalid`], [`UserError::Gone`], or no answer.
    pub async fn set_password(&self, account: &AccountRow, new: Password) -> Result<usize, UserError> {
        if let Err(message) = new.check(self.rules.min_password, &account.user.email, account.user.name.as_deref()) {
            return Err(UserError::Invalid(vec![FieldError { field: "password", message }]));
        }
        let id = account.user.id;
        let (hash, clock) = (self.hasher.hash(self.room(None)?, new).await?, self.clock.clone());
        let event = "Your password was changed by an operator, and you were signed out everywhere";
        let notice = self.notice(event, &account.user, &Asker::default())?;
        let attempt = move |conn: &mut AnyConnection| {
            if !users::set_password(conn, id, &hash, clock.now())? {
                return Ok((false, Vec::new()));
            }
            let now = clock.now();
            emit(InTransaction(conn, now), &Event::new(Kind::PasswordChanged).user(id).detail(BY_OPERATOR))?;
            attempts::forget(conn, id, now)?;
            mail_tokens::kill(conn, id, &[Purpose::Reset, Purpose::Known, Purpose::Change])?;
            tell(conn, notice.as_ref())?;
            Ok((true, vec![sessions::begin_end(conn, &EndOrder::all(id, PASSWORD_CHANGED), now)?]))
        };
        let (done, ended) = self.revocations.end_for_operator(attempt).await?;
        if done { Ok(ended) } else { Err(UserError::Gone) }
    }

    /// Gives an account another address, which is not proven then. Its sessions stay, and the old address is told.
    ///
    /// # Errors
    ///
    /// [`UserError::Invalid`], [`UserError::EmailTaken`], [`UserError::Gone`], or no answer.
    pub async fn set_email(&self, user: &UserRow, email: &str) -> Result<(), UserError> {
        let (id, email) = (user.id, email::trim(email).to_owned());
        if let Err(message) = email::check(&email) {
            return Err(UserError::Invalid(vec![FieldError { field: "email", message }]));
        }
        let now = self.clock.now();
        let event = Event::new(Kind::EmailChanged).user(id).detail(BY_OPERATOR);
        let text = format!("The address of your account was changed to {email} by an operator");
        let notice = self.notice(&text, user, &Asker::default())?;
        let proof = self.proof_of(&UserRow { email: email.clone(), email_verified: false, ..user.clone() })?;
        let attempt = move |conn: &mut AnyConnection| {
            let moved = users::set_email(conn, id, &email, false, now)?;
            if moved == Moved::Yes {
                emit(InTransaction(conn, now), &event)?;
                tell(conn, notice.as_ref())?;
                // What an operator decides, no earlier link undoes.
                mail_tokens::kill(conn, id, &[Purpose::Undo])?;
                if let Some(draft) = &proof {
                    mail_tokens::replace(conn, &draft.token)?;
                    mails::insert(conn, &draft.mail)?;
                }
            }
            Ok(moved)
        };
        match self.store.write(attempt).await? {
            Moved::Yes => Ok(()),
            Moved::Taken => Err(UserError::EmailTaken),
            Moved::Gone => Err(UserError::Gone),
        }
    }

    /// Forgets every wrong password that is counted at an account, wherever it came from. Returns whether there was any.
    ///
    /// # Errors
    ///
    /// [`UserError::Gone`], or no answer.
    pub async fn unlock(&self, id: UserId) -> Result<bool, UserError> {
        let now = self.clock.now();
        let event = Event::new(Kind::AccountUnlocked).user(id).detail(BY_OPERATOR);
        let attempt = move |conn: &mut AnyConnection| {
            if !users::exists(conn, id)? {
                return Ok(None);
            }
            let counted = attempts::forget(conn, id, now)?;
            if counted {
                emit(InTransaction(conn, now), &event)?;
            }
            Ok(Some(counted))
        };
        self.store.write(attempt).await?.ok_or(UserError::Gone)
    }

    /// Grants a role, which access tokens carry from the next refresh on. Returns whether it was missing.
    ///
    /// # Errors
    ///
    /// [`UserError::Invalid`], [`UserError::Gone`], or no answer.
    pub async fn grant(&self, id: UserId, role: String) -> Result<bool, UserError> {
        if let Err(message) = check_role(&role) {
            return Err(UserError::Invalid(vec![FieldError { field: "role", message }]));
        }
        let detail = format!("{BY_OPERATOR}: granted {role}");
        let granted = self.change_roles(id, detail, move |roles| {
            let missing = !roles.contains(&role);
            if missing {
                roles.push(role.clone());
            }
            missing
        });
        granted.await
    }

    /// Takes a role away, which access tokens carry until the next refresh. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// [`UserError::Gone`], or no answer.
    pub async fn revoke_role(&self, id: UserId, role: String) -> Result<bool, UserError> {
        let detail = format!("{BY_OPERATOR}: revoked {role}");
        let revoked = self.change_roles(id, detail, move |roles| {
            let before = roles.len();
            roles.retain(|name| *name != role);
            roles.len() < before
        });
        revoked.await
    }

    /// Changes an account's roles, and the copy in each of its sessions. `change` returns whether it has changed anything.
    async fn change_roles(
        &self,
        id: UserId,
        detail: String,
        change: impl Fn(&mut Vec<String>) -> bool + Send + 'static,
    ) -> Result<bool, UserError> {
        let now = self.clock.now();
        let event = Event::new(Kind::RolesChanged).user(id).detail(detail);
        let attempt = move |conn: &mut AnyConnection| {
            for _ in 0..MAX_CAS_RETRIES {
                let Some(read) = users::roles(conn, id)? else { return Ok(Err(UserError::Gone)) };
                let mut names = read.clone().into_names();
                if !change(&mut names) {
                    // Copied all the same: what changed them before may not have come to its end.
                    return Ok(Ok((false, sessions::copy_roles(conn, id, &read, None)?)));
                }
                if let Some(error) = too_many(&names) {
                    return Ok(Err(UserError::Invalid(vec![error])));
                }
                let roles = Roles::new(names);
                if users::replace_roles(conn, id, &read, &roles, now)? {
                    emit(InTransaction(conn, now), &event)?;
                    return Ok(Ok((true, sessions::copy_roles(conn, id, &roles, None)?)));
                }
            }
            Err(too_many_conflicts())
        };
        let (changed, mut after) = self.store.write(attempt).await??;
        // An account may have very many sessions: others write in between.
        while let Some(reached) = after {
            let copy = move |conn: &mut AnyConnection| match users::roles(conn, id)? {
                Some(roles) => sessions::copy_roles(conn, id, &roles, Some(reached)),
                None => Ok(None),
            };
            after = self.store.write(copy).await?;
            tokio::time::sleep(BETWEEN_COPIES).await;
        }
        Ok(changed)
    }

    /// Deletes an account and what is kept of its past. Its sessions end, and lose everything personal. Returns how many
    /// have ended.
    ///
    /// # Errors
    ///
    /// [`UserError::Gone`], or no answer.
    pub async fn remove(&self, id: UserId) -> Result<usize, UserError> {
        let clock = self.clock.clone();
        let attempt = move |conn: &mut AnyConnection| {
            if !users::remove(conn, id)? {
                return Ok((false, Vec::new()));
            }
            Ok((true, vec![clear_away(conn, id, None, clock.now())?]))
        };
        let (done, ended) = self.revocations.end_for_operator(attempt).await?;
        if !done {
            return Err(UserError::Gone);
        }
        self.forget(id).await;
        Ok(ended)
    }
}

/// What an operator calls an account by.
enum Name {
    Id(UserId),
    Email(EmailKey),
}

impl Name {
    /// No address is an id: it has an @.
    fn of(text: &str) -> Self {
        match text.trim().to_ascii_lowercase().parse() {
            Ok(id) => Self::Id(id),
            Err(_) => Self::Email(EmailKey::of(text)),
        }
    }

    fn find(&self, conn: &mut AnyConnection) -> QueryResult<Option<AccountRow>> {
        match self {
            Self::Id(id) => users::find_by_id(conn, *id),
            Self::Email(key) => users::find_by_email(conn, key),
        }
    }
}

/// Whether a role may be called that: one word, which needs no quotes anywhere.
fn check_role(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if begins && name.len() <= MAX_ROLE && name.chars().all(fine) {
        return Ok(());
    }
    Err(format!("must be 1 to {MAX_ROLE} letters, digits and any of _ - . : / and begin with a letter or digit"))
}

fn too_many(roles: &[String]) -> Option<FieldError> {
    let message = format!("must be one of at most {MAX_ROLES}: they are in every access token");
    (roles.len() > MAX_ROLES).then_some(FieldError { field: "role", message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_one_word_of_letters_digits_and_a_few_signs() {
        for fine in ["admin", "A", "7", "orders:read", "team/billing.eu-west_1", &"r".repeat(64)] {
            assert_eq!(check_role(fine), Ok(()), "{fine}");
        }
        let long = "r".repeat(65);
        for wrong in ["", " ", "two words", "-flag", ".x", ":", "admin\n", "caf\u{e9}", "a\"b", "a,b", "a\\b", &long] {
            assert!(check_role(wrong).is_err(), "{wrong:?}");
        }
    }
}
