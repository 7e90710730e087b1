//! What requests and answers are made of, and what they look like.

use serde_json::{Map, Value, json};

use crate::events::Kind;
use crate::passwords::MAX_CHARACTERS;
use crate::problem::Code;
use crate::sessions::RefusedBecause;
use crate::users::{MAX_EMAIL, MAX_NAME};

/// Ids and times of every example.
pub(super) const REQUEST_ID: &str = "0198e4a2-7c1d-7f60-9d3e-52a1c8f0b6d7";
pub(super) const SESSION_ID: &str = "0198e4a0-11f3-7a42-8b5c-3f9e7d2a6c14";
const EVENT_ID: &str = "0198e4a0-11f4-7b31-9c6d-0d4e8a7b5f92";
const USER_ID: &str = "0198e4a0-11f2-7c06-a1d8-64b0e9f37a25";
const NOW: &str = "2026-11-23T09:30:00Z";

/// A reference to a component.
pub(super) fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// An object of which some members must be there.
fn object(description: &str, required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "description": description, "required": required, "properties": properties })
}

/// An object of which every member is there.
fn whole(description: &str, properties: Value) -> Value {
    let mut object = object(description, &[], properties);
    let names: Vec<Value> = object
        .get("properties")
        .and_then(Value::as_object)
        .map(|members| members.keys().cloned().map(Value::from).collect())
        .unwrap_or_default();
    if let Some(required) = object.get_mut("required") {
        *required = names.into();
    }
    object
}

fn id() -> Value {
    json!({ "type": "string", "format": "uuid", "description": "UUID version 7." })
}

fn moment() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn seconds(description: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": description })
}

fn text_or_null(description: &str) -> Value {
    json!({ "type": ["string", "null"], "description": description })
}

fn name(description: &str) -> Value {
    json!({ "type": ["string", "null"], "minLength": 1, "maxLength": MAX_NAME, "description": description })
}

fn password() -> Value {
    json!({ "type": "string", "format": "password" })
}

fn new_password() -> Value {
    json!({
        "type": "string",
        "format": "password",
        "maxLength": MAX_CHARACTERS,
        "description": "At least 8 characters unless configured otherwise; any Unicode, no composition rules, \
                        but not a common password and not the e-mail address.",
    })
}

/// Every schema, by name.
pub(super) fn schemas() -> Value {
    let mut all = requests();
    all.extend(answers());
    all.insert("Problem".into(), problem());
    Value::Object(all)
}

fn requests() -> Map<String, Value> {
    let sign_in = |mut properties: Map<String, Value>| {
        properties.insert("device_name".into(), name("What the session is called in the list of sessions."));
        let transport = json!({
            "type": ["string", "null"],
            "enum": ["body", "cookie", null],
            "default": "body",
            "description": "Where this session's tokens are handed out, now and on every refresh.",
        });
        properties.insert("transport".into(), transport);
        properties
    };
    let email = json!({
        "type": "string", "format": "idn-email", "maxLength": MAX_EMAIL, "description": "Compared without case.",
    });
    let members = |members: &[(&str, Value)]| -> Map<String, Value> {
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect()
    };
    let register =
        members(&[("email", email), ("password", new_password()), ("name", name("What the user is called."))]);
    let login = members(&[("email", json!({ "type": "string" })), ("password", password())]);
    let token = text_or_null("As it was handed out; it is not trimmed.");
    let spelling = text_or_null("Another spelling of `refresh_token`; if both are there, they must be equal.");
    let tokens = members(&[("refresh_token", token), ("refreshToken", spelling)]);
    let passwords = json!({ "current_password": password(), "new_password": new_password() });
    let required = ["email", "password"];
    [
        ("RegisterRequest", object("Somebody new.", &required, sign_in(register).into())),
        ("LoginRequest", object("Somebody known.", &required, sign_in(login).into())),
        ("RefreshTokenRequest", object("A refresh token, unless it comes by cookie.", &[], tokens.into())),
        (
            "ChangeUserRequest",
            object(
                "What is absent stays as it is.",
                &[],
                json!({ "name": name("What the user is called; null takes it away.") }),
            ),
        ),
        ("ChangePasswordRequest", whole("The password and the next one.", passwords)),
        ("DeleteUserRequest", whole("The password, once more.", json!({ "password": password() }))),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn answers() -> Map<String, Value> {
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
            "expires_at": moment(),
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
        ("Sessions", whole("Live sessions, most recently used first.", sessions)),
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
                "enum": RefusedBecause::ALL.map(RefusedBecause::as_str),
                "description": "With `invalid_grant`: why the refresh token cannot be used.",
            },
            "errors": { "type": "array", "minItems": 1, "items": item },
            "request_id": { "type": "string", "description": "The same as `X-Request-Id`." },
        }),
    )
}

/// Ada, everywhere.
pub(super) fn user() -> Value {
    json!({
        "id": USER_ID,
        "email": "ada@example.com",
        "name": "Ada",
        "roles": ["admin"],
        "email_verified": false,
        "created_at": NOW,
    })
}

/// What registering and logging in answers.
pub(super) fn signed_in() -> Value {
    let mut answer = refreshed();
    if let Some(members) = answer.as_object_mut() {
        members.insert("user".into(), user());
    }
    answer
}

/// What a refresh answers.
pub(super) fn refreshed() -> Value {
    json!({
        "token_type": "Bearer",
        "access_token": "eyJ…",
        "expires_in": 900,
        "refresh_token": "eyJ…",
        "refresh_expires_in": 2_592_000,
        "session_id": SESSION_ID,
    })
}

/// A list of one session.
pub(super) fn sessions() -> Value {
    let session = json!({
        "id": SESSION_ID,
        "device_name": "Ada's telephone",
        "user_agent": "Mozilla/5.0",
        "ip_address": "192.0.2.7",
        "created_at": NOW,
        "last_used_at": "2026-11-23T10:00:00Z",
        "expires_at": "2026-12-23T10:00:00Z",
        "current": true,
    });
    json!({ "sessions": [session] })
}

/// A page of one event.
pub(super) fn events() -> Value {
    let event = json!({
        "id": EVENT_ID,
        "kind": "login_ok",
        "at": NOW,
        "ip_address": "192.0.2.7",
        "device_name": "Ada's telephone",
    });
    json!({ "events": [event], "next_cursor": null })
}

/// A set of one key: that of RFC 7517, appendix A.1.
pub(super) fn public_keys() -> Value {
    let key = json!({
        "kty": "EC",
        "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        "use": "sig",
        "kid": "1",
        "alg": "ES256",
    });
    json!({ "keys": [key] })
}
