//! How a problem is answered: status, headers, body.

use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, HttpResponseBuilder};
use actix_web_httpauth::headers::www_authenticate::WwwAuthenticate;
use serde::Serialize;
use serde_json::{Map, Value};

use super::challenge::Challenge;
use super::{Code, More, Problem};

/// The realm named in every Bearer challenge.
const REALM: &str = "countersign";

/// The body, in the order in which people read it.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct FieldLine<'a> {
    field: &'a str,
    message: &'a str,
}

impl Problem {
    /// The whole answer, naming the request it belongs to.
    pub(crate) fn respond(&self, request_id: Option<&str>) -> HttpResponse {
        let (code, status, sentence) = self.code.row();
        let nothing = More::default();
        let more = self.more.as_deref().unwrap_or(&nothing);
        let known = more.errors.iter().map(|error| FieldLine { field: error.field, message: &error.message });
        let unknown = more.unknown.iter().map(|field| FieldLine { field, message: "cannot be changed here" });
        let body = Body {
            r#type: format!("urn:countersign:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: more.detail.as_deref().unwrap_or(sentence),
            code,
            reason: more.reason,
            errors: known.chain(unknown).collect(),
            request_id,
            members: &more.members.0,
        };
        let mut response = HttpResponseBuilder::new(status);
        if let Some(challenge) = self.challenge() {
            response.insert_header(WwwAuthenticate(challenge));
        }
        let soon = matches!(self.code, Code::RefreshConflict | Code::Unavailable).then_some(1);
        if let Some(seconds) = more.retry_after.or(soon) {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if let Some(methods) = &more.allow {
            response.insert_header((ALLOW, methods.as_str()));
        }
        let body = serde_json::to_string(&body).unwrap_or_default();
        response.insert_header((CONTENT_TYPE, "application/problem+json")).body(body)
    }

    /// The challenge of RFC 6750 section 3: without `error` where no token was presented.
    fn challenge(&self) -> Option<Challenge> {
        let bare = Challenge::new("Bearer").with("realm", REALM);
        match self.code {
            Code::MissingToken | Code::InvalidCredentials | Code::MfaRequired | Code::InvalidCode => Some(bare),
            Code::InsufficientAuthentication => {
                let challenge = bare.with("error", "insufficient_user_authentication");
                let max_age = self.more.as_ref().and_then(|more| more.max_age);
                Some(match max_age {
                    Some(seconds) => challenge.with("max_age", seconds.to_string()),
                    None => challenge,
                })
            }
            Code::InvalidToken => Some(bare.with("error", "invalid_token")),
            Code::InsufficientRole => Some(bare.with("error", "insufficient_scope")),
            _ => None,
        }
    }
}
