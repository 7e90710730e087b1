//! The beginning of a start: the database is found or made, and the keys belong to it. What would sign people out who have
//! done nothing is refused here, before anything is made.

use std::path::{Path, PathBuf};

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Database};
use crate::files::{FileError, absolute, check_writable_folder, create_private_folder};
use crate::signing_keys::{self, Lives, Missing, Ours};
use crate::store::{self, OpenError, Presence, SchemaState, Store, StoreError};
use crate::tokens::Kind;
use crate::tokens::access::AccessTokens;
use crate::tokens::configured::{self, NoKeys};
use crate::tokens::inventory;
use crate::tokens::key_files::{KeyFileError, KeyFiles};
use crate::tokens::refresh::RefreshTokens;

/// Why there is no start. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The folder of data cannot be used.
    #[error("the folder {0}")]
    Folder(#[from] FileError),
    /// There are no keys to work with.
    #[error(transparent)]
    Keys(#[from] NoKeys),
    /// The database with which the keys have been used is gone.
    #[error(transparent)]
    DatabaseGone(DatabaseGone),
    /// Keys are missing that are still needed.
    #[error(transparent)]
    MissingKeys(MissingKeys),
}

impl From<KeyFileError> for StartError {
    fn from(error: KeyFileError) -> Self {
        Self::Keys(error.into())
    }
}

/// A database that has gone, while its keys are still there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database {} {}, but the keys in {} have been used with it: restore it from a backup; or, to sign everybody out \
     and begin anew, run `countersign keys forget --all`",
    .file.display(), if *.replaced { "is a new one" } else { "is gone" }, .keys.display()
)]
pub struct DatabaseGone {
    file: PathBuf,
    keys: PathBuf,
    /// Whether there is another in its place, which never had a server.
    replaced: bool,
}

/// Keys that are not there, and still needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKeys {
    keys: Vec<Missing>,
    folder: PathBuf,
}

impl std::error::Error for MissingKeys {}

impl std::fmt::Display for MissingKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, key) in self.keys.iter().enumerate() {
            let (kind, variable) = match key.kind {
                Kind::Access => ("access tokens", configured::ACCESS),
                Kind::Refresh => ("refresh tokens", configured::REFRESH),
            };
            let Missing { kid, until, .. } = key;
            let before = if index == 0 { "" } else { "; " };
            write!(f, "{before}the key {kid} is not there, and {kind} that it signed can be used until ")?;
            write!(f, "{}", until.to_rfc3339())?;
            if let Some(sessions) = key.sessions {
                write!(f, " ({sessions} live sessions depend on it)")?;
            }
            match key.file.as_ref().map(|name| self.folder.join(name)) {
                Some(file) if file.exists() && file.extension().is_some_and(|ending| ending == "key") => write!(
                    f,
                    ": it is in {}, which is not used while {variable} is set: put what is in it into {variable}_PREVIOUS",
                    file.display()
                )?,
                Some(file) if file.exists() => {
                    write!(f, ": it is in {}, which is not used while {variable} is set: unset that", file.display())?;
                }
                Some(file) => write!(f, ": restore {} from a backup", file.display())?,
                None => write!(
                    f,
                    ": put the secret into {variable}_PREVIOUS, or its file back into {}",
                    self.folder.display()
                )?,
            }
            write!(f, ", or give up what it signed with `countersign keys forget {kid}`")?;
        }
        Ok(())
    }
}

