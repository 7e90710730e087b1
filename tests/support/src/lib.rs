//! What the tests of Countersign share. A test that needs a server takes it from here: in the process of the test, at a time
//! that the test decides ([`harness`]), or as the real binary ([`process`]); over a database of its own ([`database`]), on
//! PostgreSQL in a server of this run ([`cluster`]); and clients that stop at nothing but the right answer ([`clients`]).

pub mod authenticator;
pub mod clients;
#[cfg(feature = "postgres")]
pub mod cluster;
pub mod database;
pub mod harness;
pub mod mailbox;
pub mod manager;
pub mod process;
pub mod reading;
pub mod sockets;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Once;

use libtest_mimic::{Arguments, Trial};

/// Runs tests as the command line says. Unless it or `RUST_TEST_THREADS` says how many at once, they are more than there are
/// cores, for they mostly wait: for processes that start, for commits, for time to pass.
pub fn run(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let told = || std::env::var("RUST_TEST_THREADS").ok()?.parse().ok();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads = arguments.test_threads.or_else(told).or(Some(4 * cores));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The program under test, which Cargo builds beside the folder of the tests.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|folder| folder.parent()).unwrap().join("countersign")
}

/// An example, which Cargo has built already where all tests are run.
pub fn example(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(root()).args(["build", "--locked", "--quiet", "--examples"]);
        cargo.args((!cfg!(debug_assertions)).then_some("--release"));
        assert!(cargo.status().unwrap().success(), "the examples are built");
    });
    program().with_file_name("examples").join(name)
}

/// The folder of the project.
pub fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect()
}
