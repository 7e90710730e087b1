//! For machines: the public keys, and whether the server lives and is ready.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::Api;
use crate::problem::{Code, Problem};

/// RFC 7517 section 5.
pub(crate) async fn jwks(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=300")).json(api.access.public_set())
}

/// The process answers.
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "live" }))
}

/// The process can do its work: the database answers, has the right schema and has
/// said what time it is and who is signed out, and no shutdown is under way.
pub(crate) async fn ready(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    if api.draining.is_set() {
        return Err(Problem::new(Code::Unavailable).detail("The server is shutting down."));
    }
    api.store.check().await?;
    if !api.sessions.is_informed() {
        return Err(Problem::new(Code::Unavailable));
    }
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}
