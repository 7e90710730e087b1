//! Whether the server lives and is ready.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::json;

use crate::guard;
use crate::http::State;
use crate::http::openapi::{Operation, STORE, body};
use crate::http::route::Route;
use crate::problem::{Code, Problem};

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::GET, "/health/live", || web::to(live), describe_live),
    Route::new(Method::GET, "/health/ready", || web::to(ready), describe_ready),
];

/// The process answers.
#[derive(JsonSchema, Serialize)]
pub(crate) struct Live {
    #[schemars(schema_with = "live_status")]
    status: &'static str,
}

/// The process can do its work.
#[derive(JsonSchema, Serialize)]
pub(crate) struct Ready {
    #[schemars(schema_with = "ready_status")]
    status: &'static str,
}

const LIVE: Live = Live { status: "live" };
const READY: Ready = Ready { status: "ready" };

fn live_status(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": LIVE.status })
}

fn ready_status(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": READY.status })
}

/// The process answers.
async fn live() -> HttpResponse {
    HttpResponse::Ok().json(LIVE)
}

fn describe_live() -> Operation {
    Operation::new("Machines", "live", "Whether the process answers")
        .about("Nothing else is asked: the database may be away.")
        .answers("200", body("It does.", "Live", json!({ "status": "live" })))
}

/// The process can do its work: the database answers, takes writes, is whole, has the right schema and has
/// said what time it is and who is signed out, and no shutdown is under way.
async fn ready(request: HttpRequest, state: State) -> HttpResponse {
    let told = if state.draining.is_set() {
        "The server is shutting down."
    } else if let Err(unready) = state.store.check().await {
        unready.detail()
    } else if !state.access.can_sign() {
        "The keys that are kept in the database have not been read yet."
    } else if !state.sessions.is_informed() {
        "The database has not said lately which sessions have ended."
    } else {
        return HttpResponse::Ok().json(READY);
    };
    // What is wrong is in the log when it begins and when it ends, and not for each probe.
    let log = guard::request_log(&request);
    Problem::new(Code::Unavailable).detail(told).respond(log.as_ref().map(|log| log.request_id()))
}

fn describe_ready() -> Operation {
    Operation::new("Machines", "ready", "Whether the process can do its work")
        .about(
            "Not while the database does not answer, takes no writes, is damaged or was replaced, needs a migration or belongs \
             to a newer version, nor while a shutdown is under way. `detail` says which.",
        )
        .answers("200", body("It can.", "Ready", json!({ "status": "ready" })))
        .fails(STORE)
}
