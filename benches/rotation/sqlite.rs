//! Floors B and C: the same table, the same durability, one thread, and one statement. And tables with many sessions.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::sqlite::Sqlite;

use crate::Outcome;
use crate::stats::{Latencies, float};

const SCHEMA: &str = include_str!("../../migrations/sqlite/2026-11-23-000001_accounts/up.sql");
/// Rows of the floor's table.
const ROWS: i64 = 10_000;

/// The conditional update of a refresh. Written out, because diesel prepares an update that it composed anew each time.
struct Rotation {
    id: String,
    round: i64,
    from: Vec<u8>,
    to: Vec<u8>,
    now: i64,
}

impl QueryFragment<Sqlite> for Rotation {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("UPDATE sessions SET previous_hash = token_hash, generation = generation + 1, token_hash = ");
        out.push_bind_param::<Binary, _>(&self.to)?;
        out.push_sql(", salt = CAST(");
        out.push_bind_param::<Text, _>(&self.id)?;
        for column in ["rotated_at", "branched_at", "access_expires_at", "idle_expires_at", "last_used_at"] {
            out.push_sql(if column == "rotated_at" { " AS BLOB), " } else { ", " });
            out.push_sql(column);
            out.push_sql(" = ");
            out.push_bind_param::<BigInt, _>(&self.now)?;
        }
        out.push_sql(" WHERE id = CAST(");
        out.push_bind_param::<Text, _>(&self.id)?;
        out.push_sql(" AS BLOB) AND generation = ");
        out.push_bind_param::<BigInt, _>(&self.round)?;
        out.push_sql(" AND token_hash = ");
        out.push_bind_param::<Binary, _>(&self.from)?;
        out.push_sql(" AND revoked_at IS NULL");
        Ok(())
    }
}

impl QueryId for Rotation {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl RunQueryDsl<SqliteConnection> for Rotation {}

/// A database of floors.
pub struct Floor {
    connection: SqliteConnection,
    turn: i64,
}

impl Floor {
    /// In `home`, with the schema of the server.
    ///
    /// # Errors
    ///
    /// If the database cannot be made.
    pub fn open(home: &Path) -> Outcome<Self> {
        let mut connection = connect(&home.join("floor.db"))?;
        connection.batch_execute(SCHEMA)?;
        connection.batch_execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {ROWS})
             INSERT INTO sessions (id, user_id, generation, branch, token_hash, salt, key_id, rotated_at, branched_at,
                 access_expires_at, idle_expires_at, expires_at, roles, transport, repeat_streak, streak_generation,
                 user_agent, ip_address, created_at, last_used_at)
             SELECT CAST(printf('%016d', i) AS BLOB), randomblob(16), 0, 0, zeroblob(32), randomblob(16),
                 'a key of twenty-two by', 0, 0, 0, 0, 0, '[]', 'body', 0, 0, 'a client', '127.0.0.1', 0, 0 FROM n"
        ))?;
        Ok(Self { connection, turn: 0 })
    }

    /// Updates in transactions of `batch`, for `span`: so many updates a second, and how long each commit took.
    ///
    /// # Errors
    ///
    /// If an update changes no row.
    pub fn run(&mut self, batch: usize, span: Duration) -> Outcome<(f64, Latencies)> {
        let (began, mut latencies) = (Instant::now(), Latencies::default());
        while began.elapsed() < span {
            let start = Instant::now();
            if batch == 1 {
                self.rotate()?;
            } else {
                self.connection.batch_execute("BEGIN IMMEDIATE")?;
                (0..batch).try_for_each(|_| self.rotate())?;
                self.connection.batch_execute("COMMIT")?;
            }
            latencies.add(start.elapsed());
        }
        latencies.sort();
        Ok((float(latencies.count() * batch) / began.elapsed().as_secs_f64(), latencies))
    }

    fn rotate(&mut self) -> Outcome<()> {
        self.turn += 1;
        // A stride without a common factor visits every row before any again.
        let (row, round) = ((self.turn * 7_919) % ROWS, (self.turn - 1) / ROWS);
        let hash = |round: i64| if round == 0 { vec![0; 32] } else { format!("{round:032}").into_bytes() };
        let rotation =
            Rotation { id: format!("{row:016}"), round, from: hash(round), to: hash(round + 1), now: self.turn };
        let changed = rotation.execute(&mut self.connection)?;
        if changed == 1 { Ok(()) } else { Err(format!("{changed} rows changed").into()) }
    }
}

/// Adds sessions until there are `rows`, scattered among those that are there: each has the beginning of one of theirs
/// as the beginning of its id. The server must not be running.
///
/// # Errors
///
/// If the database cannot be written.
pub fn fill(database: &Path, rows: u32) -> Outcome<()> {
    let mut connection = connect(database)?;
    connection.batch_execute(&format!(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -262144;
         CREATE TEMP TABLE seeds AS SELECT * FROM sessions;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
             WHERE i <= ({rows} - (SELECT count(*) FROM seeds)) / (SELECT count(*) FROM seeds))
         INSERT INTO sessions SELECT CAST(substr(s.id, 1, 6) || randomblob(10) AS BLOB), {} FROM seeds s, n;
         PRAGMA wal_checkpoint(TRUNCATE);",
        OTHER_COLUMNS.map(|column| format!("s.{column}")).join(", ")
    ))?;
    // Or the server's first sync would wait for all of it.
    Ok(File::open(database)?.sync_all()?)
}

/// How many rows there are in all tables together.
///
/// # Errors
///
/// If the database cannot be read.
pub fn count_rows(database: &Path) -> Outcome<i64> {
    let mut connection = connect(database)?;
    let count = "(SELECT count(*) FROM sessions) + (SELECT count(*) FROM users) + (SELECT count(*) FROM events)";
    Ok(diesel::select(diesel::dsl::sql::<BigInt>(count)).get_result(&mut connection)?)
}

/// Every column of `sessions` behind the id, in the order of the table.
const OTHER_COLUMNS: [&str; 28] = [
    "user_id",
    "generation",
    "branch",
    "token_hash",
    "previous_hash",
    "salt",
    "key_id",
    "rotated_at",
    "branched_at",
    "confirmed_at",
    "access_expires_at",
    "idle_expires_at",
    "expires_at",
    "revoked_at",
    "revoked_reason",
    "roles",
    "transport",
    "repeat_streak",
    "streak_generation",
    "device_name",
    "user_agent",
    "ip_address",
    "created_at",
    "last_used_at",
    "remember",
    "previous_key_id",
    "mfa",
    "claims",
];

fn connect(path: &Path) -> Outcome<SqliteConnection> {
    let mut connection = SqliteConnection::establish(path.to_str().ok_or("a path that is not UTF-8")?)?;
    connection.batch_execute("PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    Ok(connection)
}
