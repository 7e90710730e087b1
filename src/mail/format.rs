//! A mail as RFC 5322 writes it.

use std::time::{Duration, SystemTime};

use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{self, MultiPart, SinglePart};
use uuid::Uuid;

use super::{Message, SendError};
use crate::clock::Timestamp;
use crate::config::Mailbox;
use crate::email;

/// A mail, ready to be handed over.
#[derive(Debug)]
pub struct Letter {
    /// The address of the sender.
    pub from: Address,
    /// The address of the recipient, with the domain as A-labels.
    pub to: Address,
    /// Headers and text, with CRLF at the end of each line. ASCII, unless `to` is not.
    pub bytes: Vec<u8>,
}

/// Writes `message`. Its `Message-ID` is made from `id`, so that a second copy can be recognised.
///
/// # Errors
///
/// The recipient's is no address.
pub fn letter(message: &Message, from: &Mailbox, id: Uuid, at: Timestamp) -> Result<Letter, SendError> {
    email::check(&message.to).map_err(|_unspecific| refused("the recipient has no valid address"))?;
    let to = address(&message.to).ok_or_else(|| refused("the recipient has no valid address"))?;
    let sender = address(&from.address).ok_or_else(|| refused("mail.from has no valid address"))?;
    let date = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at.as_micros()).unwrap_or_default());
    let builder = lettre::Message::builder()
        .from(message::Mailbox::new(from.name.clone(), sender.clone()))
        .to(message::Mailbox::new(None, to.clone()))
        .subject(one_line(&message.subject))
        .date(date)
        .message_id(Some(format!("<{id}@{}>", sender.domain())))
        // RFC 3834 section 5: no "out of office" to this one.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
    let written = match &message.html {
        Some(html) => builder.multipart(MultiPart::alternative_plain_html(message.text.clone(), html.clone())),
        None => builder.singlepart(SinglePart::plain(message.text.clone())),
    };
    let written = written.map_err(|error| refused(&format!("the message cannot be written: {error}")))?;
    Ok(Letter { from: sender, to, bytes: written.formatted() })
}

/// What is before the last `@` as it is, and the domain as A-labels.
fn address(text: &str) -> Option<Address> {
    let (user, domain) = text.rsplit_once('@')?;
    Some(Address::new_dangerous(user, email::domain(domain)?))
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn refused(text: &str) -> SendError {
    SendError::Refused(text.to_owned())
}
