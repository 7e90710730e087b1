//! What a query can fail with, sorted by what a client should do about it.

use std::error::Error as StdError;

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Why the store gave no answer. Never means "no such row": that is an answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be asked. Whether a write took effect is unknown; repeating it is safe.
    #[error("the database cannot be asked")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// Too much is waiting already, or another writer was faster; nothing was written.
    #[error("the database is busy")]
    Busy,
    /// A query or a row is not what the code expects: a fault, which repeating does not mend.
    #[error("a query failed")]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
}

impl StoreError {
    /// What was wrong, and what caused it, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        text
    }

    /// What is at the bottom of it.
    pub fn cause(&self) -> String {
        let mut deepest: &dyn StdError = self;
        while let Some(cause) = deepest.source() {
            deepest = cause;
        }
        deepest.to_string()
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind as Kind;
        match &error {
            DieselError::DatabaseError(Kind::SerializationFailure, _) => Self::Busy,
            DieselError::DatabaseError(
                Kind::UniqueViolation
                | Kind::ForeignKeyViolation
                | Kind::NotNullViolation
                | Kind::CheckViolation
                | Kind::RestrictViolation
                | Kind::ExclusionViolation,
                _,
            ) => Self::Broken(error.into()),
            // Locked, unreadable, full, gone, not a database: SQLite has one kind for them all.
            DieselError::DatabaseError(_, _) | DieselError::BrokenTransactionManager => Self::Unavailable(error.into()),
            _ => Self::Broken(error.into()),
        }
    }
}
