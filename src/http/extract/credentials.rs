//! Which of the tokens in a request count: the header and the body before cookies, and for a log-out all of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::HttpRequest;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::guard::authorizations;
use crate::http::AppState;
use crate::ids::{SessionId, UserId};
use crate::problem::{Code, FieldError, Problem};

/// A refresh token, unless it comes by cookie.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("type" = ["object", "null"]))]
pub(crate) struct RefreshTokenRequest {
    /// As it was handed out; it is not trimmed. An empty one is none.
    refresh_token: Option<String>,
    /// Another spelling of `refresh_token`; if both are there, they must be equal.
    #[serde(rename = "refreshToken")]
    other_spelling: Option<String>,
}

impl RefreshTokenRequest {
    /// The token, as it came. It may come twice, but not be two; an empty one is none.
    ///
    /// # Errors
    ///
    /// 400 for two different ones.
    pub(crate) fn token(self) -> Result<Option<String>, Problem> {
        let [one, other] =
            [self.refresh_token, self.other_spelling].map(|token| token.filter(|token| !token.is_empty()));
        match (one, other) {
            (Some(one), Some(other)) if one != other => {
                Err(Problem::new(Code::InvalidRequest).detail("The request names two different refresh tokens."))
            }
            (one, other) => Ok(one.or(other)),
        }
    }
}

/// The same where whatever is no token goes unsaid.
#[derive(Deserialize)]
pub(crate) struct LogoutRequest {
    #[serde(default, deserialize_with = "text")]
    refresh_token: Option<String>,
    #[serde(default, rename = "refreshToken", deserialize_with = "text")]
    other_spelling: Option<String>,
}

fn text<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    Ok(String::deserialize(field).ok())
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
        return Err(Problem::new(Code::InvalidRequest).detail("The field refresh_token is missing.").errors(vec![
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
/// there is nothing but cookies, and a page of another site may have sent them; 503 if it cannot be told whose a token is.
pub(crate) fn sessions_presented(
    state: &AppState,
    req: &HttpRequest,
    body: Result<LogoutRequest, Problem>,
) -> Result<BTreeMap<SessionId, UserId>, Problem> {
    let mut tokens: Vec<Cow<'_, str>> = authorizations(req).map(|authorization| authorization.token).collect();
    let unreadable = match body {
        Ok(LogoutRequest { refresh_token, other_spelling }) => {
            let named = refresh_token.into_iter().chain(other_spelling);
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
    // A 204 must mean that the session has ended.
    if tokens.iter().any(|token| state.sessions.cannot_tell(token)) {
        return Err(Code::Unavailable.into());
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
