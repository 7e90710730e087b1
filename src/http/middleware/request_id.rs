//! The name of a request: `X-Request-Id`.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The request's own, if it is one of at most 64 letters, digits and `_.-`, else a new one.
pub(super) fn of(req: &ServiceRequest) -> String {
    let own = req.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_acceptable(id));
    own.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

fn is_acceptable(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Names it in the answer.
pub(super) fn add(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
}
