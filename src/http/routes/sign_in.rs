//! Register and log in.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::auth::{Refreshed, end};
use super::recovery::asker;
use crate::config::VerifyEmail;
use crate::device;
use crate::guard;
use crate::http::extract::credentials;
use crate::http::extract::json_body::JsonBody;
use crate::http::openapi::{BODY, Operation, STORE, body, empty, examples, requests, with_header};
use crate::http::outcomes::{count_refused_step, count_throttled};
use crate::http::route::Route;
use crate::http::{AppState, State};
use crate::ids::SessionId;
use crate::json_schema;
use crate::metrics::{LoginOutcome, Throttle};
use crate::passwords::Password;
use crate::problem::{Code, Problem};
use crate::sessions::{Admission, SignIn, TokenPair};
use crate::sign_in::{Credentials, Entered};
use crate::store::sessions::Transport;
use crate::store::users::UserRow;
use crate::users::Registration;
use crate::views::UserView;

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::POST, "/v1/auth/register", || web::to(register), describe_register),
    Route::new(Method::POST, "/v1/auth/login", || web::to(login), describe_login),
];

/// A new account, and its first session.
// The last three fields stand in both requests: one flattened struct would lose the names of fields in errors.
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
    #[serde(default)]
    #[schemars(schema_with = "requests::locale")]
    locale: Option<String>,
}

/// An account, and a session of it.
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

/// A new session's first pair of tokens.
#[derive(JsonSchema, Serialize)]
pub(crate) struct SignedIn<'a> {
    #[serde(flatten)]
    tokens: Refreshed<'a>,
    user: UserView,
}

async fn register(
    state: State,
    req: HttpRequest,
    body: Result<JsonBody<RegisterRequest>, Problem>,
) -> Result<HttpResponse, Problem> {
    if !state.registration {
        return Err(Code::NotFound.into());
    }
    let JsonBody(RegisterRequest { email, password, name, device_name, transport, remember, locale }) = body?;
    let sign_in = sign_in(&state, &req, (device_name, transport, remember));
    let registration = Registration { email, password, name };
    let asker = asker(&state, &req, locale.as_deref());
    let verify = if state.users.outbox().is_some() { state.users.verify_email() } else { VerifyEmail::Off };
    if verify == VerifyEmail::Required {
        let registered = state.users.register_unproven(registration, &asker).await;
        registered.inspect_err(|error| count_throttled(&state.metrics, Throttle::Registration, error))?;
        return Ok(HttpResponse::Accepted().finish());
    }
    let prepared = state.users.prepare(registration, state.proxies.client_address(&req)).await;
    let new = prepared.inspect_err(|error| count_throttled(&state.metrics, Throttle::Registration, error))?;
    let user = UserView::from(&new);
    let row = UserRow::from(&new);
    let pair = state.sessions.start(Admission::Newcomer(new), sign_in).await?;
    if verify == VerifyEmail::Optional
        && let Err(error) = state.users.ask_for_proof(&row, &asker).await
    {
        // The account is there, and its user can ask for another mail.
        count_throttled(&state.metrics, Throttle::Mail, &error);
        tracing::warn!(%error, "no mail was written that proves the address of a new account");
    }
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
        .answers(
            "202",
            empty("With `registration.verify_email` `required`: a mail is on its way, and no session begins."),
        )
        .fails(BODY)
        .fails(&[Code::NotFound, Code::EmailTaken, Code::ValidationFailed, Code::RateLimited])
        .fails(STORE)
}

async fn login(
    state: State,
    req: HttpRequest,
    JsonBody(body): JsonBody<LoginRequest>,
) -> Result<HttpResponse, Problem> {
    let LoginRequest { email, password, device_name, transport, remember } = body;
    let sign_in = sign_in(&state, &req, (device_name, transport, remember));
    let address = state.proxies.client_address(&req);
    let credentials = Credentials { email, password, address, signed_in: guard::signed_in(&req) };
    let entered = state.log_in.with_password(credentials, sign_in).await;
    match entered.inspect_err(|error| count_refused_step(&state.metrics, error))? {
        Entered::Session(entered) => {
            let (pair, user) = *entered;
            state.metrics.logins.count(LoginOutcome::Ok);
            Ok(signed_in(&state, &req, HttpResponse::Ok(), &pair, UserView::from(&user)).await)
        }
        Entered::SecondFactor { mfa_token, has_recovery_codes } => {
            state.metrics.logins.count(LoginOutcome::MfaRequired);
            let methods: &[&str] = if has_recovery_codes { &["totp", "recovery_code"] } else { &["totp"] };
            let token = String::from_utf8_lossy(mfa_token.expose()).into_owned();
            Err(Problem::new(Code::MfaRequired).member("mfa_token", token).member("methods", methods))
        }
    }
}

fn describe_login() -> Operation {
    let example = json!({ "email": "ada@example.com", "password": "correct horse battery" });
    let answer = body("Signed in.", "SignedIn", examples::signed_in());
    Operation::new("Tokens", "login", "Sign in")
        .about(
            "A wrong password and an unknown address are answered alike, and as fast. The session of a refresh cookie \
             that came with the request ends: the browser is about to lose it. Where the account has a second factor, \
             the right password is answered `mfa_required` with `mfa_token`, for `loginMfa`, and `methods`.",
        )
        .takes("LoginRequest", true, example)
        .answers("200", with_header(answer, "Set-Cookie", "SetCookie"))
        .fails(BODY)
        .fails(&[Code::InvalidCredentials, Code::MfaRequired, Code::AccountDisabled, Code::EmailNotVerified])
        .fails(&[Code::ValidationFailed, Code::RateLimited])
        .fails(STORE)
}

/// The answer to a log-in. What the browser has of other sessions it is about to lose: they end, and a log-in whose tokens
/// are in the body takes their cookies back. A page of another site brings none of this about.
pub(super) async fn signed_in(
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
    SignIn {
        device_name: device_name.and_then(|name| device::name(&name)),
        transport: transport.unwrap_or(Transport::Body),
        remember: remember.unwrap_or(true),
        replaces: replaced_by_cookies(state, req),
        device: state.proxies.device(req),
    }
}

/// The sessions of the refresh cookies that came with a log-in, which the browser is about to lose.
pub(super) fn replaced_by_cookies(state: &AppState, req: &HttpRequest) -> Vec<SessionId> {
    match state.origins.is_this_site(req) {
        true => credentials::sessions_of_refresh_cookies(state, req).into_keys().collect(),
        false => Vec::new(),
    }
}
