//! The queues of writes, with a real database.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_query;
use futures_util::FutureExt as _;
use futures_util::future::{join, join_all, join4};
use tokio::time::timeout;

use crate::store::testing::{Gate, TestDatabase};
use crate::store::{AnyConnection, QueryResult, Store, StoreError, Write, internal_error};

/// The store stands behind its database, so that it goes first.
fn store() -> (TestDatabase, Store) {
    let database = TestDatabase::new();
    let store = database.store();
    (database, store)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

fn insert(conn: &mut AnyConnection, key: i64) -> QueryResult<()> {
    sql_query(format!("INSERT INTO numbers VALUES ({key})")).execute(conn).map(|_| ())
}

fn count(store: &Store) -> i64 {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    let query = || sql_query("SELECT count(*) AS count FROM numbers");
    match store.read_blocking(|conn| query().get_result::<Count>(conn)) {
        Ok(row) => row.count,
        Err(error) => panic!("{error:?}"),
    }
}

/// Keeps every writer busy, so that all other writes wait.
fn hold(store: &Store, database: &TestDatabase) -> Gate {
    Gate::shut(database, store, |_| Ok(()))
}

async fn make_table(store: &Store) {
    let made = store.write(|conn| sql_query("CREATE TABLE numbers (key INTEGER PRIMARY KEY)").execute(conn));
    made.await.unwrap();
}

#[test]
fn a_write_that_fails_or_panics_in_a_batch_undoes_only_itself() {
    let (database, store) = store();
    run(async {
        make_table(&store).await;
        let hold = hold(&store, &database);
        let writes = (0..30_i64).map(|key| {
            store.write(move |conn| {
                insert(conn, key)?;
                match key % 10 {
                    3 => Err(internal_error(No)),
                    7 => panic!("on purpose"),
                    8 => insert(conn, key),
                    _ => Ok(()),
                }
            })
        });
        // Let go when all the others wait, so that they become one batch.
        let (outcomes, ()) = join(join_all(writes), async { drop(hold) }).await;
        for (key, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.is_err(), matches!(key % 10, 3 | 7 | 8), "{key}: {outcome:?}");
        }
        assert_eq!(count(&store), 21);
    });
}

#[test]
fn writes_that_wait_for_a_locked_database_fail_together_and_in_time() {
    let (database, store) = store();
    run(async {
        make_table(&store).await;
        let mut other = database.hold_writers_up("numbers");
        let began = Instant::now();
        let outcomes = join_all((0..30).map(|key| store.write(move |conn| insert(conn, key)))).await;
        let is_outage = |outcome: &_| matches!(outcome, Err(StoreError::Unavailable(_) | StoreError::Busy));
        assert!(outcomes.iter().all(is_outage), "{outcomes:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "each waited for itself: {:?}", began.elapsed());
        sql_query("ROLLBACK").execute(&mut other).unwrap();
        store.write(|conn| insert(conn, 1000)).await.unwrap();
        // What was refused does not come true later.
        assert_eq!(count(&store), 1);
    });
}

#[test]
fn a_write_that_has_begun_and_is_not_done_in_time_is_undone() {
    let (database, store) = store();
    run(async {
        make_table(&store).await;
        let (go, wait) = mpsc::channel::<()>();
        let outcome = store.write(move |conn| {
            insert(conn, 1)?;
            let _ = wait.recv();
            Ok(())
        });
        assert!(matches!(outcome.await, Err(StoreError::Unavailable(_))));
        drop(go);
        // The writer that does that write does nothing else meanwhile.
        drop(hold(&store, &database));
        assert_eq!(count(&store), 0);
    });
}

/// Among those that are committed together, too, and there it is the only one.
#[test]
fn a_write_that_is_given_up_while_its_batch_is_under_way_is_undone_alone() {
    let (database, store) = store();
    run(async {
        make_table(&store).await;
        let (go, wait) = mpsc::channel::<()>();
        let gate = hold(&store, &database);
        let early = store.write(|conn| insert(conn, 1));
        let slow = store.write(move |conn| {
            insert(conn, 2)?;
            let _ = wait.recv();
            Ok(())
        });
        let late = store.write(|conn| insert(conn, 3));
        let slow = async {
            let outcome = slow.await;
            drop(go);
            outcome
        };
        let (early, slow, late, ()) = join4(early, slow, late, async { drop(gate) }).await;
        drop(hold(&store, &database));
        early.unwrap();
        assert!(matches!(slow, Err(StoreError::Unavailable(_))), "{slow:?}");
        // Where all share one writer, it has waited for too long.
        assert_eq!(late.is_ok(), database.writers() > 1, "{late:?}");
        assert_eq!(count(&store), 1 + i64::from(late.is_ok()));
    });
}

/// As the end of a session whose token was stolen must.
#[test]
fn a_write_that_must_be_committed_is_although_it_was_late() {
    for stands in [true, false] {
        let (database, store) = store();
        run(async {
            make_table(&store).await;
            let ((go, wait), (told, heard)) = (mpsc::channel::<()>(), mpsc::channel());
            let attempt = move |conn: &mut AnyConnection| {
                insert(conn, 1)?;
                let _ = wait.recv();
                Ok(stands)
            };
            let write = Write::new(attempt).must_commit_if(|stands| *stands).and_then(move |_| told.send(()).unwrap());
            let outcome = store.submit(write).await;
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))));
            drop(go);
            drop(hold(&store, &database));
            assert_eq!((count(&store), heard.try_iter().count()), if stands { (1, 1) } else { (0, 0) });
        });
    }
}

