//! Accounts that wrong passwords have locked: shown, and opened again.

use serde_json::json;

use super::*;
use support::process::PASSWORD;

const WRONG: &str = "a wrong password";

/// Wrong passwords of Ada's until there is nothing but 429.
#[track_caller]
fn lock(server: &Server) {
    for _ in 0..10 {
        assert_eq!(log_in(server, ADA, WRONG).0, 401);
    }
    assert_eq!(log_in(server, ADA, PASSWORD).0, 429);
}

#[test]
fn a_locked_account_is_shown_with_from_where_and_until_when() {
    let home = Home::new();
    let server = home.serve(&[]);
    create(&home, ADA);
    assert_eq!(json(&home, &["user", "show", ADA])["locks"], json!([]));
    assert!(run(&home, &["user", "show", ADA]).done().contains("locked       no\n"));
    for _ in 0..9 {
        assert_eq!(log_in(&server, ADA, WRONG).0, 401);
    }
    assert_eq!(json(&home, &["user", "show", ADA])["locks"], json!([]), "one is left");
    assert_eq!(log_in(&server, ADA, WRONG).0, 401);
    let shown = json(&home, &["user", "show", ADA]);
    let locks = shown["locks"].as_array().unwrap();
    assert_eq!(locks.len(), 1, "{shown}");
    assert_eq!(members(&locks[0]), ["ip_address", "until"]);
    assert_eq!(text(&locks[0], "ip_address"), "127.0.0.1");
    assert!(text(&locks[0], "until") > text(&shown["recent_events"][0], "at"), "{shown}");
    let page = run(&home, &["user", "show", ADA]).done();
    assert!(page.contains("locked       from 127.0.0.1, until 20"), "{page}");

    in_database(&home, "UPDATE attempts SET count = 100 WHERE user_id IS NOT NULL AND ip_address IS NULL");
    let shown = json(&home, &["user", "show", ADA]);
    assert_eq!(shown["locks"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(shown["locks"][0]["ip_address"], json!(null));
    let page = run(&home, &["user", "show", ADA]).done();
    assert!(page.contains("locked       from everywhere but where it is signed in, until 20"), "{page}");
    // What is over locks nothing.
    in_database(&home, "UPDATE attempts SET window_ends_at = 1");
    assert_eq!(json(&home, &["user", "show", ADA])["locks"], json!([]));
}

#[test]
fn an_operator_opens_a_locked_account_again() {
    let home = Home::new();
    let server = home.serve(&[]);
    create(&home, ADA);
    create(&home, BOB);
    lock(&server);
    for _ in 0..10 {
        assert_eq!(log_in(&server, BOB, WRONG).0, 401);
    }
    in_database(&home, "UPDATE attempts SET count = 100 WHERE user_id IS NOT NULL AND ip_address IS NULL");
    assert!(run(&home, &["user", "unlock", "ADA@example.com"]).done().contains("are forgotten"));
    let shown = json(&home, &["user", "show", ADA]);
    assert_eq!(shown["locks"], json!([]));
    assert_eq!(
        (kinds(&shown["recent_events"])[0], &shown["recent_events"][0]["detail"]),
        ("account_unlocked", &json!("by_operator"))
    );
    assert_eq!(log_in(&server, ADA, PASSWORD).0, 200);
    assert_eq!(log_in(&server, BOB, PASSWORD).0, 429, "another account");
    let events = json(&home, &["user", "show", ADA])["recent_events"].clone();
    assert!(run(&home, &["user", "unlock", ADA]).done().contains("nothing was counted"));
    assert_eq!(json(&home, &["user", "show", ADA])["recent_events"], events, "nothing has happened");

    let new = "an excellent password";
    lock(&server);
    run_with(&home, &["user", "set-password", ADA], new).done();
    assert_eq!(log_in(&server, ADA, new).0, 200);
    assert_eq!(json(&home, &["user", "show", ADA])["locks"], json!([]));
}

/// Digests, of addresses without an account; with it goes what there is of an account.
#[test]
fn no_address_of_strangers_is_kept_and_none_beyond_an_account() {
    let home = Home::new();
    let server = home.serve(&[]);
    create(&home, ADA);
    assert_eq!(log_in(&server, BOB, WRONG).0, 401);
    let known = "SELECT count(*) FROM attempts WHERE user_id IS NOT NULL OR ip_address IS NOT NULL";
    assert_eq!(number_in_database(&home, known), 0);
    assert_eq!(log_in(&server, ADA, WRONG).0, 401);
    assert_eq!(number_in_database(&home, known), 2);
    run(&home, &["user", "delete", ADA, "--yes"]).done();
    assert_eq!(number_in_database(&home, known), 0);
}
