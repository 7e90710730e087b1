//! The sessions of all users, listed and ended by an operator. It takes no key, for no token is issued or read.
//!
//! That a session has ended is kept among its user's events in the same transaction. Guards of this process are told
//! after the commit; other servers learn of it by polling.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::{Event, Kind, emit};
use crate::clock::{Clock, Timestamp};
use crate::ids::{SessionId, UserId};
use crate::revocation::Revocations;
use crate::store::events::InTransaction;
use crate::store::sessions::{self, EndOrder, Ended, OwnedSession};
use crate::store::{AnyConnection, QueryResult, Store, StoreError, signing_keys};

/// Sessions that are read at once.
const PAGE: i64 = 500;
/// Sessions that end in one transaction: few enough that a server which wants to write hardly notices.
const BATCH: i64 = 100;
/// For each unit of time at work, so many at rest, in which a server gets its turn; and the least and the most rest.
const REST: u32 = 2;
const LEAST_REST: Duration = Duration::from_millis(2);
const MOST_REST: Duration = Duration::from_millis(200);
/// Why sessions end.
const BY_OPERATOR: &str = "ended_by_operator";

/// What an operator can do with sessions. Clones share it.
#[derive(Clone)]
pub struct Administration {
    store: Store,
    clock: Clock,
    revocations: Revocations,
}

impl Administration {
    /// Puts the parts together.
    pub fn new(store: Store, clock: Clock, revocations: Revocations) -> Self {
        Self { store, clock, revocations }
    }

    /// Some live sessions, of one user or of all, in the order in which they were opened, from the one after `after`
    /// on. None: there are no more.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn page(&self, user: Option<UserId>, after: Option<SessionId>) -> Result<Vec<OwnedSession>, StoreError> {
        let now = self.clock.now();
        self.store.read(move |conn| sessions::live_page(conn, user, after, now, PAGE)).await
    }

    /// Ends a session. `false`: it is over already, or there is none.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn end(&self, id: SessionId) -> Result<bool, StoreError> {
        let (ended, _) = self.end_some(vec![id]).await?;
        Ok(ended > 0)
    }

    /// Ends every session of a user, all at once, and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn end_all_of(&self, user: UserId) -> Result<usize, StoreError> {
        let clock = self.clock.clone();
        let attempt = move |conn: &mut AnyConnection| {
            let progress = sessions::begin_end(conn, &EndOrder::all(user, BY_OPERATOR), clock.now())?;
            Ok(((), vec![progress]))
        };
        let ((), ended) = self.revocations.end_for_operator(attempt).await?;
        Ok(ended)
    }

    /// Ends every session that was opened at `since` or later, a few at a time, and returns how many.
    ///
    /// # Errors
    ///
    /// If the database gave no answer. Those that had ended by then have ended.
    pub async fn end_opened_since(&self, since: Timestamp) -> Result<usize, StoreError> {
        self.end_pages(move |conn, after| sessions::opened_since(conn, since, after, BATCH)).await
    }

    /// Ends every session whose refresh token was signed with a key, a few at a time, and returns how many.
    ///
    /// # Errors
    ///
    /// If the database gave no answer. Those that had ended by then have ended.
    pub async fn end_signed_with(&self, kid: &str) -> Result<usize, StoreError> {
        let kid: Arc<str> = kid.into();
        self.end_pages(move |conn, after| signing_keys::page_signed_with(conn, &kid, after, BATCH)).await
    }

    /// Ends what `page` finds, from the session after the given one on, until it finds nothing more.
    async fn end_pages(
        &self,
        page: impl Fn(&mut AnyConnection, Option<SessionId>) -> QueryResult<Vec<SessionId>> + Clone + Send + 'static,
    ) -> Result<usize, StoreError> {
        let (mut after, mut ended) = (None, 0);
        loop {
            let page = page.clone();
            // Among readers, since it may take long to find a few among many.
            let some = self.store.read(move |conn| page(conn, after)).await?;
            let Some(last) = some.last().copied() else { return Ok(ended) };
            let (count, began) = self.end_some(some).await?;
            let took = self.clock.now().since(began);
            (after, ended) = (Some(last), ended + count);
            tokio::time::sleep((took * REST).clamp(LEAST_REST, MOST_REST)).await;
        }
    }

    /// Returns how many of them it has ended, and since when nothing else could write.
    async fn end_some(&self, ids: Vec<SessionId>) -> Result<(usize, Timestamp), StoreError> {
        let clock = self.clock.clone();
        let attempt = move |conn: &mut AnyConnection| -> QueryResult<(Vec<Ended>, Timestamp)> {
            let now = clock.now();
            let ended = sessions::end(conn, &ids, now, BY_OPERATOR)?;
            for (ended, user) in &ended {
                emit(InTransaction(conn, now), &ended_of(*user).session(ended.id))?;
            }
            Ok((ended.into_iter().map(|(ended, _)| ended).collect(), now))
        };
        let revocations = self.revocations.clone();
        let follow = move |(ended, _): &(Vec<Ended>, Timestamp)| revocations.add(ended);
        let (ended, began) = self.store.write_and_then(attempt, follow).await?;
        Ok((ended.len(), began))
    }
}

fn ended_of(user: UserId) -> Event {
    Event::new(Kind::Revoked).user(user).detail(BY_OPERATOR)
}
