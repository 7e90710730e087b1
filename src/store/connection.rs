//! Connections: which database, how it is opened, and what a transaction is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::dsl::sql;
use diesel::migration::Migration;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel::{PgConnection, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use super::Presence;
use super::error::StoreError;

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// A connection to either database. Every query is written once and compiles for both.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// PostgreSQL.
    Postgresql(PgConnection),
    /// The embedded database.
    Sqlite(SqliteConnection),
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Queries only; SQLite refuses anything else.
    Read,
    /// Everything.
    Write,
}

/// Opens SQLite connections for a pool.
///
/// Each variant is connected by name: `MultiConnection::establish` tries its variants in turn and
/// would make an SQLite file of a PostgreSQL URL that does not answer.
#[derive(Debug)]
pub struct SqliteManager {
    path: PathBuf,
    access: Access,
    turn: Duration,
}

impl SqliteManager {
    /// For the database file at `path`, which must exist. While another process writes, its connections wait for
    /// their turn for as long as `turn`.
    pub fn new(path: &Path, access: Access, turn: Duration) -> Self {
        Self { path: path.to_owned(), access, turn }
    }
}

impl r2d2::ManageConnection for SqliteManager {
    type Connection = AnyConnection;
    type Error = StoreError;

    fn connect(&self) -> Result<AnyConnection, StoreError> {
        let Some(path) = self.path.to_str() else {
            return Err(StoreError::Unavailable("the database's path is not UTF-8".into()));
        };
        // SQLite would make a new, empty database where the file is gone: an outage must not look like a fresh start.
        if !self.path.exists() {
            return Err(StoreError::Unavailable("the database file is gone".into()));
        }
        let mut connection =
            SqliteConnection::establish(path).map_err(|error| StoreError::Unavailable(error.into()))?;
        // The order matters: switching to WAL can itself meet a busy database.
        let mut setup = format!(
            "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; \
             PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
            self.turn.as_millis()
        );
        if self.access == Access::Read {
            setup.push_str(" PRAGMA query_only = ON;");
        }
        connection.batch_execute(&setup)?;
        Ok(AnyConnection::Sqlite(connection))
    }

    fn is_valid(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        Ok(connection.batch_execute("SELECT 1")?)
    }

    fn has_broken(&self, _connection: &mut AnyConnection) -> bool {
        false
    }
}

/// Makes an empty database file that only its owner can read; one that is there is closed to others.
///
/// # Errors
///
/// If the system refuses.
pub fn create_private_file(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(path, Permissions::from_mode(0o600)),
    }
}

/// Begins a transaction that may write from its first statement on. (SQLite's default one starts as a
/// reader and fails when it turns out to write.) On failure nothing has begun.
///
/// # Errors
///
/// If another writer does not finish in time, or the database cannot be asked.
pub fn begin_write(connection: &mut AnyConnection) -> QueryResult<()> {
    let begin = match connection {
        AnyConnection::Sqlite(_) => "BEGIN IMMEDIATE",
        AnyConnection::Postgresql(_) => "BEGIN",
    };
    // Should an earlier transaction have been left open, it ends here rather than never.
    connection.batch_execute(begin).map_err(|error| roll_back(connection, error))
}

/// Runs `work` in the transaction that was begun, and commits it.
///
/// # Errors
///
/// What `work` failed with, after a rollback; or what the database said to the commit, whose fate is
/// then unknown.
pub fn commit_after<T>(
    connection: &mut AnyConnection,
    work: impl FnOnce(&mut AnyConnection) -> QueryResult<T>,
) -> QueryResult<T> {
    match work(connection) {
        Ok(value) => match connection.batch_execute("COMMIT") {
            Ok(()) => Ok(value),
            Err(error) => Err(roll_back(connection, error)),
        },
        Err(error) => Err(roll_back(connection, error)),
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
fn roll_back(connection: &mut AnyConnection, error: diesel::result::Error) -> diesel::result::Error {
    match connection.batch_execute("ROLLBACK") {
        Ok(()) => error,
        Err(second) => {
            tracing::debug!(error = %second, "there was nothing to roll back");
            error
        }
    }
}

/// Brings the schema up to date and returns the names of the migrations that were missing.
///
/// # Errors
///
/// If a migration fails; it is then rolled back.
pub fn migrate(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    match connection {
        AnyConnection::Sqlite(sqlite) => match sqlite.run_pending_migrations(SQLITE_MIGRATIONS) {
            Ok(versions) => Ok(versions.iter().map(ToString::to_string).collect()),
            Err(error) => Err(StoreError::Unavailable(error)),
        },
        AnyConnection::Postgresql(_) => Err(StoreError::Unavailable("there are no PostgreSQL migrations yet".into())),
    }
}

/// What there is of the database at `path`, without making or changing anything.
///
/// # Errors
///
/// If what is there cannot be read, or is no database.
pub fn look(path: &Path, turn: Duration) -> Result<Presence, StoreError> {
    // SQLite says of every file that it cannot open the same thing; the system says why.
    match File::open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Presence::Missing),
        Err(error) => return Err(StoreError::Unavailable(error.into())),
    }
    let url = path.to_str().ok_or_else(|| StoreError::Unavailable("the database's path is not UTF-8".into()))?;
    let mut sqlite = SqliteConnection::establish(url).map_err(|error| StoreError::Unavailable(error.into()))?;
    sqlite.batch_execute(&format!("PRAGMA busy_timeout = {}; PRAGMA query_only = ON;", turn.as_millis()))?;
    // Asking for pending migrations would make this table where there is none.
    let marked = sql::<Bool>("EXISTS (SELECT 1 FROM sqlite_master WHERE name = '__diesel_schema_migrations')");
    if !diesel::select(marked).get_result::<bool>(&mut sqlite)? {
        return Ok(Presence::Outdated);
    }
    let pending = pending_migrations(&mut AnyConnection::Sqlite(sqlite))?;
    Ok(if pending.is_empty() { Presence::Ready } else { Presence::Outdated })
}

/// The migrations that this database lacks.
///
/// # Errors
///
/// If the database cannot be asked.
pub fn pending_migrations(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    match connection {
        AnyConnection::Sqlite(sqlite) => match sqlite.pending_migrations(SQLITE_MIGRATIONS) {
            Ok(pending) => Ok(pending.iter().map(|migration| migration.name().to_string()).collect()),
            Err(error) => Err(StoreError::Unavailable(error)),
        },
        AnyConnection::Postgresql(_) => Err(StoreError::Unavailable("there are no PostgreSQL migrations yet".into())),
    }
}
