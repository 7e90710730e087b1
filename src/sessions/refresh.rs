//! One refresh: verify, rotate in one conditional statement, and judge what that statement did not take.

use std::sync::Arc;
use std::time::Duration;

use super::outcome::{Grant, Outcome, RefreshError, RefusedBecause};
use super::plan::Plan;
use super::refresh_limiter::RefreshSource;
use super::rotation::{self, Claim, Policy, Refusal, Verdict};
use super::{Lifetimes, Sessions, TokenPair};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::clock::{Clock, Timestamp};
use crate::store::events::InTransaction;
use crate::store::sessions::{self, Device, Ended, NextToken, RotatedRow, Rotation, SessionRow};
use crate::store::{AnyConnection, QueryResult, Write, internal_error, too_many_conflicts, unknown_key};
use crate::tokens::refresh::{IssuedToken, Presented, RefreshTokens, Refused, fresh_salt};
use crate::tokens::{ChainPosition, SignError};

/// How often a refresh that lost a race against another looks again. In one process nothing races a
/// transaction; among several, each round means that another write got through.
const MAX_CAS_RETRIES: usize = 8;

/// Everything one refresh is decided on, fixed before anything is written, so that trying it again, as after a commit
/// whose end is unknown, is the same refresh and not a second one.
struct RefreshRequest {
    tokens: Arc<RefreshTokens>,
    lifetimes: Lifetimes,
    access_lifetime: Duration,
    policy: Policy,
    /// For the end of a session, which must not be dated back.
    clock: Clock,
    presented: Presented,
    now: Timestamp,
    /// What it hopes to be.
    rotation: Arc<Rotation>,
    /// The token that it then hands out.
    rotated: IssuedToken,
}

impl Sessions {
    /// Exchanges a refresh token for the next pair, or repeats the answer it got.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]. Only [`RefusedBecause::Reused`] has written anything: it has ended the session.
    pub async fn refresh(&self, token: &str, device: Device) -> Result<TokenPair, RefreshError> {
        let now = self.0.clock.now();
        let presented = self.verify(token, &device, now)?;
        let (user_id, session_id) = (presented.user_id(), presented.session_id());
        if let Some(seconds) = self.0.refresh_limiter.wait(RefreshSource::Session(session_id), now) {
            return Err(RefreshError::TooMany(seconds));
        }
        let request = self.request(presented, device, now)?;
        // Before anything is written: where the application cannot tell, the token stays good.
        let added = self.added_claims(user_id).await?;
        // One conditional statement, committed together with those of others.
        let grant = match self.0.store.rotate(&request.rotation).await? {
            Some(row) => request.grant(Kind::Rotated, &request.rotation.next, request.rotated.clone(), row),
            None => self.judge(request).await?,
        };
        self.hand_over(user_id, session_id, grant, now, added)
    }

    /// What that statement did not take: the row is found and judged, and changed by at most one more statement.
    async fn judge(&self, request: RefreshRequest) -> Result<Grant, RefreshError> {
        let inner = &self.0;
        let (session, now) = (RefreshSource::Session(request.presented.session_id()), request.now);
        let event = request.event();

        // What its user or an operator should know of is told, and a theft is felt, even if the client has hung up.
        let (told, revocations) = (event.clone(), inner.revocations.clone());
        let after_commit = move |outcome: &Outcome| {
            if let Outcome::Reused(_, ended) = outcome {
                revocations.add(std::slice::from_ref(ended));
            }
            if outcome.is_kept() {
                outcome.events(&told).iter().for_each(|event| emit(AfterCommit, event));
            }
        };
        // It finds its own traces, so it may be tried again; and a theft is not forgotten because its answer was late.
        let write = Write::new(move |conn: &mut AnyConnection| request.decide(conn))
            .repeatable()
            .must_commit_if(|outcome| matches!(outcome, Outcome::Reused(..)))
            .and_then(after_commit);
        let outcome = inner.store.submit(write).await?;
        let is_plain = matches!(&outcome, Outcome::Granted(grant) if grant.kind == Kind::Rotated);
        if !is_plain {
            if !outcome.is_kept() {
                outcome.events(&event).iter().for_each(|event| emit(AfterCommit, event));
            }
            self.count_unusual(Some(session), now);
        }
        match outcome {
            Outcome::Granted(grant) => Ok(grant),
            Outcome::Refused(Refusal::Expired) => Err(RefreshError::Refused(RefusedBecause::Expired)),
            Outcome::Refused(Refusal::Revoked | Refusal::Ahead) => Err(RefreshError::Refused(RefusedBecause::Revoked)),
            Outcome::Conflict => Err(RefreshError::Conflict),
            Outcome::Reused(..) => Err(RefreshError::Refused(RefusedBecause::Reused)),
        }
    }

