//! A service manager, as a server finds one at `$NOTIFY_SOCKET`.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::reading::receive;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A socket that a service manager listens on.
pub struct Manager(UnixDatagram);

impl Manager {
    pub fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next that it is told.
    pub fn hears(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = receive(&self.0, &mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// All that it is told until it is told this, with that.
    pub fn hears_until(&self, last: &str) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        while !told.iter().any(|line| line == last) {
            told.extend(self.hears());
        }
        told
    }
}
