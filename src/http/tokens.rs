//! Register, log in, refresh, confirm, log out.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde::Serialize;

use super::account::UserView;
use super::body::Members;
use super::{Api, credentials};
use crate::audit::{OnAccessLine, emit};
use crate::device;
use crate::guard::{self, Principal};
use crate::ids::{SessionId, UserId};
use crate::passwords::Password;
use crate::problem::{Code, FieldError, Problem};
use crate::sessions::{Admission, SignIn, StartError, TokenPair};
use crate::store::StoreError;
use crate::store::sessions::{Scope, Transport};
use crate::users::Registration;

/// How often a log-in whose account changes under it starts over.
const ROUNDS: usize = 3;

/// A pair of tokens, as it is handed out (RFC 6749 section 5.1, and what our clients need besides).
#[derive(Serialize)]
struct TokenAnswer<'a> {
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    refresh_expires_in: u64,
    session_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserView>,
}

pub(crate) async fn register(
    api: web::Data<Api>,
    req: HttpRequest,
    mut body: Members,
) -> Result<HttpResponse, Problem> {
    if !api.registration {
        return Err(Code::NotFound.into());
    }
    let (email, password) = (body.required("email")?, body.required("password")?);
    let name = body.optional("name")?;
    let sign_in = sign_in(&api, &req, &mut body)?;
    let registration = Registration { email, password: Password::new(password), name };
    let new = api.users.prepare(registration, api.proxies.client_address(&req)).await?;
    let user = UserView::from(&new);
    let pair = api.sessions.start(Admission::Newcomer(new), sign_in).await?;
    Ok(signed_in(&api, &req, HttpResponse::Created(), &pair, user).await)
}

pub(crate) async fn login(api: web::Data<Api>, req: HttpRequest, mut body: Members) -> Result<HttpResponse, Problem> {
    let (email, password) = (body.required("email")?, Password::new(body.required("password")?));
    let sign_in = sign_in(&api, &req, &mut body)?;
    for _ in 0..ROUNDS {
        let address = api.proxies.client_address(&req);
        let who = api.users.authenticate(&email, password.clone(), address, guard::signed_in(&req)).await?;
        let admission = Admission::Verified { user_id: who.user.id, password_hash: who.password_hash };
        match api.sessions.start(admission, sign_in.clone()).await {
            Err(StartError::Changed) => {}
            Err(error) => return Err(error.into()),
            Ok(pair) => return Ok(signed_in(&api, &req, HttpResponse::Ok(), &pair, UserView::from(&who.user)).await),
        }
    }
    Err(StartError::Changed.into())
}

pub(crate) async fn refresh(api: web::Data<Api>, req: HttpRequest, mut body: Members) -> Result<HttpResponse, Problem> {
    let (token, by_cookie) = match credentials::body_refresh_token(&mut body)? {
        Some(token) => (token, false),
        None => (credentials::cookie_refresh_token(&api, &req).await?, true),
    };
    match api.sessions.refresh(&token, api.proxies.device(&req)).await {
        Ok(pair) => {
            guard::identify(&req, pair.user_id, pair.session_id);
            if let (Some(event), Some(log)) = (&pair.on_access_line, guard::request_log(&req)) {
                emit(OnAccessLine(&log), event);
            }
            let mut response = answer(HttpResponse::Ok(), &pair, None);
            if pair.transport == Transport::Cookie {
                api.cookies.set(&req, &mut response, &pair);
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
            api.cookies.clear(&req, &mut response);
            Ok(response)
        }
    }
}

pub(crate) async fn confirm(caller: Principal, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    api.sessions.confirm(caller.bearer()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Each genuine token in the request ends its session; one that is foreign or of a session already over changes nothing.
pub(crate) async fn logout(
    api: web::Data<Api>,
    req: HttpRequest,
    body: Result<Members, Problem>,
) -> Result<HttpResponse, Problem> {
    let sessions = credentials::sessions_presented(&api, &req, body)?;
    if let Some((session_id, user_id)) = sessions.last_key_value() {
        guard::identify(&req, *user_id, *session_id);
    }
    end(&api, &req, sessions, "logout").await?;
    let mut response = HttpResponse::NoContent().finish();
    api.cookies.clear_always(&req, &mut response);
    Ok(response)
}

/// Ends sessions: all of them or, where one cannot be ended, none.
async fn end(
    api: &Api,
    req: &HttpRequest,
    sessions: BTreeMap<SessionId, UserId>,
    reason: &'static str,
) -> Result<(), StoreError> {
    // In the order of their ids everywhere, so that two never wait for each other.
    let whose: Vec<_> = sessions.into_iter().map(|(session_id, user_id)| (user_id, Scope::Only(session_id))).collect();
    if !whose.is_empty() {
        api.sessions.revoke_all(whose, reason, api.proxies.address_text(req)).await?;
    }
    Ok(())
}

/// The answer to a log-in. What the browser has of other sessions it is about to lose: they end, and a log-in whose tokens
/// are in the body takes their cookies back. A page of another site brings none of this about.
async fn signed_in(
    api: &Api,
    req: &HttpRequest,
    status: HttpResponseBuilder,
    pair: &TokenPair,
    user: UserView,
) -> HttpResponse {
    guard::identify(req, pair.user_id, pair.session_id);
    let came_with_cookies = api.cookies.tokens(req).next().is_some() && api.origins.is_this_site(req);
    if came_with_cookies {
        let replaced = credentials::sessions_of_refresh_cookies(api, req);
        if let Err(error) = end(api, req, replaced, "replaced").await {
            // The new session is open, and its tokens would be lost with an error.
            tracing::error!(error = error.chain(), "the session that a log-in has replaced could not be ended");
        }
    }
    let mut response = answer(status, pair, Some(user));
    match pair.transport {
        Transport::Cookie => api.cookies.set(req, &mut response, pair),
        Transport::Body if came_with_cookies => api.cookies.clear(req, &mut response),
        Transport::Body => {}
    }
    response
}

fn sign_in(api: &Api, req: &HttpRequest, body: &mut Members) -> Result<SignIn, Problem> {
    let device_name = body.optional("device_name")?.and_then(|name| device::name(&name));
    let transport = body.optional("transport")?;
    let remember = body.optional_bool("remember")?.unwrap_or(true);
    let mut errors = Vec::new();
    let transport = match transport.as_deref() {
        None | Some("body") => Transport::Body,
        Some("cookie") => Transport::Cookie,
        Some(_) => {
            errors.push(FieldError { field: "transport", message: "must be body or cookie".into() });
            Transport::Body
        }
    };
    if !errors.is_empty() {
        return Err(Problem::new(Code::ValidationFailed).errors(errors));
    }
    let replaces = match api.origins.is_this_site(req) {
        true => credentials::sessions_of_refresh_cookies(api, req).into_keys().collect(),
        false => Vec::new(),
    };
    Ok(SignIn { device_name, transport, remember, replaces, device: api.proxies.device(req) })
}

/// A pair, as far as it goes into the body.
fn answer(mut status: HttpResponseBuilder, pair: &TokenPair, user: Option<UserView>) -> HttpResponse {
    let in_body = pair.transport == Transport::Body;
    status.json(TokenAnswer {
        token_type: "Bearer",
        access_token: in_body.then_some(pair.access_token.as_str()),
        expires_in: pair.expires_in,
        refresh_token: in_body.then(|| pair.refresh_token.expose()),
        refresh_expires_in: pair.refresh_expires_in,
        session_id: pair.session_id.to_string(),
        user,
    })
}
