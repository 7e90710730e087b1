//! A database that cannot be asked: 503 and nothing else, whatever was asked, and recovery by itself.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use support::harness::{Answer, Home, PASSWORD, Pair, TestApp, connect, in_database};

const ADA: &str = "ada@example.com";

#[track_caller]
fn assert_unavailable(answer: Answer) {
    let answer = answer.expect_error(503, "unavailable");
    let seconds: u64 = answer.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!(seconds >= 1);
    assert_eq!(answer.header("www-authenticate"), None);
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

fn send(app: &TestApp, method: Method, path: &str, pair: &Pair, body: &Value) -> Answer {
    Answer::to(app.request(method, path).bearer_auth(&pair.access).json(body))
}

/// Everything that asks the database with a valid credential.
fn reads(app: &TestApp, pair: &Pair) -> Vec<Answer> {
    vec![
        app.get_as("/v1/users/me", &pair.access),
        app.get_as("/v1/sessions", &pair.access),
        app.get_as("/v1/users/me/events", &pair.access),
        app.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })),
        app.post("/v1/auth/login", &json!({ "email": "nobody@example.com", "password": PASSWORD })),
        send(app, Method::PATCH, "/v1/users/me", pair, &json!({ "name": "Ada" })),
    ]
}

fn writes(app: &TestApp, pair: &Pair) -> Vec<Answer> {
    let change = json!({ "current_password": PASSWORD, "new_password": "another good one" });
    let own = format!("/v1/sessions/{}", pair.session_id);
    std::thread::scope(|scope| {
        let requests: [Box<dyn FnOnce() -> Answer + Send>; 11] = [
            Box::new(|| app.post("/v1/auth/register", &json!({ "email": "eve@example.com", "password": PASSWORD }))),
            Box::new(|| app.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD }))),
            Box::new(|| app.refresh(&pair.refresh)),
            Box::new(|| app.confirm(&pair.access)),
            Box::new(|| app.post("/v1/auth/logout", &json!({ "refresh_token": pair.refresh }))),
            Box::new(|| send(app, Method::PATCH, "/v1/users/me", pair, &json!({ "name": "Ada" }))),
            Box::new(|| send(app, Method::DELETE, "/v1/sessions?scope=others", pair, &json!({}))),
            Box::new(|| send(app, Method::DELETE, "/v1/sessions?scope=all", pair, &json!({}))),
            Box::new(|| send(app, Method::DELETE, &own, pair, &json!({}))),
            Box::new(|| send(app, Method::POST, "/v1/users/me/password", pair, &change)),
            Box::new(|| send(app, Method::DELETE, "/v1/users/me", pair, &json!({ "password": PASSWORD }))),
        ];
        let threads: Vec<_> = requests.into_iter().map(|request| scope.spawn(request)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn while_nobody_can_write_writes_are_503_and_reads_go_on() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up(ADA);
    let mut connection = connect(&home);
    connection.hold_writers_up();
    for answer in writes(&app, &pair) {
        assert_unavailable(answer);
    }
    assert!(app.works(&pair.access));
    // Only what cannot be told from a database that is down is a 503: these are wrong whatever it says.
    app.refresh("junk").expect_refused("malformed");
    app.get_as("/v1/users/me", "junk").expect_error(401, "invalid_token");
    connection.let_writers_go();
    drop(connection);
    // What was refused has not been done, and is not done later: the account, its password and its session live.
    std::thread::sleep(Duration::from_millis(500));
    assert!(app.works(&pair.access));
    app.refresh(&pair.refresh).expect(200);
    let again = app.log_in(ADA);
    assert!(app.works(&again.access));
}

#[test]
fn without_a_readable_database_every_answer_is_503_until_it_is_back() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up(ADA);
    let hide = "ALTER TABLE sessions RENAME TO lost_sessions; ALTER TABLE users RENAME TO lost_users";
    let bring_back = "ALTER TABLE lost_sessions RENAME TO sessions; ALTER TABLE lost_users RENAME TO users";
    in_database(&home, hide);
    // Longer than what is in memory is believed.
    std::thread::sleep(Duration::from_millis(1_600));
    for answer in reads(&app, &pair).into_iter().chain(writes(&app, &pair)) {
        assert_unavailable(answer);
    }
    // What needs no database is as it was.
    app.get_as("/v1/users/me", "junk").expect_error(401, "invalid_token");
    Answer::to(app.get("/v1/users/me")).expect_error(401, "missing_token");
    app.refresh("junk").expect_refused("malformed");
    Answer::to(app.get("/health/live")).expect(200);
    Answer::to(app.get("/.well-known/jwks.json")).expect(200);
    in_database(&home, bring_back);
    let since = Instant::now();
    while app.get_as("/v1/users/me", &pair.access).status != 200 {
        assert!(since.elapsed() < Duration::from_secs(60), "the server recovers by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    // No token was harmed.
    app.refresh(&pair.refresh).expect(200);
}

/// What an embedded database is made of.
mod embedded {
    use std::io::Write as _;

    use diesel::sql_types::BigInt;
    use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};

    use super::*;

    /// Moves everything into the database file. A reader in the middle of a query is in the way, but not for long.
    fn empty_the_log(home: &Home) {
        #[derive(QueryableByName)]
        struct Outcome {
            #[diesel(sql_type = BigInt)]
            busy: i64,
        }
        let mut connection = SqliteConnection::establish(home.database().file().to_str().unwrap()).unwrap();
        let since = Instant::now();
        while sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result::<Outcome>(&mut connection).unwrap().busy != 0 {
            assert!(since.elapsed() < Duration::from_secs(60), "somebody reads for ever");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What a log begins with (sqlite.org/walformat.html), with numbers that no log before had: an index that is made of it
    /// is like none that there was, not even the one of an empty log.
    fn head_of_another_log() -> Vec<u8> {
        let words: [u32; 6] = [0x377f_0683, 3_007_000, 4096, 1, 0x0bad_cafe, 0x0bad_f00d];
        let (mut one, mut other) = (0_u32, 0_u32);
        for pair in words.chunks(2) {
            one = one.wrapping_add(pair[0]).wrapping_add(other);
            other = other.wrapping_add(pair[1]).wrapping_add(one);
        }
        words.into_iter().chain([one, other]).flat_map(u32::to_be_bytes).collect()
    }

    #[test]
    fn a_database_of_garbage_is_an_outage_and_no_ones_fault() {
        let home = Home::new();
        let app = TestApp::start(&home);
        let pair = app.sign_up(ADA);
        empty_the_log(&home);
        // The index of the log comes last, and is made anew of the log by the next reader: one that has pages of the
        // database in memory believes them for as long as the index is the one of then. The server has mapped it, so it
        // keeps its length.
        let spoil = |file: &str, garbage: &dyn Fn(u64) -> Vec<u8>| {
            let path = home.database().file().with_file_name(file);
            let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            let length = file.metadata().unwrap().len();
            file.write_all(&garbage(length)).unwrap();
        };
        let garbage = |length: u64| vec![0x5a; usize::try_from(length).unwrap()];
        spoil("countersign.db", &|length| garbage(length.max(65_536)));
        spoil("countersign.db-wal", &|_| [head_of_another_log(), garbage(65_536)].concat());
        spoil("countersign.db-shm", &garbage);
        std::thread::sleep(Duration::from_millis(1_600));
        for answer in reads(&app, &pair).into_iter().chain([app.refresh(&pair.refresh), app.confirm(&pair.access)]) {
            assert_unavailable(answer);
        }
        assert_unavailable(Answer::to(app.get("/health/ready")));
        Answer::to(app.get("/health/live")).expect(200);
    }
}
