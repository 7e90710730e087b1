//! How many sessions a user may have, what is listed of them, and their end when there are very many.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use support::harness::{
    Answer, Home, PASSWORD, Pair, TestApp, clock, config, in_database, number_in_database, text_in_database,
};

const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";
const ANOTHER: &str = "another horse battery";

/// Far longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sessions beside those that a test opens: a score of transactions' worth.
const MANY: i64 = 3_000;

fn send(app: &TestApp, method: Method, path: &str, pair: &Pair, body: &Value) -> Answer {
    Answer::to(app.request(method, path).bearer_auth(&pair.access).json(body))
}

/// A server with this bound.
fn bounded(home: &Home, most: u32) -> TestApp {
    TestApp::start_with(config(home).with("sessions.max_per_user", most.to_string()), clock())
}

/// As many live sessions of Ada's, opened before all others, whose numbers are their ids.
fn open_many(home: &Home, count: i64) {
    in_database(
        home,
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO sessions SELECT unhex(printf('%032x', i)), (SELECT id FROM users WHERE email = '{ADA}'), 0, 0,
               randomblob(32), NULL, zeroblob(16), 'k', 0, 0, NULL, 0, 1152921504606846976, 1152921504606846976, NULL, NULL, '[]', 'body',
               0, 0, 'device', 'agent', NULL, 1, i, true, NULL, false, NULL FROM n"
        ),
    );
}

fn live(home: &Home) -> i64 {
    let theirs = format!("user_id = (SELECT id FROM users WHERE email = '{ADA}')");
    number_in_database(home, &format!("SELECT count(*) FROM sessions WHERE revoked_at IS NULL AND {theirs}"))
}

/// A browser that signs in again has one session before and after: no other device makes way for it.
#[test]
fn a_session_that_a_log_in_replaces_does_not_count_towards_the_bound() {
    let home = Home::new();
    let app = bounded(&home, 2);
    let phone = app.sign_up(ADA);
    app.pass(Duration::from_secs(60));
    let browser = app.log_in(ADA);
    app.pass(Duration::from_secs(60));
    let again = app
        .request(Method::POST, "/v1/auth/login")
        .header("Cookie", format!("refreshToken={}", browser.refresh))
        .json(&json!({ "email": ADA, "password": PASSWORD, "transport": "cookie" }));
    Answer::to(again).expect(200);
    assert!(app.works(&phone.access) && !app.works(&browser.access));
    assert_eq!(live(&home), 2);
    app.log_in(ADA);
    assert!(!app.works(&phone.access), "a third device does displace the one that was used least recently");
}

fn listed(app: &TestApp, pair: &Pair) -> Vec<Value> {
    app.get_as("/v1/sessions", &pair.access).expect(200).json()["sessions"].as_array().unwrap().clone()
}

/// Waits for what another thread does.
#[track_caller]
fn in_time(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A session says when it ends unless it is refreshed and when in any case.
#[test]
fn a_session_says_when_it_ends_with_and_without_refreshes() {
    let home = Home::new();
    let settings = config(&home).with("tokens.refresh_idle_ttl", "2d").with("tokens.refresh_absolute_ttl", "3d");
    let app = TestApp::start_with(settings, clock());
    let first = app.sign_up(ADA);
    let ends = |pair: &Pair| {
        let session = listed(&app, pair).remove(0);
        [&session["expires_at"], &session["ends_at"]].map(|end| end.as_str().unwrap().to_owned())
    };
    assert_eq!(ends(&first), ["2027-01-17T08:00:00Z", "2027-01-18T08:00:00Z"]);
    app.pass(Duration::from_secs(12 * 3_600));
    let second = app.refresh(&first.refresh).expect(200).pair();
    assert_eq!(ends(&second), ["2027-01-17T20:00:00Z", "2027-01-18T08:00:00Z"]);
    app.pass(Duration::from_secs(36 * 3_600));
    let third = app.refresh(&second.refresh).expect(200).pair();
    assert_eq!(ends(&third), ["2027-01-18T08:00:00Z", "2027-01-18T08:00:00Z"], "never later than in any case");
}

/// A log in beyond the bound displaces the session that was used least recently.
#[test]
fn a_log_in_beyond_the_bound_displaces_the_least_recently_used() {
    let home = Home::new();
    let app = bounded(&home, 3);
    let bystander = app.sign_up(BOB);
    let first = app.sign_up(ADA);
    app.pass(Duration::from_secs(1));
    let second = app.log_in(ADA);
    app.pass(Duration::from_secs(1));
    let third = app.log_in(ADA);
    app.pass(Duration::from_secs(1));
    // The oldest is not the one used least recently.
    let first = app.refresh(&first.refresh).expect(200).pair();
    app.pass(Duration::from_secs(1));
    let new = app.log_in(ADA);
    // The guard that decides from memory alone has learnt it, and so has everything else.
    app.confirm(&second.access).expect_error(401, "invalid_token");
    assert!(!app.works(&second.access));
    app.refresh(&second.refresh).expect_refused("revoked");
    for pair in [&first, &third, &new, &bystander] {
        assert!(app.works(&pair.access));
    }
    let ids: Vec<Value> = listed(&app, &new).iter().map(|session| session["id"].clone()).collect();
    assert_eq!(ids, [&new, &first, &third].map(|pair| json!(pair.session_id)));
    assert_eq!(text_in_database(&home, "SELECT max(revoked_reason) FROM sessions"), "displaced");
    let events = app.get_as("/v1/users/me/events", &new.access).expect(200).json();
    let kinds: Vec<&str> =
        events["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "displaced").count(), 1, "{kinds:?}");
    // What has ended does not count.
    app.post("/v1/auth/logout", &json!({ "refresh_token": third.refresh })).expect(204);
    app.log_in(ADA);
    assert!(app.works(&first.access) && app.works(&new.access));
}

#[test]
fn log_ins_at_the_same_moment_leave_no_more_sessions_than_the_bound() {
    let home = Home::new();
    let app = bounded(&home, 2);
    let other = bounded(&home, 2);
    app.sign_up(ADA);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let node = if number % 2 == 0 { &app } else { &other };
            scope.spawn(|| node.log_in(ADA));
        }
    });
    assert_eq!(live(&home), 2);
    let one = bounded(&home, 1);
    let last = one.log_in(ADA);
    assert_eq!(live(&home), 1);
    one.refresh(&last.refresh).expect(200);
}

