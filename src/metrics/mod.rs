//! What is counted and measured, for Prometheus. Every series but those of requests is there from the start, and every set of
//! labels is closed: nothing that a client sends becomes a label.

mod labels;
mod process;

use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use self::labels::{DatabaseError, Label, LoginOutcome, MailOutcome, Purpose, RefreshVerdict, Removed, Throttle};
use self::process::Process;

/// A number that goes up and down.
pub type Level = Gauge<f64, AtomicU64>;

type OneLabel = [(&'static str, &'static str); 1];

/// One counter for each value of a label. Clones share them.
#[derive(Clone)]
pub struct Counters<L> {
    family: Family<OneLabel, Counter>,
    /// One for each of `L::ALL`.
    handles: Arc<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label + PartialEq> Counters<L> {
    fn new() -> Self {
        let family = Family::<OneLabel, Counter>::default();
        let handle = |value: &L| family.get_or_create_owned(&[(L::NAME, value.as_str())]);
        let handles = L::ALL.iter().map(handle).collect();
        Self { family, handles, label: PhantomData }
    }

    /// One more.
    pub fn count(&self, value: L) {
        self.add(value, 1);
    }

    /// So many more.
    pub fn add(&self, value: L, more: u64) {
        let place = L::ALL.iter().position(|known| *known == value);
        if let Some(counter) = place.and_then(|place| self.handles.get(place)) {
            counter.inc_by(more);
        }
    }
}

/// Labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

/// How long something took.
#[derive(Clone, Debug)]
pub struct Timing(Histogram);

impl Timing {
    fn new(bounds: &'static [f64]) -> Self {
        Self(Histogram::new(bounds.iter().copied()))
    }

    /// Measures from now on.
    pub fn start(&self) -> Measured {
        Measured { timing: self.clone(), began: Instant::now() }
    }

    /// It took so long.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// Something that has begun.
pub struct Measured {
    timing: Timing,
    began: Instant,
}

impl Measured {
    /// It is over.
    pub fn end(self) {
        self.timing.observe(self.began.elapsed());
    }
}

/// Of answers, commits and waits, in seconds.
const SHORT: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Of hashes and the wait for them, in seconds.
const LONG: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Writes in one commit.
const BATCHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Makes the histogram of a route.
#[derive(Clone, Debug)]
struct OfRoute;

impl MetricConstructor<Histogram> for OfRoute {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SHORT.iter().copied())
    }
}

/// Of the database.
#[derive(Clone)]
pub struct StoreMetrics {
    /// For a connection, or for one's turn.
    pub pool_wait: Timing,
    /// Queries and writes without an answer.
    pub errors: Counters<DatabaseError>,
    /// Writes in one commit.
    batch_size: Histogram,
    /// From the first write of a batch to the end of its commit.
    pub commit: Timing,
}

impl StoreMetrics {
    /// So many writes were committed together.
    pub fn batch_size(&self, writes: usize) {
        self.batch_size.observe(f64::from(u32::try_from(writes).unwrap_or(u32::MAX)));
    }
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            pool_wait: Timing::new(SHORT),
            errors: Counters::new(),
            batch_size: Histogram::new(BATCHES.iter().copied()),
            commit: Timing::new(SHORT),
        }
    }
}

/// Of the threads that hash passwords.
#[derive(Clone)]
pub struct HashMetrics {
    /// In the queue.
    pub wait: Timing,
    /// A hash, or a comparison.
    pub hash: Timing,
}

impl Default for HashMetrics {
    fn default() -> Self {
        Self { wait: Timing::new(LONG), hash: Timing::new(LONG) }
    }
}

/// Of the janitor.
#[derive(Clone)]
pub struct JanitorMetrics {
    /// Rows that were removed.
    pub removed: Counters<Removed>,
    /// When it last finished a round, in seconds since 1970.
    pub last_success: Level,
}

impl Default for JanitorMetrics {
    fn default() -> Self {
        Self { removed: Counters::new(), last_success: Level::default() }
    }
}

