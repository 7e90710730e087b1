//! Register, log in, refresh, confirm, log out.

use std::collections::BTreeMap;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit::{OnAccessLine, emit};
use crate::device;
use crate::guard::{self, Principal};
use crate::http::AppState;
use crate::http::extract::credentials;
use crate::http::extract::credentials::{LogoutRequest, RefreshTokenRequest};
use crate::http::extract::json_body::JsonBody;
use crate::http::openapi::{
    BODY, CHANGE, Operation, STORE, answers, body, empty, errors, examples, requests, with_header,
};
use crate::http::route::Route;
use crate::ids::{SessionId, UserId};
use crate::json_schema;
use crate::passwords::Password;
use crate::problem::{Code, Problem};
use crate::sessions::{Admission, SignIn, StartError, TokenPair};
use crate::store::StoreError;
use crate::store::sessions::{Scope, Transport};
use crate::users::Registration;
use crate::views::UserView;

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        path: "/v1/auth/register",
        handler: || web::to(register),
        operation: describe_register,
    },
    Route { method: Method::POST, path: "/v1/auth/login", handler: || web::to(login), operation: describe_login },
    Route { method: Method::POST, path: "/v1/auth/refresh", handler: || web::to(refresh), operation: describe_refresh },
    Route {
        method: Method::POST,
        path: "/v1/auth/refresh/confirm",
        handler: || web::to(confirm),
        operation: describe_confirm,
    },
    Route { method: Method::POST, path: "/v1/auth/logout", handler: || web::to(logout), operation: describe_logout },
];

/// How often a log-in whose account changes under it starts over.
const ROUNDS: usize = 3;

/// Somebody new.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct RegisterRequest {
    #[schemars(schema_with = "requests::new_email")]
    email: String,
    #[schemars(schema_with = "requests::new_password")]
    password: Password,
    /// What the user is called.
    #[serde(default)]
    #[schemars(schema_with = "requests::name")]
    name: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "requests::device_name")]
    device_name: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "requests::transport")]
    transport: Option<Transport>,
    #[serde(default)]
    #[schemars(schema_with = "requests::remember", extend("default" = true))]
    remember: Option<bool>,
}

/// Somebody known.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct LoginRequest {
    email: String,
    #[schemars(schema_with = "json_schema::password")]
    password: Password,
    #[serde(default)]
    #[schemars(schema_with = "requests::device_name")]
    device_name: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "requests::transport")]
    transport: Option<Transport>,
    #[serde(default)]
    #[schemars(schema_with = "requests::remember", extend("default" = true))]
    remember: Option<bool>,
}

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

/// A new session's first pair of tokens.
#[derive(JsonSchema, Serialize)]
pub(crate) struct SignedIn<'a> {
    #[serde(flatten)]
    tokens: Refreshed<'a>,
    user: UserView,
}

async fn register(
    state: web::Data<AppState>,
    req: HttpRequest,
    body: Result<JsonBody<RegisterRequest>, Problem>,
) -> Result<HttpResponse, Problem> {
    if !state.registration {
        return Err(Code::NotFound.into());
    }
    let JsonBody(RegisterRequest { email, password, name, device_name, transport, remember }) = body?;
    let sign_in = sign_in(&state, &req, (device_name, transport, remember));
    let registration = Registration { email, password, name };
    let new = state.users.prepare(registration, state.proxies.client_address(&req)).await?;
    let user = UserView::from(&new);
    let pair = state.sessions.start(Admission::Newcomer(new), sign_in).await?;
    Ok(signed_in(&state, &req, HttpResponse::Created(), &pair, user).await)
}

fn describe_register() -> Operation {
    let example = json!({
        "email": "ada@example.com", "password": "correct horse battery", "name": "Ada", "device_name": "Ada's telephone",
    });
    let answer = body("Registered and signed in.", "SignedIn", examples::signed_in());
    Operation::new("Tokens", "register", "Register and sign in")
        .about("Not found where registration is switched off. Signs in as `login` does.")
        .takes("RegisterRequest", true, example)
        .answers("201", with_header(answer, "Set-Cookie", "SetCookie"))
        .fails(BODY)
        .fails(&[Code::NotFound, Code::EmailTaken, Code::ValidationFailed, Code::RateLimited])
        .fails(STORE)
}

