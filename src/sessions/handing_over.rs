//! What a refresh was granted becomes a pair of tokens.

use super::claims::{Added, extra};
use super::outcome::{Grant, RefreshError};
use super::{Handed, Sessions, TokenPair};
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::store::sessions::Origin;
use crate::tokens::access::{Authentication, Bearer};

impl Sessions {
    /// Signs the access token that goes with a refresh token, and says how both are handed out.
    pub(super) fn hand_over(
        &self,
        user_id: UserId,
        session_id: SessionId,
        grant: Grant,
        now: Timestamp,
        added: Added,
    ) -> Result<TokenPair, RefreshError> {
        let transport = grant.rotated_row.transport();
        let Origin { mfa, created_at, claims } = grant.rotated_row.origin;
        let bearer = Bearer {
            user_id,
            session_id,
            position: grant.position,
            roles: grant.rotated_row.roles.into_names(),
            expires_at: grant.access_expires_at,
            authentication: Authentication { at: Some(created_at), mfa },
            claims: extra(claims.as_deref(), added),
        };
        let granted = Some(grant.kind);
        let handed = Handed { transport, remember: grant.rotated_row.remember, until: grant.idle_expires_at };
        let pair = self.pair(&bearer, now, grant.issued_at, grant.issued.token, handed)?;
        Ok(TokenPair { granted, ..pair })
    }
}