    /// Verifies a token, and counts one that no key of ours has signed against the address it came from.
    fn verify(&self, token: &str, device: &Device, now: Timestamp) -> Result<Presented, RefreshError> {
        self.presented(token, now).map_err(|refused| {
            let address = device.ip_address.as_deref().and_then(|address| address.parse().ok()).map(RefreshSource::at);
            self.count_unusual(address, now).unwrap_or_else(|| refused.into())
        })
    }

    /// Reads a token that may still be good for something.
    ///
    /// An answer may have been lost shortly before the token's own end: it can still be fetched afterwards,
    /// for as long as lost answers can, and repeated. Nothing older costs a query.
    pub(super) fn presented(&self, token: &str, now: Timestamp) -> Result<Presented, Refused> {
        let policy = &self.0.settings.policy;
        let grace = policy.recovery.saturating_add(policy.overlap);
        self.0.refresh.verify(token, now.minus(grace))
    }

    /// Counts a refresh that was no rotation. `Some`: its client has had as many as there are.
    fn count_unusual(&self, source: Option<RefreshSource>, now: Timestamp) -> Option<RefreshError> {
        let refresh_limiter = &self.0.refresh_limiter;
        let source = source?;
        if let Some(seconds) = refresh_limiter.wait(source, now) {
            return Some(RefreshError::TooMany(seconds));
        }
        if refresh_limiter.count(source, now) {
            let event = Event::new(Kind::LimitReached).detail("refresh");
            let event = match source {
                RefreshSource::Address(address) => event.ip_address(Some(&address.to_string())),
                RefreshSource::Session(session) => event.session(session),
            };
            emit(AfterCommit, &event);
        }
        None
    }

    fn request(&self, presented: Presented, device: Device, now: Timestamp) -> Result<RefreshRequest, SignError> {
        let inner = &self.0;
        let (lifetimes, access_lifetime) = (inner.settings.lifetimes, inner.access.lifetime());
        // The row knows whether the session is to be remembered, and the token shows it nearly always.
        // Cut off by the session's own end, or where both lives are the same, it does not: most are to be remembered.
        let cut_off = presented.expires_at() >= presented.session_expires_at() || lifetimes.short >= lifetimes.idle;
        let remember = cut_off || presented.expires_at().since(presented.issued_at()) > lifetimes.short;
        let plan = Plan { tokens: &inner.refresh, lifetimes, access_lifetime, presented: &presented, now };
        let (rotation, rotated) = plan.rotation(remember, fresh_salt()?, device)?;
        Ok(RefreshRequest {
            tokens: Arc::clone(&inner.refresh),
            lifetimes,
            access_lifetime,
            policy: inner.settings.policy,
            clock: inner.clock.clone(),
            presented,
            now,
            rotation: Arc::new(rotation),
            rotated,
        })
    }
}

impl RefreshRequest {
    /// What is told of it, but for the kind.
    fn event(&self) -> Event {
        let event = Event::new(Kind::Rotated).user(self.presented.user_id()).session(self.presented.session_id());
        event.ip_address(self.rotation.next.device.ip_address.as_deref())
    }

