//! The end of a server: its clients are sent away before it stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// How long no request may come before clients count as sent away.
const SILENCE: Duration = Duration::from_millis(250);
/// How often that is waited for: clients that open new connections never fall silent.
const SEND_AWAY_ROUNDS: u32 = 8;

/// Whether a shutdown is under way: then each answer is the last on its connection, and says so. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draining(Arc<Drain>);

#[derive(Debug, Default)]
struct Drain {
    under_way: AtomicBool,
    requests: AtomicU64,
    connections: AtomicU64,
}

/// An open connection, for as long as it lives.
pub(super) struct Connected(Draining);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Draining {
    fn set(&self) {
        self.0.under_way.store(true, Ordering::SeqCst);
    }

    /// How many requests have come so far.
    fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::SeqCst)
    }

    /// Counts a connection until what is returned is dropped.
    pub(super) fn connected(&self) -> Connected {
        self.0.connections.fetch_add(1, Ordering::SeqCst);
        Connected(self.clone())
    }

    pub(crate) fn count(&self) {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.under_way.load(Ordering::SeqCst)
    }

    /// Sends clients away. Stopping closes kept connections, also one on which a request is just arriving. So until clients
    /// are gone or silent, every answer tells them not to come back on its connection, and `/health/ready` whom to ask
    /// instead.
    pub(super) async fn send_away(&self) {
        self.set();
        for _ in 0..SEND_AWAY_ROUNDS {
            if self.connections() == 0 {
                return;
            }
            let before = self.requests();
            sleep(SILENCE).await;
            if self.requests() == before {
                return;
            }
        }
    }
}
