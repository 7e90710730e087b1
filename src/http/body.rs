//! Request bodies: one JSON object of at most 64 KiB, read member by member, so that what is wrong can
//! be named without quoting a parser.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::{fmt, io};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use futures_util::{Stream, StreamExt as _};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokio::time::{Sleep, sleep};

use super::connection::{Bounds, Turn};
use crate::problem::{Code, FieldError, Problem};

/// The largest body, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// The members of a request. A request without a body has none; unknown ones are ignored.
pub(crate) struct Members(Map<String, Value>);

impl Members {
    /// A member that must be there.
    pub(crate) fn required(&mut self, name: &'static str) -> Result<String, Problem> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(Value::Null) | None => Err(bad_member(name, "is required")),
            Some(_) => Err(bad_member(name, "must be a string")),
        }
    }

    /// A member that may be absent or null.
    pub(crate) fn optional(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(bad_member(name, "must be a string")),
        }
    }

    /// A member that may be absent or null.
    pub(crate) fn optional_bool(&mut self, name: &'static str) -> Result<Option<bool>, Problem> {
        match self.0.remove(name) {
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(bad_member(name, "must be true or false")),
        }
    }

    /// A member where it is a text; whatever else it is goes unsaid.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether a member is there, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// A 400 that names a member.
fn bad_member(field: &'static str, what: &str) -> Problem {
    Problem::new(Code::InvalidRequest)
        .detail(format!("The member {field} {what}."))
        .errors(vec![FieldError { field, message: what.to_owned() }])
}

impl FromRequest for Members {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let media_type = req.headers().get(CONTENT_TYPE).map(|value| is_json(value.to_str().unwrap_or_default()));
        let mut payload = payload.take();
        Box::pin(async move {
            if media_type == Some(false) {
                return Err(Code::UnsupportedMediaType.into());
            }
            let mut body = web::BytesMut::new();
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(cut_off)?;
                if body.len() + chunk.len() > MAX_BODY {
                    return Err(Code::PayloadTooLarge.into());
                }
                body.extend_from_slice(&chunk);
            }
            if body.is_empty() {
                return Ok(Self(Map::new()));
            }
            if media_type.is_none() {
                return Err(Code::UnsupportedMediaType.into());
            }
            serde_json::from_slice(&body).map(|Distinct(members)| Self(members)).map_err(|_parser| unreadable(&body))
        })
    }
}

/// An object that names each of its members once. Of two with one name readers take one or the other (RFC 8259 section
/// 4): who checks a request before us must not see another than we do.
struct Distinct(Map<String, Value>);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DistinctVisitor)
    }
}

struct DistinctVisitor;

impl<'de> Visitor<'de> for DistinctVisitor {
    type Value = Distinct;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Distinct, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = access.next_entry()? {
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member is named twice"));
            }
        }
        Ok(Distinct(members))
    }
}

/// What is wrong with a body that is no object of distinct members.
fn unreadable(body: &[u8]) -> Problem {
    Problem::new(Code::InvalidRequest).detail(match serde_json::from_slice(body) {
        Ok(Value::Object(_)) => "The body names a member twice.",
        Ok(_) => "The body must be a JSON object.",
        Err(_) => "The body is not JSON.",
    })
}

fn cut_off(error: PayloadError) -> Problem {
    let problem = Problem::new(Code::InvalidRequest);
    match error {
        PayloadError::Io(late) if late.kind() == io::ErrorKind::TimedOut => {
            problem.detail("The body did not come in time.")
        }
        error => problem.caused_by(error),
    }
}

/// A body that must come in time, whoever reads it.
struct Timely {
    payload: Payload,
    turn: Option<Rc<Turn>>,
    late: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// Gives whoever reads the request's body, if it has one, no longer than [`Bounds::body`] from now.
pub(super) fn hurry(req: &mut ServiceRequest, turn: Option<Rc<Turn>>) {
    match req.take_payload() {
        Payload::None => {}
        payload => {
            if let Some(turn) = &turn {
                turn.expects_body();
            }
            let timely = Timely { payload, turn, late: None, ended: false };
            req.set_payload(Payload::Stream { payload: Box::pin(timely) });
        }
    }
}

impl Stream for Timely {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.payload).poll_next(cx);
        match (&polled, &this.turn) {
            (Poll::Ready(None), _) => this.ended = true,
            (_, Some(turn)) => turn.wants_more(),
            (_, None) => {}
        }
        if polled.is_ready() {
            return polled;
        }
        let bounds = this.turn.as_ref().map_or_else(Bounds::default, |turn| turn.bounds());
        let late = this.late.get_or_insert_with(|| Box::pin(sleep(bounds.body)));
        late.as_mut().poll(cx).map(|()| Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))))
    }
}

impl Drop for Timely {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            turn.end_of_body(self.ended);
        }
    }
}

/// `application/json`, with whatever parameters, in whatever case.
fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
