//! Keys without their database, a database without its keys, and one of a later version: a start refuses what would sign
//! people out who have done nothing, and `keys forget` is how to go on.

use std::fs;

use super::*;

const FIRST: &str = "the-first-refresh-secret-of-this-server-0123";
const SECOND: &str = "the-second-refresh-secret-of-this-server-4567";
const ACCESS: &str = "an-access-secret-of-this-server-0123456789ab";
const OTHER_ACCESS: &str = "another-access-secret-of-this-server-456789";

type Settings<'a> = [(&'a str, &'a str)];

/// What a start says when it refuses.
#[track_caller]
fn refused(home: &Home, environment: &Settings<'_>) -> String {
    command_refused(home, &["serve"], environment)
}

#[track_caller]
fn command_refused(home: &Home, arguments: &[&str], environment: &Settings<'_>) -> String {
    let environment = [("PORT", "0")].into_iter().chain(environment.iter().copied());
    let outcome = finish(home.command(arguments.iter().copied(), environment), b"");
    assert_eq!(outcome.code, Some(1), "{arguments:?}: {}{}", outcome.out, outcome.err);
    outcome.err
}

#[track_caller]
fn done(home: &Home, arguments: &[&str], environment: &Settings<'_>) -> String {
    finish(home.command(arguments.iter().copied(), environment.iter().copied()), b"").done()
}

fn listed(home: &Home, environment: &Settings<'_>) -> Vec<Value> {
    serde_json::from_str(&done(home, &["keys", "list", "--json"], environment)).unwrap()
}

fn kid(pair: &Value, token: &str) -> String {
    text(&part(text(pair, token), 0), "kid").to_owned()
}

#[track_caller]
fn assert_tells(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
}

#[test]
fn a_secret_that_sessions_depend_on_cannot_be_changed_in_passing() {
    let home = Home::new();
    let (first, second) = ([("REFRESH_TOKEN_SECRET", FIRST)], [("REFRESH_TOKEN_SECRET", SECOND)]);
    let server = home.serve(&first);
    let pair = server.register(ADA);
    let bob = server.register(BOB);
    server.stop();
    let kid = kid(&pair, "refresh_token");
    for arguments in [&["serve"][..], &["check-config"]] {
        let told = command_refused(&home, arguments, &second);
        let parts = [&kid, "depend on it: 2)", "REFRESH_TOKEN_SECRET_PREVIOUS", &format!("keys forget {kid}")];
        assert_tells(&told, &parts.map(|part: &str| part));
        assert!(!told.contains(FIRST) && !told.contains(SECOND), "{told}");
    }
    let missing = listed(&home, &second).into_iter().find(|entry| entry["kid"] == kid.as_str()).unwrap();
    assert_eq!((&missing["state"], &missing["use"]), (&"missing".into(), &"refresh".into()));
    assert!(missing["needed_until"].is_string(), "{missing}");
    assert!(done(&home, &["keys", "list"], &second).contains("missing"));

    // As it should be done.
    let both = [("REFRESH_TOKEN_SECRET", SECOND), ("REFRESH_TOKEN_SECRET_PREVIOUS", FIRST)];
    let server = home.serve(&both);
    let (status, pair) = refresh(&server, &pair);
    assert_eq!(status, 200, "{pair}");
    server.stop();
    assert_tells(&command_refused(&home, &["keys", "forget", &kid], &both), &["is there"]);
    // The client may not have got that answer, and come back with the token before it.
    assert_tells(&refused(&home, &second), &[&kid, "depend on it: 2)"]);
    let server = home.serve(&both);
    let bearer = format!("Bearer {}", text(&pair, "access_token"));
    let mut connection = Connection::open(server.address).unwrap();
    let confirmed = connection.send("POST", "/v1/auth/refresh/confirm", &[("Authorization", &bearer)], "").unwrap();
    assert_eq!(confirmed.status, 204, "{}", confirmed.body);
    server.stop();
    assert_tells(&refused(&home, &second), &[&kid, "depend on it: 1)"]);

    // And as it can be done too: users who depend on the old one are signed out, and no others.
    assert_tells(&done(&home, &["keys", "forget", &kid], &second), &[&kid, "sessions ended: 1"]);
    let server = home.serve(&second);
    assert_eq!(refresh(&server, &bob).1["code"], "invalid_grant");
    let (status, body) = refresh(&server, &pair);
    assert_eq!(status, 200, "{body}");
    server.stop();
    assert_tells(&command_refused(&home, &["keys", "forget", &kid], &second), &["no key", "keys list"]);
    assert_eq!(done(&home, &["keys", "forget", "--all"], &second), "no key is lost\n");
}

