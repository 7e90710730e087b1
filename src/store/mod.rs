//! The database: what may talk to it, how long that waits, and every query there is.
//!
//! Queries live in [`users`], [`sessions`], [`events`] and [`attempts`]; they take a connection, decide in their `WHERE` clause
//! and return the narrowest result. [`Store`] runs them: reads on a pool of connections, writes through
//! one writer. A closure given to [`Store::write`] may run more than once and must not mind.

mod engine;
pub mod health;
mod migrations;
mod opening;
mod reading;
mod rotation_batch;
mod tables;
#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "testing_tests.rs"]
pub mod testing;
mod upkeep;

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "sqlite")]
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

pub use diesel::QueryResult;
use tokio::sync::Semaphore;

pub use self::engine::condition::Condition;
#[cfg(feature = "sqlite")]
use self::engine::connection::Access;
pub use self::engine::connection::AnyConnection;
pub use self::engine::error::StoreError;
#[cfg(feature = "postgres")]
use self::engine::pool::Remote;
use self::engine::pool::{self, Manager, Pool};
#[cfg(feature = "postgres")]
use self::engine::postgres;
#[cfg(feature = "sqlite")]
use self::engine::watch::{self, WatchedFile};
use self::engine::write::Answer;
pub use self::engine::write::Write;
use self::engine::write_queue::WriteQueue;
use self::health::Health;
pub use self::migrations::SchemaState;
pub use self::opening::{DatabaseState, OpenError, name};
use self::rotation_batch::RotationQueue;
use self::tables::addresses;
pub use self::tables::addresses::Conflict;
pub use self::tables::{
    access_keys, attempts, columns, events, mail_tokens, mails, second_factors, sessions, signing_keys, users,
};
#[cfg(feature = "sqlite")]
use self::upkeep::LogEmptied;
use crate::config::Database;
#[cfg(feature = "postgres")]
use crate::config::Postgres;
use crate::metrics::StoreMetrics;

/// Readers of the embedded database.
const READERS: u32 = 4;
/// For what reads while no request waits: above all the poll for revocations.
const HOUSEKEEPERS: u32 = 2;
/// The longest that a request waits for a connection to the embedded database.
const CONNECTING: Duration = Duration::from_secs(3);
/// A client waits for its answer, and had better be told soon that there is none; but a disk may stand still for seconds.
const SERVER_TIMEOUTS: Timeouts = Timeouts { lock_timeout: Duration::from_secs(2), answer: Duration::from_secs(6) };
/// An operator waits beside a server that may be very busy, and had better get through; though not for ever.
const OPERATOR_TIMEOUTS: Timeouts = Timeouts { lock_timeout: Duration::from_secs(30), answer: Duration::from_secs(40) };
/// How long a batch of refreshes waits for a locked row, while all the others wait for it.
const BATCH_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a write waits.
#[derive(Clone, Copy)]
struct Timeouts {
    /// For another process to finish writing.
    lock_timeout: Duration,
    /// For its answer, all in all.
    answer: Duration,
}

/// Condition and metrics of the database.
type Shared<'a> = (&'a Arc<Condition>, StoreMetrics);

/// The database, shared by everything in the process.
#[derive(Clone)]
pub struct Store {
    /// Of the embedded database: for reads that are carried out where they are asked for.
    at_once: Option<Pool>,
    readers: Pool,
    /// One permit a reader: who waits, waits here, and not on a thread.
    reader_permits: Arc<Semaphore>,
    /// For a permit.
    reader_wait: Duration,
    writes: WriteQueue,
    rotations: RotationQueue,
    timeouts: Timeouts,
    shared: bool,
    condition: Arc<Condition>,
    health: Arc<Health>,
    /// Every pool there is.
    pools: Arc<[Pool]>,
    metrics: Arc<StoreMetrics>,
    /// Of the embedded database.
    path: Option<Arc<Path>>,
    /// Of a command.
    #[cfg(feature = "sqlite")]
    _at_end: Option<Arc<LogEmptied>>,
}

