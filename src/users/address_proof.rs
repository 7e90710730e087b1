//! The proof of an address: that who has the account reads the mails that are sent there.

use super::mail_limits::Asked;
use super::mailing::{Asker, Proof, add, recipient};
use super::{Registration, UserError, Users};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::email::EmailKey;
use crate::passwords::Password;
use crate::problem::FieldError;
use crate::store::events::InTransaction;
use crate::store::mail_tokens::{self, MailTokenRow, Purpose};
use crate::store::users::{self, AccountRow, NewUser, UserRow};
use crate::store::{AnyConnection, mails, too_many_conflicts};

/// How often an account may change under a registration before it is told to come back.
const MAX_RETRIES: usize = 3;

/// What becomes of a registration whose address is to be proven first.
enum Registering {
    /// There is no account with the address.
    First,
    /// There is one, and its address is not proven.
    Again(Box<UserRow>),
    /// There is one, and its address is proven.
    Known(Box<UserRow>),
    /// There is one, and it is disabled.
    Disabled,
}

impl Users {
    /// Sends a mail that proves the present address of a signed-in user, unless it is proven.
    ///
    /// # Errors
    ///
    /// [`UserError::TooMany`], or no answer.
    pub async fn ask_for_proof(&self, user: &UserRow, asker: &Asker) -> Result<(), UserError> {
        let outbox = self.mailing()?;
        if user.email_verified || !self.has_room_for_mails().await? {
            return Ok(());
        }
        self.login_limiter.check_mails(asker.address).await?;
        let draft = outbox.draft(Purpose::Verify, &recipient(user, asker), (&user.email, None), self.clock.now())?;
        let key = EmailKey::of(&user.email);
        let limits = self.login_limiter.mail_limits(Purpose::Verify, (key.current(), key.current()), asker.address);
        match self.store.write(move |conn| add(conn, &draft, &limits)).await? {
            Asked::Allowed => Ok(()),
            Asked::EnoughToOne(seconds) | Asked::EnoughFromOne(seconds) => Err(UserError::TooMany(seconds)),
        }
    }

    /// Registers an account whose address is to be proven before it can be used. Nothing tells whether there is one with
    /// this address already; its owner is told by mail.
    ///
    /// # Errors
    ///
    /// As [`Users::prepare`], and [`UserError::TooMany`] for the client's address.
    pub async fn register_unproven(&self, registration: Registration, asker: &Asker) -> Result<(), UserError> {
        self.mailing()?;
        self.login_limiter.check_mails(asker.address).await?;
        let new = self.prepare(registration, asker.address).await?;
        if !self.has_room_for_mails().await? {
            return Ok(());
        }
        for _ in 0..MAX_RETRIES {
            if self.register_once(&new, asker).await? {
                return Ok(());
            }
        }
        Err(UserError::Changed)
    }

