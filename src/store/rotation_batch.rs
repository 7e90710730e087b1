//! The batched refresh: rotations that arrive together are carried out together. Nothing else knows both the queue of
//! writes and the sessions table.
//!
//! - **SQLite**: a rotation is a write like any other, but without a savepoint: up to 64 share one commit.
//! - **PostgreSQL**: rotations have a queue, a thread and a connection of their own, and up to 64 are one statement
//!   ([`sessions::advance_all`]). It commits itself.

#[cfg(feature = "postgres")]
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use diesel::QueryResult;

use super::engine::connection::AnyConnection;
use super::engine::error::StoreError;
use super::engine::write::{Answer, PendingWrite, Ticket, WriteState};
use super::engine::write_queue::WriteQueue;
#[cfg(feature = "postgres")]
use super::engine::{
    commit::{fail_all, in_time},
    lease::{TrackedConnection, is_loss},
    pool::Pool,
    write_queue::BATCH,
};
use super::tables::sessions::{self, RotatedRow, Rotation};
use super::{Store, Timeouts};
#[cfg(feature = "postgres")]
use crate::ids::SessionId;
#[cfg(feature = "postgres")]
use crate::metrics::StoreMetrics;

/// So many rotations of a batch may fail by themselves before it is not their fault: another client holds the whole table.
#[cfg(feature = "postgres")]
const MAX_FAILURES: u32 = 2;

/// Where rotations wait.
#[derive(Clone)]
pub enum RotationQueue {
    /// With all other writes.
    #[cfg(feature = "sqlite")]
    Shared(WriteQueue),
    /// By themselves.
    #[cfg(feature = "postgres")]
    Own(WriteQueue<PendingRotation>),
}

impl RotationQueue {
    /// A queue before one connection, whose transactions wait for a row only briefly.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    #[cfg(feature = "postgres")]
    pub fn own(pool: &Pool, metrics: &StoreMetrics) -> std::io::Result<Self> {
        WriteQueue::start(pool, 1, BATCH, metrics, in_one_statement).map(Self::Own)
    }

    fn push(&self, rotation: Box<PendingRotation>) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Shared(queue) => queue.push(rotation),
            #[cfg(feature = "postgres")]
            Self::Own(queue) => queue.push(rotation),
        }
    }
}

impl Store {
    /// Rotates by one conditional statement. `None`: what was presented is not the current token of a live session, or the
    /// batch it was part of has failed; the caller looks at the row and decides.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub async fn rotate(&self, rotation: &Arc<Rotation>) -> Result<Option<RotatedRow>, StoreError> {
        let Timeouts { answer, lock_timeout } = self.timeouts;
        let (rotation, rotated) = PendingRotation::new(Arc::clone(rotation), answer.saturating_sub(lock_timeout));
        let queued = self.rotations.push(rotation);
        self.counted(if queued { rotated.within(answer, lock_timeout).await } else { Err(StoreError::Busy) })
    }
}

/// A rotation in its queue.
pub struct PendingRotation {
    rotation: Arc<Rotation>,
    rotated: Option<RotatedRow>,
    ticket: Ticket<Option<RotatedRow>>,
}

impl PendingRotation {
    fn new(rotation: Arc<Rotation>, begin_within: Duration) -> (Box<Self>, Answer<Option<RotatedRow>>) {
        let (ticket, answer) = Ticket::new(Some(begin_within));
        (Box::new(Self { rotation, rotated: None, ticket }), answer)
    }
}

impl PendingWrite for PendingRotation {
    fn state(&self) -> &WriteState {
        self.ticket.state()
    }

    fn is_single_statement(&self) -> bool {
        true
    }

    /// If it has been carried out, it changes nothing the second time; the look that follows finds its traces.
    fn is_repeatable(&self) -> bool {
        true
    }

    fn run(&mut self, connection: &mut AnyConnection) -> QueryResult<()> {
        self.rotated = sessions::advance(connection, &self.rotation)?;
        Ok(())
    }

    fn forget(&mut self) {
        self.rotated = None;
    }

    fn answer(self: Box<Self>) {
        self.ticket.answer(Ok(self.rotated));
    }

    fn fail(self: Box<Self>, error: StoreError) {
        self.ticket.answer(Err(error));
    }
}

/// One statement rotates all of them, or, where that fails, one each. Of several rotations of one session the first is in
/// the statement; the others are answered after it, as not carried out.
#[cfg(feature = "postgres")]
#[expect(clippy::vec_box, reason = "a queue holds writes of any size")]
fn in_one_statement(pool: &Pool, batch: Vec<Box<PendingRotation>>) {
    let mut lease = match pool.get() {
        Ok(lease) => lease,
        Err(error) => return fail_all(batch, &error),
    };
    // Looked at when there is a connection, and settled now, since the statement commits itself.
    let batch = in_time(batch).into_iter().filter(|pending| pending.settle());
    let mut sessions_seen = HashSet::new();
    let (mut first, others): (Vec<_>, Vec<_>) = batch.partition(|pending| sessions_seen.insert(pending.rotation.id));
    let rotations: Vec<&Rotation> = first.iter().map(|pending| &*pending.rotation).collect();
    match lease.run(|connection| sessions::advance_all(connection, &rotations)) {
        Ok(rotated) => {
            let mut rotated: HashMap<SessionId, RotatedRow> = rotated.into_iter().collect();
            first.iter_mut().for_each(|pending| pending.rotated = rotated.remove(&pending.rotation.id));
        }
        Err(error) => {
            tracing::warn!(%error, "a batch of refreshes failed; its members are tried one by one");
            // If the server is gone, so it is for each of them.
            if !is_loss(&error) && first.len() > 1 {
                one_each(&mut lease, &mut first);
            }
        }
    }
    drop(lease);
    first.into_iter().chain(others).for_each(PendingWrite::answer);
}

/// One bad row, or one that another client holds, is no reason for the others to wait.
#[cfg(feature = "postgres")]
fn one_each(lease: &mut TrackedConnection, batch: &mut [Box<PendingRotation>]) {
    let mut failures = 0;
    batch.iter().for_each(|pending| pending.state().reopen());
    for pending in batch.iter_mut().filter(|pending| !pending.state().is_abandoned() && !pending.state().is_late()) {
        if !pending.settle() {
            continue;
        }
        if let Err(error) = lease.run(|connection| pending.run(connection)) {
            failures += 1;
            tracing::debug!(%error, "one of a batch of refreshes failed");
            if is_loss(&error) || failures > MAX_FAILURES {
                break;
            }
        }
    }
}
