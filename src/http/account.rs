//! The caller's own account and sessions.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Api;
use super::body::Members;
use super::error::signed_in;
use crate::guard::{CurrentUser, Principal};
use crate::ids::SessionId;
use crate::passwords::Password;
use crate::problem::{Code, FieldError, Problem};
use crate::store::sessions::{Scope, SessionSummary};
use crate::store::users::{NewUser, UserRow};

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

/// A session, as its user sees it.
#[derive(Serialize)]
pub(crate) struct SessionView {
    id: String,
    device_name: Option<String>,
    user_agent: Option<String>,
    ip_address: Option<String>,
    created_at: String,
    last_used_at: String,
    expires_at: String,
    ends_at: String,
    remember: bool,
    current: bool,
}

impl SessionView {
    pub(crate) fn new(session: SessionSummary, current: bool) -> Self {
        Self {
            id: session.id.to_string(),
            expires_at: session.ends_unless_refreshed().to_rfc3339(),
            ends_at: session.expires_at.to_rfc3339(),
            remember: session.remember,
            device_name: session.device_name,
            user_agent: session.user_agent,
            ip_address: session.ip_address,
            created_at: session.created_at.to_rfc3339(),
            last_used_at: session.last_used_at.to_rfc3339(),
            current,
        }
    }
}

pub(crate) async fn show(caller: CurrentUser) -> HttpResponse {
    HttpResponse::Ok().json(UserView::from(caller.row()))
}

pub(crate) async fn change(
    caller: Principal,
    user: CurrentUser,
    api: web::Data<Api>,
    mut body: Members,
) -> Result<HttpResponse, Problem> {
    body.only(&["name"])?;
    // A member that is absent stays as it is; null takes it away.
    if !body.has("name") {
        return Ok(HttpResponse::Ok().json(UserView::from(user.row())));
    }
    let renamed = api.users.rename(caller.user_id(), body.optional("name")?).await?;
    Ok(HttpResponse::Ok().json(UserView::from(&renamed)))
}

pub(crate) async fn change_password(
    caller: Principal,
    _user: CurrentUser,
    api: web::Data<Api>,
    req: HttpRequest,
    mut body: Members,
) -> Result<HttpResponse, Problem> {
    let current = Password::new(body.required("current_password")?);
    let new = Password::new(body.required("new_password")?);
    let (user, session) = (caller.user_id(), caller.session_id());
    let changed = api.users.change_password(user, session, current, new, api.proxies.client_address(&req));
    changed.await.map_err(signed_in)?;
    Ok(HttpResponse::NoContent().finish())
}

pub(crate) async fn delete(
    caller: Principal,
    _user: CurrentUser,
    api: web::Data<Api>,
    req: HttpRequest,
    mut body: Members,
) -> Result<HttpResponse, Problem> {
    let password = Password::new(body.required("password")?);
    let deleted = api.users.delete(caller.user_id(), password, api.proxies.client_address(&req));
    deleted.await.map_err(signed_in)?;
    let mut response = HttpResponse::NoContent().finish();
    api.cookies.clear(&req, &mut response);
    Ok(response)
}

pub(crate) async fn list_sessions(caller: CurrentUser, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let current = caller.principal().session_id();
    let sessions = api.sessions.list(caller.id()).await?;
    let shown = |session: SessionSummary| {
        let current = session.id == current;
        SessionView::new(session, current)
    };
    let sessions: Vec<_> = sessions.into_iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({ "sessions": sessions })))
}

pub(crate) async fn end_session(
    caller: CurrentUser,
    api: web::Data<Api>,
    req: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let Ok(id) = id.parse::<SessionId>() else { return Err(Code::NotFound.into()) };
    let address = api.proxies.address_text(&req);
    if api.sessions.revoke(caller.id(), Scope::Only(id), "ended_by_user", address).await? == 0 {
        return Err(Code::NotFound.into());
    }
    let mut response = HttpResponse::NoContent().finish();
    if id == caller.principal().session_id() {
        api.cookies.clear(&req, &mut response);
    }
    Ok(response)
}

#[derive(Deserialize)]
pub(crate) struct Which {
    scope: Option<String>,
}

pub(crate) async fn end_sessions(
    caller: CurrentUser,
    api: web::Data<Api>,
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
    let address = api.proxies.address_text(&req);
    let revoked = api.sessions.revoke(caller.id(), scope, "ended_by_user", address).await?;
    let mut response = HttpResponse::Ok().json(json!({ "revoked": revoked }));
    if matches!(scope, Scope::All) {
        api.cookies.clear(&req, &mut response);
    }
    Ok(response)
}
