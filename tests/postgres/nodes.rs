//! Two nodes, which share the database and the keys and nothing else.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::authenticator::Authenticator;
use support::process::{Connection, Home, PASSWORD, Server};

const ADA: &str = "ada@example.com";

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon a revocation is felt by another node.
const SOON: Duration = Duration::from_secs(1);

/// How a session ends, and what ends it.
type Way<'a> = (&'a str, &'a dyn Fn(&Value));

fn two_nodes() -> (Home, Server, Server) {
    let home = Home::new();
    let (one, other) = (home.serve(&[]), home.serve(&[]));
    (home, one, other)
}

pub(super) fn text(body: &Value, member: &str) -> String {
    body[member].as_str().unwrap_or_else(|| panic!("no {member} in {body}")).to_owned()
}

pub(super) fn ask(node: SocketAddr, method: &str, path: &str, access_token: &str, body: &Value) -> (u16, Value) {
    let bearer = format!("Bearer {access_token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let answer = Connection::open(node).unwrap().send(method, path, &headers, &body.to_string()).unwrap();
    (answer.status, answer.body)
}

/// A node that has not learnt for a second who has signed out, as on a busy machine, says so and is asked again.
pub(super) fn works(node: &Server, pair: &Value) -> bool {
    let began = Instant::now();
    loop {
        match ask(node.address, "GET", "/v1/users/me", &text(pair, "access_token"), &Value::Null) {
            (200, _) => return true,
            (401, _) => return false,
            (503, _) if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn refresh(node: SocketAddr, pair: &Value) -> (u16, Value) {
    let answer = Connection::open(node).unwrap().refresh(&text(pair, "refresh_token")).unwrap();
    (answer.status, answer.body)
}

/// Fails if a client that asks later than a second after `began` is not told that this session is over. However slow the
/// machine is, for what a node knows it believes for a second.
#[track_caller]
pub(super) fn is_felt_soon(name: &str, began: Instant, node: &Server, pair: &Value) {
    loop {
        let asked = began.elapsed();
        if !works(node, pair) {
            return;
        }
        assert!(asked <= SOON, "{name}: it was still believed after {asked:?}");
    }
}

#[track_caller]
pub(super) fn rotate(node: &Server, pair: &Value) -> Value {
    let (status, next) = refresh(node.address, pair);
    assert_eq!(status, 200, "{next}");
    assert_ne!(next["refresh_token"], pair["refresh_token"]);
    assert_eq!(next["session_id"], pair["session_id"]);
    next
}

pub(super) fn log_in(node: &Server) -> Value {
    let answer = node.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

pub fn a_session_opened_on_one_node_goes_on_on_any_other() {
    let (home, one, other) = two_nodes();
    let mut pair = one.register(ADA);
    for _ in 0..3 {
        for node in [&other, &one] {
            assert!(works(&one, &pair) && works(&other, &pair));
            pair = rotate(node, &pair);
        }
    }
    let listed = ask(other.address, "GET", "/v1/sessions", &text(&pair, "access_token"), &Value::Null).1;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1, "{listed}");
    // A node that comes later knows it as well.
    other.stop();
    assert!(works(&one, &pair));
    let later = home.serve(&[]);
    rotate(&later, &pair);
}

pub fn what_one_node_ends_is_over_on_all_within_a_second() {
    let (_home, one, other) = two_nodes();
    let stays = one.register(ADA);
    let me = json!({ "current_password": PASSWORD, "new_password": "another inimitable turnip" });
    let by: [Way; 4] = [
        ("logging out", &|pair| {
            let body = json!({ "refresh_token": pair["refresh_token"] });
            assert_eq!(one.post("/v1/auth/logout", &body).status, 204);
        }),
        ("ending it by name", &|pair| {
            let path = format!("/v1/sessions/{}", text(pair, "session_id"));
            let (status, body) = ask(one.address, "DELETE", &path, &text(&stays, "access_token"), &Value::Null);
            assert_eq!(status, 204, "{body}");
        }),
        ("ending all others", &|_| {
            let (status, body) =
                ask(one.address, "DELETE", "/v1/sessions?scope=others", &text(&stays, "access_token"), &Value::Null);
            assert_eq!((status, &body["revoked"]), (200, &json!(1)), "{body}");
        }),
        ("a new password", &|_| {
            let (status, body) = ask(one.address, "POST", "/v1/users/me/password", &text(&stays, "access_token"), &me);
            assert_eq!(status, 204, "{body}");
        }),
    ];
    for (name, end) in by {
        let pair = log_in(&other);
        assert!(works(&other, &pair), "{name}");
        end(&pair);
        let began = Instant::now();
        // Credentials are decided by the database, at once.
        let (status, body) = refresh(other.address, &pair);
        assert_eq!(
            (status, &body["code"], &body["reason"]),
            (400, &json!("invalid_grant"), &json!("revoked")),
            "{name}"
        );
        is_felt_soon(name, began, &other, &pair);
        thread::sleep(Duration::from_millis(50));
        assert!(!works(&other, &pair) && !works(&one, &pair), "{name}: once over, over");
        assert!(works(&other, &stays) && works(&one, &stays), "{name}: and no other session");
    }
}

pub fn identical_refreshes_on_two_nodes_at_once_are_one_rotation() {
    let (home, one, other) = two_nodes();
    let pair = one.register(ADA);
    rotate(&other, &rotate(&one, &one.register("bob@example.com")));
    let start = Barrier::new(50);
    let answers: Vec<(u16, Value)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..50)
            .map(|number| {
                let (node, start, pair) = ([one.address, other.address][number % 2], &start, &pair);
                scope.spawn(move || {
                    let mut connection = Connection::open(node).unwrap();
                    start.wait();
                    let answer = connection.refresh(&text(pair, "refresh_token")).unwrap();
                    (answer.status, answer.body)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let successors: BTreeSet<String> = answers
        .iter()
        .map(|(status, body)| {
            assert_eq!(*status, 200, "{body}");
            text(body, "refresh_token")
        })
        .collect();
    assert_eq!(successors.len(), 1, "one successor");
    let row = |column: &str| {
        let session = text(&pair, "session_id").replace('-', "");
        home.database().connect().number(&format!("SELECT {column} FROM sessions WHERE id = unhex('{session}')"))
    };
    assert_eq!((row("generation"), row("branch")), (1, 0), "one rotation");
    assert!(answers.iter().all(|(_, body)| works(&one, body)), "and every access token is good");
    rotate(&other, &answers[0].1);
    assert_eq!(row("generation"), 2);
}

/// As one batch waits only so long for another, a node that stands still for a moment is in the other's way, though
/// no session is harmed. Batches that took their rows in different orders would be at every try.
pub fn many_sessions_refresh_on_two_nodes_at_once() {
    let logs = (0..3).map(|_| logs_of_many_refreshes()).find(|logs| !logs.contains("a batch of refreshes failed"));
    assert!(logs.is_some(), "they stood in each other's way, every time");
}

/// What the nodes logged.
fn logs_of_many_refreshes() -> String {
    const SESSIONS: usize = 64;
    let (home, one, other) = two_nodes();
    let first = one.register(ADA);
    let pairs: Vec<Value> = std::iter::once(first).chain((1..SESSIONS).map(|_| log_in(&one))).collect();
    // Until all have asked, a refresh is under way on each node, so that both begin with all of them at once; and some
    // rows take a millisecond, so that they meet.
    let held = [(&one, log_in(&one)), (&other, log_in(&other))];
    let (mut holder, number) = (home.database().connect(), std::process::id());
    holder.execute(&format!(
        "SELECT pg_advisory_lock({number});
         CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           WHILE NOT pg_try_advisory_xact_lock_shared({number}) LOOP PERFORM pg_sleep(0.001); END LOOP;
           IF get_byte(NEW.id, 15) % 4 = 0 THEN PERFORM pg_sleep(0.001); END IF;
           RETURN NEW; END $$;
         CREATE TRIGGER hold BEFORE UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION hold()"
    ));
    let under_way = "SELECT count(*) FROM pg_locks WHERE relation = 'sessions'::regclass AND mode = 'RowExclusiveLock'";
    let turn = Barrier::new(2 * SESSIONS + 1);
    // Each session from both nodes at once, and, when all have been answered, again with what they were given.
    let ends: Vec<[Value; 2]> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2 * SESSIONS)
            .map(|number| {
                let (nodes, turn, pair) = ([one.address, other.address], &turn, &pairs[number / 2]);
                scope.spawn(move || {
                    let mut connection = Connection::open(nodes[number % 2]).unwrap();
                    let mut held = text(pair, "refresh_token");
                    [0, 1].map(|_| {
                        turn.wait();
                        let answer = connection.refresh(&held).unwrap();
                        held = answer.body["refresh_token"].as_str().unwrap_or_default().to_owned();
                        answer.body
                    })
                })
            })
            .collect();
        let held = held.map(|(node, pair)| scope.spawn(move || rotate(node, &pair)));
        let began = Instant::now();
        while holder.number(under_way) < 2 {
            assert!(began.elapsed() < PATIENCE, "both refresh");
        }
        turn.wait();
        thread::sleep(Duration::from_millis(500));
        holder.execute(&format!("SELECT pg_advisory_unlock({number})"));
        held.into_iter().for_each(|thread| drop(thread.join().unwrap()));
        turn.wait();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for both in ends.chunks(2) {
        for step in 0..2 {
            assert!(both.iter().all(|steps| steps[step]["refresh_token"].is_string()), "{both:#?}");
            assert_eq!(both[0][step]["refresh_token"], both[1][step]["refresh_token"], "one successor");
        }
        assert!(works(&one, &both[0][1]) && works(&other, &both[1][1]));
    }
    let mut database = home.database().connect();
    let exact = "SELECT count(*) FROM sessions WHERE generation = 2 AND branch = 0 AND revoked_at IS NULL";
    assert_eq!(database.number(exact), i64::try_from(SESSIONS).unwrap());
    assert_eq!(database.number("SELECT count(*) FROM sessions"), i64::try_from(SESSIONS + 2).unwrap());
    one.stop() + &other.stop()
}

pub fn a_refresh_on_one_node_and_a_log_out_on_the_other_leave_no_live_session() {
    let (home, one, other) = two_nodes();
    one.register(ADA);
    for _ in 0..40 {
        let pair = log_in(&one);
        let start = Barrier::new(2);
        let (refreshed, left) = thread::scope(|scope| {
            let refreshed = scope.spawn(|| {
                start.wait();
                refresh(one.address, &pair)
            });
            let left = scope.spawn(|| {
                let body = json!({ "refresh_token": pair["refresh_token"] });
                start.wait();
                other.post("/v1/auth/logout", &body).status
            });
            (refreshed.join().unwrap(), left.join().unwrap())
        });
        assert_eq!(left, 204);
        let (status, body) = refreshed;
        match status {
            // It was first: its successor is dead all the same.
            200 => assert_eq!(refresh(one.address, &body).1["reason"], "revoked"),
            _ => assert_eq!((status, &body["reason"]), (400, &json!("revoked")), "{body}"),
        }
    }
    let live = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
    assert_eq!(home.database().connect().number(live), 1, "what was opened by registering");
}

/// The end of a session is felt here as soon as anywhere, or the node says that it may not be asked.
pub fn a_node_that_cannot_learn_who_has_signed_out_is_not_ready() {
    let (home, one, _other) = two_nodes();
    let ready = || Connection::open(one.address).unwrap().send("GET", "/health/ready", &[], "").unwrap().status;
    assert_eq!(ready(), 200);
    // All but what the schema is known by.
    let mut holder = home.database().connect();
    holder.execute("BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE");
    let began = Instant::now();
    while ready() == 200 {
        assert!(began.elapsed() < PATIENCE, "it is ready still");
        thread::sleep(Duration::from_millis(100));
    }
    holder.execute("ROLLBACK");
    let began = Instant::now();
    while ready() != 200 {
        assert!(began.elapsed() < PATIENCE, "it is not ready yet");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Each of eight clients, four on either node, has the right code: one gets in.
pub fn a_code_of_a_second_factor_is_accepted_by_one_node_once() {
    let home = Home::new();
    let unlimited = [("COUNTERSIGN__LIMITS__ENABLED", "false")];
    let (one, other) = (home.serve(&unlimited), home.serve(&unlimited));
    let pair = one.register(ADA);
    let access_token = text(&pair, "access_token");
    let (status, begun) =
        ask(one.address, "POST", "/v1/users/me/totp", &access_token, &json!({ "password": PASSWORD }));
    assert_eq!(status, 200, "{begun}");
    let authenticator = Authenticator::of(&text(&begun, "secret"));
    let code = json!({ "code": authenticator.code_now(-1) });
    let (status, confirmed) = ask(other.address, "POST", "/v1/users/me/totp/confirm", &access_token, &code);
    assert_eq!(status, 200, "{confirmed}");
    let asked = one.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })).body;
    let recovery_code = confirmed["recovery_codes"][0].clone();
    for (member, code) in [("code", authenticator.code_now(0).into()), ("recovery_code", recovery_code)] {
        let body = json!({ "mfa_token": asked["mfa_token"], member: code });
        let barrier = Barrier::new(8);
        let log_in = |node: &Server| {
            barrier.wait();
            node.post("/v1/auth/mfa", &body).status
        };
        let statuses: Vec<u16> = thread::scope(|scope| {
            let nodes = [&one, &other].into_iter().cycle().take(8);
            let asking: Vec<_> = nodes
                .map(|node| {
                    let log_in = &log_in;
                    scope.spawn(move || log_in(node))
                })
                .collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{member}: {statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 401)), "{member}: {statuses:?}");
    }
}
