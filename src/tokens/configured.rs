//! Which keys sign and verify: the configured ones, else those that the first start makes.

use super::access::AccessTokens;
use super::key_files::{KeyFileError, KeyFiles};
use super::keys::{Asymmetric, Key, KeyError, KeyRing};
use super::refresh::RefreshTokens;
use crate::config::{Algorithm, Config};

/// Why there are no keys to work with.
#[derive(Debug, thiserror::Error)]
pub enum NoKeys {
    /// A generated key cannot be read or made.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A configured secret cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What issues and verifies refresh tokens. A key that had to be made sets `made`.
///
/// # Errors
///
/// [`NoKeys`].
pub fn refresh_tokens(
    config: &Config,
    files: &KeyFiles,
    issuer: &str,
    made: &mut bool,
) -> Result<RefreshTokens, NoKeys> {
    let tokens = &config.tokens;
    let (active, retired) = if let Some(secret) = &tokens.refresh_secret {
        (secret.clone(), tokens.refresh_secrets_previous.clone())
    } else {
        if files.refresh_secrets()?.is_empty() {
            files.generate_refresh()?;
            *made = true;
        }
        let mut secrets = files.refresh_secrets()?;
        (secrets.pop().ok_or(KeyError::Library)?, secrets)
    };
    Ok(RefreshTokens::new(&active, &retired, issuer.to_owned(), tokens.previous_issuers.clone())?)
}

/// What issues and verifies access tokens. A key that had to be made sets `made`.
///
/// # Errors
///
/// [`NoKeys`].
pub fn access_tokens(config: &Config, files: &KeyFiles, issuer: &str, made: &mut bool) -> Result<AccessTokens, NoKeys> {
    let tokens = &config.tokens;
    let ring = match (&tokens.access_secret, tokens.algorithm) {
        (Some(secret), _) => {
            let retired = tokens.access_secrets_previous.iter().map(Key::from_secret).collect::<Result<_, _>>()?;
            KeyRing::new(Key::from_secret(secret)?, retired)
        }
        (None, Some(Algorithm::Hs256)) => {
            if files.access_secrets()?.is_empty() {
                files.generate_access_secret()?;
                *made = true;
            }
            let mut secrets = files.access_secrets()?;
            let active = secrets.pop().ok_or(KeyError::Library)?;
            KeyRing::new(Key::from_secret(&active)?, secrets.iter().map(Key::from_secret).collect::<Result<_, _>>()?)
        }
        (None, Some(Algorithm::Es256) | None) => asymmetric(files, Asymmetric::Es256, made)?,
        (None, Some(Algorithm::EdDsa)) => asymmetric(files, Asymmetric::EdDsa, made)?,
        (None, Some(Algorithm::Rs256)) => asymmetric(files, Asymmetric::Rs256, made)?,
    };
    Ok(AccessTokens::new(
        ring,
        issuer.to_owned(),
        &tokens.previous_issuers,
        tokens.audience.clone(),
        tokens.client_id.clone(),
        tokens.access_ttl,
    ))
}

/// The newest generated key of the algorithm signs; those of earlier algorithms still verify.
fn asymmetric(files: &KeyFiles, algorithm: Asymmetric, made: &mut bool) -> Result<KeyRing, NoKeys> {
    if !files.access_keys()?.iter().any(|(made_for, _)| *made_for == algorithm) {
        files.generate_access(algorithm)?;
        *made = true;
    }
    let mut keys = files.access_keys()?;
    let newest = keys.iter().rposition(|(made_for, _)| *made_for == algorithm).ok_or(KeyError::Library)?;
    let (_, active) = keys.remove(newest);
    Ok(KeyRing::new(active, keys.into_iter().map(|(_, key)| key).collect()))
}
