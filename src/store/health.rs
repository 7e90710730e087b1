//! Whether the database is fit for work, as a load balancer asks.
//!
//! A database that is full, read-only, locked or a standby answers reads all the same, so a probe writes; and so that
//! asking costs next to nothing, however many ask, those who ask within a second share one probe.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_query;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::engine::condition::FileIdentity;
use super::engine::connection::AnyConnection;
use super::engine::error::StoreError;
#[cfg(feature = "sqlite")]
use super::engine::watch::WatchedFile;
use super::migrations::{self, SchemaState};
use super::tables::schema::health;
use super::{Store, Write};
use crate::clock::Timestamp;

/// For so long the outcome of a probe is given to others who ask.
const FRESH: Duration = Duration::from_secs(1);
/// The longest that the reading half of a probe takes, and the writing half. Longer than a write waits for its turn
/// (`SERVER_TIMEOUTS`), and together less than a load balancer should wait.
const LIMIT: Duration = Duration::from_millis(2_500);
/// A writer that is busy is no reason to take a node away. One that has written nothing for so long is not busy, but stuck.
const STUCK: Duration = Duration::from_secs(5);

/// One statement, so that it also works behind a pooler: the row is written unless another node is just writing it, and
/// no other process holds a table that refreshes and log-ins write.
const WRITE: &str = "
    WITH a AS (DELETE FROM sessions WHERE false), b AS (DELETE FROM users WHERE false),
         c AS (DELETE FROM attempts WHERE false), d AS (DELETE FROM events WHERE false)
    UPDATE health SET writes = writes + 1 WHERE id = (SELECT id FROM health WHERE id = 1 FOR UPDATE SKIP LOCKED)";

/// Why the database is not fit for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// It does not answer.
    NoAnswer,
    /// It answers, but takes no writes: full, read-only, locked, a standby.
    NoWrites,
    /// A query or a check met a page or a file that is not what it should be.
    Damaged,
    /// The file was exchanged, removed or overwritten while it was open.
    Replaced,
    /// Its schema is older than this version needs it.
    MigrationsPending,
    /// Its schema was made by a later version.
    NewerSchema,
}

impl Unready {
    /// One sentence, for any client.
    pub fn detail(self) -> &'static str {
        match self {
            Self::NoAnswer => "The database does not answer.",
            Self::NoWrites => "The database takes no writes.",
            Self::Damaged => "The database is damaged.",
            Self::Replaced => "The database was replaced while it was in use.",
            Self::MigrationsPending => "The database needs migrations.",
            Self::NewerSchema => "The database belongs to a newer version.",
        }
    }

    /// What the operator should do.
    fn advice(self) -> &'static str {
        match self {
            Self::NoAnswer => "look whether it runs and can be reached; this node goes on by itself when it does",
            Self::NoWrites => {
                "look for a full or read-only disk, a standby, or a program that holds a lock; this node goes on by itself \
                 when it is done"
            }
            Self::Damaged => "stop this node and put a backup in its place",
            Self::Replaced => {
                "unless this node is ready again within half a minute, restart it: it works on the file that was there before, \
                 and what it writes now is lost"
            }
            Self::MigrationsPending => "run `countersign migrate`",
            Self::NewerSchema => "install the version that migrated it",
        }
    }
}

/// Without an embedded database there is no file to be watched.
#[cfg(not(feature = "sqlite"))]
#[derive(Debug)]
pub enum WatchedFile {}

#[cfg(not(feature = "sqlite"))]
impl WatchedFile {
    fn inspect(&mut self) -> FileIdentity {
        match *self {}
    }

    fn remember(&mut self) {
        match *self {}
    }
}

/// The latest probe, and what it was about.
#[derive(Debug, Default)]
pub struct Health {
    latest: Arc<Mutex<Latest>>,
    /// What is watched of an embedded database.
    file: Option<Arc<std::sync::Mutex<WatchedFile>>>,
}

/// The outcome of the latest probe.
#[derive(Debug, Default)]
struct Latest {
    outcome: Option<(Instant, Result<(), Unready>)>,
    /// When a probe last could write.
    written: Option<Instant>,
}

