//! The database: who may talk to it, how long anybody waits, and every query there is.
//!
//! Queries live in [`users`], [`sessions`], [`events`] and [`attempts`]; they take a connection, decide in their `WHERE` clause
//! and return the narrowest result. [`Store`] runs them: reads on a pool of connections, writes through
//! one writer. A closure given to [`Store::write`] may run more than once and must not mind.

pub mod attempts;
pub mod columns;
pub mod connection;
pub mod error;
pub mod events;
pub mod schema;
pub mod sessions;
#[cfg(test)]
#[path = "testing_tests.rs"]
pub mod testing;
pub mod users;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use diesel::QueryResult;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Span;

pub use self::connection::AnyConnection;
use self::connection::{Access, SqliteManager};
pub use self::error::StoreError;
use self::writer::Writer;
use crate::config::Database;

/// Readers of the embedded database.
const READERS: u32 = 4;
/// The longest that anybody waits for a connection.
const CONNECTING: Duration = Duration::from_secs(3);
/// A client waits for its answer, and had better be told soon that there is none.
const SERVING: Patience = Patience { turn: Duration::from_secs(2), answer: Duration::from_secs(3) };
/// An operator waits beside a server that may be very busy, and had better get through; though less long than a server
/// looks back for revocations (`sessions::revocations`), since their time was read before.
const OPERATING: Patience = Patience { turn: Duration::from_secs(30), answer: Duration::from_secs(40) };

/// How long a write waits.
#[derive(Clone, Copy)]
struct Patience {
    /// For another process to finish writing.
    turn: Duration,
    /// For its answer, all in all.
    answer: Duration,
}

/// What there is of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No file.
    Missing,
    /// One whose schema is older than this version, or that was never brought to any.
    Outdated,
    /// All that is needed.
    Ready,
}

/// The database, shared by everything in the process.
#[derive(Clone)]
pub struct Store {
    readers: r2d2::Pool<SqliteManager>,
    /// One permit a reader: who waits, waits here, and not on a thread.
    reader_permits: Arc<Semaphore>,
    writer: Writer,
    patience: Patience,
}

