//! What is in force: handlers, guards and services, composed of a configuration and keys, and composed anew when either
//! changes. Threads, tasks, connections and everything that has been counted go on.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::current::Current;
use crate::guard::GuardState;
use crate::guard::cross_site::Origins;
use crate::http::AppState;
use crate::http::extract::client::TrustedProxies;
use crate::http::extract::cookies::Cookies;
use crate::key_rotation::{Rotation, RotationError};
use crate::mail::MailroomError;
use crate::network::TrustedNetworks;
use crate::outbox::Outbox;
use crate::second_factor::shown_issuer;
use crate::services::Services;
use crate::sign_in::LogIn;
use crate::signing_keys::Ours;
use crate::startup::{self, Keys, StartError};
use crate::store::access_keys::AccessKey;
use crate::store::{OpenError, health};
use crate::tokens::key_files::KeyFiles;
use crate::tokens::key_reading::{KeyReading, Look};
use crate::tokens::key_selection::KeyState;

/// How lately the janitor must have believed the clock for keys to be removed by their age. It makes a round each minute.
const TRUSTED: Duration = Duration::from_secs(10 * 60);

/// What is in force.
pub struct Live {
    /// For handlers.
    pub state: Current<AppState>,
    /// For guards.
    pub guard_state: Current<GuardState>,
    /// For everyone else.
    pub services: Current<Services>,
    /// `iss` of the tokens issued here.
    pub issuer: String,
    basis: Mutex<Basis>,
    /// Whether there are keys that may change.
    pub has_generated_keys: bool,
}

/// The inputs of the current composition. Locked while it is replaced.
struct Basis {
    config: Config,
    /// Whether every key could be read.
    complete: bool,
    /// What there was of generated keys. None: that has not been looked at.
    listing: Option<Listing>,
    /// When the keys in force were last found to be all there are.
    reading: KeyReading,
}

/// Which generated keys there are: files and their schedule, and those in the database that nodes share.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listing {
    files: (Vec<PathBuf>, Vec<String>),
    sealed: Option<Vec<AccessKey>>,
}

