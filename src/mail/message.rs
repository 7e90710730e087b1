//! A mail as it waits to be sent.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A mail to one recipient. `Debug` does not show its text, which may hold a link that opens an account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The address of the recipient.
    pub to: String,
    /// In one line.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("to", &self.to).field("subject", &self.subject).finish_non_exhaustive()
    }
}
