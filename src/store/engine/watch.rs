//! The file of an embedded database, watched while it is open and checked when it is opened.
//!
//! SQLite notices neither that its file was exchanged for another nor that it was overwritten where it lies: it goes on with
//! what it has in memory, and in the end mixes both.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::SqliteConnection;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::condition::{Condition, FileIdentity, says_damaged};
use super::connection::Access;
use super::database_file::beside;
use super::error::StoreError;
use super::sqlite;

/// Up to so many bytes are checked before the start goes on, which takes a fraction of a second. More is checked beside the
/// work, which may take minutes.
const CHECKED_AT_ONCE: u64 = 64 << 20;
/// As many pages of the log are moved into the file (SQLite's own default).
pub const LONG_LOG: i64 = 1000;
/// Between two attempts to empty the log.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// For a lock that others hold for a moment.
const WATCHING: Duration = Duration::from_secs(1);
/// How often, and how many times, a file that seems to have been overwritten is looked at again. Another process may be in
/// the middle of a checkpoint, and say so only at its end.
const LOOK_AGAIN: (Duration, u32) = (Duration::from_millis(100), 20);
/// The longest that a checkpoint may take on a disk that stands still. What still seems overwritten then, is.
const SUSPECTED: Duration = Duration::from_secs(30);

/// The file, as it was when it was opened and when it was last looked at.
pub struct WatchedFile {
    path: PathBuf,
    /// Its own connection: what it says has changed was changed by others.
    connection: SqliteConnection,
    opened: Identity,
    seen: Option<Seen>,
    /// Since when the file seems to have been overwritten.
    suspected: Option<Instant>,
    /// For that reason it was not checkpointed.
    is_left_alone: bool,
    overwritten: bool,
}

impl std::fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Device and number of the database and of its log. None: it is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity([Option<(u64, u64)>; 2]);

/// What the database file was like, and how much of its log had been checkpointed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// Length, and time of the last change in seconds and nanoseconds.
    file: (u64, i64, i64),
    progress: Progress,
}

impl Seen {
    /// Whether the file has changed by then, and not by a checkpoint.
    fn is_followed_by_foreign(self, now: Self) -> bool {
        now.file != self.file && !now.progress.is_beyond(self.progress)
    }
}

/// How much of the log has been checkpointed. Nothing else changes the file: commits only make the log longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    /// Changes with every commit.
    version: i64,
    /// Frames of the log.
    frames: i64,
    /// Of those, the ones that are in the file.
    checkpointed: i64,
    /// The number of the log, one more whenever it begins anew, which it does once all of it is in the file. None: it is
    /// empty.
    number: Option<u32>,
}

impl Progress {
    /// Whether a checkpoint may have written to the file since.
    fn is_beyond(self, before: Self) -> bool {
        match (before.number, self.number) {
            (Some(old), Some(new)) if new == old => self.checkpointed != before.checkpointed,
            // The old log was in the file by then, and the new one is not: it has only begun anew.
            (Some(old), Some(new)) if new == old.wrapping_add(1) => {
                before.checkpointed != before.frames || self.checkpointed > 0
            }
            (Some(_), _) => true,
            // Where there was no log, one may have come and gone.
            (None, _) => self.version != before.version,
        }
    }
}