async fn login(
    state: web::Data<AppState>,
    req: HttpRequest,
    JsonBody(body): JsonBody<LoginRequest>,
) -> Result<HttpResponse, Problem> {
    let LoginRequest { email, password, device_name, transport, remember } = body;
    let sign_in = sign_in(&state, &req, (device_name, transport, remember));
    for _ in 0..ROUNDS {
        let address = state.proxies.client_address(&req);
        let who = state.users.authenticate(&email, password.clone(), address, guard::signed_in(&req)).await?;
        let admission = Admission::Verified { user_id: who.user.id, password_hash: who.password_hash };
        match state.sessions.start(admission, sign_in.clone()).await {
            Err(StartError::Changed) => {}
            Err(error) => return Err(error.into()),
            Ok(pair) => return Ok(signed_in(&state, &req, HttpResponse::Ok(), &pair, UserView::from(&who.user)).await),
        }
    }
    Err(StartError::Changed.into())
}

fn describe_login() -> Operation {
    let example = json!({ "email": "ada@example.com", "password": "correct horse battery" });
    let answer = body("Signed in.", "SignedIn", examples::signed_in());
    Operation::new("Tokens", "login", "Sign in")
        .about(
            "A wrong password and an unknown address are answered alike, and as fast. The session of a refresh cookie \
             that came with the request ends: the browser is about to lose it.",
        )
        .takes("LoginRequest", true, example)
        .answers("200", with_header(answer, "Set-Cookie", "SetCookie"))
        .fails(BODY)
        .fails(&[Code::InvalidCredentials, Code::AccountDisabled, Code::ValidationFailed, Code::RateLimited])
        .fails(STORE)
}

async fn refresh(
    state: web::Data<AppState>,
    req: HttpRequest,
    JsonBody(body): JsonBody<RefreshTokenRequest>,
) -> Result<HttpResponse, Problem> {
    let (token, by_cookie) = match body.token()? {
        Some(token) => (token, false),
        None => (credentials::cookie_refresh_token(&state, &req).await?, true),
    };
    match state.sessions.refresh(&token, state.proxies.device(&req)).await {
        Ok(pair) => {
            guard::identify(&req, pair.user_id, pair.session_id);
            if let (Some(event), Some(log)) = (&pair.on_access_line, guard::request_log(&req)) {
                emit(OnAccessLine(&log), event);
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

async fn confirm(caller: Principal, state: web::Data<AppState>) -> Result<HttpResponse, Problem> {
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
    state: web::Data<AppState>,
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
async fn end(
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

/// The answer to a log-in. What the browser has of other sessions it is about to lose: they end, and a log-in whose tokens
/// are in the body takes their cookies back. A page of another site brings none of this about.
async fn signed_in(
    state: &AppState,
    req: &HttpRequest,
    mut status: HttpResponseBuilder,
    pair: &TokenPair,
    user: UserView,
) -> HttpResponse {
    guard::identify(req, pair.user_id, pair.session_id);
    let came_with_cookies = state.cookies.tokens(req).next().is_some() && state.origins.is_this_site(req);
    if came_with_cookies {
        let replaced = credentials::sessions_of_refresh_cookies(state, req);
        if let Err(error) = end(state, req, replaced, "replaced").await {
            // The new session is open, and its tokens would be lost with an error.
            tracing::error!(error = error.chain(), "the session that a log-in has replaced could not be ended");
        }
    }
    let mut response = status.json(SignedIn { tokens: Refreshed::from(pair), user });
    match pair.transport {
        Transport::Cookie => state.cookies.set(req, &mut response, pair),
        Transport::Body if came_with_cookies => state.cookies.clear(req, &mut response),
        Transport::Body => {}
    }
    response
}

fn sign_in(
    state: &AppState,
    req: &HttpRequest,
    (device_name, transport, remember): (Option<String>, Option<Transport>, Option<bool>),
) -> SignIn {
    let replaces = match state.origins.is_this_site(req) {
        true => credentials::sessions_of_refresh_cookies(state, req).into_keys().collect(),
        false => Vec::new(),
    };
    SignIn {
        device_name: device_name.and_then(|name| device::name(&name)),
        transport: transport.unwrap_or(Transport::Body),
        remember: remember.unwrap_or(true),
        replaces,
        device: state.proxies.device(req),
    }
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
