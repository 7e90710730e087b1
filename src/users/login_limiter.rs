//! How many guesses there are: at one account from one address, at one account from everywhere, from one
//! address at all accounts. Guesses at accounts that do not exist are counted alike.
//!
//! A guess is counted before it is looked at, so that guesses made at once cannot slip through together, and
//! taken back when it turns out to be none. A right one clears what its account and address have got wrong together, and
//! gives that back to the two totals: many people at one address have a mistake each. The total of an account keeps no one
//! out of it where one of its sessions is, nor who has an access token of it. The counts are in the database: a restart
//! forgets nothing.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use tracing::Instrument as _;

use super::guess_keys::{
    ACCOUNT, ADDRESS, CODE_WINDOW, Limited, PAIR, WIDER, code_keys_of, key, keys_of, limits_of, totals_of,
};
pub use super::guess_keys::{Limits, Target};
use super::undecided::{Undecided, Waiting};
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::clock::{Clock, Timestamp};
use crate::ids::UserId;
use crate::network::rate_limit_key;
use crate::passwords::Begun;
use crate::store::attempts::{self, AccountCount, Counted, GuessCounts, Limit, Totals};
use crate::store::{AnyConnection, Store, StoreError, sessions};

/// Registrations from one address: more than any class-room makes, and a small fraction of what an attacker would need
/// to fill a database, or to learn which of many addresses are taken.
const REGISTRATIONS: i64 = 1_000;
const REGISTRATION_WINDOW: Duration = Duration::from_secs(60 * 60);
/// What is counted of those.
const REGISTRATION: &str = "registration";
/// The seconds to wait where only guesses that have not been looked at yet are in the way.
const RETRY_AFTER: u64 = 2;
/// After how many seconds what could not be taken back is tried again.
const RETRY_PAUSES: [u64; 5] = [1, 2, 4, 8, 16];
/// Counts guesses. Clones share the counts.
#[derive(Clone)]
pub struct LoginLimiter {
    store: Store,
    clock: Clock,
    limits: Option<Limits>,
    undecided: Undecided,
}

/// That an account takes no guesses, from an address or from everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The address, or the IPv6 /64. None: everywhere, but for addresses where one of its sessions is.
    pub ip_address: Option<String>,
    /// Until then.
    pub until: Timestamp,
}

/// Who guesses, and from where: whether that is where a session of theirs is.
#[derive(Clone, Copy)]
pub(super) struct Home {
    user: UserId,
    network: IpAddr,
}

/// A guess that may be made, and has not been counted.
pub struct Allowed {
    login_limiter: LoginLimiter,
    keys: Vec<Limited>,
    totals: Option<Totals>,
    home: Option<Home>,
    window: Duration,
}

/// A guess that has been counted. Dropped before it was looked at, as when its client hangs up in the queue or
/// the database gives no answer, it is taken back.
pub struct Guess {
    login_limiter: LoginLimiter,
    /// The narrowest first.
    counts: Vec<Count>,
    totals: Option<Totals>,
    begun: Begun,
    /// Until it is decided, or taken back.
    undecided: Option<Waiting>,
}

/// Under what an attempt is counted, and what that came to.
struct Count {
    name: &'static str,
    limit: i64,
    counted: Counted,
}

