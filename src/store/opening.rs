//! How a database is found, made and brought up to date, before it is opened for work.

#[cfg(feature = "sqlite")]
use std::path::Path;

#[cfg(feature = "sqlite")]
use super::SERVER_TIMEOUTS;
#[cfg(feature = "sqlite")]
use super::engine::connection::Access;
use super::engine::connection::AnyConnection;
#[cfg(feature = "sqlite")]
use super::engine::database_file::APPLICATION_ID;
use super::engine::database_file::{self, DatabaseFileError, Found};
#[cfg(feature = "sqlite")]
use super::engine::sqlite;
use super::migrations::{self, SchemaState};
#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
use super::not_built;
#[cfg(feature = "postgres")]
use super::{OPERATOR_TIMEOUTS, engine::postgres};
use super::{Store, StoreError};
use crate::config::Database;
#[cfg(feature = "sqlite")]
use crate::files::check_writable_folder;
use crate::files::{FolderLock, absolute};

/// Why a database cannot be used. Says which, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What is at the path is no database of ours, or the system does not let us use it.
    #[error(transparent)]
    File(#[from] DatabaseFileError),
    /// A later version was here.
    #[error(
        "{database} was brought further (migration {migration}) than this version of Countersign ({}) knows: run the newer \
         version, or restore a copy from before its migration",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// Which.
        database: String,
        /// The last migration that is unknown here.
        migration: String,
    },
    /// It gives no answer, or not the right one.
    #[error("{database} cannot be opened: {}; {remedy}", .source.cause())]
    Store {
        /// Which.
        database: String,
        /// Why.
        source: StoreError,
        /// What to do.
        remedy: &'static str,
    },
}

impl OpenError {
    /// What stood in the way of opening `database`.
    pub fn new(database: &Database, source: StoreError) -> Self {
        let damaged = |text: &str| ["malformed", "not a database", "damaged"].iter().any(|sign| text.contains(sign));
        let remedy = match database {
            Database::Sqlite(_) if source.cause().contains("disk is full") => "free some space, and try again",
            Database::Sqlite(_) if damaged(&source.cause()) => {
                "keep a copy of its files, and restore it from a backup, with its keys and without the -wal and -shm that are \
                 beside it now"
            }
            Database::Sqlite(_) => "look whether another program holds it, and try again",
            Database::Postgres(_) => "`countersign check-config` says where it was named",
        };
        Self::Store { database: name(database), source, remedy }
    }

    /// A later version has brought `database` further, with this migration.
    pub fn newer(database: &Database, migration: String) -> Self {
        Self::Newer { database: name(database), migration }
    }
}

impl From<crate::files::FileError> for OpenError {
    fn from(error: crate::files::FileError) -> Self {
        Self::File(error.into())
    }
}

/// A database as it is called in messages. Its URL could hold a password.
pub fn name(database: &Database) -> String {
    match database {
        Database::Sqlite(path) => format!("the database {}", absolute(path).display()),
        Database::Postgres(_) => "the database that database.url names".to_owned(),
    }
}

/// What there is of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// No file.
    Missing,
    /// One whose schema is older than this version, or that was never brought to any.
    Outdated,
    /// All that is needed.
    Ready,
}

/// What was done to a database before it could be used.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// Whether its file was made.
    pub made: bool,
    /// The migrations that were missing.
    pub migrations: Vec<String>,
}

