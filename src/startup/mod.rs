//! The beginning of a start: the database is found or made, and the keys belong to it. What would sign people out who have
//! done nothing is refused here, before anything is made.

mod check;
mod keys;
mod lost;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

pub use self::check::{check, missing};
pub use self::keys::{Found, Keys, are_shared, find, sealed};
pub use self::lost::{DatabaseGone, MissingKeys, gone};
use self::lost::{still_there, used_with_another};

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Database};
use crate::files::{FileError, absolute, create_private_folder};
use crate::metrics::StoreMetrics;
use crate::sealed_keys::{self, SealedKeyError};
use crate::signing_keys::{self, Ours};
use crate::store::access_keys::AccessKey;
use crate::store::{self, OpenError, SchemaState, Store, StoreError};
use crate::tokens::key_files::{KeyFileError, KeyFiles};
use crate::tokens::key_reading::{KeyReading, Look};
use crate::tokens::key_selection::{self, Entry};
use crate::tokens::keys::KeyError;
use crate::tokens::sealing::SealingKeys;

/// Why there is no start. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The folder of data cannot be used.
    #[error("the folder {0}")]
    Folder(#[from] FileError),
    /// A generated key cannot be read or made.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A key in the database that nodes share cannot be used.
    #[error(transparent)]
    SealedKey(#[from] SealedKeyError),
    /// A configured secret cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// None is configured, and one that is made here would be unknown to the other nodes.
    #[error(
        "{setting} is not set, and {} holds no key for it: with PostgreSQL every node needs the same one; set it, or copy the \
         folder from a node that has it",
        .folder.display()
    )]
    NotShared {
        /// What would say it.
        setting: &'static str,
        /// Where it could also be.
        folder: PathBuf,
    },
    /// The generated ones have gone.
    #[error("{} holds no key any more in place of {setting}: restore it from a backup", .folder.display())]
    NoKeys {
        /// What would say it.
        setting: &'static str,
        /// Where it was.
        folder: PathBuf,
    },
    /// The keys have been used with another database.
    #[error(transparent)]
    DatabaseGone(DatabaseGone),
    /// Keys are missing that are still needed.
    #[error(transparent)]
    MissingKeys(MissingKeys),
}

/// What a start begins with.
pub struct Started {
    /// The database.
    pub store: Store,
    /// What signs and verifies.
    pub keys: Keys,
    /// Whether that list could be looked at. A database that nodes share may come later.
    pub checked: bool,
    /// What was made.
    pub made: Made,
}

/// What was not there before.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The file of the database.
    pub database: Option<PathBuf>,
    /// The migrations that were run.
    pub migrations: Vec<String>,
    /// The folder of keys, if keys were made.
    pub keys: Option<PathBuf>,
}

/// Finds or makes the database and the keys, and makes sure that they belong together.
///
/// # Errors
///
/// [`StartError`].
pub fn begin(config: &Config, clock: &Clock, metrics: StoreMetrics) -> Result<Started, StartError> {
    let files = KeyFiles::below(&config.data_dir);
    // Before the database is looked for: another process that starts now makes that first.
    let known = files.databases()?;
    // One that other nodes may be at work on is migrated when its operator says so.
    let failed = |error| OpenError::new(&config.database, error);
    let condition = Store::inspect(&config.database).map_err(failed)?;
    let mut made = match config.database {
        // A damaged one is left as it is: this node will not be ready.
        Database::Sqlite(_) if !condition.is_damaged(true) => bring_up_to_date(config)?,
        Database::Sqlite(_) | Database::Postgres(_) => Made::default(),
    };
    let store = Store::open(&config.database, condition, metrics).map_err(failed)?;
    let checked = check_list(config, &files, &store, &known, clock)?;

    let issuers = key_selection::issuers(config, &files)?;
    if let (None, Database::Sqlite(_)) = (&config.tokens.issuer, &config.database) {
        files.keep_issuer(&issuers.current)?;
    }
    // Another process that starts now may have been faster.
    let issuers = key_selection::issuers(config, &files)?;
    let (mut keys_made, look) = (false, Look::begin());
    let found =
        where_waiting_is_allowed(|| keys::find_or_make(config, &files, &store, clock.now(), Some(&mut keys_made)))?;
    made.keys = keys_made.then(|| absolute(files.folder()));
    if found.away.is_none() && keys::are_shared(config) {
        // The secret may have been changed, and the one before it will be taken away.
        if let Err(error) = where_waiting_is_allowed(|| sealed_keys::seal_anew(&store, &found.selection.refresh)) {
            tracing::warn!("the access keys in the database could not be sealed under the new secret: {error}");
        }
    }
    let found_all = found.away.is_none().then_some(look);
    let reading = match found.selection.is_generated() {
        true => KeyReading::watched(found_all),
        false => KeyReading::default(),
    };
    let keys = keys::keys(config, found, issuers, reading)?;
    let checked = checked && keys.complete && is_recorded(&keys.ours, &store, clock.now());
    if let Database::Sqlite(path) = &config.database {
        files.remember_issuer(&keys.ours.issuers.current)?;
        // Last: where a name is here, its database knows that it was used.
        if checked {
            files.keep_databases(&still_there(config, &known, path))?;
        }
    }
    Ok(Started { store, keys, checked, made })
}

/// The keys that seal, and the issuer, for a command beside a server. Nothing is made.
///
/// # Errors
///
/// If a key cannot be read or used.
pub fn sealing_keys(config: &Config, now: Timestamp) -> Result<(SealingKeys, String), StartError> {
    let files = KeyFiles::below(&config.data_dir);
    let refresh = key_selection::refresh_secrets(config, files.generated()?.refresh, now);
    Ok((SealingKeys::new(&refresh)?, key_selection::issuers(config, &files)?.current))
}