/// Why a guess may not be made.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Too many already. There is room again after so many seconds.
    #[error("too many attempts")]
    Spent(u64),
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoginLimiter {
    /// Without limits, nothing is counted.
    pub fn new(store: Store, clock: Clock, limits: Option<Limits>) -> Self {
        Self { store, clock, limits, undecided: Undecided::default() }
    }

    /// The same counts under other limits.
    #[must_use]
    pub(super) fn reconfigured(&self, limits: Option<Limits>) -> Self {
        Self { limits, ..self.clone() }
    }

    /// Whether anything is.
    pub(super) fn is_limited(&self) -> bool {
        self.limits.is_some()
    }

    /// Looks whether a guess at a password may be made, whether there is an account or not. Nothing is counted.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub async fn check(&self, target: &Target, address: Option<IpAddr>) -> Result<Allowed, Denied> {
        let Some(limits) = self.limits else { return Ok(self.unlimited()) };
        let mut keys = keys_of(target, address, limits);
        if address.is_none() {
            keys.retain(|key| key.name == ACCOUNT);
        }
        // Of an account that does not exist no session is anywhere, which is looked for all the same: it takes as long.
        let user = if let Target::Account(id) = target { *id } else { UserId::generate() };
        let home = address.map(|address| Home { user, network: rate_limit_key(address) });
        self.allow(keys, totals_of(target, address), home, limits.window).await
    }

    /// The same for a guess at a code of a user's second factor. What is counted of passwords and what is counted of codes
    /// are two things: the right password clears no wrong code.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub async fn check_code(&self, user: UserId, address: Option<IpAddr>) -> Result<Allowed, Denied> {
        if self.limits.is_none() {
            return Ok(self.unlimited());
        }
        let (keys, totals) = code_keys_of(user, address);
        let home = address.map(|address| Home { user, network: rate_limit_key(address) });
        self.allow(keys, totals, home, CODE_WINDOW).await
    }

    async fn allow(
        &self,
        mut keys: Vec<Limited>,
        totals: Totals,
        home: Option<Home>,
        window: Duration,
    ) -> Result<Allowed, Denied> {
        if self.refuse_if_full(&keys, home, window).await? {
            keys.retain(|key| key.name != ACCOUNT);
        }
        Ok(Allowed { login_limiter: self.clone(), keys, totals: Some(totals), home, window })
    }

    /// The same for who has an access token of the account: only what was got wrong from the same address counts, so that
    /// strangers keep no user from changing their password.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub async fn look_signed_in(&self, user: UserId, address: Option<IpAddr>) -> Result<Allowed, Denied> {
        let Some(limits) = self.limits else { return Ok(self.unlimited()) };
        let target = Target::Account(user);
        let mut keys = keys_of(&target, address, limits);
        keys.retain(|key| key.name == PAIR);
        self.refuse_if_full(&keys, None, limits.window).await?;
        let totals = Some(totals_of(&target, address));
        Ok(Allowed { login_limiter: self.clone(), keys, totals, home: None, window: limits.window })
    }

    pub(super) fn limits(&self) -> Option<Limits> {
        self.limits
    }

    /// A guess that counts under these keys, and that a success gives back.
    pub(super) fn allowed(&self, keys: Vec<Limited>, window: Duration) -> Allowed {
        Allowed { login_limiter: self.clone(), keys, totals: None, home: None, window }
    }

    pub(super) fn unlimited(&self) -> Allowed {
        Allowed { login_limiter: self.clone(), keys: Vec::new(), totals: None, home: None, window: Duration::ZERO }
    }

    /// Counts a registration.
    ///
    /// # Errors
    ///
    /// [`Denied`]; then nothing was counted.
    pub async fn registration(&self, address: Option<IpAddr>) -> Result<(), Denied> {
        let (Some(_), Some(address)) = (self.limits, address) else { return Ok(()) };
        let key = key(&[REGISTRATION, &rate_limit_key(address).to_string()]);
        let limit = Limit { key, limit: REGISTRATIONS, user_id: None, ip_address: None };
        let keys = [Limited { name: REGISTRATION, limit }];
        self.refuse_if_full(&keys, None, REGISTRATION_WINDOW).await?;
        let Some(counts) = self.count(&keys, REGISTRATION_WINDOW).await? else {
            let full = self.refuse_if_full(&keys, None, REGISTRATION_WINDOW).await;
            return Err(full.err().unwrap_or(Denied::Spent(RETRY_AFTER)));
        };
        emit_limit_reached(&counts, &Event::new(Kind::LimitReached).ip_address(Some(&address.to_string())));
        Ok(())
    }

    /// What keeps guesses from an account at present, of what is counted at it.
    pub fn locks(&self, counts: Vec<AccountCount>) -> Vec<Lock> {
        let Some(limits) = self.limits else { return Vec::new() };
        let narrow = i64::from(limits.failures);
        let is_full = |count: &AccountCount| {
            let wide = count.ip_address.is_none();
            count.count >= if wide { narrow.saturating_mul(WIDER) } else { narrow }
        };
        let full = counts.into_iter().filter(is_full);
        full.map(|count| Lock { ip_address: count.ip_address, until: count.until }).collect()
    }

    /// How long a wrong guess counts.
    pub fn window(&self) -> Duration {
        self.limits.map_or(Duration::ZERO, |limits| limits.window)
    }

    /// A flood of attempts that are refused writes nothing, and is in no writer's way. `true`: the account's total is full,
    /// and does not hold where the guess comes from.
    pub(super) async fn refuse_if_full(
        &self,
        keys: &[Limited],
        home: Option<Home>,
        window: Duration,
    ) -> Result<bool, Denied> {
        let (now, limits) = (self.clock.now(), limits_of(keys));
        if limits.is_empty() {
            return Ok(false);
        }
        let total = keys.iter().find(|key| key.name == ACCOUNT).map(|key| key.limit.key);
        // Looked at before and after: what is taken back meanwhile may still be in the count that is read.
        let before: HashMap<_, _> = keys.iter().map(|key| (key.limit.key, self.undecided.of(&key.limit.key))).collect();
        let read = move |conn: &mut AnyConnection| {
            let full = attempts::full(conn, &limits, now, window)?;
            let known = match home {
                Some(home) if full.iter().any(|(key, ..)| Some(*key) == total) => {
                    sessions::addresses_of_live(conn, home.user, now)?
                }
                _ => Vec::new(),
            };
            Ok((full, known))
        };
        let (mut full, known) = self.store.read(read).await?;
        let known = known.iter().filter_map(|text| text.parse().ok()).map(rate_limit_key);
        let at_home = home.is_some_and(|home| known.into_iter().any(|network| network == home.network));
        if at_home {
            full.retain(|(key, ..)| Some(*key) != total);
        }
        let waits = full.into_iter().map(|(full, count, until)| {
            let limit = keys.iter().find(|key| key.limit.key == full).map_or(0, |key| key.limit.limit);
            // Guesses that have not been looked at yet may turn out to be right, and leave room again.
            let undecided = self.undecided.of(&full).max(before.get(&full).copied().unwrap_or(0));
            let decided = count.saturating_sub(undecided);
            // Rounded up: who waits as long as told is let in.
            if decided < limit { RETRY_AFTER } else { now.seconds_until(until).saturating_add(1) }
        });
        waits.max().map_or(Ok(at_home), |wait| Err(Denied::Spent(wait)))
    }

    /// `None`: some limit was reached, and nothing was counted.
    async fn count(&self, keys: &[Limited], window: Duration) -> Result<Option<Vec<Count>>, StoreError> {
        if keys.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let (now, keys) = (self.clock.now(), keys.to_vec());
        let attempt = move |conn: &mut AnyConnection| {
            let Some(counted) = attempts::count(conn, &limits_of(&keys), now, window)? else { return Ok(None) };
            let named = keys.iter().zip(counted);
            let counts = named.map(|(Limited { name, limit }, counted)| Count { name, limit: limit.limit, counted });
            let counts: Vec<_> = counts.collect();
            attempts::add_shares(conn, &guess_of(&counts))?;
            Ok(Some(counts))
        };
        self.store.write(attempt).await
    }

    /// Once, and if that fails, a few times more after the answer: counts that stay would refuse the right password.
    async fn take_back(
        self,
        counts: Vec<Count>,
        undecided: Option<Waiting>,
        right: Option<Totals>,
    ) -> Result<(), StoreError> {
        let guess = guess_of(&counts);
        let write = move || {
            let store = self.store.clone();
            let attempt = move |conn: &mut AnyConnection| match &right {
                Some(totals) => attempts::forgive(conn, &guess, totals),
                None => attempts::take_back(conn, &guess),
            };
            async move { store.write(attempt).await }
        };
        let first = write().await;
        if first.is_err() {
            let again = async move {
                let _undecided = undecided;
                for pause in RETRY_PAUSES {
                    tokio::time::sleep(Duration::from_secs(pause)).await;
                    if write().await.is_ok() {
                        return;
                    }
                }
                tracing::warn!("an attempt could not be taken back");
            };
            tokio::spawn(again.in_current_span());
        }
        first
    }
}

