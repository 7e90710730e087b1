//! The composition root: every service, made once from the configuration, for the server, the commands and the library.

use std::sync::Arc;
use std::time::Duration;

use crate::background::Tasks;
use crate::background::janitor::Janitor;
use crate::background::mail_sender::MailSender;
use crate::background::session_count::SessionCount;
use crate::clock::Clock;
use crate::config::Config;
use crate::current::Current;
use crate::ids::MailId;
use crate::mail::{Mailroom, MailroomError};
use crate::metrics::{HashMetrics, Metrics};
use crate::outbox::{DECOY, Outbox};
use crate::passwords::Hasher;
use crate::revocation::Revocations;
use crate::revocation::unfinished::Unfinished;
use crate::sessions::administration::Administration;
use crate::sessions::rotation::Policy;
use crate::sessions::{self, Lifetimes, Sessions};
use crate::signing_keys::{Ours, Recorder};
use crate::startup::{self, Keys, Started};
use crate::store::mails::{self, WaitingMail};
use crate::store::{Store, StoreError};
use crate::tokens::access::AccessTokens;
use crate::tokens::sealing::SealingKeys;
use crate::users::login_limiter::{Limits, LoginLimiter};
use crate::users::{Rules, Users};

const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the services could not be made.
#[derive(Debug)]
pub enum ServicesError {
    /// The system has no thread to give.
    Threads(std::io::Error),
    /// The database gave no answer.
    Store(StoreError),
    /// Mail cannot be sent as it is configured.
    Mail(MailroomError),
}

impl From<MailroomError> for ServicesError {
    fn from(error: MailroomError) -> Self {
        Self::Mail(error)
    }
}

impl From<std::io::Error> for ServicesError {
    fn from(error: std::io::Error) -> Self {
        Self::Threads(error)
    }
}

impl From<StoreError> for ServicesError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What needs no key: accounts, and the ends of sessions. All that commands work with.
#[derive(Clone)]
pub struct Accounts {
    /// The database.
    pub store: Store,
    /// Now.
    pub clock: Clock,
    /// Which sessions have ended.
    pub revocations: Revocations,
    /// Accounts.
    pub users: Users,
}

impl Accounts {
    /// For a command, beside a server or not.
    ///
    /// # Errors
    ///
    /// [`ServicesError`].
    pub fn of_a_command(config: &Config, store: Store) -> Result<Self, ServicesError> {
        let clock = Clock::system();
        let revocations = Revocations::of_a_command(store.clone(), clock.clone())?;
        let outbox = outbox_of_a_command(config, &clock);
        // An operator makes accounts of any domain.
        Self::new(config, store, clock, revocations, outbox, &[], HashMetrics::default())
    }

    /// Some of the mails that wait to be sent, from the one after `after` on. None: there are no more.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn waiting_mails(&self, after: Option<MailId>, limit: i64) -> Result<Vec<WaitingMail>, StoreError> {
        self.store.read(move |conn| mails::page(conn, DECOY, after, limit)).await
    }

    fn new(
        config: &Config,
        store: Store,
        clock: Clock,
        revocations: Revocations,
        outbox: Option<Outbox>,
        allowed_domains: &[String],
        metrics: HashMetrics,
    ) -> Result<Self, ServicesError> {
        let passwords = &config.passwords;
        let hasher =
            Hasher::start(passwords.bcrypt_cost, passwords.pepper.as_ref(), &passwords.pepper_previous, metrics)?;
        let login_limiter = LoginLimiter::new(store.clone(), clock.clone(), limits(config));
        let rules = rules(config, allowed_domains);
        let users =
            Users::new(store.clone(), clock.clone(), revocations.clone(), hasher, login_limiter, (outbox, rules));
        Ok(Self { store, clock, revocations, users })
    }

    /// The sessions of all users, for an operator.
    pub fn sessions(&self) -> Administration {
        Administration::new(self.store.clone(), self.clock.clone(), self.revocations.clone())
    }
}

/// What a server works with.
#[derive(Clone)]
pub struct Services {
    /// What needs no key.
    pub accounts: Accounts,
    /// Sessions in the hands of their users.
    pub sessions: Sessions,
    /// What signs and verifies access tokens.
    pub access: Arc<AccessTokens>,
    /// What is done beside the requests.
    pub tasks: Arc<Tasks>,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// What is sealed in the database is sealed and opened with these.
    pub sealing: Current<SealingKeys>,
    /// What writes and sends mails.
    outbox: Current<Option<Outbox>>,
    /// The keys as the list in the database is told of them.
    ours: Current<Ours>,
    /// How long the janitor keeps what is over.
    keep: Current<Duration>,
}

