//! From what services fail with to what clients are told.
//!
//! Services say what happened; this is the only place that says which [`Code`] it is. An answer that
//! cannot be had ("the database cannot be asked") stays a 503, whatever was asked.

use crate::passwords::{HashError, is_blocklisted};
use crate::problem::{Code, Problem};
use crate::sessions::{ConfirmError, RefreshError, StartError};
use crate::sign_in::LogInError;
use crate::tokens::SignError;
use crate::users::UserError;
use crate::users::second_factor::SecondFactorError;

impl From<UserError> for Problem {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Invalid(errors) => {
                let guessed = errors.iter().any(|error| is_blocklisted(&error.message));
                let problem = Self::new(Code::ValidationFailed).errors(errors);
                if guessed { problem.reason("blocklisted") } else { problem }
            }
            UserError::Wrong(_) => Code::InvalidCredentials.into(),
            UserError::Disabled(_) => Code::AccountDisabled.into(),
            UserError::Gone => Code::InvalidToken.into(),
            UserError::EmailTaken => Code::EmailTaken.into(),
            UserError::TooMany(seconds) => Self::new(Code::RateLimited).retry_after(seconds),
            UserError::Unproven(_) => Code::EmailNotVerified.into(),
            UserError::WrongCode => Code::WrongMailCode.into(),
            UserError::NoMail => Code::NotFound.into(),
            UserError::Key(error) => Self::new(Code::Internal).caused_by(error),
            UserError::Changed => Self::new(Code::Unavailable).caused_by(error),
            UserError::Hash(error) => error.into(),
            UserError::Store(error) => error.into(),
        }
    }
}

impl From<HashError> for Problem {
    fn from(error: HashError) -> Self {
        let problem = match &error {
            // Rounded up: who waits as long as told finds room.
            HashError::Full(wait) => Self::new(Code::Unavailable).retry_after(wait.as_secs().saturating_add(1)),
            HashError::Failed => Self::new(Code::Internal),
        };
        problem.caused_by(error)
    }
}

impl From<SignError> for Problem {
    fn from(error: SignError) -> Self {
        Self::new(Code::Internal).caused_by(error)
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Changed => Self::new(Code::Unavailable).caused_by(error),
            StartError::EmailTaken => Code::EmailTaken.into(),
            StartError::Store(error) => error.into(),
            StartError::Sign(error) => error.into(),
        }
    }
}

impl From<LogInError> for Problem {
    fn from(error: LogInError) -> Self {
        match error {
            LogInError::User(error) => error.into(),
            LogInError::Start(error) => error.into(),
            LogInError::SecondFactor(SecondFactorError::WrongCode) => Code::InvalidCode.into(),
            LogInError::SecondFactor(error) => second_factor_of(error),
            LogInError::Over => Self::new(Code::InvalidCredentials)
                .detail("The log-in took too long, or the account has changed. Begin anew with the password."),
            LogInError::Sealing(_) => Self::new(Code::Internal).caused_by(error),
        }
    }
}

impl From<RefreshError> for Problem {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Refused(because) => Self::new(Code::InvalidGrant).reason(because.as_str()),
            RefreshError::Conflict => Code::RefreshConflict.into(),
            RefreshError::TooMany(seconds) => Self::new(Code::RateLimited).retry_after(seconds),
            RefreshError::Store(error) => error.into(),
            RefreshError::Sign(error) => error.into(),
        }
    }
}

impl From<ConfirmError> for Problem {
    fn from(error: ConfirmError) -> Self {
        match error {
            ConfirmError::Superseded => {
                Self::new(Code::RefreshConflict).detail("A newer pair of tokens exists. Nothing was changed.")
            }
            ConfirmError::Over => Code::InvalidToken.into(),
            ConfirmError::Store(error) => error.into(),
        }
    }
}

/// The same for the second factor of a signed-in user.
pub(crate) fn second_factor_of(error: SecondFactorError) -> Problem {
    match error {
        SecondFactorError::User(error) => signed_in(error),
        SecondFactorError::WrongCode => Code::CodeMismatch.into(),
        SecondFactorError::TooMany(seconds) => Problem::new(Code::RateLimited).retry_after(seconds),
        SecondFactorError::Enabled => Code::MfaEnabled.into(),
        SecondFactorError::NoneThere => Problem::new(Code::NotFound).detail("There is no such second factor."),
        // Another node may have it, or this one reads it yet.
        SecondFactorError::KeyMissing => Problem::new(Code::Unavailable).caused_by(error),
        SecondFactorError::NotMade(_) | SecondFactorError::Sealing(_) => Problem::new(Code::Internal).caused_by(error),
    }
}

/// On a route that already carries an access token a wrong password is 403: a 401 would make clients
/// refresh and try again.
pub(crate) fn signed_in(error: UserError) -> Problem {
    match error {
        UserError::Wrong(_) => Code::PasswordMismatch.into(),
        other => other.into(),
    }
}
