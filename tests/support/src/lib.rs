//! What the tests of Countersign share. A test that needs a server takes it from here: in the process of the test, at a time
//! that the test decides ([`harness`]), or as the real binary ([`process`]); over a database of its own ([`database`]), on
//! PostgreSQL in a server of this run ([`cluster`]).

#[cfg(feature = "postgres")]
pub mod cluster;
pub mod database;
pub mod harness;
pub mod process;

use std::path::PathBuf;

/// The program under test, which Cargo builds beside the folder of the tests.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|folder| folder.parent()).unwrap().join("countersign")
}
