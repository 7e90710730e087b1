//! Queries on readers, and what is counted of those that are not answered.

use std::sync::Arc;

use tokio::time::timeout;
use tracing::Span;

use super::engine::connection::AnyConnection;
use super::engine::error::StoreError;
use super::engine::lease::{TrackedConnection, is_loss};
use super::engine::pool::Pool;
use super::{QueryResult, Store};
use crate::metrics::DatabaseError;

/// How often a query is tried where the server behind its connection is gone.
const MAX_ATTEMPTS: u32 = 2;

impl Store {
    /// Runs a query on a reader. On the embedded database most are over sooner than another thread could begin with them,
    /// and are carried out at once; one that meets a lock is handed to a thread that may wait for it. What is read from the
    /// disk, and not from memory, is waited for here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if no reader is free in time, else what the query failed with.
    pub async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut AnyConnection) -> QueryResult<T> + Send + 'static,
    {
        if let Some(mut lease) = self.at_once.as_ref().and_then(Pool::try_get)
            && let Ok(value) = lease.run(&query)
        {
            return Ok(value);
        }
        let waited = self.metrics.pool_wait.start();
        let permit = timeout(self.reader_wait, Arc::clone(&self.reader_permits).acquire_owned()).await;
        waited.end();
        let Ok(Ok(permit)) = permit else { return self.counted(Err(StoreError::Busy)) };
        let (readers, span) = (self.readers.clone(), Span::current());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(|| read_from(&readers, query))
        });
        self.counted(match timeout(self.reader_wait.saturating_add(self.timeouts.answer), task).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(StoreError::Broken(panic.into())),
            Err(_) => Err(StoreError::Unavailable("a query was not answered in time".into())),
        })
    }

    /// Counts the error, if there was no answer.
    pub(super) fn counted<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &answer {
            self.metrics.errors.count(match error {
                StoreError::Unavailable(_) => DatabaseError::Unavailable,
                StoreError::Busy => DatabaseError::Busy,
                StoreError::Broken(_) => DatabaseError::Broken,
            });
        }
        answer
    }

    /// How many connections are in use.
    pub fn connections_in_use(&self) -> u32 {
        let in_use = |pool: &Pool| {
            let state = pool.state();
            state.connections.saturating_sub(state.idle_connections)
        };
        self.pools.iter().map(in_use).sum()
    }

    /// Runs a query on a reader, on this thread. For threads that may wait.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub fn read_blocking<T>(&self, query: impl Fn(&mut AnyConnection) -> QueryResult<T>) -> Result<T, StoreError> {
        self.counted(read_from(&self.readers, query))
    }
}

fn read_from<T>(readers: &Pool, query: impl Fn(&mut AnyConnection) -> QueryResult<T>) -> Result<T, StoreError> {
    read_and_then(readers, query, |_, _| {})
}

/// The same, and what is to be noted of the connection that has answered.
pub(super) fn read_and_then<T>(
    readers: &Pool,
    query: impl Fn(&mut AnyConnection) -> QueryResult<T>,
    note: impl Fn(&mut TrackedConnection, &T),
) -> Result<T, StoreError> {
    let mut tries = 1;
    loop {
        let mut lease = readers.get().map_err(|error| StoreError::Unavailable(error.into()))?;
        match lease.run(&query) {
            Err(error) if is_loss(&error) && tries < MAX_ATTEMPTS => tries += 1,
            Ok(answer) => {
                note(&mut lease, &answer);
                return Ok(answer);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
