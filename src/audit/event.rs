//! What is worth knowing to an operator, an auditor or an alarm, and never a token, a password or a secret.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::ids::{SessionId, UserId};

/// How long events are kept in the database.
pub const RETENTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An account was made.
    Registered,
    /// A password was right and a session began.
    LoginOk,
    /// A log-in was refused, or a password that a signed-in user must give.
    LoginFailed,
    /// A refresh token was exchanged for the next.
    Rotated,
    /// A duplicate got the same answer again.
    Repeated,
    /// A lost answer was replaced by a different successor.
    Recovered,
    /// A late duplicate got nothing, and nothing was revoked.
    Conflict,
    /// A token that must be stolen, or copied, was presented; the session has ended.
    Reused,
    /// A token from after the database's last backup was presented.
    Behind,
    /// Overlaps were answered to a second address, generation after generation.
    RepeatStreak,
    /// A session was ended by its user or by an operator.
    Revoked,
    /// A session was ended by a newer one: its user had too many.
    Displaced,
    /// A password was replaced.
    PasswordChanged,
    /// An account was closed to log-ins.
    AccountDisabled,
    /// A disabled account was opened again.
    AccountEnabled,
    /// A role was granted or taken away.
    RolesChanged,
    /// An account was given another address.
    EmailChanged,
    /// An address was proven.
    EmailVerified,
    /// A mail was asked for that gives an account another address.
    EmailChangeRequested,
    /// An account was given an address back that it had lost.
    EmailChangeUndone,
    /// A mail could not be sent, and is not tried again.
    MailFailed,
    /// What was counted of wrong passwords at an account was cleared.
    AccountUnlocked,
    /// A second factor was put in force.
    MfaEnabled,
    /// A second factor was removed.
    MfaDisabled,
    /// A recovery code stood in for a code of the second factor, and is used up.
    RecoveryCodeUsed,
    /// What access tokens of an account say besides was changed.
    ClaimsChanged,
    /// An account was removed.
    AccountDeleted,
    /// A request by cookie came from another site.
    CrossSite,
    /// A client has made as many attempts as there are.
    LimitReached,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 29] = [
        Self::Registered,
        Self::LoginOk,
        Self::LoginFailed,
        Self::Rotated,
        Self::Repeated,
        Self::Recovered,
        Self::Conflict,
        Self::Reused,
        Self::Behind,
        Self::RepeatStreak,
        Self::Revoked,
        Self::Displaced,
        Self::PasswordChanged,
        Self::AccountDisabled,
        Self::AccountEnabled,
        Self::RolesChanged,
        Self::EmailChanged,
        Self::EmailVerified,
        Self::EmailChangeRequested,
        Self::EmailChangeUndone,
        Self::MailFailed,
        Self::AccountUnlocked,
        Self::MfaEnabled,
        Self::MfaDisabled,
        Self::RecoveryCodeUsed,
        Self::ClaimsChanged,
        Self::AccountDeleted,
        Self::CrossSite,
        Self::LimitReached,
    ];

    /// The name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::LoginOk => "login_ok",
            Self::LoginFailed => "login_failed",
            Self::Rotated => "rotated",
            Self::Repeated => "repeated",
            Self::Recovered => "recovered",
            Self::Conflict => "conflict",
            Self::Reused => "reused",
            Self::Behind => "behind",
            Self::RepeatStreak => "repeat_streak",
            Self::Revoked => "revoked",
            Self::Displaced => "displaced",
            Self::PasswordChanged => "password_changed",
            Self::AccountDisabled => "account_disabled",
            Self::AccountEnabled => "account_enabled",
            Self::RolesChanged => "roles_changed",
            Self::EmailChanged => "email_changed",
            Self::EmailVerified => "email_verified",
            Self::EmailChangeRequested => "email_change_requested",
            Self::EmailChangeUndone => "email_change_undone",
            Self::MailFailed => "mail_failed",
            Self::AccountUnlocked => "account_unlocked",
            Self::MfaEnabled => "mfa_enabled",
            Self::MfaDisabled => "mfa_disabled",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::ClaimsChanged => "claims_changed",
            Self::AccountDeleted => "account_deleted",
            Self::CrossSite => "cross_site",
            Self::LimitReached => "limit_reached",
        }
    }

    /// Whether it is kept in the database: what its user would want to know of, and nothing that a client can
    /// bring about as often as it likes. A plain refresh adds no row.
    pub fn is_kept(self) -> bool {
        match self {
            Self::Registered
            | Self::LoginOk
            | Self::LoginFailed
            | Self::Recovered
            | Self::Reused
            | Self::Behind
            | Self::RepeatStreak
            | Self::Revoked
            | Self::Displaced
            | Self::PasswordChanged
            | Self::AccountDisabled
            | Self::AccountEnabled
            | Self::RolesChanged
            | Self::EmailChanged
            | Self::EmailVerified
            | Self::EmailChangeRequested
            | Self::EmailChangeUndone
            | Self::MailFailed
            | Self::AccountUnlocked
            | Self::MfaEnabled
            | Self::MfaDisabled
            | Self::RecoveryCodeUsed
            | Self::ClaimsChanged => true,
            Self::Rotated
            | Self::Repeated
            | Self::Conflict
            | Self::AccountDeleted
            | Self::CrossSite
            | Self::LimitReached => false,
        }
    }

    /// Every kind that is kept.
    pub(crate) fn kept() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| kind.is_kept())
    }
}

