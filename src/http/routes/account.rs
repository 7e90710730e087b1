//! The caller's own account.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::recovery::asker;
use crate::guard::{CurrentUser, Principal};
use crate::http::State;
use crate::http::error::signed_in;
use crate::http::extract::json_body::JsonBody;
use crate::http::openapi::{BODY, CHANGE, Operation, READ, body, empty, examples, requests, with_header};
use crate::http::outcomes::count_throttled;
use crate::http::route::Route;
use crate::json_schema;
use crate::metrics::Throttle;
use crate::passwords::Password;
use crate::problem::{Code, Problem};
use crate::users::UserError;
use crate::views::UserView;

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::GET, "/v1/users/me", || web::to(show), describe_show),
    Route::new(Method::PATCH, "/v1/users/me", || web::to(change), describe_change),
    Route::new(Method::DELETE, "/v1/users/me", || web::to(delete), describe_delete),
    Route::new(Method::POST, "/v1/users/me/password", || web::to(change_password), describe_change_password),
];

/// What is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("type" = ["object", "null"]))]
pub(crate) struct ChangeUserRequest {
    /// What the user is called; null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schemars(schema_with = "requests::name")]
    name: Option<Option<String>>,
}

/// The password and the next one.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ChangePasswordRequest {
    #[schemars(schema_with = "json_schema::password")]
    current_password: Password,
    #[schemars(schema_with = "requests::new_password")]
    new_password: Password,
}

/// The password, once more.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct DeleteUserRequest {
    #[schemars(schema_with = "json_schema::password")]
    password: Password,
}

/// A field that is there, be it null.
fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(field).map(Some)
}

async fn show(caller: CurrentUser) -> HttpResponse {
    HttpResponse::Ok().json(UserView::from(caller.row()))
}

fn describe_show() -> Operation {
    Operation::new("Account", "showUser", "Show the caller's account")
        .about("As it is now, not as it was when the access token was issued.")
        .guarded()
        .answers("200", body("The account.", "User", examples::user()))
        .fails(READ)
}

async fn change(
    caller: Principal,
    user: CurrentUser,
    state: State,
    JsonBody(change): JsonBody<ChangeUserRequest>,
) -> Result<HttpResponse, Problem> {
    let Some(name) = change.name else {
        return Ok(HttpResponse::Ok().json(UserView::from(user.row())));
    };
    let renamed = state.users.rename(caller.user_id(), name).await?;
    Ok(HttpResponse::Ok().json(UserView::from(&renamed)))
}

fn describe_change() -> Operation {
    Operation::new("Account", "changeUser", "Change the caller's account")
        .about("A field that is absent stays as it is; null takes the name away. Any other is refused, and named.")
        .guarded()
        .takes("ChangeUserRequest", false, json!({ "name": "Ada" }))
        .answers("200", body("The account as it is now.", "User", examples::user()))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::ValidationFailed])
}

async fn change_password(
    caller: Principal,
    _user: CurrentUser,
    state: State,
    req: HttpRequest,
    JsonBody(passwords): JsonBody<ChangePasswordRequest>,
) -> Result<HttpResponse, Problem> {
    let ChangePasswordRequest { current_password: current, new_password: new } = passwords;
    let (user, session) = (caller.user_id(), caller.session_id());
    let asker = asker(&state, &req, None);
    let changed = state.users.change_password(user, session, (current, new), &asker);
    let refused = |error: &UserError| count_throttled(&state.metrics, Throttle::Password, error);
    changed.await.inspect_err(refused).map_err(signed_in)?;
    Ok(HttpResponse::NoContent().finish())
}

fn describe_change_password() -> Operation {
    let example = json!({ "current_password": "correct horse battery", "new_password": "staple after staple" });
    Operation::new("Account", "changePassword", "Change the caller's password")
        .about("Every other session of the account ends.")
        .guarded()
        .takes("ChangePasswordRequest", true, example)
        .answers("204", empty("Changed."))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::PasswordMismatch, Code::ValidationFailed, Code::RateLimited])
}

async fn delete(
    caller: Principal,
    _user: CurrentUser,
    state: State,
    req: HttpRequest,
    JsonBody(delete): JsonBody<DeleteUserRequest>,
) -> Result<HttpResponse, Problem> {
    let asker = asker(&state, &req, None);
    let deleted = state.users.delete(caller.user_id(), delete.password, &asker);
    let refused = |error: &UserError| count_throttled(&state.metrics, Throttle::Password, error);
    deleted.await.inspect_err(refused).map_err(signed_in)?;
    let mut response = HttpResponse::NoContent().finish();
    state.cookies.clear(&req, &mut response);
    Ok(response)
}

fn describe_delete() -> Operation {
    Operation::new("Account", "deleteUser", "Delete the caller's account")
        .about("Every session of the account ends with it.")
        .guarded()
        .takes("DeleteUserRequest", true, json!({ "password": "correct horse battery" }))
        .answers("204", with_header(empty("Deleted."), "Set-Cookie", "ClearCookie"))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::PasswordMismatch, Code::RateLimited])
}
