//! The database of one test: an embedded one in its folder or, with `TEST_DATABASE_URL` in the environment, a schema
//! of its own on that PostgreSQL server, which goes when the test ends. SQL in tests is written once and means the same
//! on both: what only SQLite has by nature (`randomblob`, `zeroblob`, `hex`, `unhex`, `printf('%032x', n)`) is made
//! there as functions beside the tables.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Binary, Text};
// Where one of the databases is not built in, nothing of it is made.
#[cfg(not(feature = "sqlite"))]
use diesel::PgConnection as SqliteConnection;
#[cfg(feature = "postgres")]
use diesel::PgConnection;
#[cfg(not(feature = "postgres"))]
use diesel::SqliteConnection as PgConnection;
#[cfg(feature = "sqlite")]
use diesel::SqliteConnection;
use diesel::{Connection as _, QueryResult, RunQueryDsl as _};
use uuid::Uuid;

/// Where a PostgreSQL server is, as a user who may make schemas.
const ADMIN_URL: &str = "TEST_DATABASE_URL";

/// What a server cannot make for itself on PostgreSQL, since every node needs the same: keys of the configuration,
/// their names in the environment, and values.
pub const SHARED: [(&str, &str, &str); 3] = [
    ("tokens.issuer", "COUNTERSIGN__TOKENS__ISSUER", "http://issuer.test"),
    ("tokens.access_secret", "ACCESS_TOKEN_SECRET", "the-access-secret-that-all-nodes-share-012345"),
    ("tokens.refresh_secret", "REFRESH_TOKEN_SECRET", "the-refresh-secret-that-all-nodes-share-67890"),
];

