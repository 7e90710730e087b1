//! Accounts and their events, as `user list` and `user show` print them.

use serde::Serialize;
use serde_json::Value;

use super::listing::{Row, or_dash};
use crate::store::events::EventRow;
use crate::store::users::AccountRow;
use crate::users::administration::Portrait;
use crate::users::login_limiter::Lock;
use crate::views::{EventView, UserView};

/// An account, as its operator sees it.
#[derive(Serialize)]
struct AccountView {
    #[serde(flatten)]
    user: UserView,
    disabled_at: Option<String>,
    last_login_at: Option<String>,
    /// An object.
    claims: Option<Value>,
}

impl From<&AccountRow> for AccountView {
    fn from(row: &AccountRow) -> Self {
        Self {
            user: UserView::from(&row.user),
            disabled_at: row.user.disabled_at.map(|at| at.to_rfc3339()),
            last_login_at: row.last_login_at.map(|at| at.to_rfc3339()),
            claims: row.claims.as_deref().and_then(|claims| serde_json::from_str(claims).ok()),
        }
    }
}

impl Row for AccountRow {
    const HEADINGS: &'static [&'static str] = &["E-MAIL", "NAME", "ROLES", "STATE", "CREATED", "LAST LOG-IN"];

    fn cells(&self) -> Vec<String> {
        let user = &self.user;
        vec![
            user.email.clone(),
            or_dash(user.name.as_deref()),
            or_dash(Some(&user.roles.clone().into_names().join(","))),
            if user.disabled_at.is_some() { "disabled" } else { "enabled" }.to_owned(),
            user.created_at.to_rfc3339(),
            or_dash(self.last_login_at.map(|at| at.to_rfc3339()).as_deref()),
        ]
    }

    fn json(&self) -> impl Serialize {
        AccountView::from(self)
    }
}

/// An event, as an operator sees it.
#[derive(Serialize)]
struct OccurrenceView {
    #[serde(flatten)]
    event: EventView,
    detail: Option<String>,
}

impl From<&EventRow> for OccurrenceView {
    fn from(row: &EventRow) -> Self {
        Self { detail: row.detail.clone(), event: EventView::from(row.clone()) }
    }
}

impl Row for EventRow {
    const HEADINGS: &'static [&'static str] = &["AT", "EVENT", "DETAIL", "ADDRESS", "DEVICE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.at.to_rfc3339(),
            self.kind.clone(),
            or_dash(self.detail.as_deref()),
            or_dash(self.ip_address.as_deref()),
            or_dash(self.device_name.as_deref()),
        ]
    }

    fn json(&self) -> impl Serialize {
        OccurrenceView::from(self)
    }
}

/// What `show --json` prints.
#[derive(Serialize)]
pub struct PortraitView {
    #[serde(flatten)]
    account: AccountView,
    live_sessions: i64,
    locks: Vec<LockView>,
    recent_events: Vec<OccurrenceView>,
}

/// What keeps guesses at a password from an account.
#[derive(Serialize)]
struct LockView {
    /// Null: everywhere.
    ip_address: Option<String>,
    until: String,
}

impl From<&Lock> for LockView {
    fn from(lock: &Lock) -> Self {
        Self { ip_address: lock.ip_address.clone(), until: lock.until.to_rfc3339() }
    }
}

impl From<&Portrait> for PortraitView {
    fn from(portrait: &Portrait) -> Self {
        Self {
            account: AccountView::from(&portrait.account),
            live_sessions: portrait.live_sessions,
            locks: portrait.locks.iter().map(LockView::from).collect(),
            recent_events: portrait.events.iter().map(OccurrenceView::from).collect(),
        }
    }
}
