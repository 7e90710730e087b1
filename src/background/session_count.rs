//! Counts the live sessions, for the metrics: all of them, a few at a time, so that no request waits for it.

use std::time::{Duration, Instant};

use super::{Stop, Task};
use crate::clock::Clock;
use crate::metrics::Level;
use crate::revocation::Revocations;
use crate::store::{Store, StoreError, sessions};

/// Between two counts.
const PERIOD: Duration = Duration::from_secs(60);
/// How soon it is tried again before the database has been heard of.
const RETRY: Duration = Duration::from_secs(1);
/// Sessions looked at in one read, and how much longer the rest is that follows it.
const STEP: i64 = 1_000;
const REST: u32 = 10;

/// The task.
pub struct SessionCount {
    store: Store,
    clock: Clock,
    revocations: Revocations,
    level: Level,
    stop: Stop,
}

impl SessionCount {
    /// What is counted goes to `level`.
    pub fn new(store: Store, clock: Clock, revocations: Revocations, level: Level, stop: Stop) -> Self {
        Self { store, clock, revocations, level, stop }
    }

    /// None: it was told to stop.
    fn count(&self) -> Result<Option<usize>, StoreError> {
        let (now, mut all, mut after) = (self.clock.now(), 0, None);
        loop {
            let began = Instant::now();
            let (some, next) = self.store.read_blocking(|conn| sessions::live_among(conn, after, STEP, now))?;
            all += some;
            if next.is_none() {
                return Ok(Some(all));
            }
            after = next;
            if self.stop.rest(began.elapsed() * REST) {
                return Ok(None);
            }
        }
    }
}

impl Task for SessionCount {
    const NAME: &'static str = "session count";

    fn round(&mut self) -> Duration {
        if !self.revocations.has_begun() {
            return RETRY;
        }
        match self.count() {
            Ok(Some(count)) => {
                self.level.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(error = error.chain(), "the live sessions could not be counted"),
        }
        PERIOD
    }
}