impl Store {
    /// What there is of the database. Nothing is made or changed by looking.
    ///
    /// # Errors
    ///
    /// If what is there cannot be read, is no database of ours, or is newer than this program.
    pub fn find(database: &Database) -> Result<DatabaseState, OpenError> {
        let failed = |error| OpenError::new(database, error);
        let mut connection = match database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(path) => match database_file::inspect(path) {
                Ok(Found::Missing) | Err(DatabaseFileError::NoFolder(_)) => return Ok(DatabaseState::Missing),
                Ok(Found::Empty) => return Ok(DatabaseState::Outdated),
                Ok(Found::Ours { .. }) => {
                    database_file::check_usable(path)?;
                    AnyConnection::Sqlite(sqlite::open_to_inspect(path, SERVER_TIMEOUTS.lock_timeout).map_err(failed)?)
                }
                Err(error) => return Err(error.into()),
            },
            #[cfg(feature = "postgres")]
            Database::Postgres(postgres) => {
                let server = postgres::Server::new(postgres, postgres.statement_timeout);
                let connection = server.and_then(|server| server.connect(postgres.statement_timeout, 0));
                AnyConnection::Postgresql(connection.map_err(failed)?.0)
            }
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            _ => return Err(failed(not_built())),
        };
        match migrations::state(&mut connection).map_err(|error| failed(error.into()))? {
            SchemaState::Current => Ok(DatabaseState::Ready),
            SchemaState::Pending(_) => Ok(DatabaseState::Outdated),
            SchemaState::Newer(migration) => Err(OpenError::newer(database, migration)),
        }
    }

    /// Whether there is no file yet, or an empty one. A database on a server is taken to be there.
    ///
    /// # Errors
    ///
    /// If something else is in its place, or there is no folder for it.
    pub fn is_absent(database: &Database) -> Result<bool, OpenError> {
        match database {
            Database::Sqlite(path) => Ok(!matches!(database_file::inspect(path)?, Found::Ours { .. })),
            Database::Postgres(_) => Ok(false),
        }
    }

    /// Makes the file of an embedded database (0600) if there is none, and brings the schema up to date. Its folder must be
    /// there. Processes that do so at once take turns.
    ///
    /// # Errors
    ///
    /// If something else is in the file's place, the file cannot be made, the server not be reached, the schema is newer
    /// than this program, or a migration fails.
    pub fn prepare(database: &Database) -> Result<Prepared, OpenError> {
        let failed = |error| OpenError::new(database, error);
        let (mut connection, made, _lock): (_, _, Option<FolderLock>) = match database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(path) => {
                let (made, lock) = embedded(database, path)?;
                let sqlite = sqlite::connect(path, Access::Write, SERVER_TIMEOUTS.lock_timeout).map_err(failed)?;
                (AnyConnection::Sqlite(sqlite), made, lock)
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(postgres) => {
                let server = postgres::Server::new(postgres, OPERATOR_TIMEOUTS.lock_timeout);
                let (connection, _) =
                    server.and_then(|server| server.connect(OPERATOR_TIMEOUTS.lock_timeout, 0)).map_err(failed)?;
                (AnyConnection::Postgresql(connection), false, None)
            }
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            _ => return Err(failed(not_built())),
        };
        if let SchemaState::Newer(migration) =
            migrations::state(&mut connection).map_err(|error| failed(error.into()))?
        {
            return Err(OpenError::newer(database, migration));
        }
        let migrations = migrations::run(&mut connection).map_err(failed)?;
        Ok(Prepared { made, migrations })
    }
}

/// Makes the file if there is none, marks it as ours, and closes it to others. Returns whether it was made, and the lock
/// that keeps others from doing the same until the schema is there.
#[cfg(feature = "sqlite")]
fn embedded(database: &Database, path: &Path) -> Result<(bool, Option<FolderLock>), OpenError> {
    if database_file::inspect(path)? == (Found::Ours { marked: true })
        && let Ok(DatabaseState::Ready) = Store::find(database)
    {
        database_file::make_usable(path)?;
        return Ok((false, None));
    }
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    check_writable_folder(folder)?;
    let lock = FolderLock::acquire(folder)?;
    let made = match database_file::inspect(path)? {
        Found::Missing => database_file::create(path)?,
        Found::Empty => true,
        Found::Ours { .. } => false,
    };
    let found = database_file::inspect(path)?;
    database_file::make_usable(path)?;
    if found != (Found::Ours { marked: true }) {
        // Before anything else, and before there is a write-ahead log: whatever becomes of this start, the file is known.
        sqlite::mark(path, APPLICATION_ID, SERVER_TIMEOUTS.lock_timeout)
            .map_err(|error| OpenError::new(database, error))?;
    }
    Ok((made, Some(lock)))
}
