//! Request bodies: one JSON object of at most 64 KiB, read member by member, so that what is wrong can
//! be named without quoting a parser.

use std::{fmt, io};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::problem::{Code, FieldError, Problem};

/// The largest body, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// As many unknown members are named in an answer, each cut to this many characters.
const MOST_NAMED: usize = 100;
const LONGEST_NAMED: usize = 100;

/// The members of a request. A request without a body has none, whatever its head says of one; unknown ones are
/// ignored.
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

    /// Fails if there is a member of another name than these: for requests to change something, where one that is
    /// ignored would look like one that is carried out.
    ///
    /// # Errors
    ///
    /// 422 `validation_failed`, naming each.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let unknown = self.0.keys().filter(|name| !known.contains(&name.as_str()));
        let named: Vec<String> =
            unknown.take(MOST_NAMED).map(|name| name.chars().take(LONGEST_NAMED).collect()).collect();
        if named.is_empty() { Ok(()) } else { Err(Problem::new(Code::ValidationFailed).unchangeable(named)) }
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
        let json = req.headers().get(CONTENT_TYPE).is_some_and(|value| is_json(value.as_bytes()));
        let encoded = req.headers().get_all(CONTENT_ENCODING).any(|value| !is_identity(value.as_bytes()));
        let supported = json && !encoded;
        let refusal = move || {
            let problem = Problem::new(Code::UnsupportedMediaType);
            if encoded { problem.detail("The request body must come without a Content-Encoding.") } else { problem }
        };
        let mut payload = payload.take();
        Box::pin(async move {
            let mut body = web::BytesMut::new();
            let mut next_look = 1;
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(cut_off)?;
                if body.len() + chunk.len() > MAX_BODY {
                    return Err(Code::PayloadTooLarge.into());
                }
                body.extend_from_slice(&chunk);
                // The rest of what is refused anyway need not be waited for. It is not looked at again for each byte.
                if !supported && body.len() >= next_look {
                    if !may_become_nothing(&body) {
                        return Err(refusal());
                    }
                    next_look = body.len() * 2;
                }
            }
            let body = without_margin(&body);
            if body.is_empty() || body == NULL {
                return Ok(Self(Map::new()));
            }
            if !supported {
                return Err(refusal());
            }
            serde_json::from_slice(body).map(|Distinct(members)| Self(members)).map_err(|_parser| unreadable(body))
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

const NULL: &[u8] = b"null";
/// In UTF-8. Some clients put it in front of every text (RFC 8259 section 8.1 lets readers ignore it).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A body without the byte order mark and the white space around it.
fn without_margin(body: &[u8]) -> &[u8] {
    let body = body.trim_ascii();
    body.strip_prefix(BYTE_ORDER_MARK).map_or(body, <[u8]>::trim_ascii)
}

/// Whether a body that begins like this may still turn out to be none.
fn may_become_nothing(beginning: &[u8]) -> bool {
    let beginning = beginning.trim_ascii();
    BYTE_ORDER_MARK.starts_with(beginning) || NULL.starts_with(without_margin(beginning))
}

/// `application/json`, with whatever parameters, in whatever case.
fn is_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// A content coding that is none (RFC 9110 section 8.4.1).
fn is_identity(coding: &[u8]) -> bool {
    coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
}
