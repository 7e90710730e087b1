//! What is at the path of the embedded database. It is looked at before it is opened, since opening already changes a file:
//! what Countersign did not make stays as it is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

#[cfg(feature = "sqlite")]
use diesel::dsl::sql;
#[cfg(feature = "sqlite")]
use diesel::prelude::*;
#[cfg(feature = "sqlite")]
use diesel::sql_types::BigInt;

use rustix::fs::Access;

use crate::files::{FileError, absolute, check_writable_folder};

/// Says in the file's header whose it is (<https://www.sqlite.org/fileformat2.html#application_id>): "CSGN".
pub const APPLICATION_ID: i32 = 0x4353_474E;
/// The length of the header, and where the application's id is in it.
const HEADER: usize = 100;
const ID_AT: std::ops::Range<usize> = 68..72;
const MAGIC: &[u8] = b"SQLite format 3\0";
/// What only a database of ours has in its schema.
const OUR_INDEX: &str = "sessions_by_revocation";
/// As much of a write-ahead log as is searched for that.
const SEARCHED: u64 = 4 * 1024 * 1024;

/// What there is, and may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing; a database can be made there.
    Missing,
    /// An empty private file, as a first start leaves it that was killed.
    Empty,
    /// A database of ours.
    Ours {
        /// Whether its header says so. Those of the first versions are known by their tables alone.
        marked: bool,
    },
}

/// Something at the path, or on the way there, that is no database of ours. It was not touched.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseFileError {
    /// The system says no.
    #[error("the database {0}")]
    File(#[from] FileError),
    /// A folder.
    #[error("database.url names {path}, which is a folder: name a file in it, as in sqlite:{path}/countersign.db", path = .0.display())]
    Folder(PathBuf),
    /// A symbolic link.
    #[error("database.url names {}, which is a symbolic link: name the file that it leads to, {}", .path.display(), .target.display())]
    Link {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A device, a pipe, a socket.
    #[error("database.url names {}, which is no ordinary file: name another", .0.display())]
    Special(PathBuf),
    /// A file of something else.
    #[error("database.url names {}, which is not a database of SQLite; it was left as it is: name another file, or move it away", .0.display())]
    NoDatabase(PathBuf),
    /// An empty file that others can read, or that belongs to another user.
    #[error("database.url names {}, an empty file that Countersign did not make; it was left as it is: name another, or remove it", .0.display())]
    Empty(PathBuf),
    /// A database of another program.
    #[error("database.url names {}, the SQLite database of another program; it was left as it is: name another file, or move it away", .0.display())]
    Foreign(PathBuf),
    /// No folder to be in.
    #[error("the folder {path} of the database is not there: make it (mkdir -m 700 {path}), or mend database.url", path = .0.display())]
    NoFolder(PathBuf),
}

/// Looks, without changing anything.
///
/// # Errors
///
/// [`DatabaseFileError`], if what is there cannot be a database of ours.
pub fn inspect(path: &Path) -> Result<Found, DatabaseFileError> {
    let whole = absolute(path);
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return missing(&whole),
        Err(error) => return Err(FileError::new(path, "opened", error).into()),
    };
    let kind = found.file_type();
    if kind.is_dir() {
        return Err(DatabaseFileError::Folder(whole));
    }
    if kind.is_symlink() {
        let target = fs::canonicalize(path).or_else(|_| fs::read_link(path)).unwrap_or_default();
        return Err(DatabaseFileError::Link { path: whole, target });
    }
    if !kind.is_file() {
        return Err(DatabaseFileError::Special(whole));
    }
    let mut header = Vec::new();
    let limit = u64::try_from(HEADER).unwrap_or(u64::MAX);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut header));
    read.map_err(|error| FileError::new(path, "opened", error))?;
    if header.is_empty() {
        let us = rustix::process::geteuid().as_raw();
        let private = found.mode() & 0o077 == 0 && (found.uid() == us || us == 0);
        return if private { Ok(Found::Empty) } else { Err(DatabaseFileError::Empty(whole)) };
    }
    let (true, Some(id)) = (header.len() == HEADER && header.starts_with(MAGIC), header.get(ID_AT)) else {
        return Err(DatabaseFileError::NoDatabase(whole));
    };
    if id == APPLICATION_ID.to_be_bytes() {
        Ok(Found::Ours { marked: true })
    } else if id == [0; 4] && has_our_tables(&whole) {
        Ok(Found::Ours { marked: false })
    } else {
        Err(DatabaseFileError::Foreign(whole))
    }
}

