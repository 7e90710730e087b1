//! Refreshes over a real database: those that arrive together, each with a verdict of its own, and one that is carried out again.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use futures_util::FutureExt as _;
use futures_util::future::{join, join_all, maybe_done};
use tokio::time::{sleep, timeout};

use super::*;
use crate::clock::Clock;
use crate::ids::{SessionId, UserId};
use crate::revocation::Revocations;
use crate::secret::Secret;
use crate::sessions::{Lifetimes, Settings, Transport};
use crate::store::sessions::{NewSession, Scope};
use crate::store::testing::{Gate, TestDatabase};
use crate::store::users::Bestowed;
use crate::store::{Store, StoreError};
use crate::tokens::access::AccessTokens;
use crate::tokens::keys::{Key, KeyRing};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

const AN_HOUR: Duration = Duration::from_secs(3_600);

/// Far longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// The service stands behind its database, so that it goes first.
struct World {
    sessions: Sessions,
    database: TestDatabase,
}

/// A session's id and current token.
type Held = (SessionId, String);

impl World {
    fn new() -> Self {
        let database = TestDatabase::new();
        let (store, clock) = (database.store(), Clock::manual(NOW));
        let secret = Secret::new([7; 32]);
        let issuer = "http://issuer.test".to_owned();
        let ring = KeyRing::new(Key::from_secret(&secret).unwrap(), Vec::new());
        let access = AccessTokens::new(ring, issuer.clone(), &[], Vec::new(), "countersign".into(), AN_HOUR);
        let refresh = RefreshTokens::new(&Secret::new([9; 32]), &[], issuer, Vec::new()).unwrap();
        let policy = Policy {
            overlap: Duration::from_secs(30),
            recovery: AN_HOUR,
            max_recoveries: 3,
            adopt_ahead: true,
            max_repeat_streak: 0,
        };
        let lifetimes = Lifetimes { idle: AN_HOUR, short: AN_HOUR / 4, absolute: 24 * AN_HOUR };
        let sessions = Sessions::new(
            store.clone(),
            clock.clone(),
            Revocations::start(store, clock).unwrap().0,
            Arc::new(access),
            Arc::new(refresh),
            Settings { lifetimes, policy, most: 0, limited: false },
        );
        Self { sessions, database }
    }

    fn store(&self) -> &Store {
        &self.sessions.0.store
    }

    /// Opens so many sessions.
    fn open(&self, count: usize) -> Vec<Held> {
        self.open_as(count, true, AN_HOUR)
    }

    /// The same, to be remembered or not, with a first token that lives so long.
    fn open_as(&self, count: usize, remember: bool, life: Duration) -> Vec<Held> {
        let mut connection = self.database.connect();
        let refresh = &self.sessions.0.refresh;
        (0..count)
            .map(|_| {
                let (id, user_id) = (SessionId::generate(), UserId::generate());
                let (idle_expires_at, expires_at) = (NOW.plus(life), NOW.plus(24 * AN_HOUR));
                let issued = refresh.first(user_id, id, expires_at, NOW, idle_expires_at).unwrap();
                let new = NewSession {
                    id,
                    user_id,
                    token_hash: issued.digest,
                    key_id: refresh.active_kid().to_owned(),
                    now: NOW,
                    access_expires_at: NOW.plus(AN_HOUR),
                    idle_expires_at,
                    expires_at,
                    transport: Transport::Body,
                    device_name: None,
                    device: Device::default(),
                    remember,
                    mfa: false,
                };
                sessions::insert(&mut connection, &new, &Bestowed::default()).unwrap();
                (id, issued.token.expose().to_owned())
            })
            .collect()
    }

    async fn refresh(&self, held: &Held) -> Result<TokenPair, RefreshError> {
        self.sessions.refresh(&held.1, Device::default()).await
    }

