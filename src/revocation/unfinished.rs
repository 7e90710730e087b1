//! Many sessions that have ended, and were not all marked: this process or another one died meanwhile, or the database was
//! away. A background task marks what is left, at the start and from time to time. Until then every statement on sessions knows of it
//! (`store::sessions::begin_end`).

use std::time::Duration;

use super::Revocations;
use crate::background::Task;
use crate::store::{StoreError, sessions};

/// How often it looks.
const ROUND: Duration = Duration::from_secs(30);
/// A younger one is still being worked on.
const ABANDONED: Duration = Duration::from_secs(60);
/// How often it looks until the database has been heard of.
const UNTIL_KNOWN: Duration = Duration::from_millis(100);

/// Marks what was left.
pub struct Unfinished {
    revocations: Revocations,
    runtime: tokio::runtime::Runtime,
    /// How old what is left must be. What there is at the start was left by an earlier process.
    abandoned: Duration,
}

impl Unfinished {
    /// # Errors
    ///
    /// If the system has no means to wait for the database.
    pub fn new(revocations: Revocations) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Self { revocations, runtime, abandoned: Duration::ZERO })
    }
}

impl Task for Unfinished {
    const NAME: &'static str = "session-ends";

    fn round(&mut self) -> Duration {
        if !self.revocations.has_begun() {
            return UNTIL_KNOWN;
        }
        match self.runtime.block_on(finish(&self.revocations, self.abandoned)) {
            Ok(()) => self.abandoned = ABANDONED,
            Err(error) => {
                tracing::warn!(error = error.chain(), "sessions that have ended are left to be marked later");
            }
        }
        ROUND
    }
}

async fn finish(revocations: &Revocations, age: Duration) -> Result<(), StoreError> {
    let now = revocations.clock.now();
    for rest in revocations.store.read(move |conn| sessions::unfinished_ends(conn, now, age)).await? {
        revocations.finish(rest).await?;
    }
    Ok(())
}
