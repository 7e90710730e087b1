//! Another address for an account: asked for with the password, in place when it is proven, and undone from the old one.

use super::guess_keys::total_of_codes;
use super::mail_limits::Asked;
use super::mailing::{Asker, Proof, add, recipient};
use super::{Authenticated, UserError, Users};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::email::{self, EmailKey};
use crate::ids::UserId;
use crate::outbox::Recipient;
use crate::passwords::Password;
use crate::problem::FieldError;
use crate::store::events::InTransaction;
use crate::store::mail_tokens::{self, MailTokenRow, NewMailToken, Purpose};
use crate::store::sessions::{self, EndOrder};
use crate::store::users::{self, AccountRow, Moved};
use crate::store::{AnyConnection, attempts, mails, second_factors};
use crate::tokens::mailed::MailToken;

/// Why sessions end.
const CHANGE_UNDONE: &str = "email_change_undone";

impl Users {
    /// Sends a mail to the address that a signed-in user, who knows the password, wants for the account. It takes the present
    /// one's place when it is proven.
    ///
    /// # Errors
    ///
    /// [`UserError::Wrong`], [`UserError::Invalid`], [`UserError::TooMany`], [`UserError::Gone`], or no answer.
    pub async fn ask_for_change(
        &self,
        id: UserId,
        new_email: &str,
        password: Password,
        asker: &Asker,
    ) -> Result<(), UserError> {
        let outbox = self.mailing()?.clone();
        let new_email = email::trim(new_email).to_owned();
        if let Err(message) = email::check(&new_email) {
            return Err(UserError::Invalid(vec![FieldError { field: "email", message }]));
        }
        if !self.is_allowed(&new_email) {
            let message = "is not of a domain whose addresses may register here".to_owned();
            return Err(UserError::Invalid(vec![FieldError { field: "email", message }]));
        }
        self.login_limiter.check_mails(asker.address).await?;
        let Authenticated { user, password_hash } = self.verify(id, password, asker.address).await?;
        let key = EmailKey::of(&new_email);
        if key.current() == EmailKey::of(&user.email).current() {
            let message = "is the address that the account has".to_owned();
            return Err(UserError::Invalid(vec![FieldError { field: "email", message }]));
        }
        if !self.has_room_for_mails().await? {
            return Ok(());
        }
        let now = self.clock.now();
        let to = Recipient { email: new_email.clone(), name: None, ..recipient(&user, asker) };
        let draft = outbox.draft(Purpose::Change, &to, (&user.email, Some(&new_email)), now)?;
        let about = id.to_string();
        let limits = self.login_limiter.mail_limits(Purpose::Change, (key.current(), &about), asker.address);
        let asked_for = Event::new(Kind::EmailChangeRequested).user(id).ip_address(asker.address_text().as_deref());
        let kept = asked_for.clone();
        let attempt = move |conn: &mut AnyConnection| {
            // A change or reset of the password beside us drops what was asked for with the one before.
            if !users::hold(conn, id, &password_hash, now)? {
                return Ok(None);
            }
            let asked = add(conn, &draft, &limits)?;
            if asked == Asked::Allowed {
                emit(InTransaction(conn, now), &kept)?;
            }
            Ok(Some(asked))
        };
        let told = move |asked: &Option<Asked>| {
            if *asked == Some(Asked::Allowed) {
                emit(AfterCommit, &asked_for);
            }
        };
        match self.store.write_and_then(attempt, told).await? {
            Some(Asked::Allowed) => Ok(()),
            Some(Asked::EnoughToOne(seconds) | Asked::EnoughFromOne(seconds)) => Err(UserError::TooMany(seconds)),
            None => Err(UserError::Changed),
        }
    }

