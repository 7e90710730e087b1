//! Bodies that must come in time, whatever reads them.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpMessage as _;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::time::{Sleep, sleep};

use super::connection::{Bounds, ConnectionState};

/// A body that must come in time, whatever reads it.
struct TimedBody {
    payload: Payload,
    connection: Option<Rc<ConnectionState>>,
    late: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// Gives the reader of the request's body, if it has one, no longer than [`Bounds::body`] from now.
pub(crate) fn limit_body_time(req: &mut ServiceRequest, connection: Option<Rc<ConnectionState>>) {
    match req.take_payload() {
        Payload::None => {}
        payload => {
            if let Some(connection) = &connection {
                connection.expects_body();
            }
            let timely = TimedBody { payload, connection, late: None, ended: false };
            req.set_payload(Payload::Stream { payload: Box::pin(timely) });
        }
    }
}

impl Stream for TimedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.payload).poll_next(cx);
        match (&polled, &this.connection) {
            (Poll::Ready(None), _) => this.ended = true,
            (_, Some(connection)) => connection.wants_more(),
            (_, None) => {}
        }
        if polled.is_ready() {
            return polled;
        }
        let bounds = this.connection.as_ref().map_or_else(Bounds::default, |connection| connection.bounds());
        let late = this.late.get_or_insert_with(|| Box::pin(sleep(bounds.body)));
        late.as_mut().poll(cx).map(|()| Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))))
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.end_of_body(self.ended);
        }
    }
}
