//! The janitor over a real database, one round at a time.

use diesel::prelude::*;
use diesel::sql_query;

use super::*;
use crate::store::testing::TestDatabase;

const NOW: Timestamp = Timestamp::from_seconds(1_000_000);
const KEEP: Duration = Duration::from_secs(1_000);
/// What is gone after a round: anything older than this.
const OVER: i64 = 999_000_000_000;

struct House {
    store: Store,
    janitor: Janitor,
    database: TestDatabase,
}

impl House {
    fn new() -> Self {
        Self::over(TestDatabase::new())
    }

    fn over(database: TestDatabase) -> Self {
        let store = database.store();
        let clock = Clock::manual(NOW);
        let revocations = Revocations::of_a_command(store.clone(), clock.clone()).unwrap();
        let (keep, metrics) = (Current::new(KEEP), JanitorMetrics::default());
        let janitor = Janitor::new(store.clone(), clock, revocations, keep, metrics, Stop::default());
        Self { store, janitor, database }
    }

    /// Beside the store, which would not wait for very many rows.
    fn run(&self, statement: &str) {
        sql_query(statement).execute(&mut self.database.connect()).unwrap();
    }

    /// As many sessions, with these times in microseconds. Ids grow with time, as those of version 7 do.
    fn sessions(&self, count: u32, idle_at: i64, expires_at: i64, revoked_at: &str) {
        let before = self.count("sessions");
        let reason = if revoked_at == "NULL" { "NULL" } else { "'test'" };
        self.run(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO sessions SELECT unhex(printf('%032x', i + {before})), randomblob(16), 0, 0, randomblob(32), NULL, zeroblob(16), 'k',
               0, 0, NULL, 0, {idle_at}, {expires_at}, {revoked_at}, {reason}, '[]', 'body', 0, 0,
               NULL, NULL, NULL, 0, 0, true, NULL, false, NULL FROM n"
        ));
    }

    /// As many events, of this moment in microseconds.
    fn events(&self, count: u32, at: i64) {
        self.run(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO events SELECT randomblob(16), zeroblob(16), NULL, 'login_ok', NULL, {at}, NULL, NULL FROM n"
        ));
    }

    fn count(&self, table: &str) -> i64 {
        count(&self.store, table)
    }

    fn round(&mut self) -> usize {
        match self.janitor.remove(self.janitor.clock.now()) {
            Ok(removed) => removed,
            Err(Cut::Stopped) => panic!("stopped"),
            Err(Cut::Failed(error)) => panic!("{error}"),
        }
    }
}

/// Whether the clock is doubted, and what of the sessions is left, after a round.
fn round_at(house: &mut House, elapsed: Duration, now: Timestamp) -> (bool, i64) {
    house.janitor.clock.advance(elapsed);
    house.janitor.clock.set(now);
    assert!(house.janitor.round_if_time_is_believed().is_ok());
    (house.janitor.time.doubt.is_some(), house.count("sessions"))
}

fn count(store: &Store, table: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    let query = format!("SELECT count(*) AS count FROM {table}");
    store.read_blocking(|conn| sql_query(&query).get_result::<Count>(conn)).unwrap().count
}

/// SES-08.
#[test]
fn sessions_go_when_they_have_been_over_for_long_enough_and_not_before() {
    let mut house = House::new();
    house.sessions(1, OVER, i64::MAX, "NULL");
    house.sessions(1, OVER, OVER, "NULL");
    // A tombstone stays until the session's own end, however long ago it was ended.
    house.sessions(1, 0, i64::MAX, "0");
    assert_eq!(house.round(), 0);
    house.sessions(2, OVER - 1, i64::MAX, "NULL");
    assert_eq!(house.round(), 2, "idle");
    house.sessions(3, i64::MAX, OVER - 1, "NULL");
    assert_eq!(house.round(), 3, "expired");
    assert_eq!(house.count("sessions"), 3);
}