const FUNCTIONS: &str = "
    CREATE FUNCTION randomblob(integer) RETURNS bytea LANGUAGE sql VOLATILE AS
      $$ SELECT substring(sha256(convert_to(random()::text || clock_timestamp()::text, 'UTF8')) FROM 1 FOR $1) $$;
    CREATE FUNCTION zeroblob(integer) RETURNS bytea LANGUAGE sql IMMUTABLE AS
      $$ SELECT decode(repeat('00', $1), 'hex') $$;
    CREATE FUNCTION hex(bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT upper(encode($1, 'hex')) $$;
    CREATE FUNCTION unhex(text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT decode($1, 'hex') $$;
    CREATE FUNCTION printf(text, bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
      $$ SELECT CASE $1 WHEN '%032x' THEN lpad(to_hex($2), 32, '0') END $$;";

/// The database of one test. Dropping it drops its schema.
pub struct TestDatabase(Place);

enum Place {
    File(PathBuf),
    Schema(Schema),
}

/// A schema of a PostgreSQL database. Dropping it drops it there.
pub struct Schema {
    admin: String,
    name: String,
}

impl TestDatabase {
    /// The one that this run is about, with nothing in it. An embedded one would be at `file`.
    pub fn new(file: PathBuf) -> Self {
        match std::env::var(ADMIN_URL) {
            Ok(admin) => Self::on_postgres(&admin),
            Err(_) => Self(Place::File(file)),
        }
    }

    /// On PostgreSQL, whatever this run is about.
    pub fn on_postgres(admin: &str) -> Self {
        Self(Place::Schema(Schema::make(admin)))
    }

    pub fn is_embedded(&self) -> bool {
        matches!(self.0, Place::File(_))
    }

    /// The file of the embedded database.
    #[track_caller]
    pub fn file(&self) -> &Path {
        match &self.0 {
            Place::File(file) => file,
            Place::Schema(_) => panic!("this test is about files, and belongs into a module `embedded`"),
        }
    }

    pub fn url(&self) -> String {
        match &self.0 {
            Place::File(file) => format!("sqlite:{}", file.display()),
            Place::Schema(schema) => schema.url(),
        }
    }

    /// What must be configured beside the URL: key, name in the environment, value.
    pub fn settings(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        if self.is_embedded() { &[] } else { &SHARED }
    }

    /// The URL and the settings, as a process is told.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let settings = self.settings().iter().map(|(_, name, value)| (*name, (*value).to_owned()));
        std::iter::once(("DATABASE_URL", self.url())).chain(settings).collect()
    }

    /// Brings the schema up to date, which no server does by itself but with an embedded database.
    pub fn migrate(&self) {
        if !self.is_embedded() {
            migrate(&self.url());
        }
    }

    /// A connection beside the server's.
    pub fn connect(&self) -> Connection {
        Connection::open(&self.url())
    }

    /// A copy of everything as it is now: its URL. It goes when the database goes.
    pub fn copy(&self) -> String {
        match &self.0 {
            Place::File(file) => {
                let copy = file.with_file_name("backup.db");
                self.connect().execute(&format!("VACUUM INTO '{}'", copy.display()));
                format!("sqlite:{}", copy.display())
            }
            Place::Schema(schema) => schema.copy(),
        }
    }

    /// Everything that a thief of the database gets.
    pub fn dump(&self) -> Vec<u8> {
        match &self.0 {
            Place::File(file) => {
                let mut bytes = std::fs::read(file).unwrap();
                bytes.extend(std::fs::read(file.with_extension("db-wal")).unwrap_or_default());
                bytes
            }
            Place::Schema(schema) => schema.dump(),
        }
    }
}

/// Runs `countersign migrate`, which must succeed.
fn migrate(url: &str) {
    let mut command = Command::new(crate::program());
    command.arg("migrate").current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command.env_clear().env("DATABASE_URL", url).envs(SHARED.iter().map(|(_, name, value)| (*name, *value)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "countersign migrate: {}", String::from_utf8_lossy(&output.stderr));
}

impl Schema {
    /// With a name that tells when, and the functions that tests use.
    fn make(admin: &str) -> Self {
        let schema = Self { admin: admin.to_owned(), name: format!("t_{}", Uuid::now_v7().simple()) };
        let mut connection = Connection::open(admin);
        connection.execute(&format!("CREATE SCHEMA {0}; SET search_path TO {0}; {FUNCTIONS}", schema.name));
        schema
    }

    fn url(&self) -> String {
        in_schema(&self.admin, &self.name)
    }

    /// In a schema beside it, with its own indexes and defaults.
    fn copy(&self) -> String {
        let copy = format!("{}_copy", self.name);
        let mut connection = Connection::open(&self.url());
        connection.execute(&format!("DROP SCHEMA IF EXISTS {copy} CASCADE; CREATE SCHEMA {copy}"));
        for table in connection.texts(&self.tables()) {
            connection.execute(&format!(
                "CREATE TABLE {copy}.{table} (LIKE {table} INCLUDING ALL); INSERT INTO {copy}.{table} TABLE {table}"
            ));
        }
        in_schema(&self.admin, &copy)
    }

    /// What each column of each row says, as bytes.
    fn dump(&self) -> Vec<u8> {
        let mut connection = Connection::open(&self.url());
        let mut bytes = Vec::new();
        for table in connection.texts(&self.tables()) {
            let columns = format!(
                "SELECT CASE data_type WHEN 'bytea' THEN column_name ELSE 'convert_to(' || column_name || '::text, ''UTF8'')' END
                 AS text FROM information_schema.columns WHERE table_schema = '{}' AND table_name = '{table}'",
                self.name
            );
            for column in connection.texts(&columns) {
                let cells = format!("SELECT {column} AS bytes FROM {table} WHERE {column} IS NOT NULL");
                bytes.extend(connection.bytes(&cells).concat());
            }
        }
        bytes
    }

    fn tables(&self) -> String {
        format!("SELECT tablename::text AS text FROM pg_tables WHERE schemaname = '{}'", self.name)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A server that is still there may hold its tables. What stays here is swept by a later run.
        if let Ok(mut connection) = PgConnection::establish(&self.admin) {
            let statement = format!(
                "SET lock_timeout = '3s'; DROP SCHEMA IF EXISTS {0} CASCADE; DROP SCHEMA IF EXISTS {0}_copy CASCADE",
                self.name
            );
            if let Err(error) = connection.batch_execute(&statement) {
                eprintln!("{} stays: {error}", self.name);
            }
        }
    }
}

/// The URL of a schema.
pub fn in_schema(admin: &str, name: &str) -> String {
    let mark = if admin.contains('?') { '&' } else { '?' };
    format!("{admin}{mark}options=-csearch_path%3D{name}")
}

/// Drops what earlier runs have left on a server: schemas of tests, an hour old.
pub fn sweep(admin: &str) {
    let mut connection = Connection::open(admin);
    let names = r"SELECT nspname::text AS text FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}(_copy)?$'";
    for name in connection.texts(names) {
        let made = Uuid::try_parse(&name[2..34]).ok().and_then(|id| id.get_timestamp());
        let made = made.map_or(0, |made| made.to_unix().0);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        if Duration::from_secs(now.saturating_sub(made)) > Duration::from_secs(3_600) {
            connection.execute(&format!("DROP SCHEMA IF EXISTS {name} CASCADE"));
        }
    }
}

/// A connection to either database.
pub enum Connection {
    Embedded(SqliteConnection),
    Postgres(PgConnection),
}

#[derive(diesel::QueryableByName)]
struct OneText {
    #[diesel(sql_type = Text)]
    text: String,
}

#[derive(diesel::QueryableByName)]
struct OneBinary {
    #[diesel(sql_type = Binary)]
    bytes: Vec<u8>,
}

macro_rules! either {
    ($connection:expr, $inner:ident => $run:expr) => {
        match $connection {
            Connection::Embedded($inner) => $run,
            Connection::Postgres($inner) => $run,
        }
    };
}

impl Connection {
    #[track_caller]
    pub fn open(url: &str) -> Self {
        match url.strip_prefix("sqlite:") {
            Some(file) => {
                let mut connection = SqliteConnection::establish(file).unwrap();
                connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
                Self::Embedded(connection)
            }
            None => Self::Postgres(PgConnection::establish(url).unwrap()),
        }
    }

    /// Runs statements.
    #[track_caller]
    pub fn execute(&mut self, sql: &str) {
        self.attempt(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Runs statements, if the database lets it.
    pub fn attempt(&mut self, sql: &str) -> QueryResult<()> {
        either!(self, connection => connection.batch_execute(sql))
    }

    /// Asks for one number.
    #[track_caller]
    pub fn number(&mut self, sql: &str) -> i64 {
        let query = diesel::select(diesel::dsl::sql::<BigInt>(&format!("({sql})")));
        either!(self, connection => query.get_result(connection)).unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// Asks for one text.
    #[track_caller]
    pub fn text(&mut self, sql: &str) -> String {
        let query = diesel::select(diesel::dsl::sql::<Text>(&format!("({sql})")));
        either!(self, connection => query.get_result(connection)).unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// Asks for a column named `text`.
    #[track_caller]
    pub fn texts(&mut self, sql: &str) -> Vec<String> {
        let rows: QueryResult<Vec<OneText>> = either!(self, connection => diesel::sql_query(sql).load(connection));
        rows.unwrap_or_else(|error| panic!("{error}: {sql}")).into_iter().map(|row| row.text).collect()
    }

    /// Asks for a column named `bytes`.
    #[track_caller]
    pub fn bytes(&mut self, sql: &str) -> Vec<Vec<u8>> {
        let rows: QueryResult<Vec<OneBinary>> = either!(self, connection => diesel::sql_query(sql).load(connection));
        rows.unwrap_or_else(|error| panic!("{error}: {sql}")).into_iter().map(|row| row.bytes).collect()
    }

    /// Holds all other writes up, until [`Connection::let_writers_go`] or the end of the connection.
    pub fn hold_writers_up(&mut self) {
        self.execute(match self {
            Self::Embedded(_) => "BEGIN IMMEDIATE",
            Self::Postgres(_) => "BEGIN; LOCK TABLE sessions, users, attempts, events IN EXCLUSIVE MODE",
        });
    }

    pub fn let_writers_go(&mut self) {
        self.execute("ROLLBACK");
    }
}
