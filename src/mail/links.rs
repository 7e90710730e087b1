//! Where the links in mails lead.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::{MAIL_TOKEN, Mail};

/// All but the unreserved characters (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the links in mails lead: to pages below the issuer, or to those that are configured. Never made from a request.
#[derive(Clone, Debug)]
pub struct Links {
    issuer: String,
    reset: String,
    verify: String,
    undo: String,
}

impl Links {
    /// As `mail` says, or else below `issuer`.
    pub fn new(mail: &Mail, issuer: &str) -> Self {
        let page = |set: &Option<String>, page: &str| {
            set.clone().unwrap_or_else(|| format!("{issuer}/account/{page}?token={MAIL_TOKEN}"))
        };
        Self {
            issuer: issuer.to_owned(),
            reset: page(&mail.reset_url, "reset"),
            verify: page(&mail.verify_url, "verify"),
            undo: page(&mail.undo_url, "undo"),
        }
    }

    /// The public URL of this server.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where a forgotten password is set anew.
    pub fn reset(&self, token: &str) -> String {
        with(&self.reset, token)
    }

    /// Where an address is proven, a first or another one.
    pub fn verify(&self, token: &str) -> String {
        with(&self.verify, token)
    }

    /// Where a change of address is taken back.
    pub fn undo(&self, token: &str) -> String {
        with(&self.undo, token)
    }
}

fn with(url: &str, token: &str) -> String {
    url.replacen(MAIL_TOKEN, &utf8_percent_encode(token, RESERVED).to_string(), 1)
}
