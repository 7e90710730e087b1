//! The janitor: removes what is over for good, on a thread of its own, and is never in anybody's way.
//!
//! It deletes in batches, each a write like any other, small enough to hold the writer for a few
//! milliseconds at most, and rests between two of them for longer than the first one took.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::{Clock, Timestamp};
use crate::events::RETENTION;
use crate::ids::SessionId;
use crate::store::{AnyConnection, QueryResult, Store, StoreError, attempts, events, sessions};

/// How often it makes its round.
const ROUND: Duration = Duration::from_secs(60);
/// What a batch should take. The size of the next one follows from what the last one took.
const AIM: Duration = Duration::from_millis(4);
/// The smallest and the largest batch, in rows.
const BATCH: (i64, i64) = (64, 512);
/// For each unit of time at work, so many at rest; and the least rest.
const REST: u32 = 2;
const LEAST_REST: Duration = Duration::from_millis(2);
/// Sessions looked at in one read, and reads in one round, when looking for idle ones.
const STEP: i64 = 1_000;
const STEPS: u32 = 100;

/// Keeps the janitor at work for as long as it lives.
pub struct Janitor {
    _employed: SyncSender<()>,
}

impl Janitor {
    /// Starts the thread. Sessions are kept for `keep` after their end: as long as any token of theirs may be
    /// asked about, or anybody's memory of their end must be renewed. Nothing is removed until `knows_the_time`: a machine's
    /// clock that is ahead would have it take live sessions from all nodes.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn start(
        store: Store,
        clock: Clock,
        keep: Duration,
        knows_the_time: impl Fn() -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let (employed, dismissed) = sync_channel(0);
        let mut rounds = Rounds { store, clock, keep, dismissed, batch: BATCH.0, walked: None };
        thread::Builder::new().name("janitor".into()).spawn(move || rounds.work(&knows_the_time))?;
        Ok(Self { _employed: employed })
    }
}

/// Why a round ended early.
enum Cut {
    /// Nobody needs it any more.
    Dismissed,
    /// The database gave no answer; the next round may have more luck.
    Failed(StoreError),
}

impl From<StoreError> for Cut {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Deletes at most so many rows, and returns how many it has deleted.
type Purge = fn(&mut AnyConnection, Timestamp, i64) -> QueryResult<usize>;

struct Rounds {
    store: Store,
    clock: Clock,
    keep: Duration,
    dismissed: Receiver<()>,
    /// The size of the next batch, in rows.
    batch: i64,
    /// How far the search for idle sessions has come.
    walked: Option<SessionId>,
}

impl Rounds {
    fn work(&mut self, knows_the_time: &dyn Fn() -> bool) {
        loop {
            match if knows_the_time() { self.round() } else { Ok(0) } {
                Ok(0) => {}
                Ok(removed) => tracing::debug!(removed, "the janitor has made a round"),
                Err(Cut::Dismissed) => return,
                Err(Cut::Failed(error)) => {
                    tracing::warn!(error = error.chain(), "the janitor could not finish a round, and will try again");
                }
            }
            if self.rest(ROUND).is_err() {
                return;
            }
        }
    }

    /// Removes everything whose time has come, and returns how many rows that were.
    fn round(&mut self) -> Result<usize, Cut> {
        let over = self.clock.now().minus(self.keep);
        let past = self.clock.now().minus(RETENTION);
        let chores: [(Purge, Timestamp); 3] =
            [(sessions::purge_expired, over), (attempts::purge, self.clock.now()), (events::purge, past)];
        let mut removed = 0;
        for (purge, before) in chores {
            removed += self.purge(purge, before)?;
        }
        Ok(removed + self.walk(over)?)
    }

    fn purge(&mut self, purge: Purge, before: Timestamp) -> Result<usize, Cut> {
        let mut removed = 0;
        loop {
            let limit = self.batch;
            let some = self.delete(move |conn| purge(conn, before, limit))?;
            removed += some;
            if i64::try_from(some).is_ok_and(|some| some < limit) {
                return Ok(removed);
            }
        }
    }

    /// Looks for idle sessions a bit further than last time, among readers, and removes those it finds.
    fn walk(&mut self, before: Timestamp) -> Result<usize, Cut> {
        let mut removed = 0;
        for _ in 0..STEPS {
            let (after, began) = (self.walked, Instant::now());
            let (mut idle, next) = self.store.read_blocking(|conn| sessions::idle_among(conn, after, STEP, before))?;
            self.rest(began.elapsed() * REST)?;
            while !idle.is_empty() {
                let some = idle.split_off(idle.len().saturating_sub(usize::try_from(self.batch).unwrap_or(1)));
                removed += self.delete(move |conn| sessions::purge_idle(conn, &some, before))?;
            }
            self.walked = next;
            if next.is_none() {
                break;
            }
        }
        Ok(removed)
    }

    /// One write, and what it leaves behind, which nobody waits for; then a rest, and a look at the watch.
    fn delete(
        &mut self,
        batch: impl Fn(&mut AnyConnection) -> QueryResult<usize> + Send + 'static,
    ) -> Result<usize, Cut> {
        // From its first statement to its commit: as long as that, the writer is held.
        let (removed, began) = self.store.write_blocking(move |conn| {
            let began = Instant::now();
            batch(conn).map(|removed| (removed, began))
        })?;
        let took = began.elapsed();
        self.store.checkpoint_blocking()?;
        self.batch = if took > AIM { self.batch / 2 } else { self.batch + self.batch / 4 }.clamp(BATCH.0, BATCH.1);
        self.rest(took * REST)?;
        Ok(removed)
    }

    fn rest(&self, time: Duration) -> Result<(), Cut> {
        match self.dismissed.recv_timeout(time.max(LEAST_REST)) {
            Err(RecvTimeoutError::Disconnected) => Err(Cut::Dismissed),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "janitor_tests.rs"]
mod tests;
