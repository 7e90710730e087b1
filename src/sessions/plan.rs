//! The rotation that a refresh hopes to be.

use std::time::Duration;

use super::Lifetimes;
use crate::clock::Timestamp;
use crate::store::sessions::{Device, NextToken, Rotation};
use crate::tokens::SignError;
use crate::tokens::refresh::{IssuedToken, Presented, RefreshTokens, Salt};

/// What a rotation is made of that does not change between two tries.
pub(super) struct Plan<'a> {
    pub(super) tokens: &'a RefreshTokens,
    pub(super) lifetimes: Lifetimes,
    pub(super) access_lifetime: Duration,
    pub(super) presented: &'a Presented,
    pub(super) now: Timestamp,
}

impl Plan<'_> {
    /// The rotation of a session that is to be remembered, or not, and the token that it hands out.
    pub(super) fn rotation(
        &self,
        remember: bool,
        salt: Salt,
        device: Device,
    ) -> Result<(Rotation, IssuedToken), SignError> {
        let Self { presented, now, .. } = *self;
        let position = presented.position().next_generation();
        let active = self.tokens.active_kid();
        let idle_expires_at = self.lifetimes.idle_end(remember, now, presented.session_expires_at());
        let issued = self
            .tokens
            .successor(presented, active, position, &salt, now, idle_expires_at)?
            .ok_or_else(|| SignError("the active key is missing".into()))?;
        let next = NextToken {
            position,
            salt,
            key_id: active.to_owned(),
            token_hash: issued.digest,
            now,
            access_expires_at: now.floor_second().plus(self.access_lifetime).min(idle_expires_at),
            idle_expires_at,
            device,
        };
        let (id, from, digest) = (presented.session_id(), presented.position(), presented.digest());
        Ok((Rotation { id, from, presented: digest, next, remember }, issued))
    }
}
