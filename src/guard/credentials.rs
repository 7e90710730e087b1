//! Where an access token is looked for: the `Authorization` header or the cookie, never the query string.

use std::borrow::Cow;

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, COOKIE};

use crate::problem::{Code, Problem};

/// A token that a request carries; nothing about it has been checked.
pub(crate) struct Presented<'r> {
    /// As it came; never trimmed.
    pub(crate) token: Cow<'r, str>,
    /// The browser added it by itself: another site may have made it do so.
    pub(crate) by_cookie: bool,
}

/// The access token of a request, if it has one (RFC 6750 section 2.1, the scheme in any case).
///
/// # Errors
///
/// 400 for two `Authorization` headers, or for a header and a cookie that differ.
pub(crate) fn access_token<'r>(req: &'r HttpRequest, cookie_name: &str) -> Result<Option<Presented<'r>>, Problem> {
    let header = bearer(req)?;
    let cookie = cookie(req, cookie_name);
    match (header, cookie) {
        (Some(header), Some(cookie)) if header != cookie => {
            Err(Problem::new(Code::InvalidRequest).detail("The Authorization header and the cookie differ."))
        }
        (Some(token), _) => Ok(Some(Presented { token, by_cookie: false })),
        (None, Some(token)) => Ok(Some(Presented { token: token.into(), by_cookie: true })),
        (None, None) => Ok(None),
    }
}

fn bearer(req: &HttpRequest) -> Result<Option<Cow<'_, str>>, Problem> {
    let mut headers = req.headers().get_all(AUTHORIZATION);
    let Some(header) = headers.next() else { return Ok(None) };
    if headers.next().is_some() {
        return Err(Problem::new(Code::InvalidRequest).detail("There is more than one Authorization header."));
    }
    let bytes = header.as_bytes();
    let scheme_end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    let (scheme, rest) = bytes.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    let token_at = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
    let token = rest.split_at(token_at).1;
    Ok(Some(str::from_utf8(token).map_or_else(|_not_text| String::from_utf8_lossy(token), Cow::Borrowed)))
}

/// The first cookie of that name (RFC 6265 section 5.4 puts the most specific first). Other cookies may
/// be as malformed as they like: they are not ours, and must not hide ours.
pub(crate) fn cookie<'r>(req: &'r HttpRequest, name: &str) -> Option<&'r str> {
    req.headers()
        .get_all(COOKIE)
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim_start_matches(' ').split_once('='))
        .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value))
}
