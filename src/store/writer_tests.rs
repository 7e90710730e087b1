//! The writer, with a real database.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_query;
use futures_util::future::join_all;

use super::super::testing::TestDatabase;
use super::super::{AnyConnection, Store, StoreError, fault};

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

/// Keeps everybody who writes busy for a while, so that all other writes wait.
async fn hold(store: &Store, database: &TestDatabase) {
    let busy = (0..database.writers()).map(|_| {
        store.write(|_| {
            std::thread::sleep(Duration::from_millis(200));
            Ok(())
        })
    });
    join_all(busy).await.into_iter().for_each(Result::unwrap);
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
        // Until all the others wait, so that they become one batch.
        let hold = hold(&store, &database);
        let writes = (0..30_i64).map(|key| {
            store.write(move |conn| {
                insert(conn, key)?;
                match key % 10 {
                    3 => Err(fault(No)),
                    7 => panic!("on purpose"),
                    8 => insert(conn, key),
                    _ => Ok(()),
                }
            })
        });
        let (_, outcomes) = futures_util::future::join(hold, join_all(writes)).await;
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
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Unavailable(_)))), "{outcomes:?}");
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
        let outcome = store.write(|conn| {
            insert(conn, 1)?;
            std::thread::sleep(Duration::from_millis(5_500));
            Ok(())
        });
        assert!(matches!(outcome.await, Err(StoreError::Unavailable(_))));
        // Whoever does that write does nothing else meanwhile.
        hold(&store, &database).await;
        assert_eq!(count(&store), 0);
    });
}

#[test]
fn a_write_nobody_waits_for_any_more_is_not_begun() {
    let (database, store) = store();
    run(async {
        make_table(&store).await;
        let hold = hold(&store, &database);
        let abandoned = async {
            let _ = tokio::time::timeout(Duration::from_millis(50), store.write(|conn| insert(conn, 1))).await;
        };
        futures_util::future::join(hold, abandoned).await;
        store.write(|conn| insert(conn, 2)).await.unwrap();
        assert_eq!(count(&store), 1);
    });
}

#[test]
fn what_follows_a_commit_follows_it_once_even_if_nobody_waits_and_never_a_rollback() {
    let (database, store) = store();
    run(async {
        make_table(&store).await;
        let (told, heard) = std::sync::mpsc::channel();
        let hold = hold(&store, &database);
        // One batch: a write that stands, one that fails, and one that whoever asked for it leaves when it has begun.
        let writes = (0..3_i64).map(|key| {
            let told = told.clone();
            let attempt = move |conn: &mut AnyConnection| {
                insert(conn, key)?;
                std::thread::sleep(Duration::from_millis(if key == 2 { 300 } else { 0 }));
                if key == 1 { Err(fault(No)) } else { Ok(key) }
            };
            store.write_and_then(attempt, move |key| told.send(*key).unwrap())
        });
        let writes = async { tokio::time::timeout(Duration::from_millis(350), join_all(writes)).await };
        let (_, left) = futures_util::future::join(hold, writes).await;
        assert!(left.is_err(), "nobody waited to the end");
        // Whoever does that last write does nothing else meanwhile.
        self::hold(&store, &database).await;
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [0, 2]);
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
    run(async {
        let hold = hold(&store, &database);
        let crowd = async {
            // Until all who write are busy.
            tokio::time::sleep(Duration::from_millis(80)).await;
            let timed = |write| async {
                let began = Instant::now();
                let outcome: Result<(), StoreError> = Box::pin(write).await;
                (outcome, began.elapsed())
            };
            join_all((0..super::QUEUE + 10).map(|_| timed(store.write(|_| Ok(()))))).await
        };
        let (_, outcomes) = futures_util::future::join(hold, crowd).await;
        let (done, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|(outcome, _)| outcome.is_ok());
        assert_eq!((done.len(), refused.len()), (super::QUEUE, 10));
        for (outcome, took) in refused {
            assert!(matches!(outcome, Err(StoreError::Busy)), "{outcome:?}");
            assert!(*took < Duration::from_millis(50), "{took:?}");
        }
    });
}
