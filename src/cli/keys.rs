//! `keys`: what signs and verifies tokens, and what is lost. Never what is in a key.

use std::thread;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use super::key_rows::{KeyRow, purpose};
use super::listing::{Listing, visible};
use super::services::{self, unanswered, wait_for};
use super::{Failure, say};
use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::key_rotation::{Begin, Rotation};
use crate::services::Accounts;
use crate::signing_keys::{self, Missing, Remembered};
use crate::startup::{self, DatabaseGone};
use crate::store::{self, DatabaseState, OpenError, Store};
use crate::tokens::Kind;
use crate::tokens::generated::KeySource;
use crate::tokens::key_files::KeyFiles;
use crate::tokens::key_selection::{Entry, KeyState};

/// Running servers change to the next key a little after its time has come.
const A_MOMENT: Duration = Duration::from_millis(500);

/// Time for running servers to notice that a key is gone, and to finish requests that still use it.
const TO_LEARN: Duration = Duration::from_secs(3);

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
    /// Make the next key of each kind that is generated
    ///
    /// It is published and verifies at once, in every running server and on every node, and signs from ten minutes later on:
    /// then everyone who keeps the set of public keys has read it anew. Those that are configured are rotated by
    /// ACCESS_TOKEN_SECRET_PREVIOUS and REFRESH_TOKEN_SECRET_PREVIOUS.
    Rotate {
        /// Have it sign as soon as every running server knows it, which is some seconds; returns when it does
        #[arg(long)]
        now: bool,
    },
    /// Remove the generated keys that no token can name any more
    Prune,
    /// Give up a key that is lost or has leaked: what it signed is signed out, and the server goes on without it
    ///
    /// A generated key that is there, and does not sign any more, is taken out of use. See docs/operations.md, "After a leak" and
    /// "Lost keys, lost database".
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
    /// Yes, also the second factors that are sealed under it: their users log in with the password alone then
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub fn run(config: &Config, command: &Command) -> Result<(), Failure> {
    match command {
        Command::List { json } => list(config, *json),
        Command::Rotate { now } => rotate(config, if *now { Begin::AtOnce } else { Begin::AfterNotice }),
        Command::Prune => prune(config),
        Command::Forget(Forget { kid: Some(kid), yes, .. }) => forget_one(config, kid, *yes),
        Command::Forget(Forget { kid: None, yes, .. }) => forget_all(config, *yes),
    }
}

