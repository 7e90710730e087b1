//! `session`: who is signed in, and who is no longer.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::listing::{Listing, Row, or_dash};
use super::services::{self, account, unanswered, wait_for};
use super::users::have_ended;
use super::{Failure, say};
use crate::clock::Timestamp;
use crate::config::{Config, duration};
use crate::ids::{InvalidId, SessionId};
use crate::services::Accounts;
use crate::store::sessions::OwnedSession;
use crate::views::SessionView;

/// As much of a user agent as fits into a table.
const MAX_USER_AGENT: usize = 40;

/// What can be done with sessions.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    /// List live sessions, the oldest first
    List {
        /// Only of the account with this address or id
        email: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End one session, all of one user, or those of all users
    ///
    /// The refresh token is refused at once, access tokens within a second, on every running server.
    Revoke {
        #[command(flatten)]
        which: Which,
        /// With --all: only those that were opened then or later, say since a leak
        ///
        /// A time in RFC 3339 (2026-11-23T09:30:00Z), or how long ago (2h, 1d12h, 900 for seconds). A session counts from
        /// its log-in, however often it was refreshed since.
        #[arg(long, value_name = "TIME", requires = "all", conflicts_with_all = ["id", "user"], value_parser = since)]
        since: Option<Since>,
    },
}

/// Exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// A session, as `session list` shows it
    #[arg(value_parser = session_id)]
    id: Option<SessionId>,
    /// Every session of the account with this address or id
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// Every session of every user
    #[arg(long)]
    all: bool,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    At(Timestamp),
    Ago(Duration),
}

/// In capitals or not.
fn session_id(text: &str) -> Result<SessionId, InvalidId> {
    text.trim().to_ascii_lowercase().parse()
}

fn since(text: &str) -> Result<Since, String> {
    if let Some(at) = Timestamp::from_rfc3339(text) {
        return Ok(Since::At(at));
    }
    match duration(text) {
        Ok(ago) => Ok(Since::Ago(ago)),
        Err(_) => Err("is neither a time like 2026-11-23T09:30:00Z nor how long ago, like 2h or 1d".into()),
    }
}

/// Runs the command.
pub fn run(config: &Config, command: Command) -> Result<(), Failure> {
    let accounts = services::open(config)?;
    wait_for(async {
        match command {
            Command::List { email, json } => list(&accounts, email.as_deref(), json).await,
            Command::Revoke { which: Which { id: Some(id), .. }, .. } => end(&accounts, id).await,
            Command::Revoke { which: Which { user: Some(email), .. }, .. } => end_all_of(&accounts, &email).await,
            Command::Revoke { since, .. } => end_all(&accounts, since).await,
        }
    })
}

async fn list(accounts: &Accounts, email: Option<&str>, json: bool) -> Result<(), Failure> {
    let user = match email {
        Some(email) => Some(account(accounts, email).await?.user.id),
        None => None,
    };
    let (mut listing, mut after) = (Listing::new(json), None);
    loop {
        let page = accounts.sessions().page(user, after).await.map_err(unanswered)?;
        let Some(last) = page.last() else { return listing.end("there are no live sessions") };
        after = Some(last.session.id);
        if !listing.page(&page)? {
            return Ok(());
        }
    }
}

async fn end(accounts: &Accounts, id: SessionId) -> Result<(), Failure> {
    if !accounts.sessions().end(id).await.map_err(unanswered)? {
        return Err(Failure(format!("no live session is {id}; `countersign session list` shows all of them")));
    }
    say(format_args!("{}", have_ended(1, None)))
}

async fn end_all_of(accounts: &Accounts, email: &str) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    let ended = accounts.sessions().end_all_of(user.id).await.map_err(unanswered)?;
    say(format_args!("{}", have_ended(ended, Some(&user.email))))
}

async fn end_all(accounts: &Accounts, since: Option<Since>) -> Result<(), Failure> {
    let now = accounts.clock.now();
    let since = match since {
        None => Timestamp::from_micros(0),
        Some(Since::Ago(time)) => now.minus(time),
        Some(Since::At(moment)) if moment <= now => moment,
        Some(Since::At(moment)) => {
            return Err(Failure(format!(
                "{} is still to come: --since takes a time that is past",
                moment.to_rfc3339()
            )));
        }
    };
    let ended = accounts.sessions().end_opened_since(since).await.map_err(unanswered)?;
    say(format_args!("{}", have_ended(ended, None)))
}

/// A session, as an operator sees it.
#[derive(Serialize)]
struct OwnedSessionView {
    #[serde(flatten)]
    session: SessionView,
    user_id: String,
    email: String,
}

impl Row for OwnedSession {
    const HEADINGS: &'static [&'static str] =
        &["ID", "USER", "DEVICE", "ADDRESS", "OPENED", "LAST USED", "ENDS", "USER AGENT"];

    fn cells(&self) -> Vec<String> {
        let session = &self.session;
        vec![
            session.id.to_string(),
            self.email.clone(),
            or_dash(session.device_name.as_deref()),
            or_dash(session.ip_address.as_deref()),
            session.created_at.to_rfc3339(),
            session.last_used_at.to_rfc3339(),
            session.ends_unless_refreshed().to_rfc3339(),
            short(&or_dash(session.user_agent.as_deref())),
        ]
    }

    fn json(&self) -> impl Serialize {
        OwnedSessionView {
            session: SessionView::new(self.session.clone(), false),
            user_id: self.user_id.to_string(),
            email: self.email.clone(),
        }
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_USER_AGENT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        assert_eq!(since("2026-11-23T10:30:00+01:00"), Ok(Since::At(Timestamp::from_seconds(1_795_426_200))));
        assert_eq!(since("1h30m"), Ok(Since::Ago(Duration::from_secs(5_400))));
        assert_eq!(since("900"), Ok(Since::Ago(Duration::from_secs(900))));
        for wrong in ["", "yesterday", "-2h", "2026-11-23", "2026-11-23 09:30", "2h ago"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
