//! What bodies are made of: derived from the very structs that are read and written, but for a few that no struct is.

use schemars::generate::{Contract, SchemaSettings};
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::http::extract::credentials::RefreshTokenRequest;
use crate::http::routes::{account, address, auth, events, health, recovery, sessions, sign_in, totp};
use crate::problem::Code;
use crate::sessions::RefusedBecause;

/// A reference to a component.
pub(super) fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// Every schema, by name.
pub(super) fn schemas() -> Value {
    let mut requests = generator(Contract::Deserialize);
    for add in [
        add::<sign_in::RegisterRequest>,
        add::<sign_in::LoginRequest>,
        add::<RefreshTokenRequest>,
        add::<account::ChangeUserRequest>,
        add::<account::ChangePasswordRequest>,
        add::<account::DeleteUserRequest>,
        add::<recovery::ForgotPasswordRequest>,
        add::<recovery::ResetPasswordRequest>,
        add::<address::VerifyEmailRequest>,
        add::<address::ChangeEmailRequest>,
        add::<address::UndoEmailChangeRequest>,
        add::<address::LocaleRequest>,
        add::<totp::MfaRequest>,
        add::<totp::BeginTotpRequest>,
        add::<totp::ConfirmTotpRequest>,
        add::<totp::RemoveTotpRequest>,
    ] {
        add(&mut requests);
    }
    let mut answers = generator(Contract::Serialize);
    for add in [
        add::<sign_in::SignedIn<'_>>,
        add::<auth::Refreshed<'_>>,
        add::<totp::Totp>,
        add::<totp::RecoveryCodes>,
        add::<sessions::Sessions>,
        add::<sessions::Revoked>,
        add::<events::Events>,
        add::<health::Live>,
        add::<health::Ready>,
    ] {
        add(&mut answers);
    }
    let by_hand = [
        ("PublicKey", public_key()),
        ("PublicKeys", public_keys()),
        ("Document", openapi_document()),
        ("Problem", problem()),
    ];
    let derived = requests.take_definitions(true).into_iter().chain(answers.take_definitions(true));
    derived.chain(by_hand.map(|(name, schema)| (name.to_owned(), schema))).collect::<Map<_, _>>().into()
}

fn generator(contract: Contract) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.contract = contract;
        settings.definitions_path = "/components/schemas".into();
        // That a field which may be absent has no value then goes without saying.
        settings.transforms.push(Box::new(RecursiveTransform(|schema: &mut Schema| {
            if schema.get("default").is_some_and(Value::is_null) {
                schema.remove("default");
            }
        })));
    });
    settings.into_generator()
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    let _reference = generator.subschema_for::<T>();
}

/// An object of which some fields must be there.
fn object(description: &str, required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "description": description, "required": required, "properties": properties })
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

fn public_keys() -> Value {
    let keys = json!({ "keys": { "type": "array", "items": reference("schemas", "PublicKey") } });
    object("A JSON Web Key Set (RFC 7517); empty under HS256.", &["keys"], keys)
}

fn openapi_document() -> Value {
    let parts = json!({
        "openapi": { "type": "string" },
        "info": { "type": "object" },
        "paths": { "type": "object" },
    });
    object("An OpenAPI document.", &["openapi", "info", "paths"], parts)
}

fn problem() -> Value {
    let mut codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let mut seen = std::collections::HashSet::new();
    codes.retain(|code| seen.insert(*code));
    let item = object(
        "A field of the request that is not acceptable.",
        &["field", "message"],
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
            "mfa_token": { "type": "string", "description": "With `mfa_required`: what the log-in goes on with." },
            "methods": {
                "type": "array",
                "items": { "enum": ["totp", "recovery_code"] },
                "description": "With `mfa_required`: what it can go on with.",
            },
            "errors": { "type": "array", "minItems": 1, "items": item },
            "request_id": { "type": "string", "description": "The same as `X-Request-Id`." },
        }),
    )
}