    /// Gives an account the address that has just been proven, and tells the old one how that is undone.
    pub(super) async fn move_to(
        &self,
        row: &MailTokenRow,
        account: &AccountRow,
        asker: &Asker,
    ) -> Result<(), UserError> {
        let (user, id, token) = (&account.user, account.user.id, row.id);
        let now = self.clock.now();
        let undo =
            self.mailing()?.draft(Purpose::Undo, &recipient(user, asker), (&user.email, Some(&row.email)), now)?;
        let changed = Event::new(Kind::EmailChanged).user(id).ip_address(asker.address_text().as_deref());
        let (kept, new_email, old_key) = (changed.clone(), row.email.clone(), EmailKey::of(&user.email));
        let (new_key, clock) = (EmailKey::of(&row.email), self.clock.clone());
        let attempt = move |conn: &mut AnyConnection| {
            if users::is_taken(conn, &new_key, id, now)? {
                return Ok(Some(Moved::Taken));
            }
            let is_here = users::find_by_email(conn, &old_key)?.is_some_and(|found| found.user.id == id);
            if !is_here || !mail_tokens::consume(conn, token, now)? {
                return Ok(None);
            }
            let moved = users::set_email(conn, id, &new_email, true, now)?;
            if moved == Moved::Yes {
                // Read while the account's row is held: undo links are in the order of the changes.
                let created_at = clock.now();
                mail_tokens::replace(conn, &NewMailToken { created_at, ..undo.token.clone() })?;
                mails::insert(conn, &undo.mail)?;
                emit(InTransaction(conn, now), &kept)?;
            }
            Ok(Some(moved))
        };
        let told = move |moved: &Option<Moved>| {
            if *moved == Some(Moved::Yes) {
                emit(AfterCommit, &changed);
            }
        };
        match self.store.write_and_then(attempt, told).await? {
            Some(Moved::Yes) => Ok(()),
            Some(Moved::Taken) => Err(UserError::EmailTaken),
            Some(Moved::Gone) | None => Err(UserError::WrongCode),
        }
    }

    /// Gives an account the address back that a mail was sent to when it lost it. Every session ends, the password is void,
    /// and a mail goes out that sets a new one.
    ///
    /// # Errors
    ///
    /// [`UserError::WrongCode`], [`UserError::TooMany`], or no answer. Then nothing has changed.
    pub async fn undo_change(&self, token: &str, asker: &Asker) -> Result<(), UserError> {
        let outbox = self.mailing()?.clone();
        let row = self.present(&Proof::Token(token.to_owned()), &[Purpose::Undo], asker).await?;
        let (id, found) = (row.user_id, self.account_of(&row).await?);
        // No password has this hash: nothing that was typed is in it.
        let void = self
            .hasher
            .hash(self.room(asker.address)?, Password::new(MailToken::generate()?.expose().to_owned()))
            .await?;
        let now = self.clock.now();
        let to = Recipient { email: row.email.clone(), ..recipient(&found.user, asker) };
        let reset = outbox.draft(Purpose::Reset, &to, (&row.email, None), now)?;
        let from = asker.address_text();
        let undone = Event::new(Kind::EmailChangeUndone).user(id).ip_address(from.as_deref());
        let order = EndOrder { ip_address: from, ..EndOrder::all(id, CHANGE_UNDONE) };
        let no_factor = undone.clone().of_kind(Kind::MfaDisabled);
        let (kept, clock, key) = (undone.clone(), self.clock.clone(), EmailKey::of(&row.email));
        let attempt = move |conn: &mut AnyConnection| {
            if users::is_taken(conn, &key, id, clock.now())? {
                return Ok((Some(Moved::Taken), Vec::new()));
            }
            if !mail_tokens::consume(conn, row.id, clock.now())? {
                return Ok((None, Vec::new()));
            }
            let moved = users::set_email(conn, id, &row.email, true, clock.now())?;
            if moved != Moved::Yes || !users::set_password(conn, id, &void, clock.now())? {
                return Ok((Some(moved), Vec::new()));
            }
            // Now that the account's row is held, there are no others.
            mail_tokens::kill_undo_since(conn, id, row.created_at)?;
            // A factor that was set up since belongs to the one who has moved the account.
            let since = users::find_by_id(conn, id)?.and_then(|found| found.user.mfa_since);
            if since.is_some_and(|since| since >= row.created_at) && second_factors::disable(conn, id, clock.now())? {
                emit(InTransaction(conn, clock.now()), &no_factor)?;
            }
            // Read when no log-in with the old password can begin any more.
            let now = clock.now();
            attempts::forget_but(conn, id, &total_of_codes(id))?;
            mail_tokens::replace(conn, &reset.token)?;
            mails::insert(conn, &reset.mail)?;
            emit(InTransaction(conn, now), &kept)?;
            Ok((Some(moved), vec![sessions::begin_end(conn, &order, now)?]))
        };
        let told = move |moved: &Option<Moved>| {
            if *moved == Some(Moved::Yes) {
                emit(AfterCommit, &undone);
            }
        };
        match self.revocations.end(attempt, told).await? {
            (Some(Moved::Yes), _) => Ok(()),
            (Some(Moved::Taken), _) => Err(UserError::EmailTaken),
            (Some(Moved::Gone) | None, _) => Err(UserError::WrongCode),
        }
    }
}