impl Health {
    /// Of the embedded database, whose file is watched, or of a server.
    pub fn of(file: Option<Arc<std::sync::Mutex<WatchedFile>>>) -> Self {
        Self { latest: Arc::default(), file }
    }

    /// What the file has gone through. A server has none.
    async fn inspect(&self) -> FileIdentity {
        let Some(file) = self.file.clone() else { return FileIdentity::Same };
        let inspect = move || file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).inspect();
        // Where no thread could tell, the write that follows does.
        tokio::task::spawn_blocking(inspect).await.unwrap_or(FileIdentity::Same)
    }

    /// Remembers what the file is like now.
    async fn remember(&self) {
        let Some(file) = self.file.clone() else { return };
        let remember = move || file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remember();
        let _panicked = tokio::task::spawn_blocking(remember).await;
    }

    /// Whether the file is still the one that was opened, as far as is known.
    pub fn is_replaced(&self) -> bool {
        self.file.as_ref().is_some_and(|file| {
            file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).inspect() == FileIdentity::Replaced
        })
    }
}

/// Why a probe failed, and what the database said.
struct Failed(Unready, String);

impl Store {
    /// Whether the database is fit for work: it answers, takes writes, is whole, and has the schema of this version. A
    /// change is told in the log, once.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub async fn check(&self) -> Result<(), Unready> {
        let mut latest = Arc::clone(&self.health.latest).lock_owned().await;
        if let Some((at, outcome)) = latest.outcome
            && at.elapsed() < FRESH
        {
            return outcome;
        }
        let store = self.clone();
        // By itself, so that one who goes away does not make the next begin anew.
        let probe = tokio::spawn(async move {
            let before = latest.outcome.map(|(_, outcome)| outcome);
            let busy_for_now = latest.written.is_some_and(|at| at.elapsed() < STUCK);
            let outcome = store.probe(busy_for_now).await;
            if let Ok(Written(true)) = outcome {
                latest.written = Some(Instant::now());
            }
            let outcome = announced(before, outcome);
            latest.outcome = Some((Instant::now(), outcome));
            outcome
        });
        probe.await.unwrap_or(Err(Unready::NoAnswer))
    }

    async fn probe(&self, may_be_busy: bool) -> Result<Written, Failed> {
        let may_be_busy = may_be_busy || !self.shared && self.condition.has_committed_within(STUCK);
        if self.health.inspect().await == FileIdentity::Replaced {
            return Err(Failed(Unready::Replaced, "the file is not the one that was opened".into()));
        }
        let read = match timeout(LIMIT, self.read(migrations::state)).await {
            Ok(Err(StoreError::Busy)) | Err(_) if may_be_busy => return Ok(Written(false)),
            Ok(read) => read.map_err(|error| error.chain()),
            Err(_) => Err("it was not heard of in time".into()),
        };
        match read {
            _ if self.is_damaged() => return Err(Failed(Unready::Damaged, "see what was logged before".into())),
            Ok(SchemaState::Current) => {}
            Ok(SchemaState::Pending(_)) => {
                return Err(Failed(Unready::MigrationsPending, "migrations are pending".into()));
            }
            Ok(SchemaState::Newer(_)) => {
                return Err(Failed(Unready::NewerSchema, "it has migrations of a later version".into()));
            }
            Err(told) => return Err(Failed(Unready::NoAnswer, told)),
        }
        let written = match timeout(LIMIT, self.write_probe()).await {
            Ok(written) => written.map_err(|error| (is_busy(&error), error.chain())),
            Err(_) => Err((true, "a write was not done in time".into())),
        };
        self.health.remember().await;
        match written {
            Ok(()) => Ok(Written(true)),
            Err((true, _)) if may_be_busy => Ok(Written(false)),
            Err(_) if self.is_damaged() => Err(Failed(Unready::Damaged, "see what was logged before".into())),
            Err((_, told)) => Err(Failed(Unready::NoWrites, told)),
        }
    }

    /// One write: where there is one writer, through its queue.
    async fn write_probe(&self) -> Result<(), StoreError> {
        if self.shared {
            return self.read(|connection| sql_query(WRITE).execute(connection).map(drop)).await;
        }
        let write = |connection: &mut AnyConnection| {
            diesel::update(health::table).set(health::writes.eq(health::writes + 1)).execute(connection).map(drop)
        };
        self.queue(Write::new(write), Some(LIMIT))?.within(LIMIT, Duration::ZERO).await
    }
}

