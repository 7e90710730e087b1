//! Access keys as they are kept in a database that nodes share: sealed, so that a copy of it holds none.
//!
//! AES-256-GCM under a key derived from the secret of refresh tokens, which every node has. What is sealed can be opened only
//! as the key of the name and algorithm that it was sealed as.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::keys::{KeyError, derive};
use crate::secret::Secret;

/// What else that secret is used for has other words here.
const PURPOSE: &[u8] = b"countersign sealed access keys v1";

/// Seals `text` as the key `kid` of an algorithm. The nonce comes first.
///
/// # Errors
///
/// If the cryptographic library fails.
pub fn seal(secret: &Secret, (kid, algorithm): (&str, &str), text: &Secret) -> Result<Vec<u8>, KeyError> {
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_unspecified| KeyError::Library)?;
    let mut sealed = text.expose().to_vec();
    let bound_to = Aad::from(name(kid, algorithm));
    let done = key(secret)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound_to, &mut sealed);
    done.map_err(|_unspecified| KeyError::Library)?;
    Ok([&nonce, sealed.as_slice()].concat())
}

/// Opens what [`seal`] has made. `None`: it was sealed under another secret, as another key, or has been changed.
pub fn open(secret: &Secret, (kid, algorithm): (&str, &str), sealed: &[u8]) -> Option<Secret> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = Zeroizing::new(sealed.to_vec());
    let opened = key(secret).ok()?.open_in_place(nonce, Aad::from(name(kid, algorithm)), &mut text).ok()?;
    Some(Secret::new(&*opened))
}

fn key(secret: &Secret) -> Result<LessSafeKey, KeyError> {
    let mut material = Zeroizing::new([0; 32]);
    derive(secret, PURPOSE, material.as_mut())?;
    UnboundKey::new(&AES_256_GCM, material.as_ref()).map(LessSafeKey::new).map_err(|_unspecified| KeyError::Library)
}

/// Neither part has a space in it.
fn name(kid: &str, algorithm: &str) -> Vec<u8> {
    format!("{algorithm} {kid}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: (&str, &str) = ("a-kid", "ES256");

    #[test]
    fn what_is_sealed_opens_with_the_same_secret_and_as_the_same_key_only() {
        let (secret, other) = (Secret::new([7; 32]), Secret::new([8; 32]));
        let text = Secret::new("-----BEGIN PRIVATE KEY-----");
        let sealed = seal(&secret, NAME, &text).unwrap();
        assert!(!sealed.windows(11).any(|part| part == b"PRIVATE KEY"));
        assert_eq!(open(&secret, NAME, &sealed).unwrap().expose(), text.expose());
        assert!(open(&other, NAME, &sealed).is_none());
        assert!(open(&secret, ("b-kid", "ES256"), &sealed).is_none());
        assert!(open(&secret, ("a-kid", "EdDSA"), &sealed).is_none());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(open(&secret, NAME, &changed).is_none(), "byte {place}");
            assert!(open(&secret, NAME, &sealed[..place]).is_none(), "{place} bytes");
        }
    }

    #[test]
    fn the_same_key_is_never_sealed_twice_to_the_same_bytes() {
        let (secret, text) = (Secret::new([7; 32]), Secret::new("text"));
        assert_ne!(seal(&secret, NAME, &text).unwrap(), seal(&secret, NAME, &text).unwrap());
    }
}
