//! Section `log`.

use crate::config::key::Key;
use crate::config::log_level;
use crate::config::section::section;

section! {
    /// Section `log`: what the log looks like.
    pub struct Log in "log" {
        /// What log lines look like; auto is text on a terminal, else one JSON object a line.
        ///
        /// Set it if the collector wants the other one.
        format: LogFormat = "auto", Key::one_of(&["auto", "text", "json"], format).at_restart();

        /// error, warn, info, debug, trace, or a tracing filter such as info,countersign::sessions=debug.
        ///
        /// Change it to look into a problem. A single word that is no level is refused. No level logs a token, password or
        /// secret.
        level: String = "info", Key::text(log_level::level);
    }
}

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is none of auto, text and json".to_owned()),
    }
}
