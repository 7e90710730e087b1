//! Tells the service manager how the server is: ready as soon as it can do its work, and then, where a watchdog wants to know,
//! that requests are answered. It finds out as any client would.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::health;
use crate::network::Address;
use crate::systemd::Manager;

/// Between two looks at whether the server is ready.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two requests for the watchdog at least, whatever its period.
const SHORTEST: Duration = Duration::from_millis(10);
/// How long an answer about readiness may take. A server whose database does not answer needs some seconds to say so.
const PATIENCE: Duration = Duration::from_secs(15);

/// Starts the thread that tells `manager`, of a server that listens on `address`; `status`, once it is ready.
///
/// # Errors
///
/// If the system has no thread to give.
pub fn start(manager: Arc<Manager>, address: Address, status: String) -> io::Result<()> {
    thread::Builder::new().name("attend".into()).spawn(move || attend(&manager, &address, &status))?;
    Ok(())
}

/// An error says why the answer is not 200, or why there is none.
fn ask(address: &Address, path: &str, patience: Duration) -> Result<(), String> {
    health::ask(address, path, patience).unwrap_or_else(|error| Err(error.to_string()))
}

fn attend(manager: &Manager, address: &Address, status: &str) {
    let mut told = String::new();
    while let Err(why) = ask(address, "/health/ready", PATIENCE) {
        if manager.knows_the_end() {
            return;
        }
        if why != told {
            manager.doing(&format!("not ready: {why}"));
            told = why;
        }
        thread::sleep(PAUSE);
    }
    manager.ready(status);
    let Some(period) = manager.watchdog else { return };
    // Twice a period, so that one answer may be slow.
    let step = (period / 2).max(SHORTEST);
    while !manager.knows_the_end() {
        let began = Instant::now();
        // Not whether it is ready: an outage of the database is not mended by a restart.
        match ask(address, "/health/live", step) {
            Ok(()) => manager.alive(),
            // A server that stops takes no connections any more.
            Err(_) if manager.knows_the_end() => return,
            Err(why) => tracing::error!("the server does not answer itself: {why}"),
        }
        thread::sleep(step.saturating_sub(began.elapsed()));
    }
}
