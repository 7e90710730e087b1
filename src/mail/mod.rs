//! Mail: what it says, and how it goes out. Knows no database.
//!
//! | file | holds |
//! |---|---|
//! | this one | [`Mailroom`]: all of it, as it is configured |
//! | `kind.rs`, `values.rs` | what a mail is about; what is put into its text |
//! | `templates.rs`, `parsing.rs`, `rendering.rs` | the texts, built in or from files; one file read; one text filled in |
//! | `languages.rs` | which language is wanted |
//! | `links.rs` | where the links in mails lead |
//! | `message.rs`, `format.rs` | a mail as it waits to be sent; as RFC 5322 writes it |
//! | `transport.rs` | sending, and what became of it; then a file for each way: `smtp.rs`, `stream.rs`, `command.rs`, `folder.rs` |

mod command;
mod folder;
mod format;
mod kind;
mod languages;
mod links;
mod message;
mod parsing;
mod rendering;
mod smtp;
mod stream;
mod templates;
mod transport;
mod values;

pub use kind::Kind;
pub use languages::wanted_languages;
pub use links::Links;
pub use message::Message;
pub use templates::{TemplateError, Templates};
pub use transport::{Patience, SendError, Transport, TransportError};
pub use values::Values;

use crate::config::{Config, Mail};

/// All that is needed to write and send mail. Made anew when the configuration is read anew.
#[derive(Debug)]
pub struct Mailroom {
    /// What mails say.
    pub templates: Templates,
    /// How they go out.
    pub transport: Transport,
    /// Where their links lead.
    pub links: Links,
}

/// Why mail cannot be sent as it is configured. Begins with the name of the key.
#[derive(Debug, thiserror::Error)]
pub enum MailroomError {
    /// The texts cannot be used.
    #[error(transparent)]
    Templates(#[from] TemplateError),
    /// The way out cannot be used.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl MailroomError {
    /// The key of the configuration that is wrong.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Templates(_) => Mail::templates.name,
            Self::Transport(error) => error.key,
        }
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &str {
        match self {
            Self::Templates(error) => &error.problem,
            Self::Transport(error) => &error.problem,
        }
    }
}

impl Mailroom {
    /// As `config` says, for tokens of `issuer`. `None`: no mail goes out. Reads files; nothing is made, and no connection.
    ///
    /// # Errors
    ///
    /// A text or a certificate file that cannot be used.
    pub fn open(config: &Config, issuer: &str) -> Result<Option<Self>, MailroomError> {
        let Some(transport) = Transport::new(&config.mail)? else { return Ok(None) };
        let templates = Templates::load(config.mail.templates.as_deref())?;
        Ok(Some(Self { templates, transport, links: Links::new(&config.mail, issuer) }))
    }
}
