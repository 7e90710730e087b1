//! The end of sessions, carried out. That of all sessions of a user is decided by one transaction; those that follow mark
//! what it has left, each short enough for others to write in between.

use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use super::Revocations;
use crate::clock::Timestamp;
use crate::store::sessions::{self, EndProgress, EndRest};
use crate::store::{AnyConnection, QueryResult, StoreError};

/// The least and the most rest between two transactions; else as long as the first one took, in which other processes
/// get their turn.
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(200));
/// How often a transaction may fail before the rest is left for later, and the rest between.
const MOST_FAILURES: u32 = 3;
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Whether the log is told of the end of each session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    /// It is.
    Each,
    /// It is not: an operator knows what they do, and it is kept among the account's events.
    Nothing,
}

impl Revocations {
    /// Runs `attempt` in a transaction and then marks what it has left of the sessions that it ends. They are remembered
    /// and told of in the log after each commit, and `told` is called with the outcome of the first one before. All of it
    /// is done even if the caller does not wait for it. Returns how many have ended.
    ///
    /// # Errors
    ///
    /// As [`Store::write`](crate::store::Store::write); then nothing was done. Those that cannot be marked after the first
    /// transaction was committed have ended all the same, and are marked later.
    pub async fn end<T, F>(&self, attempt: F, told: impl FnOnce(&T) + Send + 'static) -> Result<(T, usize), StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<(T, Vec<EndProgress>)> + Send + 'static,
    {
        self.carry_out(attempt, told, Tells::Each).await
    }

    /// The same for an operator: nothing is told in the log.
    ///
    /// # Errors
    ///
    /// As [`Revocations::end`].
    pub async fn end_for_operator<T, F>(&self, attempt: F) -> Result<(T, usize), StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<(T, Vec<EndProgress>)> + Send + 'static,
    {
        self.carry_out(attempt, |_| (), Tells::Nothing).await
    }

    /// To be held during a transaction that ends many sessions: one at a time, so that those that are asked for together do not
    /// make one long transaction.
    ///
    /// # Errors
    ///
    /// Never, as long as the process runs.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.turn.acquire().await.map_err(|_closed| StoreError::Busy)
    }

    /// Marks the rest of sessions that have ended. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`Revocations::end`]; then some are left.
    pub(super) async fn finish(&self, rest: EndRest) -> Result<usize, StoreError> {
        match self.mark_rest(rest, Tells::Each).await {
            (marked, None) => Ok(marked),
            (_, Some(error)) => Err(error),
        }
    }

    async fn carry_out<T, F>(
        &self,
        attempt: F,
        told: impl FnOnce(&T) + Send + 'static,
        tells: Tells,
    ) -> Result<(T, usize), StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<(T, Vec<EndProgress>)> + Send + 'static,
    {
        let this = self.clone();
        let carried_out = async move {
            let noting = this.clone();
            let follow = move |(value, all): &(T, Vec<EndProgress>)| {
                told(value);
                all.iter().for_each(|progress| noting.note(progress, tells));
            };
            let (value, all) = this.store.write_and_then(attempt, follow).await?;
            let mut ended: usize = all.iter().map(|progress| progress.ended.len()).sum();
            for rest in all.into_iter().filter_map(|progress| progress.rest) {
                let (marked, failed) = this.mark_rest(rest.clone(), tells).await;
                ended += marked;
                if let Some(error) = failed {
                    // They have ended with the first transaction. To say that nothing was done would be wrong.
                    tracing::warn!(error = error.chain(), "sessions that have ended are left to be marked later");
                    let now = this.clock.now();
                    let unmarked = this.store.read(move |conn| sessions::count_unmarked(conn, &rest, now));
                    ended += unmarked.await.unwrap_or_default();
                }
            }
            Ok((value, ended))
        };
        let done = tokio::spawn(carried_out.in_current_span()).await;
        done.map_err(|panic| StoreError::Broken(panic.into()))?
    }

    fn note(&self, progress: &EndProgress, tells: Tells) {
        match tells {
            Tells::Each => self.add_and_emit(&progress.event, &progress.ended),
            Tells::Nothing => self.add(&progress.ended),
        }
    }

    /// How many it has marked, and what kept it from marking all.
    async fn mark_rest(&self, rest: EndRest, tells: Tells) -> (usize, Option<StoreError>) {
        let (mut next, mut marked, mut failures) = (Some(rest), 0, 0);
        while let Some(rest) = next.take() {
            let turn = match self.turn().await {
                Ok(turn) => turn,
                Err(error) => return (marked, Some(error)),
            };
            let (clock, these) = (self.clock.clone(), rest.clone());
            let attempt = move |conn: &mut AnyConnection| -> QueryResult<(EndProgress, Timestamp)> {
                let began = clock.now();
                Ok((sessions::go_on_ending(conn, &these, began)?, began))
            };
            let noting = self.clone();
            let follow = move |(progress, _): &(EndProgress, Timestamp)| noting.note(progress, tells);
            let done = self.store.write_and_then(attempt, follow).await;
            drop(turn);
            match done {
                Ok((progress, began)) => {
                    failures = 0;
                    marked += progress.ended.len();
                    next = progress.rest;
                    if next.is_some() {
                        tokio::time::sleep(self.clock.now().since(began).clamp(REST.0, REST.1)).await;
                    }
                }
                Err(_) if failures < MOST_FAILURES => {
                    failures += 1;
                    next = Some(rest);
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
                Err(error) => return (marked, Some(error)),
            }
        }
        (marked, None)
    }
}
