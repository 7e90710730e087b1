//! Sends the mails that wait, one after the other. Of several nodes one at a time has a given mail: it claims it for longer
//! than a sending may take, and another one takes it over when the claim has ended.

use std::time::Duration;

use uuid::Uuid;

use super::{Stop, Task};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::clock::Clock;
use crate::current::Current;
use crate::ids::{MailId, UserId};
use crate::mail::SendError;
use crate::metrics::{Counters, MailOutcome};
use crate::outbox::{self, DECOY, Outbox};
use crate::store::events::InTransaction;
use crate::store::mails::{self, Claim, ClaimedMail};
use crate::store::{AnyConnection, Store, StoreError, mail_tokens, users};

/// Between two looks whether this process has written a mail; and, in so many of them, between two looks for mails that others
/// have, or that are due again.
const PERIOD: Duration = Duration::from_millis(50);
const PERIODS: u32 = 20;
/// After the database has given no answer.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Mails that are looked for at once.
const BATCH: i64 = 50;
/// Much longer than a sending may take.
const CLAIM: Duration = Duration::from_secs(5 * 60);
/// How long a mail is tried.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause after each attempt that has failed, in seconds; the last one after all that follow.
const PAUSES: [u64; 8] = [5, 15, 60, 5 * 60, 15 * 60, 30 * 60, 60 * 60, 2 * 60 * 60];
/// What is told of a mail that was refused, and of one that was tried for too long or cannot be opened.
const REFUSED: &str = "refused";
const GIVEN_UP: &str = "given_up";

/// The task.
pub struct MailSender {
    store: Store,
    clock: Clock,
    outbox: Current<Option<Outbox>>,
    outcomes: Counters<MailOutcome>,
    stop: Stop,
    /// In how many periods it looks for mails again.
    idle_periods_left: u32,
    /// In how many more it looks each time: a mail that was written may not be committed yet.
    eager_rounds_left: u32,
}

/// Why a mail is not tried again.
struct Failure {
    detail: &'static str,
    outcome: MailOutcome,
    error: String,
}

impl MailSender {
    /// Sends what `outbox` has written, if there is one.
    pub fn new(
        store: Store,
        clock: Clock,
        outbox: Current<Option<Outbox>>,
        outcomes: Counters<MailOutcome>,
        stop: Stop,
    ) -> Self {
        Self { store, clock, outbox, outcomes, stop, idle_periods_left: 0, eager_rounds_left: 0 }
    }

    /// Sends what is due, and says whether there may be more.
    fn send_due(&self, outbox: &Outbox) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let due = self.store.read_blocking(|conn| mails::due(conn, now, BATCH))?;
        let is_full = i64::try_from(due.len()).is_ok_and(|count| count == BATCH);
        for id in due {
            if self.stop.rest(Duration::ZERO) {
                return Ok(false);
            }
            self.send(outbox, id)?;
        }
        Ok(is_full)
    }

    fn send(&self, outbox: &Outbox, id: MailId) -> Result<(), StoreError> {
        let (claim, now): (Claim, _) = (*Uuid::new_v4().as_bytes(), self.clock.now());
        let claimed = move |conn: &mut AnyConnection| mails::claim(conn, id, &claim, now, now.plus(CLAIM));
        let Some(mail) = self.store.write_blocking(claimed)? else { return Ok(()) };
        if mail.kind == DECOY {
            return self.finish(&mail, claim).map(drop);
        }
        if now.since(mail.created_at) > LIFETIME {
            let error = "it has waited for more than a day".to_owned();
            return self.give_up(&mail, claim, Failure { detail: GIVEN_UP, outcome: MailOutcome::GivenUp, error });
        }
        let Some(message) = outbox::open(&outbox.keys(), &mail) else {
            // Another node may have the key, or this one reads it yet.
            return self.postpone(&mail, claim, format!("the refresh key {} is not here", mail.sealed_under));
        };
        let kind = mail.kind.as_str();
        match outbox.transport().send(&message, Uuid::from_bytes(*id.as_bytes()), mail.created_at).map_err(redacted) {
            Ok(()) => {
                self.finish(&mail, claim)?;
                self.outcomes.count(MailOutcome::Sent);
                tracing::info!(mail_id = %id, kind, attempts = mail.attempts, "a mail was sent");
                Ok(())
            }
            Err(SendError::Refused(error)) => {
                self.give_up(&mail, claim, Failure { detail: REFUSED, outcome: MailOutcome::Refused, error })
            }
            Err(SendError::Misconfigured(error)) => {
                tracing::error!(mail_id = %id, kind, error, "mail cannot be sent as it is configured: see the section mail");
                self.postpone(&mail, claim, error)
            }
            Err(SendError::Later(error)) => {
                tracing::warn!(mail_id = %id, kind, error, "a mail could not be sent yet");
                self.postpone(&mail, claim, error)
            }
        }
    }

    /// Removes a mail that was sent; and, of one that stands for none, its token.
    fn finish(&self, mail: &ClaimedMail, claim: Claim) -> Result<bool, StoreError> {
        let (id, decoy) = (mail.id, mail.user_id.filter(|_| mail.kind == DECOY));
        // The same statements for both.
        let user = decoy.unwrap_or_else(UserId::generate);
        self.store.write_blocking(move |conn| {
            mail_tokens::forget(conn, user)?;
            mails::finish(conn, id, &claim)
        })
    }

    fn postpone(&self, mail: &ClaimedMail, claim: Claim, error: String) -> Result<(), StoreError> {
        let (now, id) = (self.clock.now(), mail.id);
        let due_at = now.plus(pause(mail.attempts));
        if due_at > mail.created_at.plus(LIFETIME) {
            return self.give_up(mail, claim, Failure { detail: GIVEN_UP, outcome: MailOutcome::GivenUp, error });
        }
        self.outcomes.count(MailOutcome::Postponed);
        self.store.write_blocking(move |conn| mails::postpone(conn, id, &claim, due_at, &error))
    }

    fn give_up(&self, mail: &ClaimedMail, claim: Claim, failure: Failure) -> Result<(), StoreError> {
        let Failure { detail, outcome, error } = failure;
        tracing::warn!(mail_id = %mail.id, kind = mail.kind, attempts = mail.attempts, error, "a mail is given up");
        let event = Event::new(Kind::MailFailed).detail(detail);
        let event = match mail.user_id {
            Some(user) => event.user(user),
            None => event,
        };
        let (id, now, kept) = (mail.id, self.clock.now(), event.clone());
        let ours = self.store.write_blocking(move |conn| {
            let ours = mails::finish(conn, id, &claim)?;
            // Nothing is kept of an account that has been deleted by now.
            if ours && kept.kept_for().map_or(Ok(false), |user| users::exists(conn, user))? {
                emit(InTransaction(conn, now), &kept)?;
            }
            Ok(ours)
        })?;
        if ours {
            self.outcomes.count(outcome);
            emit(AfterCommit, &event);
        }
        Ok(())
    }
}

