//! One queued write: what it does, who waits for it, and how far it has got.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::result::Error as DieselError;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Span;

use super::connection::AnyConnection;
use super::error::StoreError;
use super::lease::{is_deadlock, is_loss};

/// A write as its queue sees it, whatever it does and returns.
pub trait PendingWrite: Send {
    /// How far it has got, and whether its caller waits for it.
    fn state(&self) -> &WriteState;
    /// Whether it is one statement, which undoes itself if it fails and so needs no savepoint among others.
    fn is_single_statement(&self) -> bool {
        false
    }
    /// Whether running it again is the same as having run it once, even if it has been committed.
    fn is_repeatable(&self) -> bool {
        false
    }
    /// Runs it inside a transaction and keeps the outcome. `Err`: what it did must be undone;
    /// [`DieselError::RollbackTransaction`] if the outcome is that it failed, anything else if there is no outcome.
    fn run(&mut self, connection: &mut AnyConnection) -> QueryResult<()>;
    /// Settles that it is committed next. `false`: the client was told that nothing was done, so nothing must be.
    fn settle(&self) -> bool {
        self.state().settle()
    }
    /// Drops the kept outcome, which was undone.
    fn forget(&mut self);
    /// Answers with the kept outcome, which was committed.
    fn answer(self: Box<Self>);
    /// Answers with a failure.
    fn fail(self: Box<Self>, error: StoreError);
}

/// How far a write has got. Its writer and the client that waits for it may both want to settle that; the first one does.
pub struct WriteState {
    phase: AtomicU8,
    /// Its caller does not wait for the answer any more.
    abandoned: AtomicBool,
    /// When it is too late to begin. `None`: it never is.
    begin_before: Option<Instant>,
}

impl WriteState {
    const OPEN: u8 = 0;
    const COMMITTING: u8 = 1;
    const GIVEN_UP: u8 = 2;