    /// `false`: the account has changed meanwhile.
    async fn register_once(&self, new: &NewUser, asker: &Asker) -> Result<bool, UserError> {
        let outbox = self.mailing()?;
        let key = EmailKey::of(&new.email);
        let limits = self.login_limiter.mail_limits(Purpose::Verify, (key.current(), key.current()), asker.address);
        let now = self.clock.now();
        let found = self.store.read(move |conn| users::find_by_email(conn, &key)).await?;
        let case = match found.map(|found| found.user) {
            None => Registering::First,
            Some(user) if user.disabled_at.is_some() => Registering::Disabled,
            Some(user) if user.email_verified => Registering::Known(Box::new(user)),
            Some(user) => Registering::Again(Box::new(user)),
        };
        // To the address as the account has it: another spelling may be another mailbox.
        let to = match &case {
            Registering::Known(user) | Registering::Again(user) => recipient(user, asker),
            Registering::First | Registering::Disabled => recipient(&UserRow::from(new), asker),
        };
        let purpose = if let Registering::Known(_) = &case { Purpose::Known } else { Purpose::Verify };
        let draft = outbox.draft(purpose, &to, (&to.email, None), now)?;
        let registered = Event::new(Kind::Registered).user(new.id).ip_address(asker.address_text().as_deref());
        let (kept, new) = (registered.clone(), new.clone());
        let attempt = move |conn: &mut AnyConnection| {
            // Before anything else, so that a refusal changes nothing.
            let asked = limits.count(conn, now)?;
            if let Asked::EnoughFromOne(_) = asked {
                return Ok((asked, false, false));
            }
            let (goes_on, is_new) = match &case {
                Registering::First => {
                    let made = users::insert(conn, &new)?;
                    if made {
                        emit(InTransaction(conn, now), &kept)?;
                    }
                    // An address that may go back to another account is as good as known.
                    (made || mail_tokens::is_reserved(conn, &EmailKey::of(&new.email), None, now)?, made)
                }
                Registering::Again(user) => {
                    (users::contest(conn, user.id, (new.name.as_deref(), &new.password_hash), now)?, false)
                }
                Registering::Known(_) | Registering::Disabled => (true, false),
            };
            if asked == Asked::Allowed && goes_on {
                match &case {
                    Registering::First if !is_new => {}
                    Registering::Disabled => {}
                    Registering::First | Registering::Again(_) | Registering::Known(_) => {
                        mail_tokens::replace(conn, &draft.token)?;
                        mails::insert(conn, &draft.mail)?;
                    }
                }
            }
            Ok((asked, goes_on, is_new))
        };
        let told = move |(_, _, is_new): &(Asked, bool, bool)| {
            if *is_new {
                emit(AfterCommit, &registered);
            }
        };
        match self.store.write_and_then(attempt, told).await? {
            (Asked::EnoughFromOne(seconds), ..) => Err(UserError::TooMany(seconds)),
            (_, goes_on, _) => Ok(goes_on),
        }
    }

    /// Proves an address by what was in a mail: the present one of an account, or the one that it gets by that. Where it was
    /// registered more than once, who has proven it chooses the password.
    ///
    /// # Errors
    ///
    /// [`UserError::WrongCode`], [`UserError::Invalid`], [`UserError::EmailTaken`], [`UserError::TooMany`], or no answer.
    pub async fn prove_email(&self, proof: &Proof, new: Option<Password>, asker: &Asker) -> Result<(), UserError> {
        self.mailing()?;
        let row = self.present(proof, &[Purpose::Verify, Purpose::Change], asker).await?;
        let account = self.account_of(&row).await?;
        if row.is_for(Purpose::Change) {
            return self.move_to(&row, &account, asker).await;
        }
        for _ in 0..MAX_RETRIES {
            let id = row.user_id;
            if self.store.read(move |conn| users::is_contested(conn, id)).await? {
                let Some(new) = new.clone() else {
                    let message = "is needed: the address was registered more than once before its proof".to_owned();
                    return Err(UserError::Invalid(vec![FieldError { field: "new_password", message }]));
                };
                self.look_for_room(asker.address).await?;
                return self.set_new_password(&row, &account, new, asker).await;
            }
            if self.mark_proven(&row, &account, asker).await? {
                return Ok(());
            }
        }
        Err(UserError::WrongCode)
    }

    /// `false`: who has proven the address has to choose a password, or the token is not good any more.
    async fn mark_proven(&self, row: &MailTokenRow, account: &AccountRow, asker: &Asker) -> Result<bool, UserError> {
        let (id, token, clock) = (account.user.id, row.id, self.clock.clone());
        let proven = Event::new(Kind::EmailVerified).user(id).ip_address(asker.address_text().as_deref());
        let kept = proven.clone();
        let attempt = move |conn: &mut AnyConnection| {
            let now = clock.now();
            if users::is_contested(conn, id)? || !mail_tokens::consume(conn, token, now)? {
                return Ok(false);
            }
            if !users::prove_email(conn, id, now)? {
                // It was contested beside us: everything is undone.
                return Err(too_many_conflicts());
            }
            emit(InTransaction(conn, now), &kept)?;
            Ok(true)
        };
        let told = move |done: &bool| {
            if *done {
                emit(AfterCommit, &proven);
            }
        };
        Ok(self.store.write_and_then(attempt, told).await?)
    }
}
