//! The head of a request: how large it may be, and what HTTP demands of it that the parser does not check.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{CONTENT_LENGTH, HOST};

use super::body::MAX_BODY;
use crate::problem::{Code, Problem};

/// The largest header field, and the largest target, in bytes: an access token of 8 KiB with room for its scheme.
const MAX_FIELD: usize = 8 * 1024 + 512;
/// The largest head, in bytes: browsers send along the cookies of everything else on the site.
const MAX_HEAD: usize = 32 * 1024;

/// Refuses a request by its head alone, before anybody has looked at what it asks for.
pub(super) fn check(req: &ServiceRequest) -> Result<(), Problem> {
    let target = req.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = req.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let (mut whole, mut largest) = (target, target);
    for field in fields {
        whole += field;
        largest = largest.max(field);
    }
    if largest > MAX_FIELD || whole > MAX_HEAD {
        return Err(Code::HeadersTooLarge.into());
    }
    // RFC 9112 section 3.2. Nothing is ever made of it, but a proxy in front may read it differently.
    if req.headers().get(HOST).is_some_and(|host| !is_host(host.as_bytes())) {
        return Err(Problem::new(Code::InvalidRequest).detail("The Host header does not name a host."));
    }
    if declared_length(req) > MAX_BODY {
        return Err(Code::PayloadTooLarge.into());
    }
    Ok(())
}

/// The characters of RFC 3986 sections 3.2.2 and 3.2.3.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}

fn declared_length(req: &ServiceRequest) -> usize {
    let length = req.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}
