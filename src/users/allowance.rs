//! How many passwords one address may have hashed, right or wrong. Guesses are counted in the database and far more
//! strictly; this is about the work of this process, and so it is counted in its memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::network::rate_limit_key;

/// So many in a window: five times what a school of two thousand needs to log in all at once, and a third of what two
/// cores can hash.
const PASSWORDS: u32 = 10_000;
const WINDOW: Duration = Duration::from_secs(60 * 60);
/// As many addresses are remembered at once. Beyond, new ones go uncounted until windows end: the queue is shared fairly
/// all the same.
const REMEMBERED: usize = 10_000;

/// Counts what addresses have had hashed. Clones share the counts.
#[derive(Clone)]
pub(super) struct Allowance {
    clock: Clock,
    enabled: bool,
    spent: Arc<Mutex<Spent>>,
}

/// Of each address: how many, and when the window ends.
type Spent = HashMap<IpAddr, (u32, Timestamp)>;

impl Allowance {
    /// If not enabled, nothing is counted.
    pub(super) fn new(clock: Clock, enabled: bool) -> Self {
        Self { clock, enabled, spent: Arc::default() }
    }

    /// The same counts, counted on or not.
    #[must_use]
    pub(super) fn reconfigured(&self, enabled: bool) -> Self {
        Self { enabled, ..self.clone() }
    }

    /// Where something is counted, under which address, and when.
    fn counted(&self, address: Option<IpAddr>) -> Option<(MutexGuard<'_, Spent>, IpAddr, Timestamp)> {
        let address = rate_limit_key(address.filter(|_| self.enabled)?);
        let now = self.clock.now();
        Some((self.spent.lock().unwrap_or_else(PoisonError::into_inner), address, now))
    }

    /// Looks whether `address` may have another password hashed.
    ///
    /// # Errors
    ///
    /// If not: in how many seconds it may.
    pub(super) fn check(&self, address: Option<IpAddr>) -> Result<(), u64> {
        let Some((spent, address, now)) = self.counted(address) else { return Ok(()) };
        match spent.get(&address) {
            // Rounded up: a client that waits as long as told is let in.
            Some((PASSWORDS.., until)) if !is_over(*until, now) => Err(now.seconds_until(*until).saturating_add(1)),
            _ => Ok(()),
        }
    }

    /// Counts a password of `address` that is about to be hashed.
    pub(super) fn count(&self, address: Option<IpAddr>) {
        let Some((mut spent, address, now)) = self.counted(address) else { return };
        if spent.len() >= REMEMBERED && !spent.contains_key(&address) {
            spent.retain(|_, (_, until)| !is_over(*until, now));
            if spent.len() >= REMEMBERED {
                return;
            }
        }
        let (count, until) = spent.entry(address).or_insert((0, now.plus(WINDOW)));
        if is_over(*until, now) {
            (*count, *until) = (0, now.plus(WINDOW));
        }
        *count = count.saturating_add(1);
    }
}

/// Whether a window has ended, or began while the clock was ahead.
fn is_over(until: Timestamp, now: Timestamp) -> bool {
    until <= now || until > now.plus(WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn allowance(enabled: bool) -> Allowance {
        Allowance::new(Clock::manual(Timestamp::from_seconds(1_000_000)), enabled)
    }

    /// An address that has had its share waits for the window to end and no other does.
    #[test]
    fn an_address_that_has_had_its_share_waits_for_the_window_to_end() {
        let allowance = allowance(true);
        for _ in 0..PASSWORDS {
            assert_eq!(allowance.check(address("2001:db8::1")), Ok(()));
            allowance.count(address("2001:db8::2"));
        }
        let wait = allowance.check(address("2001:db8::3")).unwrap_err();
        assert!((3_600..=3_601).contains(&wait), "{wait}");
        for other in [address("2001:db8:0:1::1"), address("192.0.2.1"), None] {
            assert_eq!(allowance.check(other), Ok(()), "{other:?}");
        }
        allowance.clock.advance(Duration::from_secs(wait - 2));
        assert_eq!(allowance.check(address("2001:db8::1")), Err(2));
        allowance.clock.advance(Duration::from_secs(2));
        assert_eq!(allowance.check(address("2001:db8::1")), Ok(()));
        allowance.count(address("2001:db8::1"));
        assert_eq!(allowance.check(address("2001:db8::1")), Ok(()), "a new window begins with one");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_flood_of_others_frees_no_address() {
        let allowance = allowance(true);
        for _ in 0..PASSWORDS {
            allowance.count(address("192.0.2.1"));
        }
        for number in 0..2 * u32::try_from(REMEMBERED).unwrap() {
            allowance.count(Some(IpAddr::from((0x0a00_0000 + number).to_be_bytes())));
        }
        let remembered = || allowance.spent.lock().unwrap().len();
        assert_eq!(remembered(), REMEMBERED);
        assert!(allowance.check(address("192.0.2.1")).is_err());
        allowance.clock.advance(WINDOW);
        allowance.count(address("192.0.2.2"));
        assert_eq!(remembered(), 1, "windows that ended make room");
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let allowance = allowance(false);
        (0..=PASSWORDS).for_each(|_| allowance.count(address("192.0.2.1")));
        assert_eq!(allowance.check(address("192.0.2.1")), Ok(()));
    }
}
