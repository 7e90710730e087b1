//! A PostgreSQL server for tests: `TEST_POSTGRES_URL` names one, else a private one is made of the binaries on this
//! machine, in a temporary folder, on a free port of the loopback interface.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use diesel::{Connection as _, PgConnection};
use rustix::net;
use tempfile::TempDir;

/// The variable that names a server, as a user who may make schemas.
pub const URL: &str = "TEST_POSTGRES_URL";

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Beside durability, which a test gives up, what many tests at once need.
const SETTINGS: [&str; 8] = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=500",
    "max_locks_per_transaction=256",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "log_min_messages=fatal",
];

/// Runs the server until this program tells it to stop, or ends in any way whatever: then its end of the pipe closes.
/// What is not told to stop is not needed any more.
const KEEPER: &str = r#"
    folder=$1; shift
    "$@" </dev/null & server=$!
    read -r told
    kill -INT $server
    wait $server
    [ "$told" = stop ] || rm -rf "$folder"
"#;

/// Where PostgreSQL's programs are. `Err` says what is missing.
pub fn installed() -> Result<PathBuf, String> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .map(|entry| {
            let version = entry.file_name().to_str().and_then(|name| name.parse().ok());
            (version.unwrap_or(0), entry.path().join("bin"))
        })
        .collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.into_iter().rev().map(|(_, folder)| folder).chain(std::env::split_paths(&path));
    let complete = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
    all.into_iter()
        .find(complete)
        .ok_or_else(|| format!("neither is {URL} set nor are initdb and postgres in PATH or /usr/lib/postgresql/*/bin"))
}

/// A private server. Dropping it stops it and removes everything.
pub struct Cluster {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    keeper: Option<Child>,
    settings: Vec<String>,
}

impl Cluster {
    /// # Errors
    ///
    /// What is missing, or what went wrong.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// With settings beside the usual ones, as `name=value`.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn start_with(settings: &[&str]) -> Result<Self, String> {
        let programs = installed()?;
        let folder = tempfile::Builder::new().prefix("countersign-postgres-").tempdir().map_err(told)?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).map_err(told)?;
        if let Some((user, group)) = unprivileged() {
            chown(folder.path(), Some(user), Some(group)).map_err(told)?;
        }
        let settings = SETTINGS.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        let mut cluster = Self { programs, folder, port: 0, keeper: None, settings };
        let mut initdb = cluster.command("initdb");
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D"]);
        let output = initdb.arg(cluster.data()).output().map_err(told)?;
        if !output.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr)));
        }
        cluster.run_anywhere()?;
        Ok(cluster)
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server, at once for its clients, and keeps what it has stored.
    pub fn halt(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            // One that has ended already need not be told.
            let _ = keeper.stdin.take().unwrap().write_all(b"stop\n");
            keeper.wait().unwrap();
        }
    }

    /// Starts the server again, on the port that it has. Another process may have been given it meanwhile, for a while.
    ///
    /// # Errors
    ///
    /// What the server says, if it does not start.
    pub fn resume(&mut self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            match self.run() {
                Err(error) if error.contains("could not create any TCP/IP sockets") && began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                done => return done,
            }
        }
    }

    /// Starts the server on a free port. Between the look for one and its use, another process may take it.
    fn run_anywhere(&mut self) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..5 {
            self.port = free_port()?;
            match self.run() {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn run(&mut self) -> Result<(), String> {
        let log = self.folder.path().join("log");
        let file = fs::File::create(&log).map_err(told)?;
        let mut command = self.as_the_server_runs("sh");
        command.args(["-c", KEEPER, "sh"]).arg(self.folder.path());
        command.arg(self.programs.join("postgres")).arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        // Of its own, so that an interrupt from the keyboard reaches the program that waits for the tests, and then this.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file);
        let mut keeper = command.spawn().map_err(told)?;
        let began = Instant::now();
        while PgConnection::establish(&self.url()).is_err() {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            if said().contains("FATAL:  could not") || began.elapsed() > PATIENCE {
                let _ = keeper.stdin.take().unwrap().write_all(b"stop\n");
                let _ = keeper.wait();
                return Err(format!("PostgreSQL does not start: {}", said()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.keeper = Some(keeper);
        Ok(())
    }

    /// What the server is told from its next start on, as `name=value`.
    pub fn set(&mut self, settings: &[&str]) {
        self.settings.extend(settings.iter().map(|setting| (*setting).to_owned()));
    }

    /// Makes a file the server's own.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn give(&self, file: &Path) -> Result<(), String> {
        unprivileged().map_or(Ok(()), |(user, group)| chown(file, Some(user), Some(group)).map_err(told))
    }

    /// Makes another cluster of a running one, that follows it and takes no writes.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn standby(&self) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("countersign-postgres-").tempdir().map_err(told)?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).map_err(told)?;
        if let Some((user, group)) = unprivileged() {
            chown(folder.path(), Some(user), Some(group)).map_err(told)?;
        }
        let (programs, settings) = (self.programs.clone(), self.settings.clone());
        let mut standby = Self { programs, folder, port: 0, keeper: None, settings };
        let mut copy = standby.command("pg_basebackup");
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-d", &self.url(), "-D"]);
        let output = copy.arg(standby.data()).output().map_err(told)?;
        if !output.status.success() {
            return Err(format!("pg_basebackup: {}", String::from_utf8_lossy(&output.stderr)));
        }
        standby.run_anywhere()?;
        Ok(standby)
    }

    /// Where it keeps what it has, and goes when it goes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        self.as_the_server_runs(self.programs.join(program))
    }

    /// As a user that is not root, which PostgreSQL insists on.
    pub fn as_the_server_runs(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env("LC_ALL", "C").current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = unprivileged() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// User and group to run the server as. None: as the user who runs this.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let postgres = users.lines().find(|line| line.starts_with("postgres:")).and_then(|line| {
        let mut fields = line.split(':').skip(2).map(str::parse);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    });
    Some(postgres.unwrap_or((65_534, 65_534)))
}

/// A port of the loopback interface on which nothing listens now.
///
/// # Errors
///
/// If there is none.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(told)?;
    Ok(listener.local_addr().map_err(told)?.port())
}

/// A port of the loopback interface on which nothing listens as long as this is there.
pub struct Unused(OwnedFd);

impl Unused {
    /// # Errors
    ///
    /// If there is none.
    pub fn new() -> Result<Self, String> {
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).map_err(told)?;
        net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(told)?;
        Ok(Self(socket))
    }

    pub fn port(&self) -> u16 {
        SocketAddr::try_from(net::getsockname(&self.0).unwrap()).unwrap().port()
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
