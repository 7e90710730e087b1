//! `serve`: listen and answer until a signal says otherwise.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::rt;
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::task::spawn_blocking;

use super::reload::Reload;
use super::{Failure, attend};
use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, RawConfig};
use crate::network::Listener;
use crate::systemd::{Manager, Passed};
use crate::telemetry;

/// Serves until SIGTERM or SIGINT, then finishes the requests in flight. `raw` was read from `file`.
pub fn run(raw: RawConfig, file: Option<PathBuf>) -> Result<(), Failure> {
    let config = &raw.clone().resolve()?;
    let passed = Passed::take()?;
    let (_last_lines, level) = telemetry::start(&config.log)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    rt::System::new().block_on(async {
        // Before anything else, so that a signal during a slow start is heard.
        outlive_signals()?;
        let reloads = signal(SignalKind::hangup())?;
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let manager = Manager::here().map(Arc::new);
        if let Some(manager) = &manager {
            manager.doing("starting");
        }
        let for_metrics = listeners_for_metrics(config, passed.metrics)?;
        let app = App::build_on(config, Clock::system(), passed.http)?;
        announce(&app, config);
        for listener in &for_metrics {
            tracing::info!("metrics are at {}/metrics", listener.address()?);
        }
        let metrics = app.serve_metrics(for_metrics)?;
        let status = format!("answers on {}", app.address());
        if let Some(manager) = &manager {
            attend::start(Arc::clone(manager), app.address().clone(), status.clone())?;
        }
        let (countersign, manager_of_reload) = (app.countersign().clone(), manager.clone());
        let reload = Reload { file, raw, countersign, level, manager: manager_of_reload, status };
        rt::spawn(reload_at_signals(reloads, reload));
        app.run(stop_signal(interrupt, terminate, manager)).await?;
        if let Some(metrics) = metrics {
            metrics.stop(false).await;
        }
        tracing::info!("stopped");
        Ok(())
    })
}

/// What operators and their tools send to servers to have them reopen or report something. There is nothing that could be,
/// and left to itself each would end the process at once.
const IGNORED: [(&str, Signal); 2] = [("SIGUSR1", Signal::USR1), ("SIGUSR2", Signal::USR2)];

/// Ignores signals that do not ask for an end, and says so of each that comes.
fn outlive_signals() -> io::Result<()> {
    for (name, kind) in IGNORED {
        let mut signals = signal(SignalKind::from_raw(kind.as_raw()))?;
        rt::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::warn!("{name} is ignored; SIGHUP reloads the configuration");
            }
        });
    }
    // Sent to a writer whose file reaches the limit of `ulimit -f`. Heard, it leaves that write with an error, as a full
    // disk does; nothing is said, for the file may be the log.
    let _heard = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
    Ok(())
}

/// The sockets that were passed, else the one that the configuration says, if any. That another program has the default address
/// is no reason not to serve.
fn listeners_for_metrics(config: &Config, passed: Vec<Listener>) -> Result<Vec<Listener>, Failure> {
    let Some(address) = config.metrics.bind.filter(|_| passed.is_empty()) else { return Ok(passed) };
    match TcpListener::bind(address) {
        Ok(listener) => Ok(vec![Listener::Tcp(listener)]),
        Err(error) if config.metrics_by_default => {
            tracing::warn!(
                "there are no metrics, for {address}, the default of metrics.bind, cannot be listened on: {error}; set it to \
                 another address, or to nothing"
            );
            Ok(Vec::new())
        }
        Err(error) => Err(Failure(format!(
            "metrics.bind: cannot listen on {address}: {error}; set it to another address, or to nothing"
        ))),
    }
}

/// Signals that come during a reload are answered by one more.
async fn reload_at_signals(mut signals: unix::Signal, mut reload: Reload) {
    while signals.recv().await.is_some() {
        let reloading = spawn_blocking(move || {
            reload.run();
            reload
        });
        let Ok(ended) = reloading.await else { return };
        reload = ended;
    }
}

async fn stop_signal(mut interrupt: unix::Signal, mut terminate: unix::Signal, manager: Option<Arc<Manager>>) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping: requests in flight are being finished");
    if let Some(manager) = manager {
        manager.stopping("stopping: requests in flight are being finished");
    }
}

/// Says where things are and what to try: for people on a terminal, else as one line of the log.
fn announce(app: &App, config: &Config) {
    let (url, data) = (app.address().to_string(), std::path::absolute(&config.data_dir));
    let data = data.unwrap_or_else(|_| config.data_dir.clone());
    let (data, first_start) = (data.display(), app.countersign().first_start());
    let attempt = format!(
        "curl -X POST {}/v1/auth/register -H 'Content-Type: application/json' \
         -d '{{\"email\":\"ada@example.com\",\"password\":\"correct horse battery\"}}'",
        app.address().for_curl()
    );
    let description = format!("{url}{}", if config.docs.enabled { "/docs" } else { "/openapi.json" });
    if !io::stderr().is_terminal() {
        let issuer = app.countersign().issuer();
        tracing::info!(%url, %data, issuer, api = description, "try" = attempt, "listening on {url}");
        if let Some(file) = &first_start.database {
            tracing::info!(file = %file.display(), "a new database was made, with mode 0600");
        }
        if let Some(keys) = &first_start.keys {
            tracing::info!(folder = %keys.display(), "signing keys were made, with mode 0600");
        }
        return;
    }
    let mut text = format!("\n  Countersign listens on {url}\n");
    if let Some(file) = &first_start.database {
        text += &format!("  Made      a new database, {} (0600)\n", file.display());
    }
    if let Some(keys) = &first_start.keys {
        text += &format!("  Made      signing keys in {} (0600; back them up with the database)\n", keys.display());
    }
    text += &format!("  Data      {data}\n  API       {description}\n  Try       {attempt}\n\n");
    // That it is not read any more is no reason to stop.
    let _unread = io::stderr().write_all(text.as_bytes());
}
