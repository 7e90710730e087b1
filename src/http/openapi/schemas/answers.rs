//! What answers are made of.

use serde_json::{Map, Value, json};

use super::{id, moment, moment_when, object, reference, seconds, text_or_null, whole};
use crate::audit::Kind;
use crate::problem::Code;
use crate::sessions::RefusedBecause;

/// By name.
pub(super) fn schemas() -> Map<String, Value> {
    let user = whole(
        "An account, as its user sees it.",
        json!({
            "id": id(),
            "email": { "type": "string", "format": "idn-email" },
            "name": text_or_null("What the user is called."),
            "roles": { "type": "array", "items": { "type": "string" } },
            "email_verified": { "type": "boolean" },
            "created_at": moment(),
        }),
    );
    let session = whole(
        "One signed-in device.",
        json!({
            "id": id(),
            "device_name": text_or_null("What it was called when it signed in."),
            "user_agent": text_or_null("What it called itself when it was last used."),
            "ip_address": text_or_null("Where it was last used from."),
            "created_at": moment(),
            "last_used_at": moment(),
            "expires_at": moment_when("When it ends if it is not refreshed again."),
            "ends_at": moment_when("When it ends in any case."),
            "remember": { "type": "boolean", "description": "Whether it outlives the browser's own session." },
            "current": { "type": "boolean", "description": "Whether it is the session of this very request." },
        }),
    );
    let kinds: Vec<_> = Kind::kept().map(Kind::as_str).collect();
    let event = whole(
        "Something that has happened to the account.",
        json!({
            "id": id(),
            "kind": { "type": "string", "enum": kinds },
            "at": moment(),
            "ip_address": text_or_null("From where."),
            "device_name": text_or_null("The name of the session it happened in."),
        }),
    );
    let events = json!({
        "events": { "type": "array", "items": reference("schemas", "Event") },
        "next_cursor": text_or_null("Where the next page begins; null on the last one."),
    });
    let sessions = json!({ "sessions": { "type": "array", "items": reference("schemas", "Session") } });
    let revoked = json!({ "revoked": { "type": "integer", "minimum": 0 } });
    let keys = json!({ "keys": { "type": "array", "items": reference("schemas", "PublicKey") } });
    [
        ("SignedIn", token_answer("A new session's first pair of tokens.", true)),
        ("Refreshed", token_answer("The next pair of tokens.", false)),
        ("User", user),
        ("Session", session),
        ("Sessions", whole("Live sessions, most recently used first: the first thousand.", sessions)),
        ("Event", event),
        ("Events", whole("A page of events, newest first.", events)),
        ("Revoked", whole("How many sessions have been ended.", revoked)),
        ("PublicKey", public_key()),
        ("PublicKeys", whole("A JSON Web Key Set (RFC 7517); empty under HS256.", keys)),
        ("Live", whole("The process answers.", json!({ "status": { "const": "live" } }))),
        ("Ready", whole("The process can do its work.", json!({ "status": { "const": "ready" } }))),
        (
            "Document",
            object(
                "An OpenAPI document.",
                &["openapi", "info", "paths"],
                json!({
                    "openapi": { "type": "string" },
                    "info": { "type": "object" },
                    "paths": { "type": "object" },
                }),
            ),
        ),
        ("Problem", problem()),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn token_answer(description: &str, signing_in: bool) -> Value {
    let token =
        |what: &str| json!({ "type": "string", "description": format!("{what}; absent with transport `cookie`.") });
    let mut required = vec!["token_type", "expires_in", "refresh_expires_in", "session_id"];
    let mut answer = json!({
        "token_type": { "const": "Bearer" },
        "access_token": token("Goes into `Authorization: Bearer`"),
        "expires_in": seconds("Until the access token expires."),
        "refresh_token": token("Good for one refresh"),
        "refresh_expires_in": seconds("Until the refresh token just handed out can no longer be used."),
        "session_id": id(),
    });
    if signing_in && let Some(properties) = answer.as_object_mut() {
        required.push("user");
        properties.insert("user".into(), reference("schemas", "User"));
    }
    let mut answer = object(description, &required, answer);
    let together = json!({ "access_token": ["refresh_token"], "refresh_token": ["access_token"] });
    if let Some(schema) = answer.as_object_mut() {
        schema.insert("dependentRequired".into(), together);
    }
    answer
}

fn public_key() -> Value {
    let text = json!({ "type": "string" });
    object(
        "A key that verifies access tokens.",
        &["kty", "kid", "alg", "use"],
        json!({
            "kty": { "enum": ["EC", "OKP", "RSA"] },
            "kid": text,
            "alg": { "enum": ["ES256", "EdDSA", "RS256"] },
            "use": { "const": "sig" },
            "crv": text,
            "x": text,
            "y": text,
            "n": text,
            "e": text,
        }),
    )
}

fn problem() -> Value {
    let mut codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let mut seen = std::collections::HashSet::new();
    codes.retain(|code| seen.insert(*code));
    let item = whole(
        "A member of the request that is not acceptable.",
        json!({ "field": { "type": "string" }, "message": { "type": "string" } }),
    );
    object(
        "An error (RFC 9457).",
        &["type", "title", "status", "detail", "code", "request_id"],
        json!({
            "type": { "type": "string", "format": "uri", "description": "`urn:countersign:problem:` and the code." },
            "title": { "type": "string", "description": "The status in words." },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "A sentence for people. It may change." },
            "code": { "type": "string", "enum": codes, "description": "What went wrong. It is stable." },
            "reason": {
                "type": "string",
                "enum": RefusedBecause::ALL.map(RefusedBecause::as_str).into_iter().chain(["blocklisted"]).collect::<Vec<_>>(),
                "description": "With `invalid_grant`: why the refresh token cannot be used. With `validation_failed`: \
                                `blocklisted`, where a password is too easily guessed.",
            },
            "errors": { "type": "array", "minItems": 1, "items": item },
            "request_id": { "type": "string", "description": "The same as `X-Request-Id`." },
        }),
    )
}