/// A probe that has not failed, and whether it could write or others were faster.
struct Written(bool);

/// Whether others are just writing.
fn is_busy(error: &StoreError) -> bool {
    match error {
        StoreError::Busy => true,
        StoreError::Unavailable(cause) => {
            let told = cause.to_string();
            ["database is locked", "lock timeout", "statement timeout", "not done in time"]
                .iter()
                .any(|busy| told.contains(busy))
        }
        StoreError::Broken(_) => false,
    }
}

/// Tells the log where this probe came out otherwise than the one before.
fn announced(before: Option<Result<(), Unready>>, outcome: Result<Written, Failed>) -> Result<(), Unready> {
    match outcome {
        Ok(_) => {
            if matches!(before, Some(Err(_))) {
                tracing::info!("the database is fit for work again, so this node is ready");
            }
            Ok(())
        }
        Err(Failed(why, told)) => {
            if before != Some(Err(why)) {
                tracing::error!(cause = told, "this node is not ready: {} To do: {}", why.detail(), why.advice());
            }
            Err(why)
        }
    }
}

/// When the janitor last believed the clock. None: never.
pub fn trusted_at(connection: &mut AnyConnection) -> QueryResult<Option<Timestamp>> {
    let micros: Option<i64> = health::table.select(health::trusted_at).first(connection).optional()?;
    Ok(micros.filter(|micros| *micros > 0).map(Timestamp::from_micros))
}

/// Remembers that the janitor believes the clock.
pub fn trust(connection: &mut AnyConnection, now: Timestamp) -> QueryResult<()> {
    diesel::update(health::table).set(health::trusted_at.eq(now.as_micros())).execute(connection).map(drop)
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use super::*;

    /// What an embedded database is made of: one writer, for which all others wait.
    mod embedded {
        use futures_util::FutureExt as _;

        use super::*;
        use crate::store::testing::{Gate, TestDatabase};

        /// Whether the database is fit for work, asked anew, where a probe could write at that time.
        fn check(store: &Store, written: Option<Instant>) -> Result<(), Unready> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                *store.health.latest.lock().await = Latest { outcome: None, written };
                store.check().await
            })
        }

        #[test]
        fn a_writer_that_is_busy_is_ready_unless_it_has_written_nothing_for_long() {
            let database = TestDatabase::new();
            let store = database.store();
            assert_eq!(check(&store, None), Ok(()));
            let long_ago = Instant::now().checked_sub(STUCK);
            let quiet =
                Store::open(&database.database, Arc::default(), crate::metrics::StoreMetrics::default()).unwrap();
            let gate = Gate::shut(&database, &quiet, |_| Ok(()));
            assert_eq!(check(&quiet, Some(Instant::now())), Ok(()), "busy");
            for stuck in [None, long_ago] {
                assert_eq!(check(&quiet, stuck), Err(Unready::NoWrites), "{stuck:?}");
            }
            drop(gate);
            assert_eq!(check(&quiet, None), Ok(()));
        }

        #[test]
        fn a_probe_goes_on_when_the_client_that_asked_has_gone() {
            let database = TestDatabase::new();
            let store = database.store();
            let written =
                || store.read_blocking(|conn| health::table.select(health::writes).first::<i64>(conn)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                assert!(store.check().now_or_never().is_none(), "the first look at it only begins the probe");
                let patience = Instant::now() + Duration::from_secs(60);
                while written() == 0 && Instant::now() < patience {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            assert_eq!(written(), 1);
        }
    }
}
