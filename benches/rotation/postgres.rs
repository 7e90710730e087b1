//! A PostgreSQL for the benches, floor D in it, and what it counts about itself.
//!
//! `BENCH_POSTGRES_URL` names one, as a user who may make databases; else the binaries that are on this machine make
//! one of their own, with the defaults that `initdb` writes: every commit waits for the disk.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use uuid::Uuid;

use crate::Outcome;
use crate::server::folder;

const PATIENCE: Duration = Duration::from_secs(60);
/// The uid that no other user has, where there is no user of PostgreSQL's own.
const NOBODY: u32 = 65_534;

/// The floor's table has the columns of `sessions`, and 10,000 rows that leave room for updates in place.
const FLOOR: &str = "
    CREATE TABLE floor (
        id bytea PRIMARY KEY, user_id bytea NOT NULL, generation bigint NOT NULL, branch bigint NOT NULL,
        token_hash bytea NOT NULL, previous_hash bytea, salt bytea NOT NULL, key_id text NOT NULL,
        rotated_at bigint NOT NULL, branched_at bigint NOT NULL, confirmed_at bigint, access_expires_at bigint NOT NULL,
        idle_expires_at bigint NOT NULL, expires_at bigint NOT NULL, revoked_at bigint, revoked_reason text,
        roles text NOT NULL, transport text NOT NULL, repeat_streak bigint NOT NULL, streak_generation bigint NOT NULL,
        device_name text, user_agent text, ip_address text, created_at bigint NOT NULL, last_used_at bigint NOT NULL
    ) WITH (fillfactor = 50);
    INSERT INTO floor SELECT decode(lpad(to_hex(i), 32, '0'), 'hex'), decode(md5(i::text), 'hex'), 0, 0,
        sha256(int8send(i)), NULL, decode(md5(i::text), 'hex'), 'a key of twenty-two by', 0, 0, NULL, 0, 0, 0, NULL, NULL,
        '[]', 'body', 0, 0, NULL, 'a client', '127.0.0.1', 0, 0 FROM generate_series(1::bigint, 10000) i;
    CREATE INDEX ON floor (user_id); CREATE INDEX ON floor (expires_at); VACUUM ANALYZE floor;";
/// One rotation as the database sees it, without anything around it.
const ROTATION: &str = "\\set id random(1, 10000)
\\set now random(1, 1000000000)
UPDATE floor SET generation = generation + 1, previous_hash = token_hash, token_hash = sha256(int8send(:now::bigint)), \
salt = decode(md5(int8send(:now::bigint)), 'hex'), rotated_at = :now, branched_at = :now, access_expires_at = :now, \
idle_expires_at = :now, last_used_at = :now \
WHERE id = decode(lpad(to_hex(:id::bigint), 32, '0'), 'hex') AND generation >= 0 AND revoked_at IS NULL;
";

/// A running PostgreSQL.
pub struct Cluster {
    /// A URL up to the name of a database, and what follows that.
    url: (String, String),
    /// Where `psql` and `pgbench` are; empty: where the system finds them.
    programs: PathBuf,
    /// The one that is ours.
    own: Option<(Child, TempDir)>,
}

impl Cluster {
    /// The one that the environment names, or one of our own.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn find() -> Outcome<Self> {
        let programs = programs().unwrap_or_default();
        let Ok(url) = std::env::var("BENCH_POSTGRES_URL") else {
            return Self::start(programs);
        };
        let (base, options) = url.split_once('?').map_or((url.as_str(), ""), |(base, options)| (base, options));
        let authority = base.find("://").map_or(0, |at| at + 3);
        let end = base.get(authority..).and_then(|rest| rest.find('/')).map_or(base.len(), |at| authority + at);
        let options = if options.is_empty() { String::new() } else { format!("?{options}") };
        let url = (base.get(..end).unwrap_or(base).to_owned(), options);
        Ok(Self { url, programs, own: None })
    }

    fn start(programs: PathBuf) -> Outcome<Self> {
        if programs.as_os_str().is_empty() {
            return Err("no PostgreSQL: no initdb on this machine, and BENCH_POSTGRES_URL is not set".into());
        }
        let home = folder()?;
        let user = geteuid().is_root().then(user_of_postgres);
        if let Some(user) = user {
            chown(home.path(), Some(user), None)?;
        }
        let data = home.path().join("data");
        let of_user = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir(home.path()).stdin(Stdio::null()).arg("-D").arg(&data);
            if let Some(user) = user {
                command.uid(user);
            }
            command
        };
        let made = of_user("initdb").args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]).output()?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = fs::File::create(home.path().join("log"))?;
        let child = of_user("postgres")
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let url = (format!("postgres://postgres@127.0.0.1:{port}"), String::new());
        let cluster = Self { url, programs, own: Some((child, home)) };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() || cluster.at("postgres").sql("SELECT 1").is_err() {
            if began.elapsed() > PATIENCE {
                return Err("PostgreSQL does not start".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(cluster)
    }

    /// A new, empty database.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn database(&self) -> Outcome<Database<'_>> {
        let name = format!("bench_{}", Uuid::new_v4().simple());
        self.at("postgres").sql(&format!("CREATE DATABASE {name}"))?;
        Ok(self.at(&name))
    }

    /// A database with floor D in it.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn floor(&self) -> Outcome<Floor<'_>> {
        let floor = Floor { database: self.database()?, home: folder()? };
        FLOOR.split_inclusive(';').filter(|part| !part.trim().is_empty()).try_for_each(|statement| {
            floor.database.sql(statement)?;
            Ok::<_, crate::Fault>(())
        })?;
        fs::write(floor.script(), ROTATION)?;
        Ok(floor)
    }

    fn at(&self, name: &str) -> Database<'_> {
        let (before, after) = &self.url;
        Database { url: format!("{before}/{name}{after}"), programs: &self.programs }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own {
            // A fast shutdown: clients are sent away.
            let _gone_already = kill_process(Pid::from_child(child), Signal::INT);
            let _reaped = child.wait();
        }
    }
}

