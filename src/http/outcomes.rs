//! Counts the outcomes of refreshes, log-ins and limits.

use crate::audit::Kind;
use crate::metrics::{LoginOutcome, Metrics, RefreshVerdict, Throttle};
use crate::passwords::HashError;
use crate::sessions::{RefreshError, RefusedBecause, TokenPair};
use crate::sign_in::LogInError;
use crate::users::UserError;
use crate::users::second_factor::SecondFactorError;

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
fn count_refused_login(metrics: &Metrics, error: &UserError) {
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

/// Counts a step of a log-in that was refused.
pub(super) fn count_refused_step(metrics: &Metrics, error: &LogInError) {
    match error {
        LogInError::User(error) => count_refused_login(metrics, error),
        LogInError::SecondFactor(SecondFactorError::WrongCode) => metrics.logins.count(LoginOutcome::WrongCode),
        LogInError::SecondFactor(error @ SecondFactorError::TooMany(_)) => {
            metrics.logins.count(LoginOutcome::RateLimited);
            count_refused_code(metrics, error);
        }
        LogInError::Start(_) | LogInError::SecondFactor(_) | LogInError::Over | LogInError::Sealing(_) => {
            metrics.logins.count(LoginOutcome::Failed);
        }
    }
}

/// Counts what a limit has refused of a second factor.
pub(super) fn count_refused_code(metrics: &Metrics, error: &SecondFactorError) {
    match error {
        SecondFactorError::TooMany(_) => metrics.throttled.count(Throttle::SecondFactor),
        SecondFactorError::User(error) => count_throttled(metrics, Throttle::Password, error),
        _ => {}
    }
}

/// Counts a request that was refused because of a limit, if it was.
pub(super) fn count_throttled(metrics: &Metrics, limit: Throttle, error: &UserError) {
    match error {
        UserError::TooMany(_) => metrics.throttled.count(limit),
        UserError::Hash(HashError::Full(_)) => metrics.throttled.count(Throttle::HashQueue),
        _ => {}
    }
}
