//! The caller's second factor, and the second step of a log-in.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::recovery::asker;
use super::sign_in::{replaced_by_cookies, signed_in};
use crate::guard::{CurrentUser, Principal};
use crate::http::State;
use crate::http::error::second_factor_of;
use crate::http::extract::json_body::JsonBody;
use crate::http::openapi::{BODY, CHANGE, Operation, STORE, body, empty, examples, with_header};
use crate::http::outcomes::{count_refused_code, count_refused_step};
use crate::http::route::Route;
use crate::json_schema;
use crate::metrics::LoginOutcome;
use crate::passwords::Password;
use crate::problem::{Code, Problem};
use crate::second_factor::{base32, otpauth_url, qr_svg};
use crate::sign_in::SecondStep;
use crate::users::second_factor::{SecondFactorError, Shown, Typed};
use crate::views::UserView;

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::POST, "/v1/auth/mfa", || web::to(log_in), describe_log_in),
    Route::new(Method::POST, "/v1/users/me/totp", || web::to(begin), describe_begin),
    Route::new(Method::POST, "/v1/users/me/totp/confirm", || web::to(confirm), describe_confirm),
    Route::new(Method::DELETE, "/v1/users/me/totp", || web::to(remove), describe_remove),
];

/// The second step of a log-in: one of `code` and `recovery_code`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct MfaRequest {
    #[schemars(schema_with = "mfa_token")]
    mfa_token: Typed,
    #[serde(default)]
    #[schemars(schema_with = "optional_code")]
    code: Option<Typed>,
    #[serde(default)]
    #[schemars(schema_with = "recovery_code")]
    recovery_code: Option<Typed>,
}

/// The password, once more.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct BeginTotpRequest {
    #[schemars(schema_with = "json_schema::password")]
    password: Password,
}

/// A code of the authenticator.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ConfirmTotpRequest {
    #[schemars(schema_with = "code")]
    code: Typed,
}

/// The password, and one of `code` and `recovery_code`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct RemoveTotpRequest {
    #[schemars(schema_with = "json_schema::password")]
    password: Password,
    #[serde(default)]
    #[schemars(schema_with = "optional_code")]
    code: Option<Typed>,
    #[serde(default)]
    #[schemars(schema_with = "recovery_code")]
    recovery_code: Option<Typed>,
}

/// A second factor that is not in force yet.
#[derive(JsonSchema, Serialize)]
pub(crate) struct Totp {
    /// To be typed into an authenticator: base32 without padding.
    secret: String,
    /// The same, with all that an authenticator needs to know.
    otpauth_url: String,
    /// That as a QR code.
    qr_svg: String,
}

/// What stands in for a code, once each. Not shown again.
#[derive(JsonSchema, Serialize)]
pub(crate) struct RecoveryCodes {
    recovery_codes: Vec<String>,
}

fn code(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "description": "Six digits; spaces are ignored." })
}

fn optional_code(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "description": "Six digits; spaces are ignored." })
}

fn recovery_code(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "description": "In the place of `code`, once. Case, spaces and dashes make no difference.",
    })
}

fn mfa_token(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "description": "As `mfa_required` had it, not more than five minutes ago." })
}

/// What the client shows: exactly one of the two.
fn shown(code: Option<Typed>, recovery_code: Option<Typed>) -> Result<Shown, Problem> {
    match (code, recovery_code) {
        (Some(code), None) => Ok(Shown::Code(code)),
        (None, Some(code)) => Ok(Shown::Recovery(code)),
        (None, None) => {
            Err(Problem::new(Code::InvalidRequest).detail("The member `code` or `recovery_code` is missing."))
        }
        (Some(_), Some(_)) => {
            Err(Problem::new(Code::InvalidRequest).detail("Only one of `code` and `recovery_code` can be used."))
        }
    }
}

async fn log_in(state: State, req: HttpRequest, JsonBody(body): JsonBody<MfaRequest>) -> Result<HttpResponse, Problem> {
    let MfaRequest { mfa_token, code, recovery_code } = body;
    let step = SecondStep {
        mfa_token: mfa_token.into_secret(),
        shown: shown(code, recovery_code)?,
        address: state.proxies.client_address(&req),
        device: state.proxies.device(&req),
        replaces: replaced_by_cookies(&state, &req),
    };
    let entered = state.log_in.with_code(step).await;
    let (pair, user) = entered.inspect_err(|error| count_refused_step(&state.metrics, error))?;
    state.metrics.logins.count(LoginOutcome::Ok);
    Ok(signed_in(&state, &req, HttpResponse::Ok(), &pair, UserView::from(&user)).await)
}

