//! What the service manager is told (sd_notify(3)).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A service manager that waits to be told how this process is.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    /// It ends this process if it does not hear from it for so long.
    pub watchdog: Option<Duration>,
    /// Whether it has been told that the process is about to end, behind which nothing else may be said.
    stops: Mutex<bool>,
}

impl Manager {
    /// The one that started this process, if it listens: at the path that `$NOTIFY_SOCKET` is, or under the abstract name
    /// behind its `@`.
    pub fn here() -> Option<Self> {
        let named = env::var_os("NOTIFY_SOCKET").filter(|named| !named.is_empty())?;
        let connected = connect(&named).inspect_err(|error| {
            tracing::warn!(%error, "the service manager does not listen at $NOTIFY_SOCKET, and is told nothing");
        });
        Some(Self { socket: connected.ok()?, watchdog: watchdog(), stops: Mutex::new(false) })
    }

    /// What the process is doing, in a sentence for `systemctl status`.
    pub fn doing(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// It does its work from now on.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// It still does its work.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// It is about to end.
    pub fn stopping(&self, status: &str) {
        let mut stops = self.lock();
        if !std::mem::replace(&mut *stops, true) {
            self.send(&format!("STOPPING=1\nSTATUS={status}"));
        }
    }

    /// Whether it has been told so.
    pub fn knows_the_end(&self) -> bool {
        *self.lock()
    }

    fn tell(&self, lines: &str) {
        let stops = self.lock();
        if !*stops {
            self.send(lines);
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That it does not listen any more is no reason to do anything else.
    fn send(&self, lines: &str) {
        if let Err(error) = self.socket.send(lines.as_bytes()) {
            tracing::debug!(%error, "the service manager could not be told");
        }
    }
}

fn connect(named: &OsStr) -> io::Result<UnixDatagram> {
    let address = match named.as_bytes().strip_prefix(b"@") {
        Some(name) => abstract_address(name)?,
        None => SocketAddr::from_pathname(named)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
}

/// Other systems have no such names, and no such manager.
#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How long the manager waits to hear from this process, if it does; what is meant for another one does not count.
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let microseconds = number("WATCHDOG_USEC").filter(|microseconds| *microseconds > 0)?;
    let is_ours = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(process::id()));
    is_ours.then(|| Duration::from_micros(microseconds))
}
