//! The rows of the table, in groups that `--only` names.

mod guarded;
mod login;
mod memory;
mod postgres;
mod refresh;

use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::load::{Crowd, Report, What, runtime};
use crate::options::Options;
use crate::server::{Server, Settings, folder};
use crate::stats::{float, grouped, median};
use crate::table::{Goal, Table};

/// A group of rows.
type Group = fn(&Options, &mut Table) -> Outcome<()>;

/// Every group, in the order of the table.
pub const GROUPS: [(&str, Group); 13] = [
    ("refresh on SQLite", refresh::rate),
    ("refresh latency on SQLite", refresh::latency),
    ("guarded", guarded::alone),
    ("me", guarded::with_user),
    ("login", login::rate),
    ("storm on SQLite", login::storm),
    ("storm on PostgreSQL", postgres::storm),
    ("crowd", login::crowd),
    ("beside", login::beside),
    ("sessions on SQLite", refresh::many_sessions),
    ("memory", memory::all),
    ("refresh on PostgreSQL", postgres::rate),
    ("nodes on PostgreSQL", postgres::nodes),
];

/// A server, its folder, and clients that have signed in there.
struct Bench {
    server: Server,
    crowd: Crowd,
    runtime: Runtime,
    /// Outlives the server.
    home: TempDir,
}

/// One measurement.
struct Measured {
    report: Report,
    /// Microseconds of the server's CPU for each request.
    cpu: f64,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.report.rate()
    }
}

impl Bench {
    /// The real server on the embedded database.
    fn sqlite(settings: Settings<'_>, what: What, clients: usize) -> Outcome<Self> {
        let home = folder()?;
        let server = Server::start(home.path(), settings)?;
        Self::with(server, home, what, clients, 1)
    }

    /// One of the processes that this binary can be.
    fn of_ours(argument: &str, settings: Settings<'_>, what: What, clients: usize) -> Outcome<Self> {
        let home = folder()?;
        let server = Server::of_ours(argument, home.path(), settings)?;
        Self::with(server, home, what, clients, 1)
    }

    fn with(server: Server, home: TempDir, what: What, clients: usize, sessions: usize) -> Outcome<Self> {
        let runtime = runtime()?;
        let crowd = runtime.block_on(Crowd::open(server.address, what, clients, sessions))?;
        Ok(Self { server, crowd, runtime, home })
    }

    fn run(&mut self, what: What, path: &str, span: Duration, rate: Option<f64>) -> Outcome<Measured> {
        let before = self.server.cpu()?;
        let report = self.runtime.block_on(self.crowd.run(what, path, span, rate))?;
        if self.server.has_ended() {
            return Err("somebody has ended the server".into());
        }
        let report = report.sound()?;
        let cpu = self.server.cpu()?.saturating_sub(before).as_secs_f64() * 1e6;
        Ok(Measured { cpu: cpu / float(report.latencies.count()), report })
    }
}

/// What rounds came to: medians, the ratio being the median of each round's own.
struct Rounds {
    floor: f64,
    measured: f64,
    ratio: f64,
    cpu: f64,
}

impl Rounds {
    /// A row about rates.
    fn tell(&self, table: &mut Table, what: &str, floor: &str, goal: Goal) {
        let cpu = if self.cpu < 1e4 { format!("{:.0} µs", self.cpu) } else { format!("{:.0} ms", self.cpu / 1e3) };
        let measured = format!("{}/s, {cpu} of CPU", grouped(self.measured));
        table.add(what, format!("{floor} {}/s", grouped(self.floor)), measured, self.ratio, goal);
    }
}

/// Floor, measured, floor, measured … Each gives a figure; the second also what CPU it took.
fn interleaved(
    rounds: usize,
    mut floor: impl FnMut() -> Outcome<f64>,
    mut measured: impl FnMut() -> Outcome<(f64, f64)>,
) -> Outcome<Rounds> {
    // The first requests find everything cold.
    measured()?;
    let (mut floors, mut figures, mut ratios, mut cpus) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (below, (figure, cpu)) = (floor()?, measured()?);
        floors.push(below);
        figures.push(figure);
        ratios.push(figure / below);
        cpus.push(cpu);
    }
    Ok(Rounds { floor: median(&floors), measured: median(&figures), ratio: median(&ratios), cpu: median(&cpus) })
}
