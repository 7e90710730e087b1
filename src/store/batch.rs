//! How a batch of writes is committed: the three ways that [`writer`](super::writer) has.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::result::Error as DieselError;

use super::connection::{AnyConnection, in_savepoint};
use super::error::StoreError;
use super::lease::{Aborted, Lease, begin_write, commit_after, is_loss};
use super::pool::Pool;
use super::sessions::{self, Handover, Rotation};
use crate::ids::SessionId;

/// How often a write is tried anew where the server was lost before anything was committed.
const TRIES: u32 = 2;
/// So many members of a batch may fail by themselves before it is not their fault: somebody holds the whole table.
const ENOUGH: u32 = 2;
/// The longest transaction. What it has done is dated before it began, and other nodes look for it no further back than a
/// minute (`sessions::revocations`).
const LONGEST: Duration = Duration::from_secs(15);

/// A moment after which nothing should be begun any more. None: there is always time.
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now.
    pub(super) fn within(time: Option<Duration>) -> Self {
        Self(time.map(|time| Instant::now() + time))
    }

    /// Whether it is too late.
    pub(super) fn has_passed(&self) -> bool {
        self.0.is_some_and(|latest| latest < Instant::now())
    }
}

/// One queued write, whatever it returns.
pub(super) trait Work: Send {
    /// The one statement that it hopes to be, if it is a refresh.
    fn rotation(&self) -> Option<&Rotation>;
    /// Keeps the outcome of that statement, which has rotated.
    fn rotated(&mut self, handover: Handover);
    /// Runs it inside a transaction and keeps the outcome. `Err`: what it did must be undone;
    /// [`DieselError::RollbackTransaction`] if the outcome is that it failed, anything else if there is no outcome.
    fn attempt(&mut self, connection: &mut AnyConnection) -> QueryResult<()>;
    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// It has waited for so long already that there is no time left to do it in.
    fn is_late(&self) -> bool;
    /// Settles that it will be committed next. False: whoever asked has been told that nothing was done, and it must not be.
    fn commit(&self) -> bool;
    /// It was not committed after all.
    fn reopen(&self);
    /// Hands out the kept outcome, its commit having succeeded.
    fn answer(self: Box<Self>);
    /// Hands out a failure.
    fn fail(self: Box<Self>, error: StoreError);
}

/// Those that somebody waits for and that there is time for.
pub(super) fn in_time(works: impl IntoIterator<Item = Box<dyn Work>>) -> Vec<Box<dyn Work>> {
    let (late, wanted): (Vec<_>, Vec<_>) =
        works.into_iter().filter(|work| !work.is_abandoned()).partition(|work| work.is_late());
    late.into_iter().for_each(|work| work.fail(StoreError::Busy));
    wanted
}

/// All of them in one transaction, each behind a savepoint of its own, or, where that fails, one by one.
pub(super) fn in_one_transaction(pool: &Pool, batch: Vec<Box<dyn Work>>) {
    if batch.len() < 2 {
        return one_by_one(pool, batch);
    }
    let mut lease = match pool.get() {
        Ok(lease) => lease,
        Err(error) => return fail_all(batch, &error),
    };
    // Nothing has begun, and trying again member by member would wait as long for each of them.
    if let Err(aborted) = begin_write(&mut lease) {
        return fail_all(batch, aborted.error());
    }
    let mut batch = in_time(batch);
    let together = commit_after(&mut lease, |connection| {
        let began = Instant::now();
        batch.iter_mut().try_for_each(|work| member(connection, work.as_mut()))?;
        // Those in front take time, in which whoever asked may have given up.
        may_commit(began, batch.iter().map(Box::as_ref))
    });
    drop(lease);
    match together {
        Ok(()) => batch.into_iter().for_each(Work::answer),
        Err(aborted) => {
            tracing::warn!(error = %aborted.error(), "a batch of writes failed; its members are tried one by one");
            batch.iter().for_each(|work| work.reopen());
            one_by_one(pool, batch);
        }
    }
}

/// Settles that all of them are committed next, or fails.
fn may_commit<'a>(began: Instant, mut works: impl Iterator<Item = &'a dyn Work>) -> QueryResult<()> {
    let undone = if began.elapsed() > LONGEST {
        "a transaction took too long, and was undone"
    } else if works.all(Work::commit) {
        return Ok(());
    } else {
        "a write was given up, and was undone"
    };
    Err(DieselError::QueryBuilderError(undone.into()))
}

