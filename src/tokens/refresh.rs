//! Refresh tokens: long-lived, used once, and each derived from the one before it.
//!
//! A successor is a function of the presented token, the session's salt and a key that is not in the
//! database, so the same answer can be given twice although no token is stored. See `docs/rotation.md`
//! for why.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::jws::{self, Rejected};
use super::key_reading::KeyReading;
use super::keys::{Key, KeyError, KeyRing, derive};
use super::{ChainPosition, Kind, SignError};
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::secret::Secret;

/// Separates this use of the rotation key from any later one.
const CONTEXT: &[u8] = b"countersign rotation v1";

/// Random bytes, kept in the session row, that make a successor unlike any other.
pub type Salt = [u8; 16];

/// A refresh token in the clear. It goes to the client and nowhere else: it has no `Debug` that shows it.
#[derive(Clone)]
pub struct RefreshToken(Zeroizing<String>);

impl RefreshToken {
    /// The token, for the one answer that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(…)")
    }
}

/// SHA-256 of a whole refresh token: all that the database keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// The claims, in the order in which they are written and for ever stay: a repeated token must be the same bytes.
#[derive(Clone, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    sxp: i64,
    r#gen: u32,
    br: u32,
    jti: String,
    iat: i64,
    exp: i64,
}

/// A refresh token that was presented and that we did sign. Only the database knows whether it is still good.
#[derive(Clone)]
pub struct Presented {
    claims: Claims,
    jti: Zeroizing<[u8; 32]>,
    kid: String,
    digest: TokenDigest,
}

impl Presented {
    /// Whose it is; claim `sub`.
    pub fn user_id(&self) -> UserId {
        self.claims.sub
    }

    /// Its session; claim `sid`.
    pub fn session_id(&self) -> SessionId {
        self.claims.sid
    }

    /// Its place in the session's history; claims `gen` and `br`.
    pub fn position(&self) -> ChainPosition {
        ChainPosition { generation: self.claims.r#gen, branch: self.claims.br }
    }

    /// When the session ends, however often it is refreshed; claim `sxp`.
    pub fn session_expires_at(&self) -> Timestamp {
        Timestamp::from_seconds(self.claims.sxp)
    }

    /// When it ends itself, if it is not refreshed; claim `exp`.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_seconds(self.claims.exp)
    }

    /// When it was issued; claim `iat`.
    pub fn issued_at(&self) -> Timestamp {
        Timestamp::from_seconds(self.claims.iat)
    }

    /// The key it was signed with.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What the database knows it by.
    pub fn digest(&self) -> TokenDigest {
        self.digest
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presented({} at {})", self.session_id(), self.position())
    }
}

/// Why a refresh token is refused before the database is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Unreadable, edited, or signed by a key that is not ours.
    #[error("not a refresh token of ours")]
    Malformed,
    /// It names a key that may be a new one of ours: it cannot be told.
    #[error("the refresh token may be of a key that has not been read yet")]
    UnknownKey,
    /// Past its `exp`.
    #[error("the refresh token has expired")]
    Expired,
}

impl From<Rejected> for Refused {
    fn from(_: Rejected) -> Self {
        Self::Malformed
    }
}

/// A token just made, and its digest.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// For the client.
    pub token: RefreshToken,
    /// For the database.
    pub digest: TokenDigest,
}

/// Who signs refresh tokens, and the keys that derive them.
pub struct RefreshTokens {
    ring: KeyRing,
    /// By `kid`; derived from the same secret as the signing key of that name, and not equal to it.
    rotation_keys: HashMap<String, hmac::Key>,
    issuer: String,
    previous_issuers: Vec<String>,
    reading: KeyReading,
}

impl RefreshTokens {
    /// `active` signs; `retired` still verify, and still repeat what they signed.
    ///
    /// # Errors
    ///
    /// If the cryptographic library fails.
    pub fn new(
        active: &Secret,
        retired: &[Secret],
        issuer: String,
        previous_issuers: Vec<String>,
    ) -> Result<Self, KeyError> {
        let mut rotation_keys = HashMap::new();
        for secret in retired.iter().chain([active]) {
            let mut material = Zeroizing::new([0; 32]);
            derive(secret, CONTEXT, material.as_mut())?;
            let key = hmac::Key::new(hmac::HMAC_SHA256, material.as_ref());
            rotation_keys.insert(Key::from_secret(secret)?.kid().to_owned(), key);
        }
        let retired = retired.iter().map(Key::from_secret).collect::<Result<_, _>>()?;
        let ring = KeyRing::new(Key::from_secret(active)?, retired);
        Ok(Self { ring, rotation_keys, issuer, previous_issuers, reading: KeyReading::default() })
    }

