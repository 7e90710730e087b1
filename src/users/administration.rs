//! Accounts in the hands of an operator, who knows no password of theirs and needs none.
//!
//! What is done is kept among the account's events as done by the operator, in the same transaction, and
//! so is the end of its sessions. A running server learns of those as it learns of any that others ended.

use super::{ACCOUNT_DISABLED, PASSWORD_CHANGED, Registration, UserError, Users, clear_away, comparable};
use crate::clock::Timestamp;
use crate::events::{Event, Kind};
use crate::ids::UserId;
use crate::passwords::Password;
use crate::problem::FieldError;
use crate::store::columns::Roles;
use crate::store::events::{self, EventRow};
use crate::store::sessions::{self, Scope};
use crate::store::users::{self, AccountRow, NewUser};
use crate::store::{AnyConnection, QueryResult, StoreError, outrun};

/// How often a change of roles that lost a race against another looks again.
const TRIES: usize = 8;

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
    /// What has happened to it lately, newest first.
    pub events: Vec<EventRow>,
}

impl Users {
    /// The account with this address, compared without case.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn find(&self, email: &str) -> Result<Option<AccountRow>, StoreError> {
        let key = comparable(email);
        self.store.read(move |conn| users::find_by_email(conn, &key)).await
    }

    /// The account with this id.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn find_by_id(&self, id: UserId) -> Result<Option<AccountRow>, StoreError> {
        self.store.read(move |conn| users::find_by_id(conn, id)).await
    }

    /// The same with its live sessions counted, and at most `events` of its events.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn portray(&self, email: &str, events: i64) -> Result<Option<Portrait>, StoreError> {
        let (key, now) = (comparable(email), self.clock.now());
        let portray = move |conn: &mut AnyConnection| {
            let Some(account) = users::find_by_email(conn, &key)? else { return Ok(None) };
            let id = account.user.id;
            let live_sessions = sessions::count_live(conn, id, now)?;
            Ok(Some(Portrait { account, live_sessions, events: events::of_user(conn, id, None, events)? }))
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
        let made = new.clone();
        let inserted = self.store.write(move |conn| {
            let inserted = users::insert(conn, &new)?;
            if inserted {
                events::keep(conn, &registered, new.created_at)?;
            }
            Ok(inserted)
        });
        if inserted.await? { Ok(made) } else { Err(UserError::EmailTaken) }
    }

    /// Closes an account and ends its sessions. Returns whether it was open, and how many sessions have ended.
    ///
    /// # Errors
    ///
    /// [`UserError::Gone`], or no answer.
    pub async fn disable(&self, id: UserId) -> Result<(bool, usize), UserError> {
        let now = self.clock.now();
        let attempt = move |conn: &mut AnyConnection| {
            let changed = users::disable(conn, id, now)?;
            if !changed && !users::exists(conn, id)? {
                return Ok(None);
            }
            if changed {
                events::keep(conn, &Event::new(Kind::AccountDisabled).user(id).detail(BY_OPERATOR), now)?;
            }
            Ok(Some((changed, end_sessions(conn, id, now, ACCOUNT_DISABLED)?)))
        };
        self.store.write(attempt).await?.ok_or(UserError::Gone)
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
                events::keep(conn, &Event::new(Kind::AccountEnabled).user(id).detail(BY_OPERATOR), now)?;
            }
            Ok(if changed || users::exists(conn, id)? { Some(changed) } else { None })
        };
        self.store.write(attempt).await?.ok_or(UserError::Gone)
    }

    /// Replaces an account's password and ends its sessions. Returns how many have ended.
    ///
    /// # Errors
    ///
    /// [`UserError::Invalid`], [`UserError::Gone`], or no answer.
    pub async fn set_password(&self, account: &AccountRow, new: Password) -> Result<usize, UserError> {
        if let Err(message) = new.check(self.min_password, &account.user.email, account.user.name.as_deref()) {
            return Err(UserError::Invalid(vec![FieldError { field: "password", message }]));
        }
        let id = account.user.id;
        let (hash, now) = (self.hasher.hash(self.room(None)?, new).await?, self.clock.now());
        let attempt = move |conn: &mut AnyConnection| {
            if !users::set_password(conn, id, &hash, now)? {
                return Ok(None);
            }
            events::keep(conn, &Event::new(Kind::PasswordChanged).user(id).detail(BY_OPERATOR), now)?;
            end_sessions(conn, id, now, PASSWORD_CHANGED).map(Some)
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
            for _ in 0..TRIES {
                let Some(read) = users::roles(conn, id)? else { return Ok(Err(UserError::Gone)) };
                let mut names = read.clone().into_names();
                if !change(&mut names) {
                    return Ok(Ok(false));
                }
                if let Some(error) = too_many(&names) {
                    return Ok(Err(UserError::Invalid(vec![error])));
                }
                let roles = Roles::new(names);
                if users::replace_roles(conn, id, &read, &roles, now)? {
                    sessions::set_roles(conn, id, &roles)?;
                    events::keep(conn, &event, now)?;
                    return Ok(Ok(true));
                }
            }
            Err(outrun())
        };
        self.store.write(attempt).await?
    }

    /// Deletes an account and what is kept of its past. Its sessions end, and lose everything personal. Returns how many
    /// have ended.
    ///
    /// # Errors
    ///
    /// [`UserError::Gone`], or no answer.
    pub async fn remove(&self, id: UserId) -> Result<usize, UserError> {
        let now = self.clock.now();
        let attempt =
            move |conn: &mut AnyConnection| users::remove(conn, id)?.then(|| clear_away(conn, id, now)).transpose();
        let ended = self.store.write(attempt).await?.ok_or(UserError::Gone)?;
        self.forget(id).await;
        Ok(ended.len())
    }
}

/// Ends every session of an account, keeps that of each, and returns how many there were.
fn end_sessions(conn: &mut AnyConnection, id: UserId, now: Timestamp, reason: &'static str) -> QueryResult<usize> {
    let ended = sessions::revoke(conn, id, Scope::All, now, reason)?;
    let revoked = Event::new(Kind::Revoked).user(id).detail(reason);
    events::keep_of_each(conn, &revoked, ended.iter().map(|session| session.id), now)?;
    Ok(ended.len())
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
