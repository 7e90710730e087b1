//! A connection taken from the pool for a while: what a transaction on it is, and how it is known that the server behind it
//! is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection as _;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::condition::Condition;
use super::connection::AnyConnection;
#[cfg(feature = "sqlite")]
use super::watch::LONG_LOG;

/// From this age on, a connection that turns out to be read-only was not so when it was made.
const SETTLED: Duration = Duration::from_secs(5);

/// Commits between two looks at how long the log of a watched file has become.
#[cfg(feature = "sqlite")]
const LOOK_AT_LOG: u32 = 4;

/// A connection, and whether it is still one.
pub struct TrackedConnection {
    connection: AnyConnection,
    begin: String,
    /// Whether single statements need a transaction: settings of the session would be left behind for others.
    wrapped: bool,
    /// What is known of the database.
    condition: Arc<Condition>,
    /// Commits to a watched file.
    commits: u32,
    /// None: a file is not lost.
    remote: Option<Made>,
}

/// When and to what a connection to a server was made.
pub struct Made {
    at: Instant,
    /// The process of the server that answers, for as long as the connection lives. None: another one for each transaction.
    process: Option<i32>,
    /// How often the server had been lost by then.
    losses: u64,
    all_losses: Arc<AtomicU64>,
    /// This one has to go, whatever becomes of the others.
    spoilt: bool,
}

impl Made {
    /// Now, after the server was lost so often, as `all_losses` counts it. `process`: the one that answers, if it is always
    /// the same; else a session does not outlive a transaction.
    pub fn now(process: Option<i32>, losses: u64, all_losses: Arc<AtomicU64>) -> Self {
        Self { at: Instant::now(), process, losses, all_losses, spoilt: false }
    }

    /// This one has to go, and so do all that were made before. Of those who notice the same loss, one counts it.
    fn give_up_all(&mut self) {
        self.spoilt = true;
        let next = self.losses.wrapping_add(1);
        let _counted = self.all_losses.compare_exchange(self.losses, next, Ordering::SeqCst, Ordering::SeqCst);
    }
}

impl TrackedConnection {
    /// Of a file, which is not lost.
    pub fn of_a_file(connection: AnyConnection, begin: String, condition: Arc<Condition>) -> Self {
        Self { connection, begin, wrapped: false, condition, commits: 0, remote: None }
    }

    /// Of a server.
    pub fn of_a_server(connection: AnyConnection, begin: String, condition: Arc<Condition>, made: Made) -> Self {
        Self { connection, begin, wrapped: made.process.is_none(), condition, commits: 0, remote: Some(made) }
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

    /// Takes note of what `error` says of the database. If its server is gone, or its sessions are no longer ours, every
    /// connection made before is given up.
    pub fn note(&mut self, error: &DieselError) {
        self.condition.note(error);
        let wrapped = self.wrapped;
        let Some(made) = self.remote.as_mut() else { return };
        if is_loss(error) {
            made.spoilt = true;
            // A server that takes no writes may have become a standby: another one takes them now. If it took none from the
            // beginning, nothing is gained by connecting anew.
            let read_only = matches!(error, DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _));
            if !(read_only && made.at.elapsed() < SETTLED) {
                made.give_up_all();
            }
        } else if !wrapped && is_answer_to_another(error) && made.at.elapsed() > SETTLED {
            made.give_up_all();
        }
    }

    /// Takes note that this process of the server has answered. If it is not the one that always did, a pooler has begun to
    /// give each transaction another session, in which neither our settings nor our statements are.
    pub fn note_process(&mut self, answered: i32) {
        let Some(made) = self.remote.as_mut() else { return };
        if made.process.is_some_and(|process| process != answered) {
            made.give_up_all();
        }
    }

    fn commit(&mut self) -> QueryResult<()> {
        #[cfg(feature = "sqlite")]
        self.switch_checkpoints_off()?;
        self.connection.batch_execute("COMMIT")?;
        self.condition.note_commit();
        #[cfg(feature = "sqlite")]
        self.checkpoint_now_and_then();
        Ok(())
    }

