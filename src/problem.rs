//! What goes wrong, as clients see it: one table from code to status, one body (RFC 9457).
//!
//! A [`Problem`] has two sides. `code`, `detail`, `reason` and `errors` are written for the client;
//! the cause is written for the log and never leaves the process. Handlers and guards return a
//! `Problem`; services have error types of their own, turned into one in `http::error`.

mod answer;
mod challenge;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value};

/// The stable name of a kind of error: the `code` member of every error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// Unreadable or incomplete request.
    InvalidRequest,
    /// A refresh token that cannot be used; `reason` says why.
    InvalidGrant,
    /// A code or token from a mail that is wrong, used or expired.
    WrongMailCode,
    /// E-mail address or password wrong, where the caller is not signed in.
    InvalidCredentials,
    /// Password wrong, where the caller is signed in already.
    PasswordMismatch,
    /// Right password; the log-in goes on with a code of the second factor.
    MfaRequired,
    /// A wrong or used code of the second factor, where the caller is not signed in.
    InvalidCode,
    /// The same, where the caller is signed in already.
    CodeMismatch,
    /// The second factor is in force already.
    MfaEnabled,
    /// The caller signed in too long ago, or without a second factor (RFC 9470).
    InsufficientAuthentication,
    /// A guarded route without an access token.
    MissingToken,
    /// A bad, expired or revoked access token.
    InvalidToken,
    /// Right password, disabled user.
    AccountDisabled,
    /// Right password, an address that has to be proven first.
    EmailNotVerified,
    /// The access token lacks a role.
    InsufficientRole,
    /// A cookie request that another site may have sent.
    CrossSite,
    /// No such thing, or not the caller's.
    NotFound,
    /// Known path, other method.
    MethodNotAllowed,
    /// Another account has this e-mail address.
    EmailTaken,
    /// A late duplicate of a refresh.
    RefreshConflict,
    /// More than 64 KiB of body.
    PayloadTooLarge,
    /// Not `application/json`.
    UnsupportedMediaType,
    /// Well-formed, not acceptable; `errors` names each field.
    ValidationFailed,
    /// Too many attempts.
    RateLimited,
    /// More than 16 KiB in a field of the head, or 48 KiB of head.
    HeadersTooLarge,
    /// A fault of the server.
    Internal,
    /// The database cannot be asked, or the server is full.
    Unavailable,
}

impl Code {
    /// Every code, in the order of the statuses.
    pub(crate) const ALL: [Self; 27] = [
        Self::InvalidRequest,
        Self::InvalidGrant,
        Self::WrongMailCode,
        Self::InvalidCredentials,
        Self::MissingToken,
        Self::InvalidToken,
        Self::MfaRequired,
        Self::InvalidCode,
        Self::InsufficientAuthentication,
        Self::PasswordMismatch,
        Self::CodeMismatch,
        Self::AccountDisabled,
        Self::EmailNotVerified,
        Self::InsufficientRole,
        Self::CrossSite,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::EmailTaken,
        Self::MfaEnabled,
        Self::RefreshConflict,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::ValidationFailed,
        Self::RateLimited,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::Unavailable,
    ];

    /// The name in the `code` member.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// What it means in one sentence: `detail`, where nothing more particular is to be said.
    pub(crate) fn sentence(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::InvalidRequest => ("invalid_request", S::BAD_REQUEST, "The request cannot be understood."),
            Self::InvalidGrant => ("invalid_grant", S::BAD_REQUEST, "The refresh token cannot be used."),
            Self::WrongMailCode => {
                ("invalid_code", S::BAD_REQUEST, "The link or code is wrong, or has been used, or is too old.")
            }
            Self::InvalidCredentials => {
                ("invalid_credentials", S::UNAUTHORIZED, "The e-mail address or the password is wrong.")
            }
            Self::PasswordMismatch => ("invalid_credentials", S::FORBIDDEN, "The password is wrong."),
            Self::MfaRequired => (
                "mfa_required",
                S::UNAUTHORIZED,
                "The password is right. Send a code of the second factor with mfa_token.",
            ),
            Self::InvalidCode => ("invalid_code", S::UNAUTHORIZED, "The code is wrong, or has been used."),
            Self::CodeMismatch => ("invalid_code", S::FORBIDDEN, "The code is wrong, or has been used."),
            Self::MfaEnabled => ("mfa_enabled", S::CONFLICT, "A second factor is in force already."),
            Self::InsufficientAuthentication => {
                ("insufficient_user_authentication", S::UNAUTHORIZED, "The user must sign in again for this.")
            }
            Self::MissingToken => ("missing_token", S::UNAUTHORIZED, "This route needs an access token."),
            Self::InvalidToken => ("invalid_token", S::UNAUTHORIZED, "The access token is not valid."),
            Self::AccountDisabled => ("account_disabled", S::FORBIDDEN, "This account is disabled."),
            Self::EmailNotVerified => {
                ("email_not_verified", S::FORBIDDEN, "The e-mail address has to be proven first: see your mail.")
            }
            Self::InsufficientRole => ("insufficient_role", S::FORBIDDEN, "The access token lacks a role."),
            Self::CrossSite => ("cross_site", S::FORBIDDEN, "A request by cookie must come from this site."),
            Self::NotFound => ("not_found", S::NOT_FOUND, "There is nothing here."),
            Self::MethodNotAllowed => {
                ("method_not_allowed", S::METHOD_NOT_ALLOWED, "This path does not answer that method.")
            }
            Self::EmailTaken => ("email_taken", S::CONFLICT, "An account with this e-mail address exists."),
            Self::RefreshConflict => (
                "refresh_conflict",
                S::CONFLICT,
                "Another request has used this refresh token. Read your token store again and retry.",
            ),
            Self::PayloadTooLarge => {
                ("payload_too_large", S::PAYLOAD_TOO_LARGE, "The request body is larger than 64 KiB.")
            }
            Self::UnsupportedMediaType => {
                ("unsupported_media_type", S::UNSUPPORTED_MEDIA_TYPE, "The request body must be application/json.")
            }
            Self::ValidationFailed => {
                ("validation_failed", S::UNPROCESSABLE_ENTITY, "Some fields are not acceptable; see errors.")
            }
            Self::RateLimited => ("rate_limited", S::TOO_MANY_REQUESTS, "Too many attempts. Try again later."),
            Self::HeadersTooLarge => (
                "headers_too_large",
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "The request's head, or one field of it, is too large.",
            ),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "The server failed."),
            Self::Unavailable => {
                ("unavailable", S::SERVICE_UNAVAILABLE, "The server cannot answer just now. Try again later.")
            }
        }
    }
}

