//! Second factors in the hands of an operator.

use super::{BY_OPERATOR, PAGE};
use crate::audit::{Event, Kind, emit};
use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::store::events::InTransaction;
use crate::store::{AnyConnection, QueryResult, StoreError, second_factors, users};
use crate::users::mailing::{Asker, tell};
use crate::users::{UserError, Users};

impl Users {
    /// Removes an account's second factor, for a user who has lost it. Returns whether one was in force.
    ///
    /// # Errors
    ///
    /// [`UserError::Gone`], or no answer.
    pub async fn disable_second_factor(&self, id: UserId) -> Result<bool, UserError> {
        let now = self.clock.now();
        let event = "The second factor of your account was removed by an operator";
        let notice = self.notice_of(id, event, &Asker::default()).await?;
        let attempt = move |conn: &mut AnyConnection| {
            if !users::exists(conn, id)? {
                return Ok(None);
            }
            let was_enabled = disable(conn, id, now)?;
            tell(conn, notice.as_ref().filter(|_| was_enabled))?;
            Ok(Some(was_enabled))
        };
        self.store.write(attempt).await?.ok_or(UserError::Gone)
    }

    /// How many second factors in force the refresh key `kid` opens.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn second_factors_under(&self, kid: &str) -> Result<i64, StoreError> {
        let kid = kid.to_owned();
        self.store.read(move |conn| second_factors::count_sealed_under(conn, &kid)).await
    }

    /// Removes the second factors that the refresh key `kid` opens, a few in each transaction. Returns how many were in force.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn give_up_second_factors(&self, kid: &str) -> Result<usize, StoreError> {
        let mut given_up = 0;
        loop {
            let (kid, now) = (kid.to_owned(), self.clock.now());
            let attempt = move |conn: &mut AnyConnection| {
                let page = second_factors::page_sealed_under(conn, &kid, PAGE)?;
                let disabled: Vec<bool> = page.iter().map(|id| disable(conn, *id, now)).collect::<QueryResult<_>>()?;
                Ok(disabled)
            };
            let disabled = self.store.write(attempt).await?;
            if disabled.is_empty() {
                return Ok(given_up);
            }
            given_up += disabled.into_iter().filter(|was_enabled| *was_enabled).count();
        }
    }
}

/// Removes a second factor, and keeps among the account's events that the operator did.
fn disable(conn: &mut AnyConnection, id: UserId, now: Timestamp) -> QueryResult<bool> {
    let was_enabled = second_factors::disable(conn, id, now)?;
    if was_enabled {
        emit(InTransaction(conn, now), &Event::new(Kind::MfaDisabled).user(id).detail(BY_OPERATOR))?;
    }
    Ok(was_enabled)
}