impl Store {
    /// Opens the database, of which something may be known ([`Store::inspect`]). The embedded one must have been made
    /// ([`Store::prepare`]), and is watched from here on; PostgreSQL need not even be there: until it is, every query fails.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(database: &Database, condition: Arc<Condition>, metrics: StoreMetrics) -> Result<Self, StoreError> {
        match database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(path) => {
                let store = Self::embedded(path, READERS, SERVER_TIMEOUTS, (&condition, metrics))?;
                if !condition.is_damaged(true) {
                    watch::check_closed(path, &condition)?;
                }
                let file = Arc::new(Mutex::new(WatchedFile::watch(path)?));
                condition.watch(&file);
                Ok(Self { health: Arc::new(Health::of(Some(file))), ..store })
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(postgres) => {
                let answer = postgres.pool_wait.saturating_add(postgres.statement_timeout);
                let timeouts = Timeouts { lock_timeout: postgres.statement_timeout, answer };
                Self::remote(postgres, postgres.pool_size, timeouts, (&condition, metrics))
            }
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            _ => Err(not_built()),
        }
    }

    /// The same for an operator's command, beside a server or not: it reads little, and would rather wait than fail.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or is damaged.
    pub fn open_for_operator(database: &Database) -> Result<Self, StoreError> {
        match database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(path) => {
                let condition = Self::inspect_for_operator(database)?;
                let store = Self::embedded(path, 1, OPERATOR_TIMEOUTS, (&condition, StoreMetrics::default()))?;
                Ok(Self { _at_end: Some(Arc::new(LogEmptied::of(path, &condition))), ..store })
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(postgres) => {
                Self::remote(postgres, 5, OPERATOR_TIMEOUTS, (&Arc::default(), StoreMetrics::default()))
            }
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            _ => Err(not_built()),
        }
    }

    #[cfg(feature = "sqlite")]
    fn embedded(
        path: &Path,
        readers: u32,
        timeouts: Timeouts,
        (condition, metrics): Shared<'_>,
    ) -> Result<Self, StoreError> {
        let pool = |access, lock_timeout, size| {
            let pool = pool::build(Manager::sqlite(path, access, lock_timeout, condition), size, CONNECTING);
            // Whether it can be opened at all is told at once, and not by the first query.
            pool.get().map(|_| pool.clone()).map_err(|error| StoreError::Unavailable(error.into()))
        };
        let writer = pool(Access::Write, timeouts.lock_timeout, 1)?;
        let writes =
            WriteQueue::group_commit(&writer, &metrics).map_err(|error| StoreError::Unavailable(error.into()))?;
        let rotations = RotationQueue::Shared(writes.clone());
        let at_once = pool(Access::Read, Duration::ZERO, threads())?;
        let readers = (pool(Access::Read, timeouts.lock_timeout, readers + HOUSEKEEPERS)?, readers);
        let pools = Arc::new([writer, at_once.clone(), readers.0.clone()]);
        let store = Self::of(readers, CONNECTING, (writes, rotations), timeouts, (condition, metrics));
        Ok(Self { at_once: Some(at_once), shared: false, path: Some(path.into()), pools, ..store })
    }

    /// `connections`: at least five. One carries refreshes, a quarter of them all other writes, two are the
    /// housekeepers', and the rest read.
    #[cfg(feature = "postgres")]
    fn remote(
        postgres: &Postgres,
        connections: u32,
        timeouts: Timeouts,
        (condition, metrics): Shared<'_>,
    ) -> Result<Self, StoreError> {
        let remote = Remote::new(postgres::Server::new(postgres, timeouts.lock_timeout)?, condition);
        let pool = |remote: &Remote, size| pool::build(Manager::Postgresql(remote.clone()), size, postgres.pool_wait);
        let writers = (connections / 4).max(1);
        let readers = connections.saturating_sub(1 + writers + HOUSEKEEPERS).max(1);
        let no_thread = |error: std::io::Error| StoreError::Unavailable(error.into());
        let (writer, rotator) = (pool(&remote, writers), pool(&remote.with_lock_timeout(BATCH_LOCK_TIMEOUT), 1));
        let writes = WriteQueue::parallel(&writer, writers, &metrics).map_err(no_thread)?;
        let rotations = RotationQueue::own(&rotator, &metrics).map_err(no_thread)?;
        let readers = (pool(&remote, readers + HOUSEKEEPERS), readers);
        let pools = Arc::new([writer, rotator, readers.0.clone()]);
        let store = Self::of(readers, postgres.pool_wait, (writes, rotations), timeouts, (condition, metrics));
        Ok(Self { pools, ..store })
    }

    fn of(
        (readers, permits): (Pool, u32),
        reader_wait: Duration,
        (writes, rotations): (WriteQueue, RotationQueue),
        timeouts: Timeouts,
        (condition, metrics): Shared<'_>,
    ) -> Self {
        let permits = usize::try_from(permits).unwrap_or(1);
        Self {
            at_once: None,
            readers,
            reader_permits: Arc::new(Semaphore::new(permits)),
            reader_wait,
            writes,
            rotations,
            timeouts,
            shared: true,
            condition: Arc::clone(condition),
            health: Arc::default(),
            pools: Arc::new([]),
            metrics: Arc::new(metrics),
            path: None,
            #[cfg(feature = "sqlite")]
            _at_end: None,
        }
    }

    /// Runs `attempt` in a transaction, and returns only after the commit. It may run more than once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if too many writes wait already, [`StoreError::Unavailable`] if it is not done in time, else
    /// what `attempt` failed with. It is undone then, unless it is a commit whose end is unknown.
    pub async fn write<T, F>(&self, attempt: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
    {
        self.write_and_then(attempt, |_| ()).await
    }

    /// The same, and what must follow the commit: see [`Write::and_then`].
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub async fn write_and_then<T, F, A>(&self, attempt: F, after_commit: A) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        self.submit(Write::new(attempt).and_then(after_commit)).await
    }

    /// Runs a write that has properties of its own.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub async fn submit<T, F, A>(&self, write: Write<T, F, A>) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let Timeouts { answer, lock_timeout } = self.timeouts;
        // What is begun should have time to be done, or a queue that is too long would be carried out in vain.
        let queued = self.queue(write, Some(answer.saturating_sub(lock_timeout)));
        self.counted(match queued {
            Ok(queued) => queued.within(answer, lock_timeout).await,
            Err(error) => Err(error),
        })
    }

    /// As [`Store::write`], on this thread. For threads that may wait, and do not hurry.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub fn write_blocking<T, F>(&self, attempt: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
    {
        self.counted(self.queue(Write::new(attempt), None).and_then(Answer::wait))
    }

    fn queue<T, F, A>(&self, write: Write<T, F, A>, begin_within: Option<Duration>) -> Result<Answer<T>, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (queued, answer) = write.queued(begin_within);
        if self.writes.push(queued) { Ok(answer) } else { Err(StoreError::Busy) }
    }

    /// Whether other nodes may have the same database. It may then be away when this one starts.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Accounts with the same address, which had different ones for earlier versions. On this thread.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub fn address_conflicts_blocking(&self) -> Result<Vec<Conflict>, StoreError> {
        self.read_blocking(addresses::conflicts)
    }
}