impl Store {
    /// Opens the database, which must have been made ([`Store::prepare`]).
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        Self::open_as(database, READERS, SERVING)
    }

    /// The same for an operator's command, beside a server or not: it reads little, and would rather wait than fail.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open_for_operator(database: &Database) -> Result<Self, StoreError> {
        Self::open_as(database, 1, OPERATING)
    }

    fn open_as(database: &Database, readers: u32, patience: Patience) -> Result<Self, StoreError> {
        let path = sqlite_path(database)?;
        let writer = Writer::start(pool(path, Access::Write, 1, patience)?)
            .map_err(|error| StoreError::Unavailable(error.into()))?;
        let permits = usize::try_from(readers).unwrap_or(1);
        let readers = pool(path, Access::Read, readers, patience)?;
        Ok(Self { readers, reader_permits: Arc::new(Semaphore::new(permits)), writer, patience })
    }

    /// What there is of the database. Nothing is made or changed by looking.
    ///
    /// # Errors
    ///
    /// If what is there cannot be read, or is no database.
    pub fn look(database: &Database) -> Result<Presence, StoreError> {
        connection::look(sqlite_path(database)?, SERVING.turn)
    }

    /// Makes the database file (0600) if there is none, brings the schema up to date, and returns the
    /// names of the migrations that were missing.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or a migration fails.
    pub fn prepare(database: &Database) -> Result<Vec<String>, StoreError> {
        let path = sqlite_path(database)?;
        connection::create_private_file(path).map_err(|error| StoreError::Unavailable(error.into()))?;
        let mut connection = r2d2::ManageConnection::connect(&SqliteManager::new(path, Access::Write, SERVING.turn))?;
        connection::migrate(&mut connection)
    }

    /// Runs a query on a reader, off the async threads.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if no reader is free in time, else what the query failed with.
    pub async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
    {
        let permit = match timeout(CONNECTING, Arc::clone(&self.reader_permits).acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(StoreError::Busy),
        };
        let (readers, span) = (self.readers.clone(), Span::current());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(|| read_from(&readers, query))
        });
        match task.await {
            Ok(result) => result,
            Err(panic) => Err(StoreError::Broken(panic.into())),
        }
    }

    /// Runs a query on a reader, on this thread. For threads that may wait.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub fn read_blocking<T>(&self, query: impl FnOnce(&mut AnyConnection) -> QueryResult<T>) -> Result<T, StoreError> {
        read_from(&self.readers, query)
    }

    /// Runs `attempt` in a transaction, and returns only after the commit. It may run more than once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if too many writes wait already, [`StoreError::Unavailable`] if the answer does
    /// not come in time (the write may still take effect), else what `attempt` failed with, undone.
    pub async fn write<T, F>(&self, attempt: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
    {
        self.write_and_then(attempt, |_| ()).await
    }

    /// The same, and what must follow the commit even if whoever asked is gone by then: `announce` runs on the writer's
    /// thread, once, after a commit and only then. It must be quick.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub async fn write_and_then<T, F, A>(&self, attempt: F, announce: A) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let answer = self.writer.submit(attempt, announce)?;
        match timeout(self.patience.answer, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Unavailable("the writer has stopped".into())),
            Err(_) => Err(StoreError::Unavailable("a write was not answered in time".into())),
        }
    }

    /// The same, on this thread. For threads that may wait, and do not hurry.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub fn write_blocking<T, F>(&self, attempt: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
    {
        let answer = self.writer.submit(attempt, |_| ())?;
        answer.blocking_recv().unwrap_or_else(|_| Err(StoreError::Unavailable("the writer has stopped".into())))
    }

    /// Spares the writer what much writing leaves behind: see [`connection::checkpoint`]. On this thread.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub fn checkpoint_blocking(&self) -> Result<(), StoreError> {
        self.read_blocking(connection::checkpoint)
    }

    /// Whether the database answers and has the schema this version was built for.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn check(&self) -> Result<(), StoreError> {
        let pending = self.read(|connection| Ok(connection::pending_migrations(connection))).await??;
        if pending.is_empty() { Ok(()) } else { Err(StoreError::Unavailable("migrations are pending".into())) }
    }
}

/// A failure of our own inside a transaction, which is undone by it.
pub fn fault(error: impl std::error::Error + Send + Sync + 'static) -> diesel::result::Error {
    diesel::result::Error::QueryBuilderError(Box::new(error))
}

/// Other writers were faster too often: the caller is asked to come again.
pub fn outrun() -> diesel::result::Error {
    let lost = Box::new("lost too many races".to_owned());
    diesel::result::Error::DatabaseError(diesel::result::DatabaseErrorKind::SerializationFailure, lost)
}

fn read_from<T>(
    readers: &r2d2::Pool<SqliteManager>,
    query: impl FnOnce(&mut AnyConnection) -> QueryResult<T>,
) -> Result<T, StoreError> {
    let mut connection = readers.get().map_err(|error| StoreError::Unavailable(error.into()))?;
    Ok(query(&mut connection)?)
}

fn pool(path: &Path, access: Access, size: u32, patience: Patience) -> Result<r2d2::Pool<SqliteManager>, StoreError> {
    r2d2::Pool::builder()
        .max_size(size)
        .connection_timeout(CONNECTING)
        .test_on_check_out(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .build(SqliteManager::new(path, access, patience.turn))
        .map_err(|error| StoreError::Unavailable(error.into()))
}

fn sqlite_path(database: &Database) -> Result<&Path, StoreError> {
    match database {
        Database::Sqlite(path) => Ok(path),
        Database::Postgres(_) => Err(StoreError::Unavailable("PostgreSQL is not supported by this version yet".into())),
    }
}
