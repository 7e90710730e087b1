//! The two folders of migrations make the same schema.

use std::collections::BTreeMap;

use support::database::Connection;
use support::process::Home;

/// What there is besides tables of our own.
const MIGRATIONS: &str = "__diesel_schema_migrations";

/// Columns that are true or false.
const TRUTHS: &str =
    "'users.email_verified', 'users.contested', 'sessions.remember', 'sessions.mfa', 'session_ends.erase'";

/// A table: its columns in their order, then its indexes, in any order.
type Tables = BTreeMap<String, (Vec<String>, Vec<String>)>;

pub fn both_folders_of_migrations_make_the_same_schema() {
    if !cfg!(feature = "sqlite") {
        eprintln!("skipped: there is one folder only, since SQLite is not built in");
        return;
    }
    let home = Home::new();
    let file = format!("sqlite:{}", home.path("embedded.db").display());
    for url in [file.as_str(), home.database().url().as_str()] {
        let output = home.command(["migrate"], [("DATABASE_URL", url)]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (mut embedded, mut postgres) = (Connection::open(&file), home.database().connect());
    let done = format!("SELECT version AS text FROM {MIGRATIONS} ORDER BY version");
    let migrations = embedded.texts(&done);
    assert_eq!(migrations, postgres.texts(&done), "the same migrations, by their names");
    assert!(migrations.len() >= 3, "{migrations:?}");

    let (embedded, postgres) = (of_sqlite(&mut embedded), of_postgres(&mut postgres));
    assert!(
        ["users", "sessions", "session_ends", "attempts", "events", "signing_keys"]
            .iter()
            .all(|name| embedded.contains_key(*name)),
        "{embedded:#?}"
    );
    assert_eq!(embedded.keys().collect::<Vec<_>>(), postgres.keys().collect::<Vec<_>>());
    for (name, table) in &embedded {
        assert!(table.0.len() >= 2, "{name}: {table:?}");
        assert_eq!(table, &postgres[name], "{name}");
    }
}

/// Name, kind, whether it can be NULL, its place in the primary key, its default.
fn of_sqlite(connection: &mut Connection) -> Tables {
    let tables = format!(
        "SELECT name AS text FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> '{MIGRATIONS}'"
    );
    let mut found = Tables::new();
    for table in connection.texts(&tables) {
        let columns = connection.texts(&format!(
            "SELECT name || ' ' || CASE type WHEN 'BLOB' THEN 'bytes' WHEN 'TEXT' THEN 'text' WHEN 'INTEGER' THEN
               CASE WHEN '{table}.' || name IN ({TRUTHS}) THEN 'truth' ELSE 'number' END END
               || CASE \"notnull\" WHEN 0 THEN ' null' ELSE '' END
               || CASE pk WHEN 0 THEN '' ELSE ' key ' || pk END
               || coalesce(' default ' || dflt_value, '') AS text
             FROM pragma_table_info('{table}') ORDER BY cid"
        ));
        // What a constraint makes has no name of ours. The condition of an index stands in its statement only.
        let mut indexes = connection.texts(&format!(
            "SELECT CASE list.origin WHEN 'c' THEN list.name ELSE '' END || CASE list.\"unique\" WHEN 1 THEN ' unique' ELSE '' END
               || ' (' || (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(list.name) ORDER BY seqno)) || ')'
               || CASE list.partial WHEN 0 THEN '' ELSE (
                    SELECT ' where ' || trim(substr(sql, instr(sql, ' WHERE ') + 7)) FROM sqlite_master WHERE name = list.name
                  ) END AS text
             FROM pragma_index_list('{table}') AS list WHERE list.origin <> 'pk'"
        ));
        let statement = connection.text(&format!("SELECT sql FROM sqlite_master WHERE name = '{table}'"));
        // PostgreSQL knows what is true or false by itself.
        let truths = TRUTHS.matches(&format!("'{table}.")).count();
        let checks = statement.matches("CHECK (").count() - truths;
        indexes.push(format!("{checks} checks"));
        indexes.sort();
        found.insert(table, (columns, indexes));
    }
    found
}

fn of_postgres(connection: &mut Connection) -> Tables {
    let tables = format!(
        "SELECT tablename::text AS text FROM pg_tables WHERE schemaname = current_schema() AND tablename <> '{MIGRATIONS}'"
    );
    let mut found = Tables::new();
    for table in connection.texts(&tables) {
        let columns = connection.texts(&format!(
            "SELECT attname || ' ' || CASE format_type(atttypid, atttypmod) WHEN 'bytea' THEN 'bytes' WHEN 'text' THEN 'text'
                 WHEN 'bigint' THEN 'number' WHEN 'boolean' THEN 'truth' ELSE 'unknown ' || format_type(atttypid, atttypmod) END
               || CASE WHEN attnotnull THEN '' ELSE ' null' END
               || coalesce(' key ' || array_position(
                    (SELECT conkey FROM pg_constraint WHERE conrelid = attrelid AND contype = 'p'), attnum), '')
               || coalesce(' default ' || (
                    SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum), '') AS text
             FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        ));
        let mut indexes = connection.texts(&format!(
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid) THEN '' ELSE relname END
               || CASE WHEN indisunique THEN ' unique' ELSE '' END
               || ' (' || (SELECT string_agg(pg_get_indexdef(indexrelid, place, true), ', ' ORDER BY place)
                           FROM generate_series(1, indnkeyatts) AS place) || ')'
               || coalesce(' where ' || replace(trim(both '()' FROM pg_get_expr(indpred, indrelid)), '::text', ''), '') AS text
             FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
             WHERE indrelid = '{table}'::regclass AND NOT indisprimary"
        ));
        indexes.extend(connection.texts(&format!(
            "SELECT count(*) || ' checks' AS text FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'c'"
        )));
        indexes.sort();
        found.insert(table, (columns, indexes));
    }
    found
}
