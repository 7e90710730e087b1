//! A server that is away, cut off, full, busy or not the right one: 503 in time, never the client's fault, and no restart.

use std::time::{Duration, Instant};
use std::{fs, thread};

use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use support::cluster::{Cluster, Unused};
use support::database::Connection;
use support::process::{Home, PASSWORD, Server};

const ADA: &str = "ada@example.com";

/// How long it may take until all is well again once the database is.
const RECOVERY: Duration = Duration::from_secs(60);

/// An answer, and what a client needs to know of it.
#[derive(Debug)]
struct Told {
    status: u16,
    retry_after: Option<u64>,
    body: Value,
}

impl Told {
    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// 503, and with a word about when to come again. That it came at all is what the client's own patience shows.
    #[track_caller]
    fn is_an_outage(&self) {
        assert_eq!((self.status, self.code()), (503, "unavailable"), "{self:?}");
        assert!(self.retry_after.is_some_and(|seconds| seconds >= 1), "{self:?}");
    }
}

/// A signed-in user, and the node that they ask.
struct Somebody {
    http: Client,
    url: String,
}

impl Somebody {
    fn of(server: &Server) -> Self {
        let http = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { http, url: format!("http://{}", server.address) }
    }

    fn ask(&self, method: Method, path: &str, access_token: Option<&str>, body: Option<&Value>) -> Told {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = access_token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let retry_after = headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = answer.json().unwrap_or(Value::Null);
        Told { status, retry_after, body }
    }

    fn ready(&self) -> Told {
        self.ask(Method::GET, "/health/ready", None, None)
    }

