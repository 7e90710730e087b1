//! A database for one test: a file in a folder of its own or, with `TEST_DATABASE_URL` in the environment, a schema of
//! its own on that PostgreSQL server. It goes when the test ends. On PostgreSQL, functions that only SQLite has stand
//! beside the tables, so that a test is written once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

#[cfg(feature = "postgres")]
use diesel::PgConnection;
use diesel::connection::SimpleConnection as _;
// Without PostgreSQL none of them is made.
#[cfg(not(feature = "postgres"))]
use diesel::SqliteConnection as PgConnection;
use diesel::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

use super::{AnyConnection, QueryResult, Store};
use crate::config::{Database, RawConfig};

/// A database that is up to date.
pub struct TestDatabase {
    pub database: Database,
    folder: TempDir,
    schema: Option<Schema>,
}

/// Where the schema is, and what it is called.
struct Schema {
    admin: String,
    name: String,
}

impl TestDatabase {
    pub fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap())
    }

    /// In this folder, if it is a file.
    pub fn in_folder(folder: TempDir) -> Self {
        let schema = std::env::var("TEST_DATABASE_URL").ok().map(Schema::make);
        let database = match &schema {
            None => Database::Sqlite(folder.path().join("test.db")),
            Some(schema) => configured(&schema.url()),
        };
        Store::prepare(&database).unwrap();
        Self { database, folder, schema }
    }

    /// The file of an embedded one.
    pub fn file(&self) -> PathBuf {
        assert!(self.schema.is_none(), "a test about files belongs into a module `embedded`");
        self.folder.path().join("test.db")
    }

    pub fn store(&self) -> Store {
        let store = Store::open(&self.database, Arc::default(), crate::metrics::StoreMetrics::default()).unwrap();
        store.read_blocking(|_| Ok(())).unwrap();
        store
    }

    /// How many writes the store does at a time.
    pub fn writers(&self) -> usize {
        if self.schema.is_none() { 1 } else { 2 }
    }

    /// A connection beside the store's.
    pub fn connect(&self) -> AnyConnection {
        match &self.schema {
            None => {
                let mut connection = SqliteConnection::establish(self.file().to_str().unwrap()).unwrap();
                connection.batch_execute("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON").unwrap();
                AnyConnection::Sqlite(connection)
            }
            #[cfg(not(feature = "postgres"))]
            Some(_) => unreachable!("the configuration refuses it"),
            #[cfg(feature = "postgres")]
            Some(schema) => AnyConnection::Postgresql(PgConnection::establish(&schema.url()).unwrap()),
        }
    }

    /// Begins a transaction during which no other can write to that table.
    pub fn hold_writers_up(&self, table: &str) -> AnyConnection {
        // On SQLite there is no writing to one table alone.
        let _ = table;
        let mut connection = self.connect();
        let begin = match connection {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(_) => "BEGIN IMMEDIATE".to_owned(),
            #[cfg(feature = "postgres")]
            AnyConnection::Postgresql(_) => format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE"),
        };
        connection.batch_execute(&begin).unwrap();
        connection
    }
}

/// Every writer, busy: whatever else is to be written waits. Dropping it lets them go.
pub struct Gate(Vec<(Sender<()>, JoinHandle<()>)>);

impl Gate {
    /// Shuts when each of them has done this, in a transaction that goes on until they are let go: whatever was begun
    /// before is over.
    pub fn shut(
        database: &TestDatabase,
        store: &Store,
        first: impl Fn(&mut AnyConnection) -> QueryResult<()> + Clone + Send + 'static,
    ) -> Self {
        let (begun, has_begun) = mpsc::channel();
        let one = |_| {
            let (store, first, begun, (go, wait)) =
                (store.clone(), first.clone(), begun.clone(), mpsc::channel::<()>());
            let write = move |connection: &mut AnyConnection| {
                first(connection)?;
                let _ = begun.send(());
                let _ = wait.recv();
                Ok(())
            };
            // On a thread, where a write waits for as long as it takes.
            (go, thread::spawn(move || store.write_blocking(write).unwrap()))
        };
        let writers = database.writers();
        let gate = Self((0..writers).map(one).collect());
        (0..writers).for_each(|_| has_begun.recv_timeout(Duration::from_secs(60)).unwrap());
        gate
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let (go, threads): (Vec<_>, Vec<_>) = self.0.drain(..).unzip();
        drop(go);
        // A panic over there has been printed over there.
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// As a configuration says it.
fn configured(url: &str) -> Database {
    let settings = [
        ("tokens.issuer", "http://issuer.test"),
        ("tokens.access_secret", "the-access-secret-that-all-nodes-share-012345"),
        ("tokens.refresh_secret", "the-refresh-secret-that-all-nodes-share-67890"),
    ];
    let config = RawConfig::default().with("database.url", url);
    let config = settings.iter().fold(config, |config, (key, value)| config.with(key, *value));
    config.resolve().unwrap_or_else(|mistakes| panic!("{mistakes}")).database
}

impl Schema {
    fn make(admin: String) -> Self {
        let schema = Self { admin, name: format!("t_{}", Uuid::now_v7().simple()) };
        let functions = "
            CREATE FUNCTION randomblob(integer) RETURNS bytea LANGUAGE sql VOLATILE AS
              $$ SELECT substring(sha256(convert_to(random()::text || clock_timestamp()::text, 'UTF8')) FROM 1 FOR $1) $$;
            CREATE FUNCTION zeroblob(integer) RETURNS bytea LANGUAGE sql IMMUTABLE AS
              $$ SELECT decode(repeat('00', $1), 'hex') $$;
            CREATE FUNCTION unhex(text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT decode($1, 'hex') $$;
            CREATE FUNCTION printf(text, bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
              $$ SELECT CASE $1 WHEN '%032x' THEN lpad(to_hex($2), 32, '0') END $$;";
        let mut connection = PgConnection::establish(&schema.admin).unwrap();
        let make = format!("CREATE SCHEMA {0}; SET search_path TO {0}; {functions}", schema.name);
        connection.batch_execute(&make).unwrap();
        schema
    }

    fn url(&self) -> String {
        let mark = if self.admin.contains('?') { '&' } else { '?' };
        format!("{}{mark}options=-csearch_path%3D{}", self.admin, self.name)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // What a store that is still there keeps from going is swept by a later run.
        if let Ok(mut connection) = PgConnection::establish(&self.admin) {
            let patience = Duration::from_secs(3).as_millis();
            let _ = connection
                .batch_execute(&format!("SET lock_timeout = {patience}; DROP SCHEMA IF EXISTS {} CASCADE", self.name));
        }
    }
}
