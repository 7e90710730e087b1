//! A real PgBouncer between the nodes and PostgreSQL, with few connections behind it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use serde_json::{Value, json};

use super::nodes::{ask, is_felt_soon, log_in, refresh, rotate, text, works};
use support::cluster::{Cluster, free_port};
use support::process::{Connection, Home, Server};

const ADA: &str = "ada@example.com";

/// What is said where there is one in transaction mode.
const FOUND: &str = "a pooler in transaction mode stands before PostgreSQL";

/// How long it may take to start, and a command to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it until this program closes its end of the pipe; each line makes it read its settings again.
const KEEPER: &str = r#""$@" </dev/null & pooler=$!
    while read -r told; do kill -HUP $pooler; done; kill -TERM $pooler; wait $pooler"#;

/// Where the program is. `Err` says that it is missing.
pub fn installed() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut programs = folders.map(|folder| folder.join("pgbouncer"));
    programs.find(|program| program.is_file()).ok_or_else(|| "pgbouncer is not in PATH".to_owned())
}

/// A running pooler before a cluster. Dropping it stops it.
struct Pooler {
    keeper: Child,
    port: u16,
}

impl Pooler {
    /// In that mode, with so many connections to the server.
    fn start(cluster: &Cluster, mode: &str, connections: usize) -> Self {
        Self::start_at(cluster, free_port().unwrap(), mode, connections)
    }

    fn start_at(cluster: &Cluster, port: u16, mode: &str, connections: usize) -> Self {
        let file = Self::configure(cluster, port, mode, connections);
        let log = cluster.folder().join("pgbouncer.log");
        let mut command = cluster.as_the_server_runs("sh");
        command.args(["-c", KEEPER, "sh"]).arg(installed().unwrap()).arg(file);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let pooler = Self { keeper: command.spawn().unwrap(), port };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "{}", fs::read_to_string(&log).unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    /// Writes its settings.
    fn configure(cluster: &Cluster, port: u16, mode: &str, connections: usize) -> PathBuf {
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = {mode}\ndefault_pool_size = {connections}\nmax_client_conn = 200\n",
            cluster.port()
        );
        let file = cluster.folder().join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        file
    }

    /// Goes on in another mode, without its clients noticing.
    fn reload(&mut self, cluster: &Cluster, mode: &str, connections: usize) {
        Self::configure(cluster, self.port, mode, connections);
        self.keeper.stdin.as_mut().unwrap().write_all(b"reload\n").unwrap();
    }

