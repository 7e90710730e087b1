//! Guards: name one of these types as a handler's argument, and the handler runs only for callers who may.
//!
//! ```no_run
//! use actix_web::{HttpResponse, Responder};
//! use countersign::guard::{CurrentUser, Fresh, Mfa, Principal, Role, RoleName};
//!
//! /// Any signed-in user. No query, no waiting.
//! async fn orders(caller: Principal) -> impl Responder {
//!     format!("orders of {}", caller.user_id())
//! }
//!
//! /// Any signed-in user, with the account as it is in the database now.
//! async fn profile(caller: CurrentUser) -> impl Responder {
//!     format!("hello {}", caller.email())
//! }
//!
//! struct Admin;
//! impl RoleName for Admin {
//!     const NAME: &'static str = "admin";
//! }
//!
//! /// Only callers whose access token has the role.
//! async fn shut_down(_admin: Role<Admin>) -> impl Responder {
//!     HttpResponse::NoContent()
//! }
//!
//! /// Only callers who signed in within the last five minutes.
//! async fn pay_out(_caller: Fresh<300>) -> impl Responder {
//!     HttpResponse::NoContent()
//! }
//!
//! /// Only callers who signed in with a second factor.
//! async fn secrets(_caller: Mfa) -> impl Responder {
//!     HttpResponse::NoContent()
//! }
//! ```
//!
//! They work where [`Countersign::configure`](crate::Countersign::configure) was applied to the application;
//! elsewhere every request is a 500, and the log says why. A rejection is a [`Problem`], in the same form as the
//! errors of Countersign's own routes.
//!
//! Put the guard first among the arguments: [`Principal`], [`Role`], [`Fresh`] and [`Mfa`] decide at once, so that a caller
//! without a token gets 401 before anything is said about the body. Do not ask for `Option<Principal>`:
//! it would turn "cannot tell" (503) into "not signed in". [`Caller`] is for handlers that any client may call.

mod authentication;
mod caller;
mod credentials;
pub(crate) mod cross_site;
pub(crate) mod peer;
mod verified;

use std::borrow::Cow;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use futures_util::future::{Either, LocalBoxFuture};
use serde_json::{Map, Value};

pub use self::authentication::{Fresh, Mfa};
pub use self::caller::Caller;
use self::credentials::{Scheme, authorization};
pub(crate) use self::credentials::{authorizations, cookies};
use self::cross_site::Origins;
pub(crate) use self::verified::Verified;
use crate::audit::RequestLog;
use crate::clock::{Clock, Timestamp};
use crate::current::Current;
use crate::ids::{SessionId, UserId};
use crate::problem::{Code, Problem};
use crate::revocation::{Revocations, Standing};
use crate::store::users::{self, UserRow};
use crate::store::{Store, StoreError, sessions};
use crate::tokens::access::{AccessTokens, Bearer};

/// What guards decide with, as it is in force. The application's data has it as a [`Current`].
#[derive(Clone)]
pub(crate) struct GuardState {
    pub(crate) access: Arc<AccessTokens>,
    pub(crate) revocations: Revocations,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) access_cookie: String,
    pub(crate) origins: Arc<Origins>,
}

/// The notes for a request's line in the access log. `None`: an application's own request, which has no line of ours.
pub(crate) fn request_log(req: &HttpRequest) -> Option<Rc<RequestLog>> {
    req.extensions().get().cloned()
}

/// Notes there who the request was found to come from.
pub(crate) fn identify(req: &HttpRequest, user: UserId, session: SessionId) {
    if let Some(log) = req.extensions().get::<Rc<RequestLog>>() {
        log.identify(user, session);
    }
}

/// A signed-in user: the access token is genuine and in time, and its session has not ended.
///
/// Decided from the token and memory alone, without a query. Rejects with 401 `missing_token` or
/// `invalid_token`, 403 `cross_site` (by cookie, from elsewhere), 400 (two `Authorization` headers), and with 503
/// where it cannot be known whether the session has ended.
///
/// With a token in the `Authorization` header cookies are not looked at. Of several cookies of the name the first good
/// one counts.
#[derive(Clone, Debug)]
pub struct Principal {
    bearer: Bearer,
}

impl Principal {
    /// Whose token it is.
    pub fn user_id(&self) -> UserId {
        self.bearer.user_id
    }

    /// The session it belongs to.
    pub fn session_id(&self) -> SessionId {
        self.bearer.session_id
    }

    /// The roles the user had when the token was issued.
    pub fn roles(&self) -> &[String] {
        &self.bearer.roles
    }

    /// Whether that role is among them.
    pub fn has_role(&self, name: &str) -> bool {
        self.bearer.roles.iter().any(|role| role == name)
    }