    /// What comes of `others`, which find a commit under way that holds `first` and ends when all of them wait.
    async fn behind<T>(&self, first: &Held, others: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
        let mut holder = self.database.connect();
        let id = sql(&holder, first.0);
        if matches!(holder, AnyConnection::Sqlite(_)) {
            // There is one lane, so that any write will do.
            let write = format!("UPDATE sessions SET device_name = 'first' WHERE id = {id}");
            let gate = Gate::shut(&self.database, self.store(), move |connection| connection.batch_execute(&write));
            return once_all_wait(others, || drop(gate)).await;
        }
        // A batch does not wait long for a locked row, nor for a lock. So its statement takes its time.
        let number = i64::from_be_bytes(first.0.as_bytes()[8..].try_into().unwrap());
        let hold = format!(
            "SELECT pg_advisory_lock({number});
             CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               WHILE NOT pg_try_advisory_xact_lock({number}) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NEW; END $$;
             CREATE TRIGGER hold BEFORE UPDATE ON sessions FOR EACH ROW WHEN (NEW.id = {id}) EXECUTE FUNCTION hold()"
        );
        holder.batch_execute(&hold).unwrap();
        let others = async {
            let under_way = "SELECT count(*) AS count FROM pg_locks
                             WHERE relation = 'sessions'::regclass AND mode = 'RowExclusiveLock' AND granted";
            while number_of(&mut holder, under_way) == 0 {
                sleep(Duration::from_millis(5)).await;
            }
            let let_go = format!("SELECT pg_advisory_unlock({number})");
            once_all_wait(others, || holder.batch_execute(&let_go).unwrap()).await
        };
        let (held_up, others) = timeout(PATIENCE, join(self.refresh(first), others)).await.unwrap();
        held_up.unwrap();
        others
    }

    fn generation(&self, held: &Held) -> u32 {
        sessions::find(&mut self.database.connect(), held.0).unwrap().unwrap().chain.position.generation
    }
}

