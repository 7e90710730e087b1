//! What handlers take from a request.

pub(crate) mod client;
pub(crate) mod cookies;
pub(crate) mod credentials;
mod fields;
pub(crate) mod json_body;
