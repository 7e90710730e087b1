//! How the writes of a queue are committed: many in one transaction, or one each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::result::Error as DieselError;

use super::connection::{AnyConnection, in_savepoint};
use super::error::StoreError;
use super::lease::{Aborted, TrackedConnection, begin_write, commit_after, is_deadlock, is_loss};
use super::pool::Pool;
use super::write::PendingWrite;

/// How often a write is tried anew where the server was lost before anything was committed.
const MAX_ATTEMPTS: u32 = 2;
/// A batch that has taken so long is committed before more is done.
const LONG_BATCH: Duration = Duration::from_millis(250);
/// The longest transaction that is committed. What it has done is dated while it runs, and the frequent look of other nodes
/// reaches no further back than a minute (`revocation::poll`).
const MAX_TRANSACTION: Duration = Duration::from_secs(15);

/// Those that a client waits for and that there is time for.
pub fn in_time<W: PendingWrite + ?Sized>(writes: impl IntoIterator<Item = Box<W>>) -> Vec<Box<W>> {
    let (late, wanted): (Vec<_>, Vec<_>) =
        writes.into_iter().filter(|write| !write.state().is_abandoned()).partition(|write| write.state().is_late());
    late.into_iter().for_each(|write| write.fail(StoreError::Busy));
    wanted
}

/// Commits all of them in one transaction, each behind a savepoint of its own, or, where that fails, one by one. What takes
/// long is committed before the rest is begun.
pub fn in_one_transaction(pool: &Pool, batch: Vec<Box<dyn PendingWrite>>) {
    let mut batch = in_time(batch);
    while batch.len() > 1 {
        let mut lease = match pool.get() {
            Ok(lease) => lease,
            Err(error) => return fail_all(batch, &error),
        };
        // Nothing has begun, and trying them one by one would wait as long for each of them.
        if let Err(aborted) = begin_write(&mut lease) {
            return fail_all(batch, aborted.error());
        }
        batch.retain(|write| !write.state().is_abandoned());
        let (began, mut done) = (Instant::now(), 0);
        let together = commit_after(&mut lease, |connection| {
            for write in &mut batch {
                run_in_batch(connection, write.as_mut())?;
                done += 1;
                if began.elapsed() > LONG_BATCH {
                    break;
                }
            }
            in_bounds(began)
        });
        drop(lease);
        match together {
            Ok(()) => {
                let rest = batch.split_off(done);
                batch.into_iter().for_each(PendingWrite::answer);
                batch = rest;
            }
            Err(aborted) => {
                tracing::warn!(error = %aborted.error(), "a batch of writes failed; its writes are tried one by one");
                batch.iter().for_each(|write| write.state().reopen());
                break;
            }
        }
    }
    one_by_one(pool, batch);
}

/// Fails if a transaction that began then has taken too long.
fn in_bounds(began: Instant) -> QueryResult<()> {
    if began.elapsed() > MAX_TRANSACTION {
        return Err(DieselError::QueryBuilderError("a transaction took too long, and was undone".into()));
    }
    Ok(())
}

/// What was given up is undone, by itself.
fn commit_or_undo(write: &mut dyn PendingWrite) -> QueryResult<()> {
    if write.settle() {
        return Ok(());
    }
    write.forget();
    Err(DieselError::RollbackTransaction)
}

fn run_in_batch(connection: &mut AnyConnection, write: &mut dyn PendingWrite) -> QueryResult<()> {
    if write.is_single_statement() {
        // Settled first, since nothing could undo it by itself; if it fails, the whole batch is undone.
        return if write.settle() { write.run(connection) } else { Ok(()) };
    }
    let done = in_savepoint(connection, |connection| {
        write.run(connection)?;
        commit_or_undo(write)
    });
    match done {
        // A write's own failure is its own answer; only a savepoint that fails ends the batch.
        Ok(()) | Err(DieselError::RollbackTransaction) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Commits each in a transaction of its own.
pub fn one_by_one(pool: &Pool, batch: Vec<Box<dyn PendingWrite>>) {
    // Each is looked at when it is its turn.
    batch.into_iter().flat_map(|write| in_time([write])).for_each(|write| alone(pool, write));
}

fn alone(pool: &Pool, mut write: Box<dyn PendingWrite>) {
    let mut last = None;
    for _ in 0..MAX_ATTEMPTS {
        let mut lease = match pool.get() {
            Ok(lease) => lease,
            Err(error) => return write.fail(StoreError::Unavailable(error.into())),
        };
        if last.is_none() && write.state().is_late() {
            return write.fail(StoreError::Busy);
        }
        match transact(&mut lease, write.as_mut()) {
            // Undone: what it failed with is its answer.
            Ok(()) | Err(Aborted::Undone(DieselError::RollbackTransaction)) => return write.answer(),
            Err(aborted) if may_try_again(&aborted, write.as_ref()) => last = Some(aborted),
            Err(aborted) => return fail_all(vec![write], aborted.error()),
        }
    }
    if let Some(aborted) = last {
        fail_all(vec![write], aborted.error());
    }
}

fn transact(lease: &mut TrackedConnection, write: &mut dyn PendingWrite) -> Result<(), Aborted> {
    begin_write(lease)?;
    let began = Instant::now();
    let done = commit_after(lease, |connection| {
        write.run(connection)?;
        in_bounds(began)?;
        commit_or_undo(write)
    });
    if done.is_err() {
        write.state().reopen();
    }
    done
}

/// Whether it can be tried anew: nothing was done, or doing it anew is the same as having done it once.
fn may_try_again(aborted: &Aborted, write: &dyn PendingWrite) -> bool {
    let once = match aborted {
        Aborted::Undone(error) => is_loss(error) || is_deadlock(error),
        Aborted::Unknown(error) => is_loss(error) && write.is_repeatable(),
    };
    once && !write.state().is_abandoned()
}

/// Answers all of them with one failure.
pub fn fail_all<W: PendingWrite + ?Sized>(batch: Vec<Box<W>>, error: &(impl ToString + ?Sized)) {
    let text: Arc<str> = error.to_string().into();
    for write in batch {
        write.fail(StoreError::Unavailable(text.to_string().into()));
    }
}
