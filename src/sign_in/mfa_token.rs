//! What carries a log-in from the password to the second factor: nothing is stored. It is sealed under a key of its own, so
//! that no other token is one, and it is none of theirs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::secret::Secret;
use crate::store::sessions::Transport;
use crate::tokens::keys::KeyError;
use crate::tokens::sealing::{MFA_TOKENS, Sealed, SealingKeys};

/// How long it can be used.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// No token is longer: nothing else is decoded.
const LONGEST: usize = 4096;

/// A log-in whose password was right, and what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HalfWay {
    pub(super) user: UserId,
    /// SHA-256 of the hash that the password was verified against.
    pub(super) password: [u8; 32],
    pub(super) device_name: Option<String>,
    pub(super) transport: Transport,
    pub(super) remember: bool,
}

/// The same as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    user: UserId,
    password: [u8; 32],
    device_name: Option<String>,
    cookie: bool,
    remember: bool,
    /// Seconds since 1970.
    expires_at: i64,
}

impl HalfWay {
    /// A token for it: the name of the key, and what is sealed under that.
    pub(super) fn seal(&self, keys: &SealingKeys, now: Timestamp) -> Result<Secret, KeyError> {
        let written = Written {
            user: self.user,
            password: self.password,
            device_name: self.device_name.clone(),
            cookie: self.transport == Transport::Cookie,
            remember: self.remember,
            expires_at: now.plus(LIFETIME).as_seconds(),
        };
        let text = serde_json::to_vec(&written).map_err(|_unserialisable| KeyError::Library)?;
        let Sealed { under, bytes } = keys.seal(MFA_TOKENS, b"", &Secret::new(text))?;
        Ok(Secret::new(format!("{under}.{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// What a token was made for. `None`: it is none of ours, or can no longer be used.
    pub(super) fn open(token: &str, keys: &SealingKeys, now: Timestamp) -> Option<Self> {
        let (under, bytes) = token.split_once('.').filter(|_| token.len() <= LONGEST)?;
        let sealed = Sealed { under: under.to_owned(), bytes: URL_SAFE_NO_PAD.decode(bytes).ok()? };
        let text = keys.open(MFA_TOKENS, b"", &sealed)?;
        let written: Written = serde_json::from_slice(text.expose()).ok()?;
        let Written { user, password, device_name, cookie, remember, expires_at } = written;
        let transport = if cookie { Transport::Cookie } else { Transport::Body };
        let in_time = now < Timestamp::from_seconds(expires_at);
        in_time.then_some(Self { user, password, device_name, transport, remember })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::generated::Held;
    use crate::tokens::key_selection::Chosen;
    use crate::tokens::sealing::SECOND_FACTORS;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn keys(secret: u8, retired: &[u8]) -> SealingKeys {
        let held = |byte: u8| Held::configured(Secret::new([byte; 32]));
        let retired = retired.iter().copied().map(held).collect();
        SealingKeys::new(&Chosen { active: Some(held(secret)), next: Vec::new(), retired }).unwrap()
    }

    fn half_way() -> HalfWay {
        HalfWay {
            user: UserId::generate(),
            password: [7; 32],
            device_name: Some("Ada's téléphone".into()),
            transport: Transport::Cookie,
            remember: false,
        }
    }

    fn token(half_way: &HalfWay, keys: &SealingKeys) -> String {
        String::from_utf8(half_way.seal(keys, NOW).unwrap().expose().to_vec()).unwrap()
    }

    #[test]
    fn a_token_says_for_five_minutes_what_the_log_in_asked_for() {
        let (half_way, keys) = (half_way(), keys(1, &[]));
        let token = token(&half_way, &keys);
        let after = |seconds| HalfWay::open(&token, &keys, NOW.plus(Duration::from_secs(seconds)));
        assert_eq!(after(0), Some(half_way.clone()));
        assert_eq!(after(299), Some(half_way));
        assert_eq!(after(300), None);
        assert!(!token.contains("Ada"), "{token}");
        assert_eq!(token.split('.').count(), 2, "a JWT has three parts");
    }

    #[test]
    fn a_token_opens_with_its_key_only_and_unchanged() {
        let (half_way, before) = (half_way(), keys(1, &[]));
        let token = token(&half_way, &before);
        assert_eq!(HalfWay::open(&token, &keys(2, &[1]), NOW), Some(half_way));
        assert_eq!(HalfWay::open(&token, &keys(2, &[]), NOW), None);
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(HalfWay::open(&changed, &before, NOW), None, "{place}");
            assert_eq!(HalfWay::open(&token[..place], &before, NOW), None);
        }
        // Sealed by the same key, for another purpose.
        let other = before.seal(SECOND_FACTORS, b"", &Secret::new("{}")).unwrap();
        let other = format!("{}.{}", other.under, URL_SAFE_NO_PAD.encode(other.bytes));
        assert_eq!(HalfWay::open(&other, &before, NOW), None);
    }
}