/// Of an account far beyond the bound all that is too much ends after the next log in.
#[test]
fn an_account_far_beyond_the_bound_is_trimmed_after_a_log_in() {
    let home = Home::new();
    let app = bounded(&home, 5);
    let first = app.sign_up(ADA);
    open_many(&home, 1_000);
    let new = app.log_in(ADA);
    in_time("the surplus stays", || live(&home) == 5);
    assert!(app.works(&new.access) && app.works(&first.access));
    let numbers = "SELECT min(last_used_at) FROM sessions WHERE revoked_at IS NULL";
    assert_eq!(number_in_database(&home, numbers), 998, "those used last stay");
}

/// Without a bound there may be any number and a list shows the thousand used last.
#[test]
fn without_a_bound_a_list_shows_the_thousand_used_last() {
    let home = Home::new();
    let app = bounded(&home, 0);
    app.sign_up(ADA);
    open_many(&home, MANY);
    app.pass(Duration::from_secs(1));
    let new = app.log_in(ADA);
    assert_eq!(live(&home), MANY + 2);
    let sessions = listed(&app, &new);
    assert_eq!(sessions.len(), 1_000);
    assert_eq!(sessions[0]["current"], true);
    let used: Vec<&str> = sessions.iter().map(|session| session["last_used_at"].as_str().unwrap()).collect();
    assert!(used.is_sorted_by(|one, next| one >= next));
    assert_eq!(sessions[999]["id"], format!("00000000-0000-0000-0000-{:012x}", MANY - 997));
}

