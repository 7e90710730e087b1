//! How fast Countersign rotates, guards and logs in, against floors that are measured in the same minutes.
//!
//! ```text
//! cargo bench --bench rotation                          every row, one table
//! cargo bench --bench rotation -- --quick               the same, in less time and with less certainty
//! cargo bench --bench rotation -- --only refresh        the rows whose group is named like that
//! cargo bench --bench rotation -- load --url http://127.0.0.1:8080 --what refresh --clients 64 --seconds 10
//! ```
//!
//! `benches/README.md` says what each row means.

mod clients;
mod floors;
mod guarded;
mod http;
mod load;
mod options;
mod postgres;
mod rows;
mod server;
mod sqlite;
mod stats;
mod table;

use crate::options::{Command, Options};

/// Whatever went wrong, for people.
type Fault = Box<dyn std::error::Error + Send + Sync>;
/// What can go wrong here ends in a message.
type Outcome<T> = Result<T, Fault>;

fn main() -> Outcome<()> {
    match options::read(std::env::args().skip(1))? {
        Command::Suite(options) => suite(&options),
        Command::Load(target) => load::alone(&target),
        Command::FloorServer => floors::serve_http(),
        Command::GuardedServer => guarded::serve(),
    }
}

fn suite(options: &Options) -> Outcome<()> {
    let mut table = table::Table::default();
    for (name, group) in rows::GROUPS {
        if options.only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            eprintln!("{name} …");
            if let Err(fault) = group(options, &mut table) {
                table.skip(name, &fault.to_string());
            }
        }
    }
    println!("\n{table}");
    Ok(())
}