    /// The same with keys that are read again and again.
    #[must_use]
    pub fn reading(self, reading: KeyReading) -> Self {
        Self { reading, ..self }
    }

    /// The name of the key that signs.
    pub fn active_kid(&self) -> &str {
        self.ring.active().map_or("", Key::kid)
    }

    /// Whether it cannot be told what a key has signed, for it may be a new one of ours.
    pub fn cannot_tell_of(&self, kid: &str) -> bool {
        !self.reading.is_complete() && self.ring.find(kid).is_none()
    }

    /// Whether it cannot be told if a token is one of ours: it names such a key.
    pub fn cannot_tell(&self, token: &str) -> bool {
        !self.reading.is_complete() && jws::names_unknown_key(Kind::Refresh, &self.ring, token)
    }

    /// Reads a presented token: signature, kind, issuer, audience and `exp`. No query, and `iat` does not matter.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing is written for a token refused here.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Presented, Refused> {
        let verified = jws::verify::<Claims>(Kind::Refresh, &self.ring, token)
            .map_err(|rejected| if self.cannot_tell(token) { Refused::UnknownKey } else { rejected.into() })?;
        let claims = verified.claims;
        let ours = std::iter::once(&self.issuer)
            .chain(&self.previous_issuers)
            .any(|issuer| claims.iss == *issuer && claims.aud == audience(issuer));
        let jti = URL_SAFE_NO_PAD.decode(&claims.jti).ok().and_then(|jti| <[u8; 32]>::try_from(jti).ok());
        let (true, Some(jti)) = (ours, jti.map(Zeroizing::new)) else { return Err(Refused::Malformed) };
        if claims.exp <= now.as_seconds() {
            return Err(Refused::Expired);
        }
        Ok(Presented { claims, jti, kid: verified.key.kid().to_owned(), digest: TokenDigest::of(token) })
    }

    /// The first token of a session: its `jti` is random, as there is nothing to derive it from.
    ///
    /// # Errors
    ///
    /// If the random source or the key fails.
    pub fn first(
        &self,
        user_id: UserId,
        session_id: SessionId,
        session_expires_at: Timestamp,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<IssuedToken, SignError> {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: audience(&self.issuer),
            sub: user_id,
            sid: session_id,
            sxp: session_expires_at.as_seconds(),
            r#gen: ChainPosition::FIRST.generation,
            br: ChainPosition::FIRST.branch,
            jti: URL_SAFE_NO_PAD.encode(random::<32>()?),
            iat: issued_at.as_seconds(),
            exp: expires_at.as_seconds(),
        };
        let key = self.ring.find(self.active_kid()).ok_or_else(|| SignError("no active key".into()))?;
        mint(key, &claims)
    }

    /// The token that follows `presented` at `position`: a function of its arguments alone, so the same call gives the
    /// same bytes. `None` if `kid` names no key any more.
    ///
    /// # Errors
    ///
    /// If the key cannot sign.
    pub fn successor(
        &self,
        presented: &Presented,
        kid: &str,
        position: ChainPosition,
        salt: &Salt,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Option<IssuedToken>, SignError> {
        let (Some(key), Some(rotation_key)) = (self.ring.find(kid), self.rotation_keys.get(kid)) else {
            return Ok(None);
        };
        let mut hmac = hmac::Context::with_key(rotation_key);
        hmac.update(CONTEXT);
        hmac.update(presented.session_id().as_bytes());
        hmac.update(&position.generation.to_be_bytes());
        hmac.update(&position.branch.to_be_bytes());
        hmac.update(salt);
        hmac.update(presented.jti.as_ref());
        let claims = Claims {
            r#gen: position.generation,
            br: position.branch,
            jti: URL_SAFE_NO_PAD.encode(hmac.sign()),
            iat: issued_at.as_seconds(),
            exp: expires_at.as_seconds(),
            ..presented.claims.clone()
        };
        mint(key, &claims).map(Some)
    }
}

impl fmt::Debug for RefreshTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshTokens").field("ring", &self.ring).finish_non_exhaustive()
    }
}

/// Salt for one statement.
///
/// # Errors
///
/// If the system has no randomness to give.
pub fn fresh_salt() -> Result<Salt, SignError> {
    random()
}

fn random<const N: usize>() -> Result<[u8; N], SignError> {
    let mut bytes = [0; N];
    match rand::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(SignError(error.to_string().into())),
    }
}

