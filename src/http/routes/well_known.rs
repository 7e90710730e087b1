//! The public keys that verify access tokens.

use actix_web::http::Method;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};

use crate::http::State;
use crate::http::openapi::{Operation, PUBLIC, STORE, examples, public};
use crate::http::route::Route;
use crate::problem::{Code, Problem};

pub(super) const ROUTES: &[Route] =
    &[Route::new(Method::GET, "/.well-known/jwks.json", || web::to(jwks), describe_jwks)];

/// RFC 7517 section 5.
async fn jwks(state: State) -> Result<HttpResponse, Problem> {
    // An incomplete set must not be kept by anyone.
    if !state.access.can_sign() {
        return Err(Code::Unavailable.into());
    }
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, PUBLIC)).json(state.access.public_set()))
}

fn describe_jwks() -> Operation {
    Operation::new("Machines", "jwks", "The public keys that verify access tokens")
        .about("None while access tokens are signed with HS256. A new key is here for ten minutes before it signs, unless it was made with `keys rotate --now`.")
        .answers("200", public("The keys.", "PublicKeys", examples::public_keys()))
        .fails(STORE)
}
