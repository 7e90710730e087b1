//! Connections, shared: made when they are needed, given back, and given up all at once when one of them finds that the
//! server behind them is gone.

#[cfg(feature = "sqlite")]
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::condition::Condition;
#[cfg(feature = "sqlite")]
use super::condition::says_damaged;
#[cfg(feature = "sqlite")]
use super::connection::Access;
use super::connection::AnyConnection;
use super::error::StoreError;
#[cfg(feature = "postgres")]
use super::lease::Made;
use super::lease::TrackedConnection;
#[cfg(feature = "postgres")]
use super::postgres;
#[cfg(feature = "sqlite")]
use super::sqlite;

/// A pool of connections to either database.
pub type Pool = r2d2::Pool<Manager>;

/// Opens connections for a pool.
///
/// Each variant is connected by name: `MultiConnection::establish` tries its variants in turn and
/// would make an SQLite file of a PostgreSQL URL that does not answer.
#[derive(Debug)]
pub enum Manager {
    /// The embedded database.
    #[cfg(feature = "sqlite")]
    Sqlite {
        /// Its file.
        path: PathBuf,
        /// What its connections may do.
        access: Access,
        /// How long they wait while another process writes.
        lock_timeout: Duration,
        /// What is known of it.
        condition: Arc<Condition>,
    },
    /// PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgresql(Remote),
}

/// A server, and how often it was lost.
#[cfg(feature = "postgres")]
#[derive(Clone, Debug)]
pub struct Remote {
    server: Arc<postgres::Server>,
    losses: Arc<AtomicU64>,
    condition: Arc<Condition>,
    /// How long a statement waits for a locked row.
    lock_timeout: Duration,
}

#[cfg(feature = "postgres")]
impl Remote {
    /// What is shared by every pool of one process.
    pub fn new(server: postgres::Server, condition: &Arc<Condition>) -> Self {
        let lock_timeout = server.statement_timeout();
        Self { server: Arc::new(server), losses: Arc::default(), condition: Arc::clone(condition), lock_timeout }
    }

    /// The same, less patient.
    pub fn with_lock_timeout(&self, lock_timeout: Duration) -> Self {
        Self { lock_timeout, ..self.clone() }
    }
}

#[cfg(feature = "sqlite")]
impl Manager {
    /// For the database file at `path`, which must exist.
    pub fn sqlite(path: &Path, access: Access, lock_timeout: Duration, condition: &Arc<Condition>) -> Self {
        Self::Sqlite { path: path.to_owned(), access, lock_timeout, condition: Arc::clone(condition) }
    }
}

/// Why there is no connection, in words: all that a pool passes on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unconnected(String);

impl From<StoreError> for Unconnected {
    fn from(error: StoreError) -> Self {
        Self(error.chain())
    }
}

impl r2d2::ManageConnection for Manager {
    type Connection = TrackedConnection;
    type Error = Unconnected;

    fn connect(&self) -> Result<TrackedConnection, Unconnected> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { path, access, lock_timeout, condition } => {
                let connected = match condition.is_damaged(true) {
                    // What is left to be saved is not worked off into the file.
                    true => sqlite::connect_for_salvage(path, *access, *lock_timeout),
                    false => sqlite::connect(path, *access, *lock_timeout),
                };
                let connection = connected.inspect_err(|error| {
                    let told = error.chain();
                    if says_damaged(&told) {
                        condition.note_damage(&told);
                    }
                })?;
                // SQLite's default transaction starts as a reader and fails when it turns out to write.
                let begin = "BEGIN IMMEDIATE".to_owned();
                Ok(TrackedConnection::of_a_file(AnyConnection::Sqlite(connection), begin, Arc::clone(condition)))
            }
            #[cfg(feature = "postgres")]
            Self::Postgresql(remote) => {
                let losses = remote.losses.load(Ordering::SeqCst);
                let (connection, process) = remote.server.connect(remote.lock_timeout, losses)?;
                let begin = remote.server.begin(remote.lock_timeout, process.is_some());
                let made = Made::now(process, losses, Arc::clone(&remote.losses));
                let connection = AnyConnection::Postgresql(connection);
                Ok(TrackedConnection::of_a_server(connection, begin, Arc::clone(&remote.condition), made))
            }
        }
    }

    /// Asked before each use, so it must cost nothing.
    fn is_valid(&self, lease: &mut TrackedConnection) -> Result<(), Unconnected> {
        if lease.is_current() { Ok(()) } else { Err(Unconnected("the server was lost".to_owned())) }
    }

    fn has_broken(&self, lease: &mut TrackedConnection) -> bool {
        !lease.is_current()
    }
}

/// A pool of at most `size` connections, for one of which a request waits as long as `wait`. Those to a server are made when
/// they are needed, those to a file at once.
pub fn build(manager: Manager, size: u32, wait: Duration) -> Pool {
    let remote = match &manager {
        #[cfg(feature = "sqlite")]
        Manager::Sqlite { .. } => false,
        #[cfg(feature = "postgres")]
        Manager::Postgresql(_) => true,
    };
    r2d2::Pool::builder()
        .max_size(size)
        .min_idle(remote.then_some(0))
        .connection_timeout(wait)
        .test_on_check_out(remote)
        .idle_timeout(None)
        .max_lifetime(None)
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .build_unchecked(manager)
}
