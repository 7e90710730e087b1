//! Schemas of the fields of requests whose Rust type does not say it all.

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::email::MAX_EMAIL;
use crate::passwords::MAX_CHARACTERS;
use crate::users::MAX_NAME;

/// One line, and not a blank one.
pub(crate) fn name(_: &mut SchemaGenerator) -> Schema {
    let pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
    json_schema!({ "type": ["string", "null"], "maxLength": MAX_NAME, "pattern": pattern })
}

pub(crate) fn new_email(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "idn-email",
        "pattern": r"^[^\s@]+@[^\s@]+\.[^\s@]+$",
        "maxLength": MAX_EMAIL,
        "description": "Compared without case.",
    })
}

pub(crate) fn new_password(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "password",
        "minLength": 8,
        "maxLength": MAX_CHARACTERS,
        "description": "At least 8 characters unless configured otherwise; any Unicode, no composition rules, \
                        but not a common password, the e-mail address or the name.",
    })
}

pub(crate) fn device_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "description": "What the session is called in the list of sessions: whatever the device calls itself. It is cut to \
                        100 characters, and what cannot be shown in one line is dropped.",
    })
}

pub(crate) fn transport(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "enum": ["body", "cookie", null],
        "default": "body",
        "description": "Where this session's tokens are handed out, now and on every refresh.",
    })
}

pub(crate) fn remember(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["boolean", "null"],
        "description": "Whether the session outlives the browser: if not, its cookies have no `Max-Age`, and it ends when it \
                        was not refreshed for `tokens.refresh_short_ttl`.",
    })
}

pub(crate) fn locale(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "description": "The language of the mail (BCP 47); by default as `Accept-Language` says, else English.",
    })
}

pub(crate) fn mail_token(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "description": "What the link in the mail carries." })
}

pub(crate) fn mail_code_email(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "description": "With `code`: where the mail was sent." })
}

pub(crate) fn mail_code(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "description": "Instead of `token`, with `email`: the eight digits in the mail. Spaces and hyphens do not count.",
    })
}

pub(crate) fn contested_password(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "format": "password",
        "description": "Needed where the address was registered more than once before it was proven, and else ignored.",
    })
}
