//! Sending, and what became of it.

use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use super::smtp::Smtp;
use super::{Message, command, folder, format};
use crate::clock::Timestamp;
use crate::config::{Mail, MailTransport, Mailbox};

/// How much of what others say is shown.
const LONGEST_TEXT: usize = 300;

/// How mail goes out.
#[derive(Debug)]
pub struct Transport {
    way: Way,
    from: Mailbox,
    patience: Patience,
}

#[derive(Debug)]
enum Way {
    Smtp(Box<Smtp>),
    Command(Vec<String>),
    Folder(PathBuf),
}

/// How long others may keep a mail waiting.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection, and for each answer.
    pub answer: Duration,
    /// For all of one mail.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: Duration::from_secs(20), whole: Duration::from_secs(60) }
    }
}

/// Why a mail was not sent: a text for the log, of bounded length, without control characters and secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Refused for good: the recipient or the message.
    #[error("{0}")]
    Refused(String),
    /// Not now: a refusal for the moment, silence, a lost connection.
    #[error("{0}")]
    Later(String),
    /// The operator has to do something: a refused log-in or certificate, no STARTTLS, no such program. Worth another try.
    #[error("{0}")]
    Misconfigured(String),
}

/// Why mail cannot be sent as it is configured. Begins with the name of the key.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct TransportError {
    pub(super) key: &'static str,
    pub(super) problem: String,
}

impl Transport {
    /// As `mail` says. `None`: no mail goes out. Reads the file of certificates; nothing is made, and no connection.
    ///
    /// # Errors
    ///
    /// Certificates that cannot be read.
    pub fn new(mail: &Mail) -> Result<Option<Self>, TransportError> {
        let Some(transport) = mail.transport else { return Ok(None) };
        let missing = |key: &'static str| TransportError { key, problem: "is not set".to_owned() };
        let way = match transport {
            MailTransport::Smtp => {
                let server = mail.url.as_ref().ok_or_else(|| missing(Mail::url.name))?;
                Way::Smtp(Box::new(Smtp::new(server, mail.ca_file.as_deref())?))
            }
            MailTransport::Command => Way::Command(mail.command.clone().ok_or_else(|| missing(Mail::command.name))?),
            MailTransport::File => Way::Folder(mail.folder.clone().ok_or_else(|| missing(Mail::folder.name))?),
        };
        let from = mail.from.clone().ok_or_else(|| missing(Mail::from.name))?;
        Ok(Some(Self { way, from, patience: Patience::default() }))
    }

    /// With other bounds of time.
    #[cfg(test)]
    #[cfg(feature = "sqlite")] // of which the tests are
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Sends a mail, and waits until it is taken: at most [`Patience::whole`] and a little. `id` is that of the mail, so that
    /// one that arrives twice can be recognised; `at` is its date.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn send(&self, message: &Message, id: Uuid, at: Timestamp) -> Result<(), SendError> {
        let letter = format::letter(message, &self.from, id, at)?;
        match &self.way {
            Way::Smtp(smtp) => smtp.send(&letter, self.patience),
            Way::Command(words) => command::send(words, &letter, self.patience),
            Way::Folder(folder) => folder::send(folder, &letter, id, at),
        }
    }

    /// Where mail goes, for people to read: without user and password.
    pub fn describe(&self) -> String {
        match &self.way {
            Way::Smtp(smtp) => smtp.describe(),
            Way::Command(words) => words.first().cloned().unwrap_or_default(),
            Way::Folder(folder) => folder.display().to_string(),
        }
    }
}

/// What others said, fit for a log: one line of bounded length.
pub(super) fn shown(text: &str) -> String {
    let words: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(4 * LONGEST_TEXT).collect();
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Does what waits for others. Waiting is asynchronous, since only that can be ended at any moment.
pub(super) fn wait_for(doing: impl Future<Output = Result<(), SendError>>) -> Result<(), SendError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| SendError::Later(shown(&format!("the system refuses: {error}"))))?;
    let done = runtime.block_on(doing);
    // A look-up of a name that is still under way is left to itself.
    runtime.shutdown_background();
    done
}
