//! Every error has the body of RFC 9457, whether we or the framework raised it; `OPTIONS` is answered with the methods of the path.

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, VARY};

use crate::problem::{Code, Problem};

/// The media type of pages for people.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// Gives an error its body, and names the methods of a path to `OPTIONS`.
pub(super) fn complete<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
    id: &str,
    options: bool,
) -> ServiceResponse<BoxBody> {
    let status = response.status();
    // A page says in words of its own what is wrong.
    let is_ours = |kind: &HeaderValue| kind == "application/problem+json" || kind == HTML;
    let ours = response.headers().get(CONTENT_TYPE).is_some_and(is_ours);
    if status.is_success() || status.is_informational() || status.is_redirection() {
        return response.map_into_boxed_body();
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
    for value in response.headers().get_all(VARY) {
        answer.headers_mut().append(VARY, value.clone());
    }
    response.into_response(answer)
}

/// What an error means to the client; the framework's own errors say it by their status alone.
pub(super) fn problem_of(raised: Option<&actix_web::Error>, status: StatusCode) -> Problem {
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
