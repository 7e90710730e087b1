//! Accounts: register, sign in, change, delete; and the caller's sessions.

use std::sync::mpsc;
use std::time::Duration;

use actix_web::{HttpResponse, HttpServer, Responder, web};
use countersign::Countersign;
use countersign::config::RawConfig;
use countersign::guard::{CurrentUser, Principal, Role, RoleName};
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use support::harness::{Answer, Home, PASSWORD, Pair, TestApp, clock, config, in_database};

const ADA: &str = "ada@example.com";

fn send(app: &TestApp, method: Method, path: &str, pair: &Pair, body: &Value) -> Answer {
    Answer::to(app.request(method, path).bearer_auth(&pair.access).json(body))
}

/// The fields that an answer names, in its order.
fn fields(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    assert!(errors.iter().all(|error| !error["message"].as_str().unwrap().is_empty()), "{body}");
    errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}

/// An error's body without what differs from one request to the next.
fn body(answer: &Answer) -> Value {
    let mut body = answer.json();
    body.as_object_mut().unwrap().remove("request_id").expect("a request_id");
    body
}

#[test]
fn a_token_answer_and_a_user_are_as_the_contract_says() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let request = json!({ "email": "Ada@Example.com", "password": PASSWORD, "name": "Ada Lovelace", "unknown": [1] });
    let registered = app.post("/v1/auth/register", &request).expect(201);
    assert_eq!(registered.header("content-type"), Some("application/json"));
    let answer = registered.json();
    let mut names: Vec<&String> = answer.as_object().unwrap().keys().collect();
    names.sort_unstable();
    let members =
        ["access_token", "expires_in", "refresh_expires_in", "refresh_token", "session_id", "token_type", "user"];
    assert_eq!(names, members);
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert_eq!(answer["refresh_expires_in"], json!(2_592_000));
    let user = &answer["user"];
    let mut names: Vec<&String> = user.as_object().unwrap().keys().collect();
    names.sort_unstable();
    assert_eq!(names, ["created_at", "email", "email_verified", "id", "mfa", "name", "roles"]);
    assert_eq!(user["email"], "Ada@Example.com");
    assert_eq!(user["name"], "Ada Lovelace");
    assert_eq!(user["roles"], json!([]));
    assert_eq!(user["email_verified"], json!(false));
    assert_eq!(user["created_at"], "2027-01-15T08:00:00Z");
    for id in [&user["id"], &answer["session_id"]] {
        assert_eq!(uuid::Uuid::parse_str(id.as_str().unwrap()).unwrap().get_version_num(), 7);
    }
    let logged_in =
        app.post("/v1/auth/login", &json!({ "email": "ADA@EXAMPLE.COM", "password": PASSWORD })).expect(200);
    assert_eq!(&logged_in.json()["user"], user);
    assert_ne!(logged_in.json()["session_id"], answer["session_id"]);
    let pair = logged_in.pair();
    assert_eq!(&app.get_as("/v1/users/me", &pair.access).expect(200).json(), user);
    let refreshed = app.refresh(&pair.refresh).expect(200).json();
    assert!(refreshed.get("user").is_none(), "{refreshed}");
    assert_eq!(refreshed["session_id"], pair.session_id);
}

#[test]
fn what_is_not_acceptable_is_named_field_by_field() {
    let app = TestApp::start(&Home::new());
    let long = "a".repeat(257);
    let cases = [
        (json!({ "email": "no-address", "password": PASSWORD }), vec!["email"]),
        (json!({ "email": "ada@localhost", "password": PASSWORD }), vec!["email"]),
        (json!({ "email": "Ada <ada@example.com>", "password": PASSWORD }), vec!["email"]),
        (json!({ "email": "ada @example.com", "password": PASSWORD }), vec!["email"]),
        (json!({ "email": "ada@exam\nple.com", "password": PASSWORD }), vec!["email"]),
        (json!({ "email": "ada@xn--zzzzzz--.example", "password": PASSWORD }), vec!["email"]),
        (json!({ "email": "ada@example.com.", "password": PASSWORD }), vec!["email"]),
        (json!({ "email": "ada@\u{300}.example", "password": PASSWORD }), vec!["email"]),
        (json!({ "email": "", "password": PASSWORD }), vec!["email"]),
        (json!({ "email": format!("{}@example.com", "a".repeat(250)), "password": PASSWORD }), vec!["email"]),
        (json!({ "email": ADA, "password": "seven77" }), vec!["password"]),
        (json!({ "email": ADA, "password": "" }), vec!["password"]),
        (json!({ "email": ADA, "password": long }), vec!["password"]),
        (json!({ "email": ADA, "password": "password" }), vec!["password"]),
        (json!({ "email": ADA, "password": "PassWord1" }), vec!["password"]),
        (json!({ "email": ADA, "password": "ADA@example.com" }), vec!["password"]),
        (json!({ "email": ADA, "password": PASSWORD, "name": " " }), vec!["name"]),
        (json!({ "email": ADA, "password": PASSWORD, "name": "a\u{1b}b" }), vec!["name"]),
        (json!({ "email": ADA, "password": PASSWORD, "name": "n".repeat(201) }), vec!["name"]),
        (json!({ "email": ADA, "password": PASSWORD, "transport": "pigeon" }), vec!["transport"]),
        (json!({ "email": "x", "password": "y", "name": "" }), vec!["email", "password", "name"]),
    ];
    for (request, named) in cases {
        let answer = app.post("/v1/auth/register", &request).expect_error(422, "validation_failed");
        assert_eq!(fields(&answer), named, "{request}");
    }
    // Nothing of all that has taken the address.
    app.sign_up(ADA);
}

