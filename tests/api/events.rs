//! What has happened to an account, as its user reads it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use support::harness::{Answer, Home, PASSWORD, TestApp, clock, config, in_database, number_in_database};

fn page(app: &TestApp, access: &str, cursor: Option<&str>) -> Value {
    let query = cursor.map(|cursor| format!("?cursor={cursor}")).unwrap_or_default();
    app.get_as(&format!("/v1/users/me/events{query}"), access).expect(200).json()
}

fn kinds(page: &Value) -> Vec<String> {
    page["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

fn log_in(app: &TestApp, password: &str, device: &str, address: &str) -> Answer {
    let body = json!({ "email": "ada@example.com", "password": password, "device_name": device });
    let request = app.request(Method::POST, "/v1/auth/login").header("x-forwarded-for", address).json(&body);
    Answer::to(request)
}

fn behind_a_proxy(home: &Home) -> TestApp {
    TestApp::start_with(config(home).with("server.trusted_proxies", "127.0.0.0/8"), clock())
}

/// A user reads what has happened newest first with time address and device.
#[test]
fn a_user_reads_what_has_happened_newest_first() {
    let home = Home::new();
    let app = behind_a_proxy(&home);
    app.sign_up("ada@example.com");
    app.pass(Duration::from_secs(60));
    log_in(&app, "wrong wrong wrong", "Ada's telephone", "203.0.113.9").expect(401);
    app.pass(Duration::from_secs(60));
    let pair = log_in(&app, PASSWORD, "Ada's telephone", "203.0.113.7").expect(200).pair();

    let page = page(&app, &pair.access, None);
    assert_eq!(kinds(&page), ["login_ok", "login_failed", "registered"]);
    assert_eq!(page["next_cursor"], Value::Null);
    let newest = &page["events"][0];
    assert_eq!(newest["ip_address"], "203.0.113.7");
    assert_eq!(newest["device_name"], "Ada's telephone");
    assert_eq!(newest["at"], "2027-01-15T08:02:00Z");
    assert_eq!(page["events"][1]["ip_address"], "203.0.113.9");
    assert_eq!(page["events"][1]["device_name"], Value::Null, "a failed log-in opened no session");
    let mut members: Vec<_> = newest.as_object().unwrap().keys().cloned().collect();
    members.sort();
    assert_eq!(members, ["at", "device_name", "id", "ip_address", "kind"]);
}

/// A theft a lost answer a new password and every end of a session are told.
#[test]
fn thefts_lost_answers_new_passwords_and_ends_are_told() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let ada = app.sign_up("ada@example.com");
    let told = |access: &str| kinds(&page(&app, access, None)).remove(0);

    let victim = app.log_in("ada@example.com");
    let second = app.refresh(&victim.refresh).expect(200).pair();
    app.pass(Duration::from_secs(60));
    let third = app.refresh(&victim.refresh).expect(200).pair();
    assert_eq!(told(&ada.access), "recovered");
    let fourth = app.refresh(&third.refresh).expect(200).pair();
    app.refresh(&fourth.refresh).expect(200);
    app.pass(Duration::from_secs(60));
    app.refresh(&second.refresh).expect_refused("reused");
    assert_eq!(told(&ada.access), "reused");

    let other = app.log_in("ada@example.com");
    app.post("/v1/auth/logout", &json!({ "refresh_token": other.refresh })).expect(204);
    assert_eq!(told(&ada.access), "revoked");

    app.log_in("ada@example.com");
    let change = json!({ "current_password": PASSWORD, "new_password": "staple after staple" });
    Answer::to(app.request(Method::POST, "/v1/users/me/password").bearer_auth(&ada.access).json(&change)).expect(204);
    assert_eq!(kinds(&page(&app, &ada.access, None))[..2], ["revoked", "password_changed"]);
}

/// A refresh writes one row and adds none.
#[test]
fn a_plain_refresh_a_repeat_and_a_conflict_leave_no_event() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let first = app.sign_up("ada@example.com");
    let second = app.refresh(&first.refresh).expect(200).pair();
    app.refresh(&first.refresh).expect(200);
    app.confirm(&second.access).expect(204);
    app.refresh(&first.refresh).expect_error(409, "refresh_conflict");
    assert_eq!(kinds(&page(&app, &second.access, None)), ["registered"]);
}

