//! What is kept in a database but must not be readable in a copy of it: sealed under a key that is not in the database.
//!
//! AES-256-GCM under a key derived from a secret of refresh tokens, which every node has. What is sealed for one purpose, and
//! as one thing, opens for and as nothing else.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::key_selection::Chosen;
use super::keys::{Key, KeyError, derive};
use crate::secret::Secret;

/// What a derived key is used for. No two purposes have a key in common.
#[derive(Clone, Copy, Debug)]
pub struct Purpose(&'static str);

impl Purpose {
    /// One that nothing else is called.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }
}

/// Generated access keys in a database that nodes share.
pub const ACCESS_KEYS: Purpose = Purpose::new("countersign sealed access keys v1");

/// Secrets of second factors, bound to the id of their user.
pub const SECOND_FACTORS: Purpose = Purpose("countersign second factors v1");
/// What carries a log-in from the password to the second factor.
pub const MFA_TOKENS: Purpose = Purpose("countersign mfa tokens v1");

/// Seals `text` as the thing that `bound_to` names. The nonce comes first.
///
/// # Errors
///
/// If the cryptographic library fails.
pub fn seal(secret: &Secret, purpose: Purpose, bound_to: &[u8], text: &Secret) -> Result<Vec<u8>, KeyError> {
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_unspecified| KeyError::Library)?;
    let mut sealed = text.expose().to_vec();
    let key = key(secret, purpose)?;
    let done = key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound_to), &mut sealed);
    done.map_err(|_unspecified| KeyError::Library)?;
    Ok([&nonce, sealed.as_slice()].concat())
}

/// Opens what [`seal`] has made. `None`: it was sealed under another secret, for another purpose, as another thing, or has been
/// changed.
pub fn open(secret: &Secret, purpose: Purpose, bound_to: &[u8], sealed: &[u8]) -> Option<Secret> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = Zeroizing::new(sealed.to_vec());
    let opened = key(secret, purpose).ok()?.open_in_place(nonce, Aad::from(bound_to), &mut text).ok()?;
    Some(Secret::new(&*opened))
}

fn material(secret: &Secret, purpose: Purpose) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut material = Zeroizing::new([0; 32]);
    derive(secret, purpose.0.as_bytes(), material.as_mut())?;
    Ok(material)
}

fn key(secret: &Secret, purpose: Purpose) -> Result<LessSafeKey, KeyError> {
    let key = UnboundKey::new(&AES_256_GCM, material(secret, purpose)?.as_ref());
    key.map(LessSafeKey::new).map_err(|_unspecified| KeyError::Library)
}

/// What was sealed, and the name of the refresh key whose secret opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// `kid` of the refresh key.
    pub under: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

/// The secrets that seal and open: the one that signs refresh tokens seals, and each of them opens.
pub struct SealingKeys {
    /// With the `kid` of each; the one that seals first.
    secrets: Vec<(String, Secret)>,
}

impl SealingKeys {
    /// Of the secrets of refresh tokens.
    ///
    /// # Errors
    ///
    /// If the cryptographic library fails.
    pub fn new(chosen: &Chosen<Secret>) -> Result<Self, KeyError> {
        let named = |secret: &Secret| Ok((Key::from_secret(secret)?.kid().to_owned(), secret.clone()));
        Ok(Self { secrets: chosen.secrets().map(named).collect::<Result<_, KeyError>>()? })
    }

    /// Seals `text` as the thing that `bound_to` names.
    ///
    /// # Errors
    ///
    /// If there is no secret, or the cryptographic library fails.
    pub fn seal(&self, purpose: Purpose, bound_to: &[u8], text: &Secret) -> Result<Sealed, KeyError> {
        let (kid, secret) = self.secrets.first().ok_or(KeyError::Library)?;
        Ok(Sealed { under: kid.clone(), bytes: seal(secret, purpose, bound_to, text)? })
    }

    /// Opens what [`SealingKeys::seal`] has made. `None`: the secret is not here, or it was sealed for another purpose, as
    /// another thing, or has been changed.
    pub fn open(&self, purpose: Purpose, bound_to: &[u8], sealed: &Sealed) -> Option<Secret> {
        let (_, secret) = self.secrets.iter().find(|(kid, _)| *kid == sealed.under)?;
        open(secret, purpose, bound_to, &sealed.bytes)
    }

