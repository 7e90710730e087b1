//! A database without its keys, and keys without their database.

use std::path::{Path, PathBuf};

use super::StartError;
use crate::config::{Config, Database};
use crate::files::absolute;
use crate::signing_keys::Missing;
use crate::store::{self, OpenError, Presence, Store};
use crate::tokens::Kind;
use crate::tokens::configured;
use crate::tokens::key_files::{KeyFileError, KeyFiles};

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
    pub(super) keys: Vec<Missing>,
    /// Where generated ones are kept.
    pub(super) folder: PathBuf,
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
                    write!(
                        f,
                        ": it is in {}, which is not used while {variable} is set: unset that, or wait until then",
                        file.display()
                    )?;
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

fn own_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The names that are to be kept: this database, and others in the same folder.
pub(super) fn still_there(config: &Config, known: &[String], path: &Path) -> Vec<String> {
    let own = own_name(path);
    let mut names: Vec<String> =
        known.iter().filter(|name| **name != own && config.data_dir.join(name).exists()).cloned().collect();
    names.push(own);
    names
}

/// There is no database: refuses if there was one.
pub(super) fn refuse_lost(config: &Config, files: &KeyFiles, path: &Path, known: &[String]) -> Result<(), StartError> {
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
pub(super) fn refuse_replaced(
    config: &Config,
    files: &KeyFiles,
    path: &Path,
    known: &[String],
) -> Result<(), StartError> {
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
