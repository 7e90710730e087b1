//! `keys`: what signs and verifies tokens, and what is lost. Never what is in a key.

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use super::listing::{Listing, Row, or_dash, visible};
use super::services::{self, unanswered, wait_for};
use super::{Failure, say};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Database};
use crate::services::Accounts;
use crate::signing_keys::{self, Missing, Remembered};
use crate::startup::{self, DatabaseGone};
use crate::store::{self, DatabaseState, OpenError, Store};
use crate::tokens::Kind;
use crate::tokens::key_files::KeyFiles;
use crate::tokens::key_list::{self, Entry};

/// What can be done with keys.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    /// List the keys in use, each with where it comes from, and those that have signed and are not there
    ///
    /// Of each its name (kid), purpose and algorithm, whether it signs or only verifies, until when it is needed, and its file;
    /// never what is in it.
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give up a key that is lost: what it signed is signed out, and the server starts without it
    ///
    /// See docs/operations.md, "Lost keys, lost database".
    Forget(Forget),
}

/// Which keys.
#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub struct Forget {
    /// Its name, as `keys list` or the refused start says it
    #[arg(group = "which", allow_hyphen_values = true)]
    kid: Option<String>,
    /// Every key that is lost; and where the database is lost, the keys that were used with it
    #[arg(long, group = "which")]
    all: bool,
}

/// Runs the command.
pub fn run(config: &Config, command: &Command) -> Result<(), Failure> {
    match command {
        Command::List { json } => list(config, *json),
        Command::Forget(Forget { kid: Some(kid), .. }) => forget_one(config, kid),
        Command::Forget(Forget { kid: None, .. }) => forget_all(config),
    }
}

fn list(config: &Config, json: bool) -> Result<(), Failure> {
    let mut rows: Vec<KeyRow> =
        key_list::list(config, &KeyFiles::below(&config.data_dir))?.into_iter().map(KeyRow::of_ours).collect();
    for remembered in remembered(config)? {
        let key = &remembered.key;
        match rows.iter_mut().find(|row| row.kid == key.kid && row.kind == key.kind) {
            Some(row) => row.needed_until = Some(key.until),
            None => rows.push(KeyRow::lost(remembered)),
        }
    }
    let mut listing = Listing::new(json);
    listing.page(&rows)?;
    listing.end("there are no keys yet: none is configured, and the first `countersign serve` makes them")
}

/// The list in the database, if there is one that can be asked.
fn remembered(config: &Config) -> Result<Vec<Remembered>, Failure> {
    match (Store::find(&config.database), &config.database) {
        (Ok(DatabaseState::Ready), _) => {}
        // The keys are listed without it.
        (Ok(_), _) | (Err(_), Database::Postgres(_)) => return Ok(Vec::new()),
        (Err(error), Database::Sqlite(_)) => return Err(error.into()),
    }
    let failed = |error| OpenError::new(&config.database, error);
    let (store, clock) = (Store::open_for_operator(&config.database).map_err(failed)?, Clock::system());
    clock.follow(|| store.now_blocking()).map_err(failed)?;
    let now = clock.now();
    Ok(store.read_blocking(|conn| signing_keys::remembered(conn, now)).map_err(failed)?)
}

fn forget_one(config: &Config, kid: &str) -> Result<(), Failure> {
    let shown = visible(kid);
    if key_list::list(config, &KeyFiles::below(&config.data_dir))?.iter().any(|key| key.kid == kid) {
        return Err(Failure(format!(
            "the key {shown} is there, and is forgotten only when it is lost; `countersign session revoke --all` ends sessions"
        )));
    }
    let accounts = services::open(config)?;
    let now = accounts.clock.now();
    let listed = accounts.store.read_blocking(|conn| signing_keys::remembered(conn, now)).map_err(unanswered)?;
    match listed.into_iter().find(|listed| listed.key.kid == kid) {
        Some(Remembered { key, .. }) => forget(&accounts, &key),
        None => Err(Failure(format!(
            "no key {shown} has signed anything that is still in use; `countersign keys list` shows those that have"
        ))),
    }
}

