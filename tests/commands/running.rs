//! A server that is running honours what its operator does: at once where it asks the database, within a
//! second where it does not.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use actix_web::{App, HttpServer, web};
use countersign::Countersign;
use countersign::config::RawConfig;
use countersign::guard::Principal;
use serde_json::json;

use super::*;
use support::process::PASSWORD;

/// How long what comes in the end may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon a revocation is felt by a guard that asks no database.
const SOON: Duration = Duration::from_secs(1);

/// Another application on the same database. Its handler is guarded by memory alone.
struct Neighbour(SocketAddr);

impl Neighbour {
    fn start(home: &Home) -> Self {
        let config = RawConfig::default().with("database.url", home.database().url());
        let settings = home.database().settings().iter();
        let config = settings.fold(config, |config, (key, _, value)| config.with(key, *value)).resolve().unwrap();
        let (bound, address) = mpsc::channel();
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let countersign = Countersign::open(&config).unwrap();
                let server = HttpServer::new(move || {
                    let countersign = countersign.clone();
                    let guarded = web::get().to(|caller: Principal| async move { caller.user_id().to_string() });
                    App::new().configure(move |config| countersign.configure(config)).route("/guarded", guarded)
                });
                let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
                bound.send(server.addrs()[0]).unwrap();
                server.run().await.unwrap();
            });
        });
        Self(address.recv().unwrap())
    }

    /// What the guard says of it, once it has learnt who has signed out: on a busy machine that may take more than the second
    /// for which it believes what it knows.
    #[track_caller]
    fn status(&self, pair: &Value) -> u16 {
        let began = Instant::now();
        loop {
            match self.status_now(pair) {
                503 => assert!(began.elapsed() < PATIENCE, "it learns nothing"),
                status => return status,
            }
        }
    }

    fn status_now(&self, pair: &Value) -> u16 {
        let bearer = format!("Bearer {}", text(pair, "access_token"));
        let mut connection = Connection::open(self.0).unwrap();
        connection.send("GET", "/guarded", &[("Authorization", &bearer)], "").unwrap().status
    }

    /// Fails if a client that asks later than a second from now is let in: what a server knows it believes for a second.
    /// A server that could not refresh it, as on a busy machine, answers 503.
    #[track_caller]
    fn refuses_soon(&self, pair: &Value) {
        let began = Instant::now();
        loop {
            let asked = began.elapsed();
            match self.status_now(pair) {
                401 => return,
                503 => assert!(asked < PATIENCE, "it learns nothing"),
                status => assert!(status == 200 && asked <= SOON, "{status} after {asked:?}"),
            }
        }
    }
}

#[track_caller]
fn assert_over(server: &Server, neighbour: &Neighbour, pair: &Value) {
    assert_eq!(get(server, "/v1/users/me", text(pair, "access_token")).0, 401);
    let (status, body) = refresh(server, pair);
    assert_eq!((status, &body["code"], &body["reason"]), (400, &json!("invalid_grant"), &json!("revoked")));
    neighbour.refuses_soon(pair);
}

/// A role reaches the access token at the next refresh and leaves it at the next.
#[test]
fn a_role_reaches_and_leaves_the_access_token_at_the_next_refresh() {
    let home = Home::new();
    let server = home.serve(&[]);
    let (first, other) = (server.register(ADA), server.register(BOB));
    assert_eq!(claims(text(&first, "access_token")).get("roles"), None);
    let told = run(&home, &["user", "grant", ADA, "admin"]).done();
    assert!(told.contains("next refresh"), "{told}");
    assert_eq!(get(&server, "/v1/users/me", text(&first, "access_token")).1["roles"], json!(["admin"]));
    let (status, second) = refresh(&server, &first);
    assert_eq!((status, &claims(text(&second, "access_token"))["roles"]), (200, &json!(["admin"])));

    run(&home, &["user", "grant", ADA, "ops"]).done();
    run(&home, &["user", "revoke-role", ADA, "admin"]).done();
    let (_, third) = refresh(&server, &second);
    assert_eq!(claims(text(&third, "access_token"))["roles"], json!(["ops"]));
    assert_eq!(claims(text(&log_in(&server, ADA, PASSWORD).1, "access_token"))["roles"], json!(["ops"]));
    let (_, other) = refresh(&server, &other);
    assert_eq!(claims(text(&other, "access_token")).get("roles"), None, "nobody else is touched");
}