#[test]
fn events_go_after_ninety_days_and_attempts_when_their_window_has_ended() {
    let mut house = House::new();
    let ninety_days_ago = NOW.as_micros() - 90 * 24 * 60 * 60 * 1_000_000;
    house.events(3, ninety_days_ago - 1);
    house.events(2, ninety_days_ago);
    for ends_at in [NOW.as_micros() - 1, NOW.as_micros()] {
        house.run(&format!("INSERT INTO attempts (key, count, window_ends_at) VALUES (randomblob(16), 1, {ends_at})"));
    }
    assert_eq!(house.round(), 4);
    assert_eq!((house.count("events"), house.count("attempts")), (2, 1));
}

#[test]
fn nothing_goes_while_it_is_not_known_what_time_it_is() {
    let mut house = House::new();
    house.sessions(1, i64::MAX, OVER - 1, "NULL");
    house.run(&format!("UPDATE sessions SET created_at = {}", NOW.as_micros()));
    let (store, clock) = (house.store.clone(), house.janitor.clock.clone());
    assert!(matches!(house.janitor.round_if_time_is_known(), Ok(0)));
    assert_eq!(house.count("sessions"), 1);
    (house.janitor.revocations, _) = Revocations::start(store, clock).unwrap();
    assert!(matches!(house.janitor.round_if_time_is_known(), Ok(1)));
}

const A_MINUTE: Duration = Duration::from_secs(60);
const AN_HOUR: Duration = Duration::from_secs(60 * 60);
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A house in use, with a session that is over and one that has ten days to go.
fn in_use() -> House {
    let house = House::new();
    house.sessions(1, i64::MAX, OVER - 1, "NULL");
    let (now, then) = (NOW.as_micros(), NOW.plus(10 * A_DAY).as_micros());
    house.sessions(1, then, then, "NULL");
    house.run(&format!("UPDATE sessions SET created_at = {now}"));
    house
}

/// A clock that is 100 days ahead for a minute, or for good.
#[test]
fn an_unexplained_step_of_the_clock_removes_nothing_for_an_hour() {
    let ahead = 100 * A_DAY;
    let mut house = in_use();
    assert_eq!(round_at(&mut house, Duration::ZERO, NOW), (false, 1), "what is over goes");
    assert_eq!(round_at(&mut house, A_MINUTE, NOW.plus(A_MINUTE).plus(ahead)), (true, 1), "the step is seen");
    assert_eq!(round_at(&mut house, A_MINUTE, NOW.plus(2 * A_MINUTE).plus(ahead)), (true, 1), "and not forgotten");
    assert_eq!(round_at(&mut house, A_MINUTE, NOW.plus(3 * A_MINUTE)), (false, 1), "it was wrong, and is right again");

    let late = NOW.plus(4 * A_MINUTE).plus(ahead);
    assert_eq!(round_at(&mut house, A_MINUTE, late), (true, 1));
    assert_eq!(round_at(&mut house, AN_HOUR - A_MINUTE, late.plus(AN_HOUR - A_MINUTE)), (true, 1), "not yet an hour");
    assert_eq!(round_at(&mut house, A_MINUTE, late.plus(AN_HOUR)), (false, 0), "it stays so: it is believed");
}

/// Steps that need no doubt: back, by less than a minute, and what is time that has passed.
#[test]
fn time_that_passes_and_small_steps_are_believed() {
    for (elapsed, now) in [
        (A_MINUTE, NOW.plus(A_MINUTE)),
        (A_MINUTE, NOW.plus(2 * A_MINUTE)),
        (A_MINUTE, NOW),
        (A_MINUTE, NOW.minus(A_DAY)),
        (100 * A_DAY, NOW.plus(100 * A_DAY)),
    ] {
        let mut house = in_use();
        round_at(&mut house, Duration::ZERO, NOW);
        assert!(!round_at(&mut house, elapsed, now).0, "{elapsed:?}, {now:?}");
    }
    let mut house = in_use();
    round_at(&mut house, Duration::ZERO, NOW);
    assert!(round_at(&mut house, A_MINUTE, NOW.plus(2 * A_MINUTE).plus(Duration::from_micros(1))).0);
}