    /// SQLite would checkpoint a watched file as part of a commit, without a look at it.
    #[cfg(feature = "sqlite")]
    fn switch_checkpoints_off(&mut self) -> QueryResult<()> {
        if self.commits == 0 && self.condition.watched().is_some() {
            self.connection.batch_execute("PRAGMA wal_autocheckpoint = 0")?;
        }
        Ok(())
    }

    /// Here, where nothing is written meanwhile: only then does the log begin anew.
    #[cfg(feature = "sqlite")]
    fn checkpoint_now_and_then(&mut self) {
        // What is damaged is left as it is.
        let Some(file) = self.condition.watched().filter(|_| !self.condition.is_damaged(true)) else { return };
        self.commits = self.commits.checked_add(1).unwrap_or(1);
        if self.commits.is_multiple_of(LOOK_AT_LOG)
            && let AnyConnection::Sqlite(connection) = &mut self.connection
            // It is being looked at: the next time will do.
            && let Ok(mut file) = file.try_lock()
            && let Err(error) = file.checkpoint(connection, LONG_LOG)
        {
            tracing::debug!(%error, "the log of the database could not be moved into its file yet");
        }
    }

    /// Whether it is one still, as far as is known.
    pub fn is_current(&self) -> bool {
        self.remote.as_ref().is_none_or(|made| !made.spoilt && made.losses == made.all_losses.load(Ordering::SeqCst))
    }
}

/// Whether a query failed because its connection leads nowhere any more: the server has gone, has ended the connection, has
/// become a standby, or a pooler has given our session to others. Nothing was written then, unless it was a commit that
/// failed so.
pub fn is_loss(error: &DieselError) -> bool {
    use DatabaseErrorKind as Kind;
    matches!(
        error,
        DieselError::BrokenTransactionManager
            | DieselError::DatabaseError(
                Kind::ClosedConnection | Kind::ReadOnlyTransaction | Kind::UnableToSendCommand,
                _
            )
    ) || is_of_another_session(error)
}

/// What every message about a prepared statement names, in whatever language: diesel's own.
const PREPARED: &str = "\"__diesel_stmt_";

/// Whether a statement that was prepared here is not in the session that was asked, or is another one there: a pooler has
/// begun to give each transaction another session. Nothing was carried out then.
fn is_of_another_session(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(_, told) if told.message().contains(PREPARED))
}

/// Whether an answer may be that to a statement of the same name that another connection had prepared: what was sent or came
/// back has another form. It may also be a row that is not what the code expects.
fn is_answer_to_another(error: &DieselError) -> bool {
    const FORMS: [&str; 3] = ["bind parameter", "left in message", "cached plan"];
    match error {
        DieselError::DeserializationError(_) => true,
        DieselError::DatabaseError(_, told) => FORMS.iter().any(|form| told.message().contains(form)),
        _ => false,
    }
}

/// PostgreSQL has undone one of two transactions that waited for each other. (Its messages may be in another language;
/// then the client has to come again.)
pub fn is_deadlock(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(_, told) if told.message().contains("deadlock detected"))
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
pub fn begin_write(lease: &mut TrackedConnection) -> Result<(), Aborted> {
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
    lease: &mut TrackedConnection,
    work: impl FnOnce(&mut AnyConnection) -> QueryResult<T>,
) -> Result<T, Aborted> {
    match work(lease.connection()) {
        Ok(value) => match lease.commit() {
            Ok(()) => Ok(value),
            Err(error) => Err(Aborted::Unknown(roll_back(lease, error))),
        },
        Err(error) => Err(Aborted::Undone(roll_back(lease, error))),
    }
}

/// A rollback fails where the database has rolled back already; the first error is the one that matters.
fn roll_back(lease: &mut TrackedConnection, error: DieselError) -> DieselError {
    lease.note(&error);
    if let Err(second) = lease.connection().batch_execute("ROLLBACK") {
        lease.note(&second);
        tracing::debug!(error = %second, "there was nothing to roll back");
    }
    error
}
