//! Many sessions that have ended, and were not all marked: this process or another one died meanwhile, or the database was
//! away. A thread marks what is left, at the start and from time to time. Until then every statement on sessions knows of it
//! (`store::sessions::begin_end`).

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::Revocations;
use crate::store::{StoreError, sessions};

/// How often it looks.
const ROUND: Duration = Duration::from_secs(30);
/// A younger one is still being worked on.
const ABANDONED: Duration = Duration::from_secs(60);
/// How often it looks until the database has been heard of.
const UNTIL_KNOWN: Duration = Duration::from_millis(100);

/// Keeps the thread at work for as long as it lives.
pub struct Unfinished {
    _employed: SyncSender<()>,
}

impl Unfinished {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn start(revocations: Revocations) -> std::io::Result<Self> {
        let (employed, dismissed) = sync_channel(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new().name("session-ends".into()).spawn(move || {
            work(&runtime, &revocations, &dismissed);
        })?;
        Ok(Self { _employed: employed })
    }
}

fn work(runtime: &tokio::runtime::Runtime, revocations: &Revocations, dismissed: &Receiver<()>) {
    // What there is at the start was left by an earlier process.
    let mut abandoned = Duration::ZERO;
    loop {
        let mut rest = UNTIL_KNOWN;
        if revocations.has_begun() {
            match runtime.block_on(finish(revocations, abandoned)) {
                Ok(()) => (abandoned, rest) = (ABANDONED, ROUND),
                Err(error) => {
                    rest = ROUND;
                    tracing::warn!(error = error.chain(), "sessions that have ended are left to be marked later");
                }
            }
        }
        if let Err(RecvTimeoutError::Disconnected) = dismissed.recv_timeout(rest) {
            return;
        }
    }
}

async fn finish(revocations: &Revocations, age: Duration) -> Result<(), StoreError> {
    let now = revocations.clock.now();
    for rest in revocations.store.read(move |conn| sessions::unfinished_ends(conn, now, age)).await? {
        revocations.finish(rest).await?;
    }
    Ok(())
}