    /// The outcome, and what is kept of it.
    fn kept(&self, conn: &mut AnyConnection, outcome: Outcome) -> QueryResult<Outcome> {
        if outcome.is_kept() {
            for event in outcome.events(&self.event()) {
                emit(InTransaction(conn, self.now), &event)?;
            }
        }
        Ok(outcome)
    }

    fn decide(&self, conn: &mut AnyConnection) -> QueryResult<Outcome> {
        for _ in 0..MAX_CAS_RETRIES {
            let row = sessions::find(conn, self.rotation.id)?.filter(|row| row.user_id == self.presented.user_id());
            if let Some(grant) = row.as_ref().map(|row| self.carried_out(row)).transpose()?.flatten() {
                // It was kept then.
                return Ok(Outcome::Granted(grant));
            }
            let address = self.rotation.next.device.ip_address.as_deref();
            let claim = Claim::of(&self.presented, &self.tokens, self.now, address);
            let mut verdict = rotation::judge(row.as_ref(), &claim, self.now, &self.policy);
            let row = match (row, verdict) {
                (_, Verdict::Refuse(refusal)) => return Ok(Outcome::Refused(refusal)),
                (None, _) => return Ok(Outcome::Refused(Refusal::Revoked)),
                (Some(row), _) => row,
            };
            if let Verdict::Repeat { streak } = verdict {
                match self.repeat(conn, &row, streak)? {
                    Some(grant) => return self.kept(conn, Outcome::Granted(grant)),
                    // Another process has signed with a key that this one has not read yet.
                    None if self.tokens.cannot_tell_of(&row.chain.key_id) => return Err(unknown_key()),
                    None => verdict = rotation::unrepeatable(&row, self.now, &self.policy),
                }
            }
            if let Some(outcome) = self.carry_out(conn, verdict, &row)? {
                return self.kept(conn, outcome);
            }
        }
        Err(too_many_conflicts())
    }

    /// What it was granted, if this very refresh has been carried out before: its commit had seemed to fail.
    fn carried_out(&self, row: &SessionRow) -> QueryResult<Option<Grant>> {
        let next = &self.rotation.next;
        if row.expiry.revoked_at.is_some() || row.chain.salt != next.salt {
            return Ok(None);
        }
        let issued = self.mint(row.chain.position, self.now, row.expiry.idle_expires_at)?;
        if issued.digest != row.chain.token_hash {
            return Ok(None);
        }
        let kind = if row.chain.position == next.position { Kind::Rotated } else { Kind::Recovered };
        let (idle_expires_at, access_expires_at) = (row.expiry.idle_expires_at, row.expiry.access_expires_at);
        let next = NextToken { position: row.chain.position, idle_expires_at, access_expires_at, ..next.clone() };
        Ok(Some(self.grant(kind, &next, issued, row.into())))
    }

    /// The rotation that suits the row, if what the token showed of it was wrong.
    fn rotation_of(&self, row: &SessionRow) -> QueryResult<(Arc<Rotation>, IssuedToken)> {
        if row.expiry.remember == self.rotation.remember {
            return Ok((Arc::clone(&self.rotation), self.rotated.clone()));
        }
        let Self { tokens, lifetimes, access_lifetime, presented, now, .. } = self;
        let plan = Plan { tokens, lifetimes: *lifetimes, access_lifetime: *access_lifetime, presented, now: *now };
        let next = &self.rotation.next;
        let (rotation, issued) =
            plan.rotation(row.expiry.remember, next.salt, next.device.clone()).map_err(internal_error)?;
        Ok((Arc::new(rotation), issued))
    }

