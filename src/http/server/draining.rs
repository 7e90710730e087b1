//! The end of a server: its clients are sent away before it stops.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix_web::HttpRequest;
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
    /// Of those, the ones on which no request has come yet.
    new: AtomicU64,
}

/// An open connection, for as long as it lives.
pub(super) struct Connected {
    draining: Draining,
    is_new: Cell<bool>,
}

impl Connected {
    fn is_used(&self) {
        if self.is_new.replace(false) {
            self.draining.0.new.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.is_used();
        self.draining.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Draining {
    /// From now on every answer tells its client not to come back on its connection, and `/health/ready` whom to ask instead.
    pub(super) fn begin(&self) {
        self.0.under_way.store(true, Ordering::SeqCst);
    }

    /// How many requests have come so far.
    fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::SeqCst)
    }

    /// Counts a connection until what is returned is dropped.
    pub(super) fn connected(&self) -> Connected {
        self.0.connections.fetch_add(1, Ordering::SeqCst);
        self.0.new.fetch_add(1, Ordering::SeqCst);
        Connected { draining: self.clone(), is_new: Cell::new(true) }
    }

    /// Counts a request.
    pub(crate) fn count(&self, req: &HttpRequest) {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        if let Some(connection) = req.conn_data::<Connected>() {
            connection.is_used();
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.under_way.load(Ordering::SeqCst)
    }

    /// Waits until clients are gone or silent: stopping closes kept connections, also one on which a request is just
    /// arriving. Who has connected and asked for nothing yet has longer.
    pub(super) async fn until_gone(&self) {
        if self.connections() > 0 {
            self.until_silent().await;
        }
    }

    /// The same, and in any case as long as one round of silence: for a connection that was accepted and is not counted yet.
    pub(super) async fn until_silent(&self) {
        for _ in 0..SEND_AWAY_ROUNDS {
            let before = self.requests();
            sleep(SILENCE).await;
            let is_silent = self.requests() == before && self.0.new.load(Ordering::SeqCst) == 0;
            if is_silent || self.connections() == 0 {
                return;
            }
        }
    }
}
