//! A connection that somebody has for a while: what a transaction on it is, and how it is known that the server behind it
//! is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection as _;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::connection::AnyConnection;

/// From this age on, a connection that turns out to be read-only was not so when it was made.
const SETTLED: Duration = Duration::from_secs(5);

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
    /// Of a file, which is not lost.
    pub fn of_a_file(connection: AnyConnection, begin: String) -> Self {
        Self { connection, begin, wrapped: false, remote: None }
    }

    /// Of a server that had been lost so often, as `all_losses` counts it, before it was connected to. `wrapped`: a session
    /// does not outlive a transaction there.
    pub fn of_a_server(
        connection: AnyConnection,
        begin: String,
        wrapped: bool,
        losses: u64,
        all_losses: Arc<AtomicU64>,
    ) -> Self {
        let made = Made { at: Instant::now(), losses, all_losses, spoilt: false };
        Self { connection, begin, wrapped, remote: Some(made) }
    }

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

    /// Whether it is one still, as far as anybody has noticed.
    pub fn is_current(&self) -> bool {
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

/// Why a transaction has not been committed, as far as one can tell.
#[derive(Debug)]
pub enum Aborted {
    /// It has not been.
    Undone(DieselError),
    /// It may have been: the commit itself failed.
    Unknown(DieselError),
}

impl Aborted {
    /// What the database or the work said.
    pub fn into_error(self) -> DieselError {
        match self {
            Self::Undone(error) | Self::Unknown(error) => error,
        }
    }

    /// What the database or the work said.
    pub fn error(&self) -> &DieselError {
        match self {
            Self::Undone(error) | Self::Unknown(error) => error,
        }
    }
}

/// Begins a transaction that may write from its first statement on. On failure nothing has begun.
///
/// # Errors
///
/// If another writer does not finish in time, or the database cannot be asked.
pub fn begin_write(lease: &mut Lease) -> Result<(), Aborted> {
    let begin = lease.begin().to_owned();
    let begun = lease.connection().batch_execute(&begin);
    // Should an earlier transaction have been left open, it ends here rather than never.
    begun.map_err(|error| Aborted::Undone(roll_back(lease, error)))
}

/// Runs `work` in the transaction that was begun, and commits it.
///
/// # Errors
///
/// What `work` failed with, after a rollback; or what the database said to the commit.
pub fn commit_after<T>(
    lease: &mut Lease,
    work: impl FnOnce(&mut AnyConnection) -> QueryResult<T>,
) -> Result<T, Aborted> {
    match work(lease.connection()) {
        Ok(value) => match lease.connection().batch_execute("COMMIT") {
            Ok(()) => Ok(value),
            Err(error) => Err(Aborted::Unknown(roll_back(lease, error))),
        },
        Err(error) => Err(Aborted::Undone(roll_back(lease, error))),
    }
}

/// A rollback fails where the database has rolled back already; the first error is the one that matters.
fn roll_back(lease: &mut Lease, error: DieselError) -> DieselError {
    lease.note(&error);
    if let Err(second) = lease.connection().batch_execute("ROLLBACK") {
        lease.note(&second);
        tracing::debug!(error = %second, "there was nothing to roll back");
    }
    error
}
