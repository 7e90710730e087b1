//! Which pages elsewhere may read answers (CORS): those of exactly the configured origins, with credentials, and never `*`.

use actix_cors::Cors;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap,
    HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use actix_web::middleware::Condition;

use crate::guard::cross_site::Origins;

/// What pages may read besides the body.
const EXPOSED: &str = "retry-after, www-authenticate, x-request-id";

/// Answers preflights. A page may send whatever headers its libraries add, such as `traceparent`: which origin it is
/// has been checked, and no header but the documented ones means anything here.
pub(crate) fn cors(allowed_origins: &[String]) -> Condition<Cors> {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE])
        .allow_any_header()
        .expose_headers([HeaderName::from_static("x-request-id"), RETRY_AFTER, WWW_AUTHENTICATE])
        .supports_credentials()
        .max_age(600);
    let cors = allowed_origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin));
    Condition::new(!allowed_origins.is_empty(), cors)
}

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

    /// Says so in an answer, wherever in the server it was made: also before or behind the middleware above, which a
    /// request that is refused by its head does not reach.
    pub(crate) fn say(&self, response: &mut HttpResponse) {
        let headers = response.headers_mut();
        let names_origin = |value: &HeaderValue| {
            value.as_bytes().split(|byte| *byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"origin"))
        };
        match self {
            Self::Unconfigured => return,
            Self::None => {
                // What the middleware says to pages that may read nothing.
                headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
                headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
            }
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
