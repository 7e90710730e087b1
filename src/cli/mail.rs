//! `mail`: whether mail arrives, what it says, and what waits to be sent.

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::listing::{Listing, Row, or_dash, visible};
use super::services::{self, unanswered, wait_for};
use super::{Failure, say, warn};
use crate::clock::Clock;
use crate::config::{Config, Mail};
use crate::email;
use crate::mail::{Kind, Links, Mailroom, SendError, Templates, Values, wanted_languages};
use crate::services::Accounts;
use crate::store::mails::WaitingMail;

/// What a token looks like in an example: 32 bytes in base64url.
const TOKEN: &str = "bm90IGEgdG9rZW4sIGJ1dCBhcyBsb25nIGFzIG9uZSE";

/// Mails that are read at once.
const PAGE: i64 = 500;

/// What can be done with mail.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    /// Send a test mail, at once, as mail.transport says
    ///
    /// Says how it was handed over, or why not. Needs no database, and no running server.
    Test {
        /// Who gets it
        #[arg(allow_hyphen_values = true)]
        address: String,
    },
    /// List the mails that wait to be sent, the longest first
    ///
    /// What they say is sealed, and not shown. One that is refused for good, or was tried for a day, is among the account's
    /// events as mail_failed.
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what mail of a kind says, with examples for what is put into it
    ///
    /// The texts are those in force: the built-in ones, and those in mail.templates above them.
    Preview {
        /// Which kind
        #[arg(value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::name)).try_map(|name| Kind::by_name(&name).ok_or("no kind")))]
        kind: Kind,
        /// The language that is wanted, as in de or de-CH; else English
        #[arg(long)]
        lang: Option<String>,
        /// Print the HTML in place of the plain text
        #[arg(long)]
        html: bool,
    },
}

/// Runs the command.
pub fn run(config: &Config, command: Command) -> Result<(), Failure> {
    match command {
        Command::Test { address } => test(config, &address),
        Command::List { json } => {
            let accounts = services::open(config)?;
            wait_for(list(&accounts, json))
        }
        Command::Preview { kind, lang, html } => preview(config, kind, lang.as_deref(), html),
    }
}

impl Row for WaitingMail {
    const HEADINGS: &'static [&'static str] = &["ID", "KIND", "TO", "SINCE", "NEXT", "ATTEMPTS", "LAST ERROR"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.kind.clone(),
            self.recipient.clone(),
            self.created_at.to_rfc3339(),
            self.due_at.to_rfc3339(),
            self.attempts.to_string(),
            or_dash(self.last_error.as_deref()),
        ]
    }

    fn json(&self) -> impl Serialize {
        json!({
            "id": self.id,
            "kind": self.kind,
            "to": self.recipient,
            "created_at": self.created_at.to_rfc3339(),
            "next_attempt_at": self.due_at.to_rfc3339(),
            "attempts": self.attempts,
            "last_error": self.last_error,
        })
    }
}

async fn list(accounts: &Accounts, json: bool) -> Result<(), Failure> {
    let (mut listing, mut after) = (Listing::new(json), None);
    loop {
        let page = accounts.waiting_mails(after, PAGE).await.map_err(unanswered)?;
        let Some(last) = page.last() else { return listing.end("no mail waits to be sent") };
        after = Some(last.id);
        if !listing.page(&page)? {
            return Ok(());
        }
    }
}

fn test(config: &Config, address: &str) -> Result<(), Failure> {
    let address = email::trim(address);
    email::check(address).map_err(|wrong| Failure(format!("{} {wrong}", visible(address))))?;
    let Some(mailroom) = Mailroom::open(config, &issuer(config))? else {
        return Err(Failure(format!(
            "{} is not set: set it to smtp, command or file, and run this again",
            Mail::transport
        )));
    };
    let values = Values { email: Some(address), issuer: Some(mailroom.links.issuer()), ..Values::default() };
    let message = mailroom.templates.render(Kind::Test, address, &[], &values);
    let through = mailroom.transport.describe();
    mailroom.transport.send(&message, Uuid::now_v7(), Clock::system().now()).map_err(|error| {
        let meaning = match &error {
            SendError::Refused(_) => "is refused for good",
            SendError::Later(_) => "cannot be sent now, later it may",
            SendError::Misconfigured(_) => "is not sent: the configuration or the mail server needs a change",
        };
        Failure(format!("the test mail {meaning}: {error}"))
    })?;
    say(format_args!("a test mail for {} was handed over to {through}", visible(address)))
}

fn preview(config: &Config, kind: Kind, lang: Option<&str>, html: bool) -> Result<(), Failure> {
    let languages = wanted_languages(lang, None);
    if let Some(lang) = lang.filter(|_| languages.is_empty()) {
        return Err(Failure(format!("{} is no language such as de or de-CH", visible(lang))));
    }
    let templates = Templates::load(config.mail.templates.as_deref())?;
    let links = Links::new(&config.mail, &issuer(config));
    let link = match kind {
        Kind::Verify | Kind::Change => links.verify(TOKEN),
        Kind::Undo => links.undo(TOKEN),
        Kind::Reset | Kind::Known | Kind::Notice | Kind::Test => links.reset(TOKEN),
    };
    let values = Values {
        link: Some(&link),
        code: Some("12345678"),
        minutes: Some(15),
        email: Some("ada@example.com"),
        new_email: Some("countess@example.com"),
        issuer: Some(links.issuer()),
        name: Some("Ada Lovelace"),
        event: Some("The password was changed"),
    };
    if let Some(wanted) = languages.first()
        && !templates.languages(kind).any(|language| wanted.starts_with(language))
    {
        warn(format_args!("note: there is no {} in {wanted}; this is what is sent in its place", kind.name()));
    }
    let message = templates.render(kind, "ada@example.com", &languages, &values);
    match message.html {
        Some(html_text) if html => say(format_args!("{}", html_text.trim_end())),
        None if html => Err(Failure("there is no HTML in that language: only plain text is sent".to_owned())),
        _ => say(format_args!("Subject: {}\n\n{}", message.subject, message.text.trim_end())),
    }
}

/// The public URL, as far as the configuration alone says it.
fn issuer(config: &Config) -> String {
    config.tokens.issuer.clone().unwrap_or_else(|| format!("http://{}", config.server.authority()))
}