/// An id as SQL.
fn sql(connection: &AnyConnection, id: SessionId) -> String {
    let hex: String = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    match connection {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(_) => format!("x'{hex}'"),
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(_) => format!("'\\x{hex}'::bytea"),
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Does `then` when each of them has been polled once, which is when a refresh is queued.
async fn once_all_wait<T>(all: impl IntoIterator<Item = impl Future<Output = T>>, then: impl FnOnce()) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(|one| Box::pin(maybe_done(one))).collect();
    poll_fn(|context| {
        for one in &mut all {
            let _ = one.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
    then();
    join_all(all.iter_mut()).await;
    all.iter_mut().map(|one| one.as_mut().take_output().unwrap()).collect()
}

/// What a query counts.
fn number_of(connection: &mut AnyConnection, query: &str) -> usize {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    usize::try_from(diesel::sql_query(query).get_result::<Count>(connection).unwrap().count).unwrap()
}

fn is_rotated(outcome: &Result<TokenPair, RefreshError>) -> bool {
    matches!(outcome, Ok(pair) if pair.granted == Some(Kind::Rotated))
}

/// How many commits there have been: on PostgreSQL those whose rows are there, on SQLite those in the log.
fn commits(database: &TestDatabase) -> usize {
    match database.connect() {
        #[cfg(feature = "postgres")]
        mut connection @ AnyConnection::Postgresql(_) => {
            number_of(&mut connection, "SELECT count(DISTINCT xmin::text) AS count FROM sessions")
        }
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(_) => {
            let log = std::fs::read(database.file().with_extension("db-wal")).unwrap();
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
            let page = usize::try_from(number(&log[8..12])).unwrap();
            // Frames of an earlier round of the log differ in their salt. Only the last frame of a commit has a size.
            let frames = log[32..].chunks_exact(24 + page).take_while(|frame| frame[8..16] == log[16..24]);
            frames.filter(|frame| number(&frame[4..8]) != 0).count()
        }
    }
}

/// Refreshes that arrive while a commit is under way are committed together.
#[test]
fn refreshes_that_arrive_during_a_commit_are_committed_together() {
    let world = World::new();
    let (first, others) = (world.open(1).remove(0), world.open(100));
    // None but those that are counted: on PostgreSQL, rows of before are no more.
    let before = if world.database.writers() == 1 { commits(&world.database) } else { 0 };
    let outcomes = run(world.behind(&first, others.iter().map(|held| world.refresh(held))));
    assert!(outcomes.iter().all(is_rotated), "{outcomes:?}");
    // The one that was under way, then 64, which is as many as are committed together, then the rest.
    assert_eq!(commits(&world.database) - before, 3);
    assert!(others.iter().all(|held| world.generation(held) == 1));
}

#[test]
fn of_a_batch_each_has_its_own_verdict() {
    let world = World::new();
    let (first, held) = (world.open(1).remove(0), world.open(8));
    let (twice, ended) = (&held[2], &held[5]);
    let mut connection = world.database.connect();
    let end =
        format!("UPDATE sessions SET revoked_at = 1, revoked_reason = 'test' WHERE id = {}", sql(&connection, ended.0));
    connection.batch_execute(&end).unwrap();
    let all = held.iter().chain([twice, twice]).map(|held| world.refresh(held));
    let mut outcomes = run(world.behind(&first, all));
    let repeats: Vec<TokenPair> = outcomes.drain(8..).map(Result::unwrap).collect();
    for (held, outcome) in held.iter().zip(&outcomes) {
        if held.0 == ended.0 {
            assert!(matches!(outcome, Err(RefreshError::Refused(RefusedBecause::Revoked))), "{outcome:?}");
        } else {
            assert!(is_rotated(outcome), "{outcome:?}");
            assert_eq!(outcome.as_ref().unwrap().session_id, held.0, "each gets its own");
        }
    }
    let rotated = outcomes[2].as_ref().unwrap();
    for repeat in &repeats {
        assert_eq!(repeat.granted, Some(Kind::Repeated));
        assert_eq!(repeat.refresh_token.expose(), rotated.refresh_token.expose());
        assert_eq!(repeat.session_id, twice.0);
    }
    assert_eq!(world.generation(twice), 1, "one rotation");
    assert_eq!(world.generation(ended), 0);
}

#[test]
fn a_row_that_cannot_be_written_fails_its_own_refresh_and_no_other() {
    let world = World::new();
    let (first, held) = (world.open(1).remove(0), world.open(10));
    let mut connection = world.database.connect();
    let bad = &held[4];
    let id = sql(&connection, bad.0);
    let trigger = match &connection {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(_) => format!(
            "CREATE TRIGGER refuse BEFORE UPDATE ON sessions WHEN NEW.id = {id}
             BEGIN SELECT RAISE(ABORT, 'on purpose'); END"
        ),
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(_) => format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'on purpose'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON sessions FOR EACH ROW WHEN (NEW.id = {id}) EXECUTE FUNCTION refuse()"
        ),
    };
    connection.batch_execute(&trigger).unwrap();
    let outcomes = run(world.behind(&first, held.iter().map(|held| world.refresh(held))));
    for (held, outcome) in held.iter().zip(&outcomes) {
        let is_bad = held.0 == bad.0;
        assert_eq!(matches!(outcome, Err(RefreshError::Store(_))), is_bad, "{outcome:?}");
        assert_eq!(is_rotated(outcome), !is_bad, "{outcome:?}");
        assert_eq!(world.generation(held), u32::from(!is_bad));
    }
    connection
        .batch_execute(if world.database.writers() == 1 {
            "DROP TRIGGER refuse"
        } else {
            "DROP TRIGGER refuse ON sessions"
        })
        .unwrap();
    assert!(is_rotated(&run(world.refresh(bad))), "nothing was lost");
}

#[test]
fn whoever_has_hung_up_is_left_out() {
    let world = World::new();
    let (first, held) = (world.open(1).remove(0), world.open(6));
    // They wait, like all the others, and then they do not.
    let all = held.iter().enumerate().map(|(number, held)| {
        let refresh = world.refresh(held);
        async move { if number % 3 == 1 { refresh.now_or_never() } else { Some(refresh.await) } }
    });
    let outcomes = run(world.behind(&first, all));
    for (number, (held, outcome)) in held.iter().zip(outcomes).enumerate() {
        let stayed = number % 3 != 1;
        assert_eq!(outcome.is_some_and(|outcome| is_rotated(&outcome)), stayed, "{number}");
        assert_eq!(world.generation(held), u32::from(stayed), "{number}");
    }
}

#[test]
fn a_verdict_for_which_there_is_no_room_is_an_outage_and_no_harm_is_done() {
    let world = World::new();
    let held = world.open(1).remove(0);
    run(async {
        let rotated = world.refresh(&held).await.unwrap();
        let gate = Gate::shut(&world.database, world.store(), |_| Ok(()));
        for _ in 0..1024 {
            // A client that has hung up keeps its place until a writer comes to it.
            assert!(world.store().write(|_| Ok(())).now_or_never().is_none(), "there is room for so many");
        }
        let late = timeout(PATIENCE, world.refresh(&held)).await;
        assert!(matches!(late, Ok(Err(RefreshError::Store(StoreError::Busy)))), "{late:?}");
        drop(gate);
        let room = async {
            while let Err(StoreError::Busy) = world.store().write(|_| Ok(())).await {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, room).await.unwrap();
        let repeat = world.refresh(&held).await.unwrap();
        assert_eq!(repeat.refresh_token.expose(), rotated.refresh_token.expose());
    });
}

/// A commit whose end is unknown is tried again. What it was granted then must not be judged as if another client had
/// been: here, as one recovery more than there may be.
#[test]
fn a_recovery_that_is_carried_out_again_is_granted_what_it_was_granted() {
    let world = World::new();
    let held = world.open(1).remove(0);
    let (inner, mut connection) = (&world.sessions.0, world.database.connect());
    run(world.refresh(&held)).unwrap();
    let request = || {
        inner.clock.advance(Duration::from_secs(60));
        let now = inner.clock.now();
        let presented = inner.refresh.verify(&held.1, now).unwrap();
        world.sessions.request(presented, Device::default(), now).unwrap()
    };
    for branch in 1..=inner.settings.policy.max_recoveries {
        let request = request();
        let mut carry_out = || match request.decide(&mut connection).unwrap() {
            Outcome::Granted(grant) => (grant.kind, grant.position, grant.issued.digest, grant.access_expires_at),
            _ => panic!("it was refused"),
        };
        let once = carry_out();
        assert_eq!((once.0, once.1.branch), (Kind::Recovered, branch));
        assert_eq!(carry_out(), once);
    }
    let spent = request();
    // It waits for its turn so long that a poll by its own time would not find what it ends.
    inner.clock.advance(Duration::from_secs(120));
    let spent = spent.decide(&mut connection).unwrap();
    assert!(matches!(spent, Outcome::Reused(..)), "another refresh is one too many");
    let row = sessions::find(&mut connection, held.0).unwrap().unwrap();
    assert_eq!(row.expiry.revoked_at, Some(inner.clock.now()), "the end is of the moment at which it is written");
}

/// The row decides, and the token is only a hint, which a changed configuration or a lost answer makes wrong.
#[test]
fn a_session_keeps_the_idle_time_it_was_opened_with() {
    let short = AN_HOUR / 4;
    let cases = [(true, AN_HOUR), (false, short), (true, short / 2), (false, AN_HOUR), (false, short / 2)];
    for (remember, life) in cases {
        let world = World::new();
        let (first, held) = (world.open(1).remove(0), world.open_as(3, remember, life));
        let due = if remember { AN_HOUR } else { short }.as_secs();
        // By itself, and in a batch with others, one of which comes twice.
        let alone = run(world.refresh(&held[0])).unwrap();
        let all = [&held[1], &held[2], &held[2]].map(|held| world.refresh(held));
        let mut pairs: Vec<TokenPair> = run(world.behind(&first, all)).into_iter().map(Result::unwrap).collect();
        assert_eq!(pairs[1].refresh_token.expose(), pairs[2].refresh_token.expose());
        pairs.push(alone);
        for pair in &pairs {
            assert_eq!((pair.remember, pair.refresh_expires_in), (remember, due), "of {life:?}");
        }
        // The answer was lost: another one moves no end.
        world.sessions.0.clock.advance(Duration::from_secs(60));
        let recovered = run(world.refresh(&held[0])).unwrap();
        assert_eq!((recovered.remember, recovered.refresh_expires_in), (remember, due - 60));
        let next = run(world.sessions.refresh(recovered.refresh_token.expose(), Device::default())).unwrap();
        assert_eq!((next.remember, next.refresh_expires_in), (remember, due));
    }
}

/// What is dated before others looked is never found by them.
#[test]
fn the_end_of_a_session_is_of_the_moment_at_which_it_is_written() {
    let world = World::new();
    let held = world.open(1).remove(0);
    let user = sessions::find(&mut world.database.connect(), held.0).unwrap().unwrap().user_id;
    let clock = world.sessions.0.clock.clone();
    for scope in [Scope::Only(SessionId::generate()), Scope::All] {
        let gate = Gate::shut(&world.database, world.store(), |_| Ok(()));
        let end = world.sessions.revoke(user, scope, "test", None);
        let ended = run(once_all_wait([end], || {
            clock.advance(Duration::from_secs(120));
            drop(gate);
        }));
        assert_eq!(*ended[0].as_ref().unwrap(), usize::from(matches!(scope, Scope::All)));
    }
    let row = sessions::find(&mut world.database.connect(), held.0).unwrap().unwrap();
    assert_eq!(row.expiry.revoked_at, Some(clock.now()));
}
