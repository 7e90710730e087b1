//! Register, log in, refresh, confirm, log out.

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::Api;
use super::account::UserView;
use super::body::Members;
use super::envelope::RequestId;
use crate::guard::{Identity, Principal, access_token};
use crate::passwords::Password;
use crate::problem::{Code, FieldError, Problem};
use crate::sessions::{Admission, SignIn, StartError, TokenPair};
use crate::store::sessions::{Scope, Transport};
use crate::users::{Registration, check_name};

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
    identify(&req, &pair);
    Ok(answer(&api, HttpResponse::Created(), &pair, Some(user)))
}

pub(crate) async fn login(api: web::Data<Api>, req: HttpRequest, mut body: Members) -> Result<HttpResponse, Problem> {
    let (email, password) = (body.required("email")?, Password::new(body.required("password")?));
    let sign_in = sign_in(&api, &req, &mut body)?;
    for _ in 0..ROUNDS {
        let who = api.users.authenticate(&email, password.clone(), api.proxies.client_address(&req)).await?;
        let admission = Admission::Verified { user_id: who.user.id, password_hash: who.password_hash };
        match api.sessions.start(admission, sign_in.clone()).await {
            Err(StartError::Changed) => {}
            Err(error) => return Err(error.into()),
            Ok(pair) => {
                identify(&req, &pair);
                return Ok(answer(&api, HttpResponse::Ok(), &pair, Some(UserView::from(&who.user))));
            }
        }
    }
    Err(StartError::Changed.into())
}

pub(crate) async fn refresh(api: web::Data<Api>, req: HttpRequest, mut body: Members) -> Result<HttpResponse, Problem> {
    let (token, by_cookie) = presented_refresh_token(&api, &req, &mut body)?.ok_or_else(|| {
        Problem::new(Code::InvalidRequest).detail("The member refresh_token is missing.").errors(vec![FieldError {
            field: "refresh_token",
            message: "is required, in the body or as a cookie".into(),
        }])
    })?;
    if by_cookie {
        api.origins.check(&req)?;
    }
    match api.sessions.refresh(&token, api.proxies.device(&req)).await {
        Ok(pair) => {
            identify(&req, &pair);
            if let Some(kind) = pair.untold {
                req.extensions_mut().insert(kind);
            }
            Ok(answer(&api, HttpResponse::Ok(), &pair, None))
        }
        Err(error) => {
            let problem = Problem::from(error);
            if !by_cookie || problem.code() != Code::InvalidGrant {
                return Err(problem);
            }
            // A browser cannot throw its tokens away by itself.
            let id = req.extensions().get::<RequestId>().cloned();
            let mut response = problem.respond(id.as_ref().map(|id| id.0.as_str()));
            api.cookies.clear(&req, &mut response);
            Ok(response)
        }
    }
}

pub(crate) async fn confirm(caller: Principal, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    api.sessions.confirm(caller.bearer()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Whoever wants out gets out: each genuine token presented ends its session, and one that is expired,
/// foreign or of a session already over changes nothing.
pub(crate) async fn logout(api: web::Data<Api>, req: HttpRequest, mut body: Members) -> Result<HttpResponse, Problem> {
    let access = access_token(&req, api.cookies.access_name())?;
    let refresh = presented_refresh_token(&api, &req, &mut body)?;
    if access.is_none() && refresh.is_none() {
        return Err(Code::MissingToken.into());
    }
    let by_cookie = access.as_ref().is_some_and(|access| access.by_cookie) || refresh.as_ref().is_some_and(|(_, c)| *c);
    if by_cookie {
        api.origins.check(&req)?;
    }
    let by_access = access.and_then(|access| api.access.verify(&access.token, api.clock.now()).ok());
    let by_access = by_access.map(|bearer| (bearer.user_id, bearer.session_id));
    let by_refresh = refresh.and_then(|(token, _)| api.sessions.session_of(&token));
    let mut whose = Vec::new();
    for (user_id, session_id) in by_access.into_iter().chain(by_refresh.filter(|other| Some(*other) != by_access)) {
        req.extensions_mut().insert(Identity { user_id, session_id });
        whose.push((user_id, session_id));
    }
    if !whose.is_empty() {
        // In one order everywhere, so that two never wait for each other.
        whose.sort_by_key(|(_, session_id)| *session_id);
        let whose = whose.into_iter().map(|(user_id, session_id)| (user_id, Scope::Only(session_id))).collect();
        api.sessions.revoke_all(whose, "logout", api.proxies.address_text(&req)).await?;
    }
    let mut response = HttpResponse::NoContent().finish();
    api.cookies.clear(&req, &mut response);
    Ok(response)
}

/// The refresh token of a request, and whether it came by cookie. It may be spelt in two ways, and come
/// twice, but not be two.
fn presented_refresh_token(
    api: &Api,
    req: &HttpRequest,
    body: &mut Members,
) -> Result<Option<(String, bool)>, Problem> {
    let spellings = [body.optional("refresh_token")?, body.optional("refreshToken")?];
    let cookie = api.cookies.refresh_token(req).map(|token| (token.to_owned(), true));
    let mut found: Option<(String, bool)> = None;
    for candidate in spellings.into_iter().flatten().map(|token| (token, false)).chain(cookie) {
        match &found {
            None => found = Some(candidate),
            Some((token, _)) if *token == candidate.0 => {}
            Some(_) => {
                return Err(
                    Problem::new(Code::InvalidRequest).detail("The request names two different refresh tokens.")
                );
            }
        }
    }
    Ok(found)
}

fn sign_in(api: &Api, req: &HttpRequest, body: &mut Members) -> Result<SignIn, Problem> {
    let device_name = body.optional("device_name")?;
    let transport = body.optional("transport")?;
    let mut errors = Vec::new();
    if let Err(message) = check_name(device_name.as_deref()) {
        errors.push(FieldError { field: "device_name", message });
    }
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
    Ok(SignIn { device_name, transport, device: api.proxies.device(req), remember: true })
}

fn answer(
    api: &Api,
    mut status: actix_web::HttpResponseBuilder,
    pair: &TokenPair,
    user: Option<UserView>,
) -> HttpResponse {
    let in_body = pair.transport == Transport::Body;
    let mut response = status.json(TokenAnswer {
        token_type: "Bearer",
        access_token: in_body.then_some(pair.access_token.as_str()),
        expires_in: pair.expires_in,
        refresh_token: in_body.then(|| pair.refresh_token.expose()),
        refresh_expires_in: pair.refresh_expires_in,
        session_id: pair.session_id.to_string(),
        user,
    });
    if !in_body {
        api.cookies.set(&mut response, pair);
    }
    response
}

fn identify(req: &HttpRequest, pair: &TokenPair) {
    req.extensions_mut().insert(Identity { user_id: pair.user_id, session_id: pair.session_id });
}
