//! A forgotten password: a mail is asked for, and what it brings sets a new one.

use super::guess_keys::total_of_codes;
use super::mail_limits::Asked;
use super::mailing::{Asker, Proof, add, decoy, recipient, tell};
use super::{UserError, Users};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::email::{self, EmailKey};
use crate::outbox::DECOY;
use crate::passwords::Password;
use crate::problem::FieldError;
use crate::store::events::InTransaction;
use crate::store::mail_tokens::{self, MailTokenRow, Purpose};
use crate::store::sessions::{self, EndOrder};
use crate::store::users::{self, AccountRow};
use crate::store::{AnyConnection, attempts, second_factors};

/// Why sessions end.
const PASSWORD_RESET: &str = "password_reset";
/// What tells such a change of the password from others.
const BY_MAIL: &str = "by_mail";

impl Users {
    /// Sends a mail that sets a new password, if there is an enabled account with this address. Nothing that can be seen or
    /// measured tells whether there is.
    ///
    /// # Errors
    ///
    /// [`UserError::TooMany`] for the client's address, or no answer.
    pub async fn forgot_password(&self, email: &str, asker: &Asker) -> Result<(), UserError> {
        let outbox = self.mailing()?.clone();
        self.login_limiter.check_mails(asker.address).await?;
        if !self.has_room_for_mails().await? {
            return Ok(());
        }
        let key = EmailKey::of(email::trim(email));
        let limits = self.login_limiter.mail_limits(Purpose::Reset, (key.current(), key.current()), asker.address);
        let found = self.store.read(move |conn| users::find_by_email(conn, &key)).await?;
        let account = found.map(|found| found.user).filter(|user| user.disabled_at.is_none());
        let to = account.as_ref().map_or_else(|| decoy(asker), |user| recipient(user, asker));
        let now = self.clock.now();
        let mut draft = outbox.draft(Purpose::Reset, &to, (&to.email, None), now)?;
        if account.is_none() {
            // It is written, and waits, and is taken up like any other: all of that takes as long.
            draft.mail.kind = DECOY;
        }
        match self.store.write(move |conn| add(conn, &draft, &limits)).await? {
            Asked::EnoughFromOne(seconds) => Err(UserError::TooMany(seconds)),
            Asked::Allowed | Asked::EnoughToOne(_) => Ok(()),
        }
    }

    /// Sets a new password by what was in a mail. Every session of the account ends, its address counts as proven, and its
    /// user is told.
    ///
    /// # Errors
    ///
    /// [`UserError::WrongCode`], [`UserError::Invalid`], [`UserError::TooMany`], or no answer. Then nothing has changed.
    pub async fn reset_password(&self, proof: &Proof, new: Password, asker: &Asker) -> Result<(), UserError> {
        self.mailing()?;
        self.look_for_room(asker.address).await?;
        let row = self.present(proof, Purpose::RESETS, asker).await?;
        let account = self.account_of(&row).await?;
        self.set_new_password(&row, &account, new, asker).await
    }

    /// The enabled account that a token is of.
    pub(super) async fn account_of(&self, row: &MailTokenRow) -> Result<AccountRow, UserError> {
        let id = row.user_id;
        let found = self.store.read(move |conn| users::find_by_id(conn, id)).await?;
        let found = found.filter(|found| found.user.disabled_at.is_none()).ok_or(UserError::WrongCode)?;
        // What proves an address says nothing about another one.
        let is_present = EmailKey::of(&found.user.email).current() == row.email_key;
        if is_present || row.is_for(Purpose::Change) || row.is_for(Purpose::Undo) {
            Ok(found)
        } else {
            Err(UserError::WrongCode)
        }
    }

    /// Uses a token up, which proves the address that the account has, and sets the password. Where the address was contested,
    /// the second factor may be a stranger's, and goes.
    pub(super) async fn set_new_password(
        &self,
        row: &MailTokenRow,
        account: &AccountRow,
        new: Password,
        asker: &Asker,
    ) -> Result<(), UserError> {
        let (user, id, token) = (&account.user, account.user.id, row.id);
        if let Err(message) = new.check(self.rules.min_password, &user.email, user.name.as_deref()) {
            return Err(UserError::Invalid(vec![FieldError { field: "new_password", message }]));
        }
        let hash = self.hasher.hash(self.room(asker.address)?, new).await?;
        let notice = self.notice("Your password was changed, and you were signed out everywhere", user, asker)?;
        let from = asker.address_text();
        let changed = Event::new(Kind::PasswordChanged).user(id).ip_address(from.as_deref()).detail(BY_MAIL);
        let order = EndOrder { ip_address: from, ..EndOrder::all(id, PASSWORD_RESET) };
        let proven = (!user.email_verified).then(|| changed.clone().of_kind(Kind::EmailVerified));
        let no_factor = changed.clone().of_kind(Kind::MfaDisabled);
        let (kept, clock) = (changed.clone(), self.clock.clone());
        let attempt = move |conn: &mut AnyConnection| {
            if !mail_tokens::consume(conn, token, clock.now())? {
                return Ok((false, Vec::new()));
            }
            let was_contested = users::is_contested(conn, id)?;
            if !users::reset_password(conn, id, &hash, clock.now())? {
                return Ok((false, Vec::new()));
            }
            mail_tokens::kill(conn, id, Purpose::ALL_BUT_UNDO)?;
            // Read when no log-in with the old password can begin any more.
            let now = clock.now();
            emit(InTransaction(conn, now), &kept)?;
            if let Some(proven) = &proven {
                emit(InTransaction(conn, now), proven)?;
            }
            if was_contested && second_factors::disable(conn, id, now)? {
                emit(InTransaction(conn, now), &no_factor)?;
            }
            // Wrong codes of a second factor still count: a mailbox does not open them.
            attempts::forget_but(conn, id, &total_of_codes(id))?;
            tell(conn, notice.as_ref())?;
            Ok((true, vec![sessions::begin_end(conn, &order, now)?]))
        };
        let told = move |done: &bool| {
            if *done {
                emit(AfterCommit, &changed);
            }
        };
        let (done, _ended) = self.revocations.end(attempt, told).await?;
        if done { Ok(()) } else { Err(UserError::WrongCode) }
    }
}