impl Allowed {
    /// Counts the guess.
    ///
    /// # Errors
    ///
    /// [`Denied`], if others were faster; then nothing was counted.
    pub async fn count(self) -> Result<Guess, Denied> {
        // A task of its own: a client that hangs up while it is counted has it taken back by dropping the guess.
        let counted = tokio::spawn(self.count_now().in_current_span()).await;
        counted.map_err(|panic| StoreError::Broken(panic.into()))?
    }

    async fn count_now(self) -> Result<Guess, Denied> {
        let Self { login_limiter, mut keys, totals, home, window } = self;
        loop {
            let undecided = login_limiter.undecided.add(&keys);
            if let Some(counts) = login_limiter.count(&keys, window).await? {
                return Ok(Guess {
                    login_limiter,
                    counts,
                    totals,
                    begun: Begun::default(),
                    undecided: Some(undecided),
                });
            }
            drop(undecided);
            let with_total = keys.len();
            if login_limiter.refuse_if_full(&keys, home, window).await? {
                keys.retain(|key| key.name != ACCOUNT);
            }
            if keys.len() == with_total {
                return Err(Denied::Spent(RETRY_AFTER));
            }
        }
    }
}

fn guess_of(counts: &[Count]) -> GuessCounts {
    let of = |name: &str| counts.iter().find(|count| count.name == name).map(|count| count.counted);
    GuessCounts { pair: of(PAIR), account: of(ACCOUNT), address: of(ADDRESS) }
}