/// A queue that is too long would be worked off in vain, each write a little too late.
#[test]
fn a_write_that_has_waited_too_long_is_not_begun() {
    let (database, store) = store();
    run(async {
        make_table(&store).await;
        let gate = hold(&store, &database);
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&begun);
        let late = store.write(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        // Longer than it may wait, and not as long as its caller waits for it.
        let let_go = async {
            tokio::time::sleep(store.timeouts.answer - store.timeouts.lock_timeout + Duration::from_millis(500)).await;
            drop(gate);
        };
        let (late, ()) = join(late, let_go).await;
        assert!(matches!(late, Err(StoreError::Busy)), "{late:?}");
        assert_eq!(begun.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_write_nobody_waits_for_any_more_is_not_begun() {
    let (database, store) = store();
    run(async {
        make_table(&store).await;
        let hold = hold(&store, &database);
        assert!(store.write(|conn| insert(conn, 1)).now_or_never().is_none(), "it waits");
        drop(hold);
        store.write(|conn| insert(conn, 2)).await.unwrap();
        assert_eq!(count(&store), 1);
    });
}

/// What follows a commit follows it once even if its caller does not wait and never a rollback.
#[test]
fn what_follows_a_commit_follows_it_once_and_never_a_rollback() {
    let (database, store) = store();
    run(async {
        make_table(&store).await;
        let (told, heard) = mpsc::channel();
        let (begun, has_begun) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let (gate, mut wait) = (hold(&store, &database), Some(wait));
        // One batch: a write that stands, one that fails, and one that its caller leaves when it has begun.
        let writes = (0..3_i64).map(|key| {
            let (told, begun, wait) = (told.clone(), begun.clone(), wait.take_if(|_| key == 2));
            let attempt = move |conn: &mut AnyConnection| {
                insert(conn, key)?;
                if let Some(wait) = &wait {
                    let _ = begun.send(());
                    let _ = wait.recv();
                }
                if key == 1 { Err(internal_error(No)) } else { Ok(key) }
            };
            store.write_and_then(attempt, move |key| told.send(*key).unwrap())
        });
        let mut writes = Box::pin(join_all(writes));
        assert!(timeout(Duration::ZERO, writes.as_mut()).await.is_err(), "nobody is answered yet");
        drop(gate);
        has_begun.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(writes);
        drop(go);
        // The writer that does that last write does nothing else meanwhile.
        drop(hold(&store, &database));
        let mut followed: Vec<_> = heard.try_iter().collect();
        // Where two write, one may be faster than the other.
        followed.sort_unstable();
        assert_eq!(followed, [0, 2]);
        assert_eq!(count(&store), 2);
    });
}

#[test]
fn a_panic_after_the_commit_costs_neither_the_answer_nor_the_writer() {
    let (_database, store) = store();
    run(async {
        make_table(&store).await;
        store.write_and_then(|conn: &mut AnyConnection| insert(conn, 1), |()| panic!("on purpose")).await.unwrap();
        store.write(|conn| insert(conn, 2)).await.unwrap();
        assert_eq!(count(&store), 2);
    });
}

#[test]
fn one_write_more_than_may_wait_is_refused_at_once() {
    let (database, store) = store();
    let hold = hold(&store, &database);
    let write = |_: &mut AnyConnection| Ok(());
    let waiting: Vec<_> = (0..super::CAPACITY).map(|_| store.queue(Write::new(write), None)).collect();
    for _ in 0..10 {
        let refused = store.write(write).now_or_never();
        assert!(matches!(refused, Some(Err(StoreError::Busy))), "{refused:?}");
    }
    drop(hold);
    waiting.into_iter().for_each(|answer| answer.unwrap().wait().unwrap());
}
