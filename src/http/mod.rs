//! HTTP: the routes, what they are mounted in, and the socket.

mod error;
pub(crate) mod extract;
pub(crate) mod metrics;
mod middleware;
pub(crate) mod openapi;
mod outcomes;
mod route;
pub(crate) mod routes;
pub(crate) mod server;
mod state;

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource};

use self::middleware::stack;
use self::route::paths;
use self::routes::{docs, pages};
pub(crate) use self::state::{AppState, State};
use crate::problem::{Code, Problem};

/// The paths we answer, below which no route of a foreign application may stand.
const PREFIXES: [&str; 4] = ["/v1", "/.well-known", "/health", docs::PATH];

/// Mounts every route. Paths outside our own are left to whatever else the application mounts.
pub(crate) fn mount(config: &mut ServiceConfig, docs: bool) {
    for prefix in PREFIXES.into_iter().filter(|prefix| docs || *prefix != docs::PATH) {
        let scope = resources(prefix).into_iter().fold(web::scope(prefix), actix_web::Scope::service);
        let scope = if prefix == docs::PATH { scope.configure(docs::mount_files) } else { scope };
        let scope = scope.default_service(web::to(nothing_here));
        config.service(scope.wrap(from_fn(stack)));
    }
    // Pages of another application may stand beside these.
    for resource in [openapi::PATH].into_iter().chain(pages::PATHS).flat_map(resources) {
        config.service(resource.wrap(from_fn(stack)));
    }
}

/// The first page, and an answer in the same form for paths without one; for an application that is ours alone.
pub(crate) fn mount_default(config: &mut ServiceConfig, docs: bool) {
    for resource in resources(docs::FIRST_PAGE).into_iter().filter(|_| docs) {
        config.service(resource.wrap(from_fn(stack)));
    }
    config.default_service(web::to(nothing_here).wrap(from_fn(stack)));
}

/// The routes of a path, if it is one, and those below it.
fn resources(prefix: &str) -> Vec<Resource> {
    let is_below = |path: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // In a scope, paths begin after its prefix.
    let scope = if PREFIXES.contains(&prefix) { prefix } else { "" };
    paths(routes::TABLES).iter().filter(|path| is_below(path.path)).map(|path| path.resource(scope)).collect()
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