/// What ends very many sessions: the request, and what it answers.
type End = (&'static str, fn(&TestApp, &Pair) -> Answer);

const ENDS: [End; 4] = [
    ("a new password", |app, pair| {
        let body = json!({ "current_password": PASSWORD, "new_password": ANOTHER });
        send(app, Method::POST, "/v1/users/me/password", pair, &body)
    }),
    ("all others", |app, pair| send(app, Method::DELETE, "/v1/sessions?scope=others", pair, &json!({}))),
    ("all", |app, pair| send(app, Method::DELETE, "/v1/sessions?scope=all", pair, &json!({}))),
    ("the account", |app, pair| send(app, Method::DELETE, "/v1/users/me", pair, &json!({ "password": PASSWORD }))),
];

#[test]
fn very_many_sessions_end_to_the_last_before_that_is_answered() {
    for (name, end) in ENDS {
        let home = Home::new();
        let app = bounded(&home, 0);
        let (own, other, bystander) = (app.sign_up(ADA), app.log_in(ADA), app.sign_up(BOB));
        open_many(&home, MANY);
        let answer = end(&app, &own);
        let keeps = matches!(name, "a new password" | "all others");
        match name {
            "all others" => assert_eq!(answer.expect(200).json(), json!({ "revoked": MANY + 1 })),
            "all" => assert_eq!(answer.expect(200).json(), json!({ "revoked": MANY + 2 })),
            _ => assert_eq!(answer.expect(204).text, ""),
        }
        let ended = number_in_database(&home, "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL");
        assert_eq!(ended, MANY + if keeps { 1 } else { 2 }, "{name}");
        assert_eq!(number_in_database(&home, "SELECT count(*) FROM session_ends"), 0, "{name}");
        app.confirm(&other.access).expect_error(401, "invalid_token");
        app.refresh(&other.refresh).expect_refused("revoked");
        assert_eq!(app.works(&own.access), keeps, "{name}");
        assert!(app.works(&bystander.access));
        let told = number_in_database(&home, "SELECT count(*) FROM events WHERE kind = 'revoked'");
        assert_eq!(
            told,
            if name == "the account" { 0 } else { ended },
            "{name}: of each, and of a deleted user of none"
        );
        if name == "the account" {
            let spoken = number_in_database(&home, "SELECT count(*) FROM sessions WHERE device_name IS NOT NULL");
            assert_eq!(spoken, 0);
        }
    }
}

/// Session number 2,000 cannot be marked as ended.
fn stop_at_2000(home: &Home) {
    let id = format!("unhex('{:032x}')", 2_000);
    let trigger = if home.database().is_embedded() {
        format!(
            "CREATE TRIGGER stop BEFORE UPDATE OF revoked_at ON sessions WHEN NEW.id = {id}
             BEGIN SELECT RAISE(ABORT, 'on purpose'); END"
        )
    } else {
        format!(
            "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'on purpose'; END $$;
             CREATE TRIGGER stop BEFORE UPDATE ON sessions FOR EACH ROW WHEN (NEW.id = {id}) EXECUTE FUNCTION stop()"
        )
    };
    in_database(home, &trigger);
}

fn go_on(home: &Home) {
    in_database(
        home,
        if home.database().is_embedded() { "DROP TRIGGER stop" } else { "DROP TRIGGER stop ON sessions" },
    );
}

/// They end in many transactions, between which others write. Whatever becomes of the process then, all of them have ended
/// with the first one.
#[test]
fn what_is_cut_off_while_many_sessions_end_is_over_at_once() {
    for (name, end) in ENDS {
        let home = Home::new();
        let app = bounded(&home, 0);
        let (own, other) = (app.sign_up(ADA), app.log_in(ADA));
        open_many(&home, MANY);
        stop_at_2000(&home);
        // The password has changed, the account is gone: 503 would say that nothing was done.
        let answer = end(&app, &own);
        match name {
            "all others" => assert_eq!(answer.expect(200).json(), json!({ "revoked": MANY + 1 })),
            "all" => assert_eq!(answer.expect(200).json(), json!({ "revoked": MANY + 2 })),
            _ => assert_eq!(answer.expect(204).text, ""),
        }
        // In steps: none of them is undone by the failure of the last.
        let marked = number_in_database(&home, "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL");
        assert!((1_800..2_000).contains(&marked), "{name}: {marked}");
        assert_eq!(number_in_database(&home, "SELECT count(*) FROM session_ends"), 1, "{name}");
        let alive = |app: &TestApp, bystander: &str| {
            let bystander = app.sign_up(bystander);
            app.refresh(&bystander.refresh).expect(200);
            app.refresh(&other.refresh).expect_refused("revoked");
            assert!(!app.works(&other.access), "{name}");
            let keeps = matches!(name, "a new password" | "all others");
            assert_eq!(app.works(&own.access), keeps, "{name}");
            if keeps {
                assert_eq!(listed(app, &own).len(), 1, "{name}");
            }
        };
        alive(&app, BOB);
        if name == "a new password" {
            app.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })).expect(401);
            let again = app.post("/v1/auth/login", &json!({ "email": ADA, "password": ANOTHER })).expect(200).pair();
            assert!(app.works(&again.access), "what is opened later goes on");
            app.post("/v1/auth/logout", &json!({ "refresh_token": again.refresh })).expect(204);
        }
        drop(app);

        let app = bounded(&home, 0);
        alive(&app, "carol@example.com");
        drop(app);
        go_on(&home);
        let app = bounded(&home, 0);
        in_time(name, || number_in_database(&home, "SELECT count(*) FROM session_ends") == 0);
        alive(&app, "dave@example.com");
        let numbered = "SELECT count(*) FROM sessions WHERE created_at = 1 AND revoked_at IS NOT NULL";
        assert_eq!(number_in_database(&home, numbered), MANY, "{name}");
        if name == "the account" {
            let spoken = "SELECT count(*) FROM sessions WHERE created_at = 1 AND device_name IS NOT NULL";
            assert_eq!(number_in_database(&home, spoken), 0);
        }
    }
}