    /// It says so, and why, within its bound or a little later.
    #[track_caller]
    fn stops_being_ready(&self, detail: &str) {
        let began = Instant::now();
        loop {
            let told = self.ready();
            if told.status != 200 && told.body["detail"] == detail {
                return told.is_an_outage();
            }
            assert!(began.elapsed() < RECOVERY, "not {detail:?}: {told:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn me(&self, pair: &Value) -> Told {
        self.ask(Method::GET, "/v1/users/me", pair["access_token"].as_str(), None)
    }

    fn refresh(&self, pair: &Value) -> Told {
        let body = json!({ "refresh_token": pair["refresh_token"] });
        self.ask(Method::POST, "/v1/auth/refresh", None, Some(&body))
    }

    fn log_in(&self) -> Told {
        self.ask(Method::POST, "/v1/auth/login", None, Some(&json!({ "email": ADA, "password": PASSWORD })))
    }

    fn register(&self, email: &str) -> Told {
        self.ask(Method::POST, "/v1/auth/register", None, Some(&json!({ "email": email, "password": PASSWORD })))
    }

    /// Everything that needs the database, all at once.
    fn all(&self, pair: &Value) -> Vec<Told> {
        thread::scope(|scope| {
            let confirm = || self.ask(Method::POST, "/v1/auth/refresh/confirm", pair["access_token"].as_str(), None);
            let threads = [
                scope.spawn(|| self.me(pair)),
                scope.spawn(|| self.refresh(pair)),
                scope.spawn(|| self.log_in()),
                scope.spawn(|| self.register("eve@example.com")),
                scope.spawn(confirm),
            ];
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// The node recovers by itself, and no token was harmed. Returns the next pair.
    #[track_caller]
    fn recovers(&self, pair: &Value) -> Value {
        let began = Instant::now();
        let answer = loop {
            let answer = self.refresh(pair);
            if answer.status == 200 {
                break answer;
            }
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(began.elapsed() < RECOVERY, "after {:?}: {answer:?}", began.elapsed());
            thread::sleep(Duration::from_millis(50));
        };
        while self.ready().status != 200 || self.me(&answer.body).status != 200 || self.log_in().status != 200 {
            assert!(began.elapsed() < RECOVERY, "{:?}, {:?}, {:?}", self.ready(), self.me(&answer.body), self.log_in());
            thread::sleep(Duration::from_millis(50));
        }
        answer.body
    }
}

pub(super) fn cluster() -> Cluster {
    Cluster::start().unwrap()
}

/// A node, and a user who has signed in there.
fn node(home: &Home, environment: &[(&str, &str)]) -> (Server, Somebody, Value) {
    let server = home.serve(environment);
    let client = Somebody::of(&server);
    let pair = server.register(ADA);
    (server, client, pair)
}

/// How many threads the node has.
fn threads(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/task", server.id())).unwrap().count()
}

pub fn a_server_that_is_restarted_is_an_outage_and_then_none() {
    let mut cluster = cluster();
    let home = Home::on_postgres(&cluster.url());
    let (server, client, pair) = node(&home, &[]);
    cluster.halt();
    // Longer than what is in memory is believed.
    thread::sleep(Duration::from_millis(1_600));
    for _ in 0..3 {
        client.all(&pair).iter().for_each(Told::is_an_outage);
    }
    client.ready().is_an_outage();
    assert_eq!(client.ask(Method::GET, "/health/live", None, None).status, 200);
    // What is wrong whatever the database says is said all the same.
    assert_eq!(client.me(&json!({ "access_token": "junk" })).code(), "invalid_token");
    assert_eq!(client.refresh(&json!({ "refresh_token": "junk" })).code(), "invalid_grant");
    cluster.resume().unwrap();
    let next = client.recovers(&pair);
    // The lost answers cost nothing: one rotation, and its successor works.
    client.recovers(&next);
    // Once more, and quickly: from here on no request waits until the outage is noticed.
    cluster.halt();
    cluster.resume().unwrap();
    for answer in client.all(&next) {
        assert!([200, 201, 204, 409, 503].contains(&answer.status), "{answer:?}");
        assert_ne!(answer.code(), "invalid_grant", "{answer:?}");
    }
    client.recovers(&next);
    server.stop();
}

pub fn connections_that_are_cut_are_made_anew_and_nobody_is_refused() {
    let cluster = cluster();
    let home = Home::on_postgres(&cluster.url());
    let (server, client, mut pair) = node(&home, &[]);
    let mut database = home.database().connect();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let (mut refused, mut asked) = (0, 0);
    for round in 0..5 {
        assert!(database.number(cut) > 0, "there were connections to cut");
        // The very next of everything, and each once more if it was told to come again.
        let mut pass = |ask: &dyn Fn() -> Told, wanted: u16| {
            asked += 1;
            let mut answer = ask();
            assert!([wanted, 503].contains(&answer.status), "{answer:?}");
            if answer.status == 503 {
                refused += 1;
                answer = ask();
                assert_eq!(answer.status, wanted, "{answer:?}");
            }
            answer
        };
        pass(&|| client.me(&pair), 200);
        let next = pass(&|| client.refresh(&pair), 200).body;
        pass(&|| client.log_in(), 200);
        pass(&|| client.register(&format!("user{round}@example.com")), 201);
        pass(&|| client.ready(), 200);
        pair = next;
    }
    assert!(refused * 10 <= asked, "{refused} of {asked} had to come again");
    server.stop();
}

/// Of many connections that lead nowhere, one is found out, and all are given up.
pub fn one_connection_that_is_found_cut_speaks_for_all() {
    let cluster = cluster();
    let home = Home::on_postgres(&cluster.url());
    let (server, client, pair) = node(&home, &[]);
    let mut database = home.database().connect();
    let others = "backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name = 'countersign'";
    for round in 0..9 {
        let out = json!({ "refresh_token": client.log_in().body["refresh_token"] });
        // While all requests wait for the table, each needs a connection of its own.
        let (mut holder, began, mut crowded) = (home.database().connect(), Instant::now(), false);
        let waiting = format!("SELECT count(*) FROM pg_stat_activity WHERE {others} AND wait_event_type = 'Lock'");
        while !crowded {
            assert!(began.elapsed() < RECOVERY, "there are never many");
            holder.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE");
            thread::scope(|scope| {
                let crowd: Vec<_> = (0..8).map(|_| scope.spawn(|| client.me(&pair))).collect();
                // A second is half of what a request waits.
                let asked = Instant::now();
                while !crowded && asked.elapsed() < Duration::from_secs(1) {
                    thread::sleep(Duration::from_millis(10));
                    crowded = database.number(&waiting) > 4;
                }
                holder.execute("ROLLBACK");
                crowd.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().status, 200));
            });
        }
        assert!(database.number(&format!("SELECT count(*) FROM pg_stat_activity WHERE {others}")) > 4);
        database.number(&format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {others}"));
        // Whatever it is that finds out, it is done all the same.
        match round % 3 {
            0 => assert_eq!(client.me(&pair).status, 200),
            1 => assert_eq!(client.refresh(&pair).status, 200),
            _ => assert_eq!(client.ask(Method::POST, "/v1/auth/logout", None, Some(&out)).status, 204),
        }
        for _ in 0..6 {
            assert_eq!(client.me(&pair).status, 200);
        }
    }
    server.stop();
}

/// A table that is held for long, as by a clumsy migration or backup.
pub fn a_table_that_somebody_holds_is_an_outage_with_an_end() {
    let home = Home::new();
    let (server, client, pair) = node(&home, &[]);
    let mut other = home.database().connect();
    other.execute("BEGIN; LOCK TABLE sessions, users, attempts, events IN ACCESS EXCLUSIVE MODE");
    thread::sleep(Duration::from_millis(1_600));
    let before = threads(&server);
    // Far more than there are connections, again and again.
    let answers: Vec<Told> = thread::scope(|scope| {
        let crowd: Vec<_> = (0..40)
            .map(|_| scope.spawn(|| [client.refresh(&pair), client.me(&pair), client.log_in(), client.refresh(&pair)]))
            .collect();
        thread::sleep(Duration::from_secs(3));
        let most = threads(&server);
        assert!(most <= before + 16, "threads pile up: {before}, then {most}");
        crowd.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for answer in &answers {
        // Whether its password is right is unknown, and too many guesses at once are too many.
        if answer.status != 429 {
            answer.is_an_outage();
        }
    }
    assert_eq!(client.ask(Method::GET, "/health/live", None, None).status, 200);
    other.execute("ROLLBACK");
    let next = client.recovers(&pair);
    client.recovers(&next);
    server.stop();
}

/// Refreshes are committed together, but one whose row is locked waits alone.
pub fn a_row_that_somebody_holds_makes_nobody_else_wait() {
    let home = Home::new();
    let (server, client, held) = node(&home, &[("COUNTERSIGN__DATABASE__STATEMENT_TIMEOUT", "10s")]);
    let pairs: Vec<Value> = (0..40).map(|one| server.register(&format!("{one}@example.com"))).collect();
    let mut other = home.database().connect();
    let id = held["session_id"].as_str().unwrap().replace('-', "");
    other.execute(&format!("BEGIN; SELECT 1 FROM sessions WHERE id = unhex('{id}') FOR UPDATE"));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.refresh(&held));
        thread::sleep(Duration::from_millis(50));
        let crowd: Vec<_> = pairs.iter().map(|pair| scope.spawn(|| client.refresh(pair))).collect();
        crowd.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().status, 200));
        assert!(!waiting.is_finished(), "it waits for the row, and they have not waited for it");
        waiting.join().unwrap().is_an_outage();
    });
    other.execute("ROLLBACK");
    client.recovers(&held);
    server.stop();
}

/// A server that cuts the connection while it commits has committed, or not: only what may be done twice is tried again.
pub fn a_commit_of_unknown_fate_is_tried_again_only_for_a_refresh() {
    let home = Home::new();
    let (server, client, pair) = node(&home, &[]);
    let mut database = home.database().connect();
    database.execute(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM nextval('tries'); PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON events
           DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut()",
    );
    let tries = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM tries";
    client.log_in().is_an_outage();
    assert_eq!(database.number(tries), 1, "a log-in is committed once, or not at all");
    database.execute(
        "DROP TRIGGER cut ON events;
         CREATE CONSTRAINT TRIGGER cut AFTER UPDATE ON sessions
           DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut()",
    );
    client.refresh(&pair).is_an_outage();
    assert!(database.number(tries) > 2, "a refresh is the same however often it is carried out");
    database.execute("DROP TRIGGER cut ON sessions");
    client.recovers(&pair);
    server.stop();
}

pub fn a_database_that_answers_nothing_makes_the_node_not_ready() {
    let home = Home::new();
    let (server, client, pair) = node(&home, &[]);
    assert_eq!(client.ready().status, 200);
    let mut other = home.database().connect();
    other.execute(
        "BEGIN; LOCK TABLE sessions, users, attempts, events, __diesel_schema_migrations IN ACCESS EXCLUSIVE MODE",
    );
    client.stops_being_ready("The database does not answer.");
    client.refresh(&pair).is_an_outage();
    other.execute("ROLLBACK");
    client.recovers(&pair);
    assert_eq!(client.ready().status, 200);
    server.stop();
}

/// Reads go on: only what is written shows it. Each of them is written by log-ins or refreshes.
pub fn a_table_that_nobody_can_write_makes_the_node_not_ready() {
    let home = Home::new();
    let (server, client, pair) = node(&home, &[]);
    let mut other = home.database().connect();
    for table in ["sessions", "users", "attempts", "events"] {
        // As an index that is made, or a backup that locks, does.
        other.execute(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE"));
        client.stops_being_ready("The database takes no writes.");
        assert_eq!(client.me(&pair).status, 200);
        other.execute("ROLLBACK");
        let began = Instant::now();
        while client.ready().status != 200 {
            assert!(began.elapsed() < RECOVERY, "{table}: {:?}", client.ready());
            thread::sleep(Duration::from_millis(50));
        }
    }
    client.recovers(&pair);
    server.stop();
}

/// Its operator makes it read-only, or a standby has taken its place.
pub fn a_server_that_takes_no_writes_makes_the_node_not_ready() {
    let mut cluster = cluster();
    let home = Home::on_postgres(&cluster.url());
    let (server, client, pair) = node(&home, &[]);
    assert_eq!(client.ready().status, 200);
    let mut operator = Connection::open(&cluster.url());
    operator.execute("ALTER SYSTEM SET default_transaction_read_only = on");
    operator.execute("SELECT pg_reload_conf()");
    client.stops_being_ready("The database takes no writes.");
    client.refresh(&pair).is_an_outage();
    operator.execute("ALTER SYSTEM RESET default_transaction_read_only");
    operator.execute("SELECT pg_reload_conf()");
    let pair = client.recovers(&pair);
    drop(operator);

    // One that follows another cannot write, and the URL says that it may be used all the same.
    let standby = cluster.standby().unwrap();
    let url = through(&home, cluster.port(), &[standby.port()]);
    let mark = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{mark}target_session_attrs=any");
    let reader = home.serve(&[("DATABASE_URL", &url)]);
    Somebody::of(&reader).stops_being_ready("The database takes no writes.");
    reader.stop();
    client.recovers(&pair);
    server.stop();
    cluster.halt();
}

/// Takes every connection that the server has.
fn fill(url: &str) -> Vec<Connection> {
    let (mut taken, began) = (vec![Connection::open(url)], Instant::now());
    // One that is just being closed would be free in a moment.
    let others =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while taken[0].number(others) > 0 {
        assert!(began.elapsed() < RECOVERY, "somebody stays");
        thread::sleep(Duration::from_millis(10));
    }
    while let Ok(connection) = std::panic::catch_unwind(|| Connection::open(url)) {
        taken.push(connection);
        assert!(taken.len() < 100, "it has no end of connections");
    }
    assert!(taken.len() > 3, "{}", taken.len());
    taken
}

pub fn a_server_without_a_free_connection_is_an_outage_and_then_none() {
    let cluster =
        Cluster::start_with(&["max_connections=12", "max_wal_senders=0", "superuser_reserved_connections=0"]).unwrap();
    let home = Home::on_postgres(&cluster.url());
    home.migrate();
    let taken = fill(&cluster.url());
    let server = home.serve(&[]);
    let client = Somebody::of(&server);
    assert_eq!(client.ask(Method::GET, "/health/live", None, None).status, 200);
    client.ready().is_an_outage();
    let crowd: Vec<Told> = thread::scope(|scope| {
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(|| client.register(ADA))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    crowd.iter().for_each(Told::is_an_outage);
    drop(taken);
    let began = Instant::now();
    let pair = loop {
        let answer = client.register("grace@example.com");
        if answer.status == 201 {
            break answer.body;
        }
        answer.is_an_outage();
        assert!(began.elapsed() < RECOVERY, "{answer:?}");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(client.refresh(&pair).status, 200);
    let began = Instant::now();
    while client.ready().status != 200 {
        assert!(began.elapsed() < RECOVERY, "{:?}", client.ready());
    }
    server.stop();
}

pub fn a_node_may_start_before_its_database() {
    let mut cluster = cluster();
    let home = Home::on_postgres(&cluster.url());
    home.migrate();
    cluster.halt();
    let server = home.serve(&[]);
    let client = Somebody::of(&server);
    assert_eq!(client.ask(Method::GET, "/health/live", None, None).status, 200);
    client.ready().is_an_outage();
    client.register(ADA).is_an_outage();
    cluster.resume().unwrap();
    let began = Instant::now();
    while client.ready().status != 200 {
        assert!(began.elapsed() < RECOVERY, "{:?}", client.ready());
        thread::sleep(Duration::from_millis(50));
    }
    let pair = server.register(ADA);
    client.recovers(&pair);
    server.stop();
}

/// The URL of the home's database, with these ports of this machine, in this order.
fn through(home: &Home, own: u16, ports: &[u16]) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let (url, place) = (home.database().url(), format!("127.0.0.1:{own}"));
    assert!(url.contains(&place), "{url}");
    url.replace(&place, &hosts.join(","))
}

pub fn of_several_hosts_the_one_that_takes_writes_is_found() {
    let primary = cluster();
    let home = Home::on_postgres(&primary.url());
    home.migrate();
    let standby = primary.standby().unwrap();
    let unused = Unused::new().unwrap();
    let nobody = unused.port();
    for ports in [[standby.port(), primary.port()], [nobody, primary.port()], [primary.port(), nobody]] {
        let url = through(&home, primary.port(), &ports);
        let server = home.serve(&[("DATABASE_URL", &url)]);
        let client = Somebody::of(&server);
        let email = format!("user{}@example.com", ports[0]);
        let pair = server.register(&email);
        assert_eq!(client.refresh(&pair).status, 200);
        assert_eq!(client.ready().status, 200);
        server.stop();
        // The commands find it as well.
        let output = home.command(["user", "show", &email], [("DATABASE_URL", url.as_str())]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

pub fn a_promoted_standby_is_found_without_a_restart() {
    let mut primary = cluster();
    let home = Home::on_postgres(&primary.url());
    home.migrate();
    let standby = primary.standby().unwrap();
    let url = through(&home, primary.port(), &[primary.port(), standby.port()]);
    let (server, client, pair) = node(&home, &[("DATABASE_URL", &url)]);
    let pair = client.refresh(&pair).body;
    // Until the standby has everything.
    let (mut here, mut there) = (Connection::open(&primary.url()), Connection::open(&standby.url()));
    let written = here.text("SELECT pg_current_wal_lsn()::text");
    let began = Instant::now();
    while there.number(&format!("SELECT (pg_last_wal_replay_lsn() >= '{written}')::int::bigint")) == 0 {
        assert!(began.elapsed() < RECOVERY, "the standby follows");
        thread::sleep(Duration::from_millis(20));
    }
    primary.halt();
    // Only a server that cannot write is there.
    thread::sleep(Duration::from_millis(1_600));
    client.refresh(&pair).is_an_outage();
    client.ready().is_an_outage();
    there.execute("SELECT pg_promote()");
    let next = client.recovers(&pair);
    client.recovers(&next);
    assert_eq!(there.number("SELECT pg_is_in_recovery()::int::bigint"), 0);
    server.stop();
}
