//! `GET /metrics` (Prometheus), on a listener of its own: it is not for the public.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::LocalBoxFuture;

use crate::network::Listener;

/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Scrapers are few, and quick.
const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);

/// Produces the body of the answer.
pub(crate) type Text = Arc<dyn Fn() -> LocalBoxFuture<'static, String> + Send + Sync>;

/// Answers on `listeners`. The server is to be spawned.
///
/// # Errors
///
/// If a listener cannot be used.
pub(crate) fn start(listeners: Vec<Listener>, text: &Text) -> io::Result<Server> {
    let text = web::Data::new(Arc::clone(text));
    let app = move || App::new().app_data(text.clone()).route("/metrics", web::get().to(metrics));
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

async fn metrics(text: web::Data<Text>) -> HttpResponse {
    let text = text().await;
    HttpResponse::Ok().insert_header((CONTENT_TYPE, TEXT)).insert_header((CACHE_CONTROL, "no-store")).body(text)
}