    /// The `kid` of the key that seals now. What stands under another one is to be sealed anew.
    pub fn active(&self) -> Option<&str> {
        self.secrets.first().map(|(kid, _)| kid.as_str())
    }

    /// HMAC-SHA-256 of `message` under a key derived for `purpose` from the secret that seals.
    ///
    /// # Errors
    ///
    /// If there is no secret, or the cryptographic library fails.
    pub fn authenticate(&self, purpose: Purpose, message: &[u8]) -> Result<[u8; 32], KeyError> {
        let (_, secret) = self.secrets.first().ok_or(KeyError::Library)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, material(secret, purpose)?.as_ref());
        hmac::sign(&key, message).as_ref().try_into().map_err(|_length| KeyError::Library)
    }

    /// Whether `tag` is what [`SealingKeys::authenticate`] makes of `message`, under any of the secrets. Takes as long
    /// whatever the tag.
    pub fn is_authentic(&self, purpose: Purpose, message: &[u8], tag: &[u8]) -> bool {
        self.secrets.iter().any(|(_, secret)| {
            let material = material(secret, purpose);
            material
                .is_ok_and(|key| hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), message, tag).is_ok())
        })
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.secrets.iter().map(|(kid, _)| kid)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::generated::Held;

    const NAME: &[u8] = b"ES256 a-kid";
    const OTHER: Purpose = Purpose("another purpose");

    #[test]
    fn a_seal_opens_with_its_secret_for_its_purpose_and_as_its_thing_only() {
        let (secret, other) = (Secret::new([7; 32]), Secret::new([8; 32]));
        let text = Secret::new("-----BEGIN PRIVATE KEY-----");
        let sealed = seal(&secret, ACCESS_KEYS, NAME, &text).unwrap();
        assert!(!sealed.windows(11).any(|part| part == b"PRIVATE KEY"));
        assert_eq!(open(&secret, ACCESS_KEYS, NAME, &sealed).unwrap().expose(), text.expose());
        assert!(open(&other, ACCESS_KEYS, NAME, &sealed).is_none());
        assert!(open(&secret, OTHER, NAME, &sealed).is_none());
        assert!(open(&secret, ACCESS_KEYS, b"ES256 b-kid", &sealed).is_none());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(open(&secret, ACCESS_KEYS, NAME, &changed).is_none(), "byte {place}");
            assert!(open(&secret, ACCESS_KEYS, NAME, &sealed[..place]).is_none(), "{place} bytes");
        }
    }

    #[test]
    fn the_same_text_is_never_sealed_twice_to_the_same_bytes() {
        let (secret, text) = (Secret::new([7; 32]), Secret::new("text"));
        assert_ne!(seal(&secret, ACCESS_KEYS, NAME, &text).unwrap(), seal(&secret, ACCESS_KEYS, NAME, &text).unwrap());
    }

    #[test]
    fn the_newest_secret_seals_and_every_one_that_is_left_opens() {
        let keys = |secrets: &[u8]| {
            let mut secrets = secrets.iter().map(|byte| Held::configured(Secret::new([*byte; 32])));
            let active = secrets.next();
            SealingKeys::new(&Chosen { active, next: Vec::new(), retired: secrets.collect() }).unwrap()
        };
        let (before, after, without) = (keys(&[1]), keys(&[2, 1]), keys(&[2]));
        let sealed = before.seal(ACCESS_KEYS, NAME, &Secret::new("text")).unwrap();
        let tag = before.authenticate(OTHER, b"message").unwrap();
        for (keys, opens) in [(&before, true), (&after, true), (&without, false)] {
            assert_eq!(keys.open(ACCESS_KEYS, NAME, &sealed).is_some(), opens);
            assert_eq!(keys.is_authentic(OTHER, b"message", &tag), opens);
            assert!(!keys.is_authentic(OTHER, b"another message", &tag));
            assert!(!keys.is_authentic(ACCESS_KEYS, b"message", &tag));
        }
        let anew = after.seal(ACCESS_KEYS, NAME, &Secret::new("text")).unwrap();
        assert_eq!(Some(anew.under.as_str()), after.active());
        assert!(without.open(ACCESS_KEYS, NAME, &anew).is_some());
        assert!(before.open(ACCESS_KEYS, NAME, &anew).is_none());
        assert!(!format!("{before:?}").contains("1, 1"));
    }
}
