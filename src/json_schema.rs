//! JSON schemas of what occurs in many bodies, for fields whose Rust type does not say it all.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Any id of ours.
pub fn id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "uuid", "description": "UUID version 7." })
}

/// A time.
pub fn moment(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// A duration, or a number of things.
pub fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0 })
}

/// An address as it is shown.
pub fn email(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "idn-email" })
}

/// A password that is there already.
pub fn password(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "password" })
}