/// One event, to be made known by [`emit`](super::emit).
#[derive(Clone, Debug)]
pub struct Event {
    kind: Kind,
    user: Option<UserId>,
    session: Option<SessionId>,
    ip_address: Option<String>,
    detail: Option<Cow<'static, str>>,
    count: Option<u64>,
}

impl Event {
    /// An event that nothing more is known about yet.
    pub fn new(kind: Kind) -> Self {
        Self { kind, user: None, session: None, ip_address: None, detail: None, count: None }
    }

    /// The same of another kind.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Whose.
    #[must_use]
    pub fn user(mut self, id: UserId) -> Self {
        self.user = Some(id);
        self
    }

    /// In which session.
    #[must_use]
    pub fn session(mut self, id: SessionId) -> Self {
        self.session = Some(id);
        self
    }

    /// From where.
    #[must_use]
    pub fn ip_address(mut self, address: Option<&str>) -> Self {
        self.ip_address = address.map(str::to_owned);
        self
    }

    /// The subtype or reason, from a fixed list, and the name of a role where one is meant; never what a client said.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// How many.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Whose it is, if it is of a kind that is kept.
    pub fn kept_for(&self) -> Option<UserId> {
        self.user.filter(|_| self.kind.is_kept())
    }

    /// In which session it happened.
    pub fn session_id(&self) -> Option<SessionId> {
        self.session
    }

    /// From where it came.
    pub fn address(&self) -> Option<&str> {
        self.ip_address.as_deref()
    }

    /// What happened.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The subtype or reason.
    pub fn detail_text(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Writes the event's line, under the target `countersign::security`: an error where the operator should look now, a warning
    /// where it may be an attack.
    pub(super) fn log(&self) {
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "countersign::security",
                    event = self.kind.as_str(),
                    user_id = shown(self.user.as_ref()),
                    session_id = shown(self.session.as_ref()),
                    ip_address = self.ip_address.as_deref(),
                    detail = self.detail_text(),
                    count = self.count,
                    "{}",
                    self.kind.as_str()
                )
            };
        }
        match self.kind {
            Kind::Behind => line!(error),
            Kind::Reused
            | Kind::LoginFailed
            | Kind::CrossSite
            | Kind::RepeatStreak
            | Kind::RecoveryCodeUsed
            | Kind::LimitReached
            | Kind::MailFailed => line!(warn),
            Kind::Registered
            | Kind::LoginOk
            | Kind::Rotated
            | Kind::Repeated
            | Kind::Recovered
            | Kind::Conflict
            | Kind::Revoked
            | Kind::Displaced
            | Kind::PasswordChanged
            | Kind::AccountDisabled
            | Kind::AccountEnabled
            | Kind::RolesChanged
            | Kind::EmailChanged
            | Kind::EmailVerified
            | Kind::EmailChangeRequested
            | Kind::EmailChangeUndone
            | Kind::AccountUnlocked
            | Kind::MfaEnabled
            | Kind::MfaDisabled
            | Kind::ClaimsChanged
            | Kind::AccountDeleted => line!(info),
        }
    }
}

fn shown<T: fmt::Display>(value: Option<&T>) -> Option<tracing::field::DisplayValue<&T>> {
    value.map(tracing::field::display)
}
