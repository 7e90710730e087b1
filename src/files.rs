//! Files and folders that are ours alone: how they are made and read, and what is said when the system refuses.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{Access, OFlags, access};
use zeroize::Zeroizing;

/// The name of the file that a process locks while it makes something in a folder.
const LOCK: &str = ".countersign.lock";
/// How often, and how long apart, a lock that another process has is tried: half a minute in all.
const LOCK_ATTEMPTS: u32 = 600;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// A larger file is none of ours.
const LARGEST: u64 = 64 * 1024;

/// A file or folder that the system does not let us use. Says which, why, who owns it, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be {action}: {reason}", .path.display())]
pub struct FileError {
    path: PathBuf,
    action: &'static str,
    reason: String,
    source: io::Error,
}

impl FileError {
    /// What stood in the way of `action` (a participle, as in "read") on `path`.
    pub fn new(path: &Path, action: &'static str, source: io::Error) -> Self {
        let path = absolute(path);
        let reason = reason(&path, &source);
        Self { path, action, reason, source }
    }

    /// What the system said.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

/// `path` from the root on, as far as that can be told.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn reason(path: &Path, source: &io::Error) -> String {
    let obstacle = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    match source.kind() {
        ErrorKind::PermissionDenied => denied(path, obstacle.unwrap_or(Path::new("/"))),
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only; mount it for writing (under systemd: \
             StateDirectory= or ReadWritePaths=), or name another place in database.url"
            .to_owned(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "no space is left for it; free some, and try again".to_owned()
        }
        ErrorKind::NotFound => match obstacle {
            Some(folder) if Some(folder) != path.parent() && folder != path => {
                format!("there is no such folder below {}; make it, or mend the path", folder.display())
            }
            _ => "it is not there".to_owned(),
        },
        ErrorKind::NotADirectory => match path.ancestors().find(|path| path.exists() && !path.is_dir()) {
            Some(file) => format!("{} is a file and not a folder; move it away, or mend the path", file.display()),
            None => source.to_string(),
        },
        ErrorKind::IsADirectory => "it is a folder; move it away, or mend the path".to_owned(),
        _ => source.to_string(),
    }
}

fn denied(path: &Path, obstacle: &Path) -> String {
    let Ok(found) = fs::symlink_metadata(obstacle) else { return "permission denied".to_owned() };
    let (owner, us) = (user(found.uid()), user(rustix::process::geteuid().as_raw()));
    let what = if obstacle == path { "it".to_owned() } else { obstacle.display().to_string() };
    let mode = found.mode() & 0o7777;
    let remedy = if owner == us {
        format!(
            "its mode does not allow it; run: chmod u+rw{} {}",
            if found.is_dir() { "x" } else { "" },
            obstacle.display()
        )
    } else {
        format!("run this as {owner}, or give it to {us} with chown")
    };
    format!(
        "permission denied: {what} belongs to {owner} and has mode {mode:04o}, and this process runs as {us}; {remedy}"
    )
}

/// A user by number, and by name where the machine's own list has one.
fn user(id: u32) -> String {
    let list = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    match name {
        Some(name) => format!("{name} (uid {id})"),
        None => format!("uid {id}"),
    }
}

/// Makes a folder that only its owner can look into, if there is none. The one above it must be there; one that is there
/// is left as it is.
///
/// # Errors
///
/// If the system refuses, or something else is there.
pub fn create_private_folder(folder: &Path) -> Result<(), FileError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if folder.is_dir() {
                Ok(())
            } else {
                Err(FileError::new(folder, "used as a folder", ErrorKind::NotADirectory.into()))
            }
        }
        made => made.map_err(|error| FileError::new(folder, "made", error)),
    }
}

/// Whether files can be made in `folder`. Nothing is made by asking.
///
/// # Errors
///
/// If not.
pub fn check_writable_folder(folder: &Path) -> Result<(), FileError> {
    let here = if folder == Path::new("") { Path::new(".") } else { folder };
    access(here, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| FileError::new(here, "written in", error.into()))
}

