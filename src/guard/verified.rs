//! The access tokens that a worker has verified lately: a client sends the same one many times, and checking a signature
//! takes longer than all the rest of a guarded request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::tokens::access::{AccessTokens, Bearer, Genuine};
use crate::tokens::jws::Rejected;

/// Tokens in one of the two halves.
const HALF: usize = 512;

/// One for each worker, so that no worker waits for another. A token is known by all of its text, and only ever after its
/// signature was checked; its times are checked each time.
#[derive(Default)]
pub(crate) struct Verified(RefCell<Halves>);

/// When the young half is full, the old one is forgotten and they change places.
#[derive(Default)]
struct Halves {
    /// The keys they were verified with. Other keys empty the cache.
    access: Option<Arc<AccessTokens>>,
    young: HashMap<Box<str>, Genuine>,
    old: HashMap<Box<str>, Genuine>,
}

impl Verified {
    /// What `token` says, if it is one of ours ([`AccessTokens::read`]) and in time.
    ///
    /// # Errors
    ///
    /// [`Rejected`].
    pub(crate) fn verify(&self, access: &Arc<AccessTokens>, token: &str, now: Timestamp) -> Result<Bearer, Rejected> {
        let mut halves = self.0.borrow_mut();
        if halves.access.as_ref().is_none_or(|known| !Arc::ptr_eq(known, access)) {
            *halves = Halves { access: Some(Arc::clone(access)), ..Halves::default() };
        }
        if let Some(genuine) = halves.young.get(token) {
            if genuine.is_in_time(now) {
                return Ok(genuine.bearer.clone());
            }
            halves.forget(token);
            return Err(Rejected);
        }
        let genuine = match halves.old.remove(token) {
            Some(genuine) => genuine,
            None => access.read(token)?,
        };
        if !genuine.is_in_time(now) {
            return Err(Rejected);
        }
        let bearer = genuine.bearer.clone();
        halves.remember(token, genuine);
        Ok(bearer)
    }

    /// A token that may not be used any more.
    pub(crate) fn forget(&self, token: &str) {
        self.0.borrow_mut().forget(token);
    }
}

impl Halves {
    fn remember(&mut self, token: &str, genuine: Genuine) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token.into(), genuine);
    }

    fn forget(&mut self, token: &str) {
        self.young.remove(token);
        self.old.remove(token);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{SessionId, UserId};
    use crate::secret::Secret;
    use crate::tokens::ChainPosition;
    use crate::tokens::access::Authentication;
    use crate::tokens::claims::ExtraClaims;
    use crate::tokens::keys::{Key, KeyRing};

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    fn access() -> Arc<AccessTokens> {
        access_of(7)
    }

    fn access_of(secret: u8) -> Arc<AccessTokens> {
        let ring = KeyRing::new(Key::from_secret(&Secret::new([secret; 32])).unwrap(), Vec::new());
        Arc::new(AccessTokens::new(
            ring,
            "http://issuer.test".into(),
            &[],
            Vec::new(),
            "countersign".into(),
            Duration::from_secs(900),
        ))
    }

    fn token(access: &AccessTokens) -> String {
        let bearer = Bearer {
            user_id: UserId::generate(),
            session_id: SessionId::generate(),
            position: ChainPosition::FIRST,
            roles: vec!["admin".into()],
            expires_at: NOW.plus(Duration::from_secs(900)),
            authentication: Authentication { at: Some(NOW), mfa: false },
            claims: ExtraClaims::default(),
        };
        access.issue(&bearer, NOW).unwrap().0
    }

    fn known(verified: &Verified) -> usize {
        let halves = verified.0.borrow();
        halves.young.len() + halves.old.len()
    }

    #[test]
    fn a_token_is_the_same_the_second_time() {
        let (access, verified) = (access(), Verified::default());
        let token = token(&access);
        let first = verified.verify(&access, &token, NOW).unwrap();
        assert_eq!(known(&verified), 1);
        assert_eq!(verified.verify(&access, &token, NOW).unwrap(), first);
        assert_eq!(access.read(&token).unwrap().bearer, first);
    }

    #[test]
    fn a_known_token_is_judged_by_the_time_at_which_it_comes() {
        let (access, verified) = (access(), Verified::default());
        let token = token(&access);
        verified.verify(&access, &token, NOW).unwrap();
        // Its first second is further ahead than clocks may differ.
        assert!(verified.verify(&access, &token, NOW.minus(Duration::from_secs(6))).is_err());
        verified.verify(&access, &token, NOW.plus(Duration::from_secs(899))).unwrap();
        assert!(verified.verify(&access, &token, NOW.plus(Duration::from_secs(900))).is_err());
        assert_eq!(known(&verified), 0, "it is forgotten when it ends");
    }

    #[test]
    fn what_is_not_genuine_is_never_known_however_like_a_known_one_it_is() {
        let (access, verified) = (access(), Verified::default());
        let token = token(&access);
        verified.verify(&access, &token, NOW).unwrap();
        for place in [0, token.len() / 2, token.len() - 1] {
            let mut edited = token.clone().into_bytes();
            edited[place] = if edited[place] == b'A' { b'B' } else { b'A' };
            assert!(verified.verify(&access, std::str::from_utf8(&edited).unwrap(), NOW).is_err());
        }
        assert!(verified.verify(&access, &token[..token.len() - 1], NOW).is_err());
        assert_eq!(known(&verified), 1);
    }

    #[test]
    fn only_so_many_are_kept_and_those_in_use_stay() {
        let (access, verified) = (access(), Verified::default());
        let kept = token(&access);
        for _ in 0..3 * HALF {
            verified.verify(&access, &token(&access), NOW).unwrap();
            verified.verify(&access, &kept, NOW).unwrap();
        }
        assert!(known(&verified) <= 2 * HALF);
        let halves = verified.0.borrow();
        assert!(halves.young.contains_key(kept.as_str()) || halves.old.contains_key(kept.as_str()));
        drop(halves);
        verified.forget(&kept);
        let halves = verified.0.borrow();
        assert!(!halves.young.contains_key(kept.as_str()) && !halves.old.contains_key(kept.as_str()));
    }

    /// Removing a key also invalidates the cached tokens that it signed.
    #[test]
    fn a_known_token_is_verified_anew_when_the_keys_are_others() {
        let (access, verified) = (access(), Verified::default());
        let token = token(&access);
        verified.verify(&access, &token, NOW).unwrap();
        assert!(verified.verify(&access_of(8), &token, NOW).is_err());
        verified.verify(&access_of(7), &token, NOW).unwrap();
    }

    #[test]
    fn what_is_forgotten_is_forgotten_wherever_it_was() {
        let (access, verified) = (access(), Verified::default());
        let kept = token(&access);
        verified.verify(&access, &kept, NOW).unwrap();
        for _ in 0..HALF {
            verified.verify(&access, &token(&access), NOW).unwrap();
        }
        assert!(verified.0.borrow().old.contains_key(kept.as_str()));
        verified.forget(&kept);
        assert!(!verified.0.borrow().old.contains_key(kept.as_str()));
    }
}
