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
/// A batch that has taken so long is committed before more is done.
const ENOUGH_FOR_ONE: Duration = Duration::from_millis(250);
/// The longest transaction that is committed. What it has done is dated while it runs, and the frequent look of other nodes
/// reaches no further back than a minute (`revocation::poll`).
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
    /// Drops the kept outcome, which is undone.
    fn forget(&mut self);
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

/// All of them in one transaction, each behind a savepoint of its own, or, where that fails, one by one. What takes long
/// is committed before the rest is begun.
pub(super) fn in_one_transaction(pool: &Pool, mut batch: Vec<Box<dyn Work>>) {
    while batch.len() > 1 {
        let mut lease = match pool.get() {
            Ok(lease) => lease,
            Err(error) => return fail_all(batch, &error),
        };
        // Nothing has begun, and trying again member by member would wait as long for each of them.
        if let Err(aborted) = begin_write(&mut lease) {
            return fail_all(batch, aborted.error());
        }
        batch.retain(|work| !work.is_abandoned());
        let (began, mut done) = (Instant::now(), 0);
        let together = commit_after(&mut lease, |connection| {
            for work in &mut batch {
                member(connection, work.as_mut())?;
                done += 1;
                if began.elapsed() > ENOUGH_FOR_ONE {
                    break;
                }
            }
            in_bounds(began)
        });
        drop(lease);
        match together {
            Ok(()) => {
                let rest = batch.split_off(done);
                batch.into_iter().for_each(Work::answer);
                batch = rest;
            }
            Err(aborted) => {
                tracing::warn!(error = %aborted.error(), "a batch of writes failed; its members are tried one by one");
                batch.iter().for_each(|work| work.reopen());
                break;
            }
        }
    }
    one_by_one(pool, batch);
}

/// Fails if a transaction that began then has taken too long.
fn in_bounds(began: Instant) -> QueryResult<()> {
    if began.elapsed() > LONGEST {
        return Err(DieselError::QueryBuilderError("a transaction took too long, and was undone".into()));
    }
    Ok(())
}

/// What was given up is undone, by itself.
fn commit_or_undo(work: &mut dyn Work) -> QueryResult<()> {
    if work.commit() {
        return Ok(());
    }
    work.forget();
    Err(DieselError::RollbackTransaction)
}

fn member(connection: &mut AnyConnection, work: &mut dyn Work) -> QueryResult<()> {
    if work.rotation().is_some() && work.commit() {
        if advance(connection, work)? {
            return Ok(());
        }
        work.reopen();
    }
    let done = in_savepoint(connection, |connection| {
        work.attempt(connection)?;
        commit_or_undo(work)
    });
    match done {
        // A member's own failure is its own answer; only a savepoint that fails ends the batch.
        Ok(()) | Err(DieselError::RollbackTransaction) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether it is a refresh that its one statement has rotated. The statement undoes itself if it fails, and has changed
/// nothing if it rotates nothing: it needs no savepoint.
fn advance(connection: &mut AnyConnection, work: &mut dyn Work) -> QueryResult<bool> {
    let Some(rotation) = work.rotation() else { return Ok(false) };
    let Some(handover) = sessions::advance(connection, rotation)? else { return Ok(false) };
    work.rotated(handover);
    Ok(true)
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
    let is_first = |index: usize, work: &dyn Work| {
        work.rotation().is_some_and(|rotation| firsts.get(&rotation.id) == Some(&index))
    };
    let first: Vec<&dyn Work> = batch
        .iter()
        .enumerate()
        .map(|(index, work)| (index, work.as_ref()))
        .filter(|(index, work)| is_first(*index, *work))
        .map(|(_, work)| work)
        .collect();
    let rotations: Vec<&Rotation> = first.iter().filter_map(|work| work.rotation()).collect();
    let mut rotated: HashMap<SessionId, _> = match lease.run(|connection| sessions::advance_all(connection, &rotations))
    {
        Ok(rotated) => rotated.into_iter().collect(),
        Err(error) => {
            tracing::warn!(%error, "a batch of refreshes failed; its members are tried one by one");
            first.iter().for_each(|work| work.reopen());
            one_each(&mut lease, &first, &error)
        }
    };
    drop(lease);
    let mut left = Vec::new();
    for (index, mut work) in batch.into_iter().enumerate() {
        let id = work.rotation().map(|rotation| rotation.id);
        match id.filter(|_| is_first(index, work.as_ref())).and_then(|id| rotated.remove(&id)) {
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
fn one_each(lease: &mut Lease, works: &[&dyn Work], error: &DieselError) -> HashMap<SessionId, Handover> {
    let mut rotated = HashMap::new();
    if is_loss(error) || works.len() < 2 {
        return rotated;
    }
    let mut failures = 0;
    for work in works.iter().filter(|work| !work.is_abandoned() && !work.is_late()) {
        let Some(rotation) = work.rotation().filter(|_| work.commit()) else { continue };
        match lease.run(|connection| sessions::advance(connection, rotation)) {
            Ok(Some(handover)) => {
                rotated.insert(rotation.id, handover);
                continue;
            }
            Ok(None) => {}
            Err(error) if is_loss(&error) || failures == ENOUGH => {
                work.reopen();
                break;
            }
            Err(error) => {
                failures += 1;
                tracing::debug!(%error, "a member of a batch failed");
            }
        }
        work.reopen();
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
        if last.is_none() && work.is_late() {
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
    begin_write(lease)?;
    let began = Instant::now();
    let done = commit_after(lease, |connection| {
        work.attempt(connection)?;
        in_bounds(began)?;
        commit_or_undo(work)
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
