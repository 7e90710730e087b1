//! Answers: their headers, and the errors, each as the server itself would write it.

use std::collections::BTreeMap;

use actix_web::body::MessageBody as _;
use actix_web::http::header::{ALLOW, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::PUBLIC;
use super::examples::REQUEST_ID;
use super::schemas::reference;
use crate::http::middleware::security_headers::POLICY;
use crate::http::routes::{docs, pages};
use crate::problem::{Code, FieldError, Problem};
use crate::sessions::RefusedBecause;

/// The headers that some errors have and others have not, with the components that describe them.
const OF_ERRORS: [(&str, HeaderName, &str); 3] = [
    ("WWW-Authenticate", WWW_AUTHENTICATE, "Challenge"),
    ("Retry-After", RETRY_AFTER, "RetryAfter"),
    ("Allow", ALLOW, "Allow"),
];

/// What every answer has.
const COMMON: [(&str, &str); 7] = [
    ("X-Request-Id", "RequestId"),
    ("X-Content-Type-Options", "NoSniff"),
    ("X-Frame-Options", "NoFrame"),
    ("Referrer-Policy", "NoReferrer"),
    ("Content-Security-Policy", "Policy"),
    ("Cross-Origin-Resource-Policy", "SameOrigin"),
    ("Strict-Transport-Security", "Tls"),
];

/// An answer with a JSON body.
pub(crate) fn body(description: &str, schema: &str, example: Value) -> Value {
    let content = json!({ "application/json": { "schema": reference("schemas", schema), "example": example } });
    private(json!({ "description": description, "content": content }))
}

/// An answer without a body.
pub(crate) fn empty(description: &str) -> Value {
    private(json!({ "description": description }))
}

/// An answer with a body that any cache may keep for a while.
pub(crate) fn public(description: &str, schema: &str, example: Value) -> Value {
    let mut answer = body(description, schema, example);
    if let Some(headers) = answer.get_mut("headers").and_then(Value::as_object_mut) {
        headers.remove("Pragma");
    }
    with_header(answer, "Cache-Control", "Public")
}

/// A page for people.
pub(crate) fn page(description: &str) -> Value {
    let content = json!({ "text/html; charset=utf-8": { "schema": { "type": "string" } } });
    let answer = json!({ "description": description, "headers": {}, "content": content });
    let headers = COMMON.into_iter().chain([("Content-Security-Policy", "PagePolicy"), ("Cache-Control", "NoCache")]);
    headers.fold(answer, |answer, (name, component)| with_header(answer, name, component))
}

/// A page that a link in a mail leads to.
pub(crate) fn account_page(description: &str) -> Value {
    let content = json!({ "text/html; charset=utf-8": { "schema": { "type": "string" } } });
    let mut answer = private(json!({ "description": description }));
    if let Some(members) = answer.as_object_mut() {
        members.insert("content".into(), content);
    }
    let retry = with_header(answer, "Retry-After", "RetryAfter");
    with_header(retry, "Content-Security-Policy", "AccountPagePolicy")
}

/// An answer about a user, with the headers it has.
fn private(mut answer: Value) -> Value {
    if let Some(members) = answer.as_object_mut() {
        members.insert("headers".into(), json!({}));
    }
    let headers = COMMON.into_iter().chain([("Cache-Control", "NoStore"), ("Pragma", "Pragma")]);
    headers.fold(answer, |answer, (name, component)| with_header(answer, name, component))
}

/// The same answer, with another header.
pub(crate) fn with_header(mut answer: Value, name: &str, component: &str) -> Value {
    if let Some(headers) = answer.get_mut("headers").and_then(Value::as_object_mut) {
        headers.insert(name.to_owned(), reference("headers", component));
    }
    answer
}

/// One answer for each status among the codes, and one for whatever else may go wrong.
pub(crate) fn errors(codes: impl IntoIterator<Item = Code>) -> Map<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        let same = by_status.entry(code.status().as_u16()).or_default();
        if !same.contains(&code) {
            same.push(code);
        }
    }
    let mut answers: Map<_, _> =
        by_status.into_iter().map(|(status, codes)| (status.to_string(), error(status, &codes))).collect();
    answers.insert("default".into(), reference("responses", "Problem"));
    answers
}

fn error(status: u16, codes: &[Code]) -> Value {
    let sentences: Vec<_> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.sentence())).collect();
    let names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    let schema = json!({
        "allOf": [
            reference("schemas", "Problem"),
            { "properties": { "status": { "const": status }, "code": { "enum": names } } },
        ],
    });
    problem(&sentences.join("\n\n"), &schema, codes)
}

/// Any error at all.
pub(super) fn any_problem() -> Value {
    let description = "Any other error: among them `method_not_allowed` with `Allow` for another method, \
                       `payload_too_large` for a longer request, and `internal`.";
    problem(description, &reference("schemas", "Problem"), &Code::ALL)
}

fn problem(description: &str, schema: &Value, codes: &[Code]) -> Value {
    let examples: Map<_, _> =
        codes.iter().map(|code| (example_name(*code), reference("examples", &example_name(*code)))).collect();
    let answer = private(json!({
        "description": description,
        "content": { "application/problem+json": { "schema": schema, "examples": examples } },
    }));
    OF_ERRORS.iter().fold(answer, |answer, (name, header, component)| {
        let has = codes.iter().any(|code| sample(*code).respond(None).headers().contains_key(header));
        if has { with_header(answer, name, component) } else { answer }
    })
}

