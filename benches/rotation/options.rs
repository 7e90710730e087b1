//! The command line.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use crate::Outcome;
use crate::load::{Target, What};

/// What is asked for.
pub enum Command {
    /// The table.
    Suite(Options),
    /// The load generator, against a server that runs already.
    Load(Target),
    /// Hidden: this process is the bare HTTP server.
    FloorServer,
    /// Hidden: this process is an application with a guarded route.
    GuardedServer,
}

/// How thoroughly.
#[derive(Clone)]
pub struct Options {
    /// Rounds of which the median counts.
    pub rounds: usize,
    /// How long each measurement of a round takes.
    pub span: Duration,
    /// How long the load before the memory is looked at takes.
    pub long: Duration,
    /// Sessions in the larger of two tables.
    pub many: u32,
    /// Only groups of rows whose name contains this.
    pub only: Option<String>,
}

impl Options {
    /// A longer span, where events are rare.
    pub fn longer(&self, times: u32) -> Duration {
        self.span.saturating_mul(times)
    }
}

/// Reads the arguments. cargo adds `--bench`, which says nothing.
///
/// # Errors
///
/// If there is one that is not known.
pub fn read(arguments: impl Iterator<Item = String>) -> Outcome<Command> {
    let mut arguments = arguments.filter(|argument| argument != "--bench").peekable();
    match arguments.peek().map(String::as_str) {
        Some("floor-server") => Ok(Command::FloorServer),
        Some("guarded-server") => Ok(Command::GuardedServer),
        Some("load") => {
            arguments.next();
            target(arguments).map(Command::Load)
        }
        _ => suite(arguments).map(Command::Suite),
    }
}

fn suite(mut arguments: impl Iterator<Item = String>) -> Outcome<Options> {
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    let mut options = Options { rounds: 3, span: 3 * second, long: minute, many: 1_000_000, only: None };
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--quick" => {
                options = Options { rounds: 1, span: second, long: 5 * second, many: 100_000, ..options };
            }
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--seconds" => options.span = Duration::try_from_secs_f64(value()?.parse()?)?,
            "--only" => options.only = Some(value()?),
            "--sessions-in-table" => options.many = value()?.parse()?,
            other => return Err(format!("{other}: not known here; benches/README.md has the options").into()),
        }
    }
    Ok(options)
}

fn target(mut arguments: impl Iterator<Item = String>) -> Outcome<Target> {
    let mut target = Target {
        address: SocketAddr::from(([127, 0, 0, 1], 8080)),
        what: What::Refresh,
        path: "/guarded".to_owned(),
        clients: 64,
        sessions: 1,
        span: Duration::from_secs(10),
        rate: None,
    };
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--url" => target.address = address(&value()?)?,
            "--what" => target.what = value()?.parse()?,
            "--path" => target.path = value()?,
            "--clients" => target.clients = value()?.parse::<usize>()?.max(1),
            "--sessions" => target.sessions = value()?.parse::<usize>()?.max(1),
            "--seconds" => target.span = Duration::try_from_secs_f64(value()?.parse()?)?,
            "--rate" => target.rate = Some(value()?.parse()?),
            other => return Err(format!("{other}: not known here; benches/README.md has the options").into()),
        }
    }
    Ok(target)
}

fn address(url: &str) -> Outcome<SocketAddr> {
    let host = url.strip_prefix("http://").ok_or("--url must begin with http://")?.trim_end_matches('/');
    host.to_socket_addrs()?.next().ok_or_else(|| format!("{host} has no address").into())
}
