//! Mails as they are written: rendered at once, and sealed until a background task sends them. No request waits for a mail
//! server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::current::Current;
use crate::email::EmailKey;
use crate::ids::{MailId, MailTokenId, UserId};
use crate::mail::{Kind, Mailroom, Message, Transport, Values};
use crate::secret::Secret;
use crate::store::mail_tokens::{NewMailToken, Purpose};
use crate::store::mails::{ClaimedMail, NewMail};
use crate::tokens::keys::KeyError;
use crate::tokens::mailed::{MailCode, MailToken};
use crate::tokens::sealing::{self, Sealed, SealingKeys};

/// What the texts of mails are sealed for.
const MAILS: sealing::Purpose = sealing::Purpose::new("countersign waiting mails v1");
/// The kind of a mail that is not sent: it stands for one to an account that there is none of.
pub const DECOY: &str = "decoy";
/// How long a code may be typed.
pub const CODE_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Writes mails. Clones share it.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    mailroom: Arc<Mailroom>,
    has_written: AtomicBool,
    sealing: Current<SealingKeys>,
}

/// Who gets a mail, about which account.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Whose account it is.
    pub user: UserId,
    /// Where it goes.
    pub email: String,
    /// What the user is called, if the address is proven: nothing else that was typed may reach one that is not.
    pub name: Option<String>,
    /// The languages that are wanted, the best first.
    pub languages: Vec<String>,
}

/// A token, and the mail that brings it.
#[derive(Clone)]
pub struct Draft {
    /// What is kept of the token.
    pub token: NewMailToken,
    /// The mail.
    pub mail: NewMail,
}

impl Outbox {
    /// With these texts and links.
    pub fn new(mailroom: Arc<Mailroom>, sealing: Current<SealingKeys>) -> Self {
        Self(Arc::new(Inner { mailroom, has_written: AtomicBool::default(), sealing }))
    }

    /// What sends them.
    pub fn transport(&self) -> &Transport {
        &self.0.mailroom.transport
    }

    /// Whether a mail was written here since this was asked last. It is sent as soon as it is committed.
    pub fn take_written(&self) -> bool {
        self.0.has_written.swap(false, Ordering::Relaxed)
    }

    /// The keys that seal and open.
    pub fn keys(&self) -> Arc<SealingKeys> {
        self.0.sealing.get()
    }

    /// Writes a mail with a token for `purpose`, and a code where one can be typed. `emails`: the address of the account, and
    /// the one that it gets by the mail, or has got instead.
    ///
    /// # Errors
    ///
    /// If the cryptographic library fails.
    pub fn draft(
        &self,
        purpose: Purpose,
        to: &Recipient,
        emails: (&str, Option<&str>),
        now: Timestamp,
    ) -> Result<Draft, KeyError> {
        let (id, token) = (MailTokenId::generate(), MailToken::generate()?);
        let (keys, links) = (self.keys(), &self.0.mailroom.links);
        let (kind, link, has_code) = match purpose {
            Purpose::Reset => (Kind::Reset, links.reset(token.expose()), true),
            Purpose::Known => (Kind::Known, links.reset(token.expose()), false),
            Purpose::Verify => (Kind::Verify, links.verify(token.expose()), true),
            Purpose::Change => (Kind::Change, links.verify(token.expose()), true),
            Purpose::Undo => (Kind::Undo, links.undo(token.expose()), false),
        };
        let code = has_code.then(MailCode::generate).transpose()?;
        let (email, new_email) = emails;
        let values = Values {
            link: Some(&link),
            code: code.as_ref().map(MailCode::expose),
            minutes: code.as_ref().map(|_| minutes(CODE_LIFETIME)),
            new_email,
            ..self.values(email, to)
        };
        let token = NewMailToken {
            id,
            user_id: to.user,
            purpose: purpose.as_str(),
            token_hash: token.digest(),
            email: to.email.clone(),
            email_key: EmailKey::of(&to.email).current().to_owned(),
            code_tag: code.as_ref().map(|code| code.tag(&keys, id)).transpose()?.map(Vec::from),
            code_expires_at: now.plus(CODE_LIFETIME),
            code_tries: 0,
            created_at: now,
            expires_at: now.plus(purpose.lifetime()),
        };
        Ok(Draft { token, mail: self.write(kind, to, &values, now)? })
    }

    /// Writes a mail that tells an account's user of what has happened to it.
    ///
    /// # Errors
    ///
    /// If the cryptographic library fails.
    pub fn notice(&self, event: &str, to: &Recipient, now: Timestamp) -> Result<NewMail, KeyError> {
        let values = Values { event: Some(event), ..self.values(&to.email, to) };
        self.write(Kind::Notice, to, &values, now)
    }

    fn values<'a>(&'a self, email: &'a str, to: &'a Recipient) -> Values<'a> {
        let issuer = Some(self.0.mailroom.links.issuer());
        Values { email: Some(email), issuer, name: to.name.as_deref(), ..Values::default() }
    }

    fn write(&self, kind: Kind, to: &Recipient, values: &Values<'_>, now: Timestamp) -> Result<NewMail, KeyError> {
        let message = self.0.mailroom.templates.render(kind, &to.email, &to.languages, values);
        let id = MailId::generate();
        let text = Secret::new(serde_json::to_vec(&message).map_err(|_never| KeyError::Library)?);
        let Sealed { under, bytes } = self.keys().seal(MAILS, id.as_bytes(), &text)?;
        self.0.has_written.store(true, Ordering::Relaxed);
        Ok(NewMail {
            id,
            user_id: Some(to.user),
            kind: kind.name(),
            recipient: to.email.clone(),
            sealed: bytes,
            sealed_under: under,
            created_at: now,
            due_at: now,
            attempts: 0,
        })
    }
}

/// Opens a mail that waited. None: the secret that it was sealed under is gone.
pub fn open(keys: &SealingKeys, mail: &ClaimedMail) -> Option<Message> {
    let sealed = Sealed { under: mail.sealed_under.clone(), bytes: mail.sealed.clone() };
    let text = keys.open(MAILS, mail.id.as_bytes(), &sealed)?;
    serde_json::from_slice(text.expose()).ok()
}

fn minutes(time: Duration) -> u32 {
    u32::try_from(time.as_secs() / 60).unwrap_or(u32::MAX)
}