/// SES-04.
#[test]
fn a_disabled_user_is_out_within_a_second_and_stays_out() {
    let home = Home::new();
    let server = home.serve(&[]);
    let (first, bystander) = (server.register(ADA), server.register(BOB));
    let (_, second) = log_in(&server, ADA, PASSWORD);
    let neighbour = Neighbour::start(&home);
    assert_eq!((neighbour.status(&first), neighbour.status(&second)), (200, 200));

    let told = run(&home, &["user", "disable", ADA]).done();
    assert_eq!(told, "ada@example.com is disabled; 2 sessions have ended\n");
    for pair in [&first, &second] {
        assert_over(&server, &neighbour, pair);
    }
    let (status, body) = log_in(&server, ADA, PASSWORD);
    assert_eq!((status, &body["code"]), (403, &json!("account_disabled")));
    assert_eq!(log_in(&server, ADA, "wrong wrong wrong").0, 401, "only its user learns that it is disabled");
    assert_eq!((neighbour.status(&bystander), refresh(&server, &bystander).0), (200, 200));

    assert_eq!(run(&home, &["user", "enable", ADA]).done(), "ada@example.com is enabled\n");
    assert_over(&server, &neighbour, &first);
    let (status, again) = log_in(&server, ADA, PASSWORD);
    assert_eq!(status, 200);
    let (_, page) = get(&server, "/v1/users/me/events", text(&again, "access_token"));
    let told: Vec<_> = kinds(&page["events"]).into_iter().filter(|kind| !kind.starts_with("login")).collect();
    assert_eq!(told, ["account_enabled", "revoked", "revoked", "account_disabled", "registered"]);
    let disabled = page["events"].as_array().unwrap().iter().find(|event| event["kind"] == "account_disabled").unwrap();
    assert_eq!(disabled["ip_address"], json!(null), "it came from no address");
}

#[test]
fn a_password_that_is_set_ends_every_session_and_the_old_one_is_dead() {
    let home = Home::new();
    let server = home.serve(&[]);
    let (pair, neighbour) = (server.register(ADA), Neighbour::start(&home));
    let told = run_with(&home, &["user", "set-password", ADA], "short").refused();
    assert!(told.contains("password must have at least 8 characters"), "{told}");
    assert_eq!(refresh(&server, &pair).0, 200);

    let told = run_with(&home, &["user", "set-password", ADA], "staple after staple\n").done();
    assert_eq!(told, "ada@example.com has a new password; 1 session has ended\n");
    assert_over(&server, &neighbour, &pair);
    assert_eq!(log_in(&server, ADA, PASSWORD).0, 401);
    assert_eq!(log_in(&server, ADA, "staple after staple").0, 200);
    let shown = json(&home, &["user", "show", ADA]);
    assert_eq!(kinds(&shown["recent_events"])[2..4], ["revoked", "password_changed"]);
    assert_eq!(shown["recent_events"][3]["detail"], "by_operator");
}

#[test]
fn a_deleted_user_is_gone_and_so_are_the_sessions() {
    let home = Home::new();
    let server = home.serve(&[]);
    let (pair, neighbour) = (server.register(ADA), Neighbour::start(&home));
    let told = run(&home, &["user", "delete", ADA, "--yes"]).done();
    assert_eq!(told, "ada@example.com is deleted; 1 session has ended\n");
    assert_over(&server, &neighbour, &pair);
    assert_eq!(log_in(&server, ADA, PASSWORD).0, 401);
    // Nothing is left that tells of her.
    assert_eq!(number_in_database(&home, "SELECT count(*) FROM events"), 0);
    let told = "SELECT count(*) FROM sessions WHERE coalesce(user_agent, ip_address, device_name) IS NOT NULL";
    assert_eq!(number_in_database(&home, told), 0);
    server.register(ADA);
}

