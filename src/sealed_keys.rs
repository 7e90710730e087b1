//! Generated access keys in a database that nodes share: read, made and taken away. Nodes have the secret of refresh tokens in
//! common, which opens them.

use crate::clock::Timestamp;
use crate::config::Algorithm;
use crate::secret::Secret;
use crate::store::access_keys::{self, AccessKey};
use crate::store::{Store, StoreError};
use crate::tokens::generated::{Held, KeySource};
use crate::tokens::key_making::private_key;
use crate::tokens::key_selection::{Chosen, asymmetric};
use crate::tokens::keys::{Asymmetric, Key, KeyError};
use crate::tokens::sealing::{self, ACCESS_KEYS};

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealedKeyError {
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was sealed under a secret that is not here.
    #[error(
        "the access key {kid} in the database is sealed under another REFRESH_TOKEN_SECRET, of the key {sealed_under}: put that \
         secret into REFRESH_TOKEN_SECRET_PREVIOUS, or give up what the key signed with `countersign keys forget {kid}`"
    )]
    Closed {
        /// Its name.
        kid: String,
        /// The name of the refresh key whose secret opens it.
        sealed_under: String,
    },
    /// It cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Every key there is, as it is kept.
///
/// # Errors
///
/// If the database gave no answer.
pub fn sealed(store: &Store) -> Result<Vec<AccessKey>, StoreError> {
    store.read_blocking(access_keys::all)
}

/// Opens keys with one of `secrets`.
///
/// # Errors
///
/// [`SealedKeyError`].
pub fn open_all(rows: &[AccessKey], secrets: &Chosen<Secret>) -> Result<Vec<Held<Key>>, SealedKeyError> {
    rows.iter().map(|row| open(row.clone(), secrets)).collect()
}

fn open(row: AccessKey, secrets: &Chosen<Secret>) -> Result<Held<Key>, SealedKeyError> {
    let AccessKey { kid, algorithm, sealed, sealed_under, made_at, signs_from } = row;
    let text =
        secrets.secrets().find_map(|secret| sealing::open(secret, ACCESS_KEYS, &name(&kid, &algorithm), &sealed));
    let of_name = [Asymmetric::Es256, Asymmetric::EdDsa, Asymmetric::Rs256].into_iter();
    let algorithm = of_name.into_iter().find(|known| known.name() == algorithm);
    let (Some(text), Some(algorithm)) = (text, algorithm) else {
        return Err(SealedKeyError::Closed { kid, sealed_under });
    };
    let key = Key::from_pem(algorithm, &text)?;
    Ok(Held { key, source: KeySource::Database, made_at: Some(made_at), signs_from: Some(signs_from) })
}

/// When a new key is made.
#[derive(Clone, Copy, Debug)]
pub enum Unless {
    /// Unless there is one of its algorithm: it is the first.
    ThereIsOne,
    /// Unless there is one that was made after this.
    MadeSince(Timestamp),
}

/// Makes a key of `algorithm`, sealed under the secret that signs refresh tokens, unless another node has been faster.
/// Returns whether it was made.
///
/// # Errors
///
/// [`SealedKeyError`].
pub fn make(
    store: &Store,
    secrets: &Chosen<Secret>,
    algorithm: Algorithm,
    (now, signs_from): (Timestamp, Timestamp),
    unless: Unless,
) -> Result<bool, SealedKeyError> {
    let (Some(kind), Some(secret)) = (asymmetric(algorithm), secrets.secrets().next()) else {
        return Err(KeyError::Library.into());
    };
    let text = Secret::new(private_key(kind)?.as_bytes());
    let key = Key::from_pem(kind, &text)?;
    let row = AccessKey {
        kid: key.kid().to_owned(),
        algorithm: kind.name().to_owned(),
        sealed: sealing::seal(secret, ACCESS_KEYS, &name(key.kid(), kind.name()), &text)?,
        sealed_under: Key::from_secret(secret)?.kid().to_owned(),
        made_at: now,
        signs_from,
    };
    Ok(store.write_blocking(move |conn| {
        access_keys::add_unless(conn, &row, |other| match unless {
            Unless::ThereIsOne => other.algorithm == row.algorithm,
            Unless::MadeSince(time) => other.algorithm == row.algorithm && other.made_at > time,
        })
    })?)
}

/// Seals every key under the secret that signs refresh tokens now, so that the one before it can be taken away.
///
/// # Errors
///
/// [`SealedKeyError`].
pub fn seal_anew(store: &Store, secrets: &Chosen<Secret>) -> Result<(), SealedKeyError> {
    let Some(active) = secrets.secrets().next() else { return Ok(()) };
    let under = Key::from_secret(active)?.kid().to_owned();
    for row in store.read_blocking(access_keys::all)? {
        let name = name(&row.kid, &row.algorithm);
        if row.sealed_under == under {
            continue;
        }
        if let Some(text) = secrets.secrets().find_map(|secret| sealing::open(secret, ACCESS_KEYS, &name, &row.sealed))
        {
            let sealed = sealing::seal(active, ACCESS_KEYS, &name, &text)?;
            let row = AccessKey { sealed, sealed_under: under.clone(), ..row };
            store.write_blocking(move |conn| access_keys::seal_anew(conn, &row))?;
        }
    }
    Ok(())
}

/// What a key is sealed as. Neither part has a space in it.
fn name(kid: &str, algorithm: &str) -> Vec<u8> {
    format!("{algorithm} {kid}").into_bytes()
}
