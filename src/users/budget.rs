//! How many guesses anybody has: at one account from one address, at one account from everywhere, from one
//! address at all accounts. Guesses at accounts that do not exist are counted alike.
//!
//! A guess is counted before it is looked at, so that guesses made at once cannot slip through together, and
//! taken back when it turns out to be none. The counts are in the database: a restart forgets nothing.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::events::{Event, Kind};
use crate::network::counted_as;
use crate::passwords::Begun;
use crate::store::attempts::{self, AttemptKey, Counted};
use crate::store::{AnyConnection, Store, StoreError};

/// One account, and one address, have this many times the guesses that one account has from one address.
const WIDER: i64 = 10;
/// Registrations from one address: more than any class-room makes, and a small fraction of what an attacker would need
/// to fill a database, or to learn which of many addresses are taken.
const REGISTRATIONS: i64 = 1_000;
const REGISTRATION_WINDOW: Duration = Duration::from_secs(60 * 60);
/// The seconds that whoever is refused waits where only guesses that nobody has looked at yet are in the way.
const SOON: u64 = 2;
/// After how many seconds what could not be taken back is tried again.
const AGAIN: [u64; 5] = [1, 2, 4, 8, 16];
/// What is counted.
const PAIR: &str = "account_and_address";
const ACCOUNT: &str = "account";
const ADDRESS: &str = "address";
const REGISTRATION: &str = "registration";

/// How many; `limits.*`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Failures at one account from one address.
    pub failures: u32,
    /// How long a failure counts.
    pub window: Duration,
}

/// Counts guesses. Clones share the counts.
#[derive(Clone)]
pub struct Budget {
    store: Store,
    clock: Clock,
    limits: Option<Limits>,
    undecided: Undecided,
}

