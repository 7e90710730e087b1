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
    /// Whether it may still be committed: whoever asked has not been told that it was given up and will not be any more, or
    /// does not mind.
    fn may_commit(&self) -> bool;
    /// Hands out the kept outcome, its commit having succeeded.
    fn answer(self: Box<Self>);
    /// Hands out a failure.
    fn fail(self: Box<Self>, error: StoreError);
}

/// All of them in one transaction, each behind a savepoint of its own, or, where that fails, one by one.
pub(super) fn in_one_transaction(pool: &Pool, mut batch: Vec<Box<dyn Work>>) {
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
    let together = commit_after(&mut lease, |connection| {
        // Those in front take time, in which whoever asked may have given up.
        let mut wanted = batch.iter_mut().filter(|work| !work.is_abandoned() && work.may_commit());
        wanted.try_for_each(|work| member(connection, work.as_mut()))
    });
    drop(lease);
    match together {
        Ok(()) => batch.into_iter().for_each(Work::answer),
        Err(aborted) => {
            tracing::warn!(error = %aborted.error(), "a batch of writes failed; its members are tried one by one");
            one_by_one(pool, batch);
        }
    }
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
    let mut lease = match pool.get() {
        Ok(lease) => lease,
        Err(error) => {
            fail_all(batch, &error);
            return Vec::new();
        }
    };
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
            None => left.push(work),
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
    batch.into_iter().filter(|work| !work.is_abandoned()).for_each(|work| alone(pool, work));
}

fn alone(pool: &Pool, mut work: Box<dyn Work>) {
    let mut last = None;
    for _ in 0..TRIES {
        let mut lease = match pool.get() {
            Ok(lease) => lease,
            Err(error) => return work.fail(StoreError::Unavailable(error.into())),
        };
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
    commit_after(lease, |connection| {
        work.attempt(connection)?;
        if began.elapsed() > LONGEST {
            return Err(DieselError::QueryBuilderError("a transaction took too long, and was undone".into()));
        }
        if !work.may_commit() {
            return Err(DieselError::QueryBuilderError("a write was given up, and was undone".into()));
        }
        Ok(())
    })
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
