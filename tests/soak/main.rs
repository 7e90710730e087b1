//! What takes luck, real time or thousands of tries: storms, kills, races, and times that must not tell anything. Not part
//! of `cargo test`:
//!
//! ```text
//! cargo test --test soak -- [--seed NUMBER] [--seconds NUMBER] [--only NAME] [--skip NAME]…
//! ```
//!
//! Each soak takes about so many seconds (default 20), up to four times as many until it has met all that it should. One that
//! never did, or whose measurements do not settle, is inconclusive, which is no failure. A failure prints the command that
//! repeats it. `TEST_DATABASE_URL`, as for other tests, puts the databases on that PostgreSQL server; without it, and with
//! PostgreSQL installed, soaks about the database run on both.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test may fail anywhere"
)]

mod clients;
mod kills;
mod log_ins;
mod races;

use std::panic::{self, AssertUnwindSafe};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;

use self::clients::Dice;

/// One soak.
struct Soak {
    name: &'static str,
    run: fn(&Run) -> Outcome,
    /// Whether it is about what the database does, so that both are tried.
    on_both: bool,
}

const SOAKS: [Soak; 8] = [
    Soak { name: "rust-client", run: clients::rust, on_both: false },
    Soak { name: "typescript-client", run: clients::typescript, on_both: false },
    Soak { name: "kills", run: kills::nothing_is_lost, on_both: true },
    Soak { name: "revocations", run: races::no_refresh_succeeds_after_a_revocation, on_both: true },
    Soak { name: "recoveries", run: races::one_recovery_wins_and_all_get_its_answer, on_both: true },
    Soak { name: "log-in-times", run: log_ins::a_failed_log_in_takes_as_long_whatever_is_wrong, on_both: false },
    Soak {
        name: "recovery-times",
        run: log_ins::a_forgotten_password_takes_as_long_whether_there_is_an_account,
        on_both: true,
    },
    Soak { name: "hang-ups", run: log_ins::a_guess_whose_client_hangs_up_does_not_count, on_both: true },
];

/// What became of a soak. That something is wrong is a panic, as in any test.
enum Outcome {
    Passed,
    /// Nothing was wrong, and not all was seen that should have been.
    Inconclusive(String),
    /// What it needs is not installed.
    Skipped(String),
}

/// What a soak is told.
struct Run {
    seed: u64,
    time: Duration,
    began: Instant,
}

impl Run {
    /// Until then it goes on in any case.
    fn has_time(&self) -> bool {
        self.began.elapsed() < self.time
    }

    /// Until then it may go on for what it has not met yet.
    fn may_go_on(&self) -> bool {
        self.began.elapsed() < 4 * self.time.max(Duration::from_secs(10))
    }
}

/// Storms, kills, races and times.
#[derive(Parser)]
struct Options {
    /// What decides everything that is random; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// How long each soak takes
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The name of one soak
    #[arg(long, value_parser = SOAKS.map(|soak| soak.name))]
    only: Option<String>,
    /// The name of a soak that is left out
    #[arg(long, value_parser = SOAKS.map(|soak| soak.name))]
    skip: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let random = || SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
    let seed = options.seed.unwrap_or_else(random);
    let chosen = |soak: &&Soak| {
        options.only.as_deref().is_none_or(|name| name == soak.name)
            && !options.skip.iter().any(|name| name == soak.name)
    };
    let on_postgres = std::env::var_os("TEST_DATABASE_URL").is_some();
    let mut failed = 0;
    for soak in SOAKS.iter().filter(chosen).filter(|soak| soak.on_both || !on_postgres) {
        failed += u32::from(!soak_is_fine(soak, seed, options.seconds, on_postgres));
    }
    if !on_postgres && SOAKS.iter().filter(chosen).any(|soak| soak.on_both) {
        failed += u32::from(!postgres_is_fine(&options, seed));
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one soak and tells of it.
fn soak_is_fine(soak: &Soak, seed: u64, seconds: u64, on_postgres: bool) -> bool {
    let database = if on_postgres { "postgres" } else { "sqlite" };
    let name = format!("{} ({database}, seed {seed})", soak.name);
    println!("soak {name} ...");
    let run = Run { seed, time: Duration::from_secs(seconds), began: Instant::now() };
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (soak.run)(&run)));
    let took = run.began.elapsed().as_secs();
    match outcome {
        Ok(Outcome::Passed) => println!("soak {name}: ok, {took} s"),
        Ok(Outcome::Inconclusive(missing)) => println!("soak {name}: inconclusive, {took} s: {missing}"),
        Ok(Outcome::Skipped(missing)) if lacks_too_much() => {
            println!("soak {name}: FAILED: {missing}");
            return false;
        }
        Ok(Outcome::Skipped(missing)) => println!("soak {name}: skipped: {missing}"),
        Err(_) => {
            let only = soak.name;
            println!("soak {name}: FAILED after {took} s; to repeat it:");
            println!("    cargo test --test soak -- --only {only} --seed {seed} --seconds {seconds}");
            return false;
        }
    }
    true
}

/// What is not installed is a failure in CI, which installs it, unless the registry of packages is away.
fn lacks_too_much() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("CI") && !is_set("REGISTRY_AWAY")
}

/// Runs this program once more, on a PostgreSQL server of its own.
#[cfg(feature = "postgres")]
fn postgres_is_fine(options: &Options, seed: u64) -> bool {
    use support::cluster::{Cluster, installed};

    if let Err(missing) = installed() {
        println!("soaks on PostgreSQL: skipped: {missing}");
        return !lacks_too_much();
    }
    let cluster = Cluster::start().unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env("TEST_DATABASE_URL", cluster.url());
    again.args(["--seed", &seed.to_string(), "--seconds", &options.seconds.to_string()]);
    again.args(options.only.iter().flat_map(|name| ["--only", name]));
    again.args(options.skip.iter().flat_map(|name| ["--skip", name]));
    again.status().unwrap().success()
}

#[cfg(not(feature = "postgres"))]
fn postgres_is_fine(_: &Options, _: u64) -> bool {
    println!("soaks on PostgreSQL: skipped: it is not built in");
    true
}
