//! What is measured of a server, as it is at the time of asking.

use std::time::Duration;

use tokio::time::timeout;

use super::live::Live;
use crate::metrics::Purpose;
use crate::store::signing_keys;
use crate::tokens::Kind;
use crate::tokens::key_selection::KeyState;

/// How long the database may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Everything, as it is now.
pub async fn text(live: &Live) -> String {
    let (state, services) = (live.state.get(), live.services.get());
    let (accounts, levels) = (&services.accounts, &services.metrics.levels);
    levels.connections.set(f64::from(u32::try_from(state.draining.connections()).unwrap_or(u32::MAX)));
    levels.hash_queue.set(f64::from(u32::try_from(accounts.users.waiting_passwords()).unwrap_or(u32::MAX)));
    // Where it was never heard of, since the start.
    let age = accounts.revocations.age().unwrap_or_else(|| accounts.clock.elapsed());
    levels.feed_age.set(age.as_secs_f64());
    levels.clock_offset.set(accounts.clock.offset_seconds());
    levels.pool_in_use.set(f64::from(accounts.store.connections_in_use()));
    set_key_ages(live).await;
    services.metrics.text()
}

/// Of a configured key, the list in the database tells when it was first used. Where that does not answer soon, its age stays:
/// an outage is when the other metrics are needed.
async fn set_key_ages(live: &Live) {
    let (services, ours) = (live.services.get(), live.services.get().ours());
    let (store, now) = (&services.accounts.store, services.accounts.clock.now());
    let active: Vec<_> = ours.keys.iter().filter(|key| key.state == KeyState::Active).collect();
    let mut listed = Vec::new();
    if active.iter().any(|key| key.began().is_none()) {
        let asked = timeout(PATIENCE, store.read(signing_keys::all)).await;
        listed = asked.ok().and_then(Result::ok).unwrap_or_default();
    }
    for key in active {
        let purpose = match key.kind {
            Kind::Access => Purpose::Access,
            Kind::Refresh => Purpose::Refresh,
        };
        let used = listed.iter().filter(|row| row.kid == key.kid).map(|row| row.first_used_at).min();
        if let Some(began) = key.began().or(used) {
            services.metrics.levels.set_key_age(purpose, now.since(began));
        }
    }
}