impl Guess {
    /// To be set before the guess is looked at.
    pub fn begun(&self) -> Begun {
        self.begun.clone()
    }

    /// The guess was right: what its account and address have got wrong together is forgotten, in the totals too, and
    /// the guess itself counts nowhere.
    ///
    /// # Errors
    ///
    /// If the database gave no answer: those who wait for theirs have waited long enough then.
    pub async fn was_right(mut self) -> Result<(), StoreError> {
        let (counts, undecided) = (mem::take(&mut self.counts), self.undecided.take());
        if counts.is_empty() {
            return Ok(());
        }
        // A task of its own: it is done even if the client hangs up now.
        let totals = self.totals.take();
        let taken = tokio::spawn(self.login_limiter.clone().take_back(counts, undecided, totals).in_current_span());
        taken.await.map_err(|panic| StoreError::Broken(panic.into()))?
    }

    /// The guess was wrong, and stays counted. If it was the last one allowed, that is told, once: from
    /// then on everything is refused.
    pub fn was_wrong(mut self, event: &Event) {
        emit_limit_reached(&mem::take(&mut self.counts), event);
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        let counts = mem::take(&mut self.counts);
        if !counts.is_empty() && !self.begun.is_set() {
            let undecided = self.undecided.take();
            tokio::spawn(self.login_limiter.clone().take_back(counts, undecided, None).in_current_span());
        }
    }
}

fn emit_limit_reached(counts: &[Count], event: &Event) {
    for count in counts.iter().filter(|count| count.counted.count == count.limit) {
        emit(AfterCommit, &event.clone().of_kind(Kind::LimitReached).detail(count.name));
    }
}
