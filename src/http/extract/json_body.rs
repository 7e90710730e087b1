//! Request bodies: one JSON object of at most 64 KiB, read into a struct.

use std::{fmt, io};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::fields::read;
use crate::problem::{Code, Problem};

/// The largest body, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// The body of a request. One without a body has no fields, whatever its head says of one.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
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
                return read(Map::new()).map(Self);
            }
            if !supported {
                return Err(refusal());
            }
            let NoDuplicateKeys(fields) = serde_json::from_slice(body).map_err(|_parser| unreadable(body))?;
            read(fields).map(Self)
        })
    }
}

/// An object that names each of its fields once. Of two with one name readers take one or the other (RFC 8259 section
/// 4): who checks a request before us must not see another than we do.
struct NoDuplicateKeys(Map<String, Value>);

impl<'de> Deserialize<'de> for NoDuplicateKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NoDuplicateKeysVisitor)
    }
}

struct NoDuplicateKeysVisitor;

impl<'de> Visitor<'de> for NoDuplicateKeysVisitor {
    type Value = NoDuplicateKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<NoDuplicateKeys, A::Error> {
        let mut fields = Map::new();
        while let Some((name, value)) = access.next_entry()? {
            if fields.insert(name, value).is_some() {
                return Err(de::Error::custom("a field is named twice"));
            }
        }
        Ok(NoDuplicateKeys(fields))
    }
}

/// What is wrong with a body that is no object of distinct fields.
fn unreadable(body: &[u8]) -> Problem {
    Problem::new(Code::InvalidRequest).detail(match serde_json::from_slice(body) {
        Ok(Value::Object(_)) => "The body names a field twice.",
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