    /// When the user signed in, in whole seconds; refreshes leave it as it is. None: the token is of a version of Countersign
    /// that did not say.
    pub fn signed_in_at(&self) -> Option<Timestamp> {
        self.bearer.authentication.at
    }

    /// How the user signed in (RFC 8176): `["pwd"]`, or `["pwd", "otp", "mfa"]`.
    pub fn methods(&self) -> &'static [&'static str] {
        self.bearer.authentication.methods()
    }

    /// Whether the user signed in with a second factor.
    pub fn has_second_factor(&self) -> bool {
        self.bearer.authentication.mfa
    }

    /// A claim that an operator has set for the account, or the application has added, as it was when the token was issued.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.bearer.claims.members().get(name)
    }

    /// All of them.
    pub fn claims(&self) -> &Map<String, Value> {
        self.bearer.claims.members()
    }

    pub(crate) fn bearer(&self) -> &Bearer {
        &self.bearer
    }
}

impl FromRequest for Principal {
    type Error = Problem;
    type Future = Either<Ready<Result<Self, Problem>>, LocalBoxFuture<'static, Result<Self, Problem>>>;

    fn from_request(req: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        match authenticate(req) {
            Ok(Authenticated::Yes(bearer)) => Either::Left(ready(Ok(Self { bearer }))),
            Ok(Authenticated::Perhaps(store, bearers)) => Either::Right(Box::pin(ask(store, bearers))),
            Err(problem) => Either::Left(ready(Err(problem))),
        }
    }
}

/// What memory cannot tell, the database must.
async fn ask(store: Store, bearers: Vec<Bearer>) -> Result<Principal, Problem> {
    for bearer in bearers {
        let session = bearer.session_id;
        if store.read(move |conn| sessions::is_live(conn, session)).await? {
            return Ok(Principal { bearer });
        }
    }
    Err(Code::InvalidToken.into())
}

/// The credentials are good, and the session, as far as memory knows.
enum Authenticated {
    Yes(Bearer),
    /// Memory is out of date: the database knows which of them, if any.
    Perhaps(Store, Vec<Bearer>),
}

/// Decides about the credentials themselves: synchronously, so that it comes before everything else.
fn authenticate(req: &HttpRequest) -> Result<Authenticated, Problem> {
    let (Some(guard_state), Some(verified)) = (req.app_data::<Current<GuardState>>(), req.app_data::<Verified>())
    else {
        return Err(Problem::new(Code::Internal).caused_by(NotMounted));
    };
    let guard_state = &guard_state.peek();
    if !guard_state.revocations.has_begun() || !guard_state.access.can_sign() {
        return Err(Code::Unavailable.into());
    }
    if let Some(authorization) = authorization(req)? {
        return match authorization.scheme {
            Scheme::Bearer => first_good(req, guard_state, verified, std::iter::once(authorization.token)),
            // DPoP is not supported yet.
            Scheme::Dpop => Err(Code::InvalidToken.into()),
        };
    }
    let mut cookies = cookies(req, &guard_state.access_cookie).peekable();
    if cookies.peek().is_none() {
        return Err(Code::MissingToken.into());
    }
    guard_state.origins.check(req)?;
    first_good(req, guard_state, verified, cookies)
}

/// Who a request comes from, where it needs no user and memory knows one: strangers' guesses do not count for them.
pub(crate) fn signed_in(req: &HttpRequest) -> Option<UserId> {
    match authenticate(req) {
        Ok(Authenticated::Yes(bearer)) => Some(bearer.user_id),
        Ok(Authenticated::Perhaps(..)) | Err(_) => None,
    }
}

/// The first of `tokens` that is genuine and in time, and whose session has not ended.
fn first_good<'r>(
    req: &HttpRequest,
    guard_state: &GuardState,
    verified: &Verified,
    tokens: impl Iterator<Item = Cow<'r, str>>,
) -> Result<Authenticated, Problem> {
    let now = guard_state.clock.now();
    let (mut unknown, mut cannot_tell) = (Vec::new(), false);
    for token in tokens {
        let Ok(bearer) = verified.verify(&guard_state.access, &token, now) else {
            cannot_tell |= guard_state.access.cannot_tell(&token);
            continue;
        };
        if unknown.is_empty() {
            identify(req, bearer.user_id, bearer.session_id);
        }
        match guard_state.revocations.standing(bearer.session_id) {
            Standing::Live if unknown.is_empty() => return Ok(Authenticated::Yes(bearer)),
            Standing::Live | Standing::Unknown => unknown.push(bearer),
            Standing::Ended => verified.forget(&token),
        }
    }
    if unknown.is_empty() {
        return Err(if cannot_tell { Code::Unavailable } else { Code::InvalidToken }.into());
    }
    Ok(Authenticated::Perhaps(guard_state.store.clone(), unknown))
}

