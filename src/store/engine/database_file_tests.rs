use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use diesel::connection::SimpleConnection as _;

use super::*;

const OTHERS: &str = "CREATE TABLE notes (text TEXT);";
const OURS: &str = "CREATE TABLE __diesel_schema_migrations (version TEXT);
    CREATE TABLE sessions (revoked_at INTEGER); CREATE INDEX sessions_by_revocation ON sessions (revoked_at);";

fn database(path: &Path, statements: &str) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection.batch_execute(statements).unwrap();
    connection
}

/// Name, mode, time of the last change and content of everything in a folder.
fn fingerprint(folder: &Path) -> Vec<(PathBuf, u32, i64, i64, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            let bytes = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            (path, about.mode(), about.mtime(), about.mtime_nsec(), bytes)
        })
        .collect();
    let about = fs::metadata(folder).unwrap();
    found.push((folder.to_owned(), about.mode(), about.mtime(), about.mtime_nsec(), Vec::new()));
    found.sort();
    found
}

#[test]
fn what_is_at_the_path_is_told_apart_and_not_touched() {
    type Make = fn(&Path) -> Option<SqliteConnection>;
    let cases: [(&str, Make, &str); 16] = [
        ("nothing", |_| None, "Ok(Missing)"),
        ("a folder", |path| fs::create_dir(path).map(|()| None).unwrap(), "Err(Folder"),
        ("a text", |path| fs::write(path, "a text".repeat(40)).map(|()| None).unwrap(), "Err(NoDatabase"),
        ("the beginning of a header", |path| fs::write(path, MAGIC).map(|()| None).unwrap(), "Err(NoDatabase"),
        ("an empty file", |path| fs::write(path, "").map(|()| None).unwrap(), "Err(Empty"),
        (
            "a private empty file",
            |path| {
                create(path).unwrap();
                None
            },
            "Ok(Empty)",
        ),
        ("another program's database", |path| Some(database(path, OTHERS)), "Err(Foreign"),
        (
            "another program's database with a log",
            |path| Some(database(path, &format!("PRAGMA journal_mode = WAL; {OTHERS}"))),
            "Err(Foreign",
        ),
        (
            "another program's database with our tables' names",
            |path| Some(database(path, "CREATE TABLE users (id); CREATE TABLE sessions (id);")),
            "Err(Foreign",
        ),
        (
            "another program's mark on our tables",
            |path| Some(database(path, &format!("PRAGMA application_id = 7; {OURS}"))),
            "Err(Foreign",
        ),
        ("an earlier version's", |path| Some(database(path, OURS)), "Ok(Ours { marked: false })"),
        (
            "an earlier version's that is all in its log",
            |path| Some(database(path, &format!("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; {OURS}"))),
            "Ok(Ours { marked: false })",
        ),
        (
            "a marked one",
            |path| Some(database(path, &format!("PRAGMA application_id = {APPLICATION_ID};"))),
            "Ok(Ours { marked: true })",
        ),
        (
            "a link",
            |path| {
                let target = path.with_file_name("target");
                let there = database(&target, &format!("PRAGMA application_id = {APPLICATION_ID};"));
                symlink(&target, path).unwrap();
                Some(there)
            },
            "Err(Link",
        ),
        ("a link to nothing", |path| symlink("nothing", path).map(|()| None).unwrap(), "Err(Link"),
        ("a socket", |path| UnixListener::bind(path).map(|_| None).unwrap(), "Err(Special"),
    ];
    for (what, make, expected) in cases {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a #%20 file.db");
        let _open = make(&path);
        let before = fingerprint(home.path());
        let found = format!("{:?}", inspect(&path));
        assert!(found.starts_with(expected), "{what}: {found}");
        assert_eq!(fingerprint(home.path()), before, "{what}");
        if let Err(error) = inspect(&path) {
            let told = error.to_string();
            assert!(told.contains(path.to_str().unwrap()) && told.contains("database.url"), "{what}: {told}");
        }
    }
}

#[test]
fn a_folder_that_is_not_there_or_no_folder_is_told() {
    let home = tempfile::tempdir().unwrap();
    let told = inspect(&home.path().join("no/such/file.db")).unwrap_err().to_string();
    assert!(told.contains("no/such of the database is not there") && told.contains("mkdir"), "{told}");
    fs::write(home.path().join("file"), "").unwrap();
    let told = inspect(&home.path().join("file/file.db")).unwrap_err().to_string();
    assert!(told.contains("is a file and not a folder"), "{told}");
}

#[test]
fn what_is_ours_is_closed_to_others_with_the_files_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.db");
    for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm"), home.path().join("other")] {
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    }
    make_usable(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
        assert_eq!(mode(&file), 0o600);
    }
    assert_eq!(mode(&home.path().join("other")), 0o644);
}