/// Why the keys could not be read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The files, or what the database holds, cannot be used.
    #[error(transparent)]
    Keys(#[from] StartError),
    /// The database gave no answer.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// Mail cannot be sent as it is configured.
    #[error(transparent)]
    Mail(#[from] MailroomError),
}

impl Live {
    /// Begins with `services`.
    pub fn new(config: &Config, services: Services, reading: KeyReading, complete: bool) -> Self {
        let issuer = services.ours().issuers.current.clone();
        let (state, guard_state) = compose(config, &services, &issuer, None);
        Self {
            state: Current::new(state),
            guard_state: Current::new(guard_state),
            services: Current::new(services),
            issuer,
            has_generated_keys: reading.is_watched(),
            basis: Mutex::new(Basis { config: config.clone(), complete, listing: None, reading }),
        }
    }

    /// Puts another configuration in force, for every request that comes from now on, and reads the keys anew. Of what cannot
    /// change while the server runs, `config` must say the same as before.
    ///
    /// # Errors
    ///
    /// Why the keys cannot be used. Then everything stays as it was.
    pub fn reconfigure(&self, config: &Config) -> Result<(), KeysError> {
        let (mut basis, look) = (self.lock(), Look::begin());
        let listing = match (self.listing(config), &basis.listing) {
            // While the database is away, the keys that were read from it stay in use.
            (Err(KeysError::Database(_)), Some(before)) if basis.complete => (before.clone(), None),
            (listing, _) => (listing?, Some(look)),
        };
        let outbox = self.services.peek().open_outbox(config)?;
        self.read_keys(&mut basis, config, listing, outbox)
    }

    /// Reads the keys anew, if any has come or gone, or is to sign from now on.
    ///
    /// # Errors
    ///
    /// Why they cannot be used. Those that were in force stay so.
    pub fn look_for_keys(&self) -> Result<(), KeysError> {
        let (mut basis, now) = (self.lock(), self.now());
        let look = Look::begin();
        let listing = self.listing(&basis.config)?;
        let is_due = |ours: &Ours| {
            let mut next = ours.keys.iter().filter(|key| key.state == KeyState::Next);
            next.any(|key| key.signs_from.is_none_or(|from| from <= now))
        };
        if !basis.complete || basis.listing.as_ref() != Some(&listing) || is_due(&self.services.peek().ours()) {
            let config = basis.config.clone();
            return self.read_keys(&mut basis, &config, (listing, Some(look)), self.services.peek().outbox());
        }
        basis.reading.found_all(look);
        Ok(())
    }

    /// How long it is until the next key signs. None: there is none.
    pub fn next_change(&self) -> Option<Duration> {
        let (now, ours) = (self.now(), self.services.peek().ours());
        let next = ours.keys.iter().filter(|key| key.state == KeyState::Next);
        next.filter_map(|key| key.signs_from).min().map(|from| from.since(now))
    }

    /// Makes new keys and takes old ones away by their age, if `tokens.key_rotation` says so; and seals those in the database
    /// under the secret that signs now, so that the one before it can be taken away.
    ///
    /// # Errors
    ///
    /// What could not be done.
    pub fn tend_keys(&self) -> Result<(), RotationError> {
        let config = self.lock().config.clone();
        let services = self.services.get();
        let rotation = Rotation::new(&config, &services.accounts.store, &services.accounts.clock);
        rotation.seal_anew()?;
        let Some(age) = config.tokens.key_rotation else { return Ok(()) };
        rotation.rotate_older_than(age)?;
        // A key that was removed because a clock was ahead does not come back when that is set right.
        let (store, now) = (&services.accounts.store, self.now());
        let trusted = store.read_blocking(health::trusted_at).ok().flatten();
        if !trusted.is_some_and(|trusted| trusted <= now && now.since(trusted) <= TRUSTED) {
            return Ok(());
        }
        for removed in rotation.prune()? {
            tracing::info!(kid = removed.kid, "a key that no token can name any more was removed");
        }
        Ok(())
    }

    /// `listing` was found by `look`. No look: it is from before.
    fn read_keys(
        &self,
        basis: &mut Basis,
        config: &Config,
        (listing, look): (Listing, Option<Look>),
        outbox: Option<Outbox>,
    ) -> Result<(), KeysError> {
        let before = self.services.get();
        let (store, now) = (&before.accounts.store, self.now());
        // Requests that hold the previous keys keep the previous reading.
        let reading = if self.has_generated_keys { KeyReading::watched(look) } else { KeyReading::default() };
        let of_time = (now, reading.clone());
        let keys = startup::read_keys_anew(config, store, listing.sealed.as_deref(), &before.ours(), of_time)?;
        let complete = keys.complete;
        let active = |ours: &Ours| {
            let active = ours.keys.iter().filter(|key| key.state == KeyState::Active);
            active.map(|key| (key.kid.clone(), key.kind)).collect::<Vec<_>>()
        };
        let changes = complete && active(&keys.ours) != active(&before.ours());
        if changes {
            // Before anything is signed with it: without it, the next start is refused. And those before it have signed until
            // now.
            let mut until_now = Ours::clone(&before.ours());
            // One that was given up meanwhile is not needed any more.
            until_now.keys.retain(|key| keys.ours.keys.iter().any(|other| other.kid == key.kid));
            let recorded = until_now.record(store, now).and_then(|()| keys.ours.record(store, now));
            recorded.map_err(|error| OpenError::new(&config.database, error))?;
        }
        log_changes(&before.ours(), &keys.ours);
        self.put_in_force(config, &before, keys, outbox);
        *basis = Basis { config: config.clone(), complete, listing: Some(listing), reading };
        Ok(())
    }

    fn put_in_force(&self, config: &Config, before: &Services, keys: Keys, outbox: Option<Outbox>) {
        let services = before.reconfigured(config, keys, outbox);
        let (state, guard_state) = compose(config, &services, &self.issuer, Some(&self.state.peek()));
        // Verifiers are replaced before signers.
        self.guard_state.replace(guard_state);
        self.services.replace(services);
        self.state.replace(state);
    }

    fn listing(&self, config: &Config) -> Result<Listing, KeysError> {
        let files = KeyFiles::below(&config.data_dir).listing().map_err(StartError::from)?;
        let sealed = startup::sealed(config, &self.services.peek().accounts.store);
        Ok(Listing { files, sealed: sealed.map_err(|error| OpenError::new(&config.database, error))? })
    }

    fn now(&self) -> Timestamp {
        self.services.peek().accounts.clock.now()
    }

    fn lock(&self) -> MutexGuard<'_, Basis> {
        self.basis.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says which keys have come and gone, and which sign.
fn log_changes(before: &Ours, after: &Ours) {
    let state = |ours: &Ours, kid: &str| ours.keys.iter().find(|key| key.kid == kid).map(|key| key.state);
    for key in &after.keys {
        let (kid, algorithm, was) = (key.kid.as_str(), key.algorithm, state(before, &key.kid));
        match key.state {
            _ if was == Some(key.state) => {}
            KeyState::Active => tracing::info!(kid, algorithm, "a key signs from now on"),
            KeyState::Next => {
                let from = key.signs_from.map(Timestamp::to_rfc3339);
                tracing::info!(kid, algorithm, from, "a new key verifies, and will sign");
            }
            KeyState::VerifyOnly if was.is_some() => tracing::info!(kid, algorithm, "a key only verifies from now on"),
            KeyState::VerifyOnly => tracing::info!(kid, algorithm, "a key was added that only verifies"),
        }
    }
    for key in before.keys.iter().filter(|key| state(after, &key.kid).is_none()) {
        tracing::info!(kid = key.kid, algorithm = key.algorithm, "a key has gone, and what it signed is refused");
    }
}

/// What handlers and guards work with. A server that stops has begun to do so in the state `before`, and goes on with it.
fn compose(config: &Config, services: &Services, issuer: &str, before: Option<&AppState>) -> (AppState, GuardState) {
    let Services { accounts, sessions, access, tasks, sealing, .. } = services.clone();
    let proxies = TrustedNetworks::new(config.server.trusted_proxies.clone());
    let urls = config.server.public_urls.iter().map(String::as_str).chain([issuer]);
    let origins = Arc::new(Origins::new(config.cors.allowed_origins.clone(), urls, proxies.clone()));
    let log_in = LogIn::new(accounts.users.clone(), sessions.clone(), sealing.clone(), accounts.clock.clone());
    let guard_state = GuardState {
        access: Arc::clone(&access),
        revocations: accounts.revocations,
        store: accounts.store.clone(),
        clock: accounts.clock,
        access_cookie: config.cookies.access_name.clone(),
        origins: Arc::clone(&origins),
    };
    let state = AppState {
        users: accounts.users,
        store: accounts.store,
        access,
        cookies: Cookies::new(config.cookies.clone(), sessions.clone(), Arc::clone(&origins)),
        sessions,
        log_in,
        sealing,
        issuer_name: shown_issuer(issuer),
        origins,
        proxies: TrustedProxies::new(proxies),
        registration: config.registration.enabled,
        metrics: Arc::clone(&services.metrics),
        draining: before.map(|state| state.draining.clone()).unwrap_or_default(),
        tasks,
    };
    (state, guard_state)
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
#[path = "live_tests.rs"]
mod tests;
