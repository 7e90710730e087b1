//! Whether the server is ready, as a load balancer and `healthcheck` see it: what keeps it from its work is said, and said
//! no longer than it lasts.
//!
//! A full disk is a small one that is mounted. Where the system does not allow that, as in many containers, its test is reported
//! as ignored, with `CI` in the environment too: that cannot be installed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

use std::process::{Command, ExitCode, Output};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Trial};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::process::{Answer, Connection, Home, PASSWORD, Server};

const ADA: &str = "ada@example.com";

/// How long what comes in the end may take.
const PATIENCE: Duration = Duration::from_secs(60);

const NO_WRITES: &str = "The database takes no writes.";

macro_rules! trials {
    ($($($module:ident)::+),+ $(,)?) => {
        // A long path is broken into lines.
        vec![$(Trial::test(stringify!($($module)::+).split_whitespace().collect::<String>(), || {
            $($module)::+();
            Ok(())
        })),+]
    };
}

fn main() -> ExitCode {
    let mut trials = trials![
        while_others_hold_the_database_it_is_not_ready_and_says_so_once,
        however_many_ask_a_probe_writes_at_most_once_a_second,
        a_schema_of_another_version_is_not_ready,
        embedded::on_a_disk_that_takes_no_writes_it_is_not_ready_until_there_is_room,
        embedded::a_database_that_is_exchanged_under_a_running_server_is_not_ready,
        embedded::a_database_that_others_use_as_they_should_stays_ready,
        embedded::a_database_with_a_damaged_page_is_not_ready_after_a_start,
        embedded::a_damaged_page_is_found_after_a_kill_and_nothing_is_written,
        embedded::a_damaged_page_that_a_request_meets_makes_a_running_server_not_ready,
        embedded::a_log_that_belongs_to_another_database_is_refused_and_spoils_nothing,
        embedded::a_log_of_another_database_is_refused_by_commands,
        embedded::the_file_of_a_stopped_server_alone_is_the_whole_database,
        embedded::a_large_database_is_locked_after_a_start_that_follows_a_kill,
    ];
    trials.push(Trial::ignorable_test("embedded::on_a_full_disk_it_is_not_ready_until_there_is_room", || {
        match embedded::on_a_full_disk_it_is_not_ready_until_there_is_room() {
            Ok(()) => Ok(Completion::Completed),
            Err(refused) => Ok(Completion::ignored_with(refused)),
        }
    }));
    support::run(trials)
}

fn ask(server: &Server, path: &str) -> Answer {
    Connection::open(server.address).unwrap().send("GET", path, &[], "").unwrap()
}

fn ready(server: &Server) -> Answer {
    ask(server, "/health/ready")
}

/// Waits until the server is ready.
#[track_caller]
fn becomes_ready(server: &Server) {
    let began = Instant::now();
    loop {
        let answer = ready(server);
        if answer.status == 200 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "not ready again: {}", answer.body);
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until it says that it is not ready, and that for this reason; `healthcheck` says so, too. It lives all along.
#[track_caller]
fn is_not_ready(home: &Home, server: &Server, detail: &str) {
    let began = Instant::now();
    let answer = loop {
        let answer = ready(server);
        if answer.status != 200 && answer.body["detail"] == detail {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "not {detail:?}: {} {}", answer.status, answer.body);
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("unavailable")));
    let told = healthcheck(home, server);
    assert_eq!(told.status.code(), Some(1));
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains(detail), "{told}");
    assert_eq!(ask(server, "/health/live").status, 200);
}

fn healthcheck(home: &Home, server: &Server) -> Output {
    home.command(["healthcheck"], [("PORT", server.address.port().to_string().as_str())]).output().unwrap()
}

/// Lines of the log that say so.
fn lines<'a>(log: &'a str, what: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(what)).collect()
}

#[track_caller]
fn refresh(server: &Server, pair: &Value) -> Answer {
    server.post("/v1/auth/refresh", &json!({ "refresh_token": pair["refresh_token"] }))
}