#[test]
fn pages_follow_each_other_without_gap_or_repetition_while_more_happens() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up("ada@example.com");
    let wrong = json!({ "email": "ada@example.com", "password": "wrong wrong wrong" });
    // Some share a moment: then the id decides.
    for round in 0..119 {
        app.pass(Duration::from_secs(round % 3));
        app.post("/v1/auth/login", &wrong).expect(401);
    }
    let (mut ids, mut cursor, mut sizes) = (Vec::new(), None::<String>, Vec::new());
    loop {
        let page = page(&app, &pair.access, cursor.as_deref());
        let events = page["events"].as_array().unwrap();
        sizes.push(events.len());
        ids.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        app.post("/v1/auth/login", &wrong).expect(401);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(sizes, [50, 50, 20]);
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 120);
}

#[test]
fn nobody_reads_of_anybody_else() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let ada = app.sign_up("ada@example.com");
    let bob = app.sign_up("bob@example.com");
    app.post("/v1/auth/login", &json!({ "email": "bob@example.com", "password": "wrong wrong wrong" })).expect(401);
    assert_eq!(kinds(&page(&app, &ada.access, None)), ["registered"]);
    assert_eq!(kinds(&page(&app, &bob.access, None)), ["login_failed", "registered"]);
}

#[test]
fn a_cursor_that_no_page_has_named_is_refused() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up("ada@example.com");
    for cursor in ["x", "", "AAAA", "%00", "A".repeat(33).as_str(), "!".repeat(32).as_str()] {
        let answer = app.get_as(&format!("/v1/users/me/events?cursor={cursor}"), &pair.access);
        let answer = answer.expect_error(400, "invalid_request");
        assert_eq!(answer.json()["errors"][0]["field"], "cursor", "{cursor:?}");
    }
}

#[test]
fn a_deleted_account_takes_its_past_with_it_however_long_that_is() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up("ada@example.com");
    app.sign_up("bob@example.com");
    in_database(
        &home,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1700)
         INSERT INTO events SELECT randomblob(16), (SELECT id FROM users WHERE email = 'ada@example.com'), NULL,
           'login_failed', NULL, i, NULL, NULL FROM n",
    );
    let delete = app.request(Method::DELETE, "/v1/users/me").bearer_auth(&pair.access);
    Answer::to(delete.json(&json!({ "password": PASSWORD }))).expect(204);
    // What was too much for one transaction goes after it. Whatever is left is Bob's.
    let since = Instant::now();
    while number_in_database(&home, "SELECT count(*) FROM events") > 1 {
        assert!(since.elapsed() < Duration::from_secs(60), "some of it stays");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(number_in_database(&home, "SELECT count(*) FROM events"), 1);
}

#[test]
fn what_is_refused_leaves_no_event() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up("ada@example.com");
    let change = json!({ "current_password": PASSWORD, "new_password": "short" });
    let request = app.request(Method::POST, "/v1/users/me/password").bearer_auth(&pair.access);
    Answer::to(request.json(&change)).expect_error(422, "validation_failed");
    app.post("/v1/auth/register", &json!({ "email": "ada@example.com", "password": PASSWORD })).expect(409);
    app.post("/v1/auth/login", &json!({ "email": "eve@example.com", "password": PASSWORD })).expect(401);
    assert_eq!(kinds(&page(&app, &pair.access, None)), ["registered"]);
}

/// The answer to a log-in does not depend on whether its event could be kept.
#[test]
fn a_failed_log_in_that_cannot_be_kept_is_answered_all_the_same() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up("ada@example.com");
    in_database(&home, "ALTER TABLE events RENAME TO elsewhere");
    log_in(&app, "wrong wrong wrong", "phone", "203.0.113.9").expect_error(401, "invalid_credentials");
    // What must not happen untold does not happen: the session does not begin without its event.
    log_in(&app, PASSWORD, "phone", "203.0.113.9").expect(503);
    in_database(&home, "ALTER TABLE elsewhere RENAME TO events");
    let sessions = app.get_as("/v1/sessions", &pair.access).expect(200).json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
}