/// One member of the request that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// An error answer. Small, since it is half of most results: what few problems have is boxed.
///
/// Guards fail with it, and handlers of your own may too:
///
/// ```
/// use actix_web::HttpResponse;
/// use countersign::guard::Principal;
/// use countersign::problem::{Code, Problem};
///
/// async fn order(_caller: Principal) -> Result<HttpResponse, Problem> {
///     let text = std::fs::read_to_string("order.json")
///         .map_err(|error| Problem::new(Code::Unavailable).retry_after(5).caused_by(error))?;
///     if text.is_empty() {
///         return Err(Problem::new(Code::NotFound).detail("There is no such order."));
///     }
///     Ok(HttpResponse::Ok().body(text))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    more: Option<Box<More>>,
}

#[derive(Clone, Debug, Default)]
struct More {
    detail: Option<String>,
    reason: Option<&'static str>,
    errors: Vec<FieldError>,
    /// Members whose names are the client's own.
    unknown: Vec<String>,
    retry_after: Option<u64>,
    allow: Option<String>,
    /// How long ago the user may have signed in, in seconds.
    max_age: Option<u64>,
    /// Members that only this kind of problem has.
    members: Members,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// Members by their names. `Debug` does not show their values, one of which may be a token.
#[derive(Clone, Default)]
struct Members(Map<String, Value>);

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Problem {
    /// A problem with the code's own sentence as `detail`.
    pub fn new(code: Code) -> Self {
        Self { code, more: None }
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Replaces the sentence in `detail`. It is shown to the client.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.more().detail = Some(detail.into());
        self
    }

    /// Sets `reason`.
    #[must_use]
    pub(crate) fn reason(mut self, reason: &'static str) -> Self {
        self.more().reason = Some(reason);
        self
    }

    /// Sets `errors`.
    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.more().errors = errors;
        self
    }

    /// Adds to `errors` members of the request that cannot be changed, by the names that the client gave them.
    #[must_use]
    pub(crate) fn unchangeable(mut self, members: Vec<String>) -> Self {
        self.more().unknown = members;
        self
    }

    /// Sets `Retry-After`, in seconds (at least one).
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.more().retry_after = Some(seconds.max(1));
        self
    }

    /// Sets `Allow` (RFC 9110 section 10.2.1).
    #[must_use]
    pub(crate) fn allow(mut self, methods: impl Into<String>) -> Self {
        self.more().allow = Some(methods.into());
        self
    }

    /// Sets `max_age` of the challenge, in seconds (RFC 9470 section 3).
    #[must_use]
    pub(crate) fn max_age(mut self, seconds: u64) -> Self {
        self.more().max_age = Some(seconds);
        self
    }

    /// Adds a member that only this kind of problem has.
    #[must_use]
    pub(crate) fn member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.more().members.0.insert(name.to_owned(), value.into());
        self
    }

    /// Keeps what happened inside, for the log only.
    #[must_use]
    pub fn caused_by(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.more().cause = Some(Arc::new(cause));
        self
    }

    /// What happened inside and why, outermost first, joined by colons. For the log only.
    pub(crate) fn cause_chain(&self) -> Option<String> {
        let mut next: Option<&dyn StdError> = self.more.as_ref().and_then(|more| more.cause.as_deref()).map(|cause| {
            let cause: &dyn StdError = cause;
            cause
        });
        let mut chain = Vec::new();
        while let Some(cause) = next {
            chain.push(cause.to_string());
            next = cause.source();
        }
        (!chain.is_empty()).then(|| chain.join(": "))
    }

    /// Logs it if it is a failure of ours. Whatever a handler or a guard fails with has been logged when it becomes an
    /// answer, also in an application that is not ours.
    pub(crate) fn report(&self) {
        if self.code.status().is_server_error() {
            tracing::error!(code = self.code.as_str(), cause = self.cause_chain(), "a request failed");
        }
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())
    }
}

impl StdError for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.report();
        self.respond(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Code;

    #[test]
    #[expect(clippy::as_conversions, reason = "the number of the last variant")]
    fn every_code_is_listed_once_in_the_order_of_the_statuses() {
        assert_eq!(Code::ALL.len(), Code::Unavailable as usize + 1);
        assert_eq!(Code::ALL.iter().collect::<HashSet<_>>().len(), Code::ALL.len());
        assert!(Code::ALL.is_sorted_by_key(|code| code.status()));
    }
}