/// What a server or program has said, without what may be a link or a code of the mail: it is kept unsealed, and logged.
fn redacted(error: SendError) -> SendError {
    match error {
        SendError::Refused(text) => SendError::Refused(without_secrets(&text)),
        SendError::Later(text) => SendError::Later(without_secrets(&text)),
        SendError::Misconfigured(text) => SendError::Misconfigured(without_secrets(&text)),
    }
}

fn without_secrets(text: &str) -> String {
    /// Shorter than a token, longer than what servers call things by.
    const LONG: usize = 32;
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut clean = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| !is_part(c)) {
        let word = piece.trim_end_matches(|c| !is_part(c));
        let is_code = word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_digit());
        if word.len() >= LONG || is_code {
            clean.push('…');
            clean.push_str(piece.get(word.len()..).unwrap_or_default());
        } else {
            clean.push_str(piece);
        }
    }
    clean
}

/// How long a mail rests that was tried so often.
fn pause(attempts: i64) -> Duration {
    let last = PAUSES.len() - 1;
    let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(last).min(last);
    Duration::from_secs(PAUSES.get(place).copied().unwrap_or_default())
}

impl Task for MailSender {
    const NAME: &'static str = "mail";

    fn round(&mut self) -> Duration {
        let outbox = self.outbox.get();
        let Some(outbox) = outbox.as_ref() else { return PERIOD * PERIODS };
        if outbox.take_written() {
            self.eager_rounds_left = PERIODS;
        }
        if self.idle_periods_left > 0 && self.eager_rounds_left == 0 {
            self.idle_periods_left -= 1;
            return PERIOD;
        }
        (self.idle_periods_left, self.eager_rounds_left) = (PERIODS, self.eager_rounds_left.saturating_sub(1));
        match self.send_due(outbox) {
            Ok(true) => Duration::ZERO,
            Ok(false) => PERIOD,
            Err(error) => {
                tracing::debug!(error = error.chain(), "the mails that wait could not be looked for");
                AFTER_FAILURE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_at_the_last() {
        let pauses: Vec<u64> = (1..=9).map(|attempts| pause(attempts).as_secs()).collect();
        assert_eq!(pauses, [5, 15, 60, 300, 900, 1800, 3600, 7200, 7200]);
        assert_eq!(pause(i64::MAX), pause(9));
    }

    #[test]
    fn what_a_server_says_is_kept_without_links_and_codes() {
        let token = "t".repeat(43);
        let said = format!("550 5.7.1 spam: https://a.example/account/reset?token={token} or 12345678, id 4f2a-77");
        let clean = without_secrets(&said);
        assert_eq!(clean, "550 5.7.1 spam: https://a.example/account/reset?token=… or …, id 4f2a-77");
        assert_eq!(without_secrets("421 try later"), "421 try later");
    }
}
