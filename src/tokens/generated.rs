//! A key with what is known of it: where it comes from, and from when on it signs.

use std::path::PathBuf;

use super::keys::Key;
use crate::clock::Timestamp;
use crate::secret::Secret;

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The configuration.
    Configured,
    /// It was generated into this file.
    File(PathBuf),
    /// It was generated into the database that nodes share.
    Database,
}

/// A key that there is.
pub struct Held<K> {
    /// The key itself.
    pub key: K,
    /// Where it is kept.
    pub source: KeySource,
    /// When it was generated.
    pub made_at: Option<Timestamp>,
    /// It signs from then on. None: as soon as it is there.
    pub signs_from: Option<Timestamp>,
}

impl<K> Held<K> {
    /// One that is configured.
    pub fn configured(key: K) -> Self {
        Self { key, source: KeySource::Configured, made_at: None, signs_from: None }
    }

    /// Whether it may sign.
    pub fn has_begun(&self, now: Timestamp) -> bool {
        self.signs_from.is_none_or(|from| from <= now)
    }
}

/// Every key that was generated, in the order in which they were made.
#[derive(Default)]
pub struct Generated {
    /// Of access tokens, of any algorithm.
    pub access: Vec<Held<Key>>,
    /// Of refresh tokens.
    pub refresh: Vec<Held<Secret>>,
}
