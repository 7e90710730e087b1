//! The real binary, as its operator meets it: start, restart, mistakes, signals, and its log.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod journal;
mod key_rotation;
mod metrics;
mod notify;
mod reload;
mod sockets;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::process::{Connection, Home, Lost, PASSWORD, Server};
use support::reading::read;

const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
const OTHER_SECRET: &str = "ZYXWVUTSRQPONMLKJIHGFEDCBA987654";

/// How long what comes in the end may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A little less than how long a server that stops waits for the next request on a connection.
const SILENCE: Duration = Duration::from_millis(200);

// Mistakes: exit 1, the key and its place on standard error, never a secret.

#[test]
fn a_short_secret_is_refused_by_name_and_not_shown() {
    let short = "hunter2-hunter2";
    let told = refused(&Home::new(), &[("ACCESS_TOKEN_SECRET", short)]);
    assert_tells(&told, &["tokens.access_secret", "environment variable ACCESS_TOKEN_SECRET"]);
    assert!(!told.contains(short), "{told}");
}

#[test]
fn equal_secrets_are_refused_by_name_and_not_shown() {
    let told = refused(&Home::new(), &[("ACCESS_TOKEN_SECRET", SECRET), ("REFRESH_TOKEN_SECRET", SECRET)]);
    assert_tells(
        &told,
        &["tokens.refresh_secret", "REFRESH_TOKEN_SECRET", "tokens.access_secret", "ACCESS_TOKEN_SECRET"],
    );
    assert!(!told.contains(SECRET), "{told}");
}

#[test]
fn unknown_keys_are_refused_with_the_place_they_are_in() {
    let home = Home::new();
    home.write("config/countersign.toml", "[tokens]\nacess_ttl = \"15m\"\n");
    assert_tells(&refused(&home, &[]), &["tokens.acess_ttl", "config/countersign.toml", "access_ttl"]);

    let told = refused(&Home::new(), &[("COUNTERSIGN__SERVER__PROT", "80")]);
    assert_tells(&told, &["COUNTERSIGN__SERVER__PROT", "environment"]);

    let home = Home::new();
    home.write(".env", "COUNTERSIGN__SERVER__PROT=80\n");
    assert_tells(&refused(&home, &[]), &["COUNTERSIGN__SERVER__PROT", ".env"]);
}