/// Longer than an answer is given to others who ask.
fn let_the_answer_go_stale() {
    thread::sleep(Duration::from_millis(1_100));
}

fn while_others_hold_the_database_it_is_not_ready_and_says_so_once() {
    let home = Home::new();
    let server = home.serve(&[]);
    let pair = server.register(ADA);
    becomes_ready(&server);
    let mut holder = home.database().connect();
    for _ in 0..2 {
        holder.hold_writers_up();
        is_not_ready(&home, &server, NO_WRITES);
        assert_eq!(refresh(&server, &pair).status, 503);
        let_the_answer_go_stale();
        is_not_ready(&home, &server, NO_WRITES);
        holder.let_writers_go();
        becomes_ready(&server);
    }
    assert_eq!(refresh(&server, &pair).status, 200, "nothing was harmed");
    let log = server.stop();
    assert_eq!(lines(&log, "this node is not ready").len(), 2, "{log}");
    assert_eq!(lines(&log, "so this node is ready").len(), 2, "{log}");
}

/// A load balancer may ask as often as it likes.
fn however_many_ask_a_probe_writes_at_most_once_a_second() {
    let home = Home::new();
    let server = home.serve(&[]);
    becomes_ready(&server);
    let mut database = home.database().connect();
    let written = "SELECT writes FROM health";
    let (before, began) = (database.number(written), Instant::now());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = Connection::open(server.address).unwrap();
                for _ in 0..100 {
                    assert_eq!(connection.send("GET", "/health/ready", &[], "").unwrap().status, 200);
                }
            });
        }
    });
    let_the_answer_go_stale();
    assert_eq!(ready(&server).status, 200);
    let (writes, seconds) = (database.number(written) - before, began.elapsed().as_secs());
    assert!(writes >= 1, "a probe writes");
    assert!(writes <= i64::try_from(seconds).unwrap() + 1, "{writes} times in {seconds} s");
    assert_eq!(database.number("SELECT count(*) FROM health"), 1);
}

/// What another version does to the database under a running server.
fn a_schema_of_another_version_is_not_ready() {
    let home = Home::new();
    let server = home.serve(&[]);
    becomes_ready(&server);
    let mut database = home.database().connect();
    let table = "__diesel_schema_migrations";
    for (become_so, detail, mend) in [
        (
            format!("INSERT INTO {table} (version) VALUES ('20991231000001')"),
            "The database belongs to a newer version.",
            format!("DELETE FROM {table} WHERE version = '20991231000001'"),
        ),
        (
            format!("DELETE FROM {table} WHERE version = '20261126000005'"),
            "The database needs migrations.",
            format!("INSERT INTO {table} (version) VALUES ('20261126000005')"),
        ),
    ] {
        database.execute(&become_so);
        is_not_ready(&home, &server, detail);
        database.execute(&mend);
        becomes_ready(&server);
    }
    assert_eq!(healthcheck(&home, &server).stdout, b"ready\n");
}

/// Disks and files.
mod embedded {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    use std::path::{Path, PathBuf};

    use rustix::process::{Pid, Resource, Rlimit, prlimit};

    use super::*;

    const REPLACED: &str = "The database was replaced while it was in use.";
    const DAMAGED: &str = "The database is damaged.";

    /// A server whose files the system can keep from growing without a signal that would end it.
    fn serve_without_the_signal_for_large_files(home: &Home) -> Server {
        let environment =
            [("PORT", "0"), ("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4"), ("COUNTERSIGN__METRICS__BIND", "")];
        let server = home.command([], environment);
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(server.get_program()).args(server.get_args());
        shell.env_clear().envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(home.path("")).stdin(std::process::Stdio::null());
        Server::start(shell)
    }

