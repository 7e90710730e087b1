//! The end of all sessions of a user, carried out: the first transaction decides, and those that follow mark what it has
//! left, each short enough for others to write in between.

use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use super::error::StoreError;
use super::sessions::{self, EndProgress, EndRest, Ended};
use super::{AnyConnection, QueryResult, Store};
use crate::clock::{Clock, Timestamp};
use crate::events::Event;

/// The least and the most rest between two transactions; else as long as the first one took, in which other processes
/// get their turn.
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(200));
/// How often a transaction may fail before the rest is left for later, and the rest between.
const MOST_FAILURES: u32 = 3;
const AFTER_FAILURE: Duration = Duration::from_millis(500);

impl Store {
    /// Runs `attempt` in a transaction and then marks what it has left of the sessions that it ends. `announce` is told of
    /// all that are marked, after each commit, and `told` of the first one before. All of it is done even if the caller
    /// does not wait for it. Returns how many have ended.
    ///
    /// # Errors
    ///
    /// As [`Store::write`]; then nothing was done. Those that cannot be marked after the first transaction was committed have
    /// ended all the same, and are marked later.
    pub async fn write_and_end<T, F, A>(
        &self,
        clock: &Clock,
        attempt: F,
        told: impl FnOnce(&T) + Send + 'static,
        announce: A,
    ) -> Result<(T, usize), StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<(T, Vec<EndProgress>)> + Send + 'static,
        A: Fn(&Event, &[Ended]) + Clone + Send + 'static,
    {
        let (store, clock) = (self.clone(), clock.clone());
        let carried_out = async move {
            let first = announce.clone();
            let follow = move |(value, all): &(T, Vec<EndProgress>)| {
                told(value);
                all.iter().for_each(|progress| first(&progress.event, &progress.ended));
            };
            let (value, all) = store.write_and_then(attempt, follow).await?;
            let mut ended: usize = all.iter().map(|progress| progress.ended.len()).sum();
            for rest in all.into_iter().filter_map(|progress| progress.rest) {
                let (marked, failed) = store.mark_rest(&clock, rest.clone(), announce.clone()).await;
                ended += marked;
                if let Some(error) = failed {
                    // They have ended with the first transaction. To say that nothing was done would be wrong.
                    tracing::warn!(error = error.chain(), "sessions that have ended are left to be marked later");
                    let now = clock.now();
                    ended +=
                        store.read(move |conn| sessions::count_unmarked(conn, &rest, now)).await.unwrap_or_default();
                }
            }
            Ok((value, ended))
        };
        let done = tokio::spawn(carried_out.in_current_span()).await;
        done.map_err(|panic| StoreError::Broken(panic.into()))?
    }

    /// To be held during a transaction that ends many sessions: one at a time, so that those that are asked for together do not
    /// make one long transaction.
    ///
    /// # Errors
    ///
    /// If the store is closed.
    pub async fn turn_at_ending(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.ending.acquire().await.map_err(|_closed| StoreError::Busy)
    }

    /// Marks the rest of sessions that have ended. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`Store::write`]; then some are left.
    pub async fn finish_ending<A>(&self, clock: &Clock, rest: EndRest, announce: A) -> Result<usize, StoreError>
    where
        A: Fn(&Event, &[Ended]) + Clone + Send + 'static,
    {
        match self.mark_rest(clock, rest, announce).await {
            (marked, None) => Ok(marked),
            (_, Some(error)) => Err(error),
        }
    }

    /// How many it has marked, and what kept it from marking all.
    async fn mark_rest<A>(&self, clock: &Clock, rest: EndRest, announce: A) -> (usize, Option<StoreError>)
    where
        A: Fn(&Event, &[Ended]) + Clone + Send + 'static,
    {
        let (mut next, mut marked, mut failures) = (Some(rest), 0, 0);
        while let Some(rest) = next.take() {
            let turn = match self.turn_at_ending().await {
                Ok(turn) => turn,
                Err(error) => return (marked, Some(error)),
            };
            let (now, these) = (clock.clone(), rest.clone());
            let attempt = move |conn: &mut AnyConnection| -> QueryResult<(EndProgress, Timestamp)> {
                let began = now.now();
                Ok((sessions::go_on_ending(conn, &these, began)?, began))
            };
            let announce = announce.clone();
            let follow = move |(progress, _): &(EndProgress, Timestamp)| announce(&progress.event, &progress.ended);
            let done = self.write_and_then(attempt, follow).await;
            drop(turn);
            match done {
                Ok((progress, began)) => {
                    failures = 0;
                    marked += progress.ended.len();
                    next = progress.rest;
                    if next.is_some() {
                        tokio::time::sleep(clock.now().since(began).clamp(REST.0, REST.1)).await;
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