/// Writes a new file for its owner alone: whole or not at all, and never over another one. `false`: there is one.
///
/// # Errors
///
/// If the system refuses.
pub fn write_new(path: &Path, text: &str) -> Result<bool, FileError> {
    fill_new(path, |draft| write_text(draft, path, text))
}

/// The same with a file that `fill` writes, of which it is given an empty beginning.
///
/// # Errors
///
/// What `fill` fails with, or if the system refuses.
pub fn fill_new<E: From<FileError>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<bool, E> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(false);
    }
    let mut is_new = true;
    draft(path, fill, |draft| match place_new(draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            is_new = false;
            Ok(())
        }
        placed => placed,
    })?;
    Ok(is_new)
}

/// Writes a file for its owner alone, whole or not at all, in place of one of ours that may be there.
///
/// # Errors
///
/// If the system refuses.
pub fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    draft(path, |draft| write_text(draft, path, text), |draft| fs::rename(draft, path))
}

fn write_text(draft: &Path, path: &Path, text: &str) -> Result<(), FileError> {
    let written = open_ours(OpenOptions::new().write(true), draft).and_then(|mut file| {
        give_to_owner_of_folder(&file, draft)?;
        file.write_all(text.trim_end().as_bytes())?;
        file.write_all(b"\n")
    });
    written.map_err(|error| FileError::new(path, "written", error))
}

/// Opens one of our own files, never through a symbolic link: the folder may belong to another system user.
fn open_ours(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// Gives a file that root makes to the owner of its folder, so that the server can read it.
fn give_to_owner_of_folder(file: &File, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let folder = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
    fchown(file, Some(folder.uid()), Some(folder.gid()))
}

/// Gives `draft` the name `path`, which no file may have.
fn place_new(draft: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(draft, path) {
        // A file system without links, as on many a disk for backups: the name is taken first.
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            fs::rename(draft, path)
        }
        linked => linked,
    }
}

/// Written beside, synced, then put into place.
fn draft<E: From<FileError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), E> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let draft = folder.join(format!(".draft-{}", uuid::Uuid::new_v4()));
    let failed = |error| E::from(FileError::new(path, "written", error));
    let empty = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
    let written = empty.map_err(failed).and_then(|_empty| fill(&draft)).and_then(|()| {
        let placed = File::open(&draft).and_then(|file| file.sync_all()).and_then(|()| place(&draft));
        placed.and_then(|()| File::open(folder)?.sync_all()).map_err(failed)
    });
    // Still there where it was linked, or nothing has become of it.
    let _gone_or_not_ours_to_mend = fs::remove_file(&draft);
    written
}

/// What is in a small file.
///
/// # Errors
///
/// If the system refuses, or it is no such file. That there is none is told by its kind, `NotFound`.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let failed = |error| FileError::new(path, "read", error);
    let found = fs::metadata(path).map_err(failed)?;
    if found.is_dir() {
        return Err(failed(ErrorKind::IsADirectory.into()));
    }
    if !found.is_file() || found.len() > LARGEST {
        return Err(failed(io::Error::other("it is no file that Countersign has made")));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// The lines of a small file of ours; none if there is no such file.
///
/// # Errors
///
/// If it cannot be read.
pub fn lines(path: &Path) -> Result<Vec<String>, FileError> {
    match read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Held by the process that makes something in a folder, so that two first starts at once make one of everything. The
/// system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// If the system refuses, or another process has it for half a minute.
    pub fn acquire(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(LOCK);
        let failed = |error| FileError::new(&path, "locked", error);
        for _ in 0..LOCK_ATTEMPTS {
            let file = open_ours(OpenOptions::new().write(true).create(true).truncate(false).mode(0o600), &path);
            let file = file.map_err(failed)?;
            give_to_owner_of_folder(&file, &path).map_err(failed)?;
            match file.try_lock() {
                // The one before us may have removed the file that we have locked; then another is locked by others.
                Ok(()) if is_at(&file, &path) => return Ok(Self { path, _file: file }),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let told = "another process has been making keys or a database there for half a minute; look for a second \
                    countersign that stands still";
        Err(failed(io::Error::other(told)))
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Before it is released: a process that waits for it finds that it is gone, and makes another.
        let _left_behind_it_harms_nothing = fs::remove_file(&self.path);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
