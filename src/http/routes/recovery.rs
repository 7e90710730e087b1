//! A forgotten password.

use actix_web::http::Method;
use actix_web::http::header::ACCEPT_LANGUAGE;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::http::extract::json_body::JsonBody;
use crate::http::openapi::{BODY, Operation, STORE, empty, requests};
use crate::http::outcomes::count_throttled;
use crate::http::route::Route;
use crate::http::{AppState, State};
use crate::mail::wanted_languages;
use crate::metrics::Throttle;
use crate::passwords::Password;
use crate::problem::{Code, FieldError, Problem};
use crate::users::{Asker, Proof};

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::POST, "/v1/auth/password/forgot", || web::to(forgot), describe_forgot),
    Route::new(Method::POST, "/v1/auth/password/reset", || web::to(reset), describe_reset),
];

/// Whose password is forgotten.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ForgotPasswordRequest {
    email: String,
    #[serde(default)]
    #[schemars(schema_with = "requests::locale")]
    locale: Option<String>,
}

/// What was in the mail, and the new password.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ResetPasswordRequest {
    #[serde(default)]
    #[schemars(schema_with = "requests::mail_token")]
    token: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "requests::mail_code_email")]
    email: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "requests::mail_code")]
    code: Option<String>,
    #[schemars(schema_with = "requests::new_password")]
    new_password: Password,
}

async fn forgot(
    state: State,
    req: HttpRequest,
    body: Result<JsonBody<ForgotPasswordRequest>, Problem>,
) -> Result<HttpResponse, Problem> {
    needs_mail(&state)?;
    let JsonBody(ForgotPasswordRequest { email, locale }) = body?;
    let asked = state.users.forgot_password(&email, &asker(&state, &req, locale.as_deref())).await;
    asked.inspect_err(|error| count_throttled(&state.metrics, Throttle::Mail, error))?;
    Ok(HttpResponse::Accepted().finish())
}

fn describe_forgot() -> Operation {
    Operation::new("Mail", "forgotPassword", "Ask for a mail that sets a new password")
        .about(
            "Answered alike, and as fast, whether or not there is an account. A mail goes out if there is one that is enabled, \
             and had fewer than three within 15 minutes. Not found without `mail.transport`.",
        )
        .takes("ForgotPasswordRequest", true, json!({ "email": "ada@example.com" }))
        .answers("202", empty("A mail is on its way, if there is an account."))
        .fails(BODY)
        .fails(&[Code::NotFound, Code::RateLimited])
        .fails(STORE)
}

async fn reset(
    state: State,
    req: HttpRequest,
    body: Result<JsonBody<ResetPasswordRequest>, Problem>,
) -> Result<HttpResponse, Problem> {
    needs_mail(&state)?;
    let JsonBody(ResetPasswordRequest { token, email, code, new_password }) = body?;
    let proof = proof(token, email, code)?;
    let done = state.users.reset_password(&proof, new_password, &asker(&state, &req, None)).await;
    done.inspect_err(|error| count_throttled(&state.metrics, Throttle::MailCode, error))?;
    Ok(HttpResponse::NoContent().finish())
}

fn describe_reset() -> Operation {
    Operation::new("Mail", "resetPassword", "Set a new password")
        .about(
            "By the token of the mail's link or, with the address, by its code. Every session ends, the address counts as \
             proven, and the owner is told by mail. Sign in afterwards. Not found without `mail.transport`.",
        )
        .takes("ResetPasswordRequest", true, json!({ "token": "…", "new_password": "staple after staple" }))
        .answers("204", empty("Changed."))
        .fails(BODY)
        .fails(&[Code::WrongMailCode, Code::NotFound, Code::ValidationFailed, Code::RateLimited])
        .fails(STORE)
}

/// Whether there is a way to send mail; without one there are no such routes.
pub(super) fn needs_mail(state: &AppState) -> Result<(), Problem> {
    state.users.outbox().map(drop).ok_or_else(|| Code::NotFound.into())
}

/// Who asks, and in which language.
pub(super) fn asker(state: &AppState, req: &HttpRequest, locale: Option<&str>) -> Asker {
    let accepted = req.headers().get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Asker { address: state.proxies.client_address(req), languages: wanted_languages(locale, accepted) }
}

/// What was in the mail: the token, or the code with the address that it was sent to.
pub(super) fn proof(token: Option<String>, email: Option<String>, code: Option<String>) -> Result<Proof, Problem> {
    let missing = |field: &'static str, message: &str| {
        let problem = Problem::new(Code::InvalidRequest).detail(format!("The field {field} is missing."));
        Err(problem.errors(vec![FieldError { field, message: message.to_owned() }]))
    };
    match (token, email, code) {
        (Some(token), ..) => Ok(Proof::Token(token)),
        (None, Some(email), Some(code)) => Ok(Proof::Code { email, code }),
        (None, Some(_), None) => missing("code", "is required with email"),
        (None, None, Some(_)) => missing("email", "is required with code"),
        (None, None, None) => missing("token", "is required, or email and code"),
    }
}
