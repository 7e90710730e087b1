//! Guards for what is too delicate for any signed-in user: how lately, and how, the user has signed in (RFC 9470).

use std::future::{Ready, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::{Either, LocalBoxFuture};

use super::{GuardState, NotMounted, Principal};
use crate::clock::Timestamp;
use crate::current::Current;
use crate::problem::{Code, Problem};

/// A user who signed in, with the password and whatever else is asked for, not more than so many seconds ago; a refresh does
/// not count. Rejects like [`Principal`], and with 401 `insufficient_user_authentication`, whose challenge has `max_age`: the
/// client has the user sign in again, and repeats the request with the new access token.
#[derive(Clone, Debug)]
pub struct Fresh<const SECONDS: u64>(Principal);

impl<const SECONDS: u64> Fresh<SECONDS> {
    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.0
    }

    fn of(principal: Principal, req: &HttpRequest) -> Result<Self, Problem> {
        let guard_state = req.app_data::<Current<GuardState>>();
        let now = guard_state.ok_or_else(|| Problem::new(Code::Internal).caused_by(NotMounted))?.peek().clock.now();
        let is_fresh = |at: Timestamp| now <= at.plus(Duration::from_secs(SECONDS));
        match principal.signed_in_at() {
            Some(at) if is_fresh(at) => Ok(Self(principal)),
            _ => Err(Problem::new(Code::InsufficientAuthentication).reason("max_age").max_age(SECONDS)),
        }
    }
}

impl<const SECONDS: u64> FromRequest for Fresh<SECONDS> {
    type Error = Problem;
    type Future = Either<Ready<Result<Self, Problem>>, LocalBoxFuture<'static, Result<Self, Problem>>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        match Principal::from_request(req, payload) {
            Either::Left(decided) => {
                Either::Left(ready(decided.into_inner().and_then(|principal| Self::of(principal, req))))
            }
            Either::Right(asking) => {
                let req = req.clone();
                Either::Right(Box::pin(async move { Self::of(asking.await?, &req) }))
            }
        }
    }
}

/// A user who signed in with a second factor. Rejects like [`Principal`], and with 401 `insufficient_user_authentication`.
#[derive(Clone, Debug)]
pub struct Mfa(Principal);

impl Mfa {
    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.0
    }

    fn of(principal: Principal) -> Result<Self, Problem> {
        if principal.has_second_factor() {
            return Ok(Self(principal));
        }
        Err(Problem::new(Code::InsufficientAuthentication)
            .detail("The user must sign in with a second factor for this.")
            .reason("mfa"))
    }
}

impl FromRequest for Mfa {
    type Error = Problem;
    type Future = Either<Ready<Result<Self, Problem>>, LocalBoxFuture<'static, Result<Self, Problem>>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        match Principal::from_request(req, payload) {
            Either::Left(decided) => Either::Left(ready(decided.into_inner().and_then(Self::of))),
            Either::Right(asking) => Either::Right(Box::pin(async { Self::of(asking.await?) })),
        }
    }
}
