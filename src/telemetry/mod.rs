//! The log: where it goes, in which form, and what can never be in it.
//!
//! Our own targets say nothing secret at any level. Others might: below `INFO` the HTTP stack prints
//! whole requests. So whatever `log.level` asks for, other crates are heard from `INFO` up only.

mod json;
mod priority;
mod sink;

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt, registry, reload};

use self::priority::Prioritised;
pub use self::sink::LastLines;
use self::sink::Sink;
use crate::config::{Log, LogFormat};
use crate::systemd;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is neither a level nor a filter.
    #[error("log.level is neither a level nor a tracing filter: {0}")]
    Filter(#[from] ParseError),
    /// No thread or descriptor to write it.
    #[error("the log cannot be started: {0}")]
    Threads(#[from] std::io::Error),
    /// Something in this process logs already.
    #[error("the log was started twice")]
    Started(#[from] TryInitError),
}

/// Changes which lines the log has.
pub struct Level(Box<dyn Fn(EnvFilter) + Send>);

impl Level {
    /// To `log.level` of `log`.
    ///
    /// # Errors
    ///
    /// If that is neither a level nor a filter. The log stays as it is.
    pub fn change(&self, log: &Log) -> Result<(), LogError> {
        (self.0)(filter(log)?);
        Ok(())
    }
}

/// The lines that `log.level` asks for.
fn filter(log: &Log) -> Result<EnvFilter, ParseError> {
    // A bare level is about us; the crates below are heard when they warn, but for the HTTP parser, to
    // which everything that is not HTTP is an error.
    let directives = match log.level.parse::<LevelFilter>() {
        Ok(level) => format!("{},actix_http=off,countersign={level}", level.min(LevelFilter::WARN)),
        Err(_) => log.level.clone(),
    };
    EnvFilter::builder().parse(directives)
}

/// Sends the log to standard error: text on a terminal, JSON otherwise, unless configured. Keep what is returned first
/// until the end.
///
/// # Errors
///
/// [`LogError`].
pub fn start(log: &Log) -> Result<(LastLines, Level), LogError> {
    let (wanted, handle) = reload::Layer::new(filter(log)?);
    let harmless = filter_fn(|line| {
        line.target() == "countersign"
            || line.target().starts_with("countersign::")
            || *line.level() <= LevelFilter::INFO
    });
    let text = match log.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    // A descriptor of its own: a write that waits must not keep the lock on standard error from what is said at the end.
    let out = File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
    let (sink, last) = Sink::start(out, |lines| tracing::error!(lines, "{lines} lines of the log were dropped"))?;
    let layer = fmt::layer().with_writer(sink);
    let is_journal = systemd::is_journal(std::io::stderr());
    let layer = if text {
        let layer = layer.with_ansi(std::io::stderr().is_terminal());
        layer.map_event_format(|form| Prioritised { form, is_journal }).boxed()
    } else {
        layer.fmt_fields(JsonFields::new()).event_format(Prioritised { form: json::Json, is_journal }).boxed()
    };
    registry().with(layer.with_filter(harmless)).with(wanted).try_init()?;
    let level = Level(Box::new(move |wanted| {
        // The log is there for as long as the process.
        let _gone = handle.reload(wanted);
    }));
    // Where it happened is enough to find it; what it says might quote a request.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(tracing::field::display);
        tracing::error!(location, "panic");
    }));
    Ok((last, level))
}
