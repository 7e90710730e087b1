//! The single writer of the embedded database.
//!
//! SQLite has one writer at a time whatever one does, so writes queue here instead of fighting for its
//! lock. Writes that arrive while one commit is under way are committed together, each behind a
//! savepoint of its own: one wait for the disk answers them all, and one that fails undoes only itself.
//! No write is answered before its commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use diesel::QueryResult;
use diesel::result::Error as DieselError;
use tokio::sync::oneshot;
use tracing::Span;

use super::connection::{AnyConnection, SqliteManager, begin_write, commit_after, in_savepoint};
use super::error::StoreError;

/// Writes that may wait; one more is refused at once.
const QUEUE: usize = 1024;
/// Writes in one commit.
const BATCH: usize = 64;

/// One queued write, whatever it returns.
trait Work: Send {
    /// Runs it inside a transaction and keeps the outcome. `Err`: what it did must be undone.
    fn attempt(&mut self, connection: &mut AnyConnection) -> QueryResult<()>;
    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// Hands out the kept outcome, its commit having succeeded.
    fn answer(self: Box<Self>);
    /// Hands out a failure.
    fn fail(self: Box<Self>, error: StoreError);
}

/// `attempt` can be run again from the start, as when the commit it was part of failed.
struct Job<T, F, A> {
    attempt: F,
    announce: A,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    span: Span,
}

impl<T, F, A> Work for Job<T, F, A>
where
    T: Send,
    F: Fn(&mut AnyConnection) -> QueryResult<T> + Send,
    A: FnOnce(&T) + Send,
{
    fn attempt(&mut self, connection: &mut AnyConnection) -> QueryResult<()> {
        let attempt = &self.attempt;
        // A panic in one write must not take the others, or the writer, with it.
        let result = self.span.in_scope(|| catch_unwind(AssertUnwindSafe(|| attempt(connection))));
        let (outcome, undo) = match result {
            Ok(Ok(value)) => (Ok(value), None),
            Ok(Err(error)) => (Err(StoreError::from(error)), Some(DieselError::RollbackTransaction)),
            Err(_panic) => (Err(StoreError::Broken("a write panicked".into())), Some(DieselError::RollbackTransaction)),
        };
        self.outcome = Some(outcome);
        undo.map_or(Ok(()), Err)
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn answer(self: Box<Self>) {
        let outcome = self.outcome.unwrap_or(Err(StoreError::Busy));
        if let Ok(value) = &outcome {
            let announce = self.announce;
            let panicked = self.span.in_scope(|| catch_unwind(AssertUnwindSafe(|| announce(value)))).is_err();
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

/// The queue in front of the writer's thread, which ends when the last handle is dropped.
#[derive(Clone)]
pub struct Writer {
    queue: SyncSender<Box<dyn Work>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn start(pool: r2d2::Pool<SqliteManager>) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE);
        thread::Builder::new().name("store-writer".into()).spawn(move || serve(&pool, &waiting))?;
        Ok(Self { queue })
    }

    /// Queues a write and returns where its answer will come. Dropping that end abandons the write if
    /// it has not begun. `announce` follows the commit, whether anybody still waits or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if the queue is full.
    pub fn submit<T: Send + 'static>(
        &self,
        attempt: impl Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
        announce: impl FnOnce(&T) + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job { attempt, announce, outcome: None, reply, span: Span::current() };
        match self.queue.try_send(Box::new(job)) {
            Ok(()) => Ok(answer),
            Err(_full) => Err(StoreError::Busy),
        }
    }
}

fn serve(pool: &r2d2::Pool<SqliteManager>, waiting: &Receiver<Box<dyn Work>>) {
    while let Ok(first) = waiting.recv() {
        let batch: Vec<_> = std::iter::once(first)
            .chain(waiting.try_iter().take(BATCH - 1))
            .filter(|work| !work.is_abandoned())
            .collect();
        match pool.get() {
            Ok(mut connection) => commit(&mut connection, batch),
            Err(error) => fail_all(batch, &error),
        }
    }
}

/// Commits a batch together, or, where that fails, its members one by one.
fn commit(connection: &mut AnyConnection, mut batch: Vec<Box<dyn Work>>) {
    if let [_] = batch.as_slice() {
        return batch.into_iter().for_each(|work| commit_alone(connection, work));
    }
    // Nothing has begun, and trying again member by member would wait as long for each of them.
    if let Err(error) = begin_write(connection) {
        return fail_all(batch, &error);
    }
    let together = commit_after(connection, |connection| {
        // Those in front take time, in which whoever asked may have given up.
        batch.iter_mut().filter(|work| !work.is_abandoned()).try_for_each(|work| {
            match in_savepoint(connection, |connection| work.attempt(connection)) {
                // A member's own failure is its own answer; only a savepoint that fails ends the batch.
                Ok(()) | Err(DieselError::RollbackTransaction) => Ok(()),
                Err(error) => Err(error),
            }
        })
    });
    match together {
        Ok(()) => batch.into_iter().for_each(Work::answer),
        Err(error) => {
            tracing::warn!(%error, "a batch of writes failed; its members are tried one by one");
            batch.into_iter().for_each(|work| commit_alone(connection, work));
        }
    }
}

fn commit_alone(connection: &mut AnyConnection, mut work: Box<dyn Work>) {
    let result = begin_write(connection).and_then(|()| commit_after(connection, |connection| work.attempt(connection)));
    match result {
        // Undone: what it failed with is its answer.
        Ok(()) | Err(DieselError::RollbackTransaction) => work.answer(),
        Err(error) => fail_all(vec![work], &error),
    }
}

/// One failure, told to everybody who waited for it.
fn fail_all(batch: Vec<Box<dyn Work>>, error: &(impl ToString + ?Sized)) {
    let text: Arc<str> = error.to_string().into();
    for work in batch {
        work.fail(StoreError::Unavailable(text.to_string().into()));
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
