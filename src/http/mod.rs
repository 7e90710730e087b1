//! HTTP: the route table, and what handlers work with.

pub(crate) mod account;
mod body;
pub(crate) mod client;
pub(crate) mod connection;
mod connections;
pub(crate) mod cookies;
mod credentials;
mod cross_origin;
mod docs;
mod envelope;
mod error;
pub(crate) mod events;
mod head;
mod http10;
mod machines;
pub(crate) mod openapi;
mod origin_line;
pub(crate) mod server;
mod tokens;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, LOCATION};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use self::client::TrustedProxies;
use self::cookies::Cookies;
use self::cross_origin::cors;
use crate::guard::cross_site::Origins;
use crate::janitor::Janitor;
use crate::problem::{Code, Problem};
use crate::revocation::unfinished::Unfinished;
use crate::sessions::Sessions;
use crate::signing_keys::Recorder;
use crate::store::Store;
use crate::tokens::access::AccessTokens;
use crate::users::Users;

/// Everything a handler composes its answer from.
pub(crate) struct Api {
    pub(crate) users: Users,
    pub(crate) sessions: Sessions,
    pub(crate) access: Arc<AccessTokens>,
    pub(crate) store: Store,
    pub(crate) cookies: Cookies,
    pub(crate) origins: Origins,
    pub(crate) proxies: TrustedProxies,
    pub(crate) registration: bool,
    pub(crate) draining: Draining,
    /// At work for as long as requests are answered.
    pub(crate) _janitor: Janitor,
    /// The same.
    pub(crate) _unfinished: Unfinished,
    /// The same.
    pub(crate) _recorder: Recorder,
}

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
pub(crate) struct Connected(Draining);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Draining {
    pub(crate) fn set(&self) {
        self.0.under_way.store(true, Ordering::SeqCst);
    }

    /// How many requests have come so far.
    pub(crate) fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::SeqCst)
    }

    /// Counts a connection until what is returned is dropped.
    pub(crate) fn connected(&self) -> Connected {
        self.0.connections.fetch_add(1, Ordering::SeqCst);
        Connected(self.clone())
    }

    fn count(&self) {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.under_way.load(Ordering::SeqCst)
    }
}

/// The paths we answer, below which no route of a foreign application may stand.
const PREFIXES: [&str; 4] = ["/v1", "/.well-known", "/health", DOCS];
const DOCS: &str = "/docs";

/// Mounts every route. Paths outside our own are left to whatever else the application mounts.
pub(crate) fn mount(config: &mut ServiceConfig, allowed_origins: &[String], docs: bool) {
    for prefix in PREFIXES.into_iter().filter(|prefix| docs || *prefix != DOCS) {
        let scope = web::scope(prefix).configure(|scope| routes(prefix, scope)).default_service(web::to(nothing_here));
        config.service(scope.wrap(cors(allowed_origins)).wrap(from_fn(envelope::envelope)));
    }
    let description =
        web::resource("/openapi.json").route(web::get().to(openapi::show)).route(web::head().to(openapi::show));
    config.service(description.wrap(cors(allowed_origins)).wrap(from_fn(envelope::envelope)));
}

/// The first page, and an answer in the same form for paths without one; for an application that is ours alone.
pub(crate) fn mount_default(config: &mut ServiceConfig, allowed_origins: &[String], docs: bool) {
    if docs {
        let first = web::resource("/").route(web::get().to(first_page)).route(web::head().to(first_page));
        config.service(first.wrap(cors(allowed_origins)).wrap(from_fn(envelope::envelope)));
    }
    let nothing = web::to(nothing_here).wrap(cors(allowed_origins)).wrap(from_fn(envelope::envelope));
    config.default_service(nothing);
}

/// The table. A resource answers other methods with 405 and `Allow` by itself, which `App::route` does not.
fn routes(prefix: &str, scope: &mut ServiceConfig) {
    match prefix {
        "/v1" => scope
            .service(web::resource("/auth/register").route(web::post().to(tokens::register)))
            .service(web::resource("/auth/login").route(web::post().to(tokens::login)))
            .service(web::resource("/auth/refresh").route(web::post().to(tokens::refresh)))
            .service(web::resource("/auth/refresh/confirm").route(web::post().to(tokens::confirm)))
            .service(web::resource("/auth/logout").route(web::post().to(tokens::logout)))
            .service(
                web::resource("/sessions")
                    .route(web::get().to(account::list_sessions))
                    .route(web::head().to(account::list_sessions))
                    .route(web::delete().to(account::end_sessions)),
            )
            .service(web::resource("/sessions/{id}").route(web::delete().to(account::end_session)))
            .service(
                web::resource("/users/me")
                    .route(web::get().to(account::show))
                    .route(web::head().to(account::show))
                    .route(web::patch().to(account::change))
                    .route(web::delete().to(account::delete)),
            )
            .service(
                web::resource("/users/me/events")
                    .route(web::get().to(events::list))
                    .route(web::head().to(events::list)),
            )
            .service(web::resource("/users/me/password").route(web::post().to(account::change_password))),
        "/.well-known" => scope.service(
            web::resource("/jwks.json").route(web::get().to(machines::jwks)).route(web::head().to(machines::jwks)),
        ),
        DOCS => scope
            .configure(docs::mount_files)
            .service(web::resource("").route(web::get().to(docs::show)).route(web::head().to(docs::show))),
        _ => scope
            .service(web::resource("/live").route(web::get().to(machines::live)).route(web::head().to(machines::live)))
            .service(
                web::resource("/ready").route(web::get().to(machines::ready)).route(web::head().to(machines::ready)),
            ),
    };
}

/// The address alone leads to where everything is explained.
async fn first_page() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, DOCS)).finish()
}

async fn nothing_here(req: HttpRequest) -> Result<HttpResponse, Problem> {
    // `OPTIONS *` asks about the server, not about a path (RFC 9110 section 9.3.7).
    if *req.method() == Method::OPTIONS && req.path() == "*" {
        return Ok(HttpResponse::NoContent()
            .insert_header((ALLOW, "DELETE, GET, HEAD, OPTIONS, PATCH, POST"))
            .finish());
    }
    Err(Code::NotFound.into())
}
