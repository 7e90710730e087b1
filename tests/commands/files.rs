//! What is at the path of the database and of the keys: what Countersign did not make stays as it is, and the refusal
//! says what it is and what to do.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use super::*;

/// Kind, mode, owner, time of the last change and content.
type Print = (u32, u32, i64, i64, Vec<u8>);

/// Of everything in a folder, and of the folder.
fn fingerprint(folder: &Path) -> BTreeMap<PathBuf, Print> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.chain([folder.clone()]) {
            let about = fs::symlink_metadata(&path).unwrap();
            if about.is_dir() && path != folder {
                folders.push(path);
                continue;
            }
            let bytes = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            found.insert(path, (about.mode(), about.uid(), about.mtime(), about.mtime_nsec(), bytes));
        }
    }
    found
}

/// Every command that has to do with the database.
const COMMANDS: [&[&str]; 8] = [
    &["serve"],
    &["migrate"],
    &["check-config"],
    &["user", "list"],
    &["user", "create", ADA],
    &["session", "revoke", "--all"],
    &["keys", "list"],
    &["keys", "forget", "--all"],
];

fn refused(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let environment = [("PORT", "0")].into_iter().chain(environment.iter().copied());
    let outcome = finish(home.command(arguments.iter().copied(), environment), support::process::PASSWORD.as_bytes());
    assert_eq!(outcome.code, Some(1), "{arguments:?}: {}{}", outcome.out, outcome.err);
    outcome.err
}

mod embedded {
    use super::*;

    /// Makes something at a path.
    type Make = fn(&Path) -> Option<UnixListener>;

    fn sqlite(path: &Path, statements: &str) -> Option<UnixListener> {
        database::Connection::open(&format!("sqlite:{}", path.display())).execute(statements);
        None
    }

    /// What is at the path and not ours is refused by every command and not touched.
    #[test]
    fn what_is_not_ours_is_refused_by_every_command_and_not_touched() {
        let cases: [(&str, Make, &[&str]); 9] = [
            (
                "a folder that is in use",
                |path| {
                    fs::create_dir(path).unwrap();
                    fs::write(path.join("something"), "else").unwrap();
                    None
                },
                &["is a folder", "/countersign.db"],
            ),
            ("a text", |path| fs::write(path, "a text".repeat(99)).map(|()| None).unwrap(), &["not a database"]),
            ("an empty file", |path| fs::write(path, "").map(|()| None).unwrap(), &["empty file", "remove it"]),
            ("another program's database", |path| sqlite(path, "CREATE TABLE a (b)"), &["another program"]),
            (
                "another program's database with a log",
                |path| sqlite(path, "PRAGMA journal_mode = WAL; CREATE TABLE a (b)"),
                &["another program"],
            ),
            (
                "another program's marked database",
                |path| sqlite(path, "PRAGMA application_id = 252006673; CREATE TABLE a (b)"),
                &["another program"],
            ),
            (
                "a link",
                |path| symlink("elsewhere.db", path).map(|()| None).unwrap(),
                &["symbolic link", "elsewhere.db"],
            ),
            ("a socket", |path| Some(UnixListener::bind(path).unwrap()), &["no ordinary file"]),
            (
                "something below a file",
                |path| fs::write(path.parent().unwrap().join("file"), "").map(|()| None).unwrap(),
                &["is a file and not a folder"],
            ),
        ];
        for (what, make, parts) in cases {
            let home = Home::new();
            let folder = home.path("shared");
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o1777)).unwrap();
            let place = folder.join("thing");
            let _listening = make(&place);
            for file in [&place, &folder.join("file")] {
                if file.is_file() {
                    fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
                }
            }
            let path = if what == "something below a file" { folder.join("file/thing") } else { place };
            let before = fingerprint(&home.path("."));
            let url = format!("sqlite:{}", path.display());
            for arguments in COMMANDS {
                let told = refused(&home, arguments, &[("DATABASE_URL", &url)]);
                assert!(told.contains(folder.to_str().unwrap()), "{what}, {arguments:?}: {told}");
                for part in parts {
                    assert!(told.contains(part), "{what}, {arguments:?}, {part}: {told}");
                }
                assert_eq!(fingerprint(&home.path(".")), before, "{what}, {arguments:?}");
            }
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made() {
        let home = Home::new();
        let before = fingerprint(&home.path("."));
        for path in ["srv/auth.db", "data/deeper/countersign.db", "/no/such/folder/countersign.db"] {
            let url = format!("sqlite:{path}");
            for arguments in COMMANDS {
                let outcome = finish(home.command(arguments.iter().copied(), [("DATABASE_URL", url.as_str())]), b"");
                if arguments != ["keys", "list"] {
                    assert_eq!(outcome.code, Some(1), "{arguments:?}: {}{}", outcome.out, outcome.err);
                    let folder = path.rsplit_once('/').unwrap().0;
                    assert!(outcome.err.contains(folder), "{arguments:?}: {}", outcome.err);
                }
                assert_eq!(fingerprint(&home.path(".")), before, "{arguments:?}");
            }
            assert!(refused(&home, &["serve"], &[("DATABASE_URL", &url)]).contains("mkdir"));
        }
        // The folder of the default path is ours, and so is the one that systemd gives.
        let state = home.path("state").display().to_string();
        finish(home.command(["migrate"], [("STATE_DIRECTORY", state.as_str())]), b"").done();
        assert!(run(&home, &["migrate"]).done().contains("made a new database"));
        for folder in ["data", "state"] {
            assert_eq!(fs::metadata(home.path(folder)).unwrap().mode() & 0o7777, 0o700, "{folder}");
        }
    }