fn forget_all(config: &Config) -> Result<(), Failure> {
    let gone = startup::gone(config)?;
    if let Some(elsewhere @ DatabaseGone::Elsewhere { .. }) = gone {
        return Err(elsewhere.into());
    }
    if gone.is_some() {
        let files = KeyFiles::below(&config.data_dir);
        let renamed = files.give_up()?;
        for file in &renamed {
            say(format_args!("given up: {}", visible(&file.display().to_string())))?;
        }
        say(format_args!("the next `countersign serve` begins anew; all users must sign in again"))?;
    }
    if gone.is_some() && Store::find(&config.database)? != DatabaseState::Ready {
        return Ok(());
    }
    let lost = startup::missing(config)?;
    let accounts = services::open(config)?;
    if lost.is_empty() && gone.is_none() {
        return say(format_args!("no key is lost"));
    }
    lost.iter().try_for_each(|key| forget(&accounts, key))
}

fn forget(accounts: &Accounts, key: &Missing) -> Result<(), Failure> {
    let ended = match key.kind {
        Kind::Refresh => wait_for(async { accounts.sessions().end_signed_with(&key.kid).await.map_err(unanswered) })?,
        Kind::Access => 0,
    };
    let kid = key.kid.clone();
    accounts.store.write_blocking(move |conn| store::signing_keys::forget(conn, &kid)).map_err(unanswered)?;
    let shown = visible(&key.kid);
    match key.kind {
        Kind::Refresh => say(format_args!("forgotten: {shown}; sessions ended: {ended}")),
        Kind::Access => say(format_args!("forgotten: {shown}; clients refresh, and go on")),
    }
}

/// A key in use, or one that has signed and is not there.
struct KeyRow {
    kid: String,
    kind: Kind,
    algorithm: String,
    state: State,
    source: String,
    created_at: Option<Timestamp>,
    needed_until: Option<Timestamp>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Active,
    VerifyOnly,
    Missing,
}

impl KeyRow {
    fn of_ours(key: Entry) -> Self {
        Self {
            kid: key.kid,
            kind: key.kind,
            algorithm: key.algorithm.to_owned(),
            state: if key.active { State::Active } else { State::VerifyOnly },
            source: key.file.map_or_else(|| "configured".to_owned(), |file| file.display().to_string()),
            created_at: key.made_at,
            needed_until: None,
        }
    }

    fn lost(Remembered { key, algorithm, first_used_at }: Remembered) -> Self {
        Self {
            kid: key.kid,
            kind: key.kind,
            algorithm,
            state: State::Missing,
            source: key.file.unwrap_or_else(|| "configured".to_owned()),
            created_at: Some(first_used_at),
            needed_until: Some(key.until),
        }
    }

    fn view(&self) -> KeyView<'_> {
        let kind = match self.kind {
            Kind::Access => "access",
            Kind::Refresh => "refresh",
        };
        KeyView {
            kid: &self.kid,
            r#use: kind,
            algorithm: &self.algorithm,
            state: self.state,
            source: &self.source,
            created_at: self.created_at.map(Timestamp::to_rfc3339),
            needed_until: self.needed_until.map(Timestamp::to_rfc3339),
        }
    }
}

#[derive(Serialize)]
struct KeyView<'a> {
    kid: &'a str,
    r#use: &'static str,
    algorithm: &'a str,
    state: State,
    source: &'a str,
    created_at: Option<String>,
    needed_until: Option<String>,
}

impl Row for KeyRow {
    const HEADINGS: &'static [&'static str] =
        &["KID", "USE", "ALGORITHM", "STATE", "CREATED", "NEEDED UNTIL", "SOURCE"];

    fn cells(&self) -> Vec<String> {
        let view = self.view();
        let state = match self.state {
            State::Active => "active",
            State::VerifyOnly => "verifies only",
            State::Missing => "missing",
        };
        vec![
            self.kid.clone(),
            view.r#use.to_owned(),
            self.algorithm.clone(),
            state.to_owned(),
            or_dash(view.created_at.as_deref()),
            or_dash(view.needed_until.as_deref()),
            self.source.clone(),
        ]
    }

    fn json(&self) -> impl Serialize {
        self.view()
    }
}
