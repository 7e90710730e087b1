//! Register, log in, refresh, confirm, log out, with tokens in bodies.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use support::harness::{Answer, Home, TestApp, connect, in_database};

#[test]
fn a_registered_user_is_signed_in_refreshed_and_signed_out() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let first = app.sign_up("ada@example.com");
    assert!(app.works(&first.access));
    app.pass(Duration::from_secs(60));
    let second = app.refresh(&first.refresh).expect(200).pair();
    assert_ne!(first.refresh, second.refresh);
    assert!(app.works(&second.access));
    app.post("/v1/auth/logout", &json!({ "refresh_token": second.refresh })).expect(204);
    assert!(!app.works(&second.access));
    app.refresh(&second.refresh).expect_refused("revoked");
}

/// Tokens of two sessions in one request: both end or, where one cannot, neither.
#[test]
fn a_log_out_of_two_sessions_is_not_left_half_done() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (one, two) = (app.sign_up("ada@example.com"), app.sign_up("bob@example.com"));
    let log_out = || {
        let request = app.request(Method::POST, "/v1/auth/logout").bearer_auth(&one.access);
        Answer::to(request.json(&json!({ "refresh_token": two.refresh })))
    };
    let id = two.session_id.replace('-', "");
    let (refuse, allow) = if home.database().is_embedded() {
        let when = format!("WHEN NEW.revoked_at IS NOT NULL AND NEW.id = x'{id}'");
        (
            format!("CREATE TRIGGER refuse BEFORE UPDATE ON sessions {when} BEGIN SELECT RAISE(ABORT, 'not now'); END"),
            "DROP TRIGGER refuse",
        )
    } else {
        let when = format!("WHEN (NEW.revoked_at IS NOT NULL AND NEW.id = '\\x{id}')");
        (
            format!(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
                 CREATE TRIGGER refuse BEFORE UPDATE ON sessions FOR EACH ROW {when} EXECUTE FUNCTION refuse()"
            ),
            "DROP TRIGGER refuse ON sessions",
        )
    };
    in_database(&home, &refuse);
    log_out().expect_error(503, "unavailable");
    assert!(app.works(&one.access) && app.works(&two.access));
    in_database(&home, allow);
    log_out().expect(204);
    assert!(!app.works(&one.access) && !app.works(&two.access));
    app.refresh(&one.refresh).expect_refused("revoked");
    app.refresh(&two.refresh).expect_refused("revoked");
}

/// The log-out is carried out although its client has hung up before its turn has come.
#[test]
fn a_log_out_whose_client_hangs_up_at_once_ends_the_session() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up("ada@example.com");
    let other = app.sign_up("bob@example.com");
    let mut connection = connect(&home);
    connection.hold_writers_up();
    thread::scope(|scope| {
        // Another write waits for the database, and the log-out behind it.
        let rename =
            app.request(Method::PATCH, "/v1/users/me").bearer_auth(&other.access).json(&json!({ "name": "Bob" }));
        let waiting = scope.spawn(|| Answer::to(rename));
        thread::sleep(Duration::from_millis(200));
        let mut client = TcpStream::connect(app.address).unwrap();
        let authorization = format!("Authorization: Bearer {}", pair.access);
        write!(client, "POST /v1/auth/logout HTTP/1.1\r\nHost: x\r\n{authorization}\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        drop(client);
        thread::sleep(Duration::from_millis(200));
        connection.let_writers_go();
        waiting.join().unwrap().expect(200);
    });
    let began = Instant::now();
    while app.works(&pair.access) {
        assert!(began.elapsed() < Duration::from_secs(60), "the session goes on");
        thread::sleep(Duration::from_millis(5));
    }
    app.refresh(&pair.refresh).expect_refused("revoked");
}
