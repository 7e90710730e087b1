//! What every request goes through, in this order, and its answer in the other one. It is one middleware whose parts are
//! functions, a file each: a refusal by the head takes the same way out as any answer, and no part allocates a future.

mod access_log;
pub(super) mod cors;
mod head_limits;
mod metrics;
mod panic;
pub(in crate::http) mod problem_body;
mod request_id;
pub(super) mod security_headers;
mod sliced_body;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpResponse};
use tracing::Instrument as _;

use self::cors::Readers;
use super::AppState;
use super::server::{ConnectionState, Draining, limit_body_time};
use crate::audit::RequestLog;
use crate::current::Current;
use crate::metrics::Metrics;
use crate::problem::{Code, Problem};

/// The whole stack.
pub(super) async fn stack<B: MessageBody + 'static>(
    mut req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let exchange = Exchange::begin(&req);
    let _serving = exchange.connection.clone().map(ConnectionState::begin);
    let options = req.method() == Method::OPTIONS;
    req.extensions_mut().insert(Rc::new(RequestLog::new(exchange.id.clone())));
    let span = tracing::info_span!("request", id = %exchange.id);

    if let Err(problem) = exchange.admit(&req) {
        let response = req.into_response(problem.respond(Some(&exchange.id)));
        return Ok(span.in_scope(|| exchange.finish(response)));
    }
    if let Some(answer) = exchange.readers.answer_preflight(req.method(), req.headers()) {
        let response = req.into_response(answer);
        return Ok(span.in_scope(|| exchange.finish(response)));
    }
    limit_body_time(&mut req, exchange.connection.clone());

    let outcome = panic::catch(async { next.call(req).await }).instrument(span.clone()).await;
    let _inside = span.enter();
    match outcome {
        Ok(response) => Ok(exchange.finish(problem_body::complete(response, &exchange.id, options))),
        Err(error) => Err(exchange.fail(&error)),
    }
}

/// What is known of a request before it is answered.
struct Exchange {
    began: Instant,
    id: String,
    address: Option<IpAddr>,
    tls: bool,
    readers: Readers,
    /// Of a socket of ours.
    connection: Option<Rc<ConnectionState>>,
    draining: Draining,
    metrics: Option<Arc<Metrics>>,
    /// Whether it is known which sessions have ended.
    informed: bool,
}

impl Exchange {
    fn begin(req: &ServiceRequest) -> Self {
        let (began, id, connection) = (Instant::now(), request_id::of(req), ConnectionState::of(req.request()));
        let state = req.app_data::<Current<AppState>>().map(Current::peek);
        let exchange = match &state {
            Some(state) => Self {
                began,
                id,
                address: state.proxies.client_address(req.request()),
                tls: state.proxies.is_tls(req.request()),
                readers: Readers::of(&state.origins, req.headers()),
                connection,
                draining: state.draining.clone(),
                metrics: Some(Arc::clone(&state.metrics)),
                informed: state.sessions.has_begun(),
            },
            None => Self {
                began,
                id,
                address: None,
                tls: false,
                readers: Readers::Unconfigured,
                connection,
                draining: Draining::default(),
                metrics: None,
                informed: true,
            },
        };
        exchange.draining.count(req.request());
        exchange
    }

    /// Refuses a request by its head, before its route is known.
    fn admit(&self, req: &ServiceRequest) -> Result<(), Problem> {
        if !self.informed && req.path().starts_with("/v1/") {
            return Err(Code::Unavailable.into());
        }
        head_limits::check(req)
    }

    fn finish(&self, mut response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        let succeeded = !response.status().is_client_error() && !response.status().is_server_error();
        if succeeded {
            response = response.map_body(|_, body| sliced_body::in_slices(body));
        }
        self.add_headers(response.response_mut());
        let (route, took) = (response.request().match_pattern(), self.began.elapsed());
        access_log::write(&response, route.as_deref(), self.address, took);
        if let Some(metrics) = &self.metrics {
            metrics::count(metrics, &response, route.as_deref(), took);
        }
        response
    }

    /// There is no response, and so no request to log the route of: rare enough.
    fn fail(&self, error: &actix_web::Error) -> actix_web::Error {
        let problem = problem_body::problem_of(Some(error), error.as_response_error().status_code());
        problem.report();
        let mut response = problem.respond(Some(&self.id));
        self.add_headers(&mut response);
        tracing::info!(target: "countersign::access", status = response.status().as_u16(), "request");
        if let Some(metrics) = &self.metrics {
            metrics::count_without_route(metrics, response.status(), self.began.elapsed());
        }
        InternalError::from_response(problem, response).into()
    }

    fn add_headers(&self, response: &mut HttpResponse) {
        let is_last = self.draining.is_set() || self.connection.as_ref().is_some_and(|connection| connection.is_last());
        self.readers.say(response);
        add_headers(response, &self.id, self.tls, is_last);
    }
}

/// What every answer has, also one that no request of ours is known of. `last`: nothing more is answered on its connection.
pub(super) fn add_headers(response: &mut HttpResponse, id: &str, tls: bool, last: bool) {
    if last {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    request_id::add(response.headers_mut(), id);
    security_headers::add(response.headers_mut(), tls);
}

#[cfg(test)]
#[path = "middleware_tests.rs"]
mod tests;
