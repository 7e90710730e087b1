//! Where tokens are looked for: the `Authorization` header and cookies, never the query string.
//!
//! Headers are bytes: what others have put into them must not hide what is ours.

use std::borrow::Cow;

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, COOKIE};

use crate::problem::{Code, Problem};

/// How a token in the `Authorization` header is said to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// RFC 6750 section 2.1.
    Bearer,
    /// RFC 9449 section 7.1.
    Dpop,
}

/// A token in the `Authorization` header, as it came and never trimmed; nothing about it has been checked.
pub(crate) struct Authorization<'r> {
    pub(crate) scheme: Scheme,
    pub(crate) token: Cow<'r, str>,
}

/// The token in the `Authorization` header, if there is one. A scheme with nothing behind it is none.
///
/// # Errors
///
/// 400 for two `Authorization` headers.
pub(crate) fn authorization(req: &HttpRequest) -> Result<Option<Authorization<'_>>, Problem> {
    if req.headers().get_all(AUTHORIZATION).nth(1).is_some() {
        return Err(Problem::new(Code::InvalidRequest).detail("There is more than one Authorization header."));
    }
    Ok(authorizations(req).next())
}

/// The tokens of every `Authorization` header, where all of them are wanted.
pub(crate) fn authorizations(req: &HttpRequest) -> impl Iterator<Item = Authorization<'_>> {
    req.headers().get_all(AUTHORIZATION).filter_map(|header| read(header.as_bytes()))
}

/// A scheme, in any case, and what follows it (RFC 9110 section 11.4).
fn read(header: &[u8]) -> Option<Authorization<'_>> {
    let end = header.iter().position(|byte| *byte == b' ')?;
    let (name, rest) = header.split_at(end);
    let scheme = match name {
        name if name.eq_ignore_ascii_case(b"bearer") => Scheme::Bearer,
        name if name.eq_ignore_ascii_case(b"dpop") => Scheme::Dpop,
        _ => return None,
    };
    let start = rest.iter().position(|byte| *byte != b' ')?;
    Some(Authorization { scheme, token: text(rest.split_at(start).1) })
}

/// The most cookies of one name that are looked at. A browser that has been through every setting of a host and its parent
/// domains has a few; each costs the check of a signature.
const MOST_OF_A_NAME: usize = 16;

/// The values of the cookies of that name, at most sixteen, in the order in which they came; empty ones are none. The browser
/// does not say which host and path each was set for.
pub(crate) fn cookies<'r>(req: &'r HttpRequest, name: &'r str) -> impl Iterator<Item = Cow<'r, str>> {
    let headers = req.headers().get_all(COOKIE);
    let pairs = headers.flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    let values = pairs.filter_map(move |pair| {
        let value = pair.trim_ascii_start().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        (!value.is_empty()).then(|| text(value))
    });
    values.take(MOST_OF_A_NAME)
}

/// What is no UTF-8 is no token of ours, but it was presented.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
