//! A running server reads its configuration anew when it is told to (SIGHUP).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use crate::app::Countersign;
use crate::config::{RawConfig, Reloaded};
use crate::systemd::Manager;
use crate::telemetry;

/// Everything a reload needs.
pub struct Reload {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// What is in force.
    pub raw: RawConfig,
    /// What answers requests.
    pub countersign: Countersign,
    /// What the log has.
    pub level: telemetry::Level,
    /// Who started the server.
    pub manager: Option<Arc<Manager>>,
    /// Status line while the server is ready.
    pub status: String,
}

impl Reload {
    /// Reads it, and puts in force what can change. A mistake keeps what was in force. May wait for files and the database.
    pub fn run(&mut self) {
        if let Some(manager) = &self.manager {
            manager.reloading("reading the configuration anew");
        }
        // A panic is in the log.
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt()));
        let failure = attempt.unwrap_or_else(|_panic| Err("a fault of the program".to_owned())).err();
        match &failure {
            None => tracing::info!("the configuration was read anew, and is in force"),
            Some(problem) => {
                for line in problem.lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("the configuration was not reloaded: the one before it stays in force");
            }
        }
        if let Some(manager) = &self.manager {
            let failed = if failure.is_some() { "; its configuration could not be reloaded, see the log" } else { "" };
            manager.reloaded(&format!("{}{failed}", self.status));
        }
    }

    fn attempt(&mut self) -> Result<(), String> {
        let found = RawConfig::load(self.file.as_deref());
        let Reloaded { raw, config, at_restart } = self.raw.reloaded(found).map_err(|mistakes| mistakes.to_string())?;
        self.countersign.reconfigure(&config).map_err(|error| error.to_string())?;
        self.level.change(&config.log).map_err(|error| error.to_string())?;
        self.raw = raw;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        for key in at_restart {
            tracing::warn!(key, "{key} has changed, and takes effect at a restart");
        }
        Ok(())
    }
}
