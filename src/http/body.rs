//! Request bodies: one JSON object of at most 64 KiB, read member by member, so that what is wrong can
//! be named without quoting a parser.

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use serde_json::{Map, Value};

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
                let chunk = chunk.map_err(|error| Problem::new(Code::InvalidRequest).caused_by(error))?;
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
            match serde_json::from_slice(&body) {
                Ok(Value::Object(members)) => Ok(Self(members)),
                Ok(_) => Err(Problem::new(Code::InvalidRequest).detail("The body must be a JSON object.")),
                Err(_) => Err(Problem::new(Code::InvalidRequest).detail("The body is not JSON.")),
            }
        })
    }
}

/// `application/json`, with whatever parameters, in whatever case.
fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
