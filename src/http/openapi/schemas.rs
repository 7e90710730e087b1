//! What bodies are made of: the parts that requests and answers share.

mod answers;
mod requests;

use serde_json::{Value, json};

use crate::users::MAX_NAME;

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

fn moment_when(description: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": description })
}

fn seconds(description: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": description })
}

fn text_or_null(description: &str) -> Value {
    json!({ "type": ["string", "null"], "description": description })
}

/// One line, and not a blank one.
fn name(description: &str) -> Value {
    let pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
    json!({ "type": ["string", "null"], "maxLength": MAX_NAME, "pattern": pattern, "description": description })
}

/// Every schema, by name.
pub(super) fn schemas() -> Value {
    let mut all = requests::schemas();
    all.extend(answers::schemas());
    all.into()
}
