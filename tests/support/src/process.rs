//! The real binary in a working directory of its own, and a client that knows whether a request that
//! got no answer had been sent.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::TestDatabase;

/// A password that every test may use; not the one of the example that the server prints.
pub const PASSWORD: &str = "an inimitable turnip";

/// The outcome of a test that lacks packages: ignored, for the reason given. In CI, which installs them, it has failed,
/// unless their registry could not be reached, which `REGISTRY_AWAY` says.
pub fn lacks_packages(reason: String) -> Result<Completion, Failed> {
    let away = std::env::var_os("REGISTRY_AWAY").is_some_and(|value| !value.is_empty());
    match std::env::var_os("CI") {
        Some(_) if !away => Err(reason.into()),
        _ => Ok(Completion::ignored_with(reason)),
    }
}

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A working directory, in which the server makes what it needs, and a database.
pub struct Home {
    database: TestDatabase,
    migrated: OnceLock<()>,
    folder: TempDir,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = TestDatabase::new(folder.path().join("data/countersign.db"));
        Self { database, migrated: OnceLock::new(), folder }
    }

    /// With a database on that PostgreSQL server, whatever this run is about.
    pub fn on_postgres(admin: &str) -> Self {
        let (database, folder) = (TestDatabase::on_postgres(admin), tempfile::tempdir().unwrap());
        Self { database, migrated: OnceLock::new(), folder }
    }

    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(below)
    }

    /// The database, which a server or `countersign migrate` has brought up to date, or nothing yet.
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// Writes a file, with the folders above it, for its owner's eyes only.
    pub fn write(&self, below: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The binary, in this directory, with an environment that holds nothing else, but for where the database is if
    /// that is not in this directory.
    pub fn command<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Command {
        let mut command = Command::new(crate::program());
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if !self.database.is_embedded() {
            command.envs(self.database.environment());
        }
        command.envs(environment);
        command
    }

    /// Brings a database up to date that no server would.
    pub fn migrate(&self) {
        self.migrated.get_or_init(|| self.database.migrate());
    }

    /// A server on any free port, with cheap passwords, and with `environment` above that.
    pub fn serve(&self, environment: &[(&str, &str)]) -> Server {
        self.migrate();
        let usual = [("PORT", "0"), ("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4"), ("COUNTERSIGN__METRICS__BIND", "")];
        Server::start(self.command([], usual.into_iter().chain(environment.iter().copied())))
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: Option<JoinHandle<String>>,
}

impl Server {
    /// Starts the server and waits until it says where it listens.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (listening, listens) = mpsc::channel();
        let log = thread::spawn(move || {
            let (mut whole, mut line) = (String::new(), String::new());
            while lines.read_line(&mut line).unwrap_or(0) > 0 {
                let url =
                    serde_json::from_str::<Value>(&line).ok().and_then(|entry| Some(entry["url"].as_str()?.to_owned()));
                if let Some(address) = url.and_then(|url| url.strip_prefix("http://")?.parse().ok()) {
                    let _ = listening.send(address);
                }
                whole += &line;
                line.clear();
            }
            whole
        });
        match listens.recv_timeout(PATIENCE) {
            Ok(address) => Self { child, address, log: Some(log) },
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server did not start:\n{}", log.join().unwrap())
            }
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, which must come: how it ended, and the whole log, in which nothing panicked.
    #[track_caller]
    pub fn wait(mut self) -> (ExitStatus, String) {
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if began.elapsed() > PATIENCE => panic!("the server did not stop"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let log = self.log.take().unwrap().join().unwrap();
        assert!(!log.contains("panicked"), "{log}");
        (status, log)
    }

    /// Asks it to stop, which must succeed.
    #[track_caller]
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (status, log) = self.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }

    /// POSTs JSON over a connection of its own.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        Connection::open(self.address).unwrap().post(path, body).unwrap()
    }

    /// Registers a user: the token answer.
    #[track_caller]
    pub fn register(&self, email: &str) -> Value {
        let answer = self.post("/v1/auth/register", &json!({ "email": email, "password": PASSWORD }));
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that is kept between requests.
pub struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Lost {
    /// The request did not go out whole, so no answer to it was promised.
    Unsent(io::Error),
    /// The request went out whole.
    Unanswered(io::Error),
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Whether the server closes the connection behind it.
    pub last: bool,
    /// The body; null if it is not JSON.
    pub body: Value,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Result<Answer, Lost> {
        self.send("POST", path, &[("Content-Type", "application/json")], &body.to_string())
    }

    /// Exchanges a refresh token.
    pub fn refresh(&mut self, token: &str) -> Result<Answer, Lost> {
        self.post("/v1/auth/refresh", &json!({ "refresh_token": token }))
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer, Lost> {
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.address, body.len());
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("\r\n{body}");
        self.stream.get_mut().write_all(text.as_bytes()).map_err(Lost::Unsent)?;
        self.answer().map_err(Lost::Unanswered)
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (mut status, mut length, mut last) = (None, 0, false);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                return Err(cut());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            } else if status.is_none() {
                status = line.split(' ').nth(1).and_then(|number| number.parse().ok());
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().map_err(|_not_a_number| cut())?;
            } else if line == "connection: close" {
                last = true;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Answer { status: status.ok_or_else(cut)?, last, body })
    }
}
