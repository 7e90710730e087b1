//! Each request is counted, by its route and what came of it.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::{Method, StatusCode};

use crate::http::routes;
use crate::metrics::Metrics;

/// Label of unknown paths and methods, of which clients can send any number.
const OTHER: &str = "other";

static ROUTES: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| routes::TABLES.iter().copied().flatten().map(|route| route.path).collect());

/// `took`: the time since the head of the request was complete.
pub(super) fn count(metrics: &Metrics, response: &ServiceResponse<BoxBody>, route: Option<&str>, took: Duration) {
    let known = route.and_then(|route| ROUTES.get(route).copied()).unwrap_or(OTHER);
    metrics.observe_request(known, name(response.request().method()), response.status().as_u16(), took);
}

/// For an answer that has lost its request, and with it the route.
pub(super) fn count_without_route(metrics: &Metrics, status: StatusCode, took: Duration) {
    metrics.observe_request(OTHER, OTHER, status.as_u16(), took);
}

fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => OTHER,
    }
}