/// One account, however its address is typed: at the log-in, and where it would be registered again.
#[test]
fn an_address_has_one_account_however_it_is_typed() {
    let app = TestApp::start(&Home::new());
    for (registered, others) in [
        (
            "Ada@Example.com",
            &["ada@example.com", " ada@example.com ", "\tADA@EXAMPLE.COM\r\n", "\u{feff}ada@example.com\u{a0}"][..],
        ),
        ("grace@example.com", &["grace@example.com.", "grace@ｅｘａｍｐｌｅ．com", "grace@example\u{3002}com"]),
        ("zo\u{eb}@example.com", &["zoe\u{308}@example.com", "ZOE\u{308}@example.com", "ZO\u{cb}@EXAMPLE.COM"]),
        ("noe\u{308}l@example.com", &["no\u{eb}l@example.com", "NO\u{cb}L@example.com"]),
        (
            "ada@bücher.example",
            &["ada@xn--bcher-kva.example", "ADA@XN--BCHER-KVA.example", "ada@BU\u{308}CHER.example"],
        ),
        ("bob@xn--bcher-kva.example", &["bob@bücher.example", "bob@Bücher.Example"]),
        ("\u{130}brahim@example.com", &["I\u{307}brahim@example.com", "i\u{307}brahim@example.com"]),
        ("ada@fa\u{df}.example", &["ada@xn--fa-hia.example", "ada@FA\u{1e9e}.example"]),
        ("ada@fass.example", &["ada@FASS.example"]),
        ("ΟΔΥΣΣΕΑΣ@example.com", &["οδυσσεας@example.com", "οδυσσεασ@example.com"]),
        ("用户@例子.example", &["用户@xn--fsqu00a.example"]),
        ("दीपक@example.com", &["दीपक@EXAMPLE.com"]),
    ] {
        let user =
            app.post("/v1/auth/register", &json!({ "email": registered, "password": PASSWORD })).expect(201).json();
        assert_eq!(user["user"]["email"], registered, "shown as it was typed");
        for email in others.iter().chain(&[registered]) {
            let request = json!({ "email": email, "password": PASSWORD });
            let answer = app.post("/v1/auth/login", &request).expect(200).json();
            assert_eq!(answer["user"], user["user"], "{email:?}");
            // Not acceptable in this spelling, or taken.
            let again = app.post("/v1/auth/register", &request);
            assert!(matches!(again.code(), "email_taken" | "validation_failed"), "{email:?}: {}", again.text);
            if !email.ends_with('.') {
                again.expect_error(409, "email_taken");
            }
        }
    }
    let trimmed = json!({ "email": " \u{a0}eve@example.com\n", "password": PASSWORD });
    assert_eq!(app.post("/v1/auth/register", &trimmed).expect(201).json()["user"]["email"], "eve@example.com");
}

#[test]
fn an_address_that_no_account_can_have_is_wrong_credentials_at_the_log_in() {
    let app = TestApp::start(&Home::new());
    app.sign_up(ADA);
    let long = format!("{}@example.com", "ü".repeat(20_000));
    let labels = format!("ada@{}", "xn--bcher-kva.".repeat(300));
    for email in [
        "",
        " ",
        "@",
        "ada",
        "ada@",
        "ada@xn--zzzzzz--.example",
        "ada@\u{300}.example",
        "a\0@ü.example",
        &long,
        &labels,
    ] {
        let request = json!({ "email": email, "password": PASSWORD });
        app.post("/v1/auth/login", &request).expect_error(401, "invalid_credentials");
    }
}

