//! `session`: who is listed, and who is meant.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use support::process::PASSWORD;

#[test]
fn live_sessions_are_listed_with_whose_they_are() {
    let home = Home::new();
    let server = home.serve(&[]);
    let first = server.register(ADA);
    assert!(json(&home, &["user", "show", ADA])["last_login_at"].is_string(), "registering is the first log-in");
    let body = json!({ "email": ADA, "password": PASSWORD, "device_name": "Ada's telephone" });
    let second = server.post("/v1/auth/login", &body).body;
    let third = server.register(BOB);
    let over = log_in(&server, BOB, PASSWORD).1;
    server.post("/v1/auth/logout", &json!({ "refresh_token": over["refresh_token"] }));
    log_in(&server, BOB, PASSWORD);
    in_database(
        &home,
        "UPDATE sessions SET idle_expires_at = 1 WHERE id = (SELECT id FROM sessions ORDER BY id DESC LIMIT 1)",
    );

    let ids = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|session| text(session, "id").to_owned()).collect()
    };
    let all = json(&home, &["session", "list"]);
    assert_eq!(ids(&all), [&first, &second, &third].map(|pair| text(pair, "session_id").to_owned()));
    let expected = [
        "created_at",
        "current",
        "device_name",
        "email",
        "ends_at",
        "expires_at",
        "id",
        "ip_address",
        "last_used_at",
        "remember",
        "user_agent",
        "user_id",
    ];
    assert_eq!(members(&all[1]), expected);
    assert_eq!((&all[1]["device_name"], &all[1]["email"]), (&json!("Ada's telephone"), &json!(ADA)));
    assert_eq!((&all[1]["user_id"], &all[1]["ip_address"]), (&second["user"]["id"], &json!("127.0.0.1")));
    assert_eq!(all[1]["current"], json!(false));

    let of_ada = json(&home, &["session", "list", "ADA@example.com"]);
    assert_eq!(of_ada.as_array().unwrap()[..], all.as_array().unwrap()[..2]);
    // The same as Ada sees it, but for whose it is.
    let (_, hers) = get(&server, "/v1/sessions", text(&first, "access_token"));
    let mut mine = of_ada[1].clone();
    mine.as_object_mut().unwrap().retain(|name, _| name != "email" && name != "user_id");
    assert!(hers["sessions"].as_array().unwrap().contains(&mine), "{hers}");
    let table = run(&home, &["session", "list", BOB]).done();
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains(text(&third, "session_id")), "{table}");
    assert_eq!(json(&home, &["user", "show", BOB])["live_sessions"], 1);
}

/// What a stolen password has opened goes; who was signed in before stays.
#[test]
fn only_what_was_opened_since_is_ended_if_that_is_asked_for() {
    let home = Home::new();
    let server = home.serve(&[]);
    let (before, after) = (server.register(ADA), server.register(BOB));
    let (_, before) = refresh(&server, &before);
    in_database(
        &home,
        &format!(
            "UPDATE sessions SET created_at = created_at - 10800000000
             WHERE user_id = (SELECT id FROM users WHERE email = '{ADA}')"
        ),
    );
    assert_eq!(run(&home, &["session", "revoke", "--all", "--since", "2h"]).done(), "1 session has ended\n");
    assert_eq!((refresh(&server, &before).0, refresh(&server, &after).0), (200, 400));

    in_database(&home, "UPDATE sessions SET created_at = 1795426200000000");
    let told = run(&home, &["session", "revoke", "--all", "--since", "2026-11-23T09:30:01Z"]).done();
    assert_eq!(told, "0 sessions have ended\n");
    let told = run(&home, &["session", "revoke", "--all", "--since", "2026-11-23T10:30:00+01:00"]).done();
    assert_eq!(told, "1 session has ended\n", "then or later");
    let told = run(&home, &["session", "revoke", "--all", "--since", "2999-01-01T00:00:00Z"]).refused();
    assert!(told.contains("still to come"), "{told}");
}

#[test]
fn more_sessions_than_a_page_are_listed_and_ended_to_the_last() {
    let home = empty();
    create(&home, ADA);
    open_sessions(&home, 1_203);
    let list = json(&home, &["session", "list"]);
    let ids: BTreeSet<&str> = list.as_array().unwrap().iter().map(|session| text(session, "id")).collect();
    assert_eq!((ids.len(), list.as_array().unwrap().len()), (1_203, 1_203));
    assert_eq!(run(&home, &["session", "list", ADA]).done().lines().count(), 1_204);
    assert_eq!(run(&home, &["session", "revoke", "--all"]).done(), "1203 sessions have ended\n");
    assert_eq!(run(&home, &["session", "list"]).done(), "there are no live sessions\n");
    assert_eq!(json(&home, &["session", "list"]), json!([]));
}

/// None of them in one transaction, and all of them.
#[test]
fn very_many_sessions_of_a_user_end_to_the_last_by_whatever_command() {
    let cases: [(&[&str], &str); 4] = [
        (&["session", "revoke", "--user", ADA], "1203 sessions of ada@example.com have ended\n"),
        (&["user", "disable", ADA], "ada@example.com is disabled; 1203 sessions have ended\n"),
        (&["user", "set-password", ADA], "ada@example.com has a new password; 1203 sessions have ended\n"),
        (&["user", "delete", ADA, "--yes"], "ada@example.com is deleted; 1203 sessions have ended\n"),
    ];
    for (command, told) in cases {
        let home = empty();
        create(&home, ADA);
        open_sessions(&home, 1_203);
        in_database(&home, "UPDATE sessions SET user_agent = 'agent'");
        assert_eq!(run_with(&home, command, PASSWORD).done(), told);
        assert_eq!(number_in_database(&home, "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL"), 1_203);
        assert_eq!(number_in_database(&home, "SELECT count(*) FROM session_ends"), 0);
        let gone = command[1] == "delete";
        let spoken = number_in_database(&home, "SELECT count(*) FROM sessions WHERE user_agent IS NOT NULL");
        assert_eq!(spoken, if gone { 0 } else { 1_203 });
        let kept = number_in_database(&home, "SELECT count(*) FROM events WHERE kind = 'revoked'");
        assert_eq!(kept, if gone { 0 } else { 1_203 });
    }
}

/// Of a user who has very many sessions, each hands out the new role.
#[test]
fn a_role_is_copied_into_every_session_however_many_there_are() {
    let home = empty();
    create(&home, ADA);
    open_sessions(&home, 1_203);
    let with = || number_in_database(&home, "SELECT count(*) FROM sessions WHERE roles = '[\"admin\"]'");
    run(&home, &["user", "grant", ADA, "admin"]).done();
    assert_eq!(with(), 1_203);
    // What was cut off before its end is done by doing it again.
    in_database(&home, "UPDATE sessions SET roles = '[]' WHERE id > unhex(printf('%032x', 700))");
    run(&home, &["user", "grant", ADA, "admin"]).done();
    assert_eq!(with(), 1_203);
    run(&home, &["user", "revoke-role", ADA, "admin"]).done();
    assert_eq!(with(), 0);
}
