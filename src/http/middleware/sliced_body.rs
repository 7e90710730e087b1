//! Large bodies go out a slice at a time.

use std::convert::Infallible;

use actix_web::body::{BodySize, BoxBody, MessageBody as _, SizedStream};
use futures_util::stream;

/// A large body a slice at a time: what is given out whole is copied whole, for each client that takes its time.
pub(super) fn in_slices(body: BoxBody) -> BoxBody {
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
