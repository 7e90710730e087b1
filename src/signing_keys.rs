//! The list of keys that have signed, in the database: a start without one that is still needed would sign people out
//! who have done nothing, and is refused. A background task keeps the list true while the process signs.

use std::time::Duration;

use crate::background::Task;
use crate::clock::{Clock, Timestamp};
use crate::current::Current;
use crate::revocation::Revocations;
use crate::store::access_keys;
use crate::store::second_factors;
use crate::store::signing_keys::{self, SigningKey};
use crate::store::{AnyConnection, QueryResult, SchemaState, Store, StoreError};
use crate::tokens::Kind;
use crate::tokens::key_selection::{Entry, Issuers, KeyState};

/// How often the ends on the list are moved on.
const PERIOD: Duration = Duration::from_secs(5 * 60);
/// How soon it is tried again where the database gave no answer.
const RETRY: Duration = Duration::from_secs(5);
/// Added to each end, so that a process which ends between two rounds has promised no less than it signed for.
const MARGIN: Duration = Duration::from_secs(10 * 60);
/// How long a key is remembered after it was needed: a database that was served once is never taken for a new one.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long what is signed lives.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// An access token.
    pub access: Duration,
    /// A refresh token.
    pub refresh: Duration,
    /// A session, however often it is refreshed.
    pub session: Duration,
    /// A refresh token that has been exchanged, where the answer was lost.
    pub recovery: Duration,
}

/// What a process signs with, and what it accepts.
#[derive(Clone, Debug)]
pub struct Ours {
    /// Every key it has.
    pub keys: Vec<Entry>,
    /// The issuer it signs for, and those it accepts.
    pub issuers: Issuers,
    /// How long what it signs lives.
    pub lives: Lives,
}

/// A key that is not there, although what it signed is still in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub kid: String,
    /// What it signed.
    pub kind: Kind,
    /// The name of the file it was generated into. None: it was configured, or that is unknown.
    pub file: Option<String>,
    /// Whether it is in the database that nodes share, and not used.
    pub in_database: bool,
    /// Until when what it signed can be used.
    pub until: Timestamp,
    /// The live sessions whose refresh token it signed. None: they could not be counted, or it signed access tokens.
    pub sessions: Option<i64>,
    /// The second factors in force that it opens, if it is a refresh key.
    pub second_factors: i64,
}

impl Missing {
    /// Whether nothing that it signed is still in use: it is needed for second factors alone.
    pub fn signed_nothing(&self) -> bool {
        self.until == Timestamp::from_micros(0)
    }
}

/// A key on the list, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The key.
    pub key: Missing,
    /// `alg` of its tokens.
    pub algorithm: String,
    /// When it was first used.
    pub first_used_at: Timestamp,
}

/// The list, a key once, whose end has not come.
///
/// # Errors
///
/// If the database cannot be asked.
pub fn remembered(conn: &mut AnyConnection, now: Timestamp) -> QueryResult<Vec<Remembered>> {
    let mut found: Vec<Remembered> = Vec::new();
    let generated: Vec<String> = access_keys::all(conn)?.into_iter().map(|key| key.kid).collect();
    for row in signing_keys::all(conn)?.into_iter().filter(|row| row.needed_until > now) {
        let Some(kind) = kind_of(&row) else { continue };
        if let Some(known) = found.iter_mut().find(|known| known.key.kid == row.kid && known.key.kind == kind) {
            known.key.until = known.key.until.max(row.needed_until);
            known.key.file = known.key.file.take().or(row.file);
            continue;
        }
        let (in_database, until) = (generated.contains(&row.kid), row.needed_until);
        let key = Missing { kid: row.kid, kind, file: row.file, in_database, until, sessions: None, second_factors: 0 };
        found.push(Remembered { key, algorithm: row.algorithm, first_used_at: row.first_used_at });
    }
    Ok(found)
}

/// The keys on the list that are none of `keys`, and that something alive was signed with. A refresh token that has been
/// exchanged is alive for `recovery`, until the client confirms that it has the next one.
///
/// # Errors
///
/// If the database cannot be asked.
pub fn missing(
    conn: &mut AnyConnection,
    keys: &[Entry],
    recovery: Duration,
    now: Timestamp,
) -> QueryResult<Vec<Missing>> {
    let mut found = Vec::new();
    for Remembered { mut key, .. } in remembered(conn, now)? {
        if keys.iter().any(|ours| ours.kid == key.kid && ours.kind == key.kind) {
            continue;
        }
        // The list says until when there may be something alive; whether there is costs more to find out. If that takes too
        // long, there is.
        let alive = match key.kind {
            Kind::Access => signing_keys::any_access_token(conn, now).unwrap_or(true),
            Kind::Refresh => {
                key.sessions = signing_keys::sessions_signed_with(conn, &key.kid, recovery, now).ok();
                key.sessions != Some(0)
            }
        };
        if alive {
            found.push(key);
        }
    }
    // A second factor has no end, and what opens it may be on the list no more.
    for (kid, second_factors) in second_factors::sealed_under(conn)? {
        if keys.iter().any(|ours| ours.kid == kid && ours.kind == Kind::Refresh) {
            continue;
        }
        if let Some(key) = found.iter_mut().find(|key| key.kid == kid && key.kind == Kind::Refresh) {
            key.second_factors = second_factors;
            continue;
        }
        let listed = signing_keys::all(conn)?.into_iter().find(|row| row.kid == kid);
        let file = listed.and_then(|row| row.file);
        let (kind, until) = (Kind::Refresh, Timestamp::from_micros(0));
        found.push(Missing { kid, kind, file, in_database: false, until, sessions: Some(0), second_factors });
    }
    Ok(found)
}

