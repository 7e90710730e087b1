//! What queries have shown of the database's condition: whether it is damaged, and when it last took a write. Shared by
//! all connections of a process; noted by [`lease`](super::lease).

#[cfg(feature = "sqlite")]
use std::sync::{Arc, OnceLock, Weak};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::result::Error as DieselError;

#[cfg(feature = "sqlite")]
use super::watch::WatchedFile;

/// What SQLite and PostgreSQL say of a page or a file that is not what it should be.
const DAMAGED: [&str; 7] = [
    "database disk image is malformed",
    "malformed database schema",
    "file is not a database",
    "invalid page in block",
    "could not read block",
    "unexpected zero page",
    "missing chunk number",
];

/// For so long one of several servers counts as damaged: another may have taken its place since.
const ONE_OF_SEVERAL: Duration = Duration::from_secs(60);

/// Whether the file of an embedded database is still the one that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileIdentity {
    /// It is.
    Same,
    /// It is gone, is another one, or was overwritten by a program that is not SQLite.
    Replaced,
}

/// What is known of the database.
#[derive(Debug, Default)]
pub struct Condition {
    /// When damage was met last.
    damaged_at: Mutex<Option<Instant>>,
    /// When something was last committed.
    committed_at: Mutex<Option<Instant>>,
    /// The file, where there is one and it is watched.
    #[cfg(feature = "sqlite")]
    watched: OnceLock<Weak<Mutex<WatchedFile>>>,
}

impl Condition {
    /// Takes note if `error` says that the database is damaged.
    pub fn note(&self, error: &DieselError) {
        if let DieselError::DatabaseError(_, told) = error
            && says_damaged(told.message())
        {
            self.note_damage(told.message());
        }
    }

    /// The database is damaged, as `finding` says.
    pub fn note_damage(&self, finding: &str) {
        let before = self.damaged_at.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
        if before.is_none_or(|before| before.elapsed() > ONE_OF_SEVERAL) {
            tracing::error!(
                finding,
                "the database is damaged, so this node is not ready: stop it, keep a copy of the database's files, and put a \
                 backup in their place (the file alone, without the -wal and -shm beside the old one)"
            );
        }
    }

    /// Takes note of a commit.
    pub fn note_commit(&self) {
        *self.committed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// From here on `file` is watched.
    #[cfg(feature = "sqlite")]
    pub fn watch(&self, file: &Arc<Mutex<WatchedFile>>) {
        let _first = self.watched.set(Arc::downgrade(file));
    }

    /// The file, where there is one and it is watched: it is checkpointed by [`WatchedFile::checkpoint`] alone.
    #[cfg(feature = "sqlite")]
    pub fn watched(&self) -> Option<Arc<Mutex<WatchedFile>>> {
        self.watched.get()?.upgrade()
    }

    /// Whether a query or a check has met damage. A file stays damaged until it is opened anew.
    pub fn is_damaged(&self, is_file: bool) -> bool {
        let damaged_at = *self.damaged_at.lock().unwrap_or_else(PoisonError::into_inner);
        damaged_at.is_some_and(|at| is_file || at.elapsed() < ONE_OF_SEVERAL)
    }

    /// Whether something was committed within the last `time`.
    pub fn has_committed_within(&self, time: Duration) -> bool {
        let committed_at = *self.committed_at.lock().unwrap_or_else(PoisonError::into_inner);
        committed_at.is_some_and(|at| at.elapsed() < time)
    }
}

/// Whether a database says by `message` that it is damaged.
pub fn says_damaged(message: &str) -> bool {
    DAMAGED.iter().any(|damaged| message.contains(damaged))
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind::Unknown;

    use super::*;

    #[test]
    fn what_a_damaged_database_says_is_told_from_what_else_fails() {
        for (message, damaged) in [
            ("database disk image is malformed", true),
            ("malformed database schema (users) - near \"\u{1}\": syntax error", true),
            ("file is not a database", true),
            ("invalid page in block 7 of relation base/16384/16402", true),
            ("could not read block 3 in file \"base/16384/16402\": read only 0 of 8192 bytes", true),
            ("index \"sessions_pkey\" contains unexpected zero page at block 9", true),
            ("database is locked", false),
            ("database or disk is full", false),
            ("disk I/O error", false),
            ("attempt to write a readonly database", false),
            ("malformed JSON", false),
        ] {
            let condition = Condition::default();
            condition.note(&DieselError::DatabaseError(Unknown, Box::new(message.to_owned())));
            assert_eq!((condition.is_damaged(true), condition.is_damaged(false)), (damaged, damaged), "{message}");
        }
        let condition = Condition::default();
        condition.note(&DieselError::NotFound);
        assert!(!condition.is_damaged(true));
    }
}
