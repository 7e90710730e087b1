//! What all ways through a mail have in common: who asks, what is presented, and who is told.

use std::net::IpAddr;

use super::mail_limits::{Asked, MailLimits};
use super::{UserError, Users};
use crate::audit::{Event, Kind};
use crate::email::{self, EmailKey};
use crate::ids::UserId;
use crate::outbox::{Draft, Outbox, Recipient};
use crate::store::mail_tokens::{self, MailTokenRow, Purpose};
use crate::store::mails::{self, NewMail};
use crate::store::users::{self, UserRow};
use crate::store::{AnyConnection, QueryResult, StoreError};
use crate::tokens::mailed::{MailCode, MailTokenDigest};

/// As many mails may wait to be sent. Beyond, those that are asked for are not written; notices are.
const MOST_WAITING: i64 = 50_000;

/// The client of a request about a mail.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// From where.
    pub address: Option<IpAddr>,
    /// The languages that are wanted, the best first.
    pub languages: Vec<String>,
}

impl Asker {
    pub(super) fn address_text(&self) -> Option<String> {
        self.address.map(|address| address.to_string())
    }
}

/// What was in a mail.
#[derive(Debug)]
pub enum Proof {
    /// The token of its link.
    Token(String),
    /// Its code, and where it was sent.
    Code {
        /// The address.
        email: String,
        /// As it was typed.
        code: String,
    },
}

/// What a link will do, for the page that it leads to.
#[derive(Clone, Debug)]
pub struct Mailed {
    /// The present address of the account.
    pub account: String,
    /// Where the mail went; of one that undoes a change, what the account gets back.
    pub email: String,
    /// Whether the account gets another address by it.
    pub moves: bool,
    /// Whether it needs a password.
    pub needs_password: bool,
}

impl Users {
    /// Looks at what a token is good for. Nothing is used up.
    ///
    /// # Errors
    ///
    /// [`UserError::WrongCode`], or no answer.
    pub async fn look_at_mailed(&self, token: &str, purposes: &'static [Purpose]) -> Result<Mailed, UserError> {
        self.mailing()?;
        let (digest, now) = (MailTokenDigest::of(token), self.clock.now());
        let look = move |conn: &mut AnyConnection| {
            let Some(row) = mail_tokens::find(conn, digest, purposes, now)? else { return Ok(None) };
            let Some(account) = users::find_by_id(conn, row.user_id)? else { return Ok(None) };
            let needs_password = row.is_for(Purpose::Verify) && users::is_contested(conn, row.user_id)?;
            let moves = row.is_for(Purpose::Change);
            if account.user.disabled_at.is_some() {
                return Ok(None);
            }
            Ok(Some(Mailed { account: account.user.email, email: row.email, moves, needs_password }))
        };
        self.store.read(look).await?.ok_or(UserError::WrongCode)
    }

