//! One line for each request.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;

use crate::audit::Kind;
use crate::guard;

/// `address`: the client's. `took`: the time since the head of the request was complete.
pub(super) fn write(response: &ServiceResponse<BoxBody>, route: Option<&str>, address: Option<IpAddr>, took: Duration) {
    let request = response.request();
    let notes = guard::request_log(request);
    let identity = notes.as_ref().and_then(|notes| notes.identity());
    let event = notes.as_ref().and_then(|notes| notes.kind()).map(Kind::as_str);
    tracing::info!(
        target: "countersign::access",
        method = request.method().as_str(),
        route = route.unwrap_or("(none)"),
        status = response.status().as_u16(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        user_id = identity.map(|(user, _)| tracing::field::display(user)),
        session_id = identity.map(|(_, session)| tracing::field::display(session)),
        ip_address = address.map(tracing::field::display),
        event,
        "request"
    );
}
