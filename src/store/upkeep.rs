//! What is asked and done for the database itself: before it is opened, beside the work, and at the end.

use std::path::Path;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "sqlite")]
use super::SERVER_TIMEOUTS;
use super::engine::connection::{self, AnyConnection};
#[cfg(feature = "sqlite")]
use super::engine::database_file::{self, Found};
use super::engine::lease::TrackedConnection;
#[cfg(feature = "postgres")]
use super::engine::postgres;
#[cfg(feature = "sqlite")]
use super::engine::{sqlite, watch};
use super::reading::read_and_then;
use super::{Condition, SchemaState, Store, StoreError, migrations};
use crate::clock::Timestamp;
use crate::config::Database;

/// How long the end of a command waits for what others, or the last of its own connections, are just doing.
#[cfg(feature = "sqlite")]
const OTHERS: Duration = Duration::from_secs(1);

/// Dropping it leaves no log beside an embedded database, unless a server is at work on it.
#[cfg(feature = "sqlite")]
pub struct LogEmptied(PathBuf, Arc<Condition>);

#[cfg(feature = "sqlite")]
impl LogEmptied {
    /// Of the database at `path`. One that turns out to be damaged keeps its log.
    pub fn of(path: &Path, condition: &Arc<Condition>) -> Self {
        Self(path.to_owned(), Arc::clone(condition))
    }
}

#[cfg(feature = "sqlite")]
impl Drop for LogEmptied {
    fn drop(&mut self) {
        if !self.1.is_damaged(true) {
            empty_log(&self.0, OTHERS);
        }
    }
}

#[cfg(feature = "sqlite")]
fn empty_log(path: &Path, patience: Duration) {
    match watch::empty_log(path, patience) {
        Ok(true) => {}
        Ok(false) => tracing::debug!("other processes are at work on the database: its log stays beside it"),
        Err(error) => tracing::warn!(error = error.chain(), "the database's log could not be moved into its file"),
    }
}

impl Store {
    /// What there is to know of an embedded database before anything is changed: whether it is damaged, or stands beside the
    /// log of another one. Only where it was not closed cleanly: else it is checked when it is opened.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give, or what is there cannot be read.
    pub fn inspect(database: &Database) -> Result<Arc<Condition>, StoreError> {
        match database {
            // What is not ours is not opened.
            #[cfg(feature = "sqlite")]
            Database::Sqlite(path) if matches!(database_file::inspect(path), Ok(Found::Ours { .. })) => {
                watch::inspect(path)
            }
            Database::Sqlite(_) | Database::Postgres(_) => Ok(Arc::default()),
        }
    }

    /// The same before a command opens it.
    ///
    /// # Errors
    ///
    /// As [`Store::inspect`], and if it is damaged: closing it would checkpoint a log that may belong to another one.
    pub fn inspect_for_operator(database: &Database) -> Result<Arc<Condition>, StoreError> {
        let condition = match database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(path) if matches!(database_file::inspect(path), Ok(Found::Ours { .. })) => {
                watch::inspect_unattended(path)?
            }
            Database::Sqlite(_) | Database::Postgres(_) => Arc::<Condition>::default(),
        };
        if condition.is_damaged(true) {
            return Err(StoreError::Unavailable("it is damaged, or the -wal beside it belongs to another one".into()));
        }
        Ok(condition)
    }

    /// Copies an embedded database into the empty file `copy`, as it is at one moment. Writes go on meanwhile. Takes as long
    /// as reading it all.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or the copy cannot be written; and for PostgreSQL, which has its own tools for that.
    pub fn copy_blocking(database: &Database, copy: &Path) -> Result<(), StoreError> {
        let copy = copy.to_str().ok_or_else(|| StoreError::Unavailable("the copy's path is not UTF-8".into()))?;
        match database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(path) => sqlite::copy(path, copy, SERVER_TIMEOUTS.lock_timeout),
            _ => Err(StoreError::Unavailable(format!("{copy} cannot be made: it is not embedded").into())),
        }
    }

    /// Whether a check or a query has found that the database is damaged.
    pub fn is_damaged(&self) -> bool {
        self.condition.is_damaged(!self.shared)
    }

    /// Spares the writer what much writing leaves behind: see [`connection::checkpoint`]. On this thread.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub fn checkpoint_blocking(&self) -> Result<(), StoreError> {
        // What is damaged is left as it is.
        if self.is_damaged() {
            Ok(())
        } else {
            self.read_blocking(|conn| connection::checkpoint(conn, &self.condition))
        }
    }

    /// Moves all that was committed into the file of an embedded database, which alone is the database then: for the end of a
    /// server or a command, when nothing is written any more. It is left undone while other processes are at work on it. On
    /// this thread, for as long as `patience`.
    pub fn empty_log_blocking(&self, patience: Duration) {
        #[cfg(feature = "sqlite")]
        if let Some(path) = &self.path
            && !self.is_damaged()
            && !self.health.is_replaced()
        {
            empty_log(path, patience);
        }
        #[cfg(not(feature = "sqlite"))]
        let _no_file = patience;
    }

    /// What time it is for a database that several nodes share. None: it has no clock of its own. Who answers is looked at,
    /// too: see [`TrackedConnection::note_process`].
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub fn now_blocking(&self) -> Result<Option<Timestamp>, StoreError> {
        if !self.shared {
            return Ok(None);
        }
        let answered = |connection: &mut AnyConnection| match connection {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(_) => Ok(None),
            #[cfg(feature = "postgres")]
            AnyConnection::Postgresql(postgresql) => postgres::now(postgresql).map(Some),
        };
        let told = |lease: &mut TrackedConnection, answer: &Option<(Timestamp, i32)>| {
            if let Some((_, process)) = answer {
                lease.note_process(*process);
            }
        };
        Ok(read_and_then(&self.readers, answered, told)?.map(|(now, _)| now))
    }

    /// How the schema stands to the one this version needs. On this thread.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub fn schema_state_blocking(&self) -> Result<SchemaState, StoreError> {
        self.read_blocking(migrations::state)
    }
}
