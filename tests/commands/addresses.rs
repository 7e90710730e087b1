//! Accounts by their addresses and ids: however they are spelt, searched for, changed, and kept by earlier versions.

use serde_json::json;

use super::*;
use support::process::PASSWORD;

/// Undoes what this version does to addresses, as it was when they were compared without case and nothing else.
fn as_earlier_versions(home: &Home) {
    // The same for both databases.
    in_database(home, include_str!("../../migrations/sqlite/2026-11-26-000002_addresses/down.sql"));
    in_database(home, "DELETE FROM __diesel_schema_migrations WHERE version = '20261126000002'");
}

/// An account as an earlier version made it, with the password of the one that is there already. `id`: two hexadecimal
/// digits; a greater one is younger.
fn insert(home: &Home, id: &str, email: &str) {
    let (key, id) = (email.to_lowercase(), id.repeat(16));
    in_database(
        home,
        &format!(
            "INSERT INTO users (id, email, email_key, password_hash, roles, email_verified, created_at, updated_at)
             SELECT unhex('{id}'), '{email}', '{key}', password_hash, '[]', 1 = 0, 1, 1 FROM users WHERE email = '{BOB}'"
        ),
    );
}

#[test]
fn what_earlier_versions_stored_is_found_by_every_spelling() {
    let home = empty();
    create(&home, BOB);
    as_earlier_versions(&home);
    let accounts = [
        ("01", "Ada@Example.com", "ada@EXAMPLE.com"),
        ("02", "zoe\u{308}@example.com", "zo\u{eb}@example.com"),
        ("03", "ada@b\u{fc}cher.example", "ada@xn--bcher-kva.example"),
        ("04", "grace@XN--bcher-kva.example", "grace@BU\u{308}cher.example"),
        ("05", "\u{39f}\u{394}\u{39f}\u{3a3}@example.com", "\u{3bf}\u{3b4}\u{3bf}\u{3c3}@example.com"),
        ("06", "\u{130}brahim@example.com", "I\u{307}brahim@example.com"),
    ];
    for (id, email, _) in accounts {
        insert(&home, id, email);
    }
    assert!(run(&home, &["user", "list"]).refused().contains("countersign migrate"));
    assert!(run(&home, &["migrate"]).done().contains("migrated 20261126000002"));
    assert_eq!(run(&home, &["migrate"]).done(), "the database is up to date\n");
    assert_eq!(number_in_database(&home, "SELECT count(*) FROM users WHERE email_key_version <> 1"), 0);
    let server = home.serve(&[]);
    for (_, email, other) in accounts {
        for spelling in [email, other, &format!(" {other}\n")] {
            let (status, answer) = log_in(&server, spelling, PASSWORD);
            assert_eq!((status, &answer["user"]["email"]), (200, &json!(email)), "{spelling}");
            assert_eq!(json(&home, &["user", "show", spelling])["email"], email);
        }
        let again = server.post("/v1/auth/register", &json!({ "email": other, "password": PASSWORD }));
        assert_eq!((again.status, text(&again.body, "code")), (409, "email_taken"), "{other}");
    }
}