impl Services {
    /// Makes them of what the start has found, and starts the background tasks.
    ///
    /// # Errors
    ///
    /// [`ServicesError`].
    pub fn start(config: &Config, clock: Clock, started: Started, metrics: Metrics) -> Result<Self, ServicesError> {
        let Started { store, keys: Keys { refresh, access, sealing, ours, .. }, checked, made: _ } = started;
        let (revocations, poll) = Revocations::start(store.clone(), clock.clone())?;
        let domains = &config.registration.allowed_domains;
        let sealing = Current::new(sealing);
        let outbox = outbox(config, &ours, &sealing)?;
        let hashing = metrics.hashing.clone();
        let accounts =
            Accounts::new(config, store.clone(), clock.clone(), revocations.clone(), outbox.clone(), domains, hashing)?;
        let (ours, keep) = (Current::new(ours), Current::new(remembrance(config)));
        let outbox = Current::new(outbox);
        accounts.users.look_for_slow_hashes()?;
        let access = Arc::new(access);
        let sessions = Sessions::new(
            store.clone(),
            clock.clone(),
            revocations.clone(),
            Arc::clone(&access),
            Arc::new(refresh),
            session_settings(config),
        );
        let tasks = Tasks::default();
        tasks.start(poll)?;
        tasks.start(Recorder::new(store.clone(), clock.clone(), revocations.clone(), ours.clone(), checked))?;
        tasks.start(Unfinished::new(revocations.clone())?)?;
        let count = metrics.levels.sessions.clone();
        tasks.start(SessionCount::new(
            store.clone(),
            clock.clone(),
            revocations.clone(),
            count,
            tasks.stop_signal(),
        ))?;
        let sender =
            MailSender::new(store.clone(), clock.clone(), outbox.clone(), metrics.mails.clone(), tasks.stop_signal());
        tasks.start(sender)?;
        let janitor = metrics.janitor.clone();
        tasks.start(Janitor::new(store, clock, revocations, keep.clone(), janitor, tasks.stop_signal()))?;
        Ok(Self {
            accounts,
            sessions,
            access,
            tasks: Arc::new(tasks),
            metrics: Arc::new(metrics),
            sealing,
            outbox,
            ours,
            keep,
        })
    }

    /// The keys as they are told of.
    pub fn ours(&self) -> Arc<Ours> {
        self.ours.get()
    }

    /// The same services over the same database, by another configuration and with other keys. Threads, tasks, connections
    /// and everything that has been counted go on.
    pub fn reconfigured(&self, config: &Config, keys: Keys, outbox: Option<Outbox>) -> Self {
        let Keys { refresh, access, sealing, ours, .. } = keys;
        let access = Arc::new(access.following(&self.access));
        self.outbox.replace(outbox.clone());
        self.ours.replace(ours);
        self.sealing.replace(sealing);
        self.keep.replace(remembrance(config));
        let rules = rules(config, &config.registration.allowed_domains);
        let users = self.accounts.users.reconfigured(limits(config), outbox, rules);
        Self {
            accounts: Accounts { users, ..self.accounts.clone() },
            sessions: self.sessions.reconfigured(Arc::clone(&access), Arc::new(refresh), session_settings(config)),
            access,
            ..self.clone()
        }
    }

    /// What writes and sends mails as `config` says, if any are sent.
    ///
    /// # Errors
    ///
    /// If mail cannot be sent as it is configured.
    pub fn open_outbox(&self, config: &Config) -> Result<Option<Outbox>, MailroomError> {
        outbox(config, &self.ours(), &self.sealing)
    }

    /// What writes and sends mails now.
    pub fn outbox(&self) -> Option<Outbox> {
        Option::clone(&self.outbox.get())
    }
}

/// What writes the mails that tell owners what an operator has done; a server sends them. Where mail or the keys cannot be
/// used, what a command is there for is done all the same.
fn outbox_of_a_command(config: &Config, clock: &Clock) -> Option<Outbox> {
    config.mail.transport?;
    let keys = startup::sealing_keys(config, clock.now());
    let (keys, issuer) = keys
        .inspect_err(|error| tracing::warn!("owners are not told by mail, since the keys cannot be used: {error}"))
        .ok()?;
    // Without a key, nothing could be opened again.
    keys.active()?;
    let mailroom = Mailroom::open(config, &issuer);
    let mailroom = mailroom.inspect_err(|error| tracing::warn!("owners are not told by mail: {error}")).ok()??;
    Some(Outbox::new(Arc::new(mailroom), Current::new(keys)))
}

/// What writes and sends mails, if any are sent.
fn outbox(config: &Config, ours: &Ours, sealing: &Current<SealingKeys>) -> Result<Option<Outbox>, MailroomError> {
    let mailroom = Mailroom::open(config, &ours.issuers.current)?;
    Ok(mailroom.map(|mailroom| Outbox::new(Arc::new(mailroom), sealing.clone())))
}

fn limits(config: &Config) -> Option<Limits> {
    let limits = &config.limits;
    limits.enabled.then_some(Limits { failures: limits.login_failures, window: limits.login_window })
}

fn rules(config: &Config, allowed_domains: &[String]) -> Rules {
    Rules {
        min_password: config.passwords.min_length,
        allowed_domains: allowed_domains.into(),
        verify_email: config.registration.verify_email,
    }
}

fn session_settings(config: &Config) -> sessions::Settings {
    let (tokens, rotation) = (&config.tokens, &config.rotation);
    let lifetimes = Lifetimes {
        idle: tokens.refresh_idle_ttl,
        short: tokens.refresh_short_ttl,
        absolute: tokens.refresh_absolute_ttl,
    };
    let policy = Policy {
        overlap: rotation.overlap,
        recovery: rotation.recovery,
        max_recoveries: rotation.max_recoveries,
        adopt_ahead: rotation.adopt_ahead,
        max_repeat_streak: rotation.max_repeat_streak,
    };
    let (most, limited) = (config.sessions.max_per_user, config.limits.enabled);
    sessions::Settings { lifetimes, policy, most, limited }
}

/// How long sessions are kept after their end: until the last lost answer can no longer be asked for, the last access
/// token is over, and a day more, for a look into yesterday's trouble.
fn remembrance(config: &Config) -> Duration {
    let rotation = &config.rotation;
    rotation.overlap.saturating_add(rotation.recovery).saturating_add(config.tokens.access_ttl).saturating_add(A_DAY)
}