/// Gauges that are set at each scrape.
#[derive(Clone, Default)]
pub struct Levels {
    /// Open connections of clients.
    pub connections: Level,
    /// Passwords that wait to be hashed.
    pub hash_queue: Level,
    /// Live sessions, as they were counted last.
    pub sessions: Level,
    /// Since it was last learnt which sessions have ended.
    pub feed_age: Level,
    /// What is added to the clock of this machine.
    pub clock_offset: Level,
    /// Connections to the database that are in use.
    pub pool_in_use: Level,
    key_age: Family<OneLabel, Level>,
}

impl Levels {
    /// The age of the key that signs, in seconds.
    pub fn set_key_age(&self, purpose: Purpose, age: Duration) {
        self.key_age.get_or_create(&[(Purpose::NAME, purpose.as_str())]).set(age.as_secs_f64());
    }
}

/// Everything that is counted and measured by a server. Clones share it.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<OneLabel, Histogram, OfRoute>,
    /// Refreshes, by what became of them.
    pub refreshes: Counters<RefreshVerdict>,
    /// Log-ins, by what became of them.
    pub logins: Counters<LoginOutcome>,
    /// Mails.
    pub mails: Counters<MailOutcome>,
    /// Refusals, by the limit that was reached.
    pub throttled: Counters<Throttle>,
    /// The database.
    pub store: StoreMetrics,
    /// The threads that hash passwords.
    pub hashing: HashMetrics,
    /// The janitor.
    pub janitor: JanitorMetrics,
    /// Gauges that are set at each scrape.
    pub levels: Levels,
    process: Process,
    registry: Arc<Registry>,
}

impl Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(OfRoute),
            refreshes: Counters::new(),
            logins: Counters::new(),
            mails: Counters::new(),
            throttled: Counters::new(),
            store: StoreMetrics::default(),
            hashing: HashMetrics::default(),
            janitor: JanitorMetrics::default(),
            levels: Levels::default(),
            process: Process::default(),
            registry: Arc::default(),
        };
        for purpose in Purpose::ALL {
            metrics.levels.set_key_age(*purpose, Duration::ZERO);
        }
        metrics.registry = Arc::new(metrics.register());
        metrics
    }
}

impl Metrics {
    fn register(&self) -> Registry {
        let mut all = Registry::default();
        self.process.register(&mut all);
        let ours = all.sub_registry_with_prefix("countersign");
        let Self { store, hashing, janitor, levels, .. } = self;
        ours.register("http_requests", "Requests that were answered", self.requests.clone());
        ours.register(
            "http_request_duration_seconds",
            "Time from the head of a request to its answer",
            self.durations.clone(),
        );
        ours.register("http_connections", "Open connections of clients", levels.connections.clone());
        ours.register("refreshes", "Refreshes, by what became of them", self.refreshes.family.clone());
        ours.register("logins", "Log-ins, by what became of them", self.logins.family.clone());
        ours.register("mail", "Attempts to send a mail, by what became of them", self.mails.family.clone());
        ours.register("throttled", "Requests that a limit has refused", self.throttled.family.clone());
        ours.register("password_hash_queue", "Passwords that wait to be hashed", levels.hash_queue.clone());
        let wait = "Time that passwords have waited to be hashed";
        ours.register("password_hash_wait_seconds", wait, hashing.wait.0.clone());
        ours.register("password_hash_seconds", "Time that hashing a password has taken", hashing.hash.0.clone());
        ours.register("sessions_live", "Live sessions, counted every minute", levels.sessions.clone());
        let age = "Time since it was last learnt from the database which sessions have ended";
        ours.register("revocation_feed_age_seconds", age, levels.feed_age.clone());
        let offset = "What is added to the clock of this machine to follow that of the database";
        ours.register("clock_offset_seconds", offset, levels.clock_offset.clone());
        ours.register("db_pool_in_use", "Connections to the database that are in use", levels.pool_in_use.clone());
        ours.register(
            "db_pool_wait_seconds",
            "Time that queries have waited for a connection",
            store.pool_wait.0.clone(),
        );
        ours.register("db_errors", "Queries and writes without an answer", store.errors.family.clone());
        ours.register("write_batch_size", "Writes in one commit", store.batch_size.clone());
        ours.register("write_commit_seconds", "Time that a batch of writes has taken", store.commit.0.clone());
        ours.register(
            "janitor_removed",
            "Rows that were removed because they were over",
            janitor.removed.family.clone(),
        );
        let success = "When the janitor last finished a round, in seconds since 1970";
        ours.register("janitor_last_success_timestamp_seconds", success, janitor.last_success.clone());
        ours.register("key_age_seconds", "Time since the key that signs began to", levels.key_age.clone());
        // `Info` appends `_info`.
        ours.register("build", "The version of the program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        all
    }

    /// A request was answered. `route` is one of ours, or a word for all others.
    pub fn observe_request(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { route, method, status }).inc();
        self.durations.get_or_create(&[("route", route)]).observe(took.as_secs_f64());
    }