#[test]
fn a_secret_that_nothing_depends_on_can_be_changed() {
    let home = Home::new();
    home.serve(&[("REFRESH_TOKEN_SECRET", FIRST), ("ACCESS_TOKEN_SECRET", ACCESS)]).stop();
    let server = home.serve(&[("REFRESH_TOKEN_SECRET", SECOND), ("ACCESS_TOKEN_SECRET", OTHER_ACCESS)]);
    let pair = server.register(ADA);
    let body = serde_json::json!({ "refresh_token": pair["refresh_token"] });
    assert_eq!(server.post("/v1/auth/logout", &body).status, 204);
    server.stop();
    home.serve(&[("REFRESH_TOKEN_SECRET", FIRST), ("ACCESS_TOKEN_SECRET", ACCESS)]).stop();
}

#[test]
fn an_access_secret_is_needed_for_as_long_as_its_tokens() {
    let home = Home::new();
    let usual = [("REFRESH_TOKEN_SECRET", FIRST), ("ACCESS_TOKEN_SECRET", ACCESS)];
    let changed = [("REFRESH_TOKEN_SECRET", FIRST), ("ACCESS_TOKEN_SECRET", OTHER_ACCESS)];
    let server = home.serve(&usual);
    let pair = server.register(ADA);
    server.stop();
    let kid = kid(&pair, "access_token");
    assert_tells(&refused(&home, &changed), &[&kid, "access tokens", "ACCESS_TOKEN_SECRET_PREVIOUS", "keys forget"]);
    assert_tells(&done(&home, &["keys", "forget", "--all"], &changed), &[&kid, "clients refresh"]);
    let server = home.serve(&changed);
    let (status, body) = refresh(&server, &pair);
    assert_eq!(status, 200, "{body}");
    server.stop();
    // Fifteen minutes later nothing of it is left. (As the database remembers it.)
    in_database(&home, "UPDATE signing_keys SET needed_until = 1 WHERE purpose = 'access'");
    home.serve(&usual).stop();
}

#[test]
fn an_older_program_refuses_a_newer_schema() {
    let home = Home::new();
    let server = home.serve(&[]);
    server.register(ADA);
    server.stop();
    in_database(&home, "INSERT INTO __diesel_schema_migrations (version) VALUES ('20990101000001')");
    for arguments in [
        &["serve"][..],
        &["migrate"],
        &["check-config"],
        &["user", "list"],
        &["user", "create", BOB],
        &["session", "list"],
        &["session", "revoke", "--all"],
        &["keys", "forget", "--all"],
    ] {
        let told = command_refused(&home, arguments, &[]);
        assert_tells(&told, &["20990101000001", "newer", "restore"]);
    }
    assert_eq!(number_in_database(&home, "SELECT count(*) FROM users"), 1);
    in_database(&home, "DELETE FROM __diesel_schema_migrations WHERE version = '20990101000001'");
    home.serve(&[]).stop();
}

#[test]
fn a_start_says_whether_sessions_of_another_issuer_are_refused() {
    let home = Home::new();
    let issuer = |url| ("COUNTERSIGN__TOKENS__ISSUER", url);
    let server = home.serve(&[issuer("https://one.example")]);
    let pair = server.register(ADA);
    server.stop();
    let warned = "began under another tokens.issuer";
    let server = home.serve(&[issuer("https://two.example")]);
    let accepted = refresh(&server, &pair).0 == 200;
    let log = server.stop();
    // The folder of an embedded database remembers.
    assert_eq!(accepted, home.database().is_embedded(), "{log}");
    assert_eq!(log.contains(warned), !accepted, "{log}");
    if !accepted {
        assert_tells(&log, &["https://one.example", "previous_issuers"]);
    }
    let previous = ("COUNTERSIGN__TOKENS__PREVIOUS_ISSUERS", "https://one.example");
    let server = home.serve(&[issuer("https://two.example"), previous]);
    let (status, body) = refresh(&server, &pair);
    assert_eq!(status, 200, "{body}");
    let log = server.stop();
    assert!(!log.contains(warned), "{log}");
}

