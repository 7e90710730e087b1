//! Exit codes, and what is made where there is nothing.

use std::fs;
use std::path::Path;

use super::*;

/// Every command that works with a database which must be there.
const NEEDY: [&[&str]; 13] = [
    &["user", "list"],
    &["user", "list", "--json"],
    &["user", "show", ADA],
    &["user", "create", ADA],
    &["user", "disable", ADA],
    &["user", "enable", ADA],
    &["user", "set-password", ADA],
    &["user", "grant", ADA, "admin"],
    &["user", "revoke-role", ADA, "admin"],
    &["user", "delete", ADA, "--yes"],
    &["session", "list"],
    &["session", "revoke", "--user", ADA],
    &["session", "revoke", "--all"],
];

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn commands_make_no_key_and_need_no_port() {
    let home = Home::new();
    let server = home.serve(&[]);
    let port = server.address.port().to_string();
    let told = finish(home.command(["user", "list"], [("PORT", port.as_str())]), b"").done();
    assert!(told.contains("no accounts"), "{told}");
    server.stop();
    let home = empty();
    create(&home, ADA);
    run(&home, &["session", "revoke", "--all"]).done();
    assert!(!home.path("data/keys").exists());
}

#[test]
fn wrong_usage_exits_with_2_and_does_nothing() {
    let home = empty();
    create(&home, ADA);
    let before = json(&home, &["user", "show", ADA]);
    let id = "0198e4a0-11f3-7a42-8b5c-3f9e7d2a6c14";
    for arguments in [
        &["user"][..],
        &["session"],
        &["keys"],
        &["user", "frobnicate"],
        &["user", "create"],
        &["user", "create", ADA, "a password"],
        &["user", "create", ADA, "--password", "a password"],
        &["user", "set-password", ADA, "a password"],
        &["user", "create", ADA, "--json"],
        &["user", "list", ADA],
        &["user", "show"],
        &["user", "disable"],
        &["user", "disable", ADA, BOB],
        &["user", "grant", ADA],
        &["user", "revoke-role", ADA],
        &["session", "list", ADA, BOB],
        &["session", "revoke"],
        &["session", "revoke", "no id"],
        &["session", "revoke", id, "--all"],
        &["session", "revoke", id, "--user", ADA],
        &["session", "revoke", "--user", ADA, "--all"],
        &["session", "revoke", "--since", "2h"],
        &["session", "revoke", "--user", ADA, "--since", "2h"],
        &["session", "revoke", id, "--since", "2h"],
        &["session", "revoke", "--all", "--since", "yesterday"],
        &["session", "revoke", "--all", "--since"],
        &["keys", "list", "more"],
        &["keys", "forget"],
        &["keys", "forget", "a-kid", "another"],
        &["keys", "forget", "a-kid", "--all"],
    ] {
        let told = run_with(&home, arguments, support::process::PASSWORD).misused();
        assert!(told.contains("Usage:") || told.contains("--help"), "{arguments:?}: {told}");
    }
    assert_eq!(json(&home, &["user", "show", ADA]), before);
}

#[test]
fn every_command_has_a_help_text() {
    let home = Home::new();
    for arguments in [
        &["user"][..],
        &["session"],
        &["keys"],
        &["user", "create"],
        &["session", "revoke"],
        &["keys", "list"],
        &["keys", "forget"],
    ] {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--help"]).collect();
        let told = run(&home, &arguments).done();
        assert!(told.contains("Usage: countersign") && told.contains("--config"), "{told}");
    }
    assert!(run(&home, &["session", "revoke", "--help"]).done().contains("opened then or later"));
}

#[test]
fn a_database_that_lacks_a_migration_is_refused() {
    let home = empty();
    run(&home, &["user", "list"]).done();
    in_database(
        &home,
        "DELETE FROM __diesel_schema_migrations WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)",
    );
    for arguments in NEEDY {
        let told = run_with(&home, arguments, support::process::PASSWORD).refused();
        assert!(told.contains("not up to date") && told.contains("countersign migrate"), "{told}");
    }
}

/// What a file in the way, or none, comes to.
mod embedded {
    use super::*;

    #[test]
    fn where_there_is_no_database_nothing_is_made_and_it_says_what_makes_one() {
        let home = Home::new();
        for arguments in NEEDY {
            let told = run_with(&home, arguments, support::process::PASSWORD).refused();
            assert!(told.contains("data/countersign.db") && told.contains("countersign migrate"), "{told}");
            assert!(!home.path("data").exists(), "{arguments:?}");
        }
    }

    /// A database that was never brought up to date is refused and not touched.
    #[test]
    fn a_database_never_brought_up_to_date_is_refused_and_not_touched() {
        let home = Home::new();
        home.write("data/countersign.db", "");
        for arguments in NEEDY {
            let told = run_with(&home, arguments, support::process::PASSWORD).refused();
            assert!(told.contains("not up to date") && told.contains("countersign migrate"), "{told}");
            assert_eq!(fs::read(home.path("data/countersign.db")).unwrap(), b"", "{arguments:?}");
            assert_eq!(names(&home.path("data")), ["countersign.db"]);
        }
    }

    #[test]
    fn what_is_no_database_is_refused_by_name() {
        let home = Home::new();
        home.write("data/countersign.db", &"This is a text, although it has the name of a database. ".repeat(30));
        let told = run(&home, &["user", "list"]).refused();
        assert!(told.contains("data/countersign.db") && told.contains("not a database"), "{told}");
        let told = finish(
            home.command(
                ["user", "list"],
                [
                    ("DATABASE_URL", "postgres://db/app"),
                    ("ACCESS_TOKEN_SECRET", "0123456789abcdefghijklmnopqrstuv"),
                    ("REFRESH_TOKEN_SECRET", "ZYXWVUTSRQPONMLKJIHGFEDCBA987654"),
                    ("COUNTERSIGN__TOKENS__ISSUER", "https://id.example.com"),
                ],
            ),
            b"",
        )
        .refused();
        assert!(told.contains("database.url"), "{told}");
    }

    #[test]
    fn the_configuration_can_be_named_before_and_behind_the_command() {
        let home = Home::new();
        home.write("other.toml", "[database]\nurl = \"sqlite:elsewhere/other.db\"\n[passwords]\nmin_length = 20\n");
        fs::create_dir(home.path("elsewhere")).unwrap();
        run(&home, &["migrate", "--config", "other.toml"]).done();
        let told = run_with(&home, &["--config", "other.toml", "user", "create", ADA], "nineteen characters").refused();
        assert!(told.contains("at least 20 characters"), "{told}");
        run_with(&home, &["user", "create", ADA, "--config", "other.toml"], "twenty-one characters").done();
        assert!(run(&home, &["user", "--config", "other.toml", "list"]).done().contains(ADA));
        assert!(run(&home, &["user", "list", "--config", "none.toml"]).refused().contains("none.toml"));
        assert!(!home.path("data").exists());
    }
}
