//! What the service manager is told (sd_notify(3)).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A service manager that waits to be told how this process is.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    /// It ends this process if it does not hear from it for so long.
    pub watchdog: Option<Duration>,
    /// What it has been told so far.
    told: Mutex<Told>,
}

/// How far the life of this process has come, as its manager knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Starting,
    Ready,
    /// Nothing else may be said any more.
    Stopping,
}

impl Manager {
    /// The one that started this process, if it listens: at the path that `$NOTIFY_SOCKET` is, or under the abstract name
    /// behind its `@`.
    pub fn here() -> Option<Self> {
        let named = env::var_os("NOTIFY_SOCKET").filter(|named| !named.is_empty())?;
        let connected = connect(&named).inspect_err(|error| {
            tracing::warn!(%error, "the service manager does not listen at $NOTIFY_SOCKET, and is told nothing");
        });
        Some(Self { socket: connected.ok()?, watchdog: watchdog(), told: Mutex::new(Told::Starting) })
    }

    /// What the process is doing, in a sentence for `systemctl status`.
    pub fn doing(&self, status: &str) {
        let told = self.lock();
        if *told != Told::Stopping {
            self.send(&format!("STATUS={status}"));
        }
    }

    /// It does its work from now on.
    pub fn ready(&self, status: &str) {
        let mut told = self.lock();
        if *told != Told::Stopping {
            *told = Told::Ready;
            self.send(&format!("READY=1\nSTATUS={status}"));
        }
    }

    /// It reads its configuration anew. To be followed by [`Manager::reloaded`].
    pub fn reloading(&self, status: &str) {
        let told = self.lock();
        // One that does not do its work yet will say itself when it does.
        if *told == Told::Ready {
            let now = clock_gettime(ClockId::Monotonic);
            let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS={status}"));
        }
    }

    /// It has done so, with success or without.
    pub fn reloaded(&self, status: &str) {
        let told = self.lock();
        if *told == Told::Ready {
            self.send(&format!("READY=1\nSTATUS={status}"));
        }
    }

    /// It still does its work.
    pub fn alive(&self) {
        let told = self.lock();
        if *told != Told::Stopping {
            self.send("WATCHDOG=1");
        }
    }

    /// It is about to end.
    pub fn stopping(&self, status: &str) {
        let mut told = self.lock();
        if std::mem::replace(&mut *told, Told::Stopping) != Told::Stopping {
            self.send(&format!("STOPPING=1\nSTATUS={status}"));
        }
    }

    /// Whether it has been told so.
    pub fn knows_the_end(&self) -> bool {
        *self.lock() == Told::Stopping
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
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
