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
use crate::network::TrustedNetworks;
use crate::services::Services;
use crate::signing_keys::Ours;
use crate::startup::{self, Keys, StartError};
use crate::store::OpenError;
use crate::store::access_keys::AccessKey;
use crate::tokens::key_files::KeyFiles;
use crate::tokens::key_reading::KeyReading;
use crate::tokens::key_selection::KeyState;

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
    reading: KeyReading,
}

/// What it was composed of. Whoever composes it anew holds this.
struct Basis {
    config: Config,
    /// Whether every key could be read.
    complete: bool,
    /// What there was of generated keys. None: that has not been looked at.
    listing: Option<Listing>,
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
            basis: Mutex::new(Basis { config: config.clone(), complete, listing: None }),
            reading,
        }
    }

    /// Puts another configuration in force, for every request that comes from now on, and reads the keys anew. Of what cannot
    /// change while the server runs, `config` must say the same as before.
    ///
    /// # Errors
    ///
    /// Why the keys cannot be used. Then everything stays as it was.
    pub fn reconfigure(&self, config: &Config) -> Result<(), KeysError> {
        let mut basis = self.lock();
        let listing = match (self.listing(config), &basis.listing) {
            // While the database is away, the keys that it had stay.
            (Err(KeysError::Database(_)), Some(before)) if basis.complete => before.clone(),
            (listing, _) => listing?,
        };
        self.read_keys(&mut basis, config, listing)
    }

    /// Whether there are keys that may change.
    pub fn has_generated_keys(&self) -> bool {
        self.reading.is_watched()
    }

    /// Reads the keys anew, if any has come or gone, or is to sign from now on.
    ///
    /// # Errors
    ///
    /// Why they cannot be used. Those that were in force stay so.
    pub fn look_for_keys(&self) -> Result<(), KeysError> {
        let (mut basis, now) = (self.lock(), self.now());
        let look = self.reading.look();
        let listing = self.listing(&basis.config)?;
        let is_due = |ours: &Ours| {
            let mut next = ours.keys.iter().filter(|key| key.state == KeyState::Next);
            next.any(|key| key.signs_from.is_none_or(|from| from <= now))
        };
        if !basis.complete || basis.listing.as_ref() != Some(&listing) || is_due(&self.services.peek().ours()) {
            let config = basis.config.clone();
            self.read_keys(&mut basis, &config, listing)?;
        }
        if basis.complete {
            look.found_all();
        }
        Ok(())
    }

    /// How long it is until the next key signs. None: there is none.
    pub fn next_change(&self) -> Option<Duration> {
        let (now, ours) = (self.now(), self.services.peek().ours());
        let next = ours.keys.iter().filter(|key| key.state == KeyState::Next);
        next.filter_map(|key| key.signs_from).min().map(|from| from.since(now))
    }

    /// Makes new keys and takes old ones away by their age, if `tokens.key_rotation` says so.
    ///
    /// # Errors
    ///
    /// What could not be done.
    pub fn rotate_by_age(&self) -> Result<(), RotationError> {
        let config = self.lock().config.clone();
        let Some(age) = config.tokens.key_rotation else { return Ok(()) };
        let (services, now) = (self.services.get(), self.now());
        let rotation = Rotation::new(&config, &services.accounts.store);
        rotation.rotate_older_than(age, now)?;
        for removed in rotation.prune(now)? {
            tracing::info!(kid = removed.kid, "a key that no token can name any more was removed");
        }
        Ok(())
    }

    fn read_keys(&self, basis: &mut Basis, config: &Config, listing: Listing) -> Result<(), KeysError> {
        let before = self.services.get();
        let (store, now) = (&before.accounts.store, self.now());
        let of_time = (now, self.reading.clone());
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
            let recorded = before.ours().record(store, now).and_then(|()| keys.ours.record(store, now));
            recorded.map_err(|error| OpenError::new(&config.database, error))?;
        }
        log_changes(&before.ours(), &keys.ours);
        self.put_in_force(config, &before, keys);
        *basis = Basis { config: config.clone(), complete, listing: Some(listing) };
        Ok(())
    }

    fn put_in_force(&self, config: &Config, before: &Services, keys: Keys) {
        let services = before.reconfigured(config, keys);
        let (state, guard_state) = compose(config, &services, &self.issuer, Some(&self.state.peek()));
        // What verifies comes before what signs.
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
    let Services { accounts, sessions, access, tasks, .. } = services.clone();
    let proxies = TrustedNetworks::new(config.server.trusted_proxies.clone());
    let urls = config.server.public_urls.iter().map(String::as_str).chain([issuer]);
    let origins = Arc::new(Origins::new(config.cors.allowed_origins.clone(), urls, proxies.clone()));
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