impl WatchedFile {
    /// Begins to watch the file at `path`, which others have opened already.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn watch(path: &Path) -> Result<Self, StoreError> {
        let mut connection = sqlite::connect(path, Access::Read, WATCHING)?;
        // Reading makes the log, if there was none.
        let _schema: i64 = diesel::select(sql::<BigInt>("count(*) FROM sqlite_master")).get_result(&mut connection)?;
        let opened = Identity::of(path);
        let path = path.to_owned();
        let mut file =
            Self { path, connection, opened, seen: None, suspected: None, is_left_alone: false, overwritten: false };
        file.remember();
        Ok(file)
    }

    /// Whether it is still the one that was opened, and was changed by SQLite alone since [`WatchedFile::remember`].
    pub fn inspect(&mut self) -> FileIdentity {
        self.inspect_at(Instant::now())
    }

    fn inspect_at(&mut self, time: Instant) -> FileIdentity {
        if self.overwritten || Identity::of(&self.path) != self.opened {
            return FileIdentity::Replaced;
        }
        let Some(before) = self.seen else { return FileIdentity::Same };
        for _ in 0..LOOK_AGAIN.1 {
            match self.see() {
                // Nothing but a checkpoint changes the file, and that is a progress.
                Some(now) if before.is_followed_by_foreign(now) => {
                    thread::sleep(LOOK_AGAIN.0);
                }
                Some(_) => {
                    self.suspected = None;
                    return FileIdentity::Same;
                }
                None => return FileIdentity::Same,
            }
        }
        let since = *self.suspected.get_or_insert(time);
        self.overwritten = time.saturating_duration_since(since) >= SUSPECTED;
        FileIdentity::Replaced
    }

    /// Moves the log into the file over `connection`, if at least so many pages are waiting, and unless the file seems to
    /// have been overwritten: that would mix two databases, and look like the reason why the file has changed.
    ///
    /// # Errors
    ///
    /// If SQLite cannot.
    pub fn checkpoint(&mut self, connection: &mut SqliteConnection, least: i64) -> QueryResult<()> {
        let log: Checkpoint = diesel::sql_query("PRAGMA wal_checkpoint(NOOP)").get_result(connection)?;
        if log.log.saturating_sub(log.checkpointed) < least || self.is_foreign() {
            return Ok(());
        }
        let _done: Checkpoint = diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(connection)?;
        self.remember();
        Ok(())
    }

    /// Whether the file has changed, and no checkpoint explains it yet.
    fn is_foreign(&mut self) -> bool {
        if self.overwritten {
            return true;
        }
        let Some((before, now)) = self.seen.zip(self.see()) else { return false };
        let is_foreign = before.is_followed_by_foreign(now);
        if is_foreign && !std::mem::replace(&mut self.is_left_alone, is_foreign) {
            tracing::warn!(
                "the database file was changed, and not by SQLite as far as is known: nothing is moved into it until that is \
                 explained"
            );
        }
        self.is_left_alone = is_foreign;
        is_foreign
    }

    /// Takes what the file is like now as what it should be like, unless it seems to have been overwritten.
    pub fn remember(&mut self) {
        if self.suspected.is_none()
            && let Some(seen) = self.see()
        {
            self.seen = Some(seen);
        }
    }

    /// None: another process is at work on the file, or SQLite cannot be asked. This one's checkpoints need `self`.
    fn see(&mut self) -> Option<Seen> {
        let progress = self.progress().ok()?;
        let file = fs::metadata(&self.path).ok()?;
        // A checkpoint that was made in between would be seen in the file and not in the progress.
        let after = self.progress().ok()?;
        let at_rest = (progress.checkpointed, progress.number) == (after.checkpointed, after.number);
        at_rest.then(|| Seen { file: (file.len(), file.mtime(), file.mtime_nsec()), progress })
    }

    fn progress(&mut self) -> QueryResult<Progress> {
        let version =
            diesel::select(sql::<BigInt>("data_version FROM pragma_data_version")).get_result(&mut self.connection)?;
        let log: Checkpoint = diesel::sql_query("PRAGMA wal_checkpoint(NOOP)").get_result(&mut self.connection)?;
        let number = number_of(&log_of(&self.path));
        Ok(Progress { version, frames: log.log, checkpointed: log.checkpointed, number })
    }
}

impl Identity {
    fn of(path: &Path) -> Self {
        // Asking for a name opens nothing: closing what was opened would take the locks of SQLite's own connections away.
        let number = |metadata: Metadata| (metadata.dev(), metadata.ino());
        Self([path.to_owned(), log_of(path)].map(|path| fs::metadata(path).ok().map(number)))
    }
}

/// What SQLite says of a checkpoint: whether others were in the way, how many frames the log has, and how many of them are
/// in the file.
#[derive(QueryableByName)]
struct Checkpoint {
    #[diesel(sql_type = BigInt)]
    busy: i64,
    #[diesel(sql_type = BigInt)]
    log: i64,
    #[diesel(sql_type = BigInt)]
    checkpointed: i64,
}

