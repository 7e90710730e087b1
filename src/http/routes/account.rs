//! The caller's own account.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;

use crate::guard::{CurrentUser, Principal};
use crate::http::AppState;
use crate::http::error::signed_in;
use crate::http::extract::json_body::Members;
use crate::http::openapi::{BODY, CHANGE, Operation, READ, body, empty, examples, with_header};
use crate::http::route::Route;
use crate::passwords::Password;
use crate::problem::{Code, Problem};
use crate::store::users::{NewUser, UserRow};

pub(super) const ROUTES: &[Route] = &[
    Route { method: Method::GET, path: "/v1/users/me", handler: || web::to(show), operation: describe_show },
    Route { method: Method::PATCH, path: "/v1/users/me", handler: || web::to(change), operation: describe_change },
    Route { method: Method::DELETE, path: "/v1/users/me", handler: || web::to(delete), operation: describe_delete },
    Route {
        method: Method::POST,
        path: "/v1/users/me/password",
        handler: || web::to(change_password),
        operation: describe_change_password,
    },
];

/// An account, as its user sees it.
#[derive(Serialize)]
pub(crate) struct UserView {
    id: String,
    email: String,
    name: Option<String>,
    roles: Vec<String>,
    email_verified: bool,
    created_at: String,
}

impl From<&UserRow> for UserView {
    fn from(row: &UserRow) -> Self {
        Self {
            id: row.id.to_string(),
            email: row.email.clone(),
            name: row.name.clone(),
            roles: row.roles.clone().into_names(),
            email_verified: row.email_verified,
            created_at: row.created_at.to_rfc3339(),
        }
    }
}

impl From<&NewUser> for UserView {
    fn from(new: &NewUser) -> Self {
        Self {
            id: new.id.to_string(),
            email: new.email.clone(),
            name: new.name.clone(),
            roles: new.roles.clone().into_names(),
            email_verified: new.email_verified,
            created_at: new.created_at.to_rfc3339(),
        }
    }
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
    state: web::Data<AppState>,
    mut body: Members,
) -> Result<HttpResponse, Problem> {
    body.only(&["name"])?;
    // A member that is absent stays as it is; null takes it away.
    if !body.has("name") {
        return Ok(HttpResponse::Ok().json(UserView::from(user.row())));
    }
    let renamed = state.users.rename(caller.user_id(), body.optional("name")?).await?;
    Ok(HttpResponse::Ok().json(UserView::from(&renamed)))
}

fn describe_change() -> Operation {
    Operation::new("Account", "changeUser", "Change the caller's account")
        .about("A member that is absent stays as it is; null takes the name away. Any other is refused, and named.")
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
    state: web::Data<AppState>,
    req: HttpRequest,
    mut body: Members,
) -> Result<HttpResponse, Problem> {
    let current = Password::new(body.required("current_password")?);
    let new = Password::new(body.required("new_password")?);
    let (user, session) = (caller.user_id(), caller.session_id());
    let changed = state.users.change_password(user, session, current, new, state.proxies.client_address(&req));
    changed.await.map_err(signed_in)?;
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
    state: web::Data<AppState>,
    req: HttpRequest,
    mut body: Members,
) -> Result<HttpResponse, Problem> {
    let password = Password::new(body.required("password")?);
    let deleted = state.users.delete(caller.user_id(), password, state.proxies.client_address(&req));
    deleted.await.map_err(signed_in)?;
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