/// Each step is a reason to wait: one that goes on stepping is never believed.
#[test]
fn another_step_makes_the_hour_begin_anew() {
    let mut house = in_use();
    round_at(&mut house, Duration::ZERO, NOW);
    let one = NOW.plus(A_DAY);
    assert_eq!(round_at(&mut house, A_MINUTE, one), (true, 1));
    let other = one.plus(100 * A_DAY);
    assert_eq!(round_at(&mut house, AN_HOUR - A_MINUTE, other), (true, 1));
    assert_eq!(round_at(&mut house, AN_HOUR - A_MINUTE, other.plus(AN_HOUR - A_MINUTE)), (true, 1));
    assert_eq!(round_at(&mut house, A_MINUTE, other.plus(AN_HOUR)), (false, 0));
}

/// After a start, what was last in use more than a week ago is as suspicious as a step.
#[test]
fn nothing_goes_in_the_first_hour_after_a_start_at_which_all_rows_are_old() {
    let a_week = Duration::from_secs(7 * 24 * 60 * 60);
    let a_moment = Duration::from_secs(1);
    // The newest session, the newest event, and the last round that believed the clock, before the start.
    for (session, event, janitor, doubted) in [
        (Some(a_week + a_moment), None, None, true),
        (Some(a_week), None, None, false),
        (Some(a_week + a_moment), Some(A_MINUTE), None, false),
        (Some(a_week + a_moment), Some(a_week + a_moment), None, true),
        (Some(A_MINUTE), None, Some(A_MINUTE), false),
        // Clients signed in while the clock was ahead already.
        (Some(A_MINUTE), Some(A_MINUTE), Some(8 * A_DAY), true),
        (None, None, None, false),
    ] {
        let mut house = House::new();
        if let Some(ago) = session {
            house.sessions(1, i64::MAX, OVER - 1, "NULL");
            house.run(&format!("UPDATE sessions SET created_at = {}", NOW.minus(ago).as_micros()));
        }
        if let Some(ago) = event {
            house.events(1, NOW.minus(ago).as_micros());
        }
        if let Some(ago) = janitor {
            house.run(&format!("UPDATE health SET trusted_at = {}", NOW.minus(ago).as_micros()));
        }
        let (case, before) = (format!("{session:?}, {event:?}, {janitor:?}"), house.count("sessions"));
        let left = if doubted { before } else { 0 };
        assert_eq!(round_at(&mut house, Duration::ZERO, NOW), (doubted, left), "{case}");
        assert_eq!(round_at(&mut house, AN_HOUR - A_MINUTE, NOW.plus(AN_HOUR - A_MINUTE)), (doubted, left), "{case}");
        assert_eq!(round_at(&mut house, A_MINUTE, NOW.plus(AN_HOUR)), (false, 0), "{case}");
    }
}

#[test]
fn a_session_that_was_used_after_it_was_found_idle_stays() {
    let house = House::new();
    house.sessions(1, OVER - 1, i64::MAX, "NULL");
    let over = Timestamp::from_micros(OVER);
    let (found, _) = house.store.read_blocking(|conn| sessions::idle_among(conn, None, STEP, over)).unwrap();
    assert_eq!(found.len(), 1);
    house.run(&format!("UPDATE sessions SET idle_expires_at = {OVER}"));
    let removed = house.store.write_blocking(move |conn| sessions::purge_idle(conn, &found, over)).unwrap();
    assert_eq!(removed, 0);
}

/// The search for idle sessions goes on where it stopped and begins anew at the end.
#[test]
fn the_search_for_idle_sessions_goes_on_where_it_stopped() {
    let mut house = House::new();
    let one_round = u32::try_from(STEP).unwrap() * STEPS;
    house.sessions(one_round + 1, OVER, i64::MAX, "NULL");
    assert_eq!(house.round(), 0);
    let stopped = house.janitor.walked.expect("one step more to go");
    let expire = |order: &str| {
        let chosen = format!("(SELECT id FROM sessions ORDER BY id {order} LIMIT 1)");
        house.run(&format!("UPDATE sessions SET idle_expires_at = {OVER} - 1 WHERE id = {chosen}"));
    };
    expire("DESC");
    expire("ASC");
    assert_eq!(house.round(), 1, "the last, beyond {stopped}");
    assert_eq!(house.janitor.walked, None);
    assert_eq!(house.round(), 1, "the first");
}

