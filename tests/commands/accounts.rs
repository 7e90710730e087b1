//! `user`, while no server runs.

use serde_json::json;

use super::*;
use support::process::PASSWORD;

const ACCOUNT: [&str; 10] =
    ["claims", "created_at", "disabled_at", "email", "email_verified", "id", "last_login_at", "mfa", "name", "roles"];

/// LOG-09: only accounts that were made on purpose can log in.
#[test]
fn a_fresh_install_has_no_account() {
    let home = empty();
    assert_eq!(json(&home, &["user", "list"]), json!([]));
    assert_eq!(run(&home, &["user", "list"]).done(), "there are no accounts\n");
    let home = Home::new();
    let server = home.serve(&[]);
    assert_eq!(json(&home, &["user", "list"]), json!([]));
    for name in ["admin@example.com", "admin", "root", "countersign"] {
        for password in ["", "admin", "password", "countersign", "changeme"] {
            assert_eq!(log_in(&server, name, password).0, 401);
        }
    }
}

#[test]
fn an_account_is_made_listed_and_shown() {
    let home = empty();
    let arguments =
        ["user", "create", "Ada@Example.com", "--name", "Ada L", "--role", "admin", "--role", "orders:read"];
    let told = run_with(&home, &[&arguments[..], &["--role", "admin"]].concat(), &format!("{PASSWORD}\n")).done();
    assert!(told.starts_with("Ada@Example.com has an account now ("), "{told}");
    create(&home, BOB);

    let list = json(&home, &["user", "list"]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    let ada = &list[0];
    assert_eq!(members(ada), ACCOUNT);
    assert_eq!((&ada["email"], &ada["name"]), (&json!("Ada@Example.com"), &json!("Ada L")));
    assert_eq!((&ada["roles"], &ada["email_verified"]), (&json!(["admin", "orders:read"]), &json!(false)));
    assert_eq!((&ada["disabled_at"], &ada["last_login_at"]), (&json!(null), &json!(null)));
    assert!(told.contains(text(ada, "id")), "{told}");
    assert_eq!(text(ada, "created_at").len(), "2026-11-24T06:30:09Z".len());
    assert_eq!((&list[1]["email"], &list[1]["name"]), (&json!(BOB), &json!(null)));

    let mut shown = json(&home, &["user", "show", "ADA@example.com"]);
    assert_eq!(kinds(&shown["recent_events"]), ["registered"]);
    let event = &shown["recent_events"][0];
    assert_eq!(members(event), ["at", "detail", "device_name", "id", "ip_address", "kind"]);
    assert_eq!((&event["detail"], &event["ip_address"]), (&json!("by_operator"), &json!(null)));
    let shown = shown.as_object_mut().unwrap();
    shown.remove("recent_events");
    assert_eq!(shown.remove("live_sessions"), Some(json!(0)));
    assert_eq!(shown.remove("locks"), Some(json!([])));
    assert_eq!(&Value::from(shown.clone()), ada);

    let table = run(&home, &["user", "list"]).done();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    let column = lines[0].find("STATE").unwrap();
    assert!(lines[1..].iter().all(|line| line[column..].starts_with("enabled ")), "{table}");
    let page = run(&home, &["user", "show", BOB]).done();
    for part in [BOB, "roles        -", "sessions     0 live", "registered", "by_operator"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
}

/// A new account is checked like a registration and every mistake is told in one line.
#[test]
fn a_new_account_is_checked_like_a_registration() {
    let home = empty();
    let server = home.serve(&[]);
    let answer =
        server.post("/v1/auth/register", &json!({ "email": "nobody", "password": "short", "name": "two\nlines" })).body;
    let expected: Vec<String> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| format!("{} {}", text(error, "field"), text(error, "message")))
        .collect();
    let arguments = ["user", "create", "nobody", "--name", "two\nlines", "--role", "two words"];
    let told = run_with(&home, &arguments, "short").refused();
    assert_eq!(expected.len(), 3);
    for mistake in expected.iter().map(String::as_str).chain(["role must be 1 to 64 letters"]) {
        assert!(told.contains(mistake), "{mistake} is not in {told}");
    }
    for (common, why) in [("password", "is one of the most common"), (ADA, "is the e-mail address, or a part of it")] {
        let told = run_with(&home, &["user", "create", ADA], common).refused();
        assert!(told.contains(&format!("password {why}")), "{told}");
    }
    assert_eq!(json(&home, &["user", "list"]), json!([]));
}

#[test]
fn an_address_has_one_account_however_it_is_spelt() {
    let home = empty();
    create(&home, ADA);
    let told = run_with(&home, &["user", "create", "ADA@example.COM"], PASSWORD).refused();
    assert!(told.contains("has an account already"), "{told}");
    assert_eq!(json(&home, &["user", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn an_address_that_nobody_has_is_refused_by_every_command() {
    let home = empty();
    create(&home, ADA);
    let before = json(&home, &["user", "list"]);
    for arguments in [
        &["user", "show", BOB][..],
        &["user", "show", BOB, "--json"],
        &["user", "disable", BOB],
        &["user", "enable", BOB],
        &["user", "set-password", BOB],
        &["user", "grant", BOB, "admin"],
        &["user", "revoke-role", BOB, "admin"],
        &["user", "set-email", BOB, "eve@example.com"],
        &["user", "unlock", BOB],
        &["user", "delete", BOB, "--yes"],
        &["session", "list", BOB],
        &["session", "revoke", "--user", BOB],
    ] {
        let told = run_with(&home, arguments, PASSWORD).refused();
        assert!(told.contains(BOB) && told.contains("user list"), "{arguments:?}: {told}");
    }
    assert_eq!(json(&home, &["user", "list"]), before);
}

#[test]
fn what_is_so_already_is_said_and_done_without_a_second_event() {
    let home = empty();
    create(&home, ADA);
    for (arguments, first, second) in [
        (&["user", "enable", ADA][..], "is enabled already", "is enabled already"),
        (&["user", "disable", ADA], "is disabled; 0 sessions", "is disabled already; 0 sessions"),
        (&["user", "grant", ADA, "ops"], "has the role ops; access tokens", "has the role ops already"),
    ] {
        for expected in [first, second] {
            let told = run(&home, arguments).done();
            assert!(told.contains(expected), "{expected} is not in {told}");
        }
    }
    let disabled_at = json(&home, &["user", "show", ADA])["disabled_at"].clone();
    assert!(disabled_at.is_string());
    assert_eq!(json(&home, &["user", "list"])[0]["disabled_at"], disabled_at);
    assert!(run(&home, &["user", "list"]).done().contains("disabled "));
    assert!(run(&home, &["user", "show", ADA]).done().contains("disabled since "));
    let shown = json(&home, &["user", "show", ADA]);
    assert_eq!(kinds(&shown["recent_events"]), ["roles_changed", "account_disabled", "registered"]);
    assert_eq!(shown["recent_events"][0]["detail"], "by_operator: granted ops");
}

#[test]
fn a_role_that_is_not_there_cannot_be_taken_away() {
    let home = empty();
    run_with(&home, &["user", "create", ADA, "--role", "admin", "--role", "ops"], PASSWORD).done();
    let told = run(&home, &["user", "revoke-role", ADA, "admn"]).refused();
    assert!(told.contains("admn") && told.contains("admin, ops"), "{told}");
    run(&home, &["user", "revoke-role", ADA, "admin"]).done();
    assert_eq!(json(&home, &["user", "show", ADA])["roles"], json!(["ops"]));
}

#[test]
fn a_role_that_is_no_word_is_not_granted() {
    let home = empty();
    create(&home, ADA);
    for role in ["", "two words", "a,b", "-x", "ad\u{1b}min", &"r".repeat(65)] {
        let told = run(&home, &["user", "grant", ADA, "--", role]).refused();
        assert!(told.contains("role must be 1 to 64 letters"), "{told}");
    }
    assert_eq!(json(&home, &["user", "show", ADA])["roles"], json!([]));
}

#[test]
fn an_account_has_at_most_as_many_roles_as_a_cookie_holds() {
    let home = empty();
    let names: Vec<String> = (0..33).map(|number| format!("{:r<64}", format!("{number}-"))).collect();
    let arguments = |count: usize| -> Vec<&str> {
        let roles = names.iter().take(count).flat_map(|name| ["--role", name.as_str()]);
        ["user", "create", ADA].into_iter().chain(roles).collect()
    };
    let told = run_with(&home, &arguments(33), PASSWORD).refused();
    assert!(told.contains("role must be one of at most 32"), "{told}");
    run_with(&home, &arguments(32), PASSWORD).done();
    let told = run(&home, &["user", "grant", ADA, &names[32]]).refused();
    assert!(told.contains("role must be one of at most 32"), "{told}");

    let server = home.serve(&[]);
    let (_, pair) = log_in(&server, ADA, PASSWORD);
    let token = text(&pair, "access_token");
    assert_eq!(claims(token)["roles"].as_array().unwrap().len(), 32);
    assert!(token.len() < 4_000, "{}", token.len());
}

#[test]
fn deleting_asks_for_yes() {
    let home = empty();
    create(&home, ADA);
    let told = run(&home, &["user", "delete", ADA]).refused();
    assert!(told.contains("--yes"), "{told}");
    assert_eq!(json(&home, &["user", "list"]).as_array().unwrap().len(), 1);
    assert!(run(&home, &["user", "delete", ADA, "--yes"]).done().contains("is deleted"));
    assert_eq!(json(&home, &["user", "list"]), json!([]));
    create(&home, ADA);
}

/// From now on sessions refuse a change of that column, and of no other.
fn refuse_changes(home: &Home, column: &str) {
    let trigger = format!("CREATE TRIGGER refuse BEFORE UPDATE OF {column} ON sessions");
    in_database(
        home,
        &if home.database().is_embedded() {
            format!("DROP TRIGGER IF EXISTS refuse; {trigger} BEGIN SELECT RAISE(ABORT, 'not now'); END")
        } else {
            format!(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
                 DROP TRIGGER IF EXISTS refuse ON sessions; {trigger} FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        },
    );
}

/// Whatever fails midway has not happened: here a session refuses to end.
#[test]
fn a_command_that_fails_midway_changes_nothing() {
    let home = Home::new();
    let server = home.serve(&[]);
    let pair = server.register(ADA);
    refuse_changes(&home, "revoked_at");
    let before = json(&home, &["user", "show", ADA]);
    for arguments in [
        &["user", "disable", ADA][..],
        &["user", "set-password", ADA],
        &["user", "delete", ADA, "--yes"],
        &["session", "revoke", text(&pair, "session_id")],
        &["session", "revoke", "--user", ADA],
        &["session", "revoke", "--all"],
    ] {
        let told = run_with(&home, arguments, "another fine password").refused();
        assert!(told.contains("not now"), "{arguments:?}: {told}");
        assert_eq!(json(&home, &["user", "show", ADA]), before, "{arguments:?}");
    }
    refuse_changes(&home, "roles");
    assert!(run(&home, &["user", "grant", ADA, "admin"]).refused().contains("not now"));
    assert_eq!(json(&home, &["user", "show", ADA]), before);

    assert_eq!(get(&server, "/v1/users/me", text(&pair, "access_token")).0, 200);
    assert_eq!(refresh(&server, &pair).0, 200);
    assert_eq!(log_in(&server, ADA, PASSWORD).0, 200);
}