    /// No file of the server may grow, or be written at all.
    fn limit_files(server: &Server, bytes: Option<u64>) {
        let id = Pid::from_raw(i32::try_from(server.id()).unwrap());
        prlimit(id, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    }

    /// A small disk, mounted where the data will be. Dropping it unmounts it.
    struct Disk(PathBuf);

    impl Disk {
        /// Why not, if it may not.
        fn mount(at: &Path) -> Result<Self, String> {
            fs::create_dir_all(at).unwrap();
            let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m,mode=700", "none"]).arg(at).output();
            let refused = match mount {
                Ok(output) if output.status.success() => return Ok(Self(at.to_owned())),
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            Err(format!("no disk can be mounted: {refused}"))
        }

        /// Takes all the room that there is.
        fn fill(&self) {
            let mut file = fs::File::create(self.0.join("ballast")).unwrap();
            let mut size = 1 << 16;
            while size > 0 {
                if file.write_all(&vec![0_u8; size]).is_err() {
                    size /= 2;
                }
            }
        }

        fn make_room(&self) {
            fs::remove_file(self.0.join("ballast")).unwrap();
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }

    /// Not ready as long as refreshes are 503, and no longer; reads go on.
    #[track_caller]
    fn is_not_ready_while(home: &Home, server: &Server, begin: impl FnOnce(), end: impl FnOnce()) {
        let pair = server.register(ADA);
        becomes_ready(server);
        begin();
        is_not_ready(home, server, NO_WRITES);
        assert_eq!(refresh(server, &pair).status, 503);
        let me = format!("Bearer {}", pair["access_token"].as_str().unwrap());
        let mut connection = Connection::open(server.address).unwrap();
        let answer = connection.send("GET", "/v1/users/me", &[("Authorization", &me)], "").unwrap();
        assert_eq!(answer.status, 200, "reading goes on: {}", answer.body);
        end();
        becomes_ready(server);
        assert_eq!(refresh(server, &pair).status, 200);
    }

    pub fn on_a_disk_that_takes_no_writes_it_is_not_ready_until_there_is_room() {
        let home = Home::new();
        let server = serve_without_the_signal_for_large_files(&home);
        is_not_ready_while(&home, &server, || limit_files(&server, Some(0)), || limit_files(&server, None));
        let log = server.stop();
        assert_eq!(lines(&log, "this node is not ready").len(), 1, "{log}");
    }

    /// `Err`: no disk can be mounted here.
    pub fn on_a_full_disk_it_is_not_ready_until_there_is_room() -> Result<(), String> {
        let home = Home::new();
        let disk = Disk::mount(&home.path("data"))?;
        let server = home.serve(&[]);
        is_not_ready_while(&home, &server, || disk.fill(), || disk.make_room());
        server.stop();
        Ok(())
    }

    /// Everything that is in the files beside each other, from a server that has stopped.
    fn copy(home: &Home, name: &str) -> PathBuf {
        let copy = home.path(name);
        fs::copy(home.database().file(), &copy).unwrap();
        copy
    }

    fn beside(file: &Path, suffix: &str) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    }

    /// An operator restores a backup, moves a file, or tidies up, while the server runs.
    pub fn a_database_that_is_exchanged_under_a_running_server_is_not_ready() {
        type Exchange = fn(&Path, &Path);
        let exchanges: [(&str, Exchange); 5] = [
            ("a backup is moved there", |backup, file| fs::rename(backup, file).unwrap()),
            ("a backup is copied over it", |backup, file| assert!(fs::copy(backup, file).unwrap() > 0)),
            ("it is removed", |_, file| fs::remove_file(file).unwrap()),
            ("it is moved away", |_, file| fs::rename(file, beside(file, ".old")).unwrap()),
            ("its log is removed", |_, file| fs::remove_file(beside(file, "-wal")).unwrap()),
        ];
        for (what, exchange) in exchanges {
            let home = Home::new();
            let server = home.serve(&[]);
            server.register(ADA);
            server.stop();
            let backup = copy(&home, "backup.db");
            let server = home.serve(&[]);
            server.register("grace@example.com");
            becomes_ready(&server);
            exchange(&backup, home.database().file());
            println!("{what}");
            is_not_ready(&home, &server, REPLACED);
            let_the_answer_go_stale();
            is_not_ready(&home, &server, REPLACED);
            let log = server.stop();
            assert_eq!(lines(&log, "this node is not ready").len(), 1, "{what}: {log}");
            assert!(log.contains("restart it: it works on the file that was there before"), "{what}: {log}");
        }
    }

    /// What changes the file and is as it should be: checkpoints of other programs, and commands.
    pub fn a_database_that_others_use_as_they_should_stays_ready() {
        let home = Home::new();
        let server = home.serve(&[]);
        let mut pair = server.register(ADA);
        let mut other = home.database().connect();
        for round in 0..3 {
            becomes_ready(&server);
            assert_eq!(refresh(&server, &pair).status, 200);
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)");
            let_the_answer_go_stale();
            assert_eq!(ready(&server).status, 200);
            other.execute(&format!("UPDATE users SET name = 'Ada {round}'; PRAGMA wal_checkpoint(PASSIVE)"));
            let_the_answer_go_stale();
            assert_eq!(ready(&server).status, 200);
            let listed = home.command(["user", "disable", ADA], []).output().unwrap();
            assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
            let listed = home.command(["user", "enable", ADA], []).output().unwrap();
            assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
            pair = server.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })).body;
            let_the_answer_go_stale();
            assert_eq!(ready(&server).status, 200);
        }
        let log = server.stop();
        assert_eq!(lines(&log, "not ready").len(), 0, "{log}");
    }

    /// Spoils the page on which a table or an index begins.
    fn spoil(file: &Path, what: &str) {
        let mut database = support::database::Connection::open(&format!("sqlite:{}", file.display()));
        let page = database.number(&format!("SELECT rootpage FROM sqlite_master WHERE name = '{what}'"));
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)");
        drop(database);
        let file = fs::OpenOptions::new().write(true).open(file).unwrap();
        file.write_all_at(&[0x5a; 4096], u64::try_from((page - 1) * 4096).unwrap()).unwrap();
    }

    fn kill(server: Server) {
        server.signal(Signal::KILL);
        let (status, _) = server.wait();
        assert!(!status.success());
    }

    pub fn a_database_with_a_damaged_page_is_not_ready_after_a_start() {
        // None of them is read by the start itself, nor by the poll.
        for damaged in ["events", "events_by_user", "attempts"] {
            let home = Home::new();
            let server = home.serve(&[]);
            server.register(ADA);
            server.stop();
            spoil(home.database().file(), damaged);
            let server = home.serve(&[]);
            is_not_ready(&home, &server, DAMAGED);
            let log = server.stop();
            assert_eq!(lines(&log, "the database is damaged").len(), 1, "{damaged}: {log}");
            assert!(log.contains("put a backup in"), "{log}");
        }
    }

    /// As SQLite writes numbers.
    fn number(bytes: &[u8]) -> usize {
        bytes.iter().fold(0, |all, byte| (all << 8) | usize::from(*byte))
    }

    /// The first page below the root of a table (sqlite.org/fileformat2.html, section 1.6).
    fn first_leaf(file: &[u8], root: i64) -> usize {
        let page = (usize::try_from(root).unwrap() - 1) * 4096;
        assert_eq!(file[page], 2, "there are pages below it");
        let cell = page + number(&file[page + 12..page + 14]);
        number(&file[cell..cell + 4])
    }

    /// A command is refused on a database that is not whole, and touches neither it nor the log beside it: closing it would
    /// checkpoint that. Where no server runs, `healthcheck` has nothing to tell of it, and does not touch it either.
    #[track_caller]
    fn commands_are_refused_and_change_nothing(home: &Home) {
        let file = home.database().file();
        let read = || [file.to_owned(), beside(file, "-wal")].map(|file| fs::read(file).unwrap());
        let before = read();
        let commands: [&[&str]; 14] = [
            &["user", "list"],
            &["user", "show", ADA],
            &["user", "create", "new@example.com"],
            &["user", "grant", ADA, "admin"],
            &["user", "set-password", ADA],
            &["user", "delete", ADA, "--yes"],
            &["session", "list"],
            &["session", "revoke", "--all"],
            &["keys", "list"],
            &["keys", "forget", "a-key"],
            &["keys", "forget", "--all"],
            &["migrate"],
            &["check-config"],
            &["backup", "copy.db"],
        ];
        for command in commands {
            let outcome = home.command(command.iter().copied(), []).output().unwrap();
            let told = String::from_utf8_lossy(&outcome.stderr);
            assert_eq!(outcome.status.code(), Some(1), "{command:?}: {told}");
            assert!(told.contains(file.to_str().unwrap()) && told.contains("from a backup"), "{command:?}: {told}");
            assert!(read() == before, "{command:?}");
        }
        assert!(!home.path("copy.db").exists());
        let outcome = home.command(["healthcheck"], [("PORT", "1")]).output().unwrap();
        assert_eq!(outcome.status.code(), Some(1));
        assert!(read() == before, "healthcheck");
    }

    /// The log that a kill leaves behind is not touched either before all is known to be well.
    pub fn a_damaged_page_is_found_after_a_kill_and_nothing_is_written() {
        let home = Home::new();
        let server = home.serve(&[]);
        for number in 0..120 {
            server.register(&format!("user{number}@example.com"));
        }
        server.stop();
        let file = home.database().file().to_owned();
        let root = home.database().connect().number("SELECT rootpage FROM sqlite_master WHERE name = 'sessions'");
        let server = home.serve(&[]);
        server.register(ADA);
        kill(server);
        let mut bytes = fs::read(&file).unwrap();
        let leaf = first_leaf(&bytes, root);
        let log = fs::read(beside(&file, "-wal")).unwrap();
        let logged: Vec<usize> = log[32..].chunks(24 + 4096).map(|frame| number(&frame[..4])).collect();
        assert!(!logged.is_empty() && !logged.contains(&leaf), "{leaf} is in the log, too: {logged:?}");
        let leaf = (leaf - 1) * 4096;
        bytes[leaf..leaf + 4096].fill(0x5a);
        fs::write(&file, &bytes).unwrap();

        commands_are_refused_and_change_nothing(&home);
        let server = home.serve(&[]);
        is_not_ready(&home, &server, DAMAGED);
        server.stop();
        assert!(fs::read(&file).unwrap() == bytes, "the file is as it was found");
        assert!(fs::read(beside(&file, "-wal")).unwrap().starts_with(&log), "and so is its log");
    }

    /// A query meets it, of whatever request; no restart is needed to know.
    pub fn a_damaged_page_that_a_request_meets_makes_a_running_server_not_ready() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = server.register(ADA);
        becomes_ready(&server);
        // In memory there is another table in its place: the schema is read anew, since it has changed.
        let mut database = home.database().connect();
        database.execute("CREATE TABLE spare (x); PRAGMA writable_schema = ON");
        database.execute(
            "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'spare')
             WHERE name = 'events_by_user'; CREATE TABLE another (x)",
        );
        drop(database);
        let me = format!("Bearer {}", pair["access_token"].as_str().unwrap());
        let mut connection = Connection::open(server.address).unwrap();
        let answer = connection.send("GET", "/v1/users/me/events", &[("Authorization", &me)], "").unwrap();
        assert_eq!(answer.status, 503, "{}", answer.body);
        is_not_ready(&home, &server, DAMAGED);
        server.stop();
    }

    /// Another life of the same database, whose tables have other pages, ends by a kill.
    fn leave_the_log_of_another_life(home: &Home) {
        home.database().connect().execute("DELETE FROM events; DELETE FROM sessions; VACUUM");
        let server = home.serve(&[]);
        for number in 0..40 {
            server.register(&format!("later{number}@example.com"));
        }
        kill(server);
        assert!(fs::metadata(beside(home.database().file(), "-wal")).unwrap().len() > 0);
    }

    /// The log of a database that was killed, beside the backup that was put in its place. Nothing is spoilt by trying: without
    /// the log, the backup is as good as it was.
    pub fn a_log_that_belongs_to_another_database_is_refused_and_spoils_nothing() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = server.register(ADA);
        for number in 0..40 {
            server.register(&format!("user{number}@example.com"));
        }
        server.stop();
        let (file, backup) = (home.database().file().to_owned(), copy(&home, "backup.db"));

        leave_the_log_of_another_life(&home);
        let log = beside(&file, "-wal");
        fs::copy(&backup, &file).unwrap();

        commands_are_refused_and_change_nothing(&home);
        // Both together are not even a database that can be opened.
        let told = home.command([], [("PORT", "0"), ("COUNTERSIGN__METRICS__BIND", "")]).output().unwrap();
        assert_eq!(told.status.code(), Some(1));
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.contains("the database is damaged") && told.contains("without the -wal"), "{told}");
        assert!(fs::read(&file).unwrap() == fs::read(&backup).unwrap(), "it is as it was put there");
        fs::remove_file(&log).unwrap();
        fs::remove_file(beside(&file, "-shm")).unwrap();
        let server = home.serve(&[]);
        becomes_ready(&server);
        assert_eq!(refresh(&server, &pair).status, 200);
        server.stop();
    }

    /// The same with a database that a server would check beside its work: a command has no time after it.
    pub fn a_log_of_another_database_is_refused_by_commands() {
        let home = Home::new();
        let server = home.serve(&[]);
        server.register(ADA);
        for number in 0..40 {
            server.register(&format!("user{number}@example.com"));
        }
        make_it_large(&home);
        server.stop();
        let (file, backup) = (home.database().file().to_owned(), copy(&home, "backup.db"));
        leave_the_log_of_another_life(&home);
        fs::copy(&backup, &file).unwrap();
        commands_are_refused_and_change_nothing(&home);
    }

    /// Larger than what is checked before a start goes on.
    fn make_it_large(home: &Home) {
        let mut database = home.database().connect();
        database.execute("CREATE TABLE spare (x); INSERT INTO spare VALUES (zeroblob(80000000))");
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)");
        assert!(fs::metadata(home.database().file()).unwrap().len() > 64 << 20);
    }

    /// One that is too large to be checked before it is opened. Closing any descriptor of the file takes the locks of a process
    /// away (fcntl(2)), also those of connections that are at work.
    pub fn a_large_database_is_locked_after_a_start_that_follows_a_kill() {
        let home = Home::new();
        let server = home.serve(&[]);
        let file = home.database().file().to_owned();
        make_it_large(&home);
        server.register(ADA);
        kill(server);
        assert!(fs::metadata(beside(&file, "-wal")).unwrap().len() > 0);

        let server = home.serve(&[]);
        becomes_ready(&server);
        let (id, inode) = (server.id().to_string(), format!(":{}", fs::metadata(&file).unwrap().ino()));
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let is_its_lock = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.contains(&id.as_str()) && fields.iter().any(|field| field.ends_with(&inode))
        };
        assert!(locks.lines().any(|line| is_its_lock(&line)), "{locks}");
        server.stop();
    }

    /// After a clean stop, and after commands without a server, the file alone is the database.
    pub fn the_file_of_a_stopped_server_alone_is_the_whole_database() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = refresh(&server, &server.register(ADA)).body;
        server.stop();
        let file = home.database().file().to_owned();
        let log = |file: &Path| fs::metadata(beside(file, "-wal")).map_or(0, |log| log.len());
        assert_eq!(log(&file), 0);
        let mut grant = home.command(["user", "grant", ADA, "admin"], []);
        assert!(grant.output().unwrap().status.success());
        assert_eq!(log(&file), 0);

        let copy = copy(&home, "data/copy.db");
        let url = format!("sqlite:{}", copy.display());
        let server = home.serve(&[("DATABASE_URL", &url)]);
        let next = refresh(&server, &pair);
        assert_eq!(next.status, 200, "{}", next.body);
        let mut database = support::database::Connection::open(&url);
        assert_eq!(database.text("SELECT roles FROM users"), r#"["admin"]"#);
    }
}
