//! A guard for pages that any client may see, and that say more to a signed-in user.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::{Either, LocalBoxFuture};

use super::Principal;
use crate::problem::{Code, Problem};

/// A signed-in user, or a request without an access token.
///
/// What `Option<Principal>` looks like and is not: a token that is not good is still a 401, a request by cookie from
/// another site a 403, and where it cannot be known whether the session has ended, the answer is 503 and not "not signed in".
///
/// ```
/// use actix_web::Responder;
/// use countersign::guard::Caller;
///
/// async fn front_page(caller: Caller) -> impl Responder {
///     match caller.principal() {
///         Some(principal) => format!("hello again, {}", principal.user_id()),
///         None => "hello".to_owned(),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub enum Caller {
    /// The request has no access token.
    Anonymous,
    /// Its access token is good.
    Principal(Principal),
}

impl Caller {
    /// The user, if one is signed in.
    pub fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Anonymous => None,
            Self::Principal(principal) => Some(principal),
        }
    }

    fn of(decided: Result<Principal, Problem>) -> Result<Self, Problem> {
        match decided {
            Ok(principal) => Ok(Self::Principal(principal)),
            Err(problem) if problem.code() == Code::MissingToken => Ok(Self::Anonymous),
            Err(problem) => Err(problem),
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Either<Ready<Result<Self, Problem>>, LocalBoxFuture<'static, Result<Self, Problem>>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        match Principal::from_request(req, payload) {
            Either::Left(decided) => Either::Left(ready(Self::of(decided.into_inner()))),
            Either::Right(asking) => Either::Right(Box::pin(async { Self::of(asking.await) })),
        }
    }
}
