//! The command line. Exit codes: 0 done, 1 refused or failed (one line says what and what to do), 2 wrong usage.
//!
//! | file | commands |
//! |---|---|
//! | this one | `migrate`, `openapi` |
//! | `backup.rs` | `backup`: a copy of the embedded database while it is in use |
//! | `shell.rs` | `completions`, `manual` |
//! | `check.rs` | `check-config`: what is in force, or whatever `serve` would refuse |
//! | `serve.rs`, `reload.rs`, `attend.rs` | `serve`; SIGHUP; what its service manager is told |
//! | `health.rs` | `healthcheck` |
//! | `users.rs`, `sessions.rs` | `user …`; `session …` |
//! | `keys.rs`, `key_rows.rs` | `keys …`; the keys as they are listed |
//! | `mail.rs` | `mail …` |
//! | `services.rs` | what `user` and `session` work with: the database, beside a running server or not |
//! | `listing.rs` | what is read, as a table or as JSON, without anything that would steer a terminal |
//! | `views.rs` | what is printed of accounts and their events |
//! | `password.rs` | a new password, from a prompt or from standard input |

mod attend;
mod backup;
mod check;
mod health;
mod key_rows;
mod keys;
mod listing;
mod mail;
mod password;
mod reload;
mod serve;
mod services;
mod sessions;
mod shell;
mod users;
mod views;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, RawConfig};
use crate::http::openapi;
use crate::startup;
use crate::store::{OpenError, Store};

/// A self-hosted token server.
#[derive(Parser)]
#[command(name = "countersign", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file [default: config/countersign.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Listen and answer until SIGTERM (the default)
    ///
    /// SIGTERM or Ctrl-C ends it with exit code 0 when the requests in flight are answered. SIGHUP has it read its
    /// configuration anew; what takes effect at a restart only is named in the log. SIGUSR1 and SIGUSR2 are ignored.
    Serve,
    /// Bring the database up to date, or say that it is
    ///
    /// A database that is newer than the program is refused.
    Migrate,
    /// Print the resolved configuration, secrets masked, or every mistake in it
    ///
    /// Finds what a start would refuse in files and keys as well.
    CheckConfig {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make, list, change and delete accounts, whether a server runs or not
    #[command(subcommand)]
    User(users::Command),
    /// List and end sessions; a running server honours it within a second
    #[command(subcommand)]
    Session(sessions::Command),
    /// Look at the keys that sign and verify tokens, and give up those that are lost
    #[command(subcommand)]
    Keys(keys::Command),
    /// Send a test mail, and see what mails say
    #[command(subcommand)]
    Mail(mail::Command),
    /// Ask the running server whether it is ready
    ///
    /// Exit code 0 if it is, else 1.
    Healthcheck,
    /// Print the OpenAPI document of what the server answers
    Openapi,
    /// Copy the embedded database to a new file, while a server is at work on it or not
    ///
    /// The copy is consistent, belongs to the system user who makes it, and has mode 0600. A file that is there already is not
    /// overwritten. Without the keys, which are beside the database, the copy is of no use: keep them with it. PostgreSQL is
    /// copied by its own tools, such as pg_dump.
    Backup {
        /// The file to make
        file: PathBuf,
    },
    /// Print the completions of a shell
    Completions {
        /// Which one
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Manual,
}

/// What a command failed with: one line for standard error.
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let raw = RawConfig::load(arguments.config.as_deref());
    let result = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(raw, arguments.config),
        Command::Migrate => migrate(raw),
        Command::CheckConfig { json } => check::run(raw, json),
        Command::User(command) => resolve(raw).and_then(|config| users::run(&config, command)),
        Command::Session(command) => resolve(raw).and_then(|config| sessions::run(&config, command)),
        Command::Keys(command) => resolve(raw).and_then(|config| keys::run(&config, &command)),
        Command::Mail(command) => resolve(raw).and_then(|config| mail::run(&config, command)),
        Command::Healthcheck => resolve(raw).and_then(|config| health::check(&config)),
        Command::Openapi => print_document(),
        Command::Backup { file } => resolve(raw).and_then(|config| backup::run(&config, &file)),
        Command::Completions { shell } => shell::completions(shell),
        Command::Manual => shell::manual(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            warn(format_args!("countersign: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn resolve(raw: RawConfig) -> Result<Config, Failure> {
    Ok(raw.resolve()?)
}

/// A line on standard output. A reader that stopped, as `head` does, has seen enough.
fn say(line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A line on standard error. If it cannot be read, there is nowhere to say so.
fn warn(line: std::fmt::Arguments<'_>) {
    let _unread = writeln!(std::io::stderr(), "{line}");
}

fn migrate(raw: RawConfig) -> Result<(), Failure> {
    let config = raw.resolve_database()?;
    let done = startup::migrate(&config)?;
    if let Some(file) = &done.database {
        say(format_args!("made a new database, {}", file.display()))?;
    }
    if done.migrations.is_empty() {
        say(format_args!("the database is up to date"))?;
    }
    for name in done.migrations {
        say(format_args!("migrated {name}"))?;
    }
    let failed = |error| OpenError::new(&config.database, error);
    let store = Store::open_for_operator(&config.database).map_err(failed)?;
    for conflict in store.address_conflicts_blocking().map_err(services::unanswered)? {
        warn(format_args!("warning: {conflict}"));
    }
    Ok(())
}

fn print_document() -> Result<(), Failure> {
    say(format_args!("{}", serde_json::to_string_pretty(&openapi::document())?))
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod reference;
