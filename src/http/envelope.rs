//! What every answer goes out in: a request id, the security headers, an error body where there is an
//! error, and one line in the access log. A panic in a handler becomes a 500; the process lives.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody, SizedStream};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, PRAGMA, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpResponse, web};
use futures_util::{FutureExt as _, stream};
use tracing::Instrument as _;
use uuid::Uuid;

use super::connection::Turn;
use super::cross_origin::Readers;
use super::{Api, body, head};
use crate::audit::{Kind, RequestLog};
use crate::guard;
use crate::problem::{Code, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// The policy of whatever has none of its own: nothing but a page for people is a page.
pub(super) const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// The middleware.
pub(crate) async fn envelope<B: MessageBody + 'static>(
    mut req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let began = Instant::now();
    let id = incoming_id(&req).unwrap_or_else(|| Uuid::now_v7().to_string());
    let api = req.app_data::<web::Data<Api>>().cloned();
    let draining = api.as_ref().map(|api| api.draining.clone()).unwrap_or_default();
    draining.count();
    let turn = Turn::of(req.request());
    let _serving = turn.clone().map(Turn::begin);
    let readers = match &api {
        Some(api) if api.origins.any_allowed() => {
            api.origins.reader(req.headers()).map_or(Readers::None, |origin| Readers::Origin(origin.clone()))
        }
        _ => Readers::Unconfigured,
    };
    let api_begun = api.as_ref().is_none_or(|api| api.sessions.has_begun());
    let (address, tls) =
        api.map_or((None, false), |api| (api.proxies.client_address(req.request()), api.proxies.is_tls(req.request())));
    let options = req.method() == Method::OPTIONS;
    req.extensions_mut().insert(Rc::new(RequestLog::new(id.clone())));
    let span = tracing::info_span!("request", id = %id);
    let is_last = || draining.is_set() || turn.as_ref().is_some_and(|turn| turn.is_last());

    let begun = api_begun || !req.path().starts_with("/v1/");
    let checked = if begun { head::check(&req) } else { Err(Code::Unavailable.into()) };
    if let Err(problem) = checked {
        let mut response = problem.respond(Some(&id));
        readers.say(&mut response);
        decorate(&mut response, &id, tls, is_last());
        let response = req.into_response(response);
        span.in_scope(|| log(&response, address, began));
        return Ok(response);
    }
    body::hurry(&mut req, turn.clone());

    // In a block of its own, so that the call itself may panic, too.
    let outcome = AssertUnwindSafe(async { next.call(req).await }).catch_unwind().instrument(span.clone()).await;
    let _inside = span.enter();
    let error = match outcome {
        Ok(Ok(response)) => {
            let mut response = finish(response, &id, options);
            readers.say(response.response_mut());
            decorate(response.response_mut(), &id, tls, is_last());
            log(&response, address, began);
            return Ok(response);
        }
        Ok(Err(error)) => error,
        Err(_panic) => Problem::new(Code::Internal).caused_by(Panicked).into(),
    };
    // No response, and so no request to log the route of: rare enough.
    let problem = problem_of(Some(&error), error.as_response_error().status_code());
    problem.report();
    let mut response = problem.respond(Some(&id));
    readers.say(&mut response);
    decorate(&mut response, &id, tls, is_last());
    tracing::info!(target: "countersign::access", status = response.status().as_u16(), "request");
    Err(InternalError::from_response(problem, response).into())
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked")]
struct Panicked;

/// Gives an error its body, whoever raised it.
fn finish<B: MessageBody + 'static>(response: ServiceResponse<B>, id: &str, options: bool) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let ours = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    if status.is_success() || status.is_informational() || status.is_redirection() {
        return response.map_into_boxed_body().map_body(|_, body| in_slices(body));
    }
    let raised = response.response().error();
    if raised.is_none() && ours {
        return response.map_into_boxed_body();
    }
    let allow = response.headers().get(ALLOW).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if options && status == StatusCode::METHOD_NOT_ALLOWED {
        let mut answer = HttpResponse::NoContent();
        answer.insert_header((ALLOW, allow.unwrap_or_default()));
        return response.into_response(answer.finish());
    }
    let mut problem = problem_of(raised, status);
    if let Some(methods) = allow {
        problem = problem.allow(methods);
    }
    // One that was raised as what it is has been logged.
    if raised.is_none_or(|error| error.as_error::<Problem>().is_none()) {
        problem.report();
    }
    let mut answer = problem.respond(Some(id));
    // Pages of an allowed origin read errors too: what CORS has added stays.
    for (name, value) in response.headers() {
        if name == VARY || name.as_str().starts_with("access-control-") {
            answer.headers_mut().append(name.clone(), value.clone());
        }
    }
    response.into_response(answer)
}

/// A large body a slice at a time: what is given out whole is copied whole, for each client that takes its time.
fn in_slices(body: BoxBody) -> BoxBody {
    const SLICE: usize = 4 * 1024;
    let BodySize::Sized(length) = body.size() else { return body };
    let bytes = match body.try_into_bytes() {
        Ok(bytes) if bytes.len() > SLICE => bytes,
        Ok(small) => return BoxBody::new(small),
        Err(body) => return body,
    };
    let end = bytes.len();
    let slice = move |at: usize| Ok::<_, Infallible>(bytes.slice(at..end.min(at + SLICE)));
    BoxBody::new(SizedStream::new(length, stream::iter((0..end).step_by(SLICE).map(slice))))
}

/// What an error means to the client; the framework's own errors say it by their status alone.
fn problem_of(raised: Option<&actix_web::Error>, status: StatusCode) -> Problem {
    if let Some(problem) = raised.and_then(|error| error.as_error::<Problem>()) {
        return problem.clone();
    }
    let code = match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Code::PayloadTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        status if status.is_client_error() => Code::InvalidRequest,
        _ => Code::Internal,
    };
    Problem::new(code)
}

pub(super) fn decorate(response: &mut HttpResponse, id: &str, tls: bool, last: bool) {
    if last {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    let fixed = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (RESOURCE_POLICY, "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    }
    if tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    // What may be cached says so itself; everything else here is about somebody.
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    }
}

fn log(response: &ServiceResponse<BoxBody>, address: Option<IpAddr>, began: Instant) {
    let request = response.request();
    let notes = guard::request_log(request);
    let identity = notes.as_ref().and_then(|notes| notes.identity());
    let event = notes.as_ref().and_then(|notes| notes.kind()).map(Kind::as_str);
    tracing::info!(
        target: "countersign::access",
        method = request.method().as_str(),
        route = request.match_pattern().as_deref().unwrap_or("(none)"),
        status = response.status().as_u16(),
        micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        user_id = identity.map(|(user, _)| tracing::field::display(user)),
        session_id = identity.map(|(_, session)| tracing::field::display(session)),
        ip_address = address.map(tracing::field::display),
        event,
        "request"
    );
}

fn incoming_id(req: &ServiceRequest) -> Option<String> {
    let id = req.headers().get(REQUEST_ID)?.to_str().ok()?;
    let fine = (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    fine.then(|| id.to_owned())
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
