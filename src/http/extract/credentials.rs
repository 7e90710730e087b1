//! Which of the tokens in a request count: the header and the body before cookies, and for a log-out all of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::HttpRequest;

use super::json_body::Members;
use crate::guard::authorizations;
use crate::http::AppState;
use crate::ids::{SessionId, UserId};
use crate::problem::{Code, FieldError, Problem};

/// The two spellings of the member.
const SPELLINGS: [&str; 2] = ["refresh_token", "refreshToken"];

/// The refresh token of the body, as it came. It may be spelt in two ways, and come twice, but not be two; an empty one is
/// none.
///
/// # Errors
///
/// 400 for two different ones, and for a member that is not a string.
pub(crate) fn body_refresh_token(body: &mut Members) -> Result<Option<String>, Problem> {
    let [one, other] = SPELLINGS.map(|name| body.optional(name));
    let [one, other] = [one?, other?].map(|token| token.filter(|token| !token.is_empty()));
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            Err(Problem::new(Code::InvalidRequest).detail("The request names two different refresh tokens."))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// The refresh token that came by cookie, for a request that has none in its body. Of several, the one that counts.
///
/// # Errors
///
/// 400 if there is none, 403 `cross_site`, or no answer of the database, which is asked where there are several only.
pub(crate) async fn cookie_refresh_token(state: &AppState, req: &HttpRequest) -> Result<String, Problem> {
    let mut tokens: Vec<String> = Vec::new();
    for token in state.cookies.refresh_tokens(req) {
        if !tokens.iter().any(|known| *known == token) {
            tokens.push(token.into_owned());
        }
    }
    if tokens.is_empty() {
        return Err(Problem::new(Code::InvalidRequest).detail("The member refresh_token is missing.").errors(vec![
            FieldError { field: "refresh_token", message: "is required, in the body or as a cookie".into() },
        ]));
    }
    state.origins.check(req)?;
    let counts = match tokens.len() {
        1 => 0,
        _ => state.sessions.which_counts(&tokens, state.proxies.address_text(req).as_deref()).await?,
    };
    Ok(tokens.into_iter().nth(counts).unwrap_or_default())
}

/// The sessions that a log-out ends: those of every genuine token in the request, whatever else is in it. What the browser
/// adds by itself counts only if another site cannot have made it do so; a token in the header or the body was put there.
///
/// # Errors
///
/// 401 if nothing was presented at all, or what is wrong with the body if it may have been there; 403 `cross_site` if
/// there is nothing but cookies, and a page of another site may have sent them.
pub(crate) fn sessions_presented(
    state: &AppState,
    req: &HttpRequest,
    body: Result<Members, Problem>,
) -> Result<BTreeMap<SessionId, UserId>, Problem> {
    let mut tokens: Vec<Cow<'_, str>> = authorizations(req).map(|authorization| authorization.token).collect();
    let unreadable = match body {
        Ok(mut body) => {
            let named = SPELLINGS.iter().filter_map(|name| body.text(name));
            tokens.extend(named.filter(|token| !token.is_empty()).map(Cow::from));
            None
        }
        Err(problem) => Some(problem),
    };
    let explicit = !tokens.is_empty();
    let mut by_cookie = state.cookies.tokens(req).peekable();
    if by_cookie.peek().is_some() {
        if !explicit {
            state.origins.check(req)?;
        }
        if state.origins.is_this_site(req) {
            tokens.extend(by_cookie);
        }
    } else if !explicit {
        return Err(unreadable.unwrap_or_else(|| Code::MissingToken.into()));
    }
    Ok(tokens
        .iter()
        .filter_map(|token| state.sessions.session_of(token))
        .map(|(user, session)| (session, user))
        .collect())
}

/// The sessions of the genuine refresh tokens that came by cookie.
pub(crate) fn sessions_of_refresh_cookies(state: &AppState, req: &HttpRequest) -> BTreeMap<SessionId, UserId> {
    let tokens = state.cookies.refresh_tokens(req);
    tokens.filter_map(|token| state.sessions.session_of(&token)).map(|(user, session)| (session, user)).collect()
}
