//! Bounded queues before the threads that write.
//!
//! While one commit is under way, the writes that wait form the next batch: no timer delays a write, and the busier it
//! gets, the more of them share one wait for the disk. No write is answered before its commit, each one of a batch has an
//! answer of its own, and where a batch fails, its writes are tried one by one, so that one bad row never hurts another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::commit::{in_one_transaction, one_by_one};
use super::pool::Pool;
use super::write::PendingWrite;
use crate::metrics::StoreMetrics;

/// Writes that may wait in one queue; one more is refused at once.
pub const CAPACITY: usize = 1024;
/// Writes in one commit.
pub const BATCH: usize = 64;

/// A queue of writes of one kind. Its threads end when the last handle is dropped.
pub struct WriteQueue<W: ?Sized = dyn PendingWrite>(SyncSender<Box<W>>);

impl<W: ?Sized> Clone for WriteQueue<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl WriteQueue {
    /// For a database that has one writer at a time: one thread, which commits many writes in one transaction.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn group_commit(pool: &Pool, metrics: &StoreMetrics) -> std::io::Result<Self> {
        Self::start(pool, 1, BATCH, metrics, in_one_transaction)
    }

    /// For a database that has many: `threads`, and a transaction for each write.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn parallel(pool: &Pool, threads: u32, metrics: &StoreMetrics) -> std::io::Result<Self> {
        Self::start(pool, threads, 1, metrics, one_by_one)
    }
}

impl<W: PendingWrite + ?Sized + 'static> WriteQueue<W> {
    /// `threads` that hand up to `batch` writes at a time to `commit`, which answers each of them.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn start(
        pool: &Pool,
        threads: u32,
        batch: usize,
        metrics: &StoreMetrics,
        commit: impl Fn(&Pool, Vec<Box<W>>) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(CAPACITY);
        let (waiting, commit) = (Arc::new(Mutex::new(waiting)), Arc::new(commit));
        for _ in 0..threads {
            let (pool, waiting, commit) = (pool.clone(), Arc::clone(&waiting), Arc::clone(&commit));
            let metrics = metrics.clone();
            thread::Builder::new().name("store-writer".into()).spawn(move || {
                while let Some(writes) = next(&waiting, batch) {
                    let (count, took) = (writes.len(), metrics.commit.start());
                    // A caller that waits is told by the end of its channel; those that come later must still be served.
                    if catch_unwind(AssertUnwindSafe(|| commit(&pool, writes))).is_err() {
                        tracing::error!("a batch of writes panicked");
                    }
                    metrics.batch_size(count);
                    took.end();
                }
            })?;
        }
        Ok(Self(queue))
    }

    /// Queues a write. `false`: too many wait already.
    #[must_use]
    pub fn push(&self, write: Box<W>) -> bool {
        match self.0.try_send(write) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

/// The writes that wait, at most `most` of them; waits for the first. `None`: there will be no more.
fn next<W: ?Sized>(waiting: &Mutex<Receiver<Box<W>>>, most: usize) -> Option<Vec<Box<W>>> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let first = waiting.recv().ok()?;
    Some(std::iter::once(first).chain(waiting.try_iter().take(most.saturating_sub(1))).collect())
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "write_queue_tests.rs"]
mod tests;
