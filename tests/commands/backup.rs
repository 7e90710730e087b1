//! `backup`: a copy while the server is at work, and what it is good for.

use super::*;

#[test]
fn postgresql_is_copied_by_its_own_tools() {
    let home = Home::new();
    let postgres =
        [("DATABASE_URL", "postgres://u@localhost/d"), ("COUNTERSIGN__TOKENS__ISSUER", "http://issuer.test")];
    let told = finish(home.command(["backup", "copy.db"], postgres), b"").refused();
    assert!(told.contains("pg_dump"), "{told}");
}

/// About files.
mod embedded {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    /// A home with that copy as its database, and with the keys of the first one.
    fn restored(home: &Home, copy: &str) -> Home {
        let other = Home::new();
        fs::create_dir_all(other.path("data")).unwrap();
        fs::copy(home.path(copy), other.path("data/countersign.db")).unwrap();
        fs::create_dir(other.path("data/keys")).unwrap();
        for key in fs::read_dir(home.path("data/keys")).unwrap() {
            let key = key.unwrap();
            fs::copy(key.path(), other.path("data/keys").join(key.file_name())).unwrap();
        }
        other
    }

    #[test]
    fn a_copy_made_under_load_ends_no_session_that_is_in_it() {
        let home = Home::new();
        let server = home.serve(&[]);
        let mut pair = server.register(ADA);
        let (stop, mut copies) = (AtomicBool::new(false), Vec::new());
        thread::scope(|scope| {
            // Somewhere between two of these refreshes each copy is made.
            let busy = scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let (status, next) = refresh(&server, &pair);
                    assert_eq!(status, 200, "{next}");
                    pair = next;
                }
            });
            for number in 0..5 {
                let name = format!("copy-{number}.db");
                let said = run(&home, &["backup", &name]).done();
                assert!(said.contains(&name) && said.contains("data/keys"), "{said}");
                copies.push(name);
            }
            stop.store(true, Ordering::SeqCst);
            busy.join().unwrap();
        });
        server.stop();
        for copy in &copies {
            let mode = fs::metadata(home.path(copy)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{copy}");
            let other = restored(&home, copy);
            let server = other.serve(&[]);
            // The database is older than the token.
            let (status, next) = refresh(&server, &pair);
            assert_eq!(status, 200, "{copy}: {next}");
            assert_eq!(get(&server, "/v1/users/me", text(&next, "access_token")).0, 200);
            server.stop();
        }
    }

    #[test]
    fn a_copy_overwrites_nothing_and_is_whole_or_not_there() {
        let home = empty();
        create(&home, ADA);
        let files = || {
            let mut names: Vec<_> = fs::read_dir(home.path("."))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        fs::write(home.path("mine"), "not a database").unwrap();
        std::os::unix::fs::symlink("nowhere", home.path("link")).unwrap();
        let before = files();
        for name in ["mine", "link", "data/countersign.db"] {
            let told = run(&home, &["backup", name]).refused();
            assert!(told.contains("is not overwritten"), "{told}");
        }
        let told = run(&home, &["backup", "no/such/folder.db"]).refused();
        assert!(told.contains("no/such/folder.db"), "{told}");
        assert_eq!(files(), before);
        assert_eq!(fs::read_to_string(home.path("mine")).unwrap(), "not a database");
        run(&home, &["backup", "copy.db"]).done();
        assert!(run(&home, &["backup", "copy.db"]).refused().contains("is not overwritten"));
        // Without a server, too: nothing beside the database.
        let beside: Vec<_> = fs::read_dir(home.path("data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(beside.iter().all(|name| !name.to_string_lossy().ends_with("-wal")), "{beside:?}");
        let users = format!("sqlite:{}", home.path("copy.db").display());
        assert_eq!(support::database::Connection::open(&users).number("SELECT count(*) FROM users"), 1);
    }

    #[test]
    fn without_a_database_there_is_nothing_to_copy() {
        let home = Home::new();
        let told = run(&home, &["backup", "copy.db"]).refused();
        assert!(told.contains("is not there") && !home.path("copy.db").exists(), "{told}");
    }

    /// The page that `keys forget` and the documentation name.
    #[test]
    fn a_copy_without_its_keys_is_refused_at_the_start() {
        let home = Home::new();
        let server = home.serve(&[]);
        server.register(ADA);
        run(&home, &["backup", "copy.db"]).done();
        server.stop();
        let other = restored(&home, "copy.db");
        fs::remove_dir_all(other.path("data/keys")).unwrap();
        let told = finish(other.command(["serve"], [("PORT", "0")]), b"");
        assert_eq!(told.code, Some(1));
        assert!(told.err.contains("keys forget"), "{}", told.err);
    }
}
