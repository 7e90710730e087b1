//! What a start would be refused for, found without making anything.

use std::path::Path;

use super::StartError;
use super::keys;
use super::lost::{MissingKeys, gone};
use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::files::{absolute, check_writable_folder};
use crate::signing_keys::{self, Missing};
use crate::store::{DatabaseState, OpenError, Store};
use crate::tokens::key_files::KeyFiles;
use crate::tokens::key_selection;

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
    if let Err(error) = check_keys(config, &files) {
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
        Database::Postgres(_) => {}
    }
    match missing(config) {
        Ok(keys) if keys.is_empty() => {}
        Ok(keys) => told(MissingKeys { keys, folder: absolute(files.folder()) }.to_string()),
        Err(StartError::Database(error @ OpenError::Newer { .. })) => told(error.to_string()),
        Err(StartError::Database(error)) if matches!(config.database, Database::Sqlite(_)) => told(error.to_string()),
        Err(error @ StartError::SealedKey(_)) => told(error.to_string()),
        // Told already, or a server that is away, which a start would wait for.
        Err(_) => {}
    }
    found
}

/// Whether a start would find keys, or may make them.
fn check_keys(config: &Config, files: &KeyFiles) -> Result<(), StartError> {
    let selection = keys::find(config, files, None, Clock::system().now())?.selection;
    let is_refused = matches!(config.database, Database::Postgres(_)) && selection.refresh.active.is_none();
    if is_refused { Err(keys::missing(key_selection::REFRESH, config, files)) } else { Ok(()) }
}

fn check_place(config: &Config, path: &Path) -> Result<(), StartError> {
    if config.makes_data_dir && !config.data_dir.exists() {
        return Ok(check_writable_folder(absolute(&config.data_dir).parent().unwrap_or(Path::new("/")))?);
    }
    if Store::is_absent(&config.database)? {
        return Ok(check_writable_folder(path.parent().unwrap_or(Path::new(".")))?);
    }
    Store::find(&config.database)?;
    Ok(())
}

/// The keys that are not there and still needed, if the database can be asked.
///
/// # Errors
///
/// If it cannot.
pub fn missing(config: &Config) -> Result<Vec<Missing>, StartError> {
    let files = KeyFiles::below(&config.data_dir);
    if Store::find(&config.database)? != DatabaseState::Ready {
        keys::find(config, &files, None, Clock::system().now())?;
        return Ok(Vec::new());
    }
    let failed = |error| OpenError::new(&config.database, error);
    let (store, clock) = (Store::open_for_operator(&config.database).map_err(failed)?, Clock::system());
    clock.follow(|| store.now_blocking()).map_err(failed)?;
    let (recovery, now) = (config.rotation.recovery, clock.now());
    let found = keys::find(config, &files, Some(&store), now)?;
    if let Some(error) = found.away {
        return Err(failed(error).into());
    }
    let keys = found.selection.entries()?;
    Ok(store.read_blocking(|conn| signing_keys::missing(conn, &keys, recovery, now)).map_err(failed)?)
}