/// Two accounts whose addresses are the same by now: each is named, and logs in as it is spelt.
#[test]
fn accounts_that_fall_together_are_named_and_stay_apart() {
    let home = empty();
    create(&home, BOB);
    as_earlier_versions(&home);
    /// Ids and addresses, the older account first; another spelling, and the account that it finds.
    type Group = (&'static [(&'static str, &'static str)], &'static str, &'static str);
    let groups: [Group; 3] = [
        (&[("01", "ada@b\u{fc}cher.example"), ("02", "ada@xn--bcher-kva.example")], "ada@B\u{fc}cher.example.", "01"),
        (&[("03", "zoe\u{308}@example.com"), ("04", "zo\u{eb}@example.com")], "ZOE\u{308}@EXAMPLE.com", "03"),
        (
            &[("05", "e@\u{df}\u{fc}.example"), ("06", "e@\u{df}u\u{308}.example"), ("07", "E@XN--ZCA2D.example")],
            "e@\u{1e9e}\u{dc}.example",
            "05",
        ),
    ];
    for (id, email) in groups.iter().flat_map(|(group, ..)| *group) {
        insert(&home, id, email);
    }
    let told = run(&home, &["migrate"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    for (group, ..) in &groups {
        for (_, email) in *group {
            // Spelt out, where they look the same.
            assert!(told.err.contains(&format!("{email:?}")), "{email} is not in {}", told.err);
        }
    }
    assert_eq!(told.err.lines().count(), 4, "one line for each that is kept apart: {}", told.err);
    assert!(told.err.contains("set-email"), "{}", told.err);
    let id_of = |id: &str| uuid::Uuid::parse_str(&id.repeat(16)).unwrap().to_string();
    let server = home.serve(&[]);
    for (group, other, _) in &groups {
        for (id, email) in *group {
            for spelling in [(*email).to_owned(), email.to_lowercase(), format!(" {email} ")] {
                let (status, answer) = log_in(&server, &spelling, PASSWORD);
                assert_eq!((status, text(&answer["user"], "id")), (200, id_of(id).as_str()), "{spelling}");
                assert_eq!(text(&json(&home, &["user", "show", &spelling]), "id"), id_of(id));
            }
            let again = server.post("/v1/auth/register", &json!({ "email": email, "password": PASSWORD }));
            assert_eq!((again.status, text(&again.body, "code")), (409, "email_taken"), "{email}");
        }
        let (status, answer) = log_in(&server, other, PASSWORD);
        assert_eq!(status, 200, "{other}: {answer}");
        assert!(group.iter().any(|(id, _)| text(&answer["user"], "id") == id_of(id)));
    }
    let log = server.stop();
    assert!(log.contains("ada@xn--bcher-kva.example") && log.contains("set-email"), "said at every start: {log}");
    // What is left of two has the address still.
    let server = home.serve(&[]);
    run(&home, &["user", "delete", "ada@xn--bcher-kva.example", "--yes"]).done();
    for spelling in ["ada@xn--bcher-kva.example", "ADA@B\u{fc}cher.example"] {
        let again = server.post("/v1/auth/register", &json!({ "email": spelling, "password": PASSWORD }));
        assert_eq!((again.status, text(&again.body, "code")), (409, "email_taken"), "{spelling}");
        assert!(run(&home, &["user", "set-email", BOB, spelling]).refused().contains("has an account already"));
    }
    server.stop();
    // One of two moves, and the other has the address alone, at the next start or migration.
    run(&home, &["user", "set-email", "zo\u{eb}@example.com", "zoe@example.org"]).done();
    let told = run(&home, &["migrate"]);
    assert_eq!((told.code, told.err.lines().count()), (Some(0), 2), "{}", told.err);
    assert_eq!(text(&json(&home, &["user", "show", "ada@xn--bcher-kva.example"]), "id"), id_of("01"));
    for spelling in ["zo\u{eb}@example.com", "zoe\u{308}@example.com", "ZO\u{cb}@example.com"] {
        assert_eq!(text(&json(&home, &["user", "show", spelling]), "id"), id_of("03"), "{spelling}");
    }
}

#[test]
fn an_account_is_named_by_its_address_or_its_id_in_every_command() {
    let home = empty();
    create(&home, ADA);
    let id = text(&json(&home, &["user", "show", ADA]), "id").to_owned();
    open_sessions(&home, 2);
    for name in [id.clone(), id.to_uppercase(), format!(" {id} "), " ADA@Example.com\n".to_owned()] {
        let name = name.as_str();
        for (arguments, input) in [
            (&["user", "show", name][..], ""),
            (&["user", "show", name, "--json"], ""),
            (&["user", "grant", name, "admin"], ""),
            (&["user", "revoke-role", name, "admin"], ""),
            (&["user", "unlock", name], ""),
            (&["user", "set-email", name, ADA], ""),
            (&["user", "set-password", name], PASSWORD),
            (&["user", "disable", name], ""),
            (&["user", "enable", name], ""),
            (&["session", "list", name], ""),
            (&["session", "revoke", "--user", name], ""),
        ] {
            run_with(&home, arguments, input).done();
        }
    }
    let unknown = "019b0000-0000-7000-8000-000000000000";
    for name in [unknown, "019b00000000700080000000000000000", "nobody"] {
        let told = run(&home, &["user", "show", name]).refused();
        assert!(told.contains(name) && told.contains("e-mail address or id"), "{told}");
    }
    assert!(run(&home, &["user", "delete", &id.to_uppercase(), "--yes"]).done().contains(ADA));
}

#[test]
fn accounts_are_searched_for_by_address_name_and_id() {
    let home = empty();
    for (email, name) in [
        ("Ada@Example.com", "Ada Lovelace"),
        ("bob_100%@example.org", "Bob"),
        ("eve@b\u{fc}cher.example", "\u{c9}ve Zo\u{eb}"),
        ("x@example.org", "100 per cent"),
    ] {
        run_with(&home, &["user", "create", email, "--name", name], PASSWORD).done();
    }
    let id = text(&json(&home, &["user", "show", "x@example.org"]), "id").to_owned();
    for (search, found) in [
        // With a letter or sign that no id has: those are searched as well.
        ("ada@", &["Ada@Example.com"][..]),
        ("LOVE", &["Ada@Example.com"]),
        ("example.org", &["bob_100%@example.org", "x@example.org"]),
        ("100%", &["bob_100%@example.org"]),
        ("_", &["bob_100%@example.org"]),
        ("%", &["bob_100%@example.org"]),
        ("b\u{dc}cher", &["eve@b\u{fc}cher.example"]),
        ("bu\u{308}cher", &["eve@b\u{fc}cher.example"]),
        ("xn--bcher-kva", &["eve@b\u{fc}cher.example"]),
        ("eve@xn--bcher-kva.example", &["eve@b\u{fc}cher.example"]),
        ("\u{e9}VE zoe\u{308}", &["eve@b\u{fc}cher.example"]),
        (&id.to_uppercase(), &["x@example.org"]),
        (&id[24..], &["x@example.org"]),
        (" per ", &["x@example.org"]),
        ("nothing like that", &[]),
        ("\\", &[]),
        ("'; DROP TABLE users; --", &[]),
    ] {
        let list = json(&home, &["user", "list", "--search", search]);
        let emails: Vec<&str> = list.as_array().unwrap().iter().map(|account| text(account, "email")).collect();
        assert_eq!(emails, found, "{search}");
    }
    assert_eq!(run(&home, &["user", "list", "--search", "nothing like that"]).done(), "no account is like that\n");
    assert!(run(&home, &["user", "list", "--search", "lovelace"]).done().contains("Ada@Example.com"));
}

#[test]
fn an_account_gets_another_address_and_keeps_its_sessions() {
    let home = Home::new();
    let server = home.serve(&[]);
    let pair = server.register(ADA);
    server.register(BOB);
    in_database(&home, &format!("UPDATE users SET email_verified = (1 = 1) WHERE email = '{ADA}'"));
    let before = json(&home, &["user", "show", ADA]);
    for (new, why) in [
        (BOB, "has an account already"),
        (" BOB@example.COM ", "has an account already"),
        ("no-address", "email must be an e-mail address"),
        ("ada@xn--zzzzzz--.example", "email must be an e-mail address"),
        ("", "email must be an e-mail address"),
    ] {
        let told = run(&home, &["user", "set-email", ADA, new]).refused();
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(json(&home, &["user", "show", ADA]), before);
    let new = "Countess@B\u{fc}cher.example";
    let told = run(&home, &["user", "set-email", ADA, &format!(" {new} ")]).done();
    assert!(told.contains(ADA) && told.contains(new), "{told}");
    let shown = json(&home, &["user", "show", "countess@xn--bcher-kva.example"]);
    assert_eq!((&shown["email"], &shown["email_verified"]), (&json!(new), &json!(false)));
    assert_eq!((&shown["id"], &shown["live_sessions"]), (&before["id"], &json!(1)));
    let event = &shown["recent_events"][0];
    assert_eq!((text(event, "kind"), text(event, "detail")), ("email_changed", "by_operator"));
    assert_eq!(log_in(&server, new, PASSWORD).0, 200);
    assert_eq!(log_in(&server, ADA, PASSWORD).0, 401);
    assert_eq!(get(&server, "/v1/users/me", text(&pair, "access_token")).1["email"], new);
    assert_eq!(refresh(&server, &pair).0, 200);
    // The same in another spelling, and the old one is free.
    run(&home, &["user", "set-email", new, "countess@b\u{fc}cher.example"]).done();
    server.register(ADA);
    let kinds: Vec<String> = get(&server, "/v1/users/me/events", text(&pair, "access_token")).1["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| text(event, "kind").to_owned())
        .collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "email_changed").count(), 2, "{kinds:?}");
}

#[test]
fn an_operator_makes_accounts_of_any_domain() {
    let home = empty();
    let mut command = command(&home, &["user", "create", ADA]);
    command.env("COUNTERSIGN__REGISTRATION__ALLOWED_DOMAINS", "example.org");
    finish(command, PASSWORD.as_bytes()).done();
}

#[test]
fn a_session_is_named_by_its_id_in_capitals_too() {
    let home = Home::new();
    let server = home.serve(&[]);
    let pair = server.register(ADA);
    let id = text(&pair, "session_id").to_uppercase();
    assert_eq!(run(&home, &["session", "revoke", &id]).done(), "1 session has ended\n");
    assert_eq!(refresh(&server, &pair).0, 400);
    run(&home, &["session", "revoke", &id.replace('-', "")]).misused();
}
