//! The caller's own recent events, a page at a time.

use actix_web::http::Method;
use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::Timestamp;
use crate::guard::CurrentUser;
use crate::http::State;
use crate::http::openapi::{Operation, READ, body, examples};
use crate::http::route::Route;
use crate::ids::EventId;
use crate::problem::{Code, FieldError, Problem};
use crate::store::events;
use crate::views::EventView;

pub(super) const ROUTES: &[Route] = &[Route::new(Method::GET, "/v1/users/me/events", || web::to(list), describe_list)];

/// Events on a page.
const PAGE: usize = 50;

/// A page of events, newest first.
#[derive(JsonSchema, Serialize)]
pub(crate) struct Events {
    events: Vec<EventView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    cursor: Option<String>,
}

async fn list(caller: CurrentUser, state: State, page: web::Query<Page>) -> Result<HttpResponse, Problem> {
    let before = page.cursor.as_deref().map(|cursor| read_cursor(cursor).ok_or_else(bad_cursor)).transpose()?;
    let user = caller.id();
    // One more than a page, to know whether there is another.
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let mut rows = state.store.read(move |conn| events::of_user(conn, user, before, limit)).await?;
    let more = rows.len() > PAGE;
    rows.truncate(PAGE);
    let next_cursor = rows.last().filter(|_| more).map(|last| cursor(last.at, last.id));
    let events = rows.into_iter().map(EventView::from).collect();
    Ok(HttpResponse::Ok().json(Events { events, next_cursor }))
}

fn describe_list() -> Operation {
    let cursor = json!([{
        "name": "cursor",
        "in": "query",
        "required": false,
        "description": "`next_cursor` of the page before; without it, the newest events.",
        "schema": { "type": "string" },
    }]);
    Operation::new("Account", "listEvents", "List what has happened to the caller's account")
        .about("Fifty events a page. They are kept for 90 days.")
        .guarded()
        .member("parameters", cursor)
        .answers("200", body("Newest first.", "Events", examples::events()))
        .fails(READ)
}

/// The place of the last event on a page: its time and its id.
fn cursor(at: Timestamp, id: EventId) -> String {
    URL_SAFE_NO_PAD.encode([at.as_micros().to_be_bytes().as_slice(), id.as_bytes()].concat())
}

fn read_cursor(cursor: &str) -> Option<(Timestamp, EventId)> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (at, id) = bytes.split_first_chunk::<8>()?;
    Some((Timestamp::from_micros(i64::from_be_bytes(*at)), EventId::try_from(id).ok()?))
}

fn bad_cursor() -> Problem {
    let message = "must be next_cursor of an earlier page".to_owned();
    Problem::new(Code::InvalidRequest)
        .detail("The query parameter cursor is not one that a page has named.")
        .errors(vec![FieldError { field: "cursor", message }])
}