/// A session that its operator ends is over within a second and no other is.
#[test]
fn a_session_that_its_operator_ends_is_over_within_a_second() {
    let home = Home::new();
    let server = home.serve(&[]);
    let (first, neighbour) = (server.register(ADA), Neighbour::start(&home));
    let (_, second) = log_in(&server, ADA, PASSWORD);
    assert_eq!(run(&home, &["session", "revoke", text(&first, "session_id")]).done(), "1 session has ended\n");
    assert_over(&server, &neighbour, &first);
    assert_eq!(neighbour.status(&second), 200);
    let (status, second) = refresh(&server, &second);
    assert_eq!(status, 200);

    let told = run(&home, &["session", "revoke", text(&first, "session_id")]).refused();
    assert!(told.contains("no live session"), "{told}");
    let shown = json(&home, &["user", "show", ADA]);
    assert_eq!((&shown["live_sessions"], &shown["recent_events"][0]["kind"]), (&json!(1), &json!("revoked")));
    assert_eq!(shown["recent_events"][0]["detail"], "ended_by_operator");

    let bob = server.register(BOB);
    let told = run(&home, &["session", "revoke", "--user", "ADA@example.com"]).done();
    assert_eq!(told, "1 session of ada@example.com has ended\n");
    assert_over(&server, &neighbour, &second);
    assert_eq!(run(&home, &["session", "revoke", "--all"]).done(), "1 session has ended\n");
    assert_over(&server, &neighbour, &bob);
    assert_eq!(run(&home, &["session", "revoke", "--all"]).done(), "0 sessions have ended\n");
}

/// It takes a second or two to end them all, and no client notices by anything but the end of its session.
#[test]
fn a_server_goes_on_answering_while_very_many_sessions_are_ended() {
    let home = Home::new();
    let server = home.serve(&[("COUNTERSIGN__LIMITS__ENABLED", "false")]);
    server.register(ADA);
    open_sessions(&home, 3_000);
    let (done, is_done) = mpsc::channel();
    let client = {
        let address = server.address;
        thread::spawn(move || {
            let (mut connection, mut registered) = (Connection::open(address).unwrap(), 0);
            while is_done.try_recv().is_err() {
                let email = format!("user{registered}@example.com");
                let answer = connection.post("/v1/auth/register", &json!({ "email": email, "password": PASSWORD }));
                assert_eq!(answer.unwrap().status, 201);
                registered += 1;
            }
            registered
        })
    };
    let told = run(&home, &["session", "revoke", "--all"]).done();
    done.send(()).unwrap();
    assert!(client.join().unwrap() > 0);
    let ended: u32 = told.split(' ').next().unwrap().parse().unwrap();
    assert!(ended > 3_000, "{told}");
    let kept = "SELECT count(*) FROM events WHERE kind = 'revoked' AND detail = 'ended_by_operator'";
    assert_eq!(number_in_database(&home, kept), i64::from(ended));
}

/// Longer than a client would be kept waiting.
#[test]
fn a_command_waits_for_its_turn_beside_a_writer_that_takes_its_time() {
    let home = empty();
    create(&home, ADA);
    let (began, has_begun) = mpsc::channel();
    let writer = {
        let mut connection = home.database().connect();
        thread::spawn(move || {
            connection.hold_writers_up();
            connection.execute("UPDATE users SET name = 'Ada'");
            began.send(()).unwrap();
            thread::sleep(Duration::from_millis(3_500));
            connection.execute("COMMIT");
        })
    };
    has_begun.recv().unwrap();
    run(&home, &["user", "disable", ADA]).done();
    writer.join().unwrap();
    assert!(json(&home, &["user", "show", ADA])["disabled_at"].is_string());
}
