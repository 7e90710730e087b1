//! How many mails may be asked for: of each kind for one address that they go to, and in all from one address of a client.

use std::net::IpAddr;
use std::time::Duration;

use super::guess_keys::{ADDRESS, Limited, Target, key, keys_of};
use super::login_limiter::{Allowed, Denied, LoginLimiter};
use crate::clock::Timestamp;
use crate::network::rate_limit_key;
use crate::store::attempts::{self, Limit};
use crate::store::mail_tokens::Purpose;
use crate::store::{AnyConnection, QueryResult};

/// Mails of one kind to one address, and for one account, in a window.
const TO_ONE: i64 = 3;
/// Mails that clients of one address ask for in a window.
const FROM_ONE: i64 = 30;
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// What is counted.
const MAILS: &str = "mails";
const MAILS_OF_CLIENT: &str = "mails_of_client";

/// Whether a mail may be sent that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It may, and is counted.
    Allowed,
    /// Enough have gone there. There is room again after so many seconds.
    EnoughToOne(u64),
    /// Enough were asked for from there. There is room again after so many seconds.
    EnoughFromOne(u64),
}

/// What a mail that is asked for counts for.
#[derive(Clone)]
pub(super) struct MailLimits {
    to_one: Vec<Limit>,
    from_one: Option<Limit>,
}

impl MailLimits {
    /// Counts a mail, in the transaction that adds it.
    pub(super) fn count(&self, conn: &mut AnyConnection, now: Timestamp) -> QueryResult<Asked> {
        let wait = |conn: &mut AnyConnection, limits: &[Limit]| {
            let full = attempts::full(conn, limits, now, WINDOW)?;
            let waits = full.into_iter().map(|(_, _, until)| now.seconds_until(until).saturating_add(1));
            QueryResult::Ok(waits.max().unwrap_or(1))
        };
        let from_one = self.from_one.as_slice();
        if attempts::count(conn, from_one, now, WINDOW)?.is_none() {
            return Ok(Asked::EnoughFromOne(wait(conn, from_one)?));
        }
        if attempts::count(conn, &self.to_one, now, WINDOW)?.is_none() {
            return Ok(Asked::EnoughToOne(wait(conn, &self.to_one)?));
        }
        Ok(Asked::Allowed)
    }
}

impl LoginLimiter {
    /// What a mail of this kind counts for that goes to `email_key`, about the account that `about` names, asked for from
    /// `address`. An address without an account is counted alike.
    pub(super) fn mail_limits(
        &self,
        purpose: Purpose,
        (email_key, about): (&str, &str),
        address: Option<IpAddr>,
    ) -> MailLimits {
        let limit = |key, limit| Limit { key, limit, user_id: None, ip_address: None };
        if !self.is_limited() {
            return MailLimits { to_one: Vec::new(), from_one: None };
        }
        let kind = purpose.as_str();
        let mut to_one = vec![limit(key(&[MAILS, kind, email_key]), TO_ONE)];
        // In one order everywhere, so that two never wait for each other.
        if about != email_key {
            to_one.push(limit(key(&[MAILS, kind, about]), TO_ONE));
            to_one.sort_by_key(|limit| limit.key);
        }
        let from_one = address.map(|address| key(&[MAILS_OF_CLIENT, &rate_limit_key(address).to_string()]));
        MailLimits { to_one, from_one: from_one.map(|key| limit(key, FROM_ONE)) }
    }

    /// A flood of requests for mails writes nothing.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub(super) async fn check_mails(&self, address: Option<IpAddr>) -> Result<(), Denied> {
        let (Some(address), true) = (address, self.is_limited()) else { return Ok(()) };
        let key = key(&[MAILS_OF_CLIENT, &rate_limit_key(address).to_string()]);
        let limit = Limit { key, limit: FROM_ONE, user_id: None, ip_address: None };
        self.refuse_if_full(&[Limited { name: MAILS_OF_CLIENT, limit }], None, WINDOW).await?;
        Ok(())
    }

    /// Looks whether a code or token from a mail may be guessed at from `address`: it counts like a password. Nothing is
    /// counted.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub(super) async fn check_mailed(&self, address: Option<IpAddr>) -> Result<Allowed, Denied> {
        let Some(limits) = self.limits() else { return Ok(self.unlimited()) };
        let mut keys = keys_of(&Target::Unknown(String::new()), address, limits);
        keys.retain(|key| key.name == ADDRESS);
        self.refuse_if_full(&keys, None, limits.window).await?;
        Ok(self.allowed(keys, limits.window))
    }
}