fn mint(key: &Key, claims: &Claims) -> Result<IssuedToken, SignError> {
    let token = jws::sign(Kind::Refresh, key, claims)?;
    Ok(IssuedToken { digest: TokenDigest::of(&token), token: RefreshToken(Zeroizing::new(token)) })
}

/// A refresh token is meant for the endpoint that exchanges it, and for nothing else.
fn audience(issuer: &str) -> String {
    format!("{issuer}/v1/auth/refresh")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(active: u8, retired: &[u8]) -> RefreshTokens {
        let secret = |byte: &u8| Secret::new(vec![*byte; 32]);
        let retired: Vec<_> = retired.iter().map(secret).collect();
        RefreshTokens::new(&secret(&active), &retired, "http://issuer.test".into(), Vec::new()).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// A token that was handed out must be reproducible by every later version: this text may never change.
    #[test]
    fn the_bytes_of_a_successor_never_change() {
        let tokens = tokens(7, &[]);
        let user = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let session = "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap();
        let claims = Claims {
            iss: "http://issuer.test".into(),
            aud: audience("http://issuer.test"),
            sub: user,
            sid: session,
            sxp: 9_000,
            r#gen: 4,
            br: 1,
            jti: URL_SAFE_NO_PAD.encode([9; 32]),
            iat: 1_000,
            exp: 5_000,
        };
        let key = tokens.ring.find(tokens.active_kid()).unwrap();
        let old = mint(key, &claims).unwrap();
        let presented = tokens.verify(old.token.expose(), at(1_001)).unwrap();
        let position = presented.position().next_generation();
        let next = tokens
            .successor(&presented, tokens.active_kid(), position, &[3; 16], at(1_001), at(5_001))
            .unwrap()
            .unwrap();
        assert_eq!(next.token.expose(), include_str!("successor.golden").trim_end());
    }

    #[test]
    fn every_input_of_the_derivation_matters() {
        let tokens = tokens(7, &[8]);
        let old = tokens.first(UserId::generate(), SessionId::generate(), at(9_000), at(1_000), at(5_000)).unwrap();
        let presented = tokens.verify(old.token.expose(), at(1_000)).unwrap();
        let derive = |kid: &str, position, salt| {
            let next = tokens.successor(&presented, kid, position, &salt, at(1_001), at(5_001)).unwrap().unwrap();
            tokens.verify(next.token.expose(), at(1_001)).unwrap().claims.jti
        };
        let other_kid = tokens.ring.find(Key::from_secret(&Secret::new([8; 32])).unwrap().kid()).unwrap().kid();
        let position = ChainPosition { generation: 1, branch: 0 };
        let base = derive(tokens.active_kid(), position, [3; 16]);
        assert_eq!(base, derive(tokens.active_kid(), position, [3; 16]));
        assert_ne!(base, derive(other_kid, position, [3; 16]));
        assert_ne!(base, derive(tokens.active_kid(), ChainPosition { generation: 2, branch: 0 }, [3; 16]));
        assert_ne!(base, derive(tokens.active_kid(), ChainPosition { generation: 1, branch: 1 }, [3; 16]));
        assert_ne!(base, derive(tokens.active_kid(), position, [4; 16]));
    }

    /// A token is expired at its very exp and forged when one character differs.
    #[test]
    fn a_token_is_expired_at_exp_and_forged_when_a_character_differs() {
        let tokens = tokens(7, &[]);
        let issued = tokens.first(UserId::generate(), SessionId::generate(), at(9_000), at(1_000), at(5_000)).unwrap();
        let token = issued.token.expose();
        assert!(tokens.verify(token, at(4_999)).is_ok());
        assert_eq!(tokens.verify(token, at(5_000)).unwrap_err(), Refused::Expired);
        for position in [0, token.len() / 2, token.len() - 1] {
            let mut edited = token.as_bytes().to_vec();
            edited[position] = if edited[position] == b'A' { b'B' } else { b'A' };
            let edited = String::from_utf8(edited).unwrap();
            assert_eq!(tokens.verify(&edited, at(1_000)).unwrap_err(), Refused::Malformed);
        }
        assert_eq!(tokens.verify(&format!("{token} "), at(1_000)).unwrap_err(), Refused::Malformed);
    }

    #[test]
    fn nothing_prints_a_token() {
        let tokens = tokens(7, &[]);
        let issued = tokens.first(UserId::generate(), SessionId::generate(), at(9_000), at(1_000), at(5_000)).unwrap();
        let presented = tokens.verify(issued.token.expose(), at(1_000)).unwrap();
        let printed = format!("{issued:?} {presented:?} {tokens:?}");
        assert!(!printed.contains(issued.token.expose()) && !printed.contains("eyJ"), "{printed}");
    }
}