/// What a start begins with.
pub struct Started {
    /// The database.
    pub store: Store,
    /// What signs and verifies refresh tokens.
    pub refresh: RefreshTokens,
    /// What signs and verifies access tokens.
    pub access: AccessTokens,
    /// The same as it is told of, and kept on the list.
    pub ours: Ours,
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
pub fn begin(config: &Config, clock: &Clock) -> Result<Started, StartError> {
    let files = KeyFiles::below(&config.data_dir);
    // Before the database is looked for: another process that starts now makes that first.
    let known = files.databases()?;
    // One that other nodes may be at work on is migrated when its operator says so.
    let failed = |error| OpenError::new(&config.database, error);
    let condition = Store::inspect(&config.database).map_err(failed)?;
    let mut made = match config.database {
        // A damaged one is left as it is: this node will not be ready.
        Database::Sqlite(_) if !condition.is_damaged(true) => migrate(config)?,
        Database::Sqlite(_) | Database::Postgres(_) => Made::default(),
    };
    let store = Store::open(&config.database, condition).map_err(failed)?;
    let checked = check_list(config, &files, &store, &known, clock)?;

    let issuers = configured::issuers(config, &files)?;
    if let (None, Database::Sqlite(_)) = (&config.tokens.issuer, &config.database) {
        files.keep_issuer(&issuers.current)?;
    }
    // Another process that starts now may have been faster.
    let issuers = configured::issuers(config, &files)?;
    let mut keys_made = false;
    let refresh = configured::refresh_tokens(config, &files, &issuers, &mut keys_made)?;
    let access = configured::access_tokens(config, &files, &issuers, &mut keys_made)?;
    made.keys = keys_made.then(|| absolute(files.folder()));

    let tokens = &config.tokens;
    let lives =
        Lives { access: tokens.access_ttl, refresh: tokens.refresh_idle_ttl, session: tokens.refresh_absolute_ttl };
    let ours = Ours { keys: inventory::list(config, &files)?, issuers, lives };
    let checked = checked && is_recorded(&ours, &store, clock.now());
    if let Database::Sqlite(path) = &config.database {
        files.remember_issuer(&ours.issuers.current)?;
        // Last: where a name is here, its database knows that it was used.
        files.keep_databases(&still_there(config, &known, path))?;
    }
    Ok(Started { store, refresh, access, ours, checked, made })
}

/// Brings the database up to date, and makes an embedded one, in the folder that is its own, if there is none.
///
/// # Errors
///
/// [`StartError`]: also if there was one, and its keys are still there.
pub fn migrate(config: &Config) -> Result<Made, StartError> {
    if let Database::Sqlite(path) = &config.database {
        let files = KeyFiles::below(&config.data_dir);
        let known = files.databases()?;
        if config.makes_data_dir && !config.data_dir.exists() {
            create_private_folder(&config.data_dir)?;
        }
        if Store::is_absent(&config.database)? {
            refuse_lost(config, &files, path, &known)?;
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
    if let (Database::Sqlite(path), false) = (&config.database, used) {
        refuse_replaced(config, files, path, known)?;
    }
    let (keys, now) = (inventory::list(config, files)?, clock.now());
    match store.read_blocking(|conn| signing_keys::missing(conn, &keys, now)) {
        Ok(missing) if missing.is_empty() => {}
        Ok(keys) => return Err(StartError::MissingKeys(MissingKeys { keys, folder: absolute(files.folder()) })),
        Err(error) => return unless_shared(config, store, error),
    }
    let issuers = configured::issuers(config, files)?;
    if let Ok(strange) = store.read_blocking(|conn| signing_keys::strange_issuers(conn, &issuers, now)) {
        signing_keys::warn_of(&strange);
    }
    Ok(true)
}

/// A database that nodes share may be away when one of them starts.
fn unless_shared(config: &Config, store: &Store, error: StoreError) -> Result<bool, StartError> {
    if store.is_shared() { Ok(false) } else { Err(OpenError::new(&config.database, error).into()) }
}

/// A disk that is full lets a server start, and say that it is not ready.
fn is_recorded(ours: &Ours, store: &Store, now: Timestamp) -> bool {
    match ours.record(store, now) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(error = error.chain(), "the list of signing keys could not be written, and will be later");
            false
        }
    }
}

fn own_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The names that are to be kept: this database, and others in the same folder.
fn still_there(config: &Config, known: &[String], path: &Path) -> Vec<String> {
    let own = own_name(path);
    let mut names: Vec<String> =
        known.iter().filter(|name| **name != own && config.data_dir.join(name).exists()).cloned().collect();
    names.push(own);
    names
}

/// There is no database: refuses if there was one.
fn refuse_lost(config: &Config, files: &KeyFiles, path: &Path, known: &[String]) -> Result<(), StartError> {
    match lost(config, files, path, known)? {
        Some(gone) => Err(StartError::DatabaseGone(gone)),
        None => Ok(()),
    }
}

/// The database for which the keys have been used, where there is none now.
///
/// # Errors
///
/// If the folder of keys cannot be read.
fn lost(
    config: &Config,
    files: &KeyFiles,
    path: &Path,
    known: &[String],
) -> Result<Option<DatabaseGone>, KeyFileError> {
    let gone = |name: &str, replaced| DatabaseGone {
        file: absolute(&config.data_dir.join(name)),
        keys: absolute(files.folder()),
        replaced,
    };
    let own = own_name(path);
    if known.contains(&own) {
        return Ok(Some(gone(&own, false)));
    }
    if let Some(other) = known.iter().find(|name| !config.data_dir.join(name).exists()) {
        return Ok(Some(gone(other, false)));
    }
    // Keys of a version that did not write down for which database they were made: it always made that first.
    Ok((known.is_empty() && files.has_keys()?).then(|| gone(&own, false)))
}

/// There is a database that never had a server: refuses if there was another one in its place.
fn refuse_replaced(config: &Config, files: &KeyFiles, path: &Path, known: &[String]) -> Result<(), StartError> {
    match replaced(config, files, path, known) {
        Some(gone) => Err(StartError::DatabaseGone(gone)),
        None => Ok(()),
    }
}

fn replaced(config: &Config, files: &KeyFiles, path: &Path, known: &[String]) -> Option<DatabaseGone> {
    let own = own_name(path);
    let other = known.iter().find(|name| !config.data_dir.join(name).exists());
    let name = known.iter().find(|name| **name == own).or(other)?;
    let (file, keys) = (absolute(&config.data_dir.join(name)), absolute(files.folder()));
    Some(DatabaseGone { file, keys, replaced: *name == own })
}

/// The database with which the generated keys were used, if it has gone: there is none now, or a new one.
///
/// # Errors
///
/// If the database or the folder of keys cannot be read.
pub fn gone(config: &Config) -> Result<Option<DatabaseGone>, StartError> {
    let Database::Sqlite(path) = &config.database else { return Ok(None) };
    let files = KeyFiles::below(&config.data_dir);
    let known = files.databases()?;
    if Store::is_absent(&config.database)? {
        return Ok(lost(config, &files, path, &known)?);
    }
    if Store::look(&config.database)? != Presence::Ready {
        return Ok(None);
    }
    let failed = |error| OpenError::new(&config.database, error);
    let store = Store::open_for_operator(&config.database).map_err(failed)?;
    let used = store.read_blocking(store::signing_keys::all).map_err(failed)?;
    Ok(if used.is_empty() { replaced(config, &files, path, &known) } else { None })
}

/// What a start would be refused for, as far as files and keys go. Nothing is made by asking, and a database that nodes
/// share may be away.
pub fn check(config: &Config) -> Vec<String> {
    let files = KeyFiles::below(&config.data_dir);
    let mut found = Vec::new();
    let mut told = |problem: String| {
        if !found.contains(&problem) {
            found.push(problem);
        }
    };
    if let Err(error) = configured::check(config, &files) {
        told(error.to_string());
    }
    if let Err(error) = files.issuers_used() {
        told(error.to_string());
    }
    match &config.database {
        Database::Sqlite(path) => {
            if let Err(error) = check_place(config, path) {
                told(error.to_string());
            }
            if let Ok(Some(gone)) = gone(config) {
                told(gone.to_string());
            }
        }
        Database::Postgres(_) => {
            if let Err(error @ OpenError::Newer { .. }) = Store::look(&config.database) {
                told(error.to_string());
            }
        }
    }
    if let Ok(missing) = missing(config)
        && !missing.is_empty()
    {
        told(MissingKeys { keys: missing, folder: absolute(files.folder()) }.to_string());
    }
    found
}

fn check_place(config: &Config, path: &Path) -> Result<(), StartError> {
    if config.makes_data_dir && !config.data_dir.exists() {
        return Ok(check_writable_folder(absolute(&config.data_dir).parent().unwrap_or(Path::new("/")))?);
    }
    if Store::is_absent(&config.database)? {
        return Ok(check_writable_folder(path.parent().unwrap_or(Path::new(".")))?);
    }
    Store::look(&config.database)?;
    Ok(())
}

/// The keys that are not there and still needed, if the database can be asked.
///
/// # Errors
///
/// If it cannot.
pub fn missing(config: &Config) -> Result<Vec<Missing>, StartError> {
    let keys = inventory::list(config, &KeyFiles::below(&config.data_dir))?;
    if Store::look(&config.database)? != Presence::Ready {
        return Ok(Vec::new());
    }
    let failed = |error| OpenError::new(&config.database, error);
    let (store, clock) = (Store::open_for_operator(&config.database).map_err(failed)?, Clock::system());
    clock.follow(|| store.now_blocking()).map_err(failed)?;
    let now = clock.now();
    Ok(store.read_blocking(|conn| signing_keys::missing(conn, &keys, now)).map_err(failed)?)
}