fn describe_log_in() -> Operation {
    let answer = body("Signed in, as the log-in would have been.", "SignedIn", examples::signed_in());
    Operation::new("Tokens", "loginMfa", "Sign in: the second factor")
        .about(
            "What a log-in goes on with that was answered `mfa_required`. Takes one of `code` and `recovery_code`. With \
             `invalid_code` the same `mfa_token` can be tried with another code; with `invalid_credentials` it is too old, \
             or the password has changed, and the log-in begins anew. Five wrong codes within 15 minutes are \
             `rate_limited`.",
        )
        .takes("MfaRequest", true, json!({ "mfa_token": "fXy….hV1…", "code": "287082" }))
        .answers("200", with_header(answer, "Set-Cookie", "SetCookie"))
        .fails(BODY)
        .fails(&[Code::InvalidCredentials, Code::InvalidCode, Code::AccountDisabled, Code::RateLimited])
        .fails(STORE)
}

async fn begin(
    caller: Principal,
    _user: CurrentUser,
    state: State,
    req: HttpRequest,
    JsonBody(body): JsonBody<BeginTotpRequest>,
) -> Result<HttpResponse, Problem> {
    let (address, sealing) = (state.proxies.client_address(&req), state.sealing.get());
    let begun = state.users.begin_second_factor(caller.user_id(), body.password, address, &sealing).await;
    let (secret, email) = begun.map_err(|error| refused(&state, error))?;
    let otpauth_url = otpauth_url(&secret, &state.issuer_name, &email);
    let qr_svg = qr_svg(&otpauth_url).map_err(|error| Problem::new(Code::Internal).caused_by(error))?;
    Ok(HttpResponse::Ok().json(Totp { secret: base32(&secret), otpauth_url, qr_svg }))
}

fn describe_begin() -> Operation {
    let example = json!({
        "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
        "otpauth_url": "otpauth://totp/auth.example.com:ada%40example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP\
                        &issuer=auth.example.com&algorithm=SHA1&digits=6&period=30",
        "qr_svg": "<svg …",
    });
    Operation::new("Account", "beginTotp", "Begin to use a second factor")
        .about(
            "Makes a secret for an authenticator app (RFC 6238). It is asked for at log-in when it has been confirmed; one \
             that was not confirmed gives way to the next.",
        )
        .guarded()
        .takes("BeginTotpRequest", true, json!({ "password": "correct horse battery" }))
        .answers("200", body("To be confirmed with a code.", "Totp", example))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::PasswordMismatch, Code::MfaEnabled, Code::RateLimited])
}

async fn confirm(
    caller: Principal,
    _user: CurrentUser,
    state: State,
    req: HttpRequest,
    JsonBody(body): JsonBody<ConfirmTotpRequest>,
) -> Result<HttpResponse, Problem> {
    let (asker, sealing) = (asker(&state, &req, None), state.sealing.get());
    let whose = (caller.user_id(), caller.session_id());
    let codes = state.users.confirm_second_factor(whose, &body.code, &asker, &sealing).await;
    let codes = codes.map_err(|error| refused(&state, error))?;
    let text = codes.iter().map(|code| String::from_utf8_lossy(code.expose()).into_owned());
    Ok(HttpResponse::Ok().json(RecoveryCodes { recovery_codes: text.collect() }))
}

fn describe_confirm() -> Operation {
    let example = json!({ "recovery_codes": ["0gk2-x7mw-9qva-e3hn", "…"] });
    Operation::new("Account", "confirmTotp", "Put the second factor in force")
        .about("The recovery codes are shown this once. Not found where no second factor waits to be confirmed.")
        .guarded()
        .takes("ConfirmTotpRequest", true, json!({ "code": "287082" }))
        .answers("200", body("In force.", "RecoveryCodes", example))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::CodeMismatch, Code::NotFound, Code::MfaEnabled, Code::RateLimited])
}

async fn remove(
    caller: Principal,
    _user: CurrentUser,
    state: State,
    req: HttpRequest,
    JsonBody(body): JsonBody<RemoveTotpRequest>,
) -> Result<HttpResponse, Problem> {
    let RemoveTotpRequest { password, code, recovery_code } = body;
    let (shown, whose) = (shown(code, recovery_code)?, (caller.user_id(), caller.session_id()));
    let (asker, sealing) = (asker(&state, &req, None), state.sealing.get());
    let removed = state.users.remove_second_factor(whose, password, &shown, &asker, &sealing).await;
    removed.map_err(|error| refused(&state, error))?;
    Ok(HttpResponse::NoContent().finish())
}

fn describe_remove() -> Operation {
    Operation::new("Account", "removeTotp", "Remove the second factor")
        .about("Takes the password, and one of `code` and `recovery_code`. Not found where there is none in force.")
        .guarded()
        .takes("RemoveTotpRequest", true, json!({ "password": "correct horse battery", "code": "287082" }))
        .answers("204", empty("Removed, and the recovery codes with it."))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::PasswordMismatch, Code::CodeMismatch, Code::NotFound, Code::RateLimited])
}

/// Counts a refusal of a signed-in user, and says it.
fn refused(state: &State, error: SecondFactorError) -> Problem {
    count_refused_code(&state.metrics, &error);
    second_factor_of(error)
}