/// Makes the keys of a running server anew, of the files in the data folder and of those in the database, which have just been
/// read. No file is made.
///
/// # Errors
///
/// [`StartError`]: also if one of the keys `before` has gone and is still needed, or it cannot be told whether it is.
pub fn read_keys_anew(
    config: &Config,
    store: &Store,
    sealed: Option<&[AccessKey]>,
    before: &Ours,
    (now, reading): (Timestamp, KeyReading),
) -> Result<Keys, StartError> {
    let files = KeyFiles::below(&config.data_dir);
    let mut selection = keys::select(config, &files, sealed, now)?;
    let entries = selection.entries()?;
    let is_there = |key: &Entry| entries.iter().any(|other| (&other.kid, other.kind) == (&key.kid, key.kind));
    if !before.keys.iter().all(is_there) {
        let recovery = config.rotation.recovery;
        let missing = store.read_blocking(|conn| signing_keys::missing(conn, &entries, recovery, now));
        let missing = missing.map_err(|error| OpenError::new(&config.database, error))?;
        if !missing.is_empty() {
            return Err(StartError::MissingKeys(MissingKeys { keys: missing, folder: absolute(files.folder()) }));
        }
    }
    let mut away = None;
    if selection.access.active.is_none() || selection.refresh.active.is_none() {
        keys::Found { selection, away } = keys::find_or_make(config, &files, store, now, None)?;
    }
    let issuers = key_selection::issuers(config, &files)?;
    Ok(keys::keys(config, keys::Found { selection, away }, issuers, reading)?)
}

/// Brings the database up to date, and makes an embedded one, in the folder that is its own, if there is none.
///
/// # Errors
///
/// [`StartError`]: also if there was one, and its keys are still there, or if it is damaged.
pub fn migrate(config: &Config) -> Result<Made, StartError> {
    Store::inspect_for_operator(&config.database).map_err(|error| OpenError::new(&config.database, error))?;
    bring_up_to_date(config)
}

/// The same for a database that is known not to be damaged.
fn bring_up_to_date(config: &Config) -> Result<Made, StartError> {
    if let Database::Sqlite(path) = &config.database {
        let files = KeyFiles::below(&config.data_dir);
        let known = files.databases()?;
        if config.makes_data_dir && !config.data_dir.exists() {
            create_private_folder(&config.data_dir)?;
        }
        if Store::is_absent(&config.database)?
            && let Some(gone) = used_with_another(config, &files, path, &known, true)?
        {
            return Err(StartError::DatabaseGone(gone));
        }
    }
    let prepared = Store::prepare(&config.database)?;
    let file = match &config.database {
        Database::Sqlite(path) if prepared.made => Some(absolute(path)),
        _ => None,
    };
    Ok(Made { database: file, migrations: prepared.migrations, keys: None })
}

/// Looks at the list of keys that have signed. `false`: a database that nodes share is not there, or not up to date.
fn check_list(
    config: &Config,
    files: &KeyFiles,
    store: &Store,
    known: &[String],
    clock: &Clock,
) -> Result<bool, StartError> {
    match store.schema_state_blocking() {
        Ok(SchemaState::Current) => {}
        Ok(SchemaState::Newer(migration)) => return Err(OpenError::newer(&config.database, migration).into()),
        Ok(SchemaState::Pending(_)) => {
            tracing::error!("the database is not up to date, so this node is not ready: run `countersign migrate`");
            return Ok(false);
        }
        Err(error) => return unless_shared(config, store, error),
    }
    // First the list, then the keys: another process that starts now makes those first.
    let used = match store.read_blocking(store::signing_keys::all) {
        Ok(used) => !used.is_empty(),
        Err(error) => return unless_shared(config, store, error),
    };
    if let (Database::Sqlite(path), false) = (&config.database, used)
        && let Some(gone) = used_with_another(config, files, path, known, false)?
    {
        return Err(StartError::DatabaseGone(gone));
    }
    let (recovery, now) = (config.rotation.recovery, clock.now());
    let found = keys::find(config, files, Some(store), now)?;
    if let Some(error) = found.away {
        return unless_shared(config, store, error);
    }
    let entries = found.selection.entries()?;
    match store.read_blocking(|conn| signing_keys::missing(conn, &entries, recovery, now)) {
        Ok(missing) if missing.is_empty() => {}
        Ok(keys) => return Err(StartError::MissingKeys(MissingKeys { keys, folder: absolute(files.folder()) })),
        Err(error) => return unless_shared(config, store, error),
    }
    let issuers = key_selection::issuers(config, files)?;
    if let Ok(strange) = store.read_blocking(|conn| signing_keys::strange_issuers(conn, &issuers, now)) {
        signing_keys::warn_of(&strange);
    }
    Ok(true)
}

/// A database that nodes share may be away when one of them starts, and one that is damaged answers what it still can: the
/// node is not ready then.
fn unless_shared(config: &Config, store: &Store, error: StoreError) -> Result<bool, StartError> {
    if store.is_shared() || store.is_damaged() {
        Ok(false)
    } else {
        Err(OpenError::new(&config.database, error).into())
    }
}

/// A disk that is full lets a server start, and say that it is not ready.
fn is_recorded(ours: &Ours, store: &Store, now: Timestamp) -> bool {
    let recorded = where_waiting_is_allowed(|| ours.record(store, now));
    recorded
        .inspect_err(|error| {
            tracing::warn!(error = error.chain(), "the list of signing keys could not be written, and will be later");
        })
        .is_ok()
}

/// The caller may be on a thread that drives a runtime, and such a one must not wait for a write.
fn where_waiting_is_allowed<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}