#[test]
fn a_bad_duration_is_refused_by_name() {
    let told = refused(&Home::new(), &[("ACCESS_TOKEN_EXPIRY", "fifteen")]);
    assert_tells(&told, &["tokens.access_ttl", "environment variable ACCESS_TOKEN_EXPIRY"]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let told = refused(&Home::new(), &[("ACCESS_TOKEN_EXPIRY", "fifteen"), ("PORT", "many")]);
    assert_tells(&told, &["tokens.access_ttl", "server.port"]);
}

#[test]
fn a_database_url_that_cannot_be_read_is_refused_and_not_shown() {
    let told = refused(&Home::new(), &[("DATABASE_URL", "mysql://root:hunter2@db/app")]);
    assert_tells(&told, &["database.url", "environment variable DATABASE_URL", "sqlite:"]);
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn a_name_that_is_nearly_ours_is_refused_in_every_place() {
    for (name, meant) in [
        ("COUNTERSIGN_SERVER_PORT", "COUNTERSIGN__SERVER__PORT"),
        ("COUNTERSIGN_LOG_LEVEL", "COUNTERSIGN__LOG__LEVEL"),
        ("COUNTERSIGN_WHATEVER", "check-config"),
        ("ACCESS_TOKEN_EXPIRES", "ACCESS_TOKEN_EXPIRY"),
        ("ACCESS_TOKEN_SECRETS", "ACCESS_TOKEN_SECRET"),
        ("REFRESH_TOKEN_SECRET_PREVIUS", "REFRESH_TOKEN_SECRET_PREVIOUS"),
        ("PASSWORDS_PEPPER", "PASSWORD_PEPPER"),
    ] {
        let told = refused(&Home::new(), &[(name, "hunter2")]);
        assert_tells(&told, &[&format!("{name} (environment variable {name}): "), meant]);
        let home = Home::new();
        home.write(".env", &format!("{name}=hunter2\n"));
        let in_file = refused(&home, &[]);
        assert_tells(&in_file, &[&format!("{name} (.env): "), meant]);
        assert!(!told.contains("hunter2") && !in_file.contains("hunter2"), "{told}{in_file}");
    }
    for (name, meant) in [
        ("access_token_secrets", "ACCESS_TOKEN_SECRET"),
        ("REFRESH_TOKEN_SECRETS", "REFRESH_TOKEN_SECRET"),
        ("tokens.acess_secret", "tokens.access_secret"),
        ("COUNTERSIGN__LOG__LEVEL", "log.level"),
    ] {
        let home = Home::new();
        home.write(&format!("credentials/{name}"), "hunter2\n");
        let folder = home.path("credentials");
        let told = refused(&home, &[("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())]);
        assert_tells(&told, &[&format!("{name} (credential {name}): "), meant]);
        assert!(!told.contains("hunter2"), "{told}");
    }
}

/// Names of others are passed over and one near that of the database is a warning.
#[test]
fn names_of_others_are_passed_over_a_near_one_is_a_warning() {
    let foreign = [
        ("COUNTERSIGN_SERVICE_HOST", "10.0.0.1"),
        ("COUNTERSIGN_SERVICE_PORT", "80"),
        ("COUNTERSIGN_PORT", "tcp://10.0.0.1:80"),
        ("COUNTERSIGN_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("COUNTERSIGN_TRANSFER_TO", "postgres://db/app"),
        ("TEST_DATABASE_URL", "postgres://db/app"),
        ("ACCESS_TOKEN_EXPIRES_IN", "1h"),
        ("PORT", "0"),
    ];
    assert_eq!(warnings(Home::new().command(["check-config"], foreign)), "");
    let odd = warnings(Home::new().command(["check-config"], [("DATABASE_URI", "sqlite:x.db"), ("PORT", "0")]));
    assert_tells(&odd, &["warning: DATABASE_URI (environment variable DATABASE_URI): ", "DATABASE_URL?"]);
}

#[test]
fn a_credential_is_taken_in_either_case() {
    let home = Home::new();
    home.write("credentials/access_token_secret", SECRET);
    home.write("credentials/TOKENS.ISSUER", "https://id.example.com\n");
    let folder = home.path("credentials");
    let environment = [("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())];
    let of = |key| setting(&home, &["check-config", "--json"], &environment, key);
    assert_eq!(of("tokens.access_secret"), ("(secret, 32 bytes)".into(), "credential access_token_secret".into()));
    assert_eq!(of("tokens.issuer"), ("https://id.example.com".into(), "credential TOKENS.ISSUER".into()));
}

#[test]
fn the_database_of_another_program_is_not_taken_where_ours_is_named() {
    let (ours, theirs) = ("sqlite:ours.db", "postgres://theirs/db");
    let environment = [("DATABASE_URL", theirs), ("COUNTERSIGN_DATABASE_URL", ours)];
    let home = Home::new();
    let of = |environment: &[(&str, &str)]| setting(&home, &["check-config", "--json"], environment, "database.url");
    let named = (ours.to_owned(), "environment variable COUNTERSIGN_DATABASE_URL".to_owned());
    assert_eq!(of(&environment), named);
    home.write(".env", &format!("DATABASE_URL={theirs}\nCOUNTERSIGN_DATABASE_URL={ours}\n"));
    for of_another in ["", theirs] {
        let (url, source) = of(&[("DATABASE_URL", of_another)]);
        assert_eq!((url.as_str(), source.as_str()), (ours, ".env"), "DATABASE_URL={of_another}");
    }
}

#[test]
fn a_level_that_would_log_nothing_is_refused() {
    for (level, told) in [
        ("verbose", "error, warn, info, debug or trace"),
        ("warning", "did you mean warn?"),
        ("info,countersign=loud", "begins at character 6 "),
        ("info,dbug", "did you mean debug?"),
    ] {
        let refusal = refused(&Home::new(), &[("COUNTERSIGN__LOG__LEVEL", level)]);
        assert_tells(&refusal, &["log.level (environment variable COUNTERSIGN__LOG__LEVEL): ", level, told]);
    }
    for level in ["debug", "INFO", "info,countersign=debug", "warn, countersign::sessions=trace"] {
        run(Home::new().command(["check-config"], [("COUNTERSIGN__LOG__LEVEL", level), ("PORT", "0")]), 0);
    }
}

#[cfg(feature = "postgres")]
#[test]
fn a_parameter_that_postgresql_does_not_know_is_refused_by_its_name() {
    for (parameters, told) in [
        ("ssl_mode=require", "sslmode"),
        ("sslmode=verify_full", "sslmode"),
        ("connect_timeout=5s", "connect_timeout"),
        ("schema=public", "schema"),
    ] {
        let url = format!("postgres://app:hunter2@db/app?{parameters}");
        let refusal = refused(&Home::new(), &[("DATABASE_URL", &url)]);
        assert_tells(&refusal, &["database.url (environment variable DATABASE_URL): ", told]);
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn a_dollar_that_cuts_a_value_short_is_told() {
    let home = Home::new();
    home.write(".env", "COUNTERSIGN_DATABASE_URL=sqlite:a$b.db\nCOUNTERSIGN__TOKENS__CLIENT_ID=\"c${d}\"\n");
    let told = warnings(home.command(["check-config"], [("PORT", "0")]));
    for name in ["COUNTERSIGN_DATABASE_URL", "COUNTERSIGN__TOKENS__CLIENT_ID"] {
        assert_tells(&told, &[&format!("warning: .env: the $ in {name} "), "single quotes"]);
    }
}

#[test]
fn a_port_that_is_taken_is_refused_and_nothing_is_made() {
    let home = Home::new();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let told = refused(&home, &[("PORT", &port)]);
    assert_tells(&told, &[&format!("127.0.0.1:{port}"), "another program listens there", "PORT"]);
    assert!(!home.path("data").exists());
    let Ok(taken) = TcpListener::bind(("::1", 0)) else { return };
    let port = taken.local_addr().unwrap().port().to_string();
    let told = refused(&home, &[("HOST", "::1"), ("PORT", &port)]);
    assert_tells(&told, &[&format!("[::1]:{port}"), "another program listens there"]);
}

#[test]
fn an_address_that_the_machine_does_not_have_is_refused_with_a_way_out() {
    let home = Home::new();
    let told = refused(&home, &[("HOST", "192.0.2.1")]);
    assert_tells(&told, &["192.0.2.1:0", "no interface of this machine has that address", "HOST"]);
    assert!(!home.path("data").exists());
}

// Other commands.

#[test]
fn check_config_prints_every_key_and_masks_secrets() {
    let home = Home::new();
    let environment = [
        ("ACCESS_TOKEN_SECRET", SECRET),
        ("REFRESH_TOKEN_SECRET", OTHER_SECRET),
        ("PASSWORD_PEPPER", &SECRET.repeat(2)),
    ];
    for arguments in [vec!["check-config"], vec!["check-config", "--json"]] {
        let output = run(home.command(arguments, environment), 0);
        for part in ["tokens.access_secret", "environment variable ACCESS_TOKEN_SECRET", "32 bytes", "server.port"] {
            assert!(output.contains(part), "{part}: {output}");
        }
        assert!(!output.contains(SECRET) && !output.contains(OTHER_SECRET), "{output}");
    }
    assert!(!home.path("data").exists(), "checking makes nothing");
}

#[test]
fn check_config_prints_every_mistake_and_fails() {
    let told = run(Home::new().command(["check-config"], [("PORT", "many"), ("ACCESS_TOKEN_SECRET", "hunter2")]), 1);
    assert_tells(&told, &["server.port (environment variable PORT)", "tokens.access_secret"]);
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn check_config_prints_json_whether_there_are_mistakes_or_not() {
    for (environment, expected) in [
        (vec![("PORT", "many"), ("ACCESS_TOKEN_SECRET", "hunter2")], vec!["server.port", "tokens.access_secret"]),
        (vec![("COUNTERSIGN_SERVER_PORT", "80")], vec!["COUNTERSIGN_SERVER_PORT"]),
        (vec![("HOST", "no-such-host.invalid")], vec!["server.host"]),
    ] {
        let output = Home::new().command(["check-config", "--json"], environment).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let keys: Vec<&str> =
            told["mistakes"].as_array().unwrap().iter().map(|mistake| mistake["key"].as_str().unwrap()).collect();
        assert_eq!(keys, expected);
        for mistake in told["mistakes"].as_array().unwrap() {
            assert!(mistake["source"].is_string() && mistake["problem"].is_string(), "{told}");
        }
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.starts_with("countersign: ") && line.lines().count() == 1, "{line}");
        assert!(!told.to_string().contains("hunter2"), "{told}");
    }
}

/// With an empty database, and every value right by itself.
#[cfg(feature = "postgres")]
#[test]
fn check_config_refuses_what_serve_refuses() {
    let postgres = ("DATABASE_URL", "postgres://127.0.0.1:9/app");
    let issuer = ("COUNTERSIGN__TOKENS__ISSUER", "https://id.example.com");
    let (access, refresh) = (("ACCESS_TOKEN_SECRET", SECRET), ("REFRESH_TOKEN_SECRET", OTHER_SECRET));
    // What this run's own database sets does not count.
    let no = |name: &'static str| (name, "");
    for (environment, named) in [
        (
            vec![postgres, issuer, access, no("REFRESH_TOKEN_SECRET")],
            "tokens.refresh_secret (built-in default): REFRESH_TOKEN_SECRET is not set",
        ),
        (vec![postgres, access, refresh, no("COUNTERSIGN__TOKENS__ISSUER")], "tokens.issuer"),
        (vec![("HOST", "no-such-host.invalid")], "server.host (environment variable HOST): "),
        (vec![("HOST", "192.0.2.1")], "server.host (environment variable HOST): "),
    ] {
        assert_tells(&run(Home::new().command(["check-config"], environment.clone()), 1), &[named]);
        let of_serve = refused(&Home::new(), &environment);
        assert!(!of_serve.contains("listening"), "{of_serve}");
    }
    // Without a secret for access tokens, their keys are generated into the database.
    for access in [access, no("ACCESS_TOKEN_SECRET")] {
        let all = [postgres, issuer, access, refresh, ("PORT", "0")];
        run(Home::new().command(["check-config"], all), 0);
    }
}

#[test]
fn check_config_beside_a_server_that_runs_finds_no_mistake_in_its_address() {
    let home = Home::new();
    let server = home.serve(&[]);
    let port = server.address.port().to_string();
    let told = warnings(home.command(["check-config"], [("PORT", port.as_str())]));
    assert_tells(&told, &["warning: server.port: ", "in use"]);
    assert_eq!(server.post("/v1/auth/refresh", &json!({ "refresh_token": "x" })).status, 400, "it was not disturbed");
}

#[cfg(feature = "postgres")]
#[test]
fn migrate_needs_nothing_configured_but_the_database() {
    let environment = [("DATABASE_URL", "postgres://127.0.0.1:9/app"), ("ACCESS_TOKEN_SECRET", "short")];
    let told = run(Home::new().command(["migrate"], environment), 1);
    assert!(!told.contains("tokens."), "{told}");
    assert_tells(&told, &["127.0.0.1"]);
}

#[test]
fn migrate_brings_the_database_up_to_date_and_then_says_that_it_is() {
    let home = Home::new();
    assert!(run(home.command(["migrate"], []), 0).contains("migrated "));
    if home.database().is_embedded() {
        assert_eq!(mode(home.database().file()), 0o600);
    }
    assert_eq!(run(home.command(["migrate"], []), 0), "the database is up to date\n");
}

#[test]
fn healthcheck_tells_whether_the_server_is_ready() {
    let home = Home::new();
    let server = home.serve(&[]);
    let port = server.address.port().to_string();
    assert_eq!(run(home.command(["healthcheck"], [("PORT", port.as_str())]), 0), "ready\n");
    assert_eq!(run(home.command(["healthcheck"], [("PORT", port.as_str()), ("HOST", "0.0.0.0")]), 0), "ready\n");
    server.stop();
    let told = run(home.command(["healthcheck"], [("PORT", port.as_str())]), 1);
    assert_tells(&told, &[&format!("127.0.0.1:{port}")]);
}

#[test]
fn wrong_usage_exits_with_2() {
    let home = Home::new();
    for arguments in [vec!["frobnicate"], vec!["serve", "--frobnicate"], vec!["serve", "extra"], vec!["--config"]] {
        run(home.command(arguments, []), 2);
    }
    assert!(!home.path("data").exists());
}

// Where the configuration comes from.

#[test]
fn a_configuration_file_can_be_named_and_must_then_exist() {
    let home = Home::new();
    home.write("config/countersign.toml", "[server]\nport = 1001\n");
    home.write("other.toml", "[server]\nport = 1002\n");
    for arguments in
        [["--config", "other.toml", "check-config", "--json"], ["check-config", "--json", "--config", "other.toml"]]
    {
        assert_eq!(setting(&home, &arguments, &[], "server.port"), ("1002".into(), "other.toml".into()));
    }
    assert_tells(&run(home.command(["check-config", "--config", "none.toml"], []), 1), &["none.toml"]);
    assert_tells(&run(home.command(["serve", "--config", "none.toml"], []), 1), &["none.toml"]);
}

#[test]
fn later_places_win_from_file_to_dotenv_to_environment_to_credentials() {
    let home = Home::new();
    let port = |environment: &[(&str, &str)]| setting(&home, &["check-config", "--json"], environment, "server.port");
    let expected = |value: &str, place: &str| (value.to_owned(), place.to_owned());

    assert_eq!(port(&[]), expected("8080", "built-in default"));
    home.write("config/countersign.toml", "[server]\nport = 1001\n");
    assert_eq!(port(&[]), expected("1001", "config/countersign.toml"));
    home.write(".env", "PORT=1002\n");
    assert_eq!(port(&[]), expected("1002", ".env"));
    assert_eq!(port(&[("PORT", "1003")]), expected("1003", "environment variable PORT"));
    assert_eq!(port(&[("PORT", "")]), expected("1002", ".env"), "an empty value counts as unset");
    home.write("credentials/PORT", "1004\n");
    let credentials = home.path("credentials").display().to_string();
    let both = [("PORT", "1003"), ("CREDENTIALS_DIRECTORY", credentials.as_str())];
    assert_eq!(port(&both), expected("1004", "credential PORT"));
}

// The end.

#[test]
fn sigterm_and_sigint_end_it_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let server = home.serve(&[]);
        server.register("ada@example.com");
        // Idle, and kept open: it must hold nothing up.
        let _idle = Connection::open(server.address).unwrap();
        let began = Instant::now();
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{signal:?}: {log}");
        assert!(log.contains("stopped"), "{log}");
        assert!(began.elapsed() < PATIENCE, "{signal:?} took {:?}", began.elapsed());
    }
}

/// They ask a server to reopen or to report something, of which there is nothing; and nothing must end for it.
#[test]
fn signals_that_ask_for_something_else_than_the_end_are_ignored_and_told() {
    let home = Home::new();
    let server = home.serve(&[]);
    let pair = server.register("ada@example.com");
    for signal in [Signal::USR1, Signal::USR2, Signal::PIPE, Signal::XFSZ] {
        server.signal(signal);
        assert_eq!(status_of_me(&server, &pair), 200, "{signal:?}");
    }
    let log = server.stop();
    for name in ["SIGUSR1", "SIGUSR2"] {
        assert!(log.contains(&format!("{name} is ignored")), "{name}: {log}");
    }
}

/// A client that stood still for a moment may find that the server has given it up; then it is tried anew.
#[test]
fn sigterm_while_clients_refresh_leaves_no_request_without_its_answer() {
    assert!((0..5).any(|_| all_are_answered_until_the_end()), "requests were dropped, every time");
}

/// Whether all were, or some client had not asked for so long that the server need not have listened any more.
fn all_are_answered_until_the_end() -> bool {
    let home = Home::new();
    let server = home.serve(&[]);
    let address = server.address;
    let tokens: Vec<String> = (0..6)
        .map(|number| member(&server.register(&format!("client{number}@example.com")), "refresh_token"))
        .collect();
    let (stopping, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = tokens
        .into_iter()
        .map(|token| {
            let (stopping, answered) = (Arc::clone(&stopping), Arc::clone(&answered));
            thread::spawn(move || refresh_until_sent_away(address, token, &stopping, &answered))
        })
        .collect();
    let began = Instant::now();
    while answered.load(Ordering::SeqCst) <= 30 {
        assert!(began.elapsed() < PATIENCE, "all are busy: {answered:?}");
        thread::sleep(Duration::from_millis(5));
    }
    stopping.store(true, Ordering::SeqCst);
    server.stop();
    let ends: Vec<(String, bool)> = clients.into_iter().map(|client| client.join().unwrap()).collect();

    let server = home.serve(&[]);
    for (token, _) in &ends {
        let answer = server.post("/v1/auth/refresh", &json!({ "refresh_token": token }));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    ends.iter().all(|(_, all_answered)| *all_answered)
}

/// Refreshes over one connection until the server says that it closes it; the last token, and whether every request was
/// answered that the server was bound to answer.
fn refresh_until_sent_away(
    address: SocketAddr,
    mut token: String,
    stopping: &AtomicBool,
    answered: &AtomicU32,
) -> (String, bool) {
    let mut connection = Connection::open(address).unwrap();
    let mut before = Instant::now();
    loop {
        let (last, asked) = (before, Instant::now());
        before = asked;
        match connection.refresh(&token) {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.body);
                token = member(&answer.body, "refresh_token");
                answered.fetch_add(1, Ordering::SeqCst);
                if answer.last {
                    assert!(stopping.load(Ordering::SeqCst), "nobody was stopping");
                    return (token, true);
                }
            }
            Err(Lost::Unsent(_)) if stopping.load(Ordering::SeqCst) => return (token, true),
            // A server that stops waits a quarter of a second for the next request.
            Err(Lost::Unanswered(_)) if stopping.load(Ordering::SeqCst) && asked - last > SILENCE => {
                return (token, false);
            }
            Err(lost) => panic!("a request was dropped: {lost:?}"),
        }
    }
}

#[test]
fn while_it_drains_the_server_is_alive_and_says_that_it_is_not_ready() {
    let home = Home::new();
    let server = home.serve(&[]);
    let ask = |path: &str| Connection::open(server.address).unwrap().send("GET", path, &[], "").unwrap();
    assert_eq!(ask("/health/ready").status, 200);
    // A client is still there; without one it would stop at once.
    let mut kept = Connection::open(server.address).unwrap();
    assert_eq!(kept.send("GET", "/health/ready", &[], "").unwrap().status, 200);
    server.signal(Signal::TERM);
    let began = Instant::now();
    let answer = loop {
        let answer = ask("/health/ready");
        if answer.status != 200 {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "it drains");
    };
    assert_eq!((answer.status, answer.body["code"].as_str()), (503, Some("unavailable")));
    assert!(answer.last, "and it says that the connection closes");
    assert_eq!(ask("/health/live").status, 200);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_log_in_that_is_being_checked_when_sigterm_comes_is_answered() {
    let home = Home::new();
    let server = home.serve(&[("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "14")]);
    server.register("ada@example.com");
    let (mut database, guesses) = (home.database().connect(), "SELECT count(*) FROM attempts");
    let (began, before) = (Instant::now(), database.number(guesses));
    let mut connection = Connection::open(server.address).unwrap();
    let log_in = thread::spawn(move || {
        connection.post("/v1/auth/login", &json!({ "email": "ada@example.com", "password": PASSWORD }))
    });
    // It is counted, and then the password is hashed.
    while database.number(guesses) == before {
        assert!(began.elapsed() < PATIENCE, "the log-in is looked at");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!log_in.is_finished(), "hashing takes longer than this");
    server.stop();
    let answer = log_in.join().unwrap().expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.last, "and the connection closes behind it");
}

// The log.

/// A child whose log the test reads, or does not.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Unread {
    fn start(mut command: Command, log: Stdio) -> Self {
        Self(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    #[track_caller]
    fn stop(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let began = Instant::now();
        let status = loop {
            match self.0.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(began.elapsed() < 3 * PATIENCE, "the log holds the end up"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0));
    }
}

/// The command that serves on this port, with cheap passwords.
fn serve_on(home: &Home, port: u16) -> Command {
    home.migrate();
    let port = port.to_string();
    home.command(["serve"], [("PORT", port.as_str()), ("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4")])
}

/// A port that is free just now.
fn free_port() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// Connects as soon as the server listens.
#[track_caller]
fn connect_soon(address: SocketAddr) -> TcpStream {
    let began = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_read_timeout(Some(3 * PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Requests, all of which must be answered. Each is a line of more than 250 bytes in the log.
#[track_caller]
fn many_requests(stream: &mut TcpStream, count: usize) {
    const AT_ONCE: usize = 50;
    let requests =
        format!("GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-Id: {}\r\n\r\n", "i".repeat(64)).repeat(AT_ONCE);
    let mut part = [0; 16 * 1024];
    for _ in 0..count.div_ceil(AT_ONCE) {
        stream.write_all(requests.as_bytes()).unwrap();
        let (mut answers, mut last) = (0, Vec::new());
        while answers < AT_ONCE {
            let length = read(stream, &mut part).unwrap();
            assert!(length > 0, "closed");
            last.extend_from_slice(&part[..length]);
            let text = String::from_utf8_lossy(&last).into_owned();
            answers += text.matches("{\"status\":\"live\"}").count();
            let rest = text.rfind('}').map_or(0, |end| end + 1);
            last.drain(..rest.min(last.len()));
        }
    }
}

/// More lines than a mebibyte and a pipe hold.
const TOO_MANY: usize = 6000;

/// A log that nothing reads stops neither requests nor the end and says what it dropped.
#[test]
fn a_log_that_nothing_reads_stops_neither_requests_nor_the_end() {
    let home = Home::new();
    let mut server = Unread::start(serve_on(&home, 0), Stdio::piped());
    let mut log = BufReader::new(server.0.stderr.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log ends");
        serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("no whole line: {line}"))
    };
    let url = loop {
        if let Some(url) = next()["url"].as_str() {
            break url.to_owned();
        }
    };
    let mut client = connect_soon(url.strip_prefix("http://").unwrap().parse().unwrap());
    // Nothing reads from here on.
    many_requests(&mut client, TOO_MANY);
    let (mut read, mut told) = (0, None);
    while told.is_none() {
        let line = next();
        read += u64::from(line["target"] == "countersign::access");
        told = line["lines"].as_u64();
    }
    let dropped = told.unwrap();
    let sent = u64::try_from(TOO_MANY).unwrap();
    assert!(dropped > 0 && read + dropped == sent, "{dropped} of {sent} were dropped, and {read} read");
    many_requests(&mut client, TOO_MANY);
    server.stop();
}

#[test]
fn a_log_on_a_full_disk_stops_neither_requests_nor_the_end() {
    let home = Home::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let address = free_port();
    let mut server = Unread::start(serve_on(&home, address.port()), full.into());
    many_requests(&mut connect_soon(address), 500);
    server.stop();
}

/// A file that may grow no further stands for a full disk: what follows when there is room again is whole lines.
#[test]
fn a_line_of_the_log_that_a_full_disk_has_cut_does_not_spoil_the_next() {
    let home = Home::new();
    let path = home.path("countersign.log");
    let log = fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let address = free_port();
    let serve = serve_on(&home, address.port());
    let mut command = Command::new("sh");
    // Half a mebibyte and a bit, in units of 512 bytes: a line is cut, wherever its end is.
    command.args(["-c", "ulimit -f 1025; exec \"$0\" serve"]).arg(serve.get_program()).current_dir(home.path(""));
    command.env_clear().envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut server = Unread::start(command, log.into());
    let mut client = connect_soon(address);
    many_requests(&mut client, 3000);
    let cut = fs::read_to_string(&path).unwrap();
    assert_eq!(cut.len(), 1025 * 512, "the log is full");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    many_requests(&mut client, 50);
    server.stop();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no whole line: {line}")))
        .collect();
    assert_eq!(text.starts_with('\n'), !cut.ends_with('\n'), "a line that was cut is ended first");
    assert!(lines.iter().any(|line| line["lines"].as_u64().is_some_and(|lines| lines > 0)), "{text}");
    assert!(lines.iter().any(|line| line["message"] == "stopped"), "{text}");
}

#[test]
fn the_log_holds_no_secret_and_no_query_string_at_any_level() {
    let home = Home::new();
    let environment = [
        ("COUNTERSIGN__LOG__LEVEL", "trace"),
        ("ACCESS_TOKEN_SECRET", SECRET),
        ("REFRESH_TOKEN_SECRET", OTHER_SECRET),
        ("PASSWORD_PEPPER", "a-pepper-of-at-least-thirty-two-bytes"),
    ];
    let server = home.serve(&environment);
    let mut forbidden: Vec<String> = environment.iter().skip(1).map(|(_, value)| (*value).to_owned()).collect();
    let mut ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &Value| {
        let json = [("Content-Type", "application/json")];
        let headers: Vec<_> = json.iter().chain(headers).copied().collect();
        let answer = Connection::open(server.address).unwrap().send(method, path, &headers, &body.to_string()).unwrap();
        for name in ["access_token", "refresh_token"] {
            forbidden.extend(answer.body[name].as_str().map(str::to_owned));
        }
        answer
    };
    let user = json!({ "email": "ada@example.com", "password": PASSWORD });
    assert_eq!(ask("POST", "/v1/auth/register?canary=query-one", &[], &user).status, 201);
    let pair = ask("POST", "/v1/auth/login?canary=query-two", &[], &user).body;
    let bearer = format!("Bearer {}", member(&pair, "access_token"));
    let first = json!({ "refresh_token": pair["refresh_token"] });
    assert_eq!(ask("POST", "/v1/auth/refresh?canary=query-three", &[], &first).status, 200);
    assert_eq!(ask("POST", "/v1/auth/refresh", &[], &first).status, 200, "a repeat");
    let cookies = format!("refreshToken={}", member(&pair, "refresh_token"));
    ask("POST", "/v1/auth/refresh?canary=query-four", &[("Cookie", &cookies)], &json!({}));
    ask("POST", "/v1/auth/refresh", &[("Cookie", &cookies)], &json!({ "refresh_token": "canary-forged.token" }));
    ask(
        "GET",
        "/v1/users/me?canary=query-five&access_token=canary-in-query",
        &[("Authorization", &bearer)],
        &json!({}),
    );
    ask("GET", "/v1/users/me", &[("Authorization", "Bearer canary-bad-bearer")], &json!({}));
    ask("GET", "/v1/users/me", &[("Authorization", &bearer), ("Cookie", "accessToken=canary-cookie")], &json!({}));
    ask("GET", "/nowhere?canary=query-six", &[], &json!({}));
    ask("DELETE", "/v1/auth/login?canary=query-seven", &[], &json!({}));
    ask("POST", "/v1/auth/login", &[], &json!("canary-of-another-shape"));
    ask("POST", "/v1/auth/login", &[], &json!({ "email": "ada@example.com", "password": "canary-wrong-password" }));
    ask("POST", "/v1/auth/login", &[], &json!({ "email": "nobody@example.com", "password": "canary-wrong-password" }));
    ask("POST", "/v1/auth/register", &[], &json!({ "email": "grace@example.com", "password": "canary" }));
    ask("POST", "/v1/auth/register", &[], &json!({ "email": "canary-no-address", "password": PASSWORD }));
    let change = json!({ "current_password": PASSWORD, "new_password": "canary-new-password" });
    assert_eq!(ask("POST", "/v1/users/me/password", &[("Authorization", &bearer)], &change).status, 204);
    ask("POST", "/v1/auth/logout", &[], &first);

    for unreadable in
        ["GET /v1/sessions?canary=query-eight HTTP/1.1\r\ncanary without a colon\r\n\r\n", "canary query-nine\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(unreadable.as_bytes()).unwrap();
        stream.read_to_string(&mut String::new()).unwrap();
    }

    let log = server.stop();
    forbidden.extend([PASSWORD, "canary", "query-"].map(str::to_owned));
    assert!(forbidden.len() >= 3 + 2 * 4 + 3, "tokens were collected: {}", forbidden.len());
    for text in &forbidden {
        let line = log.lines().find(|line| line.contains(text.as_str()));
        assert!(line.is_none(), "the log holds {text}: {}", line.unwrap_or_default());
        // A signature alone would complete a token whose other parts are elsewhere.
        if let Some((_, signature)) = text.rsplit_once('.') {
            assert!(!log.contains(signature), "the log holds the signature of {text}");
        }
    }
    assert!(log.lines().filter(|line| line.contains("\"route\"")).count() > 12, "requests were logged: {log}");
    assert!(log.contains("/v1/users/me"), "{log}");
}

/// OPS-04.
#[test]
fn a_security_event_is_one_line_of_json() {
    let home = Home::new();
    let server = home.serve(&[("COUNTERSIGN__ROTATION__OVERLAP", "0"), ("COUNTERSIGN__ROTATION__RECOVERY", "0")]);
    let mut connection = Connection::open(server.address).unwrap();
    let mut ask = |method: &str, path: &str, headers: &[(&str, &str)], body: Value| {
        let headers: Vec<_> = [("Content-Type", "application/json")].iter().chain(headers).copied().collect();
        connection.send(method, path, &headers, &body.to_string()).unwrap()
    };
    let user = json!({ "email": "ada@example.com", "password": PASSWORD });
    ask("POST", "/v1/auth/register", &[], user.clone());
    let first = ask("POST", "/v1/auth/login", &[], user.clone()).body;
    ask("POST", "/v1/auth/login", &[], json!({ "email": "ada@example.com", "password": "not the password" }));
    let refresh = json!({ "refresh_token": first["refresh_token"] });
    assert_eq!(ask("POST", "/v1/auth/refresh", &[], refresh.clone()).status, 200);
    assert_eq!(ask("POST", "/v1/auth/refresh", &[], refresh).body["reason"], "reused");
    let second = ask("POST", "/v1/auth/login", &[], user.clone()).body;
    let bearer = format!("Bearer {}", member(&second, "access_token"));
    let change = json!({ "current_password": PASSWORD, "new_password": "another good turnip" });
    ask("POST", "/v1/users/me/password", &[("Authorization", &bearer)], change);
    let cookie = format!("refreshToken={}", member(&second, "refresh_token"));
    ask("POST", "/v1/auth/refresh", &[("Cookie", &cookie), ("Sec-Fetch-Site", "cross-site")], json!({}));
    ask("POST", "/v1/auth/logout", &[("Authorization", &bearer)], json!({}));

    let log = server.stop();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    // An ordinary rotation is told by the line of its request.
    let events: Vec<&Value> = lines.iter().filter(|line| line["event"].is_string()).collect();
    let told = |name: &str| if name == "rotated" { "countersign::access" } else { "countersign::security" };
    assert!(events.iter().all(|line| line["target"] == told(line["event"].as_str().unwrap())), "{log}");
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "registered",
            "login_ok",
            "login_failed",
            "rotated",
            "reused",
            "login_ok",
            "password_changed",
            "revoked",
            "cross_site",
            "revoked"
        ],
        "{log}"
    );
    let accesses: Vec<&Value> = lines.iter().filter(|line| line["target"] == "countersign::access").collect();
    assert!(accesses.iter().all(|line| line["ip_address"] == "127.0.0.1"), "{log}");
    for event in events {
        let name = event["event"].as_str().unwrap();
        let at = event["timestamp"].as_str().unwrap();
        assert!(at.len() > 20 && at.ends_with('Z'), "{event}");
        assert!(["ERROR", "WARN", "INFO"].contains(&event["level"].as_str().unwrap()), "{event}");
        // The request that it happened in: its access line says where from, and what became of it.
        let of_the_request = |line: &&&Value| line["span"]["id"] == event["span"]["id"];
        assert!(event["span"]["id"].is_string() && accesses.iter().find(of_the_request).is_some(), "{event}");
        if name != "cross_site" {
            assert_eq!(event["user_id"], first["user"]["id"], "{event}");
            assert_eq!(event["ip_address"], "127.0.0.1", "{event}");
        }
        if ["rotated", "reused"].contains(&name) {
            assert_eq!(event["session_id"], first["session_id"], "{event}");
        }
    }
}

/// An answer that the parser gives by itself has a line in the log like every other.
#[test]
fn a_request_that_cannot_be_read_is_in_the_log() {
    let server = Home::new().serve(&[]);
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let id_of = |answer: &str| {
        let (_, rest) = answer.split_once("x-request-id: ").unwrap_or_else(|| panic!("{answer}"));
        rest.split('\r').next().unwrap().to_owned()
    };
    let many = "X-A: a\r\n".repeat(100);
    let unreadable = [
        (ask("POST /v1/auth/logout HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (ask("GET /health/live HTTP/1.1\r\n\r\n"), 400),
        (ask("hello\r\n\r\n"), 400),
        (ask(&format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{many}\r\n")), 431),
    ];
    let readable = ask("POST /v1/auth/logout HTTP/1.0\r\n\r\n");
    let log = server.stop();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line_of = |answer: &str| {
        let id = id_of(answer);
        let mut found = lines.iter().filter(|line| line["span"]["id"] == id);
        let line = found.next().unwrap_or_else(|| panic!("no line of {answer}in {log}"));
        assert!(found.next().is_none(), "one line: {log}");
        assert_eq!((&line["target"], &line["ip_address"]), (&json!("countersign::access"), &json!("127.0.0.1")));
        (line["method"].clone(), line["status"].clone())
    };
    for (answer, status) in &unreadable {
        assert_eq!(line_of(answer), (json!("(unreadable)"), json!(status)), "{answer}");
    }
    assert_eq!(line_of(&readable), (json!("POST"), json!(401)), "{readable}");
}

/// OPS-02. With secrets in credential files, no other user of the machine can see them in the process.
#[test]
fn secrets_in_credentials_are_in_no_argument_no_environment_and_no_log() {
    let home = Home::new();
    home.write("credentials/ACCESS_TOKEN_SECRET", SECRET);
    home.write("credentials/REFRESH_TOKEN_SECRET", OTHER_SECRET);
    home.write("credentials/PASSWORD_PEPPER", "a-pepper-of-at-least-thirty-two-bytes");
    let credentials = home.path("credentials").display().to_string();
    let server = home.serve(&[("CREDENTIALS_DIRECTORY", &credentials), ("COUNTERSIGN__LOG__LEVEL", "trace")]);
    server.register("ada@example.com");
    let seen = |name: &str| fs::read(format!("/proc/{}/{name}", server.id())).unwrap();
    let process = [seen("cmdline"), seen("environ")].concat();
    assert!(!process.is_empty());
    let text = String::from_utf8_lossy(&process).into_owned() + &server.stop();
    for secret in [SECRET, OTHER_SECRET, "a-pepper-of", PASSWORD] {
        assert!(!text.contains(secret), "{secret}");
    }
}

/// What is made beside an embedded database, and files that are none.
mod embedded {
    use super::*;

    /// The first start makes everything it needs for its owner alone and says where.
    #[test]
    fn the_first_start_makes_all_it_needs_for_its_owner_alone() {
        let home = Home::new();
        let server = home.serve(&[]);
        server.register("ada@example.com");

        assert_eq!(mode(&home.path("data")), 0o700);
        assert_eq!(mode(&home.path("data/keys")), 0o700);
        let keys = names(&home.path("data/keys"));
        assert_eq!(keys, ["access-0001-es256.pem", "databases", "issuer", "issuers", "refresh-0001.key"]);
        for name in keys {
            assert_eq!(mode(&home.path("data/keys").join(&name)), 0o600, "{name}");
        }
        for name in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
            assert_eq!(mode(&home.path("data").join(name)), 0o600, "{name}");
        }

        let address = server.address;
        let log = server.stop();
        let line = log.lines().find(|line| line.contains("listening on")).expect("it says that it listens");
        let entry: Value = serde_json::from_str(line).expect("the log is JSON where nobody watches");
        assert_eq!(entry["url"], format!("http://{address}"));
        assert_eq!(entry["data"].as_str().map(Path::new), Some(home.path("data").canonicalize().unwrap().as_path()));
        let attempt = entry["try"].as_str().unwrap();
        assert!(attempt.starts_with(&format!("curl -X POST http://{address}/v1/auth/register ")), "{attempt}");
        assert!(log.contains("signing keys were made"), "{log}");
    }

    #[test]
    fn a_restart_makes_nothing_new_and_every_token_goes_on_working() {
        let home = Home::new();
        let server = home.serve(&[]);
        let first = server.register("ada@example.com");
        server.stop();
        let keys = contents(&home.path("data/keys"));

        let server = home.serve(&[]);
        assert_eq!(status_of_me(&server, &first), 200, "the access token still verifies");
        let refreshed = server.post("/v1/auth/refresh", &json!({ "refresh_token": first["refresh_token"] }));
        assert_eq!(refreshed.status, 200, "{}", refreshed.body);
        let log_in = server.post("/v1/auth/login", &json!({ "email": "ada@example.com", "password": PASSWORD }));
        assert_eq!(log_in.status, 200, "{}", log_in.body);
        assert!(!server.stop().contains("signing keys were made"));
        assert_eq!(contents(&home.path("data/keys")), keys);
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused_and_not_shown() {
        let home = Home::new();
        home.serve(&[]).stop();
        let key = home.path("data/keys/refresh-0001.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let told = refused(&home, &[]);
        assert_tells(&told, &["data/keys/refresh-0001.key", "chmod 600"]);
        assert!(!told.contains(fs::read_to_string(&key).unwrap().trim()), "{told}");
    }

    #[test]
    fn a_database_that_cannot_be_opened_is_refused() {
        let home = Home::new();
        home.write("data/countersign.db", "This is a text and not a database, although it has its name.");
        let told = refused(&home, &[]);
        assert!(told.contains("database"), "{told}");
    }

    #[test]
    fn short_names_set_secrets_and_lifetimes() {
        let home = Home::new();
        home.write(".env", &format!("REFRESH_TOKEN_SECRET={OTHER_SECRET}\nREFRESH_TOKEN_EXPIRY=2h\n"));
        let server = home.serve(&[("ACCESS_TOKEN_SECRET", SECRET), ("ACCESS_TOKEN_EXPIRY", "77")]);
        let kept = names(&home.path("data/keys"));
        assert_eq!(kept, ["databases", "issuer", "issuers"], "configured secrets need no files");
        let pair = server.register("ada@example.com");
        assert_eq!((pair["expires_in"].as_u64(), pair["refresh_expires_in"].as_u64()), (Some(77), Some(7200)));
        let jwks = Connection::open(server.address).unwrap().send("GET", "/.well-known/jwks.json", &[], "").unwrap();
        assert_eq!(jwks.body, json!({ "keys": [] }), "HS256 has no public key");
        server.stop();

        let exchanged =
            [("ACCESS_TOKEN_SECRET", SECRET), ("REFRESH_TOKEN_SECRET", "another-secret-of-thirty-two-bytes!")];
        let told = refused(&home, &exchanged);
        assert!(told.contains("is not there"), "the environment's secret won over the one in .env: {told}");

        let server = home.serve(&[("ACCESS_TOKEN_SECRET", SECRET)]);
        let answer = server.post("/v1/auth/refresh", &json!({ "refresh_token": pair["refresh_token"] }));
        assert_eq!(answer.status, 200, "nothing was revoked meanwhile: {}", answer.body);
    }
}

// What the tests above are written with.

fn mode(path: &Path) -> u32 {
    let found = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    found.permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| (name.clone(), fs::read(folder.join(name)).unwrap());
    names(folder).into_iter().map(read).collect()
}

fn member(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).to_owned()
}

fn status_of_me(server: &Server, pair: &Value) -> u16 {
    let bearer = format!("Bearer {}", member(pair, "access_token"));
    let mut connection = Connection::open(server.address).unwrap();
    connection.send("GET", "/v1/users/me", &[("Authorization", &bearer)], "").unwrap().status
}

/// Runs a command to its end: standard output after success, standard error after failure.
#[track_caller]
fn run(mut command: Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    if code == 0 { stdout } else { stderr }
}

/// Runs a command that succeeds, and returns what it warns of.
#[track_caller]
fn warnings(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stderr).unwrap()
}

/// What `serve` says when it refuses to.
#[track_caller]
fn refused(home: &Home, environment: &[(&str, &str)]) -> String {
    let environment = [("PORT", "0")].into_iter().chain(environment.iter().copied());
    run(home.command(["serve"], environment), 1)
}

#[track_caller]
fn assert_tells(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
}

/// One value as `check-config --json` shows it, and where it came from.
#[track_caller]
fn setting(home: &Home, arguments: &[&str], environment: &[(&str, &str)], key: &str) -> (String, String) {
    let output = run(home.command(arguments.iter().copied(), environment.iter().copied()), 0);
    let shown: Vec<Value> = serde_json::from_str(&output).unwrap();
    let entry = shown.iter().find(|entry| entry["key"] == key).unwrap();
    (member(entry, "value"), member(entry, "source"))
}
