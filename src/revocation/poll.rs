//! How this process learns of sessions that others have ended, and what time it is for all of them.
//!
//! A poll looks a minute further back than the one before, for commits that came late. One that came later than that, of a
//! process that was suspended or a database that held the commit, is found by reading all of it anew now and then.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::{Revocations, State};
use crate::background::Task;
use crate::clock::{Clock, Timestamp};
use crate::ids::SessionId;
use crate::store::sessions::{self, Ended};
use crate::store::{Store, StoreError};

/// How often the database is asked what others have ended.
const POLL: Duration = Duration::from_millis(250);
/// More than any access token lives.
const LONGEST_ACCESS: Duration = Duration::from_secs(25 * 60 * 60);
/// How soon after reading everything that is read anew; or after so many times as long as it took, if that is later.
const WHOLE: (Duration, u32) = (Duration::from_secs(15), 100);
/// A difference between clocks that the operator should correct.
const WORTH_TELLING: Duration = Duration::from_secs(2);
/// How far back a poll looks, so that a commit that came late is not missed, and how long an ended
/// session is remembered after its last access token, for clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);

/// How far back a poll looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// A minute before the last one.
    News,
    /// As far as access tokens may be alive.
    Whole,
}

/// Reads on what others have ended.
pub struct Poll {
    state: Arc<RwLock<State>>,
    store: Store,
    clock: Clock,
    failing: bool,
    /// When everything is read anew.
    whole_at: Instant,
}

/// Reads everything, and returns what reads on.
///
/// # Errors
///
/// As [`Revocations::start`].
pub(super) fn start(revocations: &Revocations) -> Result<Poll, StoreError> {
    let Revocations { store, clock, state, .. } = revocations.clone();
    match learn(&state, &store, &clock, Reach::Whole) {
        Err(error) if store.is_shared() || store.is_damaged() => {
            tracing::error!(
                error = error.chain(),
                "the database cannot be asked yet; this node is not ready until it can"
            );
        }
        first => first?,
    }
    Ok(Poll { state, store, clock, failing: false, whole_at: Instant::now() + WHOLE.0 })
}

/// Sets `clock` by that of a database that several nodes share. Returns by how much it was wrong.
///
/// # Errors
///
/// If the database cannot be asked.
pub(super) fn follow(clock: &Clock, store: &Store) -> Result<Duration, StoreError> {
    clock.follow(|| store.now_blocking())
}

/// Learns what time it is, and what has ended since it was last asked.
fn learn(state: &RwLock<State>, store: &Store, clock: &Clock, reach: Reach) -> Result<(), StoreError> {
    let began = Instant::now();
    let step = follow(clock, store)?;
    if step > WORTH_TELLING {
        tracing::warn!(seconds = step.as_secs(), "the machine's clock differs from the database's, which is followed");
    }
    let now = clock.now();
    let polled_at = state.read().unwrap_or_else(PoisonError::into_inner).polled_at;
    let earliest = now.minus(LONGEST_ACCESS);
    // A clock that was ahead had what it thought to be over forgotten.
    let whole = reach == Reach::Whole || now < polled_at;
    let since = if whole { earliest } else { polled_at.max(earliest) }.minus(MARGIN);
    let news = store.read_blocking(|conn| {
        let mut news = sessions::ended_since(conn, since, now.minus(MARGIN))?;
        news.extend(sessions::ended_with_many(conn, now.minus(MARGIN))?);
        Ok(news)
    })?;
    // Looked for beside the guards, who wait only while the few are removed.
    let is_over = |access_expires_at: &Timestamp| access_expires_at.plus(MARGIN) <= now;
    let known = state.read().unwrap_or_else(PoisonError::into_inner);
    let news: Vec<Ended> = news.into_iter().filter(|session| !known.ended.contains_key(&session.id)).collect();
    let over: Vec<SessionId> = known.ended.iter().filter(|(_, end)| is_over(end)).map(|(id, _)| *id).collect();
    drop(known);
    let mut state = state.write().unwrap_or_else(PoisonError::into_inner);
    for id in &over {
        state.ended.remove(id);
    }
    state.ended.extend(news.into_iter().map(|session| (session.id, session.access_expires_at)));
    state.learnt = Some(began);
    state.polled_at = now;
    Ok(())
}

impl Task for Poll {
    const NAME: &'static str = "revocations";

    fn first_rest(&self) -> Duration {
        POLL
    }

