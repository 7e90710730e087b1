//! Accounts and sessions from Rust: what the commands `user` and `session` do, for an application of your own.
//!
//! ```no_run
//! # async fn run(countersign: countersign::Countersign) -> Result<(), countersign::admin::Error> {
//! use countersign::admin::NewUser;
//!
//! let users = countersign.users();
//! let ada = match users.find("ada@example.com").await? {
//!     Some(ada) => ada,
//!     None => users.create(NewUser::new("ada@example.com", "correct horse battery").role("admin")).await?,
//! };
//! countersign.sessions().end_all_of(ada.id).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What is done is kept among the account's events as done by the operator. A session that ended is refused by the guards
//! of this process when the call returns, and by those of every other within a second.

mod sessions;
mod users;

use std::error::Error as StdError;

pub use self::sessions::{Session, Sessions};
pub use self::users::{NewUser, User, Users};
use crate::passwords::HashError;
use crate::problem::{Code, FieldError, Problem};
use crate::store::StoreError;
use crate::users::UserError;

/// Why nothing was done. A handler may fail with it: it becomes a [`Problem`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for is not acceptable: every member that is not, and why.
    #[error("{}", .0.iter().map(|error| format!("{} {}", error.field, error.message)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldError>),
    /// Another account has the e-mail address.
    #[error("another account has this e-mail address")]
    EmailTaken,
    /// There is no such account, or no longer.
    #[error("there is no such account")]
    NoSuchUser,
    /// Too much waits already. Nothing was done; try again.
    #[error("the server is busy; try again")]
    Busy,
    /// The database gave no answer. Whether it was done is not known; doing it again is safe.
    #[error("the database gave no answer: {0}")]
    Unavailable(Box<dyn StdError + Send + Sync>),
    /// A fault of Countersign's, or a database that is damaged.
    #[error("Countersign failed: {0}")]
    Internal(Box<dyn StdError + Send + Sync>),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::Busy,
            StoreError::Unavailable(cause) => Self::Unavailable(cause),
            StoreError::Broken(cause) => Self::Internal(cause),
        }
    }
}

impl From<UserError> for Error {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Invalid(errors) => Self::Invalid(errors),
            UserError::EmailTaken => Self::EmailTaken,
            UserError::Gone => Self::NoSuchUser,
            UserError::Hash(HashError::Full(_)) => Self::Busy,
            UserError::Store(error) => error.into(),
            other => Self::Internal(other.into()),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(errors) => Self::new(Code::ValidationFailed).errors(errors),
            Error::EmailTaken => Code::EmailTaken.into(),
            Error::NoSuchUser => Code::NotFound.into(),
            Error::Busy => Code::Unavailable.into(),
            Error::Unavailable(_) => Self::new(Code::Unavailable).caused_by(error),
            Error::Internal(_) => Self::new(Code::Internal).caused_by(error),
        }
    }
}
