//! Time as a value: nothing below the HTTP layer asks the system what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A moment, in microseconds since 1970-01-01T00:00:00Z (the finest both databases keep).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the Unix epoch (a JWT `NumericDate`, RFC 7519 section 2).
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The same, borrowed, for a database that binds by reference.
    pub(crate) const fn as_micros_ref(&self) -> &i64 {
        &self.0
    }

    /// Seconds since the Unix epoch, with their fraction.
    pub(crate) fn as_seconds_f64(self) -> f64 {
        Duration::from_micros(u64::try_from(self.0).unwrap_or_default()).as_secs_f64()
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// This moment with its fraction of a second dropped, so that a token and a row agree on it.
    #[must_use]
    pub const fn floor_second(self) -> Self {
        Self::from_seconds(self.as_seconds())
    }

    /// The time from `earlier` to here; zero if `earlier` is later, as after a clock stepped back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds from here until `later`, rounded down; zero if `later` is past.
    pub fn seconds_until(self, later: Self) -> u64 {
        later.since(self).as_secs()
    }

    /// This moment moved forward.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// This moment moved back.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// Reads RFC 3339 with any offset: `2026-11-23T09:30:00Z`, `2026-11-23T10:30:00.5+01:00`. `None`: it is none.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
        i64::try_from(nanos.div_euclid(1_000)).ok().map(Self)
    }

    /// RFC 3339 in UTC, to the second: `2026-11-23T09:30:00Z`.
    pub fn to_rfc3339(self) -> String {
        OffsetDateTime::from_unix_timestamp(self.as_seconds())
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok())
            .unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
    }
}

impl Timestamp {
    /// RFC 3339 in UTC, to the microsecond, for the log: `2026-11-23T09:30:00.000250Z`.
    pub(crate) fn to_rfc3339_micros(self) -> String {
        let mut text = self.to_rfc3339();
        text.truncate(text.len().saturating_sub(1));
        text + &format!(".{:06}Z", self.0.rem_euclid(MICROS_PER_SECOND))
    }