/// The first salt in the header of a write-ahead log, which is one more for each (SQLite's file format, section 4.1). SQLite
/// holds no lock on this file that would be lost when it is closed here.
fn number_of(log: &Path) -> Option<u32> {
    let mut salt = [0; 4];
    File::open(log).ok()?.read_exact_at(&mut salt, 16).ok()?;
    Some(u32::from_be_bytes(salt))
}

/// The write-ahead log of the database at `path`.
fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

/// What there is to know of the database at `path` before anything is changed. Where the process that had it open last left
/// its log behind, as one that is killed does, file and log are looked at together: a log that was left beside a file it does
/// not belong to would spoil that file as soon as it is worked off.
///
/// # Errors
///
/// If the system has no thread to give.
pub fn inspect(path: &Path) -> Result<Arc<Condition>, StoreError> {
    // A large one is checked once it is open. A connection that is still at work here would count among the process's own,
    // whose locks are gone as soon as any other descriptor of the file is closed, as finding and opening it does.
    if is_large(path) { Ok(Arc::default()) } else { inspect_left_over(path) }
}

/// The same for a command, which has no later than this: a large one is checked as well, though not thoroughly, and may take
/// minutes. What a server or another command has open is not left over, and is not checked. Nothing of the database may be
/// open in this process.
///
/// # Errors
///
/// As [`inspect`].
pub fn inspect_unattended(path: &Path) -> Result<Arc<Condition>, StoreError> {
    if is_in_use(path) { Ok(Arc::default()) } else { inspect_left_over(path) }
}

fn inspect_left_over(path: &Path) -> Result<Arc<Condition>, StoreError> {
    let condition = Arc::<Condition>::default();
    if fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0) {
        check_now(sqlite::open_read_only(path, WATCHING)?, !is_large(path), &condition);
    }
    Ok(condition)
}

fn is_large(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > CHECKED_AT_ONCE)
}

/// Whether another process has the database at `path` open: each connection holds a lock on this byte of the file of shared
/// memory (SQLite's `UNIX_SHM_DMS`).
fn is_in_use(path: &Path) -> bool {
    let Ok(memory) = File::open(beside(path, "-shm")) else { return false };
    let byte = Flock { start: 128, length: 1, ..Flock::from(FlockType::WriteLock) };
    matches!(fcntl_getlk(memory, &byte), Ok(Some(_)))
}

/// The same for one that is open and was closed cleanly, whose disk may have spoilt it all the same. A large one is checked
/// beside the work.
///
/// # Errors
///
/// If it cannot be opened, or the system has no thread to give.
pub fn check_closed(path: &Path, condition: &Arc<Condition>) -> Result<(), StoreError> {
    let mut connection = sqlite::connect(path, Access::Read, WATCHING)?;
    if !is_large(path) {
        check_now(connection, false, condition);
        return Ok(());
    }
    let condition = Arc::clone(condition);
    tracing::info!(
        bytes = fs::metadata(path).map_or(0, |file| file.len()),
        "the database is being checked, beside the work"
    );
    thread::Builder::new()
        .name("integrity".into())
        .spawn(move || report(examine(&mut connection, false), &condition))
        .map_err(|error| StoreError::Unavailable(error.into()))?;
    Ok(())
}

/// Lets `condition` know if the database is not whole. Only a thorough check compares indexes with their tables.
fn check_now(mut connection: SqliteConnection, thoroughly: bool, condition: &Condition) {
    report(examine(&mut connection, thoroughly), condition);
    if condition.is_damaged(true) {
        // As long as it is open, no other connection is the last, which would checkpoint the log when it is closed.
        std::mem::forget(connection);
    }
}

fn report(finding: QueryResult<String>, condition: &Condition) {
    match finding {
        Ok(finding) if finding == "ok" => tracing::debug!("the database has been checked, and is whole"),
        Ok(finding) => condition.note_damage(&finding),
        Err(error) if says_damaged(&error.to_string()) => condition.note_damage(&error.to_string()),
        Err(error) => tracing::warn!(%error, "the database could not be checked"),
    }
}

