//! A database without its keys, and keys without their database.

use std::path::{Path, PathBuf};

use super::StartError;
use crate::config::{Config, Database};
use crate::files::absolute;
use crate::signing_keys::Missing;
use crate::store::{self, DatabaseState, OpenError, Store};
use crate::tokens::Kind;
use crate::tokens::key_files::{KeyFileError, KeyFiles};
use crate::tokens::key_selection;

/// Another database than the one that is to be used has been in use with the folder of keys, which remembers its name even
/// where the keys themselves are configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseGone {
    /// It is gone.
    #[error("the database {} is gone, and has been in use, as {} remembers: {RESTORE}", .file.display(), .keys.display())]
    Lost {
        /// Where it was.
        file: PathBuf,
        /// Where they are.
        keys: PathBuf,
    },
    /// There is one in its place that never had a server.
    #[error("the database {} is a new one, and another has been in use in its place, as {} remembers: {RESTORE}", .file.display(), .keys.display())]
    Replaced {
        /// Where it was.
        file: PathBuf,
        /// Where they are.
        keys: PathBuf,
    },
    /// It is there, by another name.
    #[error(
        "the database {}, which is there, has been in use, as {} remembers, and {} is a new one: mend database.url, or give \
         the new one a folder of its own",
        .file.display(), .keys.display(), .new.display()
    )]
    Elsewhere {
        /// The one that was used.
        file: PathBuf,
        /// Where they are.
        keys: PathBuf,
        /// The one that was to be used.
        new: PathBuf,
    },
}

const RESTORE: &str =
    "restore it from a backup; or, to sign all users out and begin anew, run `countersign keys forget --all`";

/// Keys that are not there, and still needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKeys {
    pub(super) keys: Vec<Missing>,
    /// Where generated ones are kept.
    pub(super) folder: PathBuf,
}

impl std::error::Error for MissingKeys {}

impl std::fmt::Display for MissingKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, key) in self.keys.iter().enumerate() {
            let (kind, variable) = match key.kind {
                Kind::Access => ("access tokens", key_selection::ACCESS),
                Kind::Refresh => ("refresh tokens", key_selection::REFRESH),
            };
            let Missing { kid, until, .. } = key;
            let before = if index == 0 { "" } else { "; " };
            write!(f, "{before}the key {kid} is not there, and ")?;
            if key.signed_nothing() {
                write!(f, "second factors are sealed under it: {}", key.second_factors)?;
            } else {
                write!(f, "{kind} that it signed can be used until {}", until.to_rfc3339())?;
                if let Some(sessions) = key.sessions {
                    write!(f, " (live sessions that depend on it: {sessions})")?;
                }
                if key.second_factors > 0 {
                    write!(f, " (second factors sealed under it: {})", key.second_factors)?;
                }
            }
            match key.file.as_ref().map(|name| self.folder.join(name)) {
                Some(file) if file.exists() && file.extension().is_some_and(|ending| ending == "key") => write!(
                    f,
                    ": it is in {}, which is not used while {variable} is set: put what is in it into {variable}_PREVIOUS",
                    file.display()
                )?,
                Some(file) if file.exists() => {
                    write!(
                        f,
                        ": it is in {}, which is not used while {variable} is set: unset that, or wait until then",
                        file.display()
                    )?;
                }
                Some(file) => write!(f, ": restore {} from a backup", file.display())?,
                None if key.in_database => write!(
                    f,
                    ": it is in the database, and is not used while {variable} is set: unset that, or wait until then"
                )?,
                None => write!(
                    f,
                    ": put the secret into {variable}_PREVIOUS, or its file back into {}",
                    self.folder.display()
                )?,
            }
            write!(f, ", or give up what it signed with `countersign keys forget {kid}`")?;
            if key.second_factors > 0 {
                write!(f, ", which takes --yes")?;
            }
        }
        Ok(())
    }
}

fn own_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The names that are to be kept: this database, and copies of it in the same folder.
pub(super) fn still_there(config: &Config, known: &[String], path: &Path) -> Vec<String> {
    let own = own_name(path);
    let mut names: Vec<String> = known.iter().filter(|name| **name != own && is_there(config, name)).cloned().collect();
    names.push(own);
    names
}

fn is_there(config: &Config, name: &str) -> bool {
    config.data_dir.join(name).exists()
}

/// There is no database, or one that never had a server: the one that the keys were used with, if they were.
///
/// # Errors
///
/// If the folder of keys cannot be read.
pub(super) fn used_with_another(
    config: &Config,
    files: &KeyFiles,
    path: &Path,
    known: &[String],
    absent: bool,
) -> Result<Option<DatabaseGone>, KeyFileError> {
    let (new, keys, own) = (absolute(path), absolute(files.folder()), own_name(path));
    let file = |name: &String| absolute(&config.data_dir.join(name));
    if known.contains(&own) {
        let file = new;
        return Ok(Some(if absent {
            DatabaseGone::Lost { file, keys }
        } else {
            DatabaseGone::Replaced { file, keys }
        }));
    }
    if let Some(other) = known.iter().find(|name| is_there(config, name)) {
        return Ok(Some(DatabaseGone::Elsewhere { file: file(other), keys, new }));
    }
    if let Some(other) = known.first() {
        return Ok(Some(DatabaseGone::Lost { file: file(other), keys }));
    }
    // Keys of a version that did not write down for which database they were made: it always made that first.
    Ok((absent && files.has_keys()?).then_some(DatabaseGone::Lost { file: new, keys }))
}

/// The same of a configuration. None: the keys and the database belong together, as far as this goes.
///
/// # Errors
///
/// If the database or the folder of keys cannot be read.
pub fn gone(config: &Config) -> Result<Option<DatabaseGone>, StartError> {
    let Database::Sqlite(path) = &config.database else { return Ok(None) };
    let files = KeyFiles::below(&config.data_dir);
    let known = files.databases()?;
    let absent = Store::is_absent(&config.database)?;
    if !absent {
        if Store::find(&config.database)? != DatabaseState::Ready {
            return Ok(None);
        }
        let failed = |error| OpenError::new(&config.database, error);
        let store = Store::open_for_operator(&config.database).map_err(failed)?;
        if !store.read_blocking(store::signing_keys::all).map_err(failed)?.is_empty() {
            return Ok(None);
        }
    }
    Ok(used_with_another(config, &files, path, &known, absent)?)
}