/// One code may stand for two statuses.
fn example_name(code: Code) -> String {
    format!("{}.{}", code.as_str(), code.status().as_u16())
}

/// Every error as the server writes it.
pub(super) fn problem_examples() -> Map<String, Value> {
    let example = |code: Code| {
        let bytes = sample(code).respond(Some(REQUEST_ID)).into_body().try_into_bytes().unwrap_or_default();
        json!({ "summary": code.sentence(), "value": serde_json::from_slice::<Value>(&bytes).unwrap_or_default() })
    };
    Code::ALL.into_iter().map(|code| (example_name(code), example(code))).collect()
}

fn sample(code: Code) -> Problem {
    let problem = Problem::new(code);
    match code {
        Code::InvalidGrant => problem.reason(RefusedBecause::Revoked.as_str()),
        Code::ValidationFailed => {
            problem.errors(vec![FieldError { field: "email", message: "must be an e-mail address".into() }])
        }
        Code::RateLimited => problem.retry_after(60),
        Code::MfaRequired => problem.member("mfa_token", "fXy….hV1…").member("methods", &["totp", "recovery_code"][..]),
        Code::MethodNotAllowed => problem.allow("GET, HEAD"),
        _ => problem,
    }
}

/// RFC 6750.
pub(crate) fn token_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": "Bearer" })
}

/// A text that is there, where it is there.
pub(crate) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// What a request may carry besides its body and credentials.
pub(super) fn parameters() -> Value {
    json!({
        "RequestId": {
            "name": "X-Request-Id",
            "in": "header",
            "description": "A name for the request, kept in the answer and in the log if it is one of at most 64 letters, \
                            digits and `_.-`; any other is replaced.",
            "schema": { "type": "string" },
        },
    })
}

/// The headers of answers.
pub(super) fn headers() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "RequestId": {
            "description": "The request's own name, or one it was given.",
            "required": true,
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$" },
            "example": REQUEST_ID,
        },
        "NoStore": {
            "description": "No cache may keep this answer.",
            "required": true,
            "schema": { "const": "no-store" },
        },
        "Pragma": {
            "description": "The same, for caches of the last century.",
            "required": true,
            "schema": { "const": "no-cache" },
        },
        "Public": {
            "description": "Any cache may keep this answer for five minutes.",
            "required": true,
            "schema": { "const": PUBLIC },
        },
        "NoCache": {
            "description": "To be asked for anew each time.",
            "required": true,
            "schema": { "const": docs::ALWAYS_ASK },
        },
        "NoSniff": {
            "description": "The media type is as declared.",
            "required": true,
            "schema": { "const": "nosniff" },
        },
        "NoFrame": { "description": "No page may show it in a frame.", "required": true, "schema": { "const": "DENY" } },
        "NoReferrer": {
            "description": "Where it leads to learns nothing.",
            "required": true,
            "schema": { "const": "no-referrer" },
        },
        "Policy": { "description": "It is not a page.", "required": true, "schema": { "const": POLICY } },
        "PagePolicy": {
            "description": "The page loads from and speaks to this server only.",
            "required": true,
            "schema": { "const": docs::POLICY },
        },
        "AccountPagePolicy": {
            "description": "The page loads nothing, and sends its form to this server only.",
            "required": true,
            "schema": { "const": pages::POLICY.as_str() },
        },
        "SameOrigin": {
            "description": "Not to be embedded by other origins; CORS is configured separately.",
            "required": true,
            "schema": { "const": "same-origin" },
        },
        "Tls": {
            "description": "Where the request came over TLS.",
            "schema": { "type": "string" },
            "example": "max-age=31536000",
        },
        "SetCookie": {
            "description": "With transport `cookie`, twice: `accessToken` (`HttpOnly; Secure; SameSite=Lax; Path=/`) and \
                            `refreshToken` (`HttpOnly; Secure; SameSite=Strict; Path=/v1/auth`), without `Max-Age` where \
                            the log-in had `remember` false. Before them come lines with `Max-Age=0` that clear cookies of \
                            the same names for another domain or path. A log-in with transport `body` clears both \
                            cookies if it came with either.",
            "schema": text,
            "example": "refreshToken=eyJ…; HttpOnly; SameSite=Strict; Secure; Path=/v1/auth; Max-Age=2592000",
        },
        "ClearCookie": {
            "description": "Takes back both cookies (`Max-Age=0`), also those for another domain or path: after a log-out \
                            always, elsewhere if the request came with either.",
            "schema": text,
            "example": "accessToken=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0",
        },
        "Challenge": {
            "description": "RFC 6750: without `error` where no access token was presented.",
            "schema": text,
            "example": "Bearer realm=\"countersign\", error=\"invalid_token\"",
        },
        "RetryAfter": {
            "description": "In how many seconds to try again.",
            "schema": { "type": "integer", "minimum": 1 },
            "example": 1,
        },
        "Location": { "description": "Where to.", "required": true, "schema": text, "example": "/docs" },
        "Allow": {
            "description": "With `method_not_allowed`: the methods that the path answers.",
            "schema": text,
            "example": "GET, HEAD",
        },
    })
}
