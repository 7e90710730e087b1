//! The janitor: removes what is over for good, without delaying requests.
//!
//! It deletes in batches, each a write like any other, small enough to hold the writer for a few
//! milliseconds at most, and rests between two of them for longer than the first one took.
//!
//! What is over is told by the clock, and what is removed does not come back when a clock that was wrong is set right. So
//! nothing is removed for an hour after a step forward that the time passed does not explain, nor after a start at which the
//! database was last in use more than a week ago.

use std::time::{Duration, Instant};

use super::{Stop, Task};
use crate::audit::RETENTION;
use crate::clock::{Clock, Timestamp};
use crate::current::Current;
use crate::ids::SessionId;
use crate::metrics::{JanitorMetrics, Label as _, Removed};
use crate::revocation::Revocations;
use crate::store::{
    AnyConnection, QueryResult, Store, StoreError, attempts, events, health, mail_tokens, mails, sessions,
};

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

/// How long mails are kept that no server sends, as where mail was switched off. Those that are tried are given up before.
const UNSENT: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// How far ahead of the time passed the wall clock may go from one round to the next.
const STEP_FORWARD: Duration = Duration::from_secs(60);
/// For so long a clock that may be wrong is not believed, unless it is right again before.
const DOUBT: Duration = Duration::from_secs(60 * 60);
/// A database in which nothing is newer was away for long, or the clock is ahead.
const AWAY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why a round ended early.
enum Cut {
    /// It was told to stop.
    Stopped,
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

/// A look at the wall clock, and the time passed by then, which cannot be set.
#[derive(Clone, Copy)]
struct Look {
    now: Timestamp,
    elapsed: Duration,
}

impl Look {
    /// Whether the wall clock went further since `before` than time did.
    fn is_ahead_of(self, before: Self) -> bool {
        let passed = self.elapsed.saturating_sub(before.elapsed);
        self.now > before.now.plus(passed).plus(STEP_FORWARD)
    }
}

/// Whether the wall clock is believed.
#[derive(Default)]
struct Time {
    /// When it was last believed.
    good: Option<Look>,
    /// At the last round.
    seen: Option<Look>,
    /// It is not believed until so much time has passed, or, where it has stepped, until it agrees with `good` again.
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy)]
struct Doubt {
    until: Duration,
    stepped: bool,
}

impl Time {
    /// Whether it is believed at this look. `was_away` is asked at the first one.
    fn is_believed<E>(&mut self, look: Look, was_away: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        let until = look.elapsed.saturating_add(DOUBT);
        match self.seen {
            None if was_away()? => {
                self.doubt = Some(Doubt { until, stepped: false });
                tracing::warn!(
                    now = %look.now.to_rfc3339(),
                    "nothing in the database is newer than a week: if the clock is right, what is over will be removed in an hour"
                );
            }
            Some(seen) if look.is_ahead_of(seen) => {
                self.doubt = Some(Doubt { until, stepped: true });
                tracing::warn!(
                    now = %look.now.to_rfc3339(),
                    before = %seen.now.to_rfc3339(),
                    "the clock has stepped forward: nothing is removed until it is as before, or for an hour"
                );
            }
            None | Some(_) => {}
        }
        self.seen = Some(look);
        if let Some(doubt) = self.doubt {
            let agrees = doubt.stepped && self.good.is_some_and(|good| !look.is_ahead_of(good));
            if !agrees && look.elapsed < doubt.until {
                return Ok(false);
            }
            self.doubt = None;
            tracing::info!(now = %look.now.to_rfc3339(), "the clock is believed again");
        }
        self.good = Some(look);
        Ok(true)
    }
}

/// Removes what is over.
pub struct Janitor {
    store: Store,
    clock: Clock,
    revocations: Revocations,
    keep: Current<Duration>,
    metrics: JanitorMetrics,
    stop: Stop,
    /// The size of the next batch, in rows.
    batch: i64,
    /// How far the search for idle sessions has come.
    walked: Option<SessionId>,
    time: Time,
}

impl Task for Janitor {
    const NAME: &'static str = "janitor";

    fn round(&mut self) -> Duration {
        match self.round_if_time_is_known() {
            Ok(0) | Err(Cut::Stopped) => {}
            Ok(removed) => tracing::debug!(removed, "the janitor has made a round"),
            Err(Cut::Failed(error)) => {
                tracing::warn!(error = error.chain(), "the janitor could not finish a round, and will try again");
            }
        }
        ROUND
    }
}