/// What a check has found. SQLite names the column like the check.
#[derive(QueryableByName)]
struct Integrity {
    #[diesel(sql_type = Text)]
    integrity_check: String,
}

#[derive(QueryableByName)]
struct Quick {
    #[diesel(sql_type = Text)]
    quick_check: String,
}

/// The first thing that is wrong, or `ok`.
fn examine(connection: &mut SqliteConnection, thoroughly: bool) -> QueryResult<String> {
    match thoroughly {
        true => diesel::sql_query("PRAGMA integrity_check(1)")
            .get_result(connection)
            .map(|found: Integrity| found.integrity_check),
        false => {
            diesel::sql_query("PRAGMA quick_check(1)").get_result(connection).map(|found: Quick| found.quick_check)
        }
    }
}

/// Moves all of the log into the file, which alone is the database then. Whether that could be done: it is not while other
/// processes read or write, or anything checkpoints, for longer than `patience`.
///
/// # Errors
///
/// If the database cannot be opened or written.
pub fn empty_log(path: &Path, patience: Duration) -> Result<bool, StoreError> {
    let (mut connection, began) = (sqlite::connect(path, Access::Write, patience)?, Instant::now());
    loop {
        let done: Checkpoint = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result(&mut connection)?;
        // SQLite waits for readers and writers, but not for another checkpoint.
        if done.busy == 0 || began.elapsed() >= patience {
            return Ok(done.busy == 0);
        }
        thread::sleep(TRY_AGAIN);
    }
}

#[cfg(test)]
mod embedded {
    use super::*;
    use crate::store::AnyConnection;
    use crate::store::testing::TestDatabase;

