//! The command line. Exit codes: 0 done, 1 refused or failed (one line says what and what to do), 2 wrong usage.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;
use crate::config::{Config, RawConfig};
use crate::http::openapi;
use crate::store::Store;
use crate::telemetry;
use crate::tokens::key_files::create_private_folder;

/// How long `healthcheck` waits.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

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
    Serve,
    /// Bring the database up to date, or say that it is
    Migrate,
    /// Print the resolved configuration, secrets masked, or every mistake in it
    CheckConfig {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask the running server whether it is ready
    Healthcheck,
    /// Print the OpenAPI document of what the server answers
    Openapi,
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
        Command::Serve => resolve(raw).and_then(|config| serve(&config)),
        Command::Migrate => resolve(raw).and_then(|config| migrate(&config)),
        Command::CheckConfig { json } => check_config(raw, json),
        Command::Healthcheck => resolve(raw).and_then(|config| healthcheck(&config)),
        Command::Openapi => print_document(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            eprintln!("countersign: {message}");
            ExitCode::FAILURE
        }
    }
}

fn resolve(raw: RawConfig) -> Result<Config, Failure> {
    Ok(raw.resolve()?)
}

fn serve(config: &Config) -> Result<(), Failure> {
    telemetry::start(&config.log)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    actix_web::rt::System::new().block_on(async {
        // Before anything else, so that a signal during a slow start is heard.
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let app = App::build(config)?;
        announce(&app, config);
        app.run(stop_signal(interrupt, terminate)).await?;
        tracing::info!("stopped");
        Ok(())
    })
}

async fn stop_signal(mut interrupt: Signal, mut terminate: Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping: requests in flight are being finished");
}

/// Says where things are and what to try: for people on a terminal, else as one line of the log.
fn announce(app: &App, config: &Config) {
    let (url, data) = (format!("http://{}", app.address()), std::path::absolute(&config.data_dir));
    let data = data.unwrap_or_else(|_| config.data_dir.clone());
    let (data, first_start) = (data.display(), app.countersign().first_start());
    let attempt = format!(
        "curl -X POST {url}/v1/auth/register -H 'Content-Type: application/json' \
         -d '{{\"email\":\"ada@example.com\",\"password\":\"correct horse battery\"}}'"
    );
    let description = format!("{url}/docs");
    if !std::io::stderr().is_terminal() {
        let issuer = app.countersign().issuer();
        tracing::info!(%url, %data, issuer, api = description, "try" = attempt, "listening on {url}");
        if let Some(keys) = &first_start.keys {
            tracing::info!(folder = %keys.display(), "signing keys were made, with mode 0600");
        }
        return;
    }
    let mut text = format!("\n  Countersign listens on {url}\n");
    if let Some(keys) = &first_start.keys {
        text += &format!("  Made      signing keys in {} (0600; back them up with the database)\n", keys.display());
    }
    text += &format!("  Data      {data}\n  API       {description}\n  Try       {attempt}\n\n");
    // Nobody left to read it is no reason to stop.
    let _unread = std::io::stderr().write_all(text.as_bytes());
}

/// A line on standard output. Whoever stopped listening, as `head` does, has seen enough.
fn say(line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn migrate(config: &Config) -> Result<(), Failure> {
    create_private_folder(&config.data_dir)?;
    let done = Store::prepare(&config.database)?;
    if done.is_empty() {
        say(format_args!("the database is up to date"))?;
    }
    for name in done {
        say(format_args!("migrated {name}"))?;
    }
    Ok(())
}

fn check_config(raw: RawConfig, json: bool) -> Result<(), Failure> {
    let shown = raw.describe();
    let config = raw.resolve()?;
    if json {
        say(format_args!("{}", serde_json::to_string_pretty(&shown)?))?;
    } else {
        for entry in &shown {
            say(format_args!("{entry}"))?;
        }
    }
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// Asks over plain HTTP/1.1, where the server listens.
fn healthcheck(config: &Config) -> Result<(), Failure> {
    let address = server_address(config)?;
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_TIMEOUT)
        .map_err(|error| Failure(format!("nothing answers on {address}: {error}")))?;
    stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
    write!(stream, "GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status)?;
    if status.starts_with("HTTP/1.1 200") {
        say(format_args!("ready"))?;
        return Ok(());
    }
    Err(Failure(format!("the server on {address} is not ready: {}", status.trim_end())))
}

fn print_document() -> Result<(), Failure> {
    say(format_args!("{}", serde_json::to_string_pretty(&openapi::document())?))
}

fn server_address(config: &Config) -> Result<SocketAddr, Failure> {
    let host = config.server.host.trim_start_matches('[').trim_end_matches(']');
    let found = (host, config.server.port).to_socket_addrs()?.next();
    let mut address = found.ok_or_else(|| Failure(format!("{host} has no address")))?;
    // A server that listens everywhere is asked here.
    if address.ip().is_unspecified() {
        let here =
            if address.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]) };
        address.set_ip(here);
    }
    Ok(address)
}