fn missing(whole: &Path) -> Result<Found, DatabaseFileError> {
    let folder = whole.parent().unwrap_or(Path::new("/"));
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(Found::Missing),
        Ok(_) => Err(FileError::new(whole, "made", ErrorKind::NotADirectory.into()).into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(DatabaseFileError::NoFolder(folder.to_owned())),
        Err(error) => Err(FileError::new(whole, "made", error).into()),
    }
}

/// Whether a database without an application's id is one of our first versions'. Opened so that SQLite takes no lock and
/// makes no file beside it; then it reads no write-ahead log either.
#[cfg(feature = "sqlite")]
fn has_our_tables(whole: &Path) -> bool {
    let count = |what: &str| {
        let mut connection = SqliteConnection::establish(&immutable(whole)).ok()?;
        let query = format!("(SELECT count(*) FROM sqlite_master WHERE {what})");
        diesel::select(sql::<BigInt>(&query)).get_result::<i64>(&mut connection).ok()
    };
    match count(&format!("name IN ('{OUR_INDEX}', '__diesel_schema_migrations')")) {
        Some(2) => true,
        // All that it has may still be in the log, if its server was killed soon after its first start.
        _ => count("true") == Some(0) && log_has_our_tables(whole),
    }
}

/// Without SQLite no file is ours.
#[cfg(not(feature = "sqlite"))]
fn has_our_tables(_: &Path) -> bool {
    false
}

fn log_has_our_tables(whole: &Path) -> bool {
    let mut log = Vec::new();
    let read = File::open(beside(whole, "-wal")).and_then(|file| file.take(SEARCHED).read_to_end(&mut log));
    read.is_ok() && log.windows(OUR_INDEX.len()).any(|part| part == OUR_INDEX.as_bytes())
}

/// The URI of a file that is only read, and of which SQLite believes that no other process writes it.
fn immutable(whole: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in whole.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            other => uri += &format!("%{other:02X}"),
        }
    }
    uri + "?mode=ro&immutable=1"
}

/// A file that SQLite keeps beside a database.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes an empty private file. `false`: there is something already.
///
/// # Errors
///
/// If the system refuses.
pub fn create(path: &Path) -> Result<bool, FileError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FileError::new(path, "made", error)),
    }
}

/// Closes a database of ours to others, with the files beside it, and makes sure that they can be written.
///
/// # Errors
///
/// If the system refuses.
pub fn make_usable(path: &Path) -> Result<(), FileError> {
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        let found = match fs::symlink_metadata(&file) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound && file != path => continue,
            Err(error) => return Err(FileError::new(&file, "opened", error)),
        };
        // Through a link, the mode of another file would be changed.
        if !found.is_file() {
            return Err(FileError::new(&file, "used", io::Error::other("it is no ordinary file")));
        }
        if found.mode() & 0o077 != 0 {
            let closed = fs::set_permissions(&file, Permissions::from_mode(0o600));
            closed.map_err(|error| FileError::new(&file, "closed to others (chmod 600)", error))?;
        }
    }
    check_usable(path)
}

/// Whether a database and the files beside it can be written. Nothing is changed by asking.
///
/// # Errors
///
/// If not.
pub fn check_usable(path: &Path) -> Result<(), FileError> {
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        // Asked, and not tried: closing a file takes the locks of this process on it away (POSIX).
        let usable = rustix::fs::access(&file, Access::READ_OK | Access::WRITE_OK).map_err(io::Error::from);
        match usable {
            Err(error) if error.kind() == ErrorKind::NotFound && file != path => {}
            usable => usable.map_err(|error| FileError::new(&file, "written", error))?,
        }
    }
    check_writable_folder(path.parent().unwrap_or(Path::new(".")))
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "database_file_tests.rs"]
mod tests;
