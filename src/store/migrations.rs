//! The schema, and how a database comes to have it. Two folders, one for each database, which make the same tables.

use diesel::dsl::sql;
use diesel::migration::{Migration, MigrationSource};
#[cfg(feature = "postgres")]
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Bool;
#[cfg(feature = "postgres")]
use diesel::sql_types::Text;
#[cfg(feature = "sqlite")]
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use super::engine::connection::AnyConnection;
use super::engine::error::StoreError;
use super::tables::addresses;

#[cfg(feature = "sqlite")]
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
#[cfg(feature = "postgres")]
const POSTGRESQL: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Held while migrations run: nodes that start at once take turns. Schemas of one server have a lock each.
#[cfg(feature = "postgres")]
const LOCK: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
                    SELECT pg_advisory_xact_lock(1129270867, hashtext(current_schema()::text))";

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

/// Brings the schema up to date and returns the names of the migrations that were missing.
///
/// # Errors
///
/// If a migration fails; it is then rolled back.
pub fn run(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    match connection {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(sqlite) => {
            let done = match sqlite.run_pending_migrations(SQLITE) {
                Ok(versions) => versions.iter().map(ToString::to_string).collect(),
                Err(error) => return Err(StoreError::Unavailable(error)),
            };
            addresses::renew_keys(connection)?;
            Ok(done)
        }
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(postgresql) => {
            check_encoding(postgresql)?;
            run_on_postgresql(connection)
        }
    }
}

/// In one transaction: nodes and commands take turns.
#[cfg(feature = "postgres")]
fn run_on_postgresql(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    use diesel::connection::SimpleConnection as _;
    let mut failure = None;
    let done = connection.transaction(|connection| {
        connection.batch_execute(LOCK)?;
        let done = match connection {
            AnyConnection::Postgresql(postgresql) => postgresql.run_pending_migrations(POSTGRESQL),
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(_) => Ok(Vec::new()),
        };
        let done = match done {
            Ok(versions) => versions.iter().map(ToString::to_string).collect(),
            Err(error) => {
                failure = Some(error);
                return Err(diesel::result::Error::RollbackTransaction);
            }
        };
        addresses::renew_keys(connection)?;
        Ok(done)
    });
    match (done, failure) {
        (Ok(done), _) => Ok(done),
        (Err(_), Some(error)) => Err(StoreError::Unavailable(error)),
        (Err(error), None) => Err(StoreError::Unavailable(error.into())),
    }
}

/// What clients call themselves and their devices may be in any script.
#[cfg(feature = "postgres")]
fn check_encoding(postgresql: &mut PgConnection) -> Result<(), StoreError> {
    let encoding: String = diesel::select(sql::<Text>("current_setting('server_encoding')")).get_result(postgresql)?;
    if encoding == "UTF8" {
        return Ok(());
    }
    let told = format!("the database's encoding is {encoding}, and must be UTF8: make another (TEMPLATE template0)");
    Err(StoreError::Unavailable(told.into()))
}

/// How the schema of a database stands to the one this version was built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The same.
    Current,
    /// These migrations are missing.
    Pending(Vec<String>),
    /// A later version was here, and has left this migration, the last of those unknown to this one.
    Newer(String),
}

/// How the schema stands. Nothing is made by asking, and no right to make anything is needed.
///
/// # Errors
///
/// If the database cannot be asked.
pub fn state(connection: &mut AnyConnection) -> QueryResult<SchemaState> {
    let known = match connection {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(_) => names(MigrationSource::<Sqlite>::migrations(&SQLITE)),
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(_) => names(MigrationSource::<Pg>::migrations(&POSTGRESQL)),
    };
    let known = known.map_err(diesel::result::Error::QueryBuilderError)?;
    let marked = sql::<Bool>(match connection {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(_) => "EXISTS (SELECT 1 FROM sqlite_master WHERE name = '__diesel_schema_migrations')",
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(_) => "to_regclass('__diesel_schema_migrations') IS NOT NULL",
    });
    let done: Vec<String> = if diesel::select(marked).get_result::<bool>(connection)? {
        __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(connection)?
    } else {
        Vec::new()
    };
    let newer = done.iter().filter(|version| known.iter().all(|(ours, _)| ours != *version)).max();
    if let Some(newer) = newer {
        return Ok(SchemaState::Newer(newer.clone()));
    }
    let missing: Vec<String> =
        known.into_iter().filter(|(version, _)| !done.contains(version)).map(|(_, name)| name).collect();
    Ok(if missing.is_empty() { SchemaState::Current } else { SchemaState::Pending(missing) })
}

/// The version and the whole name of each.
fn names<DB: diesel::backend::Backend>(
    migrations: diesel::migration::Result<Vec<Box<dyn Migration<DB>>>>,
) -> diesel::migration::Result<Vec<(String, String)>> {
    let name = |one: &dyn Migration<DB>| (one.name().version().to_string(), one.name().to_string());
    Ok(migrations?.iter().map(|one| name(one.as_ref())).collect())
}
