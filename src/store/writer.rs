//! Every write goes through a queue, and refreshes that arrive together are committed together.
//!
//! One mechanism, two stores. While one commit is under way, those who wait form the next batch: no timer holds
//! anybody up, and the busier it gets, the more of them share one wait for the disk. No write is answered before its
//! commit, each member of a batch has an answer of its own, and where a batch fails, its members are tried one by one, so
//! that one bad row never hurts another.
//!
//! - **SQLite** has one writer at a time whatever one does, so here all writes, whatever they do, wait in one lane before
//!   one thread, which commits up to [`BATCH`] of them in one transaction, each behind a savepoint of its own.
//! - **PostgreSQL** has many. Refreshes have a lane of their own: one thread carries up to [`BATCH`] of them in one
//!   statement ([`sessions::advance_all`]). Those that it did not rotate go over to a second lane, where they are judged, and
//!   where all other writes wait: before a few threads, a transaction each.
//!
//! [`sessions::advance_all`]: super::sessions::advance_all

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use diesel::QueryResult;
use diesel::result::Error as DieselError;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Span;

use super::batch::{self, Deadline, Work, is_deadlock};
use super::connection::AnyConnection;
use super::error::StoreError;
use super::lease::is_loss;
use super::pool::Pool;
use super::sessions::{Handover, Rotation};

/// Writes that may wait in one lane; one more is refused at once.
const QUEUE: usize = 1024;
/// Writes in one commit.
const BATCH: usize = 64;

/// What is asked of the database, as it can be run again from the start: when the commit it was part of has failed.
pub trait Write<T>: Send {
    /// The one statement that it hopes to be, if it is a refresh.
    fn rotation(&self) -> Option<&Rotation> {
        None
    }
    /// What comes of it if that statement has rotated. None: it is no refresh.
    fn rotated(&self, _handover: Handover) -> Option<T> {
        None
    }
    /// Whether it is to stand even if whoever asked has been told that nothing was done.
    fn stands(&self, _outcome: &T) -> bool {
        false
    }
    /// All of it, inside a transaction.
    ///
    /// # Errors
    ///
    /// What a query failed with; then it is undone.
    fn run(&self, connection: &mut AnyConnection) -> QueryResult<T>;
}

impl<T, F: Fn(&mut AnyConnection) -> QueryResult<T> + Send> Write<T> for F {
    fn run(&self, connection: &mut AnyConnection) -> QueryResult<T> {
        self(connection)
    }
}

/// What becomes of a write. Its writer and whoever waits for it may both want to settle it; the first does.
#[derive(Default)]
struct Fate(AtomicU8);

impl Fate {
    const OPEN: u8 = 0;
    const COMMITTING: u8 = 1;
    const GIVEN_UP: u8 = 2;

    fn change(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// It will be committed next, unless it was given up.
    fn commit(&self) -> bool {
        self.change(Self::OPEN, Self::COMMITTING) || self.0.load(Ordering::SeqCst) == Self::COMMITTING
    }

    /// It was not committed after all.
    fn reopen(&self) {
        self.change(Self::COMMITTING, Self::OPEN);
    }

    /// Whoever waited is told that nothing was done, unless it is being committed.
    fn give_up(&self) -> bool {
        self.change(Self::OPEN, Self::GIVEN_UP)
    }
}

/// Where the answer to a write will come. Dropping it abandons the write if it has not begun.
pub struct Answer<T> {
    reply: oneshot::Receiver<Result<T, StoreError>>,
    fate: Arc<Fate>,
}

impl<T> Answer<T> {
    /// Waits so long for it. If it has not come by then, the write is given up and will not be committed; one whose commit
    /// is under way can no longer be, and is waited for as long again as `commit`.
    ///
    /// # Errors
    ///
    /// What the write failed with, or that it was not done in time.
    pub async fn within(mut self, patience: Duration, commit: Duration) -> Result<T, StoreError> {
        for wait in [patience, commit] {
            match timeout(wait, &mut self.reply).await {
                Ok(answer) => return told(answer),
                Err(_) if self.fate.give_up() => {
                    return Err(StoreError::Unavailable("a write was not done in time, and was given up".into()));
                }
                Err(_) => {}
            }
        }
        Err(StoreError::Unavailable("a commit was not answered in time".into()))
    }

