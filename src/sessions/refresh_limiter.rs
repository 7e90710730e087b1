//! Who asks for refreshes as no honest client does. Counted in memory, and only where a refresh was no rotation,
//! so that a plain one costs nothing here.
//!
//! A flood of forged tokens is counted by its address, and stops no genuine token from the same address; genuine
//! tokens that keep coming back are counted by their session.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::ids::SessionId;
use crate::network::rate_limit_key;

/// So many in a window; then no more. Fifty tabs that wake up at once are far from it.
const LIMIT: u32 = 1_000;
const WINDOW: Duration = Duration::from_secs(60);
/// As many are remembered at once. Beyond, new ones go uncounted until windows end: a bound on memory is worth more.
const REMEMBERED: usize = 10_000;
/// While that many are, windows that have ended are looked for this often.
const SWEEP: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefreshSource {
    /// The source of forged and unreadable tokens.
    Address(IpAddr),
    /// The session whose tokens keep coming back.
    Session(SessionId),
}

impl RefreshSource {
    /// The client at an address.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(rate_limit_key(address))
    }
}

/// Counts clients. Clones share the counts.
#[derive(Clone, Debug)]
pub struct RefreshLimiter {
    enabled: bool,
    shared: Arc<Shared>,
}

/// Every client counted lately.
#[derive(Debug)]
struct Shared {
    /// Until when a client may be at the limit, in microseconds: past that, no client is looked up.
    until: AtomicI64,
    counts: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    counts: HashMap<RefreshSource, (u32, Timestamp)>,
    /// When ended windows were looked for last.
    swept_at: Timestamp,
}

impl Default for Known {
    fn default() -> Self {
        Self { counts: HashMap::new(), swept_at: Timestamp::from_micros(i64::MIN) }
    }
}

impl RefreshLimiter {
    /// If not enabled, no client is ever at the limit.
    pub fn new(enabled: bool) -> Self {
        let shared = Shared { until: AtomicI64::new(i64::MIN), counts: Mutex::default() };
        Self { enabled, shared: Arc::new(shared) }
    }

    /// The same counts, with or without a limit.
    #[must_use]
    pub fn reconfigured(&self, enabled: bool) -> Self {
        Self { enabled, shared: Arc::clone(&self.shared) }
    }

    /// Counts an offence. `true`: it was the last that was let pass.
    pub fn count(&self, source: RefreshSource, now: Timestamp) -> bool {
        if !self.enabled {
            return false;
        }
        let mut known = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { counts, swept_at } = &mut *known;
        if counts.len() >= REMEMBERED && now.since(*swept_at) >= SWEEP {
            counts.retain(|_, (_, window_ends_at)| !is_over(*window_ends_at, now));
            *swept_at = now;
        }
        if counts.len() >= REMEMBERED && !counts.contains_key(&source) {
            return false;
        }
        let (count, window_ends_at) = counts.entry(source).or_insert((0, now.plus(WINDOW)));
        if is_over(*window_ends_at, now) {
            (*count, *window_ends_at) = (0, now.plus(WINDOW));
        }
        *count = count.saturating_add(1);
        if *count >= LIMIT {
            self.shared.until.fetch_max(window_ends_at.as_micros(), Ordering::Relaxed);
        }
        *count == LIMIT
    }

    /// How many seconds an offender has to wait. `None`: there is no need to.
    pub fn wait(&self, source: RefreshSource, now: Timestamp) -> Option<u64> {
        if self.shared.until.load(Ordering::Relaxed) <= now.as_micros() {
            return None;
        }
        let known = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, window_ends_at) = known.counts.get(&source)?;
        (*count >= LIMIT && !is_over(*window_ends_at, now))
            .then(|| now.seconds_until(*window_ends_at).saturating_add(1))
    }
}

/// Whether a window has ended, or began while the clock was ahead.
fn is_over(window_ends_at: Timestamp, now: Timestamp) -> bool {
    window_ends_at <= now || window_ends_at > now.plus(WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    fn address(last: u8) -> RefreshSource {
        RefreshSource::at(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn who_reaches_the_limit_waits_for_the_window_to_end_and_nobody_else_does() {
        let refresh_limiter = RefreshLimiter::new(true);
        for number in 1..=LIMIT {
            assert_eq!(refresh_limiter.wait(address(1), NOW), None);
            assert_eq!(refresh_limiter.count(address(1), NOW), number == LIMIT);
        }
        let wait = Duration::from_secs(refresh_limiter.wait(address(1), NOW.plus(Duration::from_millis(1))).unwrap());
        assert!(refresh_limiter.wait(address(1), NOW.plus(WINDOW).minus(Duration::from_micros(1))).is_some());
        assert_eq!(refresh_limiter.wait(address(2), NOW), None);
        assert_eq!(refresh_limiter.wait(RefreshSource::Session(SessionId::generate()), NOW), None);
        assert!(wait >= WINDOW && wait <= WINDOW + Duration::from_secs(1), "{wait:?}");
        assert_eq!(refresh_limiter.wait(address(1), NOW.plus(wait)), None);
        assert!(
            refresh_limiter.shared.until.load(Ordering::Relaxed) <= NOW.plus(wait).as_micros(),
            "no client is looked up any more"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_flood_of_others_frees_nobody() {
        let refresh_limiter = RefreshLimiter::new(true);
        for _ in 0..LIMIT {
            refresh_limiter.count(address(1), NOW);
        }
        for _ in 0..2 * REMEMBERED {
            refresh_limiter.count(RefreshSource::Session(SessionId::generate()), NOW);
        }
        assert_eq!(refresh_limiter.shared.counts.lock().unwrap().counts.len(), REMEMBERED);
        assert!(refresh_limiter.wait(address(1), NOW).is_some());
        refresh_limiter.count(address(2), NOW.plus(WINDOW));
        assert_eq!(refresh_limiter.shared.counts.lock().unwrap().counts.len(), 1, "windows that ended make room");
    }

    #[test]
    fn without_limits_nobody_offends() {
        let refresh_limiter = RefreshLimiter::new(false);
        assert!((0..2 * LIMIT).all(|_| !refresh_limiter.count(address(1), NOW)));
        assert_eq!(refresh_limiter.wait(address(1), NOW), None);
    }
}
