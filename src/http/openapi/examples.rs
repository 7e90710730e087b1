//! What answers look like.

use serde_json::{Value, json};

/// Ids and times of every example.
pub(crate) const REQUEST_ID: &str = "0198e4a2-7c1d-7f60-9d3e-52a1c8f0b6d7";
pub(crate) const SESSION_ID: &str = "0198e4a0-11f3-7a42-8b5c-3f9e7d2a6c14";
const EVENT_ID: &str = "0198e4a0-11f4-7b31-9c6d-0d4e8a7b5f92";
const USER_ID: &str = "0198e4a0-11f2-7c06-a1d8-64b0e9f37a25";
const NOW: &str = "2026-11-23T09:30:00Z";

/// Ada, everywhere.
pub(crate) fn user() -> Value {
    json!({
        "id": USER_ID,
        "email": "ada@example.com",
        "name": "Ada",
        "roles": ["admin"],
        "email_verified": false,
        "created_at": NOW,
        "mfa": false,
    })
}

/// What registering and logging in answers.
pub(crate) fn signed_in() -> Value {
    let mut answer = refreshed();
    if let Some(members) = answer.as_object_mut() {
        members.insert("user".into(), user());
    }
    answer
}

/// What a refresh answers.
pub(crate) fn refreshed() -> Value {
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
pub(crate) fn sessions() -> Value {
    let session = json!({
        "id": SESSION_ID,
        "device_name": "Ada's telephone",
        "user_agent": "Mozilla/5.0",
        "ip_address": "192.0.2.7",
        "created_at": NOW,
        "last_used_at": "2026-11-23T10:00:00Z",
        "expires_at": "2026-12-23T10:00:00Z",
        "ends_at": "2027-02-21T09:30:00Z",
        "remember": true,
        "current": true,
    });
    json!({ "sessions": [session] })
}

/// A page of one event.
pub(crate) fn events() -> Value {
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
pub(crate) fn public_keys() -> Value {
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
