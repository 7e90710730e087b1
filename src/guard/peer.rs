//! Who is at the other end of a request's connection.

use actix_web::HttpRequest;

use crate::network::Peer;

/// The server says so of each connection; in an application with a server of its own, the address tells. None, if there is no
/// connection, as in a test.
pub(crate) fn peer(req: &HttpRequest) -> Option<Peer> {
    req.conn_data().copied().or_else(|| req.peer_addr().map(|address| Peer::Address(address.ip())))
}
