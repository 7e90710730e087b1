//! For machines: the public keys, and whether the server lives and is ready.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::Api;
use crate::guard;
use crate::problem::{Code, Problem};

/// RFC 7517 section 5.
pub(crate) async fn jwks(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=300")).json(api.access.public_set())
}

/// The process answers.
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "live" }))
}

/// The process can do its work: the database answers, takes writes, is whole, has the right schema and has
/// said what time it is and who is signed out, and no shutdown is under way.
pub(crate) async fn ready(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    let told = if api.draining.is_set() {
        "The server is shutting down."
    } else if let Err(unready) = api.store.check().await {
        unready.detail()
    } else if !api.sessions.is_informed() {
        "The database has not said lately which sessions have ended."
    } else {
        return HttpResponse::Ok().json(json!({ "status": "ready" }));
    };
    // What is wrong is in the log when it begins and when it ends, and not each time that somebody asks.
    let log = guard::request_log(&request);
    Problem::new(Code::Unavailable).detail(told).respond(log.as_ref().map(|log| log.request_id()))
}