    /// Waits for it on this thread.
    ///
    /// # Errors
    ///
    /// What the write failed with.
    pub fn wait(self) -> Result<T, StoreError> {
        told(self.reply.blocking_recv())
    }
}

fn told<T>(answer: Result<Result<T, StoreError>, oneshot::error::RecvError>) -> Result<T, StoreError> {
    answer.unwrap_or_else(|_| Err(StoreError::Unavailable("the writer has stopped".into())))
}

struct Job<T, F, A> {
    attempt: F,
    after_commit: A,
    outcome: Option<Result<T, StoreError>>,
    fate: Arc<Fate>,
    /// To begin by, or it could not be done in time any more.
    deadline: Deadline,
    reply: oneshot::Sender<Result<T, StoreError>>,
    span: Span,
}

impl<T, F, A> Work for Job<T, F, A>
where
    T: Send,
    F: Write<T>,
    A: FnOnce(&T) + Send,
{
    fn rotation(&self) -> Option<&Rotation> {
        self.attempt.rotation()
    }

    fn rotated(&mut self, handover: Handover) {
        self.outcome = self.attempt.rotated(handover).map(Ok);
    }

    fn attempt(&mut self, connection: &mut AnyConnection) -> QueryResult<()> {
        let attempt = &self.attempt;
        // A panic in one write must not take the others, or the writer, with it.
        let result = self.span.in_scope(|| catch_unwind(AssertUnwindSafe(|| attempt.run(connection))));
        let (outcome, undo) = match result {
            Ok(Ok(value)) => (Ok(value), None),
            Ok(Err(error)) if is_loss(&error) || is_deadlock(&error) => return Err(error),
            Ok(Err(error)) => (Err(StoreError::from(error)), Some(DieselError::RollbackTransaction)),
            Err(_panic) => (Err(StoreError::Broken("a write panicked".into())), Some(DieselError::RollbackTransaction)),
        };
        self.outcome = Some(outcome);
        undo.map_or(Ok(()), Err)
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn is_late(&self) -> bool {
        self.deadline.has_passed()
    }

    fn commit(&self) -> bool {
        self.fate.commit() || matches!(&self.outcome, Some(Ok(outcome)) if self.attempt.stands(outcome))
    }

    fn reopen(&self) {
        self.fate.reopen();
    }

    fn forget(&mut self) {
        self.outcome = None;
    }

    fn answer(self: Box<Self>) {
        let outcome = self.outcome.unwrap_or(Err(StoreError::Busy));
        if let Ok(value) = &outcome {
            let after_commit = self.after_commit;
            let panicked = self.span.in_scope(|| catch_unwind(AssertUnwindSafe(|| after_commit(value)))).is_err();
            if panicked {
                tracing::error!("what should follow a commit panicked");
            }
        }
        // The one who asked may be gone by now; the write stands all the same.
        let _unheard = self.reply.send(outcome);
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _unheard = self.reply.send(Err(error));
    }
}

/// The queue in front of the writers' threads, which end when the last handle is dropped.
#[derive(Clone)]
pub struct Writer {
    rotations: Lane,
    others: Lane,
}

type Lane = SyncSender<Box<dyn Work>>;

impl Writer {
    /// One lane and one thread for everything.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn single(pool: &Pool) -> std::io::Result<Self> {
        let lane = lane(pool, 1, BATCH, batch::in_one_transaction)?;
        Ok(Self { rotations: lane.clone(), others: lane })
    }

    /// A lane for refreshes, with one thread and connections of its own, and one for everything else, with `threads`.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn parallel(rotating: &Pool, pool: &Pool, threads: u32) -> std::io::Result<Self> {
        let others = lane(pool, threads, 1, batch::one_by_one)?;
        let left = others.clone();
        let rotations = lane(rotating, 1, BATCH, move |pool, works| {
            for work in batch::in_one_statement(pool, works) {
                if let Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) = left.try_send(work) {
                    work.fail(StoreError::Busy);
                }
            }
        })?;
        Ok(Self { rotations, others })
    }

    /// Queues a write and returns where its answer will come. It fails if it has not been begun by the time that is left
    /// for it: what is begun should have time to be done, or a queue that is too long would be worked off in vain.
    /// `after_commit` follows the commit, whether anybody still waits or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if the queue is full.
    pub fn submit<T: Send + 'static>(
        &self,
        begin_within: Option<Duration>,
        attempt: impl Write<T> + 'static,
        after_commit: impl FnOnce(&T) + Send + 'static,
    ) -> Result<Answer<T>, StoreError> {
        let lane = if attempt.rotation().is_some() { &self.rotations } else { &self.others };
        let (reply, answer) = oneshot::channel();
        let (fate, deadline) = (Arc::default(), Deadline::within(begin_within));
        let (outcome, span) = (None, Span::current());
        let job = Job { attempt, after_commit, outcome, fate: Arc::clone(&fate), deadline, reply, span };
        match lane.try_send(Box::new(job)) {
            Ok(()) => Ok(Answer { reply: answer, fate }),
            Err(_full) => Err(StoreError::Busy),
        }
    }
}

fn lane(
    pool: &Pool,
    threads: u32,
    batch: usize,
    commit: impl Fn(&Pool, Vec<Box<dyn Work>>) + Send + Sync + 'static,
) -> std::io::Result<Lane> {
    let (lane, waiting) = sync_channel(QUEUE);
    let (waiting, commit) = (Arc::new(Mutex::new(waiting)), Arc::new(commit));
    for _ in 0..threads {
        let (pool, waiting, commit) = (pool.clone(), Arc::clone(&waiting), Arc::clone(&commit));
        thread::Builder::new().name("store-writer".into()).spawn(move || {
            while let Some(works) = next(&waiting, batch) {
                // Whoever waits is told by the end of their channel; those who come later must still be served.
                if catch_unwind(AssertUnwindSafe(|| commit(&pool, works))).is_err() {
                    tracing::error!("a batch of writes panicked");
                }
            }
        })?;
    }
    Ok(lane)
}

/// Whoever waits, at most `most` of them; waits for somebody to come. None: nobody will come any more.
fn next(waiting: &Mutex<Receiver<Box<dyn Work>>>, most: usize) -> Option<Vec<Box<dyn Work>>> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let first = waiting.recv().ok()?;
    let all = std::iter::once(first).chain(waiting.try_iter().take(most.saturating_sub(1)));
    Some(batch::in_time(all))
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "writer_tests.rs"]
mod tests;
