//! Connections, shared: made when they are needed, given back, and given up all at once when one of them finds that the
//! server behind them is gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::connection::{Aborted, Access, AnyConnection, begin_write, commit_after};
use super::error::StoreError;
use super::{postgres, sqlite};

/// From this age on, a connection that turns out to be read-only was not so when it was made.
const SETTLED: Duration = Duration::from_secs(5);

/// A pool of connections to either database.
pub type Pool = r2d2::Pool<Manager>;

/// Opens connections for a pool.
///
/// Each variant is connected by name: `MultiConnection::establish` tries its variants in turn and
/// would make an SQLite file of a PostgreSQL URL that does not answer.
#[derive(Debug)]
pub enum Manager {
    /// The embedded database.
    Sqlite {
        /// Its file.
        path: PathBuf,
        /// What its connections may do.
        access: Access,
        /// How long they wait while another process writes.
        turn: Duration,
    },
    /// PostgreSQL.
    Postgresql(Remote),
}

/// A server, and how often it was lost.
#[derive(Clone, Debug)]
pub struct Remote {
    server: Arc<postgres::Server>,
    losses: Arc<AtomicU64>,
    /// How long a statement waits for a row that somebody holds.
    turn: Duration,
}

impl Remote {
    /// What is shared by every pool of one process.
    pub fn new(server: postgres::Server) -> Self {
        let turn = server.patience();
        Self { server: Arc::new(server), losses: Arc::default(), turn }
    }

    /// The same, less patient.
    pub fn hurried(&self, turn: Duration) -> Self {
        Self { turn, ..self.clone() }
    }
}

impl Manager {
    /// For the database file at `path`, which must exist.
    pub fn sqlite(path: &Path, access: Access, turn: Duration) -> Self {
        Self::Sqlite { path: path.to_owned(), access, turn }
    }
}

/// A connection, and whether it is still one.
pub struct Lease {
    connection: AnyConnection,
    begin: String,
    /// Whether single statements need a transaction: settings of the session would be left behind for others.
    wrapped: bool,
    /// None: a file is not lost.
    remote: Option<Made>,
}

/// When a connection to a server was made.
struct Made {
    at: Instant,
    /// How often the server had been lost by then.
    losses: u64,
    all_losses: Arc<AtomicU64>,
    /// This one has to go, whatever becomes of the others.
    spoilt: bool,
}

impl Lease {
    /// The connection.
    pub fn connection(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }

    /// What begins a transaction on it.
    pub fn begin(&self) -> &str {
        &self.begin
    }

    /// Runs a query, and takes note if the server turns out to be gone.
    ///
    /// # Errors
    ///
    /// What the query failed with.
    pub fn run<T>(&mut self, query: impl FnOnce(&mut AnyConnection) -> QueryResult<T>) -> QueryResult<T> {
        if self.wrapped {
            let result = begin_write(self).and_then(|()| commit_after(self, query));
            return result.map_err(Aborted::into_error);
        }
        let result = query(&mut self.connection);
        if let Err(error) = &result {
            self.note(error);
        }
        result
    }

    /// Takes note if `error` says that the server is gone: then every connection made before is given up.
    pub fn note(&mut self, error: &DieselError) {
        let Some(made) = self.remote.as_mut().filter(|_| is_loss(error)) else { return };
        made.spoilt = true;
        // A server that takes no writes may have become a standby: another one takes them now. If it took none from the
        // beginning, nothing is gained by connecting anew.
        let read_only = matches!(error, DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _));
        if read_only && made.at.elapsed() < SETTLED {
            return;
        }
        // Of those who notice the same loss, one counts it.
        let next = made.losses.wrapping_add(1);
        let _counted = made.all_losses.compare_exchange(made.losses, next, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn is_current(&self) -> bool {
        self.remote.as_ref().is_none_or(|made| !made.spoilt && made.losses == made.all_losses.load(Ordering::SeqCst))
    }
}

/// Whether a query failed because its connection leads nowhere any more: the server has gone, has ended the connection, or
/// has become a standby. Nothing was written then, unless it was a commit that failed so.
pub fn is_loss(error: &DieselError) -> bool {
    use DatabaseErrorKind as Kind;
    matches!(
        error,
        DieselError::BrokenTransactionManager
            | DieselError::DatabaseError(
                Kind::ClosedConnection | Kind::ReadOnlyTransaction | Kind::UnableToSendCommand,
                _
            )
    )
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
    type Connection = Lease;
    type Error = Unconnected;

    fn connect(&self) -> Result<Lease, Unconnected> {
        match self {
            Self::Sqlite { path, access, turn } => Ok(Lease {
                connection: AnyConnection::Sqlite(sqlite::connect(path, *access, *turn)?),
                // SQLite's default transaction starts as a reader and fails when it turns out to write.
                begin: "BEGIN IMMEDIATE".to_owned(),
                wrapped: false,
                remote: None,
            }),
            Self::Postgresql(remote) => {
                let losses = remote.losses.load(Ordering::SeqCst);
                let connection = AnyConnection::Postgresql(remote.server.connect(remote.turn)?);
                let made = Made { at: Instant::now(), losses, all_losses: Arc::clone(&remote.losses), spoilt: false };
                let (begin, wrapped) = (remote.server.begin(remote.turn), !remote.server.keeps_sessions());
                Ok(Lease { connection, begin, wrapped, remote: Some(made) })
            }
        }
    }

    /// Asked before each use, so it must cost nothing.
    fn is_valid(&self, lease: &mut Lease) -> Result<(), Unconnected> {
        if lease.is_current() { Ok(()) } else { Err(Unconnected("the server was lost".to_owned())) }
    }

    fn has_broken(&self, lease: &mut Lease) -> bool {
        !lease.is_current()
    }
}

/// A pool of at most `size` connections, for one of which anybody waits as long as `wait`. Those to a server are made when
/// they are needed, those to a file at once.
pub fn build(manager: Manager, size: u32, wait: Duration) -> Pool {
    let remote = matches!(manager, Manager::Postgresql(_));
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
