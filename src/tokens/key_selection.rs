//! Which keys sign and verify: the configured ones, else those that the first start makes.

use std::path::PathBuf;

use super::access::AccessTokens;
use super::key_files::{KeyFileError, KeyFiles};
use super::keys::{Asymmetric, Key, KeyError, KeyRing};
use super::refresh::RefreshTokens;
use crate::config::{Algorithm, Config, Database};
use crate::secret::Secret;

/// What the secrets are called in the environment.
pub const ACCESS: &str = "ACCESS_TOKEN_SECRET";
/// The same of refresh tokens.
pub const REFRESH: &str = "REFRESH_TOKEN_SECRET";

/// Why there are no keys to work with.
#[derive(Debug, thiserror::Error)]
pub enum NoKeys {
    /// A generated key cannot be read or made.
    #[error(transparent)]
    File(#[from] KeyFileError),
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
}

/// The keys of one kind of token, each with the file it was generated into. No file: it is configured.
pub struct Chosen<K> {
    /// What signs, and verifies.
    pub active: (Option<PathBuf>, K),
    /// What only verifies, the newest first.
    pub retired: Vec<(Option<PathBuf>, K)>,
}

impl<K> Chosen<K> {
    fn configured(active: K, retired: Vec<K>) -> Self {
        Self { active: (None, active), retired: retired.into_iter().map(|key| (None, key)).collect() }
    }

    /// Generated keys, of which the one at `active` signs. None: there is no such one.
    fn generated(mut keys: Vec<(PathBuf, K)>, active: Option<usize>) -> Option<Self> {
        let (file, key) = keys.remove(active.filter(|active| *active < keys.len())?);
        let retired = keys.into_iter().rev().map(|(file, key)| (Some(file), key)).collect();
        Some(Self { active: (Some(file), key), retired })
    }
}

/// The secrets of refresh tokens. None: none is configured, and none was made yet.
///
/// # Errors
///
/// [`NoKeys`].
pub fn refresh_secrets(config: &Config, files: &KeyFiles) -> Result<Option<Chosen<Secret>>, NoKeys> {
    let tokens = &config.tokens;
    if let Some(secret) = &tokens.refresh_secret {
        return Ok(Some(Chosen::configured(secret.clone(), tokens.refresh_secret_previous.clone())));
    }
    let secrets = files.refresh_secrets()?;
    let newest = secrets.len().checked_sub(1);
    Ok(Chosen::generated(secrets, newest))
}

/// The keys of access tokens. None: none is configured, and none of the algorithm was made yet.
///
/// # Errors
///
/// [`NoKeys`].
pub fn access_keys(config: &Config, files: &KeyFiles) -> Result<Option<Chosen<Key>>, NoKeys> {
    let tokens = &config.tokens;
    if let Some(secret) = &tokens.access_secret {
        let retired = tokens.access_secret_previous.iter().map(Key::from_secret).collect::<Result<_, _>>()?;
        return Ok(Some(Chosen::configured(Key::from_secret(secret)?, retired)));
    }
    // The newest of the algorithm signs; those of other algorithms still verify.
    let (algorithm, keys) = (asymmetric(config), generated_access_keys(files)?);
    let newest = keys.iter().rposition(|(_, made_for, _)| *made_for == algorithm);
    Ok(Chosen::generated(keys.into_iter().map(|(file, _, key)| (file, key)).collect(), newest))
}

/// Every access key that was generated, of any algorithm. None: HS256.
///
/// # Errors
///
/// [`NoKeys`].
pub fn generated_access_keys(files: &KeyFiles) -> Result<Vec<(PathBuf, Option<Asymmetric>, Key)>, NoKeys> {
    let mut keys: Vec<_> =
        files.access_keys()?.into_iter().map(|(file, made_for, key)| (file, Some(made_for), key)).collect();
    for (file, secret) in files.access_secrets()? {
        keys.push((file, None, Key::from_secret(&secret)?));
    }
    Ok(keys)
}

/// What issues and verifies refresh tokens. A key that had to be made sets `made`.
///
/// # Errors
///
/// [`NoKeys`].
pub fn refresh_tokens(
    config: &Config,
    files: &KeyFiles,
    issuers: &Issuers,
    made: &mut bool,
) -> Result<RefreshTokens, NoKeys> {
    let mut chosen = refresh_secrets(config, files)?;
    if chosen.is_none() {
        may_be_made(config, files, REFRESH)?;
        let _lock = files.lock()?;
        // Another process may have made one before it gave the lock to us.
        chosen = refresh_secrets(config, files)?;
        if chosen.is_none() {
            files.generate_refresh()?;
            *made = true;
            chosen = refresh_secrets(config, files)?;
        }
    }
    let chosen = chosen.ok_or(KeyError::Library)?;
    let retired: Vec<Secret> = chosen.retired.into_iter().map(|(_, secret)| secret).collect();
    Ok(RefreshTokens::new(&chosen.active.1, &retired, issuers.current.clone(), issuers.previous.clone())?)
}

/// What issues and verifies access tokens. A key that had to be made sets `made`.
///
/// # Errors
///
/// [`NoKeys`].
pub fn access_tokens(
    config: &Config,
    files: &KeyFiles,
    issuers: &Issuers,
    made: &mut bool,
) -> Result<AccessTokens, NoKeys> {
    let tokens = &config.tokens;
    let mut chosen = access_keys(config, files)?;
    if chosen.is_none() {
        may_be_made(config, files, ACCESS)?;
        let _lock = files.lock()?;
        chosen = access_keys(config, files)?;
        if chosen.is_none() {
            match asymmetric(config) {
                Some(algorithm) => files.generate_access(algorithm)?,
                None => files.generate_access_secret()?,
            }
            *made = true;
            chosen = access_keys(config, files)?;
        }
    }
    let chosen = chosen.ok_or(KeyError::Library)?;
    Ok(AccessTokens::new(
        KeyRing::new(chosen.active.1, chosen.retired.into_iter().map(|(_, key)| key).collect()),
        issuers.current.clone(),
        &issuers.previous,
        tokens.audience.clone(),
        tokens.client_id.clone(),
        tokens.access_ttl,
    ))
}

/// The issuer that signs, and those whose tokens still verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuers {
    /// `iss` of new tokens.
    pub current: String,
    /// Configured, or used before with the same data folder.
    pub previous: Vec<String>,
}

