//! Sockets that the service manager has opened for this process (sd_listen_fds(3)). They outlive it: who connects while it is
//! restarted waits until its successor accepts.

use std::env;
use std::io;
use std::process;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use crate::network::Listener;

/// The name of sockets that are for metrics. Those of any other name, systemd's own among them, are for requests.
const METRICS: &str = "metrics";
/// What systemd calls a socket that its unit gives no name.
const UNNAMED: &str = "unknown";

/// The sockets that were passed, in the order in which they came, which is not the same each time.
#[derive(Debug, Default)]
pub struct Passed {
    /// For requests.
    pub http: Vec<Listener>,
    /// For metrics.
    pub metrics: Vec<Listener>,
}

/// A socket that no connection can be accepted on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the service manager passed a socket that is no use, number {number}, {name}: {source}; its unit must say ListenStream= \
     and Accept=no"
)]
pub struct PassedError {
    number: usize,
    name: String,
    source: io::Error,
}

impl Passed {
    /// Takes them, if they are meant for this process, so that no program that it starts believes that they are its own. To
    /// be called before there are threads.
    ///
    /// # Errors
    ///
    /// [`PassedError`], for the first that is neither a TCP nor a Unix socket that listens.
    pub fn take() -> Result<Self, PassedError> {
        if !env::var("LISTEN_PID").is_ok_and(|process| process == process::id().to_string()) {
            return Ok(Self::default());
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let mut passed = Self::default();
        for number in 0..sockets.len() {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or(UNNAMED);
            let failed = |source| PassedError { number: number + 1, name: name.to_owned(), source };
            let listener = listener(&mut sockets, number).map_err(failed)?;
            if name == METRICS { &mut passed.metrics } else { &mut passed.http }.push(listener);
        }
        Ok(passed)
    }
}

/// The socket of this number, whatever kind it is of.
fn listener(sockets: &mut ListenFd, number: usize) -> io::Result<Listener> {
    // One of another kind stays to be taken.
    let found = match sockets.take_tcp_listener(number) {
        Ok(found) => found.map(Listener::Tcp),
        Err(_) => sockets.take_unix_listener(number)?.map(Listener::Unix),
    };
    let found = found.ok_or(io::ErrorKind::NotFound)?;
    if socket_acceptconn(&found)? { Ok(found) } else { Err(io::Error::other("it does not listen")) }
}