    #[test]
    fn a_new_database_is_announced_and_marked_and_its_folder_left_as_it_is() {
        let home = Home::new();
        let folder = home.path("shared");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let log = home.serve(&[("DATABASE_URL", "sqlite:shared/auth.db")]).stop();
        let file = folder.canonicalize().unwrap().join("auth.db");
        assert!(log.contains("a new database was made") && log.contains(file.to_str().unwrap()), "{log}");
        assert_eq!(&fs::read(&file).unwrap()[68..72], b"CSGN");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o755);
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name == "keys" || name.to_str().unwrap().starts_with("auth.db")), "{names:?}");
        let log = home.serve(&[("DATABASE_URL", "sqlite:shared/auth.db")]).stop();
        assert!(!log.contains("a new database was made"), "{log}");
    }

    /// As the first versions made it: no mark in its header, no list of keys, open to a group.
    #[test]
    fn a_database_of_an_earlier_version_is_known_by_its_tables() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = server.register(ADA);
        server.stop();
        in_database(
            &home,
            "DROP TABLE signing_keys; DELETE FROM __diesel_schema_migrations WHERE version = '20261126000004';
             PRAGMA application_id = 0; PRAGMA wal_checkpoint(TRUNCATE)",
        );
        let file = home.database().file().to_owned();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        for name in ["databases", "issuers"] {
            fs::remove_file(home.path("data/keys").join(name)).unwrap();
        }
        let server = home.serve(&[]);
        let (status, body) = refresh(&server, &pair);
        assert_eq!(status, 200, "{body}");
        assert_eq!(number_in_database(&home, "SELECT count(*) FROM signing_keys WHERE purpose = 'refresh'"), 2);
        server.stop();
        in_database(&home, "PRAGMA wal_checkpoint(TRUNCATE)");
        assert_eq!(&fs::read(&file).unwrap()[68..72], b"CSGN");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_key_that_cannot_be_used_is_named_with_a_remedy_and_not_replaced() {
        let (access, refresh) = ("data/keys/access-0001-es256.pem", "data/keys/refresh-0001.key");
        type Spoil = fn(&Path);
        let cases: [(&str, &str, Spoil, &[&str]); 7] = [
            ("readable", refresh, |path| mode(path, 0o640), &["can be read by others", "chmod 600"]),
            ("readable", access, |path| mode(path, 0o604), &["can be read by others", "chmod 600"]),
            ("cut", refresh, |path| spoil(path, "cut"), &["is damaged", "32 bytes", "restore it from a backup"]),
            ("empty", access, |path| spoil(path, ""), &["is damaged", "restore it from a backup"]),
            (
                "garbled",
                access,
                |path| spoil(path, &"-----BEGIN PRIVATE KEY-----\n".repeat(9)),
                &["is damaged", "ES256", "restore it from a backup"],
            ),
            ("a folder", refresh, |path| folder(path), &["is a folder"]),
            ("large", refresh, |path| spoil(path, &"a".repeat(100_000)), &["no file that Countersign has made"]),
        ];
        for (what, file, spoil, parts) in cases {
            let home = Home::new();
            home.serve(&[]).stop();
            spoil(&home.path(file));
            let before = fingerprint(&home.path("data/keys"));
            for arguments in [&["serve"][..], &["check-config"], &["keys", "list"]] {
                let told = refused(&home, arguments, &[]);
                assert!(told.contains(file), "{what}, {arguments:?}: {told}");
                assert!(parts.iter().all(|part| told.contains(part)), "{what}, {arguments:?}: {told}");
                assert_eq!(fingerprint(&home.path("data/keys")), before, "{what}, {arguments:?}");
            }
        }
        let home = Home::new();
        home.write("data/keys", "a file");
        for arguments in ["serve", "check-config"] {
            let told = refused(&home, &[arguments], &[]);
            assert!(told.contains("data/keys is a file and not a folder"), "{arguments}: {told}");
        }
        assert!(!home.path("data/countersign.db").exists(), "nothing is made before a refusal");
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn spoil(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
    }

    fn folder(path: &Path) {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }

    /// A refusal of the system's names path, owner and remedy. For the system's own user no mode is in the way, so these run
    /// as another.
    #[test]
    fn without_permission_path_owner_and_remedy_are_told_and_nothing_is_made() {
        let home = Home::new();
        home.serve(&[]).stop();
        let ours = |path: &str| home.path(path).canonicalize().unwrap();
        let stranger = rustix::process::geteuid().is_root();
        let owner = format!("uid {}", rustix::process::geteuid().as_raw());
        mode(&home.path("."), 0o755);
        // What was built may be where another user cannot go.
        let program = home.path("program");
        fs::copy(env!("CARGO_BIN_EXE_countersign"), &program).unwrap();
        mode(&program, 0o755);
        fs::create_dir(home.path("closed")).unwrap();
        /// What it is, the modes that make it so, the database, and what the error names.
        type Case = (&'static str, &'static [(&'static str, u32)], &'static str, &'static [&'static str]);
        let cases: [Case; 4] = [
            ("a folder that is not to be written", &[("closed", 0o555)], "sqlite:closed/a.db", &["closed"]),
            ("a folder that is not to be entered", &[("data", 0o600)], "sqlite:data/countersign.db", &["data"]),
            (
                "keys that are not to be seen",
                &[("data", 0o755), ("data/keys", 0o000)],
                "sqlite:data/countersign.db",
                &["data/keys"],
            ),
            (
                "a database that is not to be read",
                &[("data", 0o755), ("data/keys", 0o755), ("data/countersign.db", 0o000)],
                "sqlite:data/countersign.db",
                &["countersign.db"],
            ),
        ];
        for (what, modes, url, parts) in cases {
            if stranger && what == "a database that is not to be read" {
                for path in fs::read_dir(home.path("data/keys")).unwrap().map(|entry| entry.unwrap().path()) {
                    chown(path, Some(65_534), None).unwrap();
                }
            }
            for (path, bits) in modes {
                mode(&home.path(path), *bits);
            }
            for arguments in ["serve", "check-config"] {
                let mut command = Command::new(&program);
                command.arg(arguments).current_dir(home.path(".")).stdin(Stdio::null());
                command.env_clear().envs([("PORT", "0"), ("DATABASE_URL", url)]);
                if stranger {
                    command.uid(65_534).gid(65_534);
                }
                let outcome = command.output().unwrap();
                let told = String::from_utf8(outcome.stderr).unwrap();
                assert_eq!(outcome.status.code(), Some(1), "{what}: {told}");
                let place = ours(".");
                for part in parts.iter().chain(&["permission denied", "mode 0", place.to_str().unwrap(), &owner]) {
                    assert!(told.contains(part), "{what}, {arguments}, {part}: {told}");
                }
                assert!(told.contains("chown") || told.contains("chmod"), "{what}, {arguments}: {told}");
            }
            for (path, _) in modes {
                mode(&home.path(path), 0o700);
            }
        }
        assert_eq!(fs::read_dir(home.path("closed")).unwrap().count(), 0);
    }

    #[test]
    fn first_starts_at_once_make_one_of_everything() {
        for _ in 0..3 {
            let home = Home::new();
            let (spawned, began) = (std::sync::Barrier::new(6), &home);
            let servers: Vec<Server> = std::thread::scope(|scope| {
                let start = || {
                    spawned.wait();
                    began.serve(&[])
                };
                let threads: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let mut names: Vec<_> = fs::read_dir(home.path("data/keys"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, ["access-0001-es256.pem", "databases", "issuer", "issuers", "refresh-0001.key"]);
            assert!(!home.path("data/.countersign.lock").exists());
            let pair = servers[0].register(ADA);
            let (status, body) = refresh(&servers[5], &pair);
            assert_eq!(status, 200, "{body}");
        }
    }
}