#[test]
fn a_janitor_who_is_stopped_goes_at_the_next_rest() {
    let mut house = House::new();
    house.sessions(2_000, i64::MAX, 0, "NULL");
    house.janitor.stop.set();
    assert!(matches!(house.janitor.remove(house.janitor.clock.now()), Err(Cut::Stopped)));
    let left = house.count("sessions");
    assert_eq!(left, 2_000 - BATCH.0, "one batch, and no more");
}

#[test]
fn a_database_that_does_not_answer_ends_the_round_and_not_the_janitor() {
    let mut house = House::new();
    house.run("ALTER TABLE sessions RENAME TO elsewhere");
    assert!(matches!(house.janitor.remove(house.janitor.clock.now()), Err(Cut::Failed(_))));
    house.run("ALTER TABLE elsewhere RENAME TO sessions");
    house.sessions(1, i64::MAX, 0, "NULL");
    assert_eq!(house.round(), 1);
}

/// What an embedded database is made of.
mod embedded {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    /// Otherwise a commit of another's would find the log long enough, and have to wait until it is checkpointed.
    #[test]
    fn what_its_deletes_leave_in_the_log_is_in_the_file_before_the_next() {
        let mut house = House::new();
        house.sessions(200, i64::MAX, 0, "NULL");
        house.store.checkpoint_blocking().unwrap();
        assert_eq!(house.round(), 200);
        // The file alone, without the log beside it.
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(house.database.file(), copy.path().join("test.db")).unwrap();
        assert_eq!(House::over(TestDatabase::in_folder(copy)).count("sessions"), 0);
    }

    /// In memory, if there is room: thousands of commits that wait for a disk would take minutes, and have nothing to do
    /// with what is tested.
    fn spacious_folder() -> TempDir {
        let memory = std::path::Path::new("/dev/shm");
        let room = rustix::fs::statvfs(memory).map(|it| it.f_bavail.saturating_mul(it.f_frsize));
        match tempfile::tempdir_in(memory) {
            Ok(folder) if room.is_ok_and(|bytes| bytes > 512 << 20) => folder,
            _ => tempfile::tempdir().unwrap(),
        }
    }

    /// While very many rows go, other writes are answered all along: between any two batches there is room.
    #[test]
    fn very_many_rows_go_in_batches_between_which_others_write() {
        let mut house = House::over(TestDatabase::in_folder(spacious_folder()));
        const ROWS: usize = 100_000;
        house.sessions(40_000, i64::MAX, 0, "NULL");
        house.sessions(10_000, 0, i64::MAX, "NULL");
        house.sessions(100, i64::MAX, i64::MAX, "NULL");
        house.events(20_000, i64::MIN);
        house.run(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
             INSERT INTO attempts (key, count, window_ends_at) SELECT randomblob(16), 1, 0 FROM n",
        );
        house.run("CREATE TABLE seen (changes INTEGER NOT NULL)");
        let (store, done) = (house.store.clone(), Arc::new(AtomicBool::new(false)));
        let over = Arc::clone(&done);
        // Each of these writes notes how many rows have changed so far: what two neighbours differ by went between them.
        let other = thread::spawn(move || {
            let note = "INSERT INTO seen SELECT total_changes()";
            while !over.load(Ordering::SeqCst) {
                store.write_blocking(move |conn| sql_query(note).execute(conn)).unwrap();
            }
        });
        let mut removed = 0;
        while removed < ROWS {
            let some = house.round();
            assert!(some > 0, "{removed} of {ROWS} went, and then no more");
            removed += some;
        }
        done.store(true, Ordering::SeqCst);
        other.join().unwrap();
        assert_eq!(removed, ROWS);
        assert_eq!(["sessions", "attempts", "events"].map(|table| house.count(table)), [100, 0, 0]);
        // One batch and their own note, or, where the system let them sleep through the janitor's rest, two.
        let steps = "(SELECT changes - lag(changes) OVER (ORDER BY changes) AS step FROM seen)";
        let (wide, all) = (house.count(&format!("{steps} WHERE step > 513")), house.count(steps));
        assert!(wide * 50 <= all, "{wide} of {all} had to wait for more than a batch");
        assert!(all > i64::try_from(ROWS).unwrap() / BATCH.1, "others wrote all along: {all} times");
    }
}