    /// Stops, and starts again in another mode.
    fn restart(&mut self, cluster: &Cluster, mode: &str, connections: usize) {
        let port = self.port;
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        *self = Self::start_at(cluster, port, mode, connections);
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A database whose schema one need not name, since a pooler passes no `options` on.
fn database(cluster: &Cluster) -> Home {
    let home = Home::on_postgres(&cluster.url());
    let mut database = home.database().connect();
    let schema = database.text("SELECT current_schema()::text");
    database.execute(&format!("ALTER DATABASE postgres SET search_path = {schema}"));
    home
}

/// Runs a command to its end, which must come.
#[track_caller]
fn told(home: &Home, url: &str, arguments: &[&str]) -> String {
    let mut command = home.command(arguments.iter().copied(), [("DATABASE_URL", url)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            let errors = io::read_to_string(child.stderr.take().unwrap()).unwrap();
            panic!("{arguments:?} goes on and on: {errors}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that a node does with its database, on two of them.
fn everything_works(home: &Home, url: &str) -> (Server, Server) {
    assert!(told(home, url, &["migrate"]).contains("migrated "));
    assert_eq!(told(home, url, &["migrate"]), "the database is up to date\n");
    let environment = [("DATABASE_URL", url)];
    let (one, other) = (home.serve(&environment), home.serve(&environment));
    let ada = one.register(ADA);
    assert!(told(home, url, &["user", "list"]).contains(ADA));

    // Chains, each token the one that was just handed out.
    let pairs: Vec<Value> = (0..16).map(|_| log_in(&other)).collect();
    thread::scope(|scope| {
        for pair in &pairs {
            scope.spawn(|| (0..20).fold(pair.clone(), |pair, _| rotate(&one, &pair)));
        }
    });
    let mut database = home.database().connect();
    let exact = "SELECT count(*) FROM sessions WHERE generation = 20 AND branch = 0 AND revoked_at IS NULL";
    assert_eq!(database.number(exact), 16);

    let same = identical_refreshes(&one, &ada);
    let row = format!("id = unhex('{}')", text(&same, "session_id").replace('-', ""));
    assert_eq!(database.number(&format!("SELECT generation FROM sessions WHERE {row} AND branch = 0")), 1);
    let last = rotate(&other, &same);

    let out = one.post("/v1/auth/logout", &json!({ "refresh_token": last["refresh_token"] }));
    let began = Instant::now();
    assert_eq!(out.status, 204);
    assert_eq!(refresh(other.address, &last).1["reason"], "revoked");
    is_felt_soon("logging out", began, &other, &last);

    let again = log_in(&other);
    let events = ask(one.address, "GET", "/v1/users/me/events", &text(&again, "access_token"), &Value::Null).1;
    let kinds: BTreeSet<&str> =
        events["events"].as_array().unwrap().iter().filter_map(|event| event["kind"].as_str()).collect();
    assert!(kinds.len() > 1, "{events}");
    assert_eq!(Connection::open(one.address).unwrap().send("GET", "/health/ready", &[], "").unwrap().status, 200);
    (one, other)
}

/// Thirty of them at once, which are one rotation: its successor.
fn identical_refreshes(node: &Server, pair: &Value) -> Value {
    let start = Barrier::new(30);
    let mut answers: Vec<Value> = thread::scope(|scope| {
        let threads: Vec<_> = (0..30)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::open(node.address).unwrap();
                    start.wait();
                    let answer = connection.refresh(&text(pair, "refresh_token")).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    answer.body
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let successors: BTreeSet<String> = answers.iter().map(|answer| text(answer, "refresh_token")).collect();
    assert_eq!(successors.len(), 1, "one successor");
    answers.remove(0)
}

pub fn everything_works_through_a_pooler_in_transaction_mode() {
    let cluster = Cluster::start().unwrap();
    let home = database(&cluster);
    let pooler = Pooler::start(&cluster, "transaction", 4);
    let (one, other) = everything_works(&home, &pooler.url());
    let behind = "SELECT count(*) FROM pg_stat_activity
                  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    // Connections of the test's own take a moment to go.
    let (began, mut observer) = (Instant::now(), home.database().connect());
    while observer.number(behind) > 4 {
        assert!(began.elapsed() < PATIENCE, "somebody goes past the pooler");
        thread::sleep(Duration::from_millis(20));
    }
    for log in [one.stop(), other.stop()] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(FOUND)).collect();
        assert_eq!(lines.len(), 1, "it is said once: {log}");
        assert_eq!(serde_json::from_str::<Value>(lines[0]).unwrap()["level"], "INFO", "{}", lines[0]);
        assert!(!log.contains("prepared statement"), "{log}");
    }
}

/// Nothing that is set may be left behind in a session that others get next, and everything has its end all the same.
pub fn what_somebody_holds_is_not_waited_for_for_long_behind_a_pooler() {
    let cluster = Cluster::start().unwrap();
    let home = database(&cluster);
    let pooler = Pooler::start(&cluster, "transaction", 4);
    let node = home.serve(&[("DATABASE_URL", &pooler.url())]);
    let (ada, mut other) = (node.register(ADA), log_in(&node));
    let (mut holder, mut observer) = (home.database().connect(), home.database().connect());
    let mut nobody_waits = |what: &str| {
        let began = Instant::now();
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        while observer.number(waiting) > 0 {
            assert!(began.elapsed() < PATIENCE, "{what} is still being waited for");
            thread::sleep(Duration::from_millis(20));
        }
    };
    let row = text(&ada, "session_id").replace('-', "");
    holder.execute(&format!("BEGIN; SELECT 1 FROM sessions WHERE id = unhex('{row}') FOR UPDATE"));
    thread::scope(|scope| {
        let held = scope.spawn(|| refresh(node.address, &ada));
        thread::sleep(Duration::from_millis(100));
        other = rotate(&node, &other);
        assert_eq!(held.join().unwrap().0, 503);
    });
    nobody_waits("a row");
    holder.execute("ROLLBACK; BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE");
    let me = ask(node.address, "GET", "/v1/users/me", &text(&other, "access_token"), &Value::Null);
    assert_eq!(me.0, 503, "{}", me.1);
    nobody_waits("a table");
    holder.execute("ROLLBACK");
    assert!(works(&node, &rotate(&node, &ada)) && works(&node, &other));
    for _ in 0..8 {
        let mut next = super::database::Connection::open(&pooler.url());
        assert_eq!(next.text("SELECT current_setting('statement_timeout') || current_setting('lock_timeout')"), "00");
    }
}

pub fn everything_works_through_a_pooler_in_session_mode() {
    let cluster = Cluster::start().unwrap();
    let home = database(&cluster);
    let pooler = Pooler::start(&cluster, "session", 40);
    let (one, other) = everything_works(&home, &pooler.url());
    for node in [one, other] {
        let log = node.stop();
        assert!(!log.contains(FOUND), "{log}");
    }
    // Nor where there is no pooler at all.
    let log = home.serve(&[]).stop();
    assert!(!log.contains(FOUND), "{log}");
}

pub fn processes_behind_a_pooler_start_without_waiting_for_each_other() {
    let cluster = Cluster::start().unwrap();
    let home = database(&cluster);
    home.migrate();
    for connections in [1, 2] {
        let pooler = Pooler::start(&cluster, "transaction", connections);
        for _ in 0..3 {
            thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| told(&home, &pooler.url(), &["user", "list"]));
                }
            });
        }
    }
}

/// Rotations that each chain makes after the change before it is believed that all is well.
const IN_A_ROW: usize = 25;

/// Refreshes without end, each with the token that was just handed out, and everything else that a client asks for, until
/// told to stop: the last pair, and how many rotations there were. An outage is waited for, anything else is a failure.
fn chain(node: &Server, mut pair: Value, stop: &AtomicBool, in_a_row: &AtomicUsize) -> (Value, i64) {
    let mut rotations = 0;
    while !stop.load(Ordering::SeqCst) {
        let (status, body) = refresh(node.address, &pair);
        match status {
            200 => {
                (pair, rotations) = (body, rotations + 1);
                in_a_row.fetch_add(1, Ordering::SeqCst);
            }
            409 | 503 => {
                in_a_row.store(0, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            _ => panic!("{status}: {body}"),
        }
        for path in ["/v1/users/me", "/v1/sessions", "/v1/users/me/events"] {
            let (status, body) = ask(node.address, "GET", path, &text(&pair, "access_token"), &Value::Null);
            assert!(status == 200 || status == 503, "{path}: {status}: {body}");
            if status == 503 {
                in_a_row.store(0, Ordering::SeqCst);
            }
        }
    }
    (pair, rotations)
}

/// Statements that were prepared, and settings that were made, are in sessions that are ours no longer: it costs at most a
/// moment of 503, no restart, and no session.
pub fn a_pooler_that_changes_its_mode_needs_no_restart_of_the_nodes() {
    type Change = fn(&mut Pooler, &Cluster, &str, usize);
    let changes: [(&str, Change); 2] = [("reload", Pooler::reload), ("restart", Pooler::restart)];
    for (from, to) in [("session", "transaction"), ("transaction", "session")] {
        for (what, change) in changes {
            let cluster = Cluster::start().unwrap();
            let home = database(&cluster);
            home.migrate();
            let mut pooler = Pooler::start(&cluster, from, 60);
            let nodes = [0, 1].map(|_| home.serve(&[("DATABASE_URL", &pooler.url())]));
            nodes[0].register(ADA);
            let pairs: Vec<Value> = (0..8).map(|number| log_in(&nodes[number % 2])).collect();
            let stop = AtomicBool::new(false);
            let in_a_row: Vec<AtomicUsize> = pairs.iter().map(|_| AtomicUsize::new(0)).collect();
            let all_go_on = |when: &str| {
                in_a_row.iter().for_each(|count| count.store(0, Ordering::SeqCst));
                let began = Instant::now();
                while in_a_row.iter().any(|count| count.load(Ordering::SeqCst) < IN_A_ROW) {
                    // A chain that failed has said why, and would be waited for in vain.
                    if began.elapsed() > Duration::from_secs(60) {
                        stop.store(true, Ordering::SeqCst);
                        panic!("{what} from {from} to {to}, {when}: {in_a_row:?}");
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            };
            let ends: Vec<(Value, i64)> = thread::scope(|scope| {
                let chains: Vec<_> = pairs
                    .iter()
                    .enumerate()
                    .map(|(number, pair)| {
                        let (node, stop, in_a_row) = (&nodes[number % 2], &stop, &in_a_row[number]);
                        scope.spawn(move || chain(node, pair.clone(), stop, in_a_row))
                    })
                    .collect();
                all_go_on("before");
                change(&mut pooler, &cluster, to, 60);
                all_go_on("after");
                stop.store(true, Ordering::SeqCst);
                chains.into_iter().map(|chain| chain.join().unwrap()).collect()
            });
            let mut rows = home.database().connect();
            for (number, (pair, rotations)) in ends.iter().enumerate() {
                assert!(works(&nodes[number % 2], pair));
                let row = text(pair, "session_id").replace('-', "");
                let row = format!("id = unhex('{row}') AND branch = 0 AND revoked_at IS NULL");
                assert_eq!(rows.number(&format!("SELECT generation FROM sessions WHERE {row}")), *rotations);
            }
            for node in nodes {
                let answer = Connection::open(node.address).unwrap().send("GET", "/health/ready", &[], "").unwrap();
                assert_eq!(answer.status, 200, "{}", answer.body);
                let log = node.stop();
                assert!(log.contains(FOUND), "{what} from {from} to {to}: {log}");
            }
        }
    }
}