/// What is remembered in a folder.
mod embedded {
    use super::*;

    fn remove_database(home: &Home) {
        for name in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
            let _there_or_not = fs::remove_file(home.path("data").join(name));
        }
    }

    fn names(home: &Home, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(home.path(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_generated_key_that_is_lost_is_asked_for_by_its_file() {
        for (token, name) in [("refresh_token", "refresh-0001.key"), ("access_token", "access-0001-es256.pem")] {
            let home = Home::new();
            let server = home.serve(&[]);
            let pair = server.register(ADA);
            server.stop();
            let file = home.path("data/keys").join(name);
            fs::rename(&file, home.path("kept")).unwrap();
            let before = names(&home, "data/keys");
            for arguments in [&["serve"][..], &["check-config"]] {
                let told = command_refused(&home, arguments, &[]);
                assert_tells(&told, &[&kid(&pair, token), &format!("restore {}", file.display()), "keys forget"]);
            }
            assert_eq!(names(&home, "data/keys"), before, "no other was made in its place");
            fs::rename(home.path("kept"), &file).unwrap();
            let server = home.serve(&[]);
            let (status, body) = refresh(&server, &pair);
            assert_eq!(status, 200, "{body}");
        }
    }

    #[test]
    fn a_folder_of_keys_that_is_lost_can_be_given_up() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = server.register(ADA);
        server.stop();
        fs::remove_dir_all(home.path("data/keys")).unwrap();
        let told = refused(&home, &[]);
        assert_tells(&told, &[&kid(&pair, "refresh_token"), &kid(&pair, "access_token"), "restore"]);
        assert!(!home.path("data/keys").exists());
        assert_tells(&done(&home, &["keys", "forget", "--all"], &[]), &["sessions ended: 1"]);
        let server = home.serve(&[]);
        assert_eq!(refresh(&server, &pair).1["code"], "invalid_grant");
        assert_eq!(log_in(&server, ADA, support::process::PASSWORD).0, 200);
    }

    #[test]
    fn a_generated_key_that_a_secret_displaces_is_named_with_its_file() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = server.register(ADA);
        server.stop();
        let configured = [("REFRESH_TOKEN_SECRET", FIRST), ("ACCESS_TOKEN_SECRET", ACCESS)];
        let told = refused(&home, &configured);
        assert_tells(&told, &["refresh-0001.key", "REFRESH_TOKEN_SECRET_PREVIOUS", "access-0001-es256.pem", "unset"]);
        let old = fs::read_to_string(home.path("data/keys/refresh-0001.key")).unwrap();
        let both = [("REFRESH_TOKEN_SECRET", FIRST), ("REFRESH_TOKEN_SECRET_PREVIOUS", old.trim())];
        let server = home.serve(&both);
        let (status, body) = refresh(&server, &pair);
        assert_eq!(status, 200, "{body}");
    }

    #[test]
    fn a_database_that_is_lost_is_not_replaced_by_an_empty_one() {
        let secrets = [("REFRESH_TOKEN_SECRET", FIRST), ("ACCESS_TOKEN_SECRET", ACCESS)];
        for settings in [&[][..], &secrets] {
            let home = Home::new();
            let server = home.serve(settings);
            let pair = server.register(ADA);
            server.stop();
            remove_database(&home);
            let before = names(&home, "data");
            for arguments in [&["serve"][..], &["migrate"], &["check-config"]] {
                let told = command_refused(&home, arguments, settings);
                assert_tells(&told, &["data/countersign.db is gone", "data/keys", "restore", "keys forget --all"]);
                assert_eq!(names(&home, "data"), before, "{arguments:?}");
            }
            done(&home, &["keys", "forget", "--all"], settings);
            let server = home.serve(settings);
            assert_eq!(refresh(&server, &pair).1["code"], "invalid_grant");
            server.register(ADA);
            server.stop();
            home.serve(settings).stop();
        }
    }

    #[test]
    fn keys_that_were_given_up_are_kept_by_another_name() {
        let home = Home::new();
        home.serve(&[]).stop();
        let old = fs::read(home.path("data/keys/refresh-0001.key")).unwrap();
        for _ in 0..2 {
            remove_database(&home);
            done(&home, &["keys", "forget", "--all"], &[]);
            home.serve(&[]).stop();
        }
        assert_eq!(fs::read(home.path("data/keys/refresh-0001.key.forgotten")).unwrap(), old);
        assert_ne!(fs::read(home.path("data/keys/refresh-0001.key.forgotten-2")).unwrap(), old);
        assert_ne!(fs::read(home.path("data/keys/refresh-0001.key")).unwrap(), old);
    }

    #[test]
    fn a_new_database_in_the_place_of_one_that_was_used_is_refused() {
        let home = Home::new();
        home.serve(&[]).stop();
        remove_database(&home);
        fs::create_dir(home.path("other")).unwrap();
        let elsewhere = [("DATABASE_URL", "sqlite:other/countersign.db")];
        done(&home, &["migrate"], &elsewhere);
        fs::rename(home.path("other/countersign.db"), home.path("data/countersign.db")).unwrap();
        for arguments in [&["serve"][..], &["check-config"]] {
            let told = command_refused(&home, arguments, &[]);
            assert_tells(&told, &["data/countersign.db is a new one", "restore", "keys forget --all"]);
        }
        assert_tells(&done(&home, &["keys", "forget", "--all"], &[]), &["refresh-0001.key.forgotten"]);
        home.serve(&[]).register(ADA);
    }

    #[test]
    fn a_copy_of_the_database_is_good_for_its_keys() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = server.register(ADA);
        server.stop();
        let copy = home.database().copy();
        remove_database(&home);
        let server = home.serve(&[("DATABASE_URL", &copy)]);
        let (status, body) = refresh(&server, &pair);
        assert_eq!(status, 200, "{body}");
    }

    /// A slip in its name would otherwise make an empty one, and sign every user out.
    #[test]
    fn a_new_database_beside_the_one_that_the_keys_belong_to_is_refused() {
        let home = Home::new();
        home.serve(&[]).stop();
        let before = names(&home, "data");
        let slip = [("DATABASE_URL", "sqlite:data/countersgin.db")];
        for arguments in [&["serve"][..], &["migrate"], &["check-config"], &["keys", "forget", "--all"]] {
            let told = command_refused(&home, arguments, &slip);
            let parts = ["data/countersign.db, which is there", "data/countersgin.db is a new one", "database.url"];
            assert_tells(&told, &parts);
            assert_eq!(names(&home, "data"), before, "{arguments:?}");
        }
        home.serve(&[]).stop();
    }

    /// As the first version left them: keys, and no word about what they were for.
    #[test]
    fn keys_of_an_earlier_version_are_not_taken_for_new_ones() {
        let home = Home::new();
        home.serve(&[]).stop();
        fs::remove_file(home.path("data/keys/databases")).unwrap();
        remove_database(&home);
        assert_tells(&refused(&home, &[]), &["data/countersign.db is gone", "keys forget --all"]);
    }

    #[test]
    fn an_issuer_that_the_folder_has_used_keeps_verifying() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = server.register(ADA);
        server.stop();
        let public = ("COUNTERSIGN__TOKENS__ISSUER", "https://id.example.com");
        let server = home.serve(&[public]);
        assert_eq!(get(&server, "/v1/users/me", text(&pair, "access_token")).0, 200, "the old access token");
        let (status, second) = refresh(&server, &pair);
        assert_eq!(status, 200, "{second}");
        assert_eq!(get(&server, "/v1/users/me", text(&second, "access_token")).0, 200);
        assert_eq!(claims(text(&second, "access_token"))["iss"], "https://id.example.com");
        let (_, later) = log_in(&server, ADA, support::process::PASSWORD);
        server.stop();
        // A third, with names for the audience, and back to the first.
        let audience = ("COUNTERSIGN__TOKENS__AUDIENCE", "api");
        let server = home.serve(&[("COUNTERSIGN__TOKENS__ISSUER", "https://login.example.com"), audience]);
        let (status, second) = refresh(&server, &second);
        assert_eq!(status, 200, "{second}");
        assert_eq!(get(&server, "/v1/users/me", text(&later, "access_token")).0, 200);
        server.stop();
        let server = home.serve(&[]);
        for pair in [&second, &later] {
            let (status, body) = refresh(&server, pair);
            assert_eq!(status, 200, "{body}");
        }
        let used = fs::read_to_string(home.path("data/keys/issuers")).unwrap();
        assert_eq!(used.lines().count(), 3, "{used}");
    }
}