/// The issuers of sessions that may still live, and whose tokens are not accepted.
///
/// # Errors
///
/// If the database cannot be asked.
pub fn strange_issuers(conn: &mut AnyConnection, ours: &Issuers, now: Timestamp) -> QueryResult<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for row in signing_keys::all(conn)? {
        let known = row.issuer.is_empty() || ours.accept(&row.issuer) || found.contains(&row.issuer);
        if known || kind_of(&row) != Some(Kind::Refresh) {
            continue;
        }
        let last = row.last_used_at.plus(PERIOD);
        if signing_keys::any_opened_between(conn, row.first_used_at, last, now)? {
            found.push(row.issuer);
        }
    }
    Ok(found)
}

fn kind_of(row: &SigningKey) -> Option<Kind> {
    [Kind::Access, Kind::Refresh].into_iter().find(|kind| purpose(*kind) == row.purpose)
}

fn purpose(kind: Kind) -> &'static str {
    match kind {
        Kind::Access => "access",
        Kind::Refresh => "refresh",
    }
}

impl Ours {
    /// Puts the keys that sign now on the list.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub fn record(&self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let rows: Vec<SigningKey> =
            self.keys.iter().filter(|key| key.state == KeyState::Active).map(|key| self.row(key, now)).collect();
        let (needed, used) = (now.minus(REMEMBERED), now.minus(self.lives.session).minus(REMEMBERED));
        store.write_blocking(move |conn| {
            rows.iter().try_for_each(|row| signing_keys::record(conn, row))?;
            signing_keys::purge(conn, needed, used)
        })
    }

    fn row(&self, key: &Entry, now: Timestamp) -> SigningKey {
        let life = match key.kind {
            Kind::Access => self.lives.access,
            Kind::Refresh => self.lives.refresh,
        };
        let file = key.file().and_then(|file| file.file_name()).map(|name| name.to_string_lossy().into_owned());
        SigningKey {
            kid: key.kid.clone(),
            purpose: purpose(key.kind).to_owned(),
            issuer: self.issuers.current.clone(),
            algorithm: key.algorithm.to_owned(),
            file,
            first_used_at: now,
            last_used_at: now,
            needed_until: now.plus(life).plus(MARGIN),
        }
    }
}

/// Warns of sessions that will be refused for their issuer.
pub fn warn_of(issuers: &[String]) {
    for issuer in issuers {
        tracing::warn!(
            issuer,
            "the database has sessions that began under another tokens.issuer, and their tokens are refused: name it in \
             tokens.previous_issuers, for one refresh_absolute_ttl after the change"
        );
    }
}

/// Keeps the list true while the process signs.
pub struct Recorder {
    store: Store,
    clock: Clock,
    revocations: Revocations,
    ours: Current<Ours>,
    checked: bool,
}

impl Recorder {
    /// `checked`: the list has been looked at already, and this process is on it.
    pub fn new(store: Store, clock: Clock, revocations: Revocations, ours: Current<Ours>, checked: bool) -> Self {
        Self { store, clock, revocations, ours, checked }
    }
}

impl Task for Recorder {
    const NAME: &'static str = "signing keys";

    fn first_rest(&self) -> Duration {
        if self.checked { PERIOD } else { RETRY }
    }

    fn round(&mut self) -> Duration {
        let up_to_date = || matches!(self.store.schema_state_blocking(), Ok(SchemaState::Current));
        if !self.revocations.has_begun() || !up_to_date() {
            return RETRY;
        }
        let ours = self.ours.get();
        if !self.checked {
            self.checked = check_late(&self.store, &ours, self.clock.now());
        }
        match ours.record(&self.store, self.clock.now()) {
            Ok(()) if self.checked => return PERIOD,
            Ok(()) => {}
            Err(error) => tracing::debug!(error = error.chain(), "the list of signing keys could not be written"),
        }
        RETRY
    }
}

/// For a node that started before its database: it cannot refuse to start any more. Whether there was an answer.
fn check_late(store: &Store, ours: &Ours, now: Timestamp) -> bool {
    let looked = store.read_blocking(|conn| {
        Ok((missing(conn, &ours.keys, ours.lives.recovery, now)?, strange_issuers(conn, &ours.issuers, now)?))
    });
    let Ok((missing, issuers)) = looked else { return false };
    for key in &missing {
        tracing::error!(
            kid = key.kid,
            second_factors = key.second_factors,
            "a key that has signed tokens which are still in use, or opens second factors, is not there, and they are refused: \
             put it back, and start this node again"
        );
    }
    warn_of(&issuers);
    true
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "signing_keys_tests.rs"]
mod tests;
