//! Which sessions have ended: what the guard asks before it believes an access token.
//!
//! The ids of ended sessions whose access tokens may still be alive are kept in memory, so the answer costs no query.
//! This process adds to them the moment it ends a session ([`ending`]); a thread polls the database for those that others
//! ended ([`poll`]). While the poll fails, memory may be out of date, and says so.
//!
//! Code that ends sessions does it through [`Revocations`], or tells it after the commit, so the guard always knows.

mod ending;
pub mod poll;
pub mod unfinished;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use self::poll::Poll;
use crate::audit::{AfterCommit, Event, emit};
use crate::clock::{Clock, Timestamp};
use crate::ids::SessionId;
use crate::store::sessions::Ended;
use crate::store::{Store, StoreError};

/// From this age on, what is in memory is not believed: a revocation is felt everywhere within a second.
const STALE: Duration = Duration::from_secs(1);
/// From this age on, the node is not ready. Longer than [`STALE`], in which guards ask for themselves: a busy machine
/// should not lose its nodes to a poll that came a little late.
const UNINFORMED: Duration = Duration::from_secs(5);

/// The sessions that have ended lately, and the way to end more. Clones share it.
#[derive(Clone)]
pub struct Revocations {
    store: Store,
    clock: Clock,
    state: Arc<RwLock<State>>,
    /// One transaction that ends many sessions at a time.
    turn: Arc<Semaphore>,
}

struct State {
    /// When each ended session's newest access token ends.
    ended: HashMap<SessionId, Timestamp>,
    /// When the last successful poll began. None: there has been none.
    learnt: Option<Instant>,
    /// What the clock said then.
    polled_at: Timestamp,
}

/// What is known of a session without asking the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has ended.
    Ended,
    /// It has not.
    Live,
    /// Unknown: the database has not been heard of for a while.
    Unknown,
}

impl Revocations {
    /// Reads what has ended so far, and returns the task that reads on. As long as that runs, `clock` follows that of a
    /// database that several nodes share.
    ///
    /// # Errors
    ///
    /// If the database cannot be asked. One that others share may come later: until then nothing is known.
    pub fn start(store: Store, clock: Clock) -> Result<(Self, Poll), StoreError> {
        let revocations = Self::new(store, clock);
        let poll = poll::start(&revocations)?;
        Ok((revocations, poll))
    }

    /// For a command, which guards nothing: what it ends, the servers on the same database find by polling it. `clock`
    /// follows the database's once, since servers go by that.
    ///
    /// # Errors
    ///
    /// If the database cannot be asked.
    pub fn of_a_command(store: Store, clock: Clock) -> Result<Self, StoreError> {
        poll::follow(&clock, &store)?;
        Ok(Self::new(store, clock))
    }

    fn new(store: Store, clock: Clock) -> Self {
        let nothing = State { ended: HashMap::new(), learnt: None, polled_at: Timestamp::from_micros(0) };
        Self { store, clock, state: Arc::new(RwLock::new(nothing)), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Whether a session has ended.
    pub fn standing(&self, session: SessionId) -> Standing {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.ended.contains_key(&session) {
            Standing::Ended
        } else if state.learnt.is_none_or(|learnt| learnt.elapsed() > STALE) {
            Standing::Unknown
        } else {
            Standing::Live
        }
    }

    /// Whether the database was heard of lately: what time it is for all nodes, and who is signed out.
    pub fn is_informed(&self) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.learnt.is_some_and(|learnt| learnt.elapsed() <= UNINFORMED)
    }

    /// Whether the database has ever been heard of, without which the time of all nodes is unknown.
    pub fn has_begun(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).learnt.is_some()
    }

    /// How long ago the database was heard of. None: never.
    pub fn age(&self) -> Option<Duration> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).learnt.map(|learnt| learnt.elapsed())
    }

    /// Remembers sessions that this process has just ended, after the commit.
    pub fn add(&self, ended: &[Ended]) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.ended.extend(ended.iter().map(|session| (session.id, session.access_expires_at)));
    }

    /// The same, and emits `event` of each.
    pub fn add_and_emit(&self, event: &Event, ended: &[Ended]) {
        self.add(ended);
        ended.iter().for_each(|session| emit(AfterCommit, &event.clone().session(session.id)));
    }
}
