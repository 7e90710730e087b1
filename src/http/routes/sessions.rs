//! The caller's own sessions.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::guard::CurrentUser;
use crate::http::State;
use crate::http::openapi::{CHANGE, Operation, READ, body, empty, examples, with_header};
use crate::http::route::Route;
use crate::ids::SessionId;
use crate::json_schema;
use crate::problem::{Code, FieldError, Problem};
use crate::store::sessions::{Scope, SessionSummary};
use crate::views::SessionView;

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::GET, "/v1/sessions", || web::to(list), describe_list),
    Route::new(Method::DELETE, "/v1/sessions", || web::to(end_many), describe_end_many),
    Route::new(Method::DELETE, "/v1/sessions/{id}", || web::to(end_one), describe_end_one),
];

/// Live sessions, most recently used first: the first thousand.
#[derive(JsonSchema, Serialize)]
pub(crate) struct Sessions {
    sessions: Vec<SessionView>,
}

/// How many sessions have been ended.
#[derive(JsonSchema, Serialize)]
pub(crate) struct Revoked {
    #[schemars(schema_with = "json_schema::count")]
    revoked: usize,
}

async fn list(caller: CurrentUser, state: State) -> Result<HttpResponse, Problem> {
    let current = caller.principal().session_id();
    let sessions = state.sessions.list(caller.id()).await?;
    let shown = |session: SessionSummary| {
        let current = session.id == current;
        SessionView::new(session, current)
    };
    let sessions = sessions.into_iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(Sessions { sessions }))
}

fn describe_list() -> Operation {
    Operation::new("Sessions", "listSessions", "List the caller's live sessions")
        .about("One for each signed-in device; `current` marks the one that asks.")
        .guarded()
        .answers("200", body("Most recently used first.", "Sessions", examples::sessions()))
        .fails(READ)
}

async fn end_one(
    caller: CurrentUser,
    state: State,
    req: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let Ok(id) = id.parse::<SessionId>() else { return Err(Code::NotFound.into()) };
    let address = state.proxies.address_text(&req);
    if state.sessions.revoke(caller.id(), Scope::Only(id), "ended_by_user", address).await? == 0 {
        return Err(Code::NotFound.into());
    }
    let mut response = HttpResponse::NoContent().finish();
    if id == caller.principal().session_id() {
        state.cookies.clear(&req, &mut response);
    }
    Ok(response)
}

fn describe_end_one() -> Operation {
    let id = json!([{
        "name": "id",
        "in": "path",
        "required": true,
        "schema": { "type": "string", "format": "uuid" },
        "example": examples::SESSION_ID,
    }]);
    Operation::new("Sessions", "endSession", "End one session")
        .about("Not found unless it is a live session of the caller's.")
        .guarded()
        .member("parameters", id)
        .answers("204", with_header(empty("Ended."), "Set-Cookie", "ClearCookie"))
        .fails(CHANGE)
        .fails(&[Code::NotFound])
}

#[derive(Deserialize)]
struct Which {
    scope: Option<String>,
}

async fn end_many(
    caller: CurrentUser,
    state: State,
    req: HttpRequest,
    which: web::Query<Which>,
) -> Result<HttpResponse, Problem> {
    let scope = match which.scope.as_deref() {
        Some("others") => Scope::Except(caller.principal().session_id()),
        Some("all") => Scope::All,
        _ => {
            let message = "must be others or all".to_owned();
            return Err(Problem::new(Code::InvalidRequest)
                .detail("The query parameter scope must be others or all.")
                .errors(vec![FieldError { field: "scope", message }]));
        }
    };
    let address = state.proxies.address_text(&req);
    let revoked = state.sessions.revoke(caller.id(), scope, "ended_by_user", address).await?;
    let mut response = HttpResponse::Ok().json(Revoked { revoked });
    if matches!(scope, Scope::All) {
        state.cookies.clear(&req, &mut response);
    }
    Ok(response)
}

fn describe_end_many() -> Operation {
    let scope = json!([{
        "name": "scope",
        "in": "query",
        "required": true,
        "description": "Every session but the caller's, or every session.",
        "schema": { "enum": ["others", "all"] },
        "example": "others",
    }]);
    let answer = body("Ended.", "Revoked", json!({ "revoked": 2 }));
    Operation::new("Sessions", "endSessions", "End many sessions")
        .about("`others` leaves the session that asks, `all` ends it too.")
        .guarded()
        .member("parameters", scope)
        .answers("200", with_header(answer, "Set-Cookie", "ClearCookie"))
        .fails(CHANGE)
}