#[test]
fn the_address_and_what_stands_before_its_at_are_no_passwords() {
    let app = TestApp::start(&Home::new());
    let messages = |email: &str, password: &str| {
        let request = json!({ "email": email, "password": password, "name": "Ada Lovelace" });
        let answer = app.post("/v1/auth/register", &request).expect_error(422, "validation_failed").json();
        assert_eq!(answer["reason"], "blocklisted");
        answer["errors"][0]["message"].as_str().unwrap().to_owned()
    };
    let email = "Lovelace.Ada+Shop@Bücher.example";
    for password in [
        "lovelace.ada+shop@bücher.example",
        "lovelace.ada+shop@xn--bcher-kva.example",
        "LOVELACE.ADA+SHOP",
        "Lovelace.Ada+Shop",
        "lovelace.ada",
    ] {
        assert_eq!(messages(email, password), "is the e-mail address, or a part of it: choose another", "{password}");
    }
    assert_eq!(messages(email, "ada LOVELACE"), "is a name that would be tried first: choose another");
    let common = "is one of the most common passwords, which are tried first: choose another";
    assert_eq!(messages(email, "iloveyou"), common);
    // What only contains it is long enough to be one.
    let request = json!({ "email": email, "password": "lovelace.ada and more" });
    let pair = app.post("/v1/auth/register", &request).expect(201).pair();
    let change = json!({ "current_password": "lovelace.ada and more", "new_password": "lovelace.ADA" });
    let answer =
        send(&app, Method::POST, "/v1/users/me/password", &pair, &change).expect_error(422, "validation_failed");
    assert_eq!(fields(&answer), ["new_password"]);
}

#[test]
fn only_addresses_of_the_allowed_domains_register() {
    let home = Home::new();
    let allowed = config(&home).with("registration.allowed_domains", "Example.com, bücher.example");
    let app = TestApp::start_with(allowed, clock());
    let register =
        |email: &str, password: &str| app.post("/v1/auth/register", &json!({ "email": email, "password": password }));
    for email in [
        "ada@example.com",
        "bob@EXAMPLE.com",
        " eve@example.com ",
        "ada@bücher.example",
        "bob@xn--bcher-kva.example",
        "eve@BU\u{308}CHER.example",
    ] {
        register(email, PASSWORD).expect(201);
    }
    for email in [
        "ada@example.org",
        "ada@sub.example.com",
        "ada@notexample.com",
        "ada@example.com.example.org",
        "\"ada@example.com\"@example.org",
        "ada@bucher.example",
        "ada@xn--bcher-kva.example.org",
    ] {
        let answer = register(email, PASSWORD).expect_error(422, "validation_failed");
        assert_eq!(fields(&answer), ["email"], "{email}");
        assert_eq!(fields(&register(email, "short")), ["email", "password"], "{email}");
    }
    // Who is there already logs in, wherever from.
    app.log_in("ada@example.com");
}

#[test]
fn a_member_that_is_missing_or_mistyped_is_a_400_that_names_it() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let complete = [
        (Method::POST, "/v1/auth/register", json!({ "email": "eve@example.com", "password": PASSWORD }), true),
        (Method::POST, "/v1/auth/login", json!({ "email": ADA, "password": PASSWORD }), true),
        (Method::POST, "/v1/auth/refresh", json!({ "refresh_token": "x" }), true),
        (
            Method::POST,
            "/v1/users/me/password",
            json!({ "current_password": PASSWORD, "new_password": "another one" }),
            true,
        ),
        (Method::DELETE, "/v1/users/me", json!({ "password": PASSWORD }), true),
        (Method::PATCH, "/v1/users/me", json!({ "name": "Ada" }), false),
        (Method::POST, "/v1/auth/register", json!({ "name": "Ada", "device_name": "d", "transport": "body" }), false),
        (Method::POST, "/v1/auth/login", json!({ "device_name": "d", "transport": "body" }), false),
    ];
    for (method, path, request, required) in complete {
        for name in request.as_object().unwrap().keys() {
            let mut base = request.clone();
            if !required && path.starts_with("/v1/auth") {
                base["email"] = json!("eve@example.com");
                base["password"] = json!(PASSWORD);
            }
            let mut wrong = vec![json!(1), json!([]), json!({}), json!(true)];
            if required {
                let mut without = base.clone();
                without.as_object_mut().unwrap().remove(name);
                let answer = send(&app, method.clone(), path, &pair, &without).expect_error(400, "invalid_request");
                assert_eq!(fields(&answer), std::slice::from_ref(name), "{path}");
                // A refresh token may be left out where there is a cookie, so there null is as good as absent.
                wrong.push(Value::Null);
            }
            for value in wrong {
                let mut mistyped = base.clone();
                mistyped[name] = value;
                let answer = send(&app, method.clone(), path, &pair, &mistyped).expect_error(400, "invalid_request");
                assert_eq!(fields(&answer), std::slice::from_ref(name), "{path} {mistyped}");
            }
        }
    }
    assert!(app.works(&pair.access));
}

