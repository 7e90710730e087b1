//! A mail as RFC 5322 writes it.

use std::time::{Duration, SystemTime};

use lettre::Address;
use lettre::address::Envelope;
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
    let envelope = Envelope::new(Some(sender.clone()), vec![to.clone()]);
    let envelope = envelope.map_err(|error| refused(&format!("the message cannot be addressed: {error}")))?;
    let date = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at.as_micros()).unwrap_or_default());
    let builder = lettre::Message::builder()
        .from(message::Mailbox::new(from.name.clone(), sender.clone()))
        .to(message::Mailbox::new(None, to.clone()))
        // Else it is read out of the headers, where the parser does not know every address that there is.
        .envelope(envelope)
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

#[cfg(test)]
#[cfg(feature = "sqlite")] // of which the configuration is
mod tests {
    use super::*;
    use crate::config::RawConfig;

    fn written(to: &str, subject: &str) -> Result<String, SendError> {
        let raw =
            RawConfig::default().with("mail.from", "Accounts <accounts@example.org>").with("mail.transport", "file");
        let from = raw.resolve().unwrap().mail.from.unwrap();
        let message = Message { to: to.into(), subject: subject.into(), text: "Text\n.\n".into(), html: None };
        let letter = letter(&message, &from, Uuid::nil(), Timestamp::from_seconds(1_800_000_000))?;
        Ok(String::from_utf8(letter.bytes).unwrap())
    }

    #[test]
    fn headers_say_who_when_and_that_no_answer_is_wanted() {
        let text = written("ada@example.com", "Subject").unwrap();
        for header in [
            "From: Accounts <accounts@example.org>\r\n",
            "To: ada@example.com\r\n",
            "Subject: Subject\r\n",
            "Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n",
            "Message-ID: <00000000-0000-0000-0000-000000000000@example.org>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "MIME-Version: 1.0\r\n",
        ] {
            assert!(text.contains(header), "{header}: {text}");
        }
        assert!(text.replace("\r\n", "").chars().all(|c| c != '\r' && c != '\n'), "{text:?}");
    }

    /// A message that waited in a database may have been written by an earlier version.
    #[test]
    fn no_subject_and_no_recipient_makes_another_header() {
        let text = written("ada@example.com", "Subject\r\nBcc: eve@example.com\r\n\r\nText").unwrap();
        assert!(!text.contains("\r\nBcc"), "{text}");
        for to in ["ada@example.com\r\nBcc: eve@example.com", "ada@example.com,eve@example.com", "", "ada"] {
            assert!(matches!(written(to, "Subject"), Err(SendError::Refused(_))), "{to:?}");
        }
    }
}
