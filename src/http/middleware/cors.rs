//! Which pages elsewhere may read answers (CORS): those of exactly the configured origins, with credentials, and never `*`.

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, VARY,
};

use crate::guard::cross_site::Origins;

/// What pages may read besides the body.
const EXPOSED: &str = "retry-after, www-authenticate, x-request-id";

/// The methods that pages may ask with.
const METHODS: &str = "DELETE, GET, HEAD, PATCH, POST";
/// How long browsers may keep the answer to a preflight, in seconds.
const MAX_AGE: &str = "600";
/// What the answer to a preflight depends on.
const VARIES: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

/// Who may read an answer.
pub(crate) enum Readers {
    /// No page elsewhere, whatever is configured.
    Unconfigured,
    /// Not the page that asks, if any does.
    None,
    /// Pages of the origin that asks.
    Origin(HeaderValue),
}

impl Readers {
    /// Of the answer to a request with these headers.
    pub(super) fn of(origins: &Origins, headers: &HeaderMap) -> Self {
        if !origins.any_allowed() {
            return Self::Unconfigured;
        }
        origins.reader(headers).map_or(Self::None, |origin| Self::Origin(origin.clone()))
    }

    /// The answer to a preflight (Fetch, section 4.8). None: the request is none, or comes from a page that may read nothing.
    /// A page may send whatever headers its libraries add, such as `traceparent`: its origin has been checked, and no header
    /// but the documented ones means anything here.
    pub(super) fn answer_preflight(&self, method: &Method, headers: &HeaderMap) -> Option<HttpResponse> {
        let is_preflight = *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight || !matches!(self, Self::Origin(_)) {
            return None;
        }
        let mut answer = HttpResponse::Ok();
        answer.insert_header((ACCESS_CONTROL_ALLOW_METHODS, METHODS));
        answer.insert_header((ACCESS_CONTROL_MAX_AGE, MAX_AGE)).insert_header((VARY, VARIES));
        for names in headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.append_header((ACCESS_CONTROL_ALLOW_HEADERS, names.clone()));
        }
        Some(answer.finish())
    }

    /// Sets the CORS headers of an answer, wherever in the server it was made.
    pub(crate) fn say(&self, response: &mut HttpResponse) {
        let headers = response.headers_mut();
        let names_origin = |value: &HeaderValue| {
            value.as_bytes().split(|byte| *byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"origin"))
        };
        match self {
            Self::Unconfigured => return,
            Self::None => {}
            Self::Origin(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            }
        }
        if !headers.get_all(VARY).any(names_origin) {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}
