//! The keys of a server: read from the configuration, the data folder and the database that nodes share, and made where there
//! are none yet.

use super::StartError;
use crate::clock::Timestamp;
use crate::config::{Config, Database};
use crate::sealed_keys::{self, SealedKeyError, Unless};
use crate::signing_keys::{Lives, Ours};
use crate::store::access_keys::AccessKey;
use crate::store::{Store, StoreError};
use crate::tokens::access::AccessTokens;
use crate::tokens::generated::Generated;
use crate::tokens::key_files::KeyFiles;
use crate::tokens::key_reading::{KeyReading, LEAST_NOTICE};
use crate::tokens::key_selection::{self, ACCESS, Issuers, REFRESH, Selection, algorithm, asymmetric, refresh_secrets};
use crate::tokens::keys::KeyError;
use crate::tokens::refresh::RefreshTokens;
use crate::tokens::sealing::SealingKeys;

/// What signs and verifies.
pub struct Keys {
    /// Refresh tokens.
    pub refresh: RefreshTokens,
    /// Access tokens.
    pub access: AccessTokens,
    /// What is sealed in the database.
    pub sealing: SealingKeys,
    /// The keys of both as they are told of, and kept on the list.
    pub ours: Ours,
    /// When generated keys were last read.
    pub reading: KeyReading,
    /// Whether all of them could be read. A database that nodes share may be away.
    pub complete: bool,
}

/// Every key that there is, by what it does at a time.
pub struct Found {
    /// The keys.
    pub selection: Selection,
    /// Why those in the database that nodes share could not be read.
    pub away: Option<StoreError>,
}

/// The keys in the database that nodes share, as they are kept there. None: no key is kept in it.
///
/// # Errors
///
/// If the database gave no answer.
pub fn sealed(config: &Config, store: &Store) -> Result<Option<Vec<AccessKey>>, StoreError> {
    if are_shared(config) { sealed_keys::sealed(store).map(Some) } else { Ok(None) }
}

/// The keys in the data folder, and these of the database.
///
/// # Errors
///
/// If one cannot be read or used.
pub(super) fn select(
    config: &Config,
    files: &KeyFiles,
    sealed: Option<&[AccessKey]>,
    now: Timestamp,
) -> Result<Selection, StartError> {
    let Generated { mut access, refresh } = files.generated()?;
    let refresh = refresh_secrets(config, refresh, now);
    access.extend(sealed_keys::open_all(sealed.unwrap_or_default(), &refresh)?);
    Ok(Selection { access: key_selection::access_keys(config, access, now)?, refresh })
}

/// Whether generated access keys are kept in the database, which nodes share.
pub fn are_shared(config: &Config) -> bool {
    matches!(config.database, Database::Postgres(_)) && config.tokens.access_secret.is_none()
}

/// Reads every key that there is. None is made by asking. Without a store, those in the database are left out.
///
/// # Errors
///
/// If one cannot be read or used.
pub fn find(config: &Config, files: &KeyFiles, store: Option<&Store>, now: Timestamp) -> Result<Found, StartError> {
    let (sealed, away) = match store.map_or(Ok(None), |store| sealed(config, store)) {
        Ok(sealed) => (sealed, None),
        Err(error) => (None, Some(error)),
    };
    Ok(Found { selection: select(config, files, sealed.as_deref(), now)?, away })
}

/// The same, and makes what is missing, which sets `made` if it is a file. Only the node that has the database to itself has
/// files made, and only at its start.
pub(super) fn find_or_make(
    config: &Config,
    files: &KeyFiles,
    store: &Store,
    now: Timestamp,
    made: Option<&mut bool>,
) -> Result<Found, StartError> {
    let found = find(config, files, Some(store), now)?;
    let Selection { access, refresh } = &found.selection;
    let (no_access, no_refresh) = (access.active.is_none(), refresh.active.is_none());
    if are_shared(config) {
        if no_refresh {
            return Err(missing(REFRESH, config, files));
        }
        if !no_access || found.away.is_some() {
            return Ok(found);
        }
        // Nodes that sign with a key of another algorithm must know this one before it signs.
        let from = if access.retired.is_empty() { now } else { now.plus(LEAST_NOTICE * 2) };
        let first = sealed_keys::make(store, refresh, algorithm(config), (now, from), Unless::ThereIsOne);
        return match first {
            Ok(_) => find(config, files, Some(store), now),
            Err(SealedKeyError::Store(error)) => Ok(Found { away: Some(error), ..found }),
            Err(error) => Err(error.into()),
        };
    }
    if !(no_access || no_refresh) {
        return Ok(found);
    }
    let (Database::Sqlite(_), Some(made)) = (&config.database, made) else {
        return Err(missing(if no_refresh { REFRESH } else { ACCESS }, config, files));
    };
    let _lock = files.lock()?;
    // Another process may have made them before it gave the lock to us.
    let found = find(config, files, None, now)?;
    if found.selection.refresh.active.is_none() {
        files.generate_refresh(None)?;
        *made = true;
    }
    if found.selection.access.active.is_none() {
        files.generate_access(asymmetric(algorithm(config)), None)?;
        *made = true;
    }
    find(config, files, None, now)
}

/// There is no key, and none may be made.
pub(super) fn missing(setting: &'static str, config: &Config, files: &KeyFiles) -> StartError {
    let folder = files.folder().to_owned();
    match config.database {
        Database::Sqlite(_) => StartError::NoKeys { setting, folder },
        Database::Postgres(_) => StartError::NotShared { setting, folder },
    }
}

/// Builds signers and verifiers from the keys and a configuration.
pub(super) fn keys(config: &Config, found: Found, issuers: Issuers, reading: KeyReading) -> Result<Keys, KeyError> {
    let Found { selection, away } = found;
    let (entries, tokens) = (selection.entries()?, &config.tokens);
    let sealing = SealingKeys::new(&selection.refresh)?;
    let (access, refresh) = selection.into_tokens(config, &issuers, &reading)?;
    let lives = Lives {
        access: tokens.access_ttl,
        refresh: tokens.refresh_idle_ttl,
        session: tokens.refresh_absolute_ttl,
        recovery: config.rotation.recovery,
    };
    let ours = Ours { keys: entries, issuers, lives };
    Ok(Keys { refresh, access, sealing, ours, reading, complete: away.is_none() })
}
