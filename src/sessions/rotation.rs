//! What a presented refresh token means: a pure function of the row, the token, the time and the policy.
//! `docs/rotation.md` says why each line is as it is.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::store::sessions::SessionRow;
use crate::tokens::ChainPosition;
use crate::tokens::refresh::{Presented, RefreshTokens, TokenDigest};

/// How lenient, and for how long; section `rotation` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long duplicates of a refresh get the same answer. Zero: never.
    pub overlap: Duration,
    /// How long a lost answer can be replaced. Zero: never.
    pub recovery: Duration,
    /// How often, in one generation.
    pub max_recoveries: u32,
    /// Whether to believe a token that is ahead of a restored database.
    pub adopt_ahead: bool,
    /// Generations running that an overlap may be answered to a second address. Zero: no bound.
    pub max_repeat_streak: u32,
}

/// A presented token, as far as the verdict depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Where it stands.
    pub position: ChainPosition,
    /// What the database would know it by.
    pub digest: TokenDigest,
    /// Whether its own `exp` has passed.
    pub expired: bool,
    /// Whether the active key signed it.
    pub active_key: bool,
    /// The key that signed it.
    pub kid: &'a str,
    /// When it was issued, as it says itself.
    pub issued_at: Timestamp,
    /// Where it came from.
    pub ip_address: Option<&'a str>,
}

impl<'a> Claim<'a> {
    /// What a verdict on a presented token depends on besides the row.
    pub(super) fn of(
        presented: &'a Presented,
        tokens: &RefreshTokens,
        now: Timestamp,
        ip_address: Option<&'a str>,
    ) -> Self {
        Self {
            position: presented.position(),
            digest: presented.digest(),
            expired: presented.expires_at() <= now,
            active_key: presented.kid() == tokens.active_kid(),
            kid: presented.kid(),
            issued_at: presented.issued_at(),
            ip_address,
        }
    }
}

/// A moment further in the future than this was told by a clock that was ahead, and says nothing about how long ago it was.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// What to do about a token that the rotating statement did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the current token after all: try the statement again.
    Current,
    /// Give the same answer again. `streak`: this generation is now one of so many, running, that were
    /// answered to a second address, and it has not been counted yet.
    Repeat {
        /// What to count, if anything.
        streak: Option<u32>,
    },
    /// Its successor was lost: give another in its place.
    Recover,
    /// The database was restored from an older copy: believe the token and rotate from it.
    Adopt,
    /// A late duplicate: no tokens, nothing revoked.
    Conflict,
    /// It cannot be used; nothing is written.
    Refuse(Refusal),
    /// It was used by a client that should not have had it: end the session.
    Reused(Reuse),
}

/// Why a token cannot be used, though no client has done anything wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The session has been ended, or is not known any more.
    Revoked,
    /// The session has reached its end.
    Expired,
    /// The token is ahead of the database, which is not to be believed.
    Ahead,
}

/// How a token came to be used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// The one before the current, too late or after it was confirmed to be replaced.
    Previous,
    /// A successor that a recovery has replaced.
    Displaced,
    /// One from further back.
    Older,
    /// A second token for the current place.
    Forked,
}

impl Reuse {
    /// The name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Previous => "previous",
            Self::Displaced => "displaced",
            Self::Older => "older",
            Self::Forked => "forked",
        }
    }
}

/// Judges a token that was not taken as the current one. See the table in `docs/rotation.md`.
///
/// A token past its own `exp` is no evidence of theft, and starts nothing; but an answer that was lost
/// shortly before can still be fetched.
pub fn judge(row: Option<&SessionRow>, claim: &Claim<'_>, now: Timestamp, policy: &Policy) -> Verdict {
    match judge_in_time(row, claim, now, policy) {
        fetched @ (Verdict::Repeat { .. } | Verdict::Recover | Verdict::Conflict) => fetched,
        _ if claim.expired => Verdict::Refuse(Refusal::Expired),
        verdict => verdict,
    }
}

