//! A connection to either database.

#[cfg(feature = "sqlite")]
use std::sync::PoisonError;

#[cfg(feature = "postgres")]
use diesel::PgConnection;
#[cfg(feature = "sqlite")]
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

use super::condition::Condition;

/// A connection to either database. Every query is written once and compiles for both.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgresql(PgConnection),
    /// The embedded database.
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteConnection),
}

/// Runs a query of diesel's on the connection itself. Through [`AnyConnection`] its text is put together and parsed each
/// time; so, it is prepared once, which the hot paths are worth.
macro_rules! prepared {
    ($conn:expr, $inner:ident => $query:expr) => {
        match $conn {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite($inner) => $query,
            #[cfg(feature = "postgres")]
            AnyConnection::Postgresql($inner) => $query,
        }
    };
}
pub(crate) use prepared;

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Queries only; SQLite refuses anything else.
    Read,
    /// Everything.
    Write,
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

/// Moves what was committed from the write-ahead log into the database file, as far as it goes without making a request wait.
/// Left to SQLite, the commit that makes the log long enough would have to wait for all of it. PostgreSQL sees to
/// that by itself.
///
/// # Errors
///
/// If the database cannot be asked.
#[cfg_attr(not(feature = "sqlite"), expect(unused_variables, reason = "only a file is checkpointed here"))]
pub fn checkpoint(connection: &mut AnyConnection, condition: &Condition) -> QueryResult<()> {
    match connection {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(sqlite) => match condition.watched() {
            Some(file) => file.lock().unwrap_or_else(PoisonError::into_inner).checkpoint(sqlite, 1),
            None => sqlite.batch_execute("PRAGMA wal_checkpoint(PASSIVE)"),
        },
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(_) => Ok(()),
    }
}