    /// At most one more conditional statement. `None`: another refresh was faster; look again.
    fn carry_out(&self, conn: &mut AnyConnection, verdict: Verdict, row: &SessionRow) -> QueryResult<Option<Outcome>> {
        let id = self.rotation.id;
        Ok(match verdict {
            Verdict::Repeat { .. } => None,
            Verdict::Current => {
                let (rotation, issued) = self.rotation_of(row)?;
                let rotated_row = sessions::advance(conn, &rotation)?;
                rotated_row
                    .map(|rotated_row| Outcome::Granted(self.grant(Kind::Rotated, &rotation.next, issued, rotated_row)))
            }
            Verdict::Conflict => Some(Outcome::Conflict),
            Verdict::Refuse(refusal) => Some(Outcome::Refused(refusal)),
            Verdict::Recover => {
                let position = row.chain.position.next_branch();
                let issued = self.mint(position, self.now, row.expiry.idle_expires_at)?;
                let idle_expires_at = row.expiry.idle_expires_at;
                let access_expires_at = self.now.floor_second().plus(self.access_lifetime).min(idle_expires_at);
                let token_hash = issued.digest;
                let next = NextToken {
                    position,
                    token_hash,
                    idle_expires_at,
                    access_expires_at,
                    ..self.rotation.next.clone()
                };
                sessions::recover(conn, id, row.chain.position, &next)?
                    .then(|| Outcome::Granted(self.grant(Kind::Recovered, &next, issued, row.into())))
            }
            Verdict::Adopt => {
                let (rotation, issued) = self.rotation_of(row)?;
                let presented = (self.presented.digest(), self.presented.kid());
                sessions::adopt(conn, id, row.chain.position, presented, &rotation.next)?
                    .then(|| Outcome::Granted(self.grant(Kind::Behind, &rotation.next, issued, row.into())))
            }
            Verdict::Reused(reuse) => sessions::revoke_at(conn, id, row.chain.position, self.clock.now(), "reused")?
                .then_some(Outcome::Reused(reuse, Ended { id, access_expires_at: row.expiry.access_expires_at })),
        })
    }

    /// The answer that was given before, derived anew. `None`: it cannot be, its key being gone.
    fn repeat(&self, conn: &mut AnyConnection, row: &SessionRow, streak: Option<u32>) -> QueryResult<Option<Grant>> {
        let derived = self
            .tokens
            .successor(
                &self.presented,
                &row.chain.key_id,
                row.chain.position,
                &row.chain.salt,
                row.chain.branched_at,
                row.expiry.idle_expires_at,
            )
            .map_err(internal_error)?;
        let Some(issued) = derived.filter(|issued| issued.digest == row.chain.token_hash) else { return Ok(None) };
        if let Some(streak) = streak {
            sessions::count_streak(conn, self.rotation.id, row.chain.position.generation, streak)?;
        }
        Ok(Some(Grant {
            kind: Kind::Repeated,
            issued,
            position: row.chain.position,
            issued_at: row.chain.branched_at.min(self.now),
            access_expires_at: row.expiry.access_expires_at.min(row.expiry.idle_expires_at),
            idle_expires_at: row.expiry.idle_expires_at,
            rotated_row: row.into(),
            streak,
        }))
    }

    fn mint(&self, position: ChainPosition, issued_at: Timestamp, expires_at: Timestamp) -> QueryResult<IssuedToken> {
        self.tokens
            .successor(
                &self.presented,
                self.tokens.active_kid(),
                position,
                &self.rotation.next.salt,
                issued_at,
                expires_at,
            )
            .map_err(internal_error)?
            .ok_or_else(|| internal_error(SignError("the active key is missing".into())))
    }

    fn grant(&self, kind: Kind, next: &NextToken, issued: IssuedToken, rotated_row: RotatedRow) -> Grant {
        Grant {
            kind,
            issued,
            position: next.position,
            issued_at: self.now,
            access_expires_at: next.access_expires_at,
            idle_expires_at: next.idle_expires_at,
            rotated_row,
            streak: None,
        }
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "refresh_tests.rs"]
mod tests;
