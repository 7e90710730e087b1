//! Refresh, confirm, log out.

use std::collections::BTreeMap;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::audit::{Event, Kind, OnAccessLine, emit};
use crate::guard::{self, Principal};
use crate::http::extract::credentials::{self, LogoutRequest, RefreshTokenRequest};
use crate::http::extract::json_body::JsonBody;
use crate::http::openapi::{BODY, CHANGE, Operation, STORE, answers, body, empty, errors, examples, with_header};
use crate::http::outcomes::count_refresh;
use crate::http::route::Route;
use crate::http::{AppState, State};
use crate::ids::{SessionId, UserId};
use crate::json_schema;
use crate::problem::{Code, Problem};
use crate::sessions::TokenPair;
use crate::store::StoreError;
use crate::store::sessions::{Scope, Transport};

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::POST, "/v1/auth/refresh", || web::to(refresh), describe_refresh),
    Route::new(Method::POST, "/v1/auth/refresh/confirm", || web::to(confirm), describe_confirm),
    Route::new(Method::POST, "/v1/auth/logout", || web::to(logout), describe_logout),
];

/// The next pair of tokens.
// As RFC 6749 section 5.1 says, and what our clients need besides.
#[derive(JsonSchema, Serialize)]
#[schemars(extend("dependentRequired" = { "access_token": ["refresh_token"], "refresh_token": ["access_token"] }))]
pub(crate) struct Refreshed<'a> {
    #[schemars(schema_with = "answers::token_type")]
    token_type: &'static str,
    /// Goes into `Authorization: Bearer`; absent with transport `cookie`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "answers::text")]
    access_token: Option<&'a str>,
    /// Until the access token expires.
    #[schemars(schema_with = "json_schema::count")]
    expires_in: u64,
    /// Good for one refresh; absent with transport `cookie`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "answers::text")]
    refresh_token: Option<&'a str>,
    /// Until the refresh token just handed out can no longer be used.
    #[schemars(schema_with = "json_schema::count")]
    refresh_expires_in: u64,
    #[schemars(schema_with = "json_schema::id")]
    session_id: String,
}

async fn refresh(
    state: State,
    req: HttpRequest,
    JsonBody(body): JsonBody<RefreshTokenRequest>,
) -> Result<HttpResponse, Problem> {
    let (token, by_cookie) = match body.token()? {
        Some(token) => (token, false),
        None => (credentials::cookie_refresh_token(&state, &req).await?, true),
    };
    let refreshed = state.sessions.refresh(&token, state.proxies.device(&req)).await;
    count_refresh(&state.metrics, &refreshed);
    match refreshed {
        Ok(pair) => {
            guard::identify(&req, pair.user_id, pair.session_id);
            // A plain rotation has no line of its own.
            if let (Some(Kind::Rotated), Some(log)) = (pair.granted, guard::request_log(&req)) {
                emit(OnAccessLine(&log), &Event::new(Kind::Rotated));
            }
            let mut response = HttpResponse::Ok().json(Refreshed::from(&pair));
            if pair.transport == Transport::Cookie {
                state.cookies.set(&req, &mut response, &pair);
            }
            Ok(response)
        }
        Err(error) => {
            let problem = Problem::from(error);
            if !by_cookie || problem.code() != Code::InvalidGrant {
                return Err(problem);
            }
            // A browser cannot throw its tokens away by itself.
            let log = guard::request_log(&req);
            let mut response = problem.respond(log.as_ref().map(|log| log.request_id()));
            state.cookies.clear(&req, &mut response);
            Ok(response)
        }
    }
}

