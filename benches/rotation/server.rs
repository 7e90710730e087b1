//! The processes that are measured: the real binary, and the two that this binary can be.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Outcome;
use crate::http::{Connection, write_request};
use crate::load::runtime;

/// The server as the release profile builds it.
pub const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The unit of times in `/proc/PID/stat`, as Linux has it everywhere.
const TICK: Duration = Duration::from_millis(10);

/// Settings of every server here: cheap passwords unless they are what is measured, and nothing refused.
const USUAL: [(&str, &str); 4] = [
    ("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4"),
    ("COUNTERSIGN__LIMITS__ENABLED", "false"),
    ("COUNTERSIGN__METRICS__BIND", ""),
    // Thousands of sessions are of one account.
    ("COUNTERSIGN__SESSIONS__MAX_PER_USER", "0"),
];
/// Secrets, and what else several nodes must agree on.
pub const SHARED: [(&str, &str); 3] = [
    ("ACCESS_TOKEN_SECRET", "an access token secret for benchmarks only"),
    ("REFRESH_TOKEN_SECRET", "a refresh token secret for benchmarks only"),
    ("COUNTERSIGN__TOKENS__ISSUER", "http://bench.example"),
];

/// Environment variables.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// A folder on the disk that the build is on: where temporary files are in memory, a commit would cost nothing.
///
/// # Errors
///
/// If it cannot be made.
pub fn folder() -> Outcome<TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// A running process. Dropping it ends it.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// How long it took until it was ready.
    pub start: Duration,
}

impl Server {
    /// The real server, with its data in `home`. Its log goes nowhere, as if another program kept it.
    ///
    /// # Errors
    ///
    /// If it does not become ready.
    pub fn start(home: &Path, settings: Settings<'_>) -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = command(home, settings, &["serve"]);
        command.env("PORT", port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Self { child: command.spawn()?, address, start: Duration::ZERO };
        let runtime = runtime()?;
        while runtime.block_on(is_ready(address)).is_err() {
            if began.elapsed() > PATIENCE || server.child.try_wait()?.is_some() {
                // Once more, for what it has to say.
                return Err(run(home, settings, &["check-config"]).err().unwrap_or("the server does not start".into()));
            }
            thread::sleep(Duration::from_millis(1));
        }
        server.start = began.elapsed();
        Ok(server)
    }

    /// This binary, as one of the processes it can be; which says where it listens.
    ///
    /// # Errors
    ///
    /// If it does not say so.
    pub fn of_ours(argument: &str, home: &Path, settings: Settings<'_>) -> Outcome<Self> {
        let began = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(argument).current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped());
        command.env_clear().envs(USUAL).envs(settings.iter().copied());
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim().parse();
        let server = Self { child, address: address.unwrap_or(([0, 0, 0, 0], 0).into()), start: began.elapsed() };
        if server.address.port() == 0 { Err(format!("{argument} does not start").into()) } else { Ok(server) }
    }

    /// Whether it runs no longer, though it was not asked to stop.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The CPU time it has used.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn cpu(&self) -> Outcome<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // utime and stime are fields 14 and 15, of which the command's name and what precedes it are two.
        let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u32>().ok()).unwrap_or(0);
        Ok(TICK * (ticks(11) + ticks(12)))
    }

    /// Its share of memory, in MB.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn memory(&self) -> Outcome<f64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Ends it, and waits until it has.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    pub fn stop(mut self) -> Outcome<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs a command of the real binary to its end.
///
/// # Errors
///
/// What it says, if it fails.
pub fn run(home: &Path, settings: Settings<'_>, arguments: &[&str]) -> Outcome<()> {
    let output = command(home, settings, arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.trim().to_owned().into())
}

fn command(home: &Path, settings: Settings<'_>, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(home).stdin(Stdio::null()).env_clear();
    command.envs(USUAL).envs(settings.iter().copied());
    command
}

async fn is_ready(address: SocketAddr) -> Outcome<()> {
    let mut request = Vec::new();
    write_request(&mut request, "GET", "/health/ready", None, &[]);
    let mut connection = Connection::open(address).await?;
    let status = connection.exchange(&request).await?.status;
    if status == 200 { Ok(()) } else { Err("not ready".into()) }
}