    fn change(&self, from: u8, to: u8) -> bool {
        self.phase.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Settles that it is committed next. `false`: it was given up.
    pub fn settle(&self) -> bool {
        self.change(Self::OPEN, Self::COMMITTING) || self.phase.load(Ordering::SeqCst) == Self::COMMITTING
    }

    /// It was not committed after all.
    pub fn reopen(&self) {
        self.change(Self::COMMITTING, Self::OPEN);
    }

    /// Gives it up. `false`: it is being committed.
    fn give_up(&self) -> bool {
        self.change(Self::OPEN, Self::GIVEN_UP)
    }

    /// Whether its caller has stopped waiting for the answer.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// Whether it has waited so long that no time is left to carry it out.
    pub fn is_late(&self) -> bool {
        self.begin_before.is_some_and(|latest| latest < Instant::now())
    }
}

/// The writer's end of a queued write: where its answer goes.
pub struct Ticket<T> {
    state: Arc<WriteState>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T> Ticket<T> {
    /// Both ends. `begin_within`: what is begun later could not be done in time.
    pub fn new(begin_within: Option<Duration>) -> (Self, Answer<T>) {
        let (reply, answer) = oneshot::channel();
        let begin_before = begin_within.map(|time| Instant::now() + time);
        let state = WriteState { phase: AtomicU8::default(), abandoned: AtomicBool::default(), begin_before };
        let state = Arc::new(state);
        (Self { state: Arc::clone(&state), reply }, Answer { state, reply: answer })
    }

    /// How far the write has got.
    pub fn state(&self) -> &WriteState {
        &self.state
    }

    /// Answers, if its caller waits.
    pub fn answer(self, outcome: Result<T, StoreError>) {
        let _unheard = self.reply.send(outcome);
    }
}

/// The client's end of a queued write. Dropping it abandons the write if it has not begun.
pub struct Answer<T> {
    state: Arc<WriteState>,
    reply: oneshot::Receiver<Result<T, StoreError>>,
}

impl<T> Answer<T> {
    /// Waits for it as long as `limit`, then gives the write up: it will not be committed. One that is just being committed
    /// cannot be given up; it is waited for as long again as `commit`.
    ///
    /// # Errors
    ///
    /// What the write failed with, or that it was not done in time.
    pub async fn within(mut self, limit: Duration, commit: Duration) -> Result<T, StoreError> {
        for wait in [limit, commit] {
            match timeout(wait, &mut self.reply).await {
                Ok(answer) => return told(answer),
                Err(_) if self.state.give_up() => {
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
    pub fn wait(mut self) -> Result<T, StoreError> {
        // Taken out, so that `self` is dropped only when the answer is there.
        let (_, none) = oneshot::channel();
        told(std::mem::replace(&mut self.reply, none).blocking_recv())
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.state.abandoned.store(true, Ordering::SeqCst);
    }
}

fn told<T>(answer: Result<Result<T, StoreError>, oneshot::error::RecvError>) -> Result<T, StoreError> {
    answer.unwrap_or_else(|_| Err(StoreError::Unavailable("the writer has stopped".into())))
}

/// A write that is to be queued.
pub struct Write<T, F, A = fn(&T)> {
    attempt: F,
    repeatable: bool,
    must_commit: fn(&T) -> bool,
    after_commit: A,
}

impl<T, F: Fn(&mut AnyConnection) -> QueryResult<T>> Write<T, F> {
    /// Runs `attempt` in a transaction, perhaps more than once.
    pub fn new(attempt: F) -> Self {
        Self { attempt, repeatable: false, must_commit: |_| false, after_commit: |_| {} }
    }
}

impl<T, F, A> Write<T, F, A> {
    /// Running it again is the same as having run it once, so it may be tried again although its commit may have succeeded.
    pub fn repeatable(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// An outcome that `must_commit` is committed even if the client has been told that nothing was done.
    pub fn must_commit_if(self, must_commit: fn(&T) -> bool) -> Self {
        Self { must_commit, ..self }
    }

    /// What follows the commit, even if the client is gone by then: it runs on the writer's thread, once, after a commit and
    /// only then. It must be quick.
    pub fn and_then<B: FnOnce(&T)>(self, after_commit: B) -> Write<T, F, B> {
        Write { attempt: self.attempt, repeatable: self.repeatable, must_commit: self.must_commit, after_commit }
    }

    /// As it stands in the queue.
    pub fn queued(self, begin_within: Option<Duration>) -> (Box<QueuedWrite<T, F, A>>, Answer<T>) {
        let (ticket, answer) = Ticket::new(begin_within);
        (Box::new(QueuedWrite { write: self, outcome: None, ticket, span: Span::current() }), answer)
    }
}

/// A write in its queue.
pub struct QueuedWrite<T, F, A> {
    write: Write<T, F, A>,
    outcome: Option<Result<T, StoreError>>,
    ticket: Ticket<T>,
    span: Span,
}

impl<T, F, A> PendingWrite for QueuedWrite<T, F, A>
where
    T: Send,
    F: Fn(&mut AnyConnection) -> QueryResult<T> + Send,
    A: FnOnce(&T) + Send,
{
    fn state(&self) -> &WriteState {
        self.ticket.state()
    }

    fn is_repeatable(&self) -> bool {
        self.write.repeatable
    }

    fn run(&mut self, connection: &mut AnyConnection) -> QueryResult<()> {
        let attempt = &self.write.attempt;
        // A panic in one write must not take the others, or the writer, with it.
        let result = self.span.in_scope(|| catch_unwind(AssertUnwindSafe(|| attempt(connection))));
        let (outcome, undo) = match result {
            Ok(Ok(value)) => (Ok(value), None),
            Ok(Err(error)) if is_loss(&error) || is_deadlock(&error) => return Err(error),
            Ok(Err(error)) => (Err(StoreError::from(error)), Some(DieselError::RollbackTransaction)),
            Err(_panic) => (Err(StoreError::Broken("a write panicked".into())), Some(DieselError::RollbackTransaction)),
        };
        self.outcome = Some(outcome);
        undo.map_or(Ok(()), Err)
    }

    fn settle(&self) -> bool {
        self.state().settle() || matches!(&self.outcome, Some(Ok(outcome)) if (self.write.must_commit)(outcome))
    }

    fn forget(&mut self) {
        self.outcome = None;
    }

    fn answer(self: Box<Self>) {
        let outcome = self.outcome.unwrap_or(Err(StoreError::Busy));
        if let Ok(value) = &outcome {
            let after_commit = self.write.after_commit;
            let panicked = self.span.in_scope(|| catch_unwind(AssertUnwindSafe(|| after_commit(value)))).is_err();
            if panicked {
                tracing::error!("what should follow a commit panicked");
            }
        }
        self.ticket.answer(outcome);
    }

    fn fail(self: Box<Self>, error: StoreError) {
        self.ticket.answer(Err(error));
    }
}