#[test]
fn an_address_is_taken_in_whatever_case() {
    let app = TestApp::start(&Home::new());
    app.sign_up(ADA);
    for email in [ADA, "ADA@example.com", "ada@EXAMPLE.com"] {
        let request = json!({ "email": email, "password": "a different password" });
        app.post("/v1/auth/register", &request).expect_error(409, "email_taken");
    }
    app.log_in(ADA);
}

#[test]
fn of_fifty_registrations_at_once_one_succeeds() {
    let app = TestApp::start(&Home::new());
    let statuses: Vec<(u16, &str)> = std::thread::scope(|scope| {
        let app = &app;
        let threads: Vec<_> = (0..50)
            .map(|number| {
                scope.spawn(move || {
                    let email = if number % 2 == 0 { ADA } else { "ADA@example.com" };
                    let answer = app.post("/v1/auth/register", &json!({ "email": email, "password": PASSWORD }));
                    (answer.status, answer.code())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| status.0 == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == (409, "email_taken")).count(), 49, "{statuses:?}");
}

#[test]
fn wrong_credentials_are_one_answer_whatever_is_wrong() {
    let home = Home::new();
    let app = TestApp::start(&home);
    app.sign_up(ADA);
    app.sign_up("eve@example.com");
    in_database(&home, "UPDATE users SET disabled_at = 1 WHERE email_key = 'eve@example.com'");
    let log_in = |email: &str, password: &str| {
        let answer = app.post("/v1/auth/login", &json!({ "email": email, "password": password }));
        answer.expect_error(401, "invalid_credentials")
    };
    let expected = log_in(ADA, "not the password");
    assert_eq!(expected.header("www-authenticate"), Some("Bearer realm=\"countersign\""));
    let long = "p".repeat(60_000);
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        ("nobody@example.com", ""),
        ("nobody@example.com", &long),
        ("nobody\0@example.com", PASSWORD),
        ("not an address", PASSWORD),
        ("", ""),
        (ADA, ""),
        (ADA, &long),
        (ADA, &format!("{PASSWORD} ")),
        (ADA, &format!(" {PASSWORD}")),
        (ADA, &format!("{PASSWORD}\0")),
        (ADA, &PASSWORD.to_uppercase()),
        ("eve@example.com", "not the password"),
    ] {
        let answer = log_in(email, password);
        assert_eq!(body(&answer), body(&expected), "{email}");
        assert_eq!(answer.header("www-authenticate"), expected.header("www-authenticate"));
        assert_eq!(answer.headers.len(), expected.headers.len(), "{email}");
    }
    let right = json!({ "email": "eve@example.com", "password": PASSWORD });
    let disabled = app.post("/v1/auth/login", &right).expect_error(403, "account_disabled");
    assert_eq!(disabled.header("www-authenticate"), None);
}

#[test]
fn every_byte_of_a_password_counts() {
    let app = TestApp::start(&Home::new());
    let base = "p".repeat(72);
    let unicode = "\u{1f511}".repeat(64);
    let passwords = [
        format!("{base}X"),
        "before\0after".into(),
        unicode,
        "\u{1f511}".repeat(256),
        "Str\u{e4}nge cafe\u{301}".into(),
        " spaces around ".into(),
    ];
    for (number, password) in passwords.iter().enumerate() {
        let email = format!("user{number}@example.com");
        app.post("/v1/auth/register", &json!({ "email": email, "password": password })).expect(201);
        app.post("/v1/auth/login", &json!({ "email": email, "password": password })).expect(200);
        let mut shorter = password.clone();
        let last = shorter.pop().unwrap();
        let other = if last == 'Y' { 'Z' } else { 'Y' };
        let near = [shorter.clone(), format!("{shorter}{other}"), format!("{password}{last}")];
        for wrong in near.into_iter().chain([password.trim().to_owned(), password.replace('\0', "")]) {
            if wrong != *password {
                let answer = app.post("/v1/auth/login", &json!({ "email": email, "password": wrong }));
                answer.expect_error(401, "invalid_credentials");
            }
        }
    }
    let nul = json!({ "email": "user1@example.com", "password": "before\0AFTER" });
    app.post("/v1/auth/login", &nul).expect_error(401, "invalid_credentials");
}

#[test]
fn a_name_is_changed_removed_or_left_alone() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let patch = |request: &Value| send(&app, Method::PATCH, "/v1/users/me", &pair, request);
    assert_eq!(patch(&json!({ "name": "Ada" })).expect(200).json()["name"], "Ada");
    assert_eq!(patch(&json!({})).expect(200).json()["name"], "Ada");
    assert_eq!(fields(&patch(&json!({ "name": "" })).expect_error(422, "validation_failed")), ["name"]);
    assert_eq!(app.get_as("/v1/users/me", &pair.access).json()["name"], "Ada");
    assert_eq!(patch(&json!({ "name": null })).expect(200).json()["name"], Value::Null);
    assert_eq!(app.get_as("/v1/users/me", &pair.access).json()["name"], Value::Null);
}

#[test]
fn a_new_password_ends_every_other_session() {
    let app = TestApp::start(&Home::new());
    let (first, second) = (app.sign_up(ADA), app.log_in(ADA));
    let stranger = app.sign_up("eve@example.com");
    let change = |current: &str, new: &str| {
        let request = json!({ "current_password": current, "new_password": new });
        send(&app, Method::POST, "/v1/users/me/password", &first, &request)
    };
    let wrong = change("not the password", "another good one").expect_error(403, "invalid_credentials");
    assert_eq!(wrong.header("www-authenticate"), None);
    for unacceptable in ["short", "password", ADA] {
        let answer = change(PASSWORD, unacceptable).expect_error(422, "validation_failed");
        assert_eq!(fields(&answer), ["new_password"]);
    }
    // Nothing has changed so far.
    assert!(app.works(&second.access));
    app.log_in(ADA);
    change(PASSWORD, "another good one").expect(204);
    assert!(app.works(&first.access) && app.works(&stranger.access));
    assert!(!app.works(&second.access));
    app.refresh(&second.refresh).expect_refused("revoked");
    app.refresh(&first.refresh).expect(200);
    let old = json!({ "email": ADA, "password": PASSWORD });
    app.post("/v1/auth/login", &old).expect_error(401, "invalid_credentials");
    app.post("/v1/auth/login", &json!({ "email": ADA, "password": "another good one" })).expect(200);
}

#[test]
fn a_deleted_account_leaves_nothing_but_its_address() {
    let app = TestApp::start(&Home::new());
    let (first, second) = (app.sign_up(ADA), app.log_in(ADA));
    let delete = |password: &str| send(&app, Method::DELETE, "/v1/users/me", &first, &json!({ "password": password }));
    delete("not the password").expect_error(403, "invalid_credentials");
    assert!(app.works(&second.access));
    delete(PASSWORD).expect(204);
    for pair in [&first, &second] {
        assert!(!app.works(&pair.access));
        app.refresh(&pair.refresh).expect_refused("revoked");
    }
    let request = json!({ "email": ADA, "password": PASSWORD });
    app.post("/v1/auth/login", &request).expect_error(401, "invalid_credentials");
    let again = app.sign_up(ADA);
    assert!(app.works(&again.access) && !app.works(&first.access));
}

#[test]
fn sessions_are_listed_most_recently_used_first() {
    let app = TestApp::start(&Home::new());
    let first = app.sign_up(ADA);
    app.sign_up("eve@example.com");
    app.pass(Duration::from_secs(10));
    let request = json!({ "email": ADA, "password": PASSWORD, "device_name": "Phone" });
    let log_in = app.request(Method::POST, "/v1/auth/login").header("User-Agent", "Test/1.0").json(&request);
    let second = Answer::to(log_in).expect(200).pair();
    let listed = |pair: &Pair| {
        let answer = app.get_as("/v1/sessions", &pair.access).expect(200).json();
        answer["sessions"].as_array().unwrap().clone()
    };
    let sessions = listed(&first);
    let ids: Vec<&str> = sessions.iter().map(|session| session["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&second.session_id, &first.session_id]);
    assert_eq!((&sessions[0]["current"], &sessions[1]["current"]), (&json!(false), &json!(true)));
    let mut names: Vec<&String> = sessions[0].as_object().unwrap().keys().collect();
    names.sort_unstable();
    let members = [
        "created_at",
        "current",
        "device_name",
        "ends_at",
        "expires_at",
        "id",
        "ip_address",
        "last_used_at",
        "remember",
        "user_agent",
    ];
    assert_eq!(names, members);
    assert_eq!(sessions[0]["remember"], true);
    assert_eq!(sessions[0]["device_name"], "Phone");
    assert_eq!(sessions[0]["user_agent"], "Test/1.0");
    assert_eq!(sessions[0]["ip_address"], "127.0.0.1");
    assert_eq!(sessions[0]["created_at"], "2027-01-15T08:00:10Z");
    assert_eq!(sessions[1]["device_name"], Value::Null);
    app.pass(Duration::from_secs(10));
    let first = app.refresh(&first.refresh).expect(200).pair();
    let sessions = listed(&first);
    assert_eq!(sessions[0]["id"], first.session_id);
    assert_eq!(sessions[0]["last_used_at"], "2027-01-15T08:00:20Z");
    assert_eq!(sessions[0]["created_at"], "2027-01-15T08:00:00Z");
}

#[test]
fn only_ones_own_sessions_can_be_ended() {
    let app = TestApp::start(&Home::new());
    let (first, second, eve) = (app.sign_up(ADA), app.log_in(ADA), app.sign_up("eve@example.com"));
    let end = |pair: &Pair, id: &str| send(&app, Method::DELETE, &format!("/v1/sessions/{id}"), pair, &json!({}));
    for id in [eve.session_id.as_str(), "01890a5d-ac96-774b-bcce-b302099a8057", "x", "me", "%00"] {
        end(&first, id).expect_error(404, "not_found");
    }
    assert!(app.works(&eve.access));
    end(&first, &second.session_id).expect(204);
    assert!(!app.works(&second.access) && app.works(&first.access));
    app.refresh(&second.refresh).expect_refused("revoked");
    end(&first, &second.session_id).expect_error(404, "not_found");
    end(&first, &first.session_id).expect(204);
    assert!(!app.works(&first.access) && app.works(&eve.access));
}

#[test]
fn all_sessions_or_all_others_can_be_ended() {
    let app = TestApp::start(&Home::new());
    let (first, second, third) = (app.sign_up(ADA), app.log_in(ADA), app.log_in(ADA));
    let eve = app.sign_up("eve@example.com");
    let end = |query: &str| send(&app, Method::DELETE, &format!("/v1/sessions{query}"), &first, &json!({}));
    for query in ["", "?scope=", "?scope=mine", "?scope=ALL", "?Scope=all", "?scope=all&scope=others"] {
        end(query).expect_error(400, "invalid_request");
    }
    assert!(app.works(&second.access));
    assert_eq!(end("?scope=others").expect(200).json(), json!({ "revoked": 2 }));
    assert!(app.works(&first.access) && !app.works(&second.access) && !app.works(&third.access));
    assert_eq!(end("?scope=others").expect(200).json(), json!({ "revoked": 0 }));
    let fourth = app.log_in(ADA);
    assert_eq!(end("?scope=all").expect(200).json(), json!({ "revoked": 2 }));
    assert!(!app.works(&first.access) && !app.works(&fourth.access) && app.works(&eve.access));
}

#[test]
fn registration_can_be_closed() {
    let home = Home::new();
    let pair = TestApp::start(&home).sign_up(ADA);
    let app = TestApp::start_with(config(&home).with("registration.enabled", "false"), clock());
    for request in [json!({ "email": "eve@example.com", "password": PASSWORD }), json!({})] {
        app.post("/v1/auth/register", &request).expect_error(404, "not_found");
    }
    app.log_in(ADA);
    assert!(app.works(&pair.access));
}

#[test]
fn a_disabled_user_is_gone_at_once_and_back_when_enabled() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up(ADA);
    in_database(&home, "UPDATE users SET disabled_at = 1");
    assert!(!app.works(&pair.access));
    app.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })).expect_error(403, "account_disabled");
    app.post("/v1/auth/login", &json!({ "email": ADA, "password": "wrong" })).expect_error(401, "invalid_credentials");
    in_database(&home, "UPDATE users SET disabled_at = NULL");
    let again = app.log_in(ADA);
    assert!(app.works(&again.access));
}

