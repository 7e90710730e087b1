//! How a session begins, and which ones it takes the place of.

use std::time::Duration;

use tracing::Instrument as _;

use super::claims::extra;
use super::{Admission, Handed, Sessions, SignIn, StartError, TokenPair};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::ids::{SessionId, UserId};
use crate::store::events::InTransaction;
use crate::store::second_factors::Proof;
use crate::store::sessions::{self, Ended, NewSession};
use crate::store::users::{self, Bestowed};
use crate::store::{AnyConnection, QueryResult, second_factors, too_many_conflicts};
use crate::tokens::ChainPosition;
use crate::tokens::access::{Authentication, Bearer};

/// Rest between two transactions that displace sessions.
const BETWEEN_DISPLACED: Duration = Duration::from_millis(5);

enum Opened {
    /// With these roles and claims; these sessions have been displaced by it.
    Yes(Bestowed, Vec<Ended>),
    Changed,
    EmailTaken,
}

impl Sessions {
    /// Starts a session.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing was written.
    pub async fn start(&self, admission: Admission, sign_in: SignIn) -> Result<TokenPair, StartError> {
        let inner = &self.0;
        let now = inner.clock.now();
        let (session_id, user_id) = (SessionId::generate(), admission.user_id());
        let (mfa, added) = (admission.proof().is_some(), self.added_claims(user_id).await?);
        let expires_at = now.floor_second().plus(inner.settings.lifetimes.absolute);
        let idle_expires_at = inner.settings.lifetimes.idle_end(sign_in.remember, now, expires_at);
        let access_expires_at = now.floor_second().plus(inner.access.lifetime()).min(idle_expires_at);
        let issued = inner.refresh.first(user_id, session_id, expires_at, now, idle_expires_at)?;
        let new = NewSession {
            id: session_id,
            user_id,
            token_hash: issued.digest,
            key_id: inner.refresh.active_kid().to_owned(),
            now,
            access_expires_at,
            idle_expires_at,
            expires_at,
            transport: sign_in.transport,
            device_name: sign_in.device_name,
            device: sign_in.device.clone(),
            remember: sign_in.remember,
            mfa,
        };
        let kind = if matches!(admission, Admission::Newcomer(_)) { Kind::Registered } else { Kind::LoginOk };
        let event = Event::new(kind).user(user_id).session(session_id);
        let event = event.ip_address(sign_in.device.ip_address.as_deref());
        let displaced = event.clone().of_kind(Kind::Displaced);
        let is_recovery = matches!(admission.proof(), Some(Proof::Recovery(_)));
        let used = is_recovery.then(|| event.clone().of_kind(Kind::RecoveryCodeUsed));
        let told_of_use = used.clone();
        let (told, told_of_displaced, revocations) = (event.clone(), displaced.clone(), inner.revocations.clone());
        let (most, clock) = (inner.settings.most, inner.clock.clone());
        let left_out: Vec<SessionId> = sign_in.replaces.iter().copied().chain([session_id]).collect();
        let attempt = move |conn: &mut AnyConnection| {
            let opened = open(conn, &admission, &new)?;
            let Opened::Yes(bestowed, _) = opened else { return Ok(opened) };
            emit(InTransaction(conn, now), &event)?;
            if let Some(used) = &used {
                emit(InTransaction(conn, now), used)?;
            }
            Ok(Opened::Yes(bestowed, sessions::displace(conn, &displaced, (user_id, &left_out), most, clock.now())?))
        };
        let after_commit = move |opened: &Opened| {
            if let Opened::Yes(_, displaced) = opened {
                emit(AfterCommit, &told);
                told_of_use.iter().for_each(|used| emit(AfterCommit, used));
                revocations.add_and_emit(&told_of_displaced, displaced);
            }
        };
        let opened = inner.store.write_and_then(attempt, after_commit).await?;
        let Bestowed { roles, claims } = match opened {
            Opened::Yes(bestowed, displaced) => {
                if is_full(&displaced) {
                    self.displace_more(user_id, session_id, sign_in.device.ip_address);
                }
                bestowed
            }
            Opened::Changed => return Err(StartError::Changed),
            Opened::EmailTaken => return Err(StartError::EmailTaken),
        };
        let bearer = Bearer {
            user_id,
            session_id,
            position: ChainPosition::FIRST,
            roles: roles.into_names(),
            expires_at: access_expires_at,
            authentication: Authentication { at: Some(now), mfa },
            claims: extra(claims.as_deref(), added),
        };
        let handed = Handed { transport: sign_in.transport, remember: sign_in.remember, until: idle_expires_at };
        self.pair(&bearer, now, now, issued.token, handed).map_err(StartError::from)
    }

    /// Ends what else is beyond the bound, a few sessions at a time: an account may have had very many before there was one.
    fn displace_more(&self, user: UserId, new: SessionId, address: Option<String>) {
        let this = self.clone();
        let event = Event::new(Kind::Displaced).user(user).ip_address(address.as_deref());
        let carried_out = async move {
            loop {
                let (most, clock) = (this.0.settings.most, this.0.clock.clone());
                let (told, displaced, revocations) = (event.clone(), event.clone(), this.0.revocations.clone());
                let attempt = move |conn: &mut AnyConnection| {
                    sessions::displace(conn, &displaced, (user, &[new]), most, clock.now())
                };
                let after_commit = move |ended: &Vec<Ended>| revocations.add_and_emit(&told, ended);
                let done = match this.0.revocations.turn().await {
                    Ok(_turn) => this.0.store.write_and_then(attempt, after_commit).await,
                    Err(error) => Err(error),
                };
                match done {
                    Ok(ended) if is_full(&ended) => tokio::time::sleep(BETWEEN_DISPLACED).await,
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(error = error.chain(), "sessions beyond the bound are left for the next log-in");
                        return;
                    }
                }
            }
        };
        tokio::spawn(carried_out.in_current_span());
    }
}

/// Whether so many have ended at once that there may be more.
fn is_full(ended: &[Ended]) -> bool {
    i64::try_from(ended.len()).is_ok_and(|ended| ended >= sessions::AT_ONCE)
}

/// Opens a session, if the account is still as it was when the password was verified.
fn open(conn: &mut AnyConnection, admission: &Admission, new: &NewSession) -> QueryResult<Opened> {
    let (user, password_hash) = match admission {
        Admission::Verified { user_id, password_hash, .. } => (*user_id, password_hash),
        Admission::Newcomer(user) => {
            if !users::insert(conn, user)? {
                return Ok(Opened::EmailTaken);
            }
            (user.id, &user.password_hash)
        }
    };
    let Some(bestowed) = users::begin_session(conn, user, password_hash, new.mfa, new.now)? else {
        return Ok(Opened::Changed);
    };
    if let Some(proof) = admission.proof() {
        // The account's row is held since it was marked: of two that use one code, the second sees here that it is used.
        if !second_factors::accept(conn, user, proof)? {
            return Ok(Opened::Changed);
        }
    }
    if sessions::would_have_ended(conn, user, new.id)? {
        return Err(too_many_conflicts());
    }
    sessions::insert(conn, new, &bestowed)?;
    Ok(Opened::Yes(bestowed, Vec::new()))
}