    /// All of it, in the text format 0.0.4 of Prometheus.
    pub fn text(&self) -> String {
        self.process.read();
        let mut text = String::with_capacity(16 * 1024);
        if let Err(error) = prometheus_text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics could not be written whole");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the series that are there before anything has happened.
    #[test]
    fn every_series_but_those_of_requests_is_there_from_the_start() {
        let text = Metrics::default().text();
        for series in [
            "countersign_http_connections 0",
            "countersign_refreshes_total{verdict=\"rotated\"} 0",
            "countersign_refreshes_total{verdict=\"reused\"} 0",
            "countersign_logins_total{outcome=\"wrong_password\"} 0",
            "countersign_throttled_total{limit=\"hash_queue\"} 0",
            "countersign_password_hash_queue 0",
            "countersign_password_hash_wait_seconds_count 0",
            "countersign_password_hash_seconds_bucket{le=\"+Inf\"} 0",
            "countersign_sessions_live 0",
            "countersign_revocation_feed_age_seconds 0",
            "countersign_clock_offset_seconds 0",
            "countersign_db_pool_in_use 0",
            "countersign_db_pool_wait_seconds_count 0",
            "countersign_db_errors_total{kind=\"busy\"} 0",
            "countersign_write_batch_size_count 0",
            "countersign_write_commit_seconds_count 0",
            "countersign_janitor_removed_total{kind=\"events\"} 0",
            "countersign_janitor_last_success_timestamp_seconds 0",
            "countersign_key_age_seconds{purpose=\"refresh\"} 0",
            concat!("countersign_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "process_resident_memory_bytes ",
        ] {
            assert!(text.lines().any(|line| line.starts_with(series)), "{series}: {text}");
        }
        assert!(!text.lines().any(|line| line.starts_with("countersign_http_request")), "{text}");
    }

    #[test]
    fn what_happens_is_counted_under_its_own_label() {
        let metrics = Metrics::default();
        metrics.refreshes.count(RefreshVerdict::Conflict);
        metrics.janitor.removed.add(Removed::Events, 7);
        metrics.observe_request("/v1/auth/refresh", "POST", 409, Duration::from_millis(3));
        let text = metrics.text();
        for series in [
            "countersign_refreshes_total{verdict=\"conflict\"} 1",
            "countersign_refreshes_total{verdict=\"rotated\"} 0",
            "countersign_janitor_removed_total{kind=\"events\"} 7",
            "countersign_http_requests_total{route=\"/v1/auth/refresh\",method=\"POST\",status=\"409\"} 1",
            "countersign_http_request_duration_seconds_bucket{route=\"/v1/auth/refresh\",le=\"0.005\"} 1",
            "countersign_http_request_duration_seconds_bucket{route=\"/v1/auth/refresh\",le=\"0.0025\"} 0",
        ] {
            assert!(text.lines().any(|line| line == series), "{series}: {text}");
        }
    }
}