fn judge_in_time(row: Option<&SessionRow>, claim: &Claim<'_>, now: Timestamp, policy: &Policy) -> Verdict {
    let Some(row) = row else { return Verdict::Refuse(Refusal::Revoked) };
    if row.expiry.revoked_at.is_some() {
        return Verdict::Refuse(Refusal::Revoked);
    }
    if row.expiry.idle_expires_at <= now || row.expiry.expires_at <= now {
        return Verdict::Refuse(Refusal::Expired);
    }

    let age = age_of(row.chain.branched_at, now, policy);
    if row.chain.previous_hash == Some(claim.digest) {
        return match (row.chain.confirmed_at.is_some(), age) {
            (true, Age::Overlapping | Age::Unknown) => Verdict::Conflict,
            (false, Age::Overlapping) => repeat(row, claim, policy),
            (false, Age::Unknown) => unrepeatable(row, now, policy),
            (false, Age::Past) if recoverable(row, now, policy) => Verdict::Recover,
            (_, Age::Past) => Verdict::Reused(Reuse::Previous),
        };
    }

    if claim.position > row.chain.position {
        return ahead(row, claim, policy);
    }
    if claim.position == row.chain.position {
        return match (claim.digest == row.chain.token_hash, age) {
            (true, _) => Verdict::Current,
            (false, Age::Overlapping | Age::Unknown) => Verdict::Conflict,
            (false, Age::Past) => Verdict::Reused(Reuse::Forked),
        };
    }
    if claim.position.generation == row.chain.position.generation {
        return Verdict::Reused(Reuse::Displaced);
    }
    let two_back = claim.position.generation.checked_add(2) == Some(row.chain.position.generation);
    if two_back && age_of(row.chain.rotated_at, now, policy) != Age::Past {
        return Verdict::Conflict;
    }
    // Whatever has happened since, a token that was handed out just now was not stolen long ago.
    if age_of(claim.issued_at, now, policy) == Age::Overlapping {
        return Verdict::Conflict;
    }
    Verdict::Reused(Reuse::Older)
}

/// How long ago something was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Within the overlap.
    Overlapping,
    /// Earlier.
    Past,
    /// A clock that was ahead said when: no time at all may have passed, or much.
    Unknown,
}

fn age_of(moment: Timestamp, now: Timestamp, policy: &Policy) -> Age {
    if moment > now.plus(CLOCKS_DIFFER) {
        Age::Unknown
    } else if now.since(moment) < policy.overlap {
        Age::Overlapping
    } else {
        Age::Past
    }
}

/// What to do where the same answer should be given again but cannot be derived, its key being gone, or where it is not
/// known how long ago it was given: another successor, if there may be one; never a revocation, for the client did
/// nothing wrong.
pub fn unrepeatable(row: &SessionRow, now: Timestamp, policy: &Policy) -> Verdict {
    if recoverable(row, now, policy) { Verdict::Recover } else { Verdict::Conflict }
}

fn recoverable(row: &SessionRow, now: Timestamp, policy: &Policy) -> bool {
    !policy.recovery.is_zero()
        && now.since(row.chain.rotated_at) <= policy.recovery
        && row.chain.position.branch < policy.max_recoveries
}

/// An overlap answered to a second address is usually a phone changing networks; generation after
/// generation it is a client that shadows every refresh.
fn repeat(row: &SessionRow, claim: &Claim<'_>, policy: &Policy) -> Verdict {
    let same_address = row.client.ip_address.as_deref() == claim.ip_address;
    let counted = row.client.streak_generation == row.chain.position.generation;
    if same_address || counted {
        return Verdict::Repeat { streak: None };
    }
    let running = row.client.streak_generation.checked_add(1) == Some(row.chain.position.generation);
    let before = if running { row.client.repeat_streak } else { 0 };
    if policy.max_repeat_streak > 0 && before >= policy.max_repeat_streak {
        return Verdict::Conflict;
    }
    Verdict::Repeat { streak: Some(before.saturating_add(1)) }
}

/// A token we signed for a place the row has not reached: the row was restored from an older copy. A
/// retired key may be the very reason why a thief can sign such a token, so it is not enough.
fn ahead(row: &SessionRow, claim: &Claim<'_>, policy: &Policy) -> Verdict {
    if policy.adopt_ahead && (claim.active_key || claim.kid == row.chain.key_id) {
        Verdict::Adopt
    } else {
        Verdict::Refuse(Refusal::Ahead)
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
