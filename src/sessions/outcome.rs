//! What a refresh came to, and the events that it is.

use super::rotation::{Refusal, Reuse};
use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::sessions::{Ended, RotatedRow};
use crate::tokens::refresh::{IssuedToken, Refused};
use crate::tokens::{ChainPosition, SignError};

/// Why a refresh token cannot be used: the `reason` beside `invalid_grant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBecause {
    /// Unreadable, edited, or not signed by a key of ours.
    Malformed,
    /// Past its time, or its session's.
    Expired,
    /// Its session has been ended.
    Revoked,
    /// It was used by another client; its session has just been ended.
    Reused,
}

impl RefusedBecause {
    /// Every reason.
    pub(crate) const ALL: [Self; 4] = [Self::Malformed, Self::Expired, Self::Revoked, Self::Reused];

    /// The `reason` member.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Reused => "reused",
        }
    }
}

/// Why a refresh gave no pair.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The token cannot be used. Clients throw their tokens away on this.
    #[error("the refresh token cannot be used: {}", .0.as_str())]
    Refused(RefusedBecause),
    /// A late duplicate: there is a newer pair, which the client has or is about to get.
    #[error("a late duplicate")]
    Conflict,
    /// No honest client asks so often. The seconds to wait.
    #[error("too many refreshes")]
    TooMany(u64),
    /// It cannot be told; try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A token could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<Refused> for RefreshError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed => Self::Refused(RefusedBecause::Malformed),
            Refused::Expired => Self::Refused(RefusedBecause::Expired),
            Refused::UnknownKey => Self::Store(StoreError::Unavailable(refused.into())),
        }
    }
}

/// What the transaction came to. A refusal is an outcome and not an error: what it wrote must be committed.
#[derive(Clone)]
pub(super) enum Outcome {
    Granted(Grant),
    Refused(Refusal),
    Conflict,
    Reused(Reuse, Ended),
}

impl Outcome {
    /// The events that it is, in this order. `event` says whose, and where from.
    pub(super) fn events(&self, event: &Event) -> Vec<Event> {
        let of_kind = |kind| event.clone().of_kind(kind);
        match self {
            Self::Granted(grant) => {
                let behind = (grant.kind == Kind::Behind).then(|| of_kind(Kind::Behind));
                let streak = grant.streak.filter(|streak| *streak >= 3);
                let streak = streak.map(|streak| of_kind(Kind::RepeatStreak).count(streak.into()));
                let granted = of_kind(if behind.is_some() { Kind::Rotated } else { grant.kind });
                behind.into_iter().chain(streak).chain([granted]).collect()
            }
            Self::Refused(Refusal::Ahead) => vec![of_kind(Kind::Behind).detail("refused")],
            Self::Refused(Refusal::Expired | Refusal::Revoked) => Vec::new(),
            Self::Conflict => vec![of_kind(Kind::Conflict)],
            Self::Reused(reuse, _) => vec![of_kind(Kind::Reused).detail(reuse.as_str())],
        }
    }

    /// Whether it has written anything that its user should read of later. A refusal can be had as often as one asks.
    pub(super) fn is_kept(&self) -> bool {
        match self {
            Self::Granted(grant) => grant.kind != Kind::Rotated,
            Self::Reused(..) => true,
            Self::Refused(_) | Self::Conflict => false,
        }
    }
}

/// A pair to be handed out.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) kind: Kind,
    pub(super) issued: IssuedToken,
    pub(super) position: ChainPosition,
    pub(super) issued_at: Timestamp,
    pub(super) access_expires_at: Timestamp,
    pub(super) idle_expires_at: Timestamp,
    pub(super) rotated_row: RotatedRow,
    pub(super) streak: Option<u32>,
}
