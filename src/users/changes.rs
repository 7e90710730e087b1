//! What a signed-in user changes about an account.

use std::time::Duration;

use tokio::runtime::Handle;
use tracing::Instrument as _;

use super::mailing::{Asker, tell};
use super::{Authenticated, MAX_RETRIES, PASSWORD_CHANGED, UserError, Users, check_name};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::passwords::Password;
use crate::problem::FieldError;
use crate::store::events::{self, InTransaction};
use crate::store::mail_tokens::{self, Purpose};
use crate::store::sessions::{self, EndOrder, EndProgress};
use crate::store::users::{self, UserRow};
use crate::store::{AnyConnection, QueryResult, attempts, mails, second_factors};

/// Events that are removed in one transaction.
const AT_ONCE: i64 = 500;
/// How often the rest of a deleted account's past may fail to go, and the rest between.
const MOST_FAILURES: u32 = 10;
const A_REST: Duration = Duration::from_secs(1);
/// Why sessions end.
const ACCOUNT_DELETED: &str = "account_deleted";

impl Users {
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
        (current, new): (Password, Password),
        asker: &Asker,
    ) -> Result<(), UserError> {
        let (address, from) = (asker.address, asker.address_text());
        for _ in 0..MAX_RETRIES {
            let Authenticated { user, password_hash } = self.verify(id, current.clone(), address).await?;
            if let Err(message) = new.check(self.rules.min_password, &user.email, user.name.as_deref()) {
                return Err(UserError::Invalid(vec![FieldError { field: "new_password", message }]));
            }
            let new_hash = self.hasher.hash(self.room(address)?, new.clone()).await?;
            let notice = self.notice("Your password was changed", &user, asker)?;
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
                mail_tokens::kill(conn, id, &[Purpose::Reset, Purpose::Known, Purpose::Change])?;
                tell(conn, notice.as_ref())?;
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
    pub async fn delete(&self, id: UserId, password: Password, asker: &Asker) -> Result<(), UserError> {
        let (address, from) = (asker.address, asker.address_text());
        for _ in 0..MAX_RETRIES {
            let Authenticated { user, password_hash } = self.verify(id, password.clone(), address).await?;
            let notice = self.notice("Your account was deleted", &user, asker)?;
            let deleted = Event::new(Kind::AccountDeleted).user(id).ip_address(from.as_deref());
            let (clock, address) = (self.clock.clone(), from.clone());
            let attempt = move |conn: &mut AnyConnection| {
                if !users::delete(conn, id, &password_hash)? {
                    return Ok((false, Vec::new()));
                }
                let ended = clear_away(conn, id, address.clone(), clock.now())?;
                tell(conn, notice.as_ref())?;
                Ok((true, vec![ended]))
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
    pub(super) async fn forget(&self, id: UserId) {
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
pub(super) fn clear_away(
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
    mail_tokens::forget(conn, id)?;
    mails::forget(conn, id)?;
    Ok(progress)
}