fn member(connection: &mut AnyConnection, work: &mut dyn Work) -> QueryResult<()> {
    // One statement undoes itself if it fails, and has changed nothing if it rotates nothing: it needs no savepoint.
    if let Some(rotation) = work.rotation()
        && let Some(handover) = sessions::advance(connection, rotation)?
    {
        work.rotated(handover);
        return Ok(());
    }
    match in_savepoint(connection, |connection| work.attempt(connection)) {
        // A member's own failure is its own answer; only a savepoint that fails ends the batch.
        Ok(()) | Err(DieselError::RollbackTransaction) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Refreshes: one statement rotates all of them, or, where that fails, one each. Those that are not rotated then are
/// left, to be judged. Of several refreshes of one session the first is in the statement.
pub(super) fn in_one_statement(pool: &Pool, batch: Vec<Box<dyn Work>>) -> Vec<Box<dyn Work>> {
    if batch.is_empty() {
        return batch;
    }
    let mut lease = match pool.get() {
        Ok(lease) => lease,
        Err(error) => {
            fail_all(batch, &error);
            return Vec::new();
        }
    };
    let batch: Vec<_> = in_time(batch).into_iter().filter(|work| work.commit()).collect();
    if batch.is_empty() {
        return batch;
    }
    let mut firsts: HashMap<SessionId, usize> = HashMap::with_capacity(batch.len());
    for (index, work) in batch.iter().enumerate() {
        if let Some(rotation) = work.rotation() {
            firsts.entry(rotation.id).or_insert(index);
        }
    }
    let rotations: Vec<&Rotation> = batch
        .iter()
        .enumerate()
        .filter_map(|(index, work)| work.rotation().filter(|rotation| firsts.get(&rotation.id) == Some(&index)))
        .collect();
    let mut rotated: HashMap<SessionId, _> = match lease.run(|connection| sessions::advance_all(connection, &rotations))
    {
        Ok(rotated) => rotated.into_iter().collect(),
        Err(error) => {
            tracing::warn!(%error, "a batch of refreshes failed; its members are tried one by one");
            one_each(&mut lease, &rotations, &error)
        }
    };
    drop(lease);
    let mut left = Vec::new();
    for (index, mut work) in batch.into_iter().enumerate() {
        let id = work.rotation().map(|rotation| rotation.id);
        let first = id.filter(|id| firsts.get(id) == Some(&index));
        match first.and_then(|id| rotated.remove(&id)) {
            Some(handover) => {
                work.rotated(handover);
                work.answer();
            }
            None => {
                work.reopen();
                left.push(work);
            }
        }
    }
    left
}

/// One bad row, or one that somebody holds, is no reason for the others to wait. If the server is gone, there is.
fn one_each(lease: &mut Lease, rotations: &[&Rotation], error: &DieselError) -> HashMap<SessionId, Handover> {
    let mut rotated = HashMap::new();
    if is_loss(error) || rotations.len() < 2 {
        return rotated;
    }
    let mut failures = 0;
    for rotation in rotations {
        match lease.run(|connection| sessions::advance(connection, rotation)) {
            Ok(Some(handover)) => {
                rotated.insert(rotation.id, handover);
            }
            Ok(None) => {}
            Err(error) if is_loss(&error) || failures == ENOUGH => break,
            Err(error) => {
                failures += 1;
                tracing::debug!(%error, "a member of a batch failed");
            }
        }
    }
    rotated
}

/// Each in a transaction of its own.
pub(super) fn one_by_one(pool: &Pool, batch: Vec<Box<dyn Work>>) {
    // Each is looked at when it is its turn.
    batch.into_iter().flat_map(|work| in_time([work])).for_each(|work| alone(pool, work));
}

fn alone(pool: &Pool, mut work: Box<dyn Work>) {
    let mut last = None;
    for _ in 0..TRIES {
        let mut lease = match pool.get() {
            Ok(lease) => lease,
            Err(error) => return work.fail(StoreError::Unavailable(error.into())),
        };
        if work.is_late() {
            return work.fail(StoreError::Busy);
        }
        match transact(&mut lease, work.as_mut()) {
            // Undone: what it failed with is its answer.
            Ok(()) | Err(Aborted::Undone(DieselError::RollbackTransaction)) => return work.answer(),
            Err(aborted) if may_try_again(&aborted, work.as_ref()) => last = Some(aborted),
            Err(aborted) => return fail_all(vec![work], aborted.error()),
        }
    }
    if let Some(aborted) = last {
        fail_all(vec![work], aborted.error());
    }
}

fn transact(lease: &mut Lease, work: &mut dyn Work) -> Result<(), Aborted> {
    let began = Instant::now();
    begin_write(lease)?;
    let done = commit_after(lease, |connection| {
        work.attempt(connection)?;
        may_commit(began, std::iter::once(&*work))
    });
    if done.is_err() {
        work.reopen();
    }
    done
}

/// Whether doing it anew is the same as having done it once. Of a refresh it is, even if it has been done: it is fixed
/// before its transaction, so it finds its own traces and repeats its answer.
fn may_try_again(aborted: &Aborted, work: &dyn Work) -> bool {
    let once = match aborted {
        Aborted::Undone(error) => is_loss(error) || is_deadlock(error),
        Aborted::Unknown(error) => is_loss(error) && work.rotation().is_some(),
    };
    once && !work.is_abandoned()
}

/// PostgreSQL has undone one of two transactions that waited for each other. (Its messages may be in another language;
/// then the client has to come again.)
pub(super) fn is_deadlock(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(_, told) if told.message().contains("deadlock detected"))
}

/// One failure, told to everybody who waited for it.
fn fail_all(batch: Vec<Box<dyn Work>>, error: &(impl ToString + ?Sized)) {
    let text: Arc<str> = error.to_string().into();
    for work in batch {
        work.fail(StoreError::Unavailable(text.to_string().into()));
    }
}