fn list(config: &Config, json: bool) -> Result<(), Failure> {
    let database = Opened::find(config)?;
    let mut rows: Vec<KeyRow> = entries(config, database.as_ref())?.into_iter().map(KeyRow::of_ours).collect();
    for remembered in remembered(config, database.as_ref())? {
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

/// A database that can be asked, and its time.
struct Opened {
    store: Store,
    clock: Clock,
}

impl Opened {
    /// None: there is no database, or its server is away.
    fn find(config: &Config) -> Result<Option<Self>, Failure> {
        match (Store::find(&config.database), &config.database) {
            (Ok(DatabaseState::Ready), _) => Self::open(config).map(Some),
            // The keys are listed without it.
            (Ok(_), _) | (Err(_), Database::Postgres(_)) => Ok(None),
            (Err(error), Database::Sqlite(_)) => Err(error.into()),
        }
    }

    /// One that must be there.
    fn open(config: &Config) -> Result<Self, Failure> {
        services::find(&config.database)?;
        let failed = |error| OpenError::new(&config.database, error);
        let (store, clock) = (Store::open_for_operator(&config.database).map_err(failed)?, Clock::system());
        clock.follow(|| store.now_blocking()).map_err(failed)?;
        Ok(Self { store, clock })
    }
}

/// The keys that there are.
fn entries(config: &Config, database: Option<&Opened>) -> Result<Vec<Entry>, Failure> {
    let store = database.map(|opened| &opened.store);
    let now = database.map_or_else(|| Clock::system().now(), |opened| opened.clock.now());
    let found = startup::find(config, &KeyFiles::below(&config.data_dir), store, now)?;
    if let Some(error) = found.away {
        return Err(unanswered(error));
    }
    Ok(found.selection.entries()?)
}

/// The list in the database.
fn remembered(config: &Config, database: Option<&Opened>) -> Result<Vec<Remembered>, Failure> {
    let Some(Opened { store, clock }) = database else { return Ok(Vec::new()) };
    let (failed, now) = (|error| OpenError::new(&config.database, error), clock.now());
    Ok(store.read_blocking(|conn| signing_keys::remembered(conn, now)).map_err(failed)?)
}

fn rotate(config: &Config, begin: Begin) -> Result<(), Failure> {
    let Opened { store, clock } = Opened::open(config)?;
    let next = Rotation::new(config, &store, &clock).rotate(begin)?;
    if begin == Begin::AtOnce {
        // Until the last of them signs.
        let (now, until) = (clock.now(), next.iter().filter_map(|key| key.signs_from).max());
        thread::sleep(until.map_or(Duration::ZERO, |until| until.since(now)) + A_MOMENT);
    }
    for key in next {
        let (kid, kind, algorithm) = (visible(&key.kid), purpose(key.kind), key.algorithm);
        match key.signs_from.filter(|_| begin == Begin::AfterNotice) {
            Some(from) => say(format_args!(
                "{kind} {algorithm} {kid}: published, and verifies from now on; signs from {} on",
                from.to_rfc3339()
            ))?,
            None => say(format_args!("{kind} {algorithm} {kid}: signs from now on"))?,
        }
    }
    Ok(())
}

fn prune(config: &Config) -> Result<(), Failure> {
    let Opened { store, clock } = Opened::open(config)?;
    let removed = Rotation::new(config, &store, &clock).prune()?;
    if removed.is_empty() {
        return say(format_args!("no key can be removed: tokens of each may still be in use, or it is to sign"));
    }
    for key in removed {
        say(format_args!("{} {} {}: removed", purpose(key.kind), key.algorithm, visible(&key.kid)))?;
    }
    Ok(())
}

fn forget_one(config: &Config, kid: &str, yes: bool) -> Result<(), Failure> {
    let shown = visible(kid);
    let database = Opened::find(config)?;
    // A sealed key that cannot be opened counts as lost.
    let is_there = match entries(config, database.as_ref()) {
        Ok(entries) => entries.into_iter().find(|key| key.kid == kid),
        Err(_) if startup::are_shared(config) => None,
        Err(failure) => return Err(failure),
    };
    let accounts = services::open(config)?;
    let now = accounts.clock.now();
    let listed = accounts.store.read_blocking(|conn| signing_keys::remembered(conn, now)).map_err(unanswered)?;
    let second_factors = wait_for(async { accounts.users.second_factors_under(kid).await.map_err(unanswered) })?;
    let mut removed = false;
    match is_there {
        Some(key) if key.source == KeySource::Configured => {
            return Err(Failure(format!(
                "the key {shown} is there, configured, and is forgotten only when it is lost; `countersign session revoke \
                 --all` ends sessions"
            )));
        }
        Some(key) if key.state == KeyState::Active => {
            return Err(Failure(format!(
                "the key {shown} is there, and signs: make the next one with `countersign keys rotate --now`, and forget it then"
            )));
        }
        Some(_) | None if second_factors > 0 && !yes => return Err(keeps(second_factors, &shown)),
        Some(Entry { source: KeySource::File(file), .. }) => {
            let renamed = KeyFiles::below(&config.data_dir).give_up_one(&file)?;
            say(format_args!("given up: {}", visible(&renamed.display().to_string())))?;
            removed = true;
        }
        Some(_) | None => {}
    }
    if startup::are_shared(config) {
        let kid = kid.to_owned();
        let remove = accounts.store.write_blocking(move |conn| store::access_keys::remove(conn, &kid));
        removed |= remove.map_err(unanswered)?;
    }
    match listed.into_iter().find(|listed| listed.key.kid == kid) {
        Some(Remembered { key, .. }) => {
            if removed {
                // Log-ins that began with the key must be over before the sessions are ended.
                thread::sleep(TO_LEARN);
            }
            forget(&accounts, &key)
        }
        None if second_factors > 0 => {
            if removed {
                thread::sleep(TO_LEARN);
            }
            give_up(&accounts, kid)
        }
        None if removed => say(format_args!("forgotten: {shown}; it has signed nothing that is still in use")),
        None => Err(Failure(format!(
            "no key {shown} has signed anything that is still in use; `countersign keys list` shows those that have"
        ))),
    }
}

/// Second factors are removed only with --yes.
fn keeps(second_factors: i64, shown: &str) -> Failure {
    Failure(format!(
        "second factors are sealed under the key {shown}: {second_factors}; to give them up, so that their users log in with \
         the password alone, add --yes"
    ))
}

/// Gives up the second factors that are sealed under a key, and says how many.
fn give_up(accounts: &Accounts, kid: &str) -> Result<(), Failure> {
    let given_up = wait_for(async { accounts.users.give_up_second_factors(kid).await.map_err(unanswered) })?;
    say(format_args!("second factors given up: {given_up}"))
}

fn forget_all(config: &Config, yes: bool) -> Result<(), Failure> {
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
    if let Some(key) = lost.iter().find(|key| key.second_factors > 0 && !yes) {
        return Err(keeps(key.second_factors, &visible(&key.kid)));
    }
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
        Kind::Refresh => {
            say(format_args!("forgotten: {shown}; sessions ended: {ended}"))?;
            let under = wait_for(async { accounts.users.second_factors_under(&key.kid).await.map_err(unanswered) })?;
            if under > 0 { give_up(accounts, &key.kid) } else { Ok(()) }
        }
        Kind::Access => say(format_args!("forgotten: {shown}; clients refresh, and go on")),
    }
}
