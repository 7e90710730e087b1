//! What requests are made of.

use serde_json::{Map, Value, json};

use super::{name, object, text_or_null, whole};
use crate::email::MAX_EMAIL;
use crate::passwords::MAX_CHARACTERS;

const DEVICE_NAME: &str = "What the session is called in the list of sessions: whatever the device calls itself. It is cut \
                           to 100 characters, and what cannot be shown in one line is dropped.";

/// By name.
pub(super) fn schemas() -> Map<String, Value> {
    let sign_in = |mut properties: Map<String, Value>| {
        properties.insert("device_name".into(), text_or_null(DEVICE_NAME));
        let transport = json!({
            "type": ["string", "null"],
            "enum": ["body", "cookie", null],
            "default": "body",
            "description": "Where this session's tokens are handed out, now and on every refresh.",
        });
        properties.insert("transport".into(), transport);
        let remember = json!({
            "type": ["boolean", "null"],
            "default": true,
            "description": "Whether the session outlives the browser: if not, its cookies have no `Max-Age`, and it ends \
                            when it was not refreshed for `tokens.refresh_short_ttl`.",
        });
        properties.insert("remember".into(), remember);
        properties
    };
    let email = json!({
        "type": "string",
        "format": "idn-email",
        "pattern": r"^[^\s@]+@[^\s@]+\.[^\s@]+$",
        "maxLength": MAX_EMAIL,
        "description": "Compared without case.",
    });
    let members = |members: &[(&str, Value)]| -> Map<String, Value> {
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect()
    };
    let register =
        members(&[("email", email), ("password", new_password()), ("name", name("What the user is called."))]);
    let login = members(&[("email", json!({ "type": "string" })), ("password", password())]);
    let token = text_or_null("As it was handed out; it is not trimmed. An empty one is none.");
    let spelling = text_or_null("Another spelling of `refresh_token`; if both are there, they must be equal.");
    let tokens = members(&[("refresh_token", token), ("refreshToken", spelling)]);
    let passwords = json!({ "current_password": password(), "new_password": new_password() });
    let required = ["email", "password"];
    [
        ("RegisterRequest", object("Somebody new.", &required, sign_in(register).into())),
        ("LoginRequest", object("Somebody known.", &required, sign_in(login).into())),
        ("RefreshTokenRequest", or_null(object("A refresh token, unless it comes by cookie.", &[], tokens.into()))),
        (
            "ChangeUserRequest",
            or_null(closed(object(
                "What is absent stays as it is.",
                &[],
                json!({ "name": name("What the user is called; null takes it away.") }),
            ))),
        ),
        ("ChangePasswordRequest", whole("The password and the next one.", passwords)),
        ("DeleteUserRequest", whole("The password, once more.", json!({ "password": password() }))),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

/// An object that may be left out, which null does too.
fn or_null(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert("type".into(), json!(["object", "null"]));
    }
    object
}

/// An object without any other member.
fn closed(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert("additionalProperties".into(), false.into());
    }
    object
}

fn password() -> Value {
    json!({ "type": "string", "format": "password" })
}

fn new_password() -> Value {
    json!({
        "type": "string",
        "format": "password",
        "minLength": 8,
        "maxLength": MAX_CHARACTERS,
        "description": "At least 8 characters unless configured otherwise; any Unicode, no composition rules, \
                        but not a common password, the e-mail address or the name.",
    })
}