    /// What writes mails. None: there is no way to send any.
    pub fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_ref()
    }

    pub(super) fn mailing(&self) -> Result<&Outbox, UserError> {
        self.outbox.as_ref().ok_or(UserError::NoMail)
    }

    /// Whether asked-for mails are written at present.
    pub(super) async fn has_room_for_mails(&self) -> Result<bool, StoreError> {
        let full = self.store.read(|conn| mails::are_at_least(conn, MOST_WAITING)).await?;
        if full {
            tracing::error!(
                "{MOST_WAITING} mails wait to be sent: those that are asked for are not written until some are"
            );
        }
        Ok(!full)
    }

    /// A token or code that was presented, and is good for one of these. A wrong one counts like a wrong password.
    ///
    /// # Errors
    ///
    /// [`UserError::WrongCode`], [`UserError::TooMany`], or no answer.
    pub(super) async fn present(
        &self,
        proof: &Proof,
        purposes: &'static [Purpose],
        asker: &Asker,
    ) -> Result<MailTokenRow, UserError> {
        // A token is too long to be guessed: a good one is never refused because of others.
        if let Proof::Token(token) = proof {
            let (digest, now) = (MailTokenDigest::of(token), self.clock.now());
            if let Some(found) = self.store.read(move |conn| mail_tokens::find(conn, digest, purposes, now)).await? {
                return Ok(found);
            }
        }
        let guess = self.login_limiter.check_mailed(asker.address).await?.count().await?;
        let found = match proof {
            Proof::Token(_) => None,
            Proof::Code { email, code } => self.of_code(email, code, purposes).await?,
        };
        // An outage says nothing about the guess, which is taken back then.
        guess.begun().set();
        match found {
            Some(found) => {
                guess.was_right().await?;
                Ok(found)
            }
            None => {
                guess.was_wrong(&Event::new(Kind::LimitReached).ip_address(asker.address_text().as_deref()));
                Err(UserError::WrongCode)
            }
        }
    }

    async fn of_code(
        &self,
        email: &str,
        code: &str,
        purposes: &'static [Purpose],
    ) -> Result<Option<MailTokenRow>, UserError> {
        let Some(code) = MailCode::parse(code) else { return Ok(None) };
        let outbox = self.mailing()?;
        let (key, keys, now) = (EmailKey::of(email::trim(email)), outbox.keys(), self.clock.now());
        let decoy = outbox.draft(Purpose::Reset, &decoy(&Asker::default()), ("", None), now)?.token;
        let attempt = move |conn: &mut AnyConnection| {
            let tried = mail_tokens::try_codes(conn, &key, purposes, now)?;
            // The same statements, and a commit, whether or not a mail went there.
            mail_tokens::pretend_to_try(conn, &decoy)?;
            if tried.is_empty() {
                let _wrong = decoy.code_tag.as_ref().map(|tag| code.is(&keys, decoy.id, tag));
            }
            let is_right = |row: &MailTokenRow| row.code_tag.as_ref().is_some_and(|tag| code.is(&keys, row.id, tag));
            let right = tried.into_iter().find(is_right);
            if let Some(right) = &right {
                mail_tokens::take_try_back(conn, right.id)?;
            }
            Ok(right)
        };
        Ok(self.store.write(attempt).await?)
    }

    /// Writes a notice to the user of an account, if there is a way to send it.
    pub(super) async fn notice_of(&self, id: UserId, event: &str, asker: &Asker) -> Result<Option<NewMail>, UserError> {
        if self.outbox().is_none() {
            return Ok(None);
        }
        let found = self.store.read(move |conn| users::find_by_id(conn, id)).await?;
        found.map_or(Ok(None), |found| self.notice(event, &found.user, asker))
    }

    /// Writes a notice to an account's user, if there is a way to send it.
    pub(super) fn notice(&self, event: &str, user: &UserRow, asker: &Asker) -> Result<Option<NewMail>, UserError> {
        let Some(outbox) = self.outbox() else { return Ok(None) };
        Ok(Some(outbox.notice(event, &recipient(user, asker), self.clock.now())?))
    }
}

/// Adds a mail that was asked for, and its token, unless there were enough of them.
pub(super) fn add(conn: &mut AnyConnection, draft: &Draft, limits: &MailLimits) -> QueryResult<Asked> {
    let asked = limits.count(conn, draft.mail.created_at)?;
    if asked == Asked::Allowed {
        mail_tokens::replace(conn, &draft.token)?;
        mails::insert(conn, &draft.mail)?;
    }
    Ok(asked)
}

/// The user of an account, where its address has been proven; else just the address.
pub(super) fn recipient(user: &UserRow, asker: &Asker) -> Recipient {
    Recipient {
        user: user.id,
        email: user.email.clone(),
        name: user.name.clone().filter(|_| user.email_verified),
        languages: asker.languages.clone(),
    }
}

/// Stands for an account that there is none of: what is done takes as long.
pub(super) fn decoy(asker: &Asker) -> Recipient {
    Recipient {
        user: UserId::generate(),
        email: "decoy@example.invalid".into(),
        name: None,
        languages: asker.languages.clone(),
    }
}

/// Adds a notice, where there is one.
pub(super) fn tell(conn: &mut AnyConnection, notice: Option<&NewMail>) -> QueryResult<()> {
    notice.map_or(Ok(()), |notice| mails::insert(conn, notice))
}