/// The configuration refuses a database that this program was built without; a program can still ask for one.
#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn not_built() -> StoreError {
    StoreError::Unavailable(
        "this program was built without that kind of database (features sqlite and postgres)".into(),
    )
}

/// A failure of our own inside a transaction, which is undone by it.
pub fn internal_error(error: impl std::error::Error + Send + Sync + 'static) -> diesel::result::Error {
    diesel::result::Error::QueryBuilderError(Box::new(error))
}

/// Other writers were faster too often: the caller is asked to come again.
pub fn too_many_conflicts() -> diesel::result::Error {
    let lost = Box::new("lost too many races".to_owned());
    diesel::result::Error::DatabaseError(diesel::result::DatabaseErrorKind::SerializationFailure, lost)
}

/// What is stored was signed with a key that has not been read yet: the caller is asked to come again.
pub fn unknown_key() -> diesel::result::Error {
    let unread = Box::new("a key has not been read yet".to_owned());
    diesel::result::Error::DatabaseError(diesel::result::DatabaseErrorKind::SerializationFailure, unread)
}

/// As many as work at a time.
fn threads() -> u32 {
    thread::available_parallelism()
        .ok()
        .and_then(|threads| NonZero::<u32>::try_from(threads).ok())
        .map_or(1, NonZero::get)
}
