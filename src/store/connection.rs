//! A connection to either database, and what a transaction on it is.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::{PgConnection, SqliteConnection};

use super::pool::Lease;

/// A connection to either database. Every query is written once and compiles for both.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// PostgreSQL.
    Postgresql(PgConnection),
    /// The embedded database.
    Sqlite(SqliteConnection),
}

/// Runs a query of diesel's on the connection itself. Through [`AnyConnection`] its text is put together and parsed each
/// time; so, it is prepared once, which the hot paths are worth.
macro_rules! prepared {
    ($conn:expr, $inner:ident => $query:expr) => {
        match $conn {
            AnyConnection::Sqlite($inner) => $query,
            AnyConnection::Postgresql($inner) => $query,
        }
    };
}
pub(super) use prepared;

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Queries only; SQLite refuses anything else.
    Read,
    /// Everything.
    Write,
}

/// Why a transaction has not been committed, as far as one can tell.
#[derive(Debug)]
pub enum Aborted {
    /// It has not been.
    Undone(diesel::result::Error),
    /// It may have been: the commit itself failed.
    Unknown(diesel::result::Error),
}

impl Aborted {
    /// What the database or the work said.
    pub fn into_error(self) -> diesel::result::Error {
        match self {
            Self::Undone(error) | Self::Unknown(error) => error,
        }
    }

    /// What the database or the work said.
    pub fn error(&self) -> &diesel::result::Error {
        match self {
            Self::Undone(error) | Self::Unknown(error) => error,
        }
    }
}

/// Begins a transaction that may write from its first statement on. On failure nothing has begun.
///
/// # Errors
///
/// If another writer does not finish in time, or the database cannot be asked.
pub fn begin_write(lease: &mut Lease) -> Result<(), Aborted> {
    let begin = lease.begin().to_owned();
    let begun = lease.connection().batch_execute(&begin);
    // Should an earlier transaction have been left open, it ends here rather than never.
    begun.map_err(|error| Aborted::Undone(roll_back(lease, error)))
}

/// Runs `work` in the transaction that was begun, and commits it.
///
/// # Errors
///
/// What `work` failed with, after a rollback; or what the database said to the commit.
pub fn commit_after<T>(
    lease: &mut Lease,
    work: impl FnOnce(&mut AnyConnection) -> QueryResult<T>,
) -> Result<T, Aborted> {
    match work(lease.connection()) {
        Ok(value) => match lease.connection().batch_execute("COMMIT") {
            Ok(()) => Ok(value),
            Err(error) => Err(Aborted::Unknown(roll_back(lease, error))),
        },
        Err(error) => Err(Aborted::Undone(roll_back(lease, error))),
    }
}

/// Runs `work` so that, within a transaction, its failure undoes only itself.
///
/// # Errors
///
/// What `work` failed with.
pub fn in_savepoint<T>(
    connection: &mut AnyConnection,
    work: impl FnOnce(&mut AnyConnection) -> QueryResult<T>,
) -> QueryResult<T> {
    connection.batch_execute("SAVEPOINT member")?;
    let result = work(connection);
    if result.is_err() {
        connection.batch_execute("ROLLBACK TO member")?;
    }
    connection.batch_execute("RELEASE member")?;
    result
}

/// Moves what was committed from the write-ahead log into the database file, as far as it goes without anybody waiting.
/// Left to the writer, whoever's commit makes the log long enough would have to wait for all of it. PostgreSQL sees to
/// that by itself.
///
/// # Errors
///
/// If the database cannot be asked.
pub fn checkpoint(connection: &mut AnyConnection) -> QueryResult<()> {
    match connection {
        AnyConnection::Sqlite(sqlite) => sqlite.batch_execute("PRAGMA wal_checkpoint(PASSIVE)"),
        AnyConnection::Postgresql(_) => Ok(()),
    }
}

/// A rollback fails where the database has rolled back already; the first error is the one that matters.
fn roll_back(lease: &mut Lease, error: diesel::result::Error) -> diesel::result::Error {
    lease.note(&error);
    if let Err(second) = lease.connection().batch_execute("ROLLBACK") {
        lease.note(&second);
        tracing::debug!(error = %second, "there was nothing to roll back");
    }
    error
}