/// The guard that decides from memory alone must have learnt it.
#[test]
fn the_end_of_a_session_is_felt_by_every_process_within_a_second() {
    let home = Home::new();
    let (here, there) = (TestApp::start(&home), Foreign::start(&home));
    let (pair, other) = (here.sign_up(ADA), here.log_in(ADA));
    there.get("/principal", Some(&pair.access)).expect(200);
    here.post("/v1/auth/logout", &json!({ "refresh_token": pair.refresh })).expect(204);
    let began = std::time::Instant::now();
    let answer = loop {
        let asked = began.elapsed();
        let answer = there.get("/principal", Some(&pair.access));
        match answer.status {
            200 => assert!(asked <= Duration::from_secs(1), "it was still believed after {asked:?}"),
            // It has learnt nothing for a second, as on a busy machine.
            503 => assert!(asked < Duration::from_secs(60), "it learns nothing"),
            _ => break answer,
        }
    };
    answer.expect_error(401, "invalid_token");
    becomes(&there, &other, 200).expect(200);
}

/// What is in memory is believed for a second and no longer.
#[test]
fn a_guard_that_cannot_learn_of_revocations_lets_nobody_in() {
    let home = Home::new();
    let (app, foreign) = (TestApp::start(&home), Foreign::start(&home));
    let pair = app.sign_up(ADA);
    in_database(&home, "ALTER TABLE sessions RENAME TO lost");
    let answer = becomes(&foreign, &pair, 503).expect_error(503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    in_database(&home, "ALTER TABLE lost RENAME TO sessions");
    becomes(&foreign, &pair, 200).expect(200);
}

/// The answer to this access token, as soon as it has that status.
#[track_caller]
fn becomes(app: &Foreign, pair: &Pair, status: u16) -> Answer {
    let began = std::time::Instant::now();
    loop {
        let answer = app.get("/principal", Some(&pair.access));
        if answer.status == status {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it stays {}", answer.status);
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Admin;

impl RoleName for Admin {
    const NAME: &'static str = "admin";
}

async fn principal(caller: Principal) -> impl Responder {
    HttpResponse::Ok().json(json!({
        "user": caller.user_id().to_string(),
        "session": caller.session_id().to_string(),
        "roles": caller.roles(),
        "admin": caller.has_role("admin"),
    }))
}

async fn current_user(caller: CurrentUser) -> impl Responder {
    HttpResponse::Ok().json(json!({ "email": caller.email(), "name": caller.name() }))
}

async fn admin_only(admin: Role<Admin>) -> impl Responder {
    admin.principal().user_id().to_string()
}

/// Another application, with our routes and guards and its own handlers. Stops when dropped.
struct Foreign {
    url: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Foreign {
    fn start(home: &Home) -> Self {
        Self::start_with(config(home))
    }

    fn start_with(config: RawConfig) -> Self {
        let config = config.resolve().unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (bound, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let countersign = Countersign::open_with_clock(&config, clock()).unwrap();
                let server = HttpServer::new(move || {
                    let countersign = countersign.clone();
                    actix_web::App::new()
                        .configure(move |config| countersign.configure(config))
                        .route("/", web::get().to(async || "theirs"))
                        .route("/docs", web::get().to(async || "theirs"))
                        .route("/principal", web::get().to(principal))
                        .route("/current", web::get().to(current_user))
                        .route("/admin", web::get().to(admin_only))
                        .route("/admin", web::post().to(admin_only))
                })
                .workers(1)
                .disable_signals()
                .bind(("127.0.0.1", 0))
                .unwrap();
                bound.send(server.addrs()[0]).unwrap();
                let running = server.run();
                let handle = running.handle();
                actix_web::rt::spawn(async move {
                    let _ = stopped.await;
                    handle.stop(false).await;
                });
                running.await.unwrap();
            });
        });
        let url = format!("http://{}", address.recv().unwrap());
        Self { url, stop: Some(stop), thread: Some(thread) }
    }

    fn get(&self, path: &str, access_token: Option<&str>) -> Answer {
        let request = Client::new().get(format!("{}{path}", self.url));
        Answer::to(match access_token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn guards_work_in_the_handlers_of_another_application() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let foreign = Foreign::start(&home);
    let pair = app.sign_up(ADA);
    let shown = foreign.get("/principal", Some(&pair.access)).expect(200).json();
    assert_eq!(shown["session"], pair.session_id);
    assert_eq!((&shown["roles"], &shown["admin"]), (&json!([]), &json!(false)));
    assert_eq!(foreign.get("/current", Some(&pair.access)).expect(200).json()["email"], ADA);
    for path in ["/principal", "/current", "/admin"] {
        let missing = foreign.get(path, None).expect_error(401, "missing_token");
        assert_eq!(missing.header("www-authenticate"), Some("Bearer realm=\"countersign\""));
        let refused = foreign.get(path, Some("junk")).expect_error(401, "invalid_token");
        let challenge = "Bearer realm=\"countersign\", error=\"invalid_token\"";
        assert_eq!(refused.header("www-authenticate"), Some(challenge));
        foreign.get(path, Some(&pair.refresh)).expect_error(401, "invalid_token");
    }
    // Our own routes are there too, and theirs are not under our prefixes.
    foreign.get("/v1/users/me", Some(&pair.access)).expect(200);
    foreign.get("/v1/nothing", Some(&pair.access)).expect_error(404, "not_found");
    assert!(foreign.get("/docs", None).expect(200).text.contains("<html"));
    // The first page is theirs; all of the page that describes ours is, where it is switched off.
    assert_eq!(foreign.get("/", None).expect(200).text, "theirs");
    let undescribed = Foreign::start_with(config(&home).with("docs.enabled", "false"));
    for path in ["/", "/docs"] {
        assert_eq!(undescribed.get(path, None).expect(200).text, "theirs", "{path}");
    }
}

/// The names that the server is known by are its own in another application too.
#[test]
fn guards_in_another_application_know_the_host_by_all_its_names() {
    let home = Home::new();
    let settings =
        config(&home).with("server.trusted_proxies", "127.0.0.1").with("server.public_urls", "https://x.example");
    let foreign = Foreign::start_with(settings);
    let app = TestApp::start(&home);
    app.sign_up(ADA);
    in_database(&home, r#"UPDATE users SET roles = '["admin"]'"#);
    let cookie = format!("accessToken={}", app.log_in(ADA).access);
    for (forwarded, origin, status) in [
        ("app.example", "https://app.example", 200),
        ("app.example", "https://evil.example", 403),
        ("", "https://app.example", 403),
        ("", "https://x.example", 200),
        ("", "http://issuer.test", 200),
        ("", foreign.url.as_str(), 200),
    ] {
        let request = Client::new().post(format!("{}/admin", foreign.url)).header("Cookie", &cookie);
        let request = request.header("X-Forwarded-Host", forwarded).header("Origin", origin);
        assert_eq!(Answer::to(request).status, status, "{forwarded} {origin}");
    }
}

/// What a telephone calls itself is nothing its owner could be asked to change.
#[test]
fn no_name_of_a_device_is_a_reason_to_refuse_a_log_in() {
    let app = TestApp::start(&Home::new());
    let hundred = "d".repeat(100);
    let credentials = |device: &str| json!({ "email": ADA, "password": PASSWORD, "device_name": device });
    app.post("/v1/auth/register", &credentials("a\nb")).expect(201);
    for (device, shown) in [
        ("Ada's telephone", json!("Ada's telephone")),
        ("d".repeat(101).as_str(), json!(hundred)),
        ("\u{1f4f1}".repeat(5_000).as_str(), json!("\u{1f4f1}".repeat(100))),
        ("", Value::Null),
        (" \t\u{a0} ", Value::Null),
        ("\u{202e}", Value::Null),
        ("Ada's\r\ntelephone\0", json!("Ada'stelephone")),
        ("\u{202e}a\u{2066}b\u{200f}", json!("ab")),
        ("  Ada  ", json!("Ada")),
    ] {
        let pair = app.post("/v1/auth/login", &credentials(device)).expect(200).pair();
        let sessions = app.get_as("/v1/sessions", &pair.access).expect(200).json();
        let own = sessions["sessions"].as_array().unwrap().iter().find(|session| session["current"] == true).unwrap();
        assert_eq!(own["device_name"], shown, "{device:?}");
    }
}

/// RFC 9562 section 4: hexadecimal digits of either case.
#[test]
fn an_id_in_a_path_is_taken_in_either_case_and_in_no_other_form() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let end = |id: &str| send(&app, Method::DELETE, &format!("/v1/sessions/{id}"), &pair, &json!({}));
    let mixed = |id: &str| format!("{}{}", id[..9].to_uppercase(), &id[9..]);
    let changes: [fn(&str) -> String; 3] = [str::to_uppercase, str::to_lowercase, mixed];
    for change in changes {
        let other = app.log_in(ADA);
        end(&change(&other.session_id)).expect(204);
        assert!(!app.works(&other.access));
    }
    let other = app.log_in(ADA);
    let id = other.session_id.as_str();
    for form in
        [id.replace('-', ""), format!("%7B{id}%7D"), format!("urn:uuid:{id}"), format!("{id}%20"), id[..35].to_owned()]
    {
        end(&form).expect_error(404, "not_found");
    }
    assert!(app.works(&other.access));
}

#[test]
fn a_role_reaches_the_token_at_the_next_log_in() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let foreign = Foreign::start(&home);
    let before = app.sign_up(ADA);
    let refused = foreign.get("/admin", Some(&before.access)).expect_error(403, "insufficient_role");
    let challenge = refused.header("www-authenticate").unwrap();
    assert_eq!(challenge, "Bearer realm=\"countersign\", error=\"insufficient_scope\"");
    for near_miss in [r#"["Admin"]"#, r#"["administrator"]"#, r#"["user"]"#] {
        in_database(&home, &format!("UPDATE users SET roles = '{near_miss}'"));
        foreign.get("/admin", Some(&app.log_in(ADA).access)).expect_error(403, "insufficient_role");
    }
    in_database(&home, r#"UPDATE users SET roles = '["user","admin"]'"#);
    foreign.get("/admin", Some(&before.access)).expect_error(403, "insufficient_role");
    let after = app.log_in(ADA);
    foreign.get("/admin", Some(&after.access)).expect(200);
    assert_eq!(foreign.get("/principal", Some(&after.access)).json()["roles"], json!(["user", "admin"]));
    assert_eq!(app.get_as("/v1/users/me", &after.access).json()["roles"], json!(["user", "admin"]));
}
