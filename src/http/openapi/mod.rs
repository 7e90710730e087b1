//! The OpenAPI 3.1 document of every route, put together from what the code itself says: errors come from
//! [`Code`], bounds from where they are checked. `tests/openapi/main.rs` holds the document to the server.

pub(super) mod answers;
pub(super) mod examples;
mod operation;
pub(super) mod requests;
mod schemas;

use std::sync::LazyLock;

use actix_web::web::Bytes;
use serde_json::{Map, Value, json};

pub(super) use self::answers::{account_page, body, empty, errors, page, public, with_header};
pub(super) use self::operation::{BODY, CHANGE, Operation, READ, STORE};
use self::schemas::reference;
use super::route::paths;
use super::routes;

/// Where the document is.
pub(super) const PATH: &str = "/openapi.json";
/// What any cache may keep for a while.
pub(super) const PUBLIC: &str = "public, max-age=300";

const ABOUT: &str = "\
Signs users in and hands out pairs of tokens: a short-lived access token, which other services verify by \
the public keys of `/.well-known/jwks.json`, and a refresh token, which is used once and exchanged for the next pair.

Requests and answers are JSON in UTF-8. Times are RFC 3339 in UTC, durations whole seconds, ids UUIDs. Unknown \
request fields are ignored. Whatever is answered to GET is answered to HEAD, without the body; OPTIONS names the \
methods of a path in `Allow`.

Every error is an RFC 9457 problem whose `code` is stable. A request body may have at most 64 KiB.

Every answer has an `X-Request-Id` (the request's own, if it has one of at most 64 letters, digits and `_.-`) and the \
usual security headers. What is not said to be public has `Cache-Control: no-store`.

An unsafe method authenticated by cookie is refused with `cross_site` if a page of another site made the request. \
Pages of the origins that are configured as allowed get the `Access-Control` headers they need, and no others.";

/// The document, compact: it is the same for as long as the process lives.
static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// The document as text.
pub(super) fn text() -> Bytes {
    TEXT.clone()
}

/// The document.
pub(crate) fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Countersign",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A self-hosted token server.",
            "description": ABOUT,
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/", "description": "This server." }],
        "tags": [
            { "name": "Tokens", "description": "Register, sign in, stay signed in, sign out." },
            { "name": "Sessions", "description": "The devices a user is signed in on." },
            { "name": "Account", "description": "The caller's own account." },
            { "name": "Mail", "description": "A forgotten password, and the proof of an address." },
            { "name": "Machines", "description": "Keys, health, this description." },
        ],
        "paths": described_paths(),
        "components": {
            "schemas": schemas::schemas(),
            "parameters": answers::parameters(),
            "headers": answers::headers(),
            "responses": { "Problem": answers::any_problem() },
            "examples": answers::problem_examples(),
            "securitySchemes": security_schemes(),
        },
    })
}

/// What each route says of itself.
fn described_paths() -> Map<String, Value> {
    let described = paths(routes::TABLES).into_iter().map(|path| {
        let operations = path.routes.iter();
        let mut item: Map<_, _> =
            operations.map(|route| (route.method.as_str().to_ascii_lowercase(), (route.operation)().build())).collect();
        item.insert("parameters".into(), json!([reference("parameters", "RequestId")]));
        (path.path.to_owned(), item.into())
    });
    described.collect()
}

/// Cookie names are configurable; these are the built-in ones.
fn security_schemes() -> Value {
    json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The access token (RFC 9068) in `Authorization`, the scheme in any case; never in the query \
                            string. Together with an `accessToken` cookie of another value: 400.",
        },
        "accessCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "accessToken",
            "description": "The access token of a session whose transport is `cookie`. The name is configurable.",
        },
        "refreshCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "refreshToken",
            "description": "The refresh token of a session whose transport is `cookie`; sent to `/v1/auth` only. \
                            The name is configurable.",
        },
    })
}
