//! `GET /metrics` (Prometheus), on a listener of its own: it is not for the public.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{App, HttpResponse, HttpServer, web};

use super::live::Live;
use crate::metrics::Purpose;
use crate::network::Listener;
use crate::store::signing_keys;
use crate::tokens::Kind;
use crate::tokens::key_selection::KeyState;

/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Few ask, and each of them soon.
const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers on `listeners`. The server is to be spawned.
///
/// # Errors
///
/// If a listener cannot be used.
pub fn start(listeners: Vec<Listener>, live: &Arc<Live>) -> io::Result<Server> {
    let live = web::Data::from(Arc::clone(live));
    let app = move || App::new().app_data(live.clone()).route("/metrics", web::get().to(metrics));
    let mut server = HttpServer::new(app)
        .workers(1)
        .max_connections(CONNECTIONS)
        .client_request_timeout(PATIENCE)
        .client_disconnect_timeout(PATIENCE)
        .shutdown_timeout(0)
        .disable_signals();
    for listener in listeners {
        server = match listener {
            Listener::Tcp(listener) => server.listen(listener)?,
            Listener::Unix(listener) => server.listen_uds(listener)?,
        };
    }
    Ok(server.run())
}

async fn metrics(live: web::Data<Live>) -> HttpResponse {
    let text = text(&live).await;
    HttpResponse::Ok().insert_header((CONTENT_TYPE, TEXT)).insert_header((CACHE_CONTROL, "no-store")).body(text)
}

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

/// Of a configured key, the list in the database tells when it was first used. Where that does not answer, its age stays.
async fn set_key_ages(live: &Live) {
    let (services, ours) = (live.services.get(), live.services.get().ours());
    let (store, now) = (&services.accounts.store, services.accounts.clock.now());
    let listed = store.read(signing_keys::all).await.unwrap_or_default();
    for key in ours.keys.iter().filter(|key| key.state == KeyState::Active) {
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
