//! The embedded database: how its file is made and opened.

use std::fs;
use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use super::connection::Access;
use super::database_file::beside;
use super::error::StoreError;

/// Opens the file at `path`, which must exist. While another process writes, the connection waits for its turn for as
/// long as `lock_timeout`.
///
/// # Errors
///
/// If there is no such file, or it is no database.
pub fn connect(path: &Path, access: Access, lock_timeout: Duration) -> Result<SqliteConnection, StoreError> {
    // SQLite would make a new, empty database where the file is gone: an outage must not look like a fresh start.
    if !path.exists() {
        return Err(StoreError::Unavailable("the database file is gone".into()));
    }
    let mut connection = open(path)?;
    // The order matters: switching to WAL can itself meet a busy database.
    let mut setup = format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; \
         PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
        lock_timeout.as_millis()
    );
    if access == Access::Read {
        setup.push_str(" PRAGMA query_only = ON;");
    }
    connection.batch_execute(&setup)?;
    Ok(connection)
}

/// The same for a file that is known to be damaged: nothing of its log is moved into it, so that an operator finds both as
/// they were.
///
/// # Errors
///
/// As [`connect`].
pub fn connect_for_salvage(
    path: &Path,
    access: Access,
    lock_timeout: Duration,
) -> Result<SqliteConnection, StoreError> {
    let mut connection = connect(path, access, lock_timeout)?;
    connection.batch_execute("PRAGMA wal_autocheckpoint = 0")?;
    Ok(connection)
}

/// Writes whose file it is into its header.
///
/// # Errors
///
/// If it cannot be written.
pub fn mark(path: &Path, application_id: i32, lock_timeout: Duration) -> Result<(), StoreError> {
    let mut sqlite = open(path)?;
    sqlite.batch_execute(&format!(
        "PRAGMA busy_timeout = {}; PRAGMA application_id = {application_id}; PRAGMA wal_checkpoint(PASSIVE);",
        lock_timeout.as_millis()
    ))?;
    Ok(())
}

/// The URL by which SQLite opens the file at `path` for reading alone (sqlite.org/uri.html).
fn read_only(path: &Path) -> Result<String, StoreError> {
    let text = path.to_str().ok_or_else(|| StoreError::Unavailable("the database's path is not UTF-8".into()))?;
    let whole = std::path::absolute(text).map_err(|error| StoreError::Unavailable(error.into()))?;
    let mut url = String::from("file://");
    for &byte in whole.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => url.push(char::from(byte)),
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url.push_str("?mode=ro");
    Ok(url)
}

/// Opens the file at `path`, which must be a database of ours, so that nothing can be written to it, nor its log be worked off
/// when the connection is closed.
///
/// # Errors
///
/// If it cannot be opened.
pub fn open_read_only(path: &Path, lock_timeout: Duration) -> Result<SqliteConnection, StoreError> {
    let url = read_only(path)?;
    let mut sqlite = SqliteConnection::establish(&url).map_err(|error| StoreError::Unavailable(error.into()))?;
    sqlite.batch_execute(&format!("PRAGMA busy_timeout = {}", lock_timeout.as_millis()))?;
    Ok(sqlite)
}

/// Opens the file at `path`, which must be a database of ours, for a look: nothing in it is changed.
///
/// # Errors
///
/// If what is there cannot be read.
pub fn open_to_inspect(path: &Path, lock_timeout: Duration) -> Result<SqliteConnection, StoreError> {
    // Closing the last connection works a log that was left beside the file off into it, unless that can only read.
    let left_over = fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let mut sqlite = if left_over { open_read_only(path, lock_timeout)? } else { open(path)? };
    sqlite.batch_execute(&format!("PRAGMA busy_timeout = {}; PRAGMA query_only = ON;", lock_timeout.as_millis()))?;
    Ok(sqlite)
}

/// Copies the database at `path`, which must be one of ours, into the empty file `copy`, as it is at one moment.
///
/// # Errors
///
/// If it cannot be read, or the copy cannot be written.
pub fn copy(path: &Path, copy: &str, lock_timeout: Duration) -> Result<(), StoreError> {
    let mut sqlite = open_to_inspect(path, lock_timeout)?;
    // It forbids writing the copy as well.
    sqlite.batch_execute("PRAGMA query_only = OFF")?;
    let vacuum = diesel::sql_query("VACUUM INTO ?").bind::<diesel::sql_types::Text, _>(copy);
    diesel::RunQueryDsl::execute(vacuum, &mut sqlite)?;
    Ok(())
}

fn open(path: &Path) -> Result<SqliteConnection, StoreError> {
    let Some(text) = path.to_str() else {
        return Err(StoreError::Unavailable("the database's path is not UTF-8".into()));
    };
    SqliteConnection::establish(text).map_err(|error| StoreError::Unavailable(error.into()))
}
