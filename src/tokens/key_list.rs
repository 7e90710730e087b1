//! The keys that are in use, as they may be told of: never what is in them.

use std::fs;
use std::path::PathBuf;

use super::Kind;
use super::key_files::KeyFiles;
use super::key_selection::{self, NoKeys};
use super::keys::Key;
use crate::clock::Timestamp;
use crate::config::Config;

/// A key that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the headers of its tokens.
    pub kid: String,
    /// The kind of token it is for.
    pub kind: Kind,
    /// `alg` in the headers of its tokens.
    pub algorithm: &'static str,
    /// Whether it signs; if not, it only verifies.
    pub active: bool,
    /// The file it was generated into. None: it is configured.
    pub file: Option<PathBuf>,
    /// When that was written.
    pub made_at: Option<Timestamp>,
}

/// Every key in use, those that sign before those of their kind that only verify. None is made by asking.
///
/// # Errors
///
/// If a key cannot be read or used.
pub fn list(config: &Config, files: &KeyFiles) -> Result<Vec<Entry>, NoKeys> {
    let mut entries = Vec::new();
    if let Some(chosen) = key_selection::access_keys(config, files)? {
        entries.push(entry(Kind::Access, true, chosen.active));
        entries.extend(chosen.retired.into_iter().map(|key| entry(Kind::Access, false, key)));
    } else {
        // The one that will sign is still to be made; those of other algorithms verify.
        let others = key_selection::generated_access_keys(files)?.into_iter();
        entries.extend(others.map(|(file, _, key)| entry(Kind::Access, false, (Some(file), key))));
    }
    if let Some(chosen) = key_selection::refresh_secrets(config, files)? {
        let (file, secret) = chosen.active;
        entries.push(entry(Kind::Refresh, true, (file, Key::from_secret(&secret)?)));
        for (file, secret) in chosen.retired {
            entries.push(entry(Kind::Refresh, false, (file, Key::from_secret(&secret)?)));
        }
    }
    Ok(entries)
}

fn entry(kind: Kind, active: bool, (file, key): (Option<PathBuf>, Key)) -> Entry {
    let written = file.as_ref().and_then(|file| fs::metadata(file).ok()?.modified().ok());
    let made_at = written.map(Timestamp::from);
    Entry { kid: key.kid().to_owned(), kind, algorithm: key.algorithm_name(), active, file, made_at }
}