fn describe_refresh() -> Operation {
    let answer = body("The next pair of tokens.", "Refreshed", examples::refreshed());
    let mut failures = errors([Code::InvalidRequest, Code::InvalidGrant]);
    let refused = failures.remove("400").unwrap_or_default();
    Operation::new("Tokens", "refresh", "Exchange a refresh token for the next pair")
        .about(
            "The refresh token comes in the body or, where the body has none, as a cookie; of several cookies the first \
             that can be used counts. On `invalid_grant` the session cannot be continued: \
             sign in again. On `refresh_conflict` another request has used the token: read your token store again \
             and retry. On anything else the token is as good as before.",
        )
        .member("security", json!([{}, { "refreshCookie": [] }]))
        .takes("RefreshTokenRequest", false, json!({ "refresh_token": "eyJ…" }))
        .answers("200", with_header(answer, "Set-Cookie", "SetCookie"))
        .answers("400", with_header(refused, "Set-Cookie", "ClearCookie"))
        .fails(BODY)
        .fails(&[Code::CrossSite, Code::RefreshConflict, Code::RateLimited])
        .fails(STORE)
}

async fn confirm(caller: Principal, state: State) -> Result<HttpResponse, Problem> {
    state.sessions.confirm(caller.bearer()).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn describe_confirm() -> Operation {
    Operation::new("Tokens", "confirm", "Confirm that a pair has been stored")
        .about(
            "Send the access token of the new pair once it is stored: the previous refresh token is dead from then \
             on. With the access token of an older pair nothing changes.",
        )
        .guarded()
        .answers("204", empty("Confirmed."))
        .fails(CHANGE)
        .fails(&[Code::RefreshConflict])
}

/// Each genuine token in the request ends its session; one that is foreign or of a session already over changes nothing.
async fn logout(
    state: State,
    req: HttpRequest,
    body: Result<JsonBody<LogoutRequest>, Problem>,
) -> Result<HttpResponse, Problem> {
    let sessions = credentials::sessions_presented(&state, &req, body.map(|JsonBody(tokens)| tokens))?;
    if let Some((session_id, user_id)) = sessions.last_key_value() {
        guard::identify(&req, *user_id, *session_id);
    }
    end(&state, &req, sessions, "logout").await?;
    let mut response = HttpResponse::NoContent().finish();
    state.cookies.clear_always(&req, &mut response);
    Ok(response)
}

fn describe_logout() -> Operation {
    Operation::new("Tokens", "logout", "Sign out")
        .about(
            "Ends the session of every genuine token in the request: in the `Authorization` header (of either kind), in \
             the body (both spellings), in every cookie of either name; an expired one too. One that is foreign or of a \
             session already over is answered alike, and changes nothing. Both cookies are cleared.",
        )
        .member("security", json!([{ "bearer": [] }, { "accessCookie": [] }, { "refreshCookie": [] }, {}]))
        .takes("RefreshTokenRequest", false, json!({ "refresh_token": "eyJ…" }))
        .answers("204", with_header(empty("Signed out."), "Set-Cookie", "ClearCookie"))
        .fails(BODY)
        .fails(&[Code::MissingToken, Code::CrossSite])
        .fails(STORE)
}

/// Ends sessions: all of them or, where one cannot be ended, none.
pub(super) async fn end(
    state: &AppState,
    req: &HttpRequest,
    sessions: BTreeMap<SessionId, UserId>,
    reason: &'static str,
) -> Result<(), StoreError> {
    // In the order of their ids everywhere, so that two never wait for each other.
    let whose: Vec<_> = sessions.into_iter().map(|(session_id, user_id)| (user_id, Scope::Only(session_id))).collect();
    if !whose.is_empty() {
        state.sessions.revoke_all(whose, reason, state.proxies.address_text(req)).await?;
    }
    Ok(())
}

impl<'a> From<&'a TokenPair> for Refreshed<'a> {
    /// A pair, as far as it goes into the body.
    fn from(pair: &'a TokenPair) -> Self {
        let in_body = pair.transport == Transport::Body;
        Self {
            token_type: "Bearer",
            access_token: in_body.then_some(pair.access_token.as_str()),
            expires_in: pair.expires_in,
            refresh_token: in_body.then(|| pair.refresh_token.expose()),
            refresh_expires_in: pair.refresh_expires_in,
            session_id: pair.session_id.to_string(),
        }
    }
}