    fn touch(path: &Path) {
        File::options().write(true).open(path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }

    fn write(connection: &mut AnyConnection) {
        diesel::sql_query("UPDATE health SET writes = writes + 1").execute(connection).unwrap();
    }

    /// Another process writes to the file and says only later that it was a checkpoint.
    #[test]
    fn a_checkpoint_that_takes_long_is_suspected_and_forgiven() {
        let database = TestDatabase::new();
        let mut connection = database.connect();
        write(&mut connection);
        let mut file = WatchedFile::watch(&database.file()).unwrap();
        let began = Instant::now();
        touch(&database.file());
        assert_eq!(file.inspect_at(began), FileIdentity::Replaced);
        // Neither a commit nor a look explains it.
        write(&mut connection);
        file.remember();
        assert_eq!(file.inspect_at(began + SUSPECTED / 2), FileIdentity::Replaced);
        assert!(empty_log(&database.file(), WATCHING).unwrap());
        assert_eq!(file.inspect_at(began + SUSPECTED * 2), FileIdentity::Same);
        file.remember();
        assert_eq!(file.inspect_at(began + SUSPECTED * 2), FileIdentity::Same);
        assert!(!file.overwritten);
    }

    /// As the system knows it: descriptors of this process.
    fn descriptors(path: &Path) -> usize {
        let all = fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|of| of == path)).count()
    }

    /// Else its locks would be gone, unnoticed, as soon as any other descriptor of the file is closed (fcntl(2)).
    #[test]
    fn nothing_stays_open_after_inspecting_a_database_beside_a_log() {
        let database = TestDatabase::new();
        let mut connection = database.connect();
        diesel::sql_query("CREATE TABLE spare (x)").execute(&mut connection).unwrap();
        diesel::sql_query("INSERT INTO spare VALUES (zeroblob(80000000))").execute(&mut connection).unwrap();
        let path = database.file();
        let log = || fs::metadata(log_of(&path)).unwrap().len();
        assert!(empty_log(&path, WATCHING).unwrap() && log() == 0 && is_large(&path));
        write(&mut connection);
        assert!(log() > 0);
        let open = descriptors(&path);
        assert!(open > 0);
        let condition = inspect(&path).unwrap();
        assert_eq!(descriptors(&path), open);
        assert!(!condition.is_damaged(true));
    }

    /// SQLite does not wait for a checkpoint of another connection, as it does for readers and writers.
    #[test]
    fn the_log_is_emptied_as_soon_as_another_checkpoint_is_done() {
        let database = TestDatabase::new();
        // Kept: the last connection to be closed would empty the log.
        let mut writer = database.connect();
        write(&mut writer);
        let path = database.file();
        let patience = Duration::from_secs(60);
        // A reader, for whom the other checkpoint has to wait.
        let mut reader = sqlite::connect(&path, Access::Read, WATCHING).unwrap();
        diesel::sql_query("BEGIN").execute(&mut reader).unwrap();
        let read: i64 = diesel::select(sql::<BigInt>("writes FROM health")).get_result(&mut reader).unwrap();
        assert_eq!(read, 1);
        thread::scope(|scope| {
            let other = scope.spawn(|| empty_log(&path, patience));
            let mut probe = sqlite::connect(&path, Access::Write, WATCHING).unwrap();
            let began = Instant::now();
            let mut is_under_way = || {
                let probed: Checkpoint =
                    diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(&mut probe).unwrap();
                probed.busy != 0
            };
            while !is_under_way() {
                assert!(began.elapsed() < patience, "the other checkpoint never began");
            }
            assert!(!empty_log(&path, Duration::ZERO).unwrap(), "the other is under way");
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(200));
                drop(reader);
            });
            assert!(empty_log(&path, patience).unwrap());
            assert!(other.join().unwrap().unwrap());
        });
        assert_eq!(fs::metadata(log_of(&path)).unwrap().len(), 0);
    }

    /// However much is committed, and however seldom it is looked at.
    #[test]
    fn a_file_that_was_overwritten_is_not_hidden_by_checkpoints_of_our_own() {
        let database = TestDatabase::new();
        let store = database.store();
        // Commits of more pages than the log should have.
        let write_much = || {
            for _ in 0..8 {
                let fill = |connection: &mut AnyConnection| {
                    diesel::sql_query("CREATE TABLE IF NOT EXISTS filler (bytes BLOB)").execute(connection)?;
                    diesel::sql_query("INSERT INTO filler VALUES (zeroblob(1000000))").execute(connection).map(drop)
                };
                store.write_blocking(fill).unwrap();
            }
        };
        let length = || fs::metadata(database.file()).unwrap().len();
        let [empty, first, second] = [length(), (write_much(), length()).1, (write_much(), length()).1];
        assert!(empty + 4_000_000 < first && first + 4_000_000 < second, "the log is moved into the file");
        assert!(!store.health.is_replaced());
        touch(&database.file());
        write_much();
        store.checkpoint_blocking().unwrap();
        assert_eq!(length(), second, "nothing is moved into what may be another database");
        assert!(store.health.is_replaced());
        // Another process says that it was its checkpoint: ours go on.
        assert!(empty_log(&database.file(), WATCHING).unwrap());
        assert!(!store.health.is_replaced());
        let before = length();
        write_much();
        assert!(length() > before);
    }

    /// What no checkpoint explains was overwritten however much is committed meanwhile.
    #[test]
    fn what_no_checkpoint_explains_was_overwritten() {
        for log_is_empty in [true, false] {
            let database = TestDatabase::new();
            let mut connection = database.connect();
            if log_is_empty {
                assert!(empty_log(&database.file(), WATCHING).unwrap());
            } else {
                write(&mut connection);
            }
            let mut file = WatchedFile::watch(&database.file()).unwrap();
            let began = Instant::now();
            touch(&database.file());
            for passed in [Duration::ZERO, SUSPECTED] {
                if !log_is_empty {
                    write(&mut connection);
                }
                assert_eq!(file.inspect_at(began + passed), FileIdentity::Replaced);
            }
            assert!(empty_log(&database.file(), WATCHING).unwrap());
            assert_eq!(file.inspect_at(began + SUSPECTED * 2), FileIdentity::Replaced, "for good");
        }
    }
}