/// What is counted, under which key, and up to what.
type Limited = (&'static str, AttemptKey, i64);

/// A guess that may be made, and has not been counted.
pub struct Allowed {
    budget: Budget,
    keys: Vec<Limited>,
    window: Duration,
}

/// A guess that has been counted. Dropped before anybody has looked at it, as when its client hangs up in the queue or
/// the database gives no answer, it is taken back.
pub struct Guess {
    budget: Budget,
    /// The narrowest first.
    counts: Vec<Count>,
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

impl Budget {
    /// Without limits, nothing is counted.
    pub fn new(store: Store, clock: Clock, limits: Option<Limits>) -> Self {
        Self { store, clock, limits, undecided: Undecided::default() }
    }

    /// Whether anything is.
    pub(super) fn is_limited(&self) -> bool {
        self.limits.is_some()
    }

    /// Looks whether a guess at the password of an account may be made, whether there is one or not. Nothing is counted.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub async fn look(&self, email_key: &str, address: Option<IpAddr>) -> Result<Allowed, Denied> {
        let mut keys = Vec::new();
        let window = self.limits.map_or(Duration::ZERO, |limits| limits.window);
        if let Some(limits) = self.limits {
            let narrow = i64::from(limits.failures);
            let wide = narrow.saturating_mul(WIDER);
            let from = address.map(|address| counted_as(address).to_string());
            if let Some(from) = &from {
                keys.push((PAIR, key(&[PAIR, email_key, from]), narrow));
            }
            keys.push((ACCOUNT, key(&[ACCOUNT, email_key]), wide));
            if let Some(from) = &from {
                keys.push((ADDRESS, key(&[ADDRESS, from]), wide));
            }
        }
        self.refuse_if_full(&keys).await?;
        Ok(Allowed { budget: self.clone(), keys, window })
    }

    /// Counts a registration.
    ///
    /// # Errors
    ///
    /// [`Denied`]; then nothing was counted.
    pub async fn registration(&self, address: Option<IpAddr>) -> Result<(), Denied> {
        let (Some(_), Some(address)) = (self.limits, address) else { return Ok(()) };
        let keys = [(REGISTRATION, key(&[REGISTRATION, &counted_as(address).to_string()]), REGISTRATIONS)];
        self.refuse_if_full(&keys).await?;
        let Some(counts) = self.count(&keys, REGISTRATION_WINDOW).await? else {
            return Err(self.refuse_if_full(&keys).await.err().unwrap_or(Denied::Spent(SOON)));
        };
        tell_of_the_last(&counts, &Event::new(Kind::LimitReached).ip_address(Some(&address.to_string())));
        Ok(())
    }

    /// A flood of attempts that are refused writes nothing, and is in no writer's way.
    async fn refuse_if_full(&self, keys: &[Limited]) -> Result<(), Denied> {
        let (now, limits) = (self.clock.now(), limits_of(keys));
        if limits.is_empty() {
            return Ok(());
        }
        // Looked at before and after: what is taken back meanwhile may still be in the count that is read.
        let before: HashMap<_, _> = keys.iter().map(|(_, key, _)| (*key, self.undecided.of(key))).collect();
        let full = self.store.read(move |conn| attempts::full(conn, &limits, now)).await?;
        let waits = full.into_iter().map(|(full, count, until)| {
            let limit = keys.iter().find(|(_, key, _)| *key == full).map_or(0, |(_, _, limit)| *limit);
            // Guesses that nobody has looked at yet may turn out to be right, and leave room again.
            let undecided = self.undecided.of(&full).max(before.get(&full).copied().unwrap_or(0));
            let decided = count.saturating_sub(undecided);
            // Rounded up: who waits as long as told is let in.
            if decided < limit { SOON } else { now.seconds_until(until).saturating_add(1) }
        });
        waits.max().map_or(Ok(()), |wait| Err(Denied::Spent(wait)))
    }

    /// `None`: some limit was reached, and nothing was counted.
    async fn count(&self, keys: &[Limited], window: Duration) -> Result<Option<Vec<Count>>, StoreError> {
        let (now, limits) = (self.clock.now(), limits_of(keys));
        if limits.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let counted = self.store.write(move |conn| attempts::count(conn, &limits, now, window)).await?;
        Ok(counted.map(|counted| {
            let named = keys.iter().zip(counted);
            named.map(|((name, _, limit), counted)| Count { name, limit: *limit, counted }).collect()
        }))
    }

    /// Once, and if that fails, a few times more when nobody waits for it: counts that stay would refuse whoever was right.
    async fn take_back(self, counts: Vec<Count>, undecided: Option<Waiting>, right: bool) -> Result<(), StoreError> {
        let counts = Arc::new(counts);
        let write = move || {
            let (store, counts) = (self.store.clone(), Arc::clone(&counts));
            let attempt = move |conn: &mut AnyConnection| {
                let counted: Vec<_> = counts.iter().map(|count| count.counted).collect();
                attempts::give_back(conn, &counted)?;
                let pair = counts.iter().find(|count| right && count.name == PAIR);
                pair.map_or(Ok(()), |pair| attempts::clear(conn, &pair.counted))
            };
            async move { store.write(attempt).await }
        };
        let first = write().await;
        if first.is_err() {
            let again = async move {
                let _undecided = undecided;
                for pause in AGAIN {
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
        // A task of its own: whoever hangs up while it is counted has it taken back by dropping the guess.
        let counted = tokio::spawn(self.count_now().in_current_span()).await;
        counted.map_err(|panic| StoreError::Broken(panic.into()))?
    }

    async fn count_now(self) -> Result<Guess, Denied> {
        let Self { budget, keys, window } = self;
        let undecided = budget.undecided.add(&keys);
        let Some(counts) = budget.count(&keys, window).await? else {
            drop(undecided);
            return Err(budget.refuse_if_full(&keys).await.err().unwrap_or(Denied::Spent(SOON)));
        };
        Ok(Guess { budget, counts, begun: Begun::default(), undecided: Some(undecided) })
    }
}

/// How many guesses at each key are waiting to be looked at, in this process.
#[derive(Clone, Default)]
struct Undecided(Arc<Mutex<HashMap<AttemptKey, i64>>>);

/// Some of them, for as long as it lives.
struct Waiting {
    undecided: Undecided,
    keys: Vec<AttemptKey>,
}

impl Undecided {
    fn add(&self, keys: &[Limited]) -> Waiting {
        let keys: Vec<_> = keys.iter().map(|(_, key, _)| *key).collect();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().for_each(|key| *counts.entry(*key).or_default() += 1);
        Waiting { undecided: self.clone(), keys }
    }

    fn of(&self, key: &AttemptKey) -> i64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or(0)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut counts = self.undecided.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
    }
}

fn limits_of(keys: &[Limited]) -> Vec<(AttemptKey, i64)> {
    keys.iter().map(|(_, key, limit)| (*key, *limit)).collect()
}

impl Guess {
    /// To be set by whoever looks at the guess, before.
    pub fn begun(&self) -> Begun {
        self.begun.clone()
    }

    /// The guess was right: what its account and address have got wrong together is forgotten, and the guess itself
    /// counts nowhere.
    ///
    /// # Errors
    ///
    /// If the database gave no answer: whoever waits for theirs has waited long enough then.
    pub async fn was_right(mut self) -> Result<(), StoreError> {
        let (counts, undecided) = (mem::take(&mut self.counts), self.undecided.take());
        if counts.is_empty() {
            return Ok(());
        }
        // A task of its own: it is done even if whoever guessed hangs up now.
        let taken = tokio::spawn(self.budget.clone().take_back(counts, undecided, true).in_current_span());
        taken.await.map_err(|panic| StoreError::Broken(panic.into()))?
    }

    /// The guess was wrong, and stays counted. If it was the last that somebody had, that is told, once: from
    /// then on everything is refused.
    pub fn was_wrong(mut self, event: &Event) {
        tell_of_the_last(&mem::take(&mut self.counts), event);
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        let counts = mem::take(&mut self.counts);
        if !counts.is_empty() && !self.begun.is_set() {
            let undecided = self.undecided.take();
            tokio::spawn(self.budget.clone().take_back(counts, undecided, false).in_current_span());
        }
    }
}

fn tell_of_the_last(counts: &[Count], event: &Event) {
    for count in counts.iter().filter(|count| count.counted.count == count.limit) {
        event.clone().kind(Kind::LimitReached).detail(count.name).record();
    }
}

/// A digest of what is counted. The parts cannot run into each other: each is preceded by its length.
fn key(parts: &[&str]) -> AttemptKey {
    let mut key = AttemptKey::default();
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    key.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    key
}
