//! What an operator has access tokens of an account say besides.

use super::{BETWEEN_COPIES, BY_OPERATOR};
use crate::audit::{Event, Kind, emit};
use crate::ids::UserId;
use crate::problem::FieldError;
use crate::store::events::InTransaction;
use crate::store::{AnyConnection, sessions, users};
use crate::tokens::claims;
use crate::users::{UserError, Users};

impl Users {
    /// Replaces the claims that access tokens of an account have besides; they do from the next refresh on. Returns whether
    /// there are any now.
    ///
    /// # Errors
    ///
    /// [`UserError::Invalid`], [`UserError::Gone`], or no answer.
    pub async fn set_claims(&self, id: UserId, claims: &str) -> Result<bool, UserError> {
        let claims = claims::parse(claims)
            .map_err(|message| UserError::Invalid(vec![FieldError { field: "claims", message }]))?;
        let (now, any) = (self.clock.now(), claims.is_some());
        let event = Event::new(Kind::ClaimsChanged).user(id).detail(BY_OPERATOR);
        let attempt = move |conn: &mut AnyConnection| {
            if !users::set_claims(conn, id, claims.as_deref(), now)? {
                return Ok(None);
            }
            emit(InTransaction(conn, now), &event)?;
            Ok(Some(sessions::copy_claims(conn, id, claims.as_deref(), None)?))
        };
        let mut after = self.store.write(attempt).await?.ok_or(UserError::Gone)?;
        while let Some(reached) = after {
            let copy = move |conn: &mut AnyConnection| match users::claims(conn, id)? {
                Some(claims) => sessions::copy_claims(conn, id, claims.as_deref(), Some(reached)),
                None => Ok(None),
            };
            after = self.store.write(copy).await?;
            tokio::time::sleep(BETWEEN_COPIES).await;
        }
        Ok(any)
    }
}