impl Janitor {
    /// Sessions are kept for `keep` after their end: as long as any token of theirs may be asked about, or the memory
    /// of their end must be renewed. Nothing is removed until the time of all nodes is known from `revocations`: a machine's
    /// clock that is ahead would have it take live sessions from all of them.
    pub fn new(
        store: Store,
        clock: Clock,
        revocations: Revocations,
        keep: Current<Duration>,
        metrics: JanitorMetrics,
        stop: Stop,
    ) -> Self {
        Self { store, clock, revocations, keep, metrics, stop, batch: BATCH.0, walked: None, time: Time::default() }
    }

    fn round_if_time_is_known(&mut self) -> Result<usize, Cut> {
        if self.revocations.has_begun() { self.round_if_time_is_believed() } else { Ok(0) }
    }

    fn round_if_time_is_believed(&mut self) -> Result<usize, Cut> {
        let look = Look { now: self.clock.now(), elapsed: self.clock.elapsed() };
        let store = self.store.clone();
        if !self.time.is_believed(look, || was_away(&store, look.now))? {
            return Ok(0);
        }
        self.store.write_blocking(move |conn| health::trust(conn, look.now))?;
        self.remove(look.now)
    }

    /// Removes everything whose time has come by `now`, which was found to be right, and returns how many rows that were.
    fn remove(&mut self, now: Timestamp) -> Result<usize, Cut> {
        let (over, past) = (now.minus(**self.keep.peek()), now.minus(RETENTION));
        let chores: [(Removed, Purge, Timestamp); 5] = [
            (Removed::ExpiredSessions, sessions::purge_expired, over),
            (Removed::Attempts, attempts::purge, now),
            (Removed::Events, events::purge, past),
            (Removed::MailTokens, mail_tokens::purge, now),
            (Removed::Mails, mails::purge, now.minus(UNSENT)),
        ];
        let mut all = 0;
        for (kind, purge, before) in chores {
            let mut removed = 0;
            let done = self.purge(purge, before, &mut removed);
            self.report(kind, removed, before);
            all += removed;
            done?;
        }
        let mut removed = 0;
        let done = self.walk(over, &mut removed);
        self.report(Removed::IdleSessions, removed, over);
        done?;
        self.metrics.last_success.set(now.as_seconds_f64());
        Ok(all + removed)
    }

    /// Says what is gone for good.
    fn report(&self, kind: Removed, removed: usize, before: Timestamp) {
        self.metrics.removed.add(kind, u64::try_from(removed).unwrap_or(u64::MAX));
        if removed > 0 {
            let kind = kind.as_str().replace('_', " ");
            tracing::info!(kind, removed, before = %before.to_rfc3339(), "the janitor has removed what was over");
        }
    }

    fn purge(&mut self, purge: Purge, before: Timestamp, removed: &mut usize) -> Result<(), Cut> {
        loop {
            let limit = self.batch;
            let some = self.delete(move |conn| purge(conn, before, limit))?;
            *removed += some;
            if i64::try_from(some).is_ok_and(|some| some < limit) {
                return Ok(());
            }
        }
    }

    /// Looks for idle sessions a bit further than last time, among readers, and removes those it finds.
    fn walk(&mut self, before: Timestamp, removed: &mut usize) -> Result<(), Cut> {
        for _ in 0..STEPS {
            let (after, began) = (self.walked, Instant::now());
            let (mut idle, next) = self.store.read_blocking(|conn| sessions::idle_among(conn, after, STEP, before))?;
            self.rest(began.elapsed() * REST)?;
            while !idle.is_empty() {
                let some = idle.split_off(idle.len().saturating_sub(usize::try_from(self.batch).unwrap_or(1)));
                *removed += self.delete(move |conn| sessions::purge_idle(conn, &some, before))?;
            }
            self.walked = next;
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// One write, and what it leaves behind, which is not waited for; then a rest, and a look at the watch.
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
        if self.stop.rest(time.max(LEAST_REST)) { Err(Cut::Stopped) } else { Ok(()) }
    }
}

/// Whether the database was last in use more than a week before `now`, as far as its rows tell, or the janitor who was here
/// before. One in which there is nothing was not.
fn was_away(store: &Store, now: Timestamp) -> Result<bool, StoreError> {
    let newest = store.read_blocking(|conn| {
        let (session, event) = (sessions::newest(conn)?, events::newest(conn)?);
        Ok([session.max(event), health::trusted_at(conn)?])
    })?;
    Ok(newest.into_iter().flatten().any(|newest| now.since(newest) > AWAY))
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "janitor_tests.rs"]
mod tests;
