//! A token store in a file, which any number of threads and processes may share.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::client::Pair;

/// A file with the newest pair, and a lock beside it: the file itself is replaced each time.
pub struct FileStore {
    path: PathBuf,
}

impl FileStore {
    /// A store at this path. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Waits for its turn, which lasts until what is returned is dropped, or the process dies.
    pub fn lock(&self) -> io::Result<File> {
        let file = self.lock_file()?;
        file.lock().map(|()| file)
    }

    /// The same without waiting: `None` while it is another's turn.
    pub fn try_lock(&self) -> io::Result<Option<File>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_file(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.path.with_extension("lock"))
    }

    /// The newest pair.
    pub fn read(&self) -> io::Result<Option<Pair>> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Once this has returned, the pair survives even a power cut; until then the one before it does.
    pub fn write(&self, pair: &Pair) -> io::Result<()> {
        let next = self.path.with_extension("next");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(pair)?)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        File::open(self.path.canonicalize()?.with_file_name("."))?.sync_all()
    }

    /// Forgets it.
    pub fn clear(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}