impl Issuers {
    /// Whether tokens of `issuer` verify.
    pub fn accept(&self, issuer: &str) -> bool {
        self.current == issuer || self.previous.iter().any(|previous| previous == issuer)
    }
}

/// The configured issuer, else that of the first start, else the address that is listened on; and the earlier ones. Several
/// nodes have no folder in common that could remember them. Nothing is made by asking.
///
/// # Errors
///
/// If a file cannot be read.
pub fn issuers(config: &Config, files: &KeyFiles) -> Result<Issuers, KeyFileError> {
    let tokens = &config.tokens;
    let current = match &tokens.issuer {
        Some(issuer) => issuer.clone(),
        None => files.issuer()?.unwrap_or_else(|| format!("http://{}", config.server.authority())),
    };
    let mut previous = tokens.previous_issuers.clone();
    if let Database::Sqlite(_) = config.database {
        let used = files.issuers_used()?;
        previous.extend(used.into_iter().filter(|issuer| !tokens.previous_issuers.contains(issuer)));
    }
    previous.retain(|issuer| *issuer != current);
    Ok(Issuers { current, previous })
}

/// Whether a start would find keys, or may make them.
///
/// # Errors
///
/// [`NoKeys`].
pub fn check(config: &Config, files: &KeyFiles) -> Result<(), NoKeys> {
    if refresh_secrets(config, files)?.is_none() {
        may_be_made(config, files, REFRESH)?;
    }
    if access_keys(config, files)?.is_none() {
        may_be_made(config, files, ACCESS)?;
    }
    Ok(())
}

/// Only the node that has the database to itself makes keys.
fn may_be_made(config: &Config, files: &KeyFiles, setting: &'static str) -> Result<(), NoKeys> {
    match config.database {
        Database::Sqlite(_) => Ok(()),
        Database::Postgres(_) => Err(NoKeys::NotShared { setting, folder: files.folder().to_owned() }),
    }
}

/// The algorithm that access tokens are signed with where no secret is configured. None: HS256.
fn asymmetric(config: &Config) -> Option<Asymmetric> {
    match config.tokens.algorithm {
        Some(Algorithm::Hs256) => None,
        Some(Algorithm::Es256) | None => Some(Asymmetric::Es256),
        Some(Algorithm::EdDsa) => Some(Asymmetric::EdDsa),
        Some(Algorithm::Rs256) => Some(Asymmetric::Rs256),
    }
}
