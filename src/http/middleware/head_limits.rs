//! The head of a request: how large it may be, and what HTTP demands of it that the parser does not check.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{CONTENT_LENGTH, HOST};

use crate::http::extract::json_body::MAX_BODY;
use crate::problem::{Code, Problem};

/// The largest value of a header field, and the largest target, in bytes: browsers send along the cookies of everything
/// else on the site, and what they may add up to on one host is in no hand of ours.
const MAX_FIELD: usize = 16 * 1024;
/// The largest head, in bytes.
const MAX_HEAD: usize = 48 * 1024;

/// Refuses a request by its head alone, before what it asks for is looked at.
pub(super) fn check(req: &ServiceRequest) -> Result<(), Problem> {
    let target = req.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let (mut whole, mut largest) = (target, target);
    for (name, value) in req.headers() {
        // With the colon, the space and the end of the line.
        whole += name.as_str().len() + value.len() + 4;
        largest = largest.max(value.len());
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
