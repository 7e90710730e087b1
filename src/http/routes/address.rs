//! The address of an account: its proof, its change, and how that is undone.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::recovery::{asker, needs_mail, proof};
use crate::guard::{CurrentUser, Principal};
use crate::http::State;
use crate::http::error::signed_in;
use crate::http::extract::json_body::JsonBody;
use crate::http::openapi::{BODY, CHANGE, Operation, STORE, empty, requests};
use crate::http::outcomes::count_throttled;
use crate::http::route::Route;
use crate::json_schema;
use crate::metrics::Throttle;
use crate::passwords::Password;
use crate::problem::{Code, Problem};
use crate::users::UserError;

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::POST, "/v1/users/me/email/verification", || web::to(ask_for_proof), describe_ask_for_proof),
    Route::new(Method::POST, "/v1/auth/email/verify", || web::to(verify), describe_verify),
    Route::new(Method::POST, "/v1/users/me/email", || web::to(change), describe_change),
    Route::new(Method::POST, "/v1/auth/email/undo", || web::to(undo), describe_undo),
];

/// In which language.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("type" = ["object", "null"]))]
pub(crate) struct LocaleRequest {
    #[serde(default)]
    #[schemars(schema_with = "requests::locale")]
    locale: Option<String>,
}

/// What was in the mail.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct VerifyEmailRequest {
    #[serde(default)]
    #[schemars(schema_with = "requests::mail_token")]
    token: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "requests::mail_code_email")]
    email: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "requests::mail_code")]
    code: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "requests::contested_password")]
    new_password: Option<Password>,
}

/// The address that the account is to have, and its password.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ChangeEmailRequest {
    #[schemars(schema_with = "requests::new_email")]
    email: String,
    #[schemars(schema_with = "json_schema::password")]
    password: Password,
    #[serde(default)]
    #[schemars(schema_with = "requests::locale")]
    locale: Option<String>,
}

/// What was in the mail to the old address.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct UndoEmailChangeRequest {
    /// What the link in the mail carries.
    token: String,
}

async fn ask_for_proof(
    _caller: Principal,
    user: CurrentUser,
    state: State,
    req: HttpRequest,
    JsonBody(body): JsonBody<LocaleRequest>,
) -> Result<HttpResponse, Problem> {
    needs_mail(&state)?;
    let asker = asker(&state, &req, body.locale.as_deref());
    let asked = state.users.ask_for_proof(user.row(), &asker).await;
    asked.inspect_err(|error| count_throttled(&state.metrics, Throttle::Mail, error))?;
    Ok(HttpResponse::Accepted().finish())
}

fn describe_ask_for_proof() -> Operation {
    Operation::new("Mail", "askForProof", "Ask for another mail that proves the caller's address")
        .about("If it is proven already, no mail goes out. Not found without `mail.transport`.")
        .guarded()
        .takes("LocaleRequest", false, json!({ "locale": "en" }))
        .answers("202", empty("A mail is on its way."))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::NotFound, Code::RateLimited])
}

async fn verify(
    state: State,
    req: HttpRequest,
    body: Result<JsonBody<VerifyEmailRequest>, Problem>,
) -> Result<HttpResponse, Problem> {
    needs_mail(&state)?;
    let JsonBody(VerifyEmailRequest { token, email, code, new_password }) = body?;
    let proof = proof(token, email, code)?;
    let done = state.users.prove_email(&proof, new_password, &asker(&state, &req, None)).await;
    done.inspect_err(|error| count_throttled(&state.metrics, Throttle::MailCode, error))?;
    Ok(HttpResponse::NoContent().finish())
}

fn describe_verify() -> Operation {
    Operation::new("Mail", "verifyEmail", "Prove an address")
        .about(
            "By the token of the mail's link or, with the address that it was sent to, by its code. An address that an account \
             is to have takes the place of the present one, whose owner is told how to undo that. Not found without \
             `mail.transport`.",
        )
        .takes("VerifyEmailRequest", true, json!({ "token": "…" }))
        .answers("204", empty("Proven."))
        .fails(BODY)
        .fails(&[Code::WrongMailCode, Code::NotFound, Code::EmailTaken, Code::ValidationFailed, Code::RateLimited])
        .fails(STORE)
}

async fn change(
    caller: Principal,
    _user: CurrentUser,
    state: State,
    req: HttpRequest,
    body: Result<JsonBody<ChangeEmailRequest>, Problem>,
) -> Result<HttpResponse, Problem> {
    needs_mail(&state)?;
    let JsonBody(ChangeEmailRequest { email, password, locale }) = body?;
    let asker = asker(&state, &req, locale.as_deref());
    let asked = state.users.ask_for_change(caller.user_id(), &email, password, &asker).await;
    let refused = |error: &UserError| count_throttled(&state.metrics, Throttle::Mail, error);
    asked.inspect_err(refused).map_err(signed_in)?;
    Ok(HttpResponse::Accepted().finish())
}

fn describe_change() -> Operation {
    let example = json!({ "email": "ada@example.org", "password": "correct horse battery" });
    Operation::new("Mail", "changeEmail", "Ask for another address")
        .about(
            "A mail goes to that address, which takes the present one's place when it is proven. Not found without \
             `mail.transport`.",
        )
        .guarded()
        .takes("ChangeEmailRequest", true, example)
        .answers("202", empty("A mail is on its way to that address."))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::PasswordMismatch, Code::NotFound, Code::ValidationFailed, Code::RateLimited])
}

async fn undo(
    state: State,
    req: HttpRequest,
    body: Result<JsonBody<UndoEmailChangeRequest>, Problem>,
) -> Result<HttpResponse, Problem> {
    needs_mail(&state)?;
    let JsonBody(UndoEmailChangeRequest { token }) = body?;
    let done = state.users.undo_change(&token, &asker(&state, &req, None)).await;
    done.inspect_err(|error| count_throttled(&state.metrics, Throttle::MailCode, error))?;
    Ok(HttpResponse::NoContent().finish())
}

fn describe_undo() -> Operation {
    Operation::new("Mail", "undoEmailChange", "Undo a change of address")
        .about(
            "By the token of the mail to the old address, for seven days. That address is back, every session ends, the \
             password is void, and a mail goes out that sets a new one. Not found without `mail.transport`.",
        )
        .takes("UndoEmailChangeRequest", true, json!({ "token": "…" }))
        .answers("204", empty("Undone."))
        .fails(BODY)
        .fails(&[Code::WrongMailCode, Code::NotFound, Code::EmailTaken, Code::RateLimited])
        .fails(STORE)
}