    fn round(&mut self) -> Duration {
        let began = Instant::now();
        let reach = if began >= self.whole_at { Reach::Whole } else { Reach::News };
        match learn(&self.state, &self.store, &self.clock, reach) {
            Ok(()) => {
                if reach == Reach::Whole {
                    self.whole_at = Instant::now() + WHOLE.0.max(began.elapsed() * WHOLE.1);
                }
                if std::mem::take(&mut self.failing) {
                    tracing::info!("revocations are being learnt again");
                }
            }
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(
                    error = error.chain(),
                    "revocations cannot be learnt; guards ask the database until they can"
                );
            }
            Err(_) => {}
        }
        POLL
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use diesel::RunQueryDsl as _;

    use super::*;
    use crate::revocation::Standing;
    use crate::store::testing::TestDatabase;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const AN_HOUR: Duration = Duration::from_secs(60 * 60);

    /// A session of an hour's access token that was ended at this moment.
    fn insert_ended(database: &TestDatabase, ended: Timestamp) -> SessionId {
        insert(database, &format!("{}, 'test'", ended.as_micros()))
    }

    /// `ended`: when, and why.
    fn insert(database: &TestDatabase, ended: &str) -> SessionId {
        let (session, access_ends) = (SessionId::generate(), NOW.plus(AN_HOUR).as_micros());
        let id = hex(session);
        let insert = format!(
            "INSERT INTO sessions SELECT unhex('{id}'), randomblob(16), 0, 0, randomblob(32), NULL, zeroblob(16), 'k', 0, 0,
               NULL, {access_ends}, {access_ends}, {access_ends}, {ended}, '[]', 'body', 0, 0, NULL, NULL, NULL, 0, 0, true, NULL, false, NULL"
        );
        diesel::sql_query(insert).execute(&mut database.connect()).unwrap();
        session
    }

    fn hex(id: SessionId) -> String {
        id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Without the thread that polls.
    fn nothing_learnt(database: &TestDatabase) -> Revocations {
        Revocations::new(database.store(), Clock::manual(NOW))
    }

    fn learn(revocations: &Revocations, reach: Reach) {
        super::learn(&revocations.state, &revocations.store, &revocations.clock, reach).unwrap();
    }

    /// What a poll finds is of the last minute; what was committed later than that is in no poll.
    #[test]
    fn a_revocation_committed_long_after_its_time_is_learnt() {
        let database = TestDatabase::new();
        let revocations = nothing_learnt(&database);
        learn(&revocations, Reach::Whole);
        let late = [2, 10, 59].map(|minutes| insert_ended(&database, NOW.minus(Duration::from_secs(minutes * 60))));
        let in_time = insert_ended(&database, NOW.minus(MARGIN / 2));
        learn(&revocations, Reach::News);
        assert_eq!(revocations.standing(in_time), Standing::Ended);
        assert_eq!(late.map(|session| revocations.standing(session)), [Standing::Live; 3]);
        learn(&revocations, Reach::Whole);
        assert_eq!(late.map(|session| revocations.standing(session)), [Standing::Ended; 3]);
    }

    /// Of many that ended at once, most are marked later.
    #[test]
    fn what_has_ended_with_many_others_is_learnt_before_it_is_marked() {
        let database = TestDatabase::new();
        let [ended, kept, later] = [(); 3].map(|()| insert(&database, "NULL, NULL"));
        let kept_id = hex(kept);
        let end = format!(
            "INSERT INTO session_ends SELECT randomblob(16), user_id, unhex('{kept_id}'), {now}, unhex('{kept_id}'), 'test', NULL, 0
             FROM sessions LIMIT 1",
            now = NOW.as_micros()
        );
        for statement in ["UPDATE sessions SET user_id = (SELECT min(user_id) FROM sessions)", &end] {
            diesel::sql_query(statement).execute(&mut database.connect()).unwrap();
        }
        let revocations = nothing_learnt(&database);
        learn(&revocations, Reach::News);
        let standings = [ended, kept, later].map(|session| revocations.standing(session));
        assert_eq!(standings, [Standing::Ended, Standing::Live, Standing::Live]);
    }

    /// A clock that was ahead had everything forgotten as long over.
    #[test]
    fn what_had_ended_is_learnt_again_when_the_clock_steps_back() {
        let database = TestDatabase::new();
        let session = insert_ended(&database, NOW);
        let revocations = nothing_learnt(&database);
        learn(&revocations, Reach::News);
        assert_eq!(revocations.standing(session), Standing::Ended);
        revocations.clock.set(NOW.plus(2 * AN_HOUR));
        learn(&revocations, Reach::News);
        assert_eq!(revocations.standing(session), Standing::Live, "no token of it can be alive any more");
        revocations.clock.set(NOW.plus(AN_HOUR / 2));
        learn(&revocations, Reach::News);
        assert_eq!(revocations.standing(session), Standing::Ended);
    }
}
