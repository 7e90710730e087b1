//! Counts the outcomes of refreshes, log-ins and limits.

use crate::audit::Kind;
use crate::metrics::{LoginOutcome, Metrics, RefreshVerdict, Throttle};
use crate::passwords::HashError;
use crate::sessions::{RefreshError, RefusedBecause, TokenPair};
use crate::users::UserError;

/// Counts a refresh.
pub(super) fn count_refresh(metrics: &Metrics, outcome: &Result<TokenPair, RefreshError>) {
    let verdict = match outcome {
        Ok(pair) => match pair.granted {
            Some(Kind::Repeated) => RefreshVerdict::Repeated,
            Some(Kind::Recovered) => RefreshVerdict::Recovered,
            Some(Kind::Behind) => RefreshVerdict::Behind,
            _ => RefreshVerdict::Rotated,
        },
        Err(RefreshError::Conflict) => RefreshVerdict::Conflict,
        Err(RefreshError::Refused(because)) => match because {
            RefusedBecause::Malformed => RefreshVerdict::Malformed,
            RefusedBecause::Expired => RefreshVerdict::Expired,
            RefusedBecause::Revoked => RefreshVerdict::Revoked,
            RefusedBecause::Reused => RefreshVerdict::Reused,
        },
        Err(RefreshError::TooMany(_)) => {
            metrics.throttled.count(Throttle::Refresh);
            RefreshVerdict::RateLimited
        }
        Err(RefreshError::Store(_) | RefreshError::Sign(_)) => RefreshVerdict::Failed,
    };
    metrics.refreshes.count(verdict);
}

/// Counts a log-in that was refused.
pub(super) fn count_refused_login(metrics: &Metrics, error: &UserError) {
    metrics.logins.count(match error {
        UserError::Wrong(_) | UserError::Invalid(_) => LoginOutcome::WrongPassword,
        UserError::Disabled(_) => LoginOutcome::Disabled,
        UserError::Unproven(_) => LoginOutcome::EmailNotVerified,
        UserError::TooMany(_) => LoginOutcome::RateLimited,
        UserError::Gone
        | UserError::EmailTaken
        | UserError::Changed
        | UserError::WrongCode
        | UserError::NoMail
        | UserError::Hash(_)
        | UserError::Key(_)
        | UserError::Store(_) => LoginOutcome::Failed,
    });
    count_throttled(metrics, Throttle::Login, error);
}

/// Counts a request that was refused because of a limit, if it was.
pub(super) fn count_throttled(metrics: &Metrics, limit: Throttle, error: &UserError) {
    match error {
        UserError::TooMany(_) => metrics.throttled.count(limit),
        UserError::Hash(HashError::Full(_)) => metrics.throttled.count(Throttle::HashQueue),
        _ => {}
    }
}
