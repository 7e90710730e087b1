//! The first moments of a node, and what its operator is told.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::cluster::Cluster;
use support::database::{Connection as DatabaseConnection, SHARED};
use support::manager::Manager;
use support::process::{Connection, Home, Server};

/// How long a command may take, and a node to notice what was done.
const PATIENCE: Duration = Duration::from_secs(60);

const PORT: (&str, &str) = ("PORT", "0");

/// Runs a command to its end, which must come: exit code, standard output, standard error.
#[track_caller]
fn finish(mut command: Command) -> (Option<i32>, String, String) {
    end(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

#[track_caller]
fn end(mut child: Child) -> (Option<i32>, String, String) {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it goes on and on: {}", String::from_utf8_lossy(&output.stderr));
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn get(server: &Server, path: &str) -> (u16, String) {
    let answer = Connection::open(server.address).unwrap().send("GET", path, &[], "").unwrap();
    (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned())
}

pub fn processes_that_migrate_at_once_do_not_trip_over_each_other() {
    for _ in 0..3 {
        let home = Home::new();
        let start = || home.command(["migrate"], []).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let children: Vec<Child> = (0..8).map(|_| start()).collect();
        let ends: Vec<_> = children.into_iter().map(end).collect();
        assert!(ends.iter().all(|(code, _, errors)| (*code, errors.as_str()) == (Some(0), "")), "{ends:?}");
        let (first, rest): (Vec<_>, Vec<_>) = ends.iter().partition(|(_, told, _)| told.contains("migrated "));
        assert_eq!((first.len(), rest.len()), (1, 7), "one did it all: {ends:?}");
        assert!(rest.iter().all(|(_, told, _)| told == "the database is up to date\n"), "{ends:?}");
        let mut database = home.database().connect();
        let migrations = database.number("SELECT count(*) FROM __diesel_schema_migrations");
        assert_eq!(i64::try_from(first[0].1.matches("migrated ").count()).unwrap(), migrations);
        home.serve(&[]).register("ada@example.com");
    }
}

pub fn without_what_all_nodes_share_it_does_not_start_and_names_the_key() {
    let home = Home::new();
    home.migrate();
    // Access keys are generated into the database.
    for (key, name, _) in SHARED.into_iter().filter(|(key, ..)| *key != "tokens.access_secret") {
        // An empty value counts as unset.
        let (code, _, told) = finish(home.command(["serve"], [PORT, (name, "")]));
        assert_eq!(code, Some(1), "without {name}: {told}");
        assert!((told.contains(key) || told.contains(name)) && told.contains("PostgreSQL"), "without {name}: {told}");
        for (_, other, value) in SHARED.iter().filter(|(_, other, _)| other.ends_with("_SECRET")) {
            assert!(!told.contains(value), "{other} is shown: {told}");
        }
        assert!(!home.path("data/keys").exists(), "no node makes keys of its own");
    }
    let server = home.serve(&[]);
    server.register("ada@example.com");
    server.stop();
}

pub fn with_migrations_pending_it_lives_and_is_not_ready_until_they_are_done() {
    let home = Home::new();
    let socket = home.path("notify");
    let manager = Manager::new(UnixDatagram::bind(&socket).unwrap());
    let environment = [PORT, ("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4"), ("NOTIFY_SOCKET", socket.to_str().unwrap())];
    let server = Server::start(home.command(["serve"], environment));
    assert_eq!(get(&server, "/health/live").0, 200);
    assert_eq!(manager.hears(), ["STATUS=starting"]);
    let told = manager.hears().join("\n");
    assert!(told.starts_with("STATUS=not ready: ") && !told.contains("READY=1"), "{told}");
    assert_eq!(get(&server, "/health/ready"), (503, "unavailable".to_owned()));
    let told = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
    assert_eq!(home.database().connect().number(told), 0, "a node migrates nothing");
    let (code, _, told) = finish(home.command(["user", "list"], []));
    assert!(code == Some(1) && told.contains("countersign migrate"), "{told}");

    let (code, _, told) = finish(home.command(["migrate"], []));
    assert_eq!(code, Some(0), "{told}");
    // An answer is given to all who ask within a second.
    let becomes = |status: u16| {
        let began = Instant::now();
        while get(&server, "/health/ready").0 != status {
            assert!(began.elapsed() < PATIENCE, "it becomes {status} without a restart");
            thread::sleep(Duration::from_millis(20));
        }
    };
    becomes(200);
    manager.hears_until("READY=1");
    server.register("ada@example.com");
    // One migration that this version has and the database has not is enough.
    let mut database = home.database().connect();
    database.execute(
        "CREATE TABLE kept AS SELECT * FROM __diesel_schema_migrations;
         DELETE FROM __diesel_schema_migrations WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)",
    );
    becomes(503);
    database.execute("DELETE FROM __diesel_schema_migrations; INSERT INTO __diesel_schema_migrations TABLE kept");
    becomes(200);
}

pub fn a_database_that_is_not_utf8_is_not_migrated_and_its_operator_is_told() {
    let cluster = Cluster::start().unwrap();
    let made = "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    DatabaseConnection::open(&cluster.url()).execute(made);
    let home = Home::on_postgres(&cluster.url());
    let url = home.database().url().replace("/postgres?", "/latin?");
    let (code, _, told) = finish(home.command(["migrate"], [("DATABASE_URL", url.as_str())]));
    assert!(code == Some(1) && told.contains("LATIN1") && told.contains("UTF8"), "{told}");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    assert_eq!(DatabaseConnection::open(&cluster.url().replace("/postgres?", "/latin?")).number(tables), 0);
}

/// It would know of revocations as late as it hears of them.
pub fn a_standby_alone_is_not_asked_until_it_is_promoted() {
    let primary = Cluster::start().unwrap();
    let home = Home::on_postgres(&primary.url());
    let server = home.serve(&[]);
    let pair = server.register("ada@example.com");
    let standby = primary.standby().unwrap();
    let place = |port: u16| format!("127.0.0.1:{port}");
    let url = home.database().url().replace(&place(primary.port()), &place(standby.port()));
    let alone = home.serve(&[("DATABASE_URL", &url)]);
    let authorization = format!("Bearer {}", pair["access_token"].as_str().unwrap());
    let me = || {
        let headers = [("Authorization", authorization.as_str())];
        Connection::open(alone.address).unwrap().send("GET", "/v1/users/me", &headers, "").unwrap().status
    };
    let mut there = DatabaseConnection::open(&url);
    let (began, known) = (Instant::now(), "SELECT count(*) FROM users");
    while there.attempt(known).is_err() || there.number(known) == 0 {
        assert!(began.elapsed() < PATIENCE, "the standby follows");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((me(), get(&alone, "/health/ready").0), (503, 503));
    server.stop();
    there.execute("SELECT pg_promote()");
    while get(&alone, "/health/ready").0 != 200 {
        assert!(began.elapsed() < PATIENCE, "it takes writes");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(me(), 200);
    alone.stop();
}

/// The URL with this password, which a server that trusts every client does not look at.
fn with_password(url: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, place) = rest.split_once('@').unwrap();
    // That of a server that does not, is the one to look for.
    if user.contains(':') { url.to_owned() } else { format!("{scheme}://{user}:{password}@{place}") }
}

pub fn the_password_of_the_database_is_told_nobody() {
    let home = Home::new();
    home.migrate();
    let url = with_password(&home.database().url(), "canary-of-thirty-characters-xyz");
    let password = url.split('@').next().unwrap().rsplit(':').next().unwrap().to_owned();
    let trace = ("COUNTERSIGN__LOG__LEVEL", "trace");
    let server = home.serve(&[("DATABASE_URL", &url), trace]);
    server.register("ada@example.com");
    let log = server.stop();
    assert!(log.len() > 1000 && !log.contains(&password), "{log}");

    let (code, shown, _) = finish(home.command(["check-config"], [("DATABASE_URL", url.as_str())]));
    assert_eq!(code, Some(0));
    assert!(shown.contains("database.url") && !shown.contains(&password), "{shown}");
    // No server there, no such database, and what libpq cannot read.
    let base = format!("postgres://postgres:{password}@");
    let elsewhere = [
        format!("{base}127.0.0.1:1/postgres?connect_timeout=2"),
        url.replace("/postgres?", "/no_such_database?"),
        format!("{base}127.0.0.1:1/postgres?no_such_parameter=1"),
        format!("{base}127.0.0.1:99999/postgres"),
    ];
    for url in &elsewhere {
        for arguments in [&["migrate"][..], &["user", "list"], &["session", "revoke", "--all"]] {
            let (code, out, told) =
                finish(home.command(arguments.iter().copied(), [("DATABASE_URL", url.as_str()), trace]));
            assert_eq!(code, Some(1), "{arguments:?}: {out}{told}");
            assert!(!out.contains(&password) && !told.contains(&password), "{arguments:?}: {out}{told}");
            assert!(!told.is_empty() && !told.contains("panicked"), "{arguments:?}: {told}");
        }
    }
}
