//! Accounts, sessions and events as their user sees them, in answers and on the command line.

use schemars::JsonSchema;
use serde::Serialize;

use crate::audit::Kind;
use crate::json_schema;
use crate::store::events::EventRow;
use crate::store::sessions::SessionSummary;
use crate::store::users::{NewUser, UserRow};

/// An account, as its user sees it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "User")]
pub struct UserView {
    #[schemars(schema_with = "json_schema::id")]
    id: String,
    #[schemars(schema_with = "json_schema::email")]
    email: String,
    /// What the user is called.
    name: Option<String>,
    roles: Vec<String>,
    email_verified: bool,
    #[schemars(schema_with = "json_schema::moment")]
    created_at: String,
    /// Whether a second factor is asked for at log-in.
    mfa: bool,
}

impl From<&UserRow> for UserView {
    fn from(row: &UserRow) -> Self {
        Self {
            id: row.id.to_string(),
            email: row.email.clone(),
            name: row.name.clone(),
            roles: row.roles.clone().into_names(),
            email_verified: row.email_verified,
            created_at: row.created_at.to_rfc3339(),
            mfa: row.mfa_since.is_some(),
        }
    }
}

impl From<&NewUser> for UserView {
    fn from(new: &NewUser) -> Self {
        Self {
            id: new.id.to_string(),
            email: new.email.clone(),
            name: new.name.clone(),
            roles: new.roles.clone().into_names(),
            email_verified: new.email_verified,
            created_at: new.created_at.to_rfc3339(),
            mfa: false,
        }
    }
}

/// One signed-in device.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Session")]
pub struct SessionView {
    #[schemars(schema_with = "json_schema::id")]
    id: String,
    /// What it was called when it signed in.
    device_name: Option<String>,
    /// What it called itself when it was last used.
    user_agent: Option<String>,
    /// Where it was last used from.
    ip_address: Option<String>,
    #[schemars(schema_with = "json_schema::moment")]
    created_at: String,
    #[schemars(schema_with = "json_schema::moment")]
    last_used_at: String,
    /// When it ends if it is not refreshed again.
    #[schemars(schema_with = "json_schema::moment")]
    expires_at: String,
    /// When it ends in any case.
    #[schemars(schema_with = "json_schema::moment")]
    ends_at: String,
    /// Whether it outlives the browser's own session.
    remember: bool,
    /// Whether it is the session of this very request.
    current: bool,
}

impl SessionView {
    /// `current`: whether it is the session that asks.
    pub fn new(session: SessionSummary, current: bool) -> Self {
        Self {
            id: session.id.to_string(),
            expires_at: session.ends_unless_refreshed().to_rfc3339(),
            ends_at: session.expires_at.to_rfc3339(),
            remember: session.remember,
            device_name: session.device_name,
            user_agent: session.user_agent,
            ip_address: session.ip_address,
            created_at: session.created_at.to_rfc3339(),
            last_used_at: session.last_used_at.to_rfc3339(),
            current,
        }
    }
}

/// Something that has happened to the account.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Event")]
pub struct EventView {
    #[schemars(schema_with = "json_schema::id")]
    id: String,
    #[schemars(extend("enum" = Kind::kept().map(Kind::as_str).collect::<Vec<_>>()))]
    kind: String,
    #[schemars(schema_with = "json_schema::moment")]
    at: String,
    /// From where.
    ip_address: Option<String>,
    /// The name of the session it happened in.
    device_name: Option<String>,
}

impl From<EventRow> for EventView {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id.to_string(),
            kind: row.kind,
            at: row.at.to_rfc3339(),
            ip_address: row.ip_address,
            device_name: row.device_name,
        }
    }
}
