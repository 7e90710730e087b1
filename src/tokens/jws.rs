//! The one strict reading of a compact JWS.
//!
//! jsonwebtoken checks the signature; everything it lets through besides (`crit`, foreign `typ`,
//! embedded keys, an `alg` that is no string, headers as arrays, tokens of a megabyte …) is refused
//! here, before the signature is looked at. A token is read in this order: size and characters, three
//! parts, header, key by `kid`, signature with that key's one algorithm, payload into a typed struct.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::keys::{Key, KeyRing};
use super::{Kind, SignError};

/// Longer tokens are refused unread (RFC 8725 names no bound; ours are under 7 KiB).
const MAX_BYTES: usize = 8 * 1024;

/// The token proves nothing: unreadable, of another kind, or not signed by one of our keys.
///
/// One value for all causes, so that no answer can tell them apart.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a token of ours")]
pub struct Rejected;

/// The header of every token we issue has these three members and no other, so a token with any
/// other (`crit`, `jwk`, `jku`, `x5u`, `x5c`, `zip`, `enc`, `b64` …) is not ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// A verified token: who signed it, and what it says.
#[derive(Debug)]
pub struct Verified<'a, C> {
    /// The key whose signature it bears.
    pub key: &'a Key,
    /// The payload.
    pub claims: C,
    payload: &'a str,
}

impl<C> Verified<'_, C> {
    /// The payload once more, as something else. `None`: it is not that.
    pub fn read_as<T: DeserializeOwned>(&self) -> Option<T> {
        read_object(self.payload).ok()
    }
}

/// Signs `claims`, a JSON object, with `key`.
///
/// # Errors
///
/// If the key cannot sign.
pub fn sign(kind: Kind, key: &Key, claims: &impl serde::Serialize) -> Result<String, SignError> {
    let payload = serde_json::to_vec(claims).map_err(|error| SignError(error.into()))?;
    let mut token = String::with_capacity(1024);
    token.push_str(key.encoded_header(kind));
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&signature);
    Ok(token)
}

/// Reads a token of `kind` and checks its signature. Says nothing about its times.
///
/// # Errors
///
/// [`Rejected`] whenever the token is not one that a key of `ring` signed as this kind.
pub fn verify<'a, C: DeserializeOwned>(
    kind: Kind,
    ring: &'a KeyRing,
    token: &'a str,
) -> Result<Verified<'a, C>, Rejected> {
    if token.len() > MAX_BYTES {
        return Err(Rejected);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Rejected)?;
    let (header, payload) = message.split_once('.').ok_or(Rejected)?;

    let header: Header = read_object(header)?;
    if !kind.matches(&header.typ) {
        return Err(Rejected);
    }
    let key = ring.find(&header.kid).ok_or(Rejected)?;
    if header.alg != key.algorithm_name() || !key.verifies(message.as_bytes(), signature) {
        return Err(Rejected);
    }
    Ok(Verified { key, claims: read_object(payload)?, payload })
}

/// Whether a token of `kind` names a key that is not in `ring`. Nothing about it is proved by that.
pub fn names_unknown_key(kind: Kind, ring: &KeyRing, token: &str) -> bool {
    let header = token.split('.').next().filter(|header| header.len() <= MAX_BYTES);
    let header = header.and_then(|header| read_object::<Header>(header).ok());
    header.is_some_and(|header| kind.matches(&header.typ) && ring.find(&header.kid).is_none())
}

/// A part is strict unpadded base64url of one JSON object in UTF-8, also where it is not read (RFC 7519
/// section 7.2). serde would skip other bytes in a member it ignores, and fill a struct from an array.
fn read_object<T: DeserializeOwned>(part: &str) -> Result<T, Rejected> {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(part) else { return Err(Rejected) };
    match str::from_utf8(&bytes) {
        Ok(text) if text.trim_ascii_start().starts_with('{') => serde_json::from_str(text).map_err(|_error| Rejected),
        _ => Err(Rejected),
    }
}