#[derive(Debug, thiserror::Error)]
#[error("a guard was used where Countersign::configure was not applied to the application")]
struct NotMounted;

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Unavailable(_) | StoreError::Busy => Code::Unavailable,
            StoreError::Broken(_) => Code::Internal,
        };
        Self::new(code).caused_by(error)
    }
}

/// A signed-in user, and their account as the database has it now: deleted and disabled users are
/// gone at once, and so is a user whose session the database does not know.
#[derive(Clone, Debug)]
pub struct CurrentUser {
    principal: Principal,
    row: UserRow,
}

impl CurrentUser {
    /// The account's id.
    pub fn id(&self) -> UserId {
        self.row.id
    }

    /// The e-mail address, as it was registered.
    pub fn email(&self) -> &str {
        &self.row.email
    }

    /// What the user is called.
    pub fn name(&self) -> Option<&str> {
        self.row.name.as_deref()
    }

    /// What the token says.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn row(&self) -> &UserRow {
        &self.row
    }
}

impl FromRequest for CurrentUser {
    type Error = Problem;
    type Future = Either<Ready<Result<Self, Problem>>, LocalBoxFuture<'static, Result<Self, Problem>>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let principal = match Principal::from_request(req, payload) {
            Either::Left(decided) => match decided.into_inner() {
                Ok(principal) => Either::Left(principal),
                Err(problem) => return Either::Left(ready(Err(problem))),
            },
            Either::Right(asking) => Either::Right(asking),
        };
        let Some(guard_state) = req.app_data::<Current<GuardState>>().map(Current::get) else {
            return Either::Left(ready(Err(Problem::new(Code::Internal).caused_by(NotMounted))));
        };
        Either::Right(Box::pin(async move {
            let principal = match principal {
                Either::Left(principal) => principal,
                Either::Right(asking) => asking.await?,
            };
            let (user, session, now) = (principal.user_id(), principal.session_id(), guard_state.clock.now());
            let row = guard_state.store.read(move |conn| users::of_live_session(conn, user, session, now)).await?;
            let row = row.ok_or(Code::InvalidToken)?;
            Ok(Self { principal, row })
        }))
    }
}

/// The name of a role, as a type.
pub trait RoleName {
    /// As it stands in the `roles` claim.
    const NAME: &'static str;
}

/// A signed-in user who has a role. Rejects like [`Principal`], and with 403 `insufficient_role`.
pub struct Role<R>(Principal, PhantomData<R>);

impl<R> Role<R> {
    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.0
    }
}

impl<R: RoleName + 'static> FromRequest for Role<R> {
    type Error = Problem;
    type Future = Either<Ready<Result<Self, Problem>>, LocalBoxFuture<'static, Result<Self, Problem>>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        match Principal::from_request(req, payload) {
            Either::Left(decided) => Either::Left(ready(decided.into_inner().and_then(Self::of))),
            Either::Right(asking) => Either::Right(Box::pin(async { Self::of(asking.await?) })),
        }
    }
}

impl<R: RoleName> Role<R> {
    fn of(principal: Principal) -> Result<Self, Problem> {
        if principal.has_role(R::NAME) { Ok(Self(principal, PhantomData)) } else { Err(Code::InsufficientRole.into()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use actix_web::http::StatusCode;
    use actix_web::{App, test, web};

    use super::*;

    /// Without configure every guard is a 500 and the log says what is missing.
    #[actix_web::test]
    async fn without_configure_every_guard_is_a_500_and_logged() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(file.reopen().unwrap());
        let _log = tracing::subscriber::set_default(tracing_subscriber::fmt().with_writer(writer).finish());
        let app = App::new()
            .route("/", web::get().to(async |_: Principal| ""))
            .route("/", web::post().to(async |_: CurrentUser| ""));
        let app = test::init_service(app).await;
        for (told_before, request) in [test::TestRequest::get(), test::TestRequest::post()].into_iter().enumerate() {
            let request = request.uri("/").insert_header(("authorization", "Bearer x"));
            let answer = test::call_service(&app, request.to_request()).await;
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = test::read_body(answer).await;
            assert!(!String::from_utf8_lossy(&body).contains("configure"), "clients are told nothing of it");
            let log = fs::read_to_string(file.path()).unwrap();
            assert_eq!(log.matches("Countersign::configure was not applied").count(), told_before + 1, "{log}");
        }
    }
}