    /// What the machine's clock says, for the log, in which nothing is decided.
    pub(crate) fn of_the_machine() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for Timestamp {
    /// Before 1970 is 1970.
    fn from(moment: SystemTime) -> Self {
        Self(0).plus(moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

/// Where "now" comes from: the system, or a hand that tests move.
///
/// ```
/// use std::time::Duration;
///
/// use countersign::Clock;
/// use countersign::clock::Timestamp;
///
/// // For Countersign::open_with_clock, in a test of what happens when an access token has run out.
/// let clock = Clock::manual(Timestamp::from_seconds(1_800_000_000));
/// clock.advance(Duration::from_secs(16 * 60));
/// assert_eq!(clock.now().to_rfc3339(), "2027-01-15T08:16:00Z");
/// ```
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        /// Microseconds by which the machine's clock is wrong, in tests.
        error: i64,
        /// Microseconds that are added so that nodes agree.
        offset: Arc<AtomicI64>,
        /// When the clock was made.
        origin: Instant,
    },
    Manual(Arc<Hands>),
}

/// What tests move.
#[derive(Debug)]
struct Hands {
    /// Microseconds since 1970.
    now: AtomicI64,
    /// Microseconds since the clock was made, which no setting changes.
    elapsed: AtomicU64,
}

/// Offsets closer than this to the one in use are not worth a step.
const SAME: i64 = 2_000;

impl Clock {
    /// The machine's wall clock.
    pub fn system() -> Self {
        Self::wrong_by(0)
    }

    /// The machine's wall clock, gone wrong by so many seconds: for tests.
    #[doc(hidden)]
    pub fn wrong_by(seconds: i64) -> Self {
        let error = seconds.saturating_mul(MICROS_PER_SECOND);
        Self(Source::System { error, offset: Arc::default(), origin: Instant::now() })
    }

    /// A clock that stands still at `start` until [`Clock::advance`] or [`Clock::set`] moves it; clones share the hand.
    pub fn manual(start: Timestamp) -> Self {
        let hands = Hands { now: AtomicI64::new(start.as_micros()), elapsed: AtomicU64::new(0) };
        Self(Source::Manual(Arc::new(hands)))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Manual(hands) => Timestamp(hands.now.load(Ordering::SeqCst)),
            Source::System { error, offset, .. } => {
                let machine = Timestamp::from(SystemTime::now()).0;
                Timestamp(machine.saturating_add(*error).saturating_add(offset.load(Ordering::Relaxed)))
            }
        }
    }

    /// How long ago the clock was made. No step of the wall clock changes it; the time that a machine is suspended may be
    /// missing.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::Manual(hands) => Duration::from_micros(hands.elapsed.load(Ordering::SeqCst)),
            Source::System { origin, .. } => origin.elapsed(),
        }
    }

    /// What is added to the clock of the machine, in seconds.
    pub(crate) fn offset_seconds(&self) -> f64 {
        let Source::System { offset, .. } = &self.0 else { return 0.0 };
        let micros = offset.load(Ordering::Relaxed);
        Duration::from_micros(micros.unsigned_abs()).as_secs_f64().copysign(if micros < 0 { -1.0 } else { 1.0 })
    }

    /// Follows another clock from here on, as several nodes do that must agree what time it is: `ask` reads it, and is
    /// taken to have done so halfway between being asked and answering. A manual clock follows no other. Returns by how much
    /// it was wrong.
    ///
    /// # Errors
    ///
    /// What `ask` failed with.
    pub(crate) fn follow<E>(&self, ask: impl FnOnce() -> Result<Option<Timestamp>, E>) -> Result<Duration, E> {
        let before = self.now();
        let Some(theirs) = ask()? else { return Ok(Duration::ZERO) };
        let after = self.now();
        if let Source::System { offset, .. } = &self.0 {
            let took = after.0.saturating_sub(before.0);
            let step = theirs.0.saturating_sub(before.0.saturating_add(took / 2));
            // Within what the asking itself may have cost, they agree.
            if step.saturating_abs() > took.saturating_abs() / 2 + SAME {
                offset.fetch_add(step, Ordering::Relaxed);
                return Ok(Duration::from_micros(step.unsigned_abs()));
            }
        }
        Ok(Duration::ZERO)
    }

    /// Sets a manual clock to `moment`, forward or back, as a machine's clock is set: no time passes by that. A system clock
    /// cannot be set and stays.
    pub fn set(&self, moment: Timestamp) {
        if let Source::Manual(hands) = &self.0 {
            hands.now.store(moment.as_micros(), Ordering::SeqCst);
        }
    }

    /// Lets `duration` pass on a manual clock.
    pub fn advance(&self, duration: Duration) {
        if let Source::Manual(hands) = &self.0 {
            self.set(self.now().plus(duration));
            let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
            hands.elapsed.fetch_add(micros, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stepped_back_counts_as_no_time_passed() {
        let now = Timestamp::from_seconds(100);
        assert_eq!(now.since(Timestamp::from_seconds(160)), Duration::ZERO);
        assert_eq!(now.since(Timestamp::from_seconds(40)), Duration::from_secs(60));
    }

    #[test]
    fn setting_a_clock_lets_no_time_pass() {
        let clock = Clock::manual(Timestamp::from_seconds(100));
        clock.set(Timestamp::from_seconds(8_000_000));
        assert_eq!(clock.elapsed(), Duration::ZERO);
        clock.clone().advance(Duration::from_secs(60));
        assert_eq!((clock.now(), clock.elapsed()), (Timestamp::from_seconds(8_000_060), Duration::from_secs(60)));
    }

    #[test]
    fn clocks_that_follow_one_agree_however_wrong_they_are() {
        let theirs = Clock::wrong_by(0);
        for seconds in [-3_600, 0, 7_200] {
            let own = Clock::wrong_by(seconds);
            own.follow(|| Ok::<_, ()>(Some(theirs.now()))).unwrap();
            let apart = own.now().since(theirs.now()).max(theirs.now().since(own.now()));
            assert!(apart < Duration::from_secs(1), "{apart:?} apart after being wrong by {seconds} s");
            own.follow(|| Ok::<_, ()>(None)).unwrap();
            own.follow(|| Err(())).unwrap_err();
            assert!(own.now().since(theirs.now()) < Duration::from_secs(1), "what it has learnt stays");
        }
        let own = Clock::manual(Timestamp::from_seconds(100));
        own.follow(|| Ok::<_, ()>(Some(theirs.now()))).unwrap();
        assert_eq!(own.now(), Timestamp::from_seconds(100));
    }

    #[test]
    fn seconds_round_down_on_both_sides_of_the_epoch() {
        assert_eq!(Timestamp::from_micros(1_999_999).as_seconds(), 1);
        assert_eq!(Timestamp::from_micros(-1).as_seconds(), -1);
    }

    #[test]
    fn times_read_as_rfc_3339() {
        assert_eq!(Timestamp::from_seconds(1_795_426_200).to_rfc3339(), "2026-11-23T09:30:00Z");
    }

    #[test]
    fn the_log_tells_the_microsecond() {
        let moment = Timestamp::from_micros(1_795_426_200_000_250);
        assert_eq!(moment.to_rfc3339_micros(), "2026-11-23T09:30:00.000250Z");
        assert_eq!(Timestamp::from_micros(-1).to_rfc3339_micros(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn rfc_3339_is_read_whatever_its_offset() {
        let moment = Timestamp::from_seconds(1_795_426_200);
        for text in ["2026-11-23T09:30:00Z", "2026-11-23T10:30:00+01:00", "2026-11-22t23:30:00.000-10:00"] {
            assert_eq!(Timestamp::from_rfc3339(text), Some(moment), "{text}");
        }
        assert_eq!(Timestamp::from_rfc3339("1969-12-31T23:59:59.9999999Z"), Some(Timestamp::from_micros(-1)));
        for text in ["", "2026-11-23", "2026-11-23T09:30:00", "2026-11-23 09:30", "2026-13-01T00:00:00Z", "2h"] {
            assert_eq!(Timestamp::from_rfc3339(text), None, "{text}");
        }
    }
}