/// A database in it.
pub struct Database<'a> {
    /// Its URL.
    pub url: String,
    programs: &'a Path,
}

impl Database<'_> {
    /// Runs a statement; its result, unadorned.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub fn sql(&self, statement: &str) -> Outcome<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]).arg(&self.url);
        let output = command.stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?.trim().to_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into())
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn number(&self, query: &str) -> Outcome<f64> {
        let text = self.sql(query)?;
        text.parse().map_err(|_no_number| format!("{query}: {text}").into())
    }

    /// Adds sessions until there are `rows`, scattered among those that are there, as in [`crate::sqlite::fill`].
    ///
    /// # Errors
    ///
    /// If the database refuses.
    pub fn fill(&self, rows: u32) -> Outcome<()> {
        let columns = "FROM information_schema.columns WHERE table_name = 'sessions' AND table_schema = 'public'";
        let kind = self.sql(&format!("SELECT data_type {columns} AND column_name = 'id'"))?;
        let random = "replace(gen_random_uuid()::text, '-', '')";
        let id = match kind.as_str() {
            "uuid" => format!("(left(replace(s.id::text, '-', ''), 12) || right({random}, 20))::uuid"),
            _ => format!("substr(s.id, 1, 6) || decode(right({random}, 20), 'hex')"),
        };
        let others = format!("SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) {columns}");
        let names = self.sql(&format!("{others} AND column_name <> 'id'"))?;
        let there = self.number("SELECT count(*) FROM sessions")?;
        let copies = ((f64::from(rows) - there) / there).ceil();
        self.sql(&format!(
            "INSERT INTO sessions (id, {names}) SELECT {id}, {} FROM sessions s, generate_series(1, {copies})",
            names.split(", ").map(|name| format!("s.{name}")).collect::<Vec<_>>().join(", ")
        ))?;
        self.sql("VACUUM ANALYZE sessions")?;
        self.sql("CHECKPOINT").map(drop)
    }
}

/// A database with floor D in it.
pub struct Floor<'a> {
    database: Database<'a>,
    home: TempDir,
}

impl Floor<'_> {
    /// pgbench: so many updates a second.
    ///
    /// # Errors
    ///
    /// What pgbench says, if it fails.
    pub fn run(&self, clients: usize, span: Duration) -> Outcome<f64> {
        let mut command = Command::new(self.database.programs.join("pgbench"));
        command.args(["-n", "-M", "prepared", "-j", "1", "-c", &clients.to_string()]);
        command.args(["-T", &span.as_secs().max(1).to_string(), "-f"]).arg(self.script()).arg(&self.database.url);
        let output = command.stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.ok_or_else(|| format!("pgbench: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
    }

    fn script(&self) -> PathBuf {
        self.home.path().join("rotation.sql")
    }
}

/// Where the newest PostgreSQL has its programs.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    debian.sort_by_key(|path| path.parent().and_then(|version| version.file_name()?.to_str()?.parse::<u32>().ok()));
    debian.into_iter().rev().chain(std::env::split_paths(&path)).find(|folder| folder.join("initdb").exists())
}

/// PostgreSQL refuses to run as root.
fn user_of_postgres() -> u32 {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of_postgres = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    of_postgres.and_then(|line| line.split(':').nth(1)?.parse().ok()).unwrap_or(NOBODY)
}
