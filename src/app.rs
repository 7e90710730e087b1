//! The application, built from a configuration: services, then a bound socket, then a run until told to stop.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt;
use actix_web::web::{self, ServiceConfig};

use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::guard::cross_site::Origins;
use crate::guard::{Gate, Verified};
use crate::http::client::TrustedProxies;
use crate::http::connection::Bounds;
use crate::http::cookies::Cookies;
use crate::http::{self, Api, Draining};
use crate::janitor::Janitor;
use crate::passwords::Hasher;
use crate::sessions::offenders::Offenders;
use crate::sessions::revocations::Revocations;
use crate::sessions::rotation::Policy;
use crate::sessions::{Lifetimes, Sessions};
use crate::store::{SchemaState, Store, StoreError};
use crate::tokens::configured::{self, NoKeys};
use crate::tokens::key_files::{KeyFileError, KeyFiles, create_private_folder};
use crate::tokens::keys::KeyError;
use crate::users::Users;
use crate::users::budget::{Budget, Limits};

/// How long no request may come before clients count as sent away.
const SILENCE: Duration = Duration::from_millis(250);
/// How often that is waited for: clients that open new connections never fall silent.
const SEND_AWAY_ROUNDS: u32 = 8;

/// How long the end waits for other processes that read or write the database.
const CLOSING: Duration = Duration::from_secs(3);

const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the application was not built. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The database cannot be opened or brought up to date.
    #[error("the database cannot be opened: {}; look whether database.url names it, and who may read it", .0.chain())]
    Database(StoreError),
    /// A generated key cannot be used.
    #[error("a key file cannot be used: {0}")]
    KeyFile(#[from] KeyFileError),
    /// A configured secret cannot be used.
    #[error("a key cannot be used: {0}")]
    Key(KeyError),
    /// Nodes that share a database must share their keys, and there is none to share.
    #[error("{0}; set it, or copy the folder from a node that has it")]
    NoSharedKey(String),
    /// No threads to be had.
    #[error("the system has no threads to give: {0}")]
    Threads(std::io::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; set HOST or PORT to another")]
    Bind {
        /// Where.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        Self::Database(error)
    }
}

impl From<NoKeys> for BuildError {
    fn from(error: NoKeys) -> Self {
        match error {
            NoKeys::File(error) => Self::KeyFile(error),
            NoKeys::Key(error) => Self::Key(error),
            missing @ NoKeys::NotShared { .. } => Self::NoSharedKey(missing.to_string()),
        }
    }
}

/// What the start has made that was not there before.
#[derive(Clone, Debug, Default)]
pub struct FirstStart {
    /// The folder of keys, if keys were made.
    pub keys: Option<PathBuf>,
    /// The migrations that were run.
    pub migrations: Vec<String>,
}

/// Everything that answers requests. Clones share it; mount it in any actix-web application with
/// [`Countersign::configure`], and the [guards](crate::guard) work in that application's own handlers. The crate's
/// [first page](crate) shows it whole.
#[derive(Clone)]
pub struct Countersign {
    api: web::Data<Api>,
    gate: web::Data<Gate>,
    allowed_origins: Arc<[String]>,
    issuer: String,
    draining: Draining,
    first_start: FirstStart,
}

impl Countersign {
    /// Opens the database (making and migrating an embedded one), reads or makes the keys, and starts the
    /// threads that hash passwords, write, and learn of revocations.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn open(config: &Config) -> Result<Self, BuildError> {
        Self::open_with_clock(config, Clock::system())
    }

    /// The same, at a time of the caller's choosing.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn open_with_clock(config: &Config, clock: Clock) -> Result<Self, BuildError> {
        let mut first_start = FirstStart::default();
        // Before anything changes it.
        let condition = Store::inspect(&config.database)?;
        // One that other nodes may be at work on changes when whoever runs them says so.
        if let Database::Sqlite(_) = config.database {
            create_private_folder(&config.data_dir)?;
            if !condition.is_damaged(true) {
                first_start.migrations = Store::prepare(&config.database)?;
            }
        }
        let key_files = KeyFiles::below(&config.data_dir);
        let issuer = issuer(config, &key_files)?;
        let mut keys_made = false;
        let refresh = Arc::new(configured::refresh_tokens(config, &key_files, &issuer, &mut keys_made)?);
        let access = Arc::new(configured::access_tokens(config, &key_files, &issuer, &mut keys_made)?);
        first_start.keys = keys_made.then(|| key_files.folder().to_owned());

        let store = Store::open(&config.database, condition)?;
        if let Ok(SchemaState::Pending) = store.schema_blocking() {
            tracing::error!("the database is not up to date, so this node is not ready: run `countersign migrate`");
        }
        let hasher = Hasher::start(
            config.passwords.bcrypt_cost,
            config.passwords.pepper.as_ref(),
            &config.passwords.peppers_previous,
        )
        .map_err(BuildError::Threads)?;
        let revocations = Revocations::start(store.clone(), clock.clone())?;
        let limits = config
            .limits
            .enabled
            .then_some(Limits { failures: config.limits.login_failures, window: config.limits.login_window });
        let budget = Budget::new(store.clone(), clock.clone(), limits);
        let users = Users::new(store.clone(), clock.clone(), hasher, budget, config.passwords.min_length);
        let lifetimes =
            Lifetimes { idle: config.tokens.refresh_idle_ttl, absolute: config.tokens.refresh_absolute_ttl };
        let rotation = &config.rotation;
        let policy = Policy {
            overlap: rotation.overlap,
            recovery: rotation.recovery,
            max_recoveries: rotation.max_recoveries,
            adopt_ahead: rotation.adopt_ahead,
            max_repeat_streak: rotation.max_repeat_streak,
        };
        let sessions = Sessions::new(
            store.clone(),
            clock.clone(),
            Arc::clone(&access),
            refresh,
            revocations.clone(),
            lifetimes,
            policy,
            Offenders::new(config.limits.enabled),
        );
        let known = revocations.clone();
        let janitor = Janitor::start(store.clone(), clock.clone(), remembrance(config), move || known.has_begun())
            .map_err(BuildError::Threads)?;
        let origins = Origins::new(config.cors.allowed_origins.clone());
        let draining = Draining::default();
        let gate = Gate {
            access: Arc::clone(&access),
            revocations,
            store: store.clone(),
            clock: clock.clone(),
            access_cookie: config.cookies.access_name.clone(),
            origins: origins.clone(),
        };
        let api = Api {
            users,
            sessions,
            access,
            store,
            clock,
            cookies: Cookies::new(config.cookies.clone()),
            origins,
            proxies: TrustedProxies::new(config.server.trusted_proxies.clone()),
            registration: config.registration.enabled,
            draining: draining.clone(),
            _janitor: janitor,
        };
        Ok(Self {
            api: web::Data::new(api),
            gate: web::Data::new(gate),
            allowed_origins: config.cors.allowed_origins.clone().into(),
            issuer,
            draining,
            first_start,
        })
    }

    /// Mounts `/openapi.json`, `/docs` and the routes below `/v1`, `/.well-known` and `/health`, and makes the guards work
    /// everywhere in the application: `App::new().configure(|config| countersign.configure(config))`.
    ///
    /// Takes the paths `/v1`, `/.well-known`, `/health` and `/docs` whole: routes of the application's own below them are
    /// not found. How long and how many clients may keep the server busy is bounded in [`App`], not here: that is the
    /// business of whoever owns the socket.
    pub fn configure(&self, config: &mut ServiceConfig) {
        // Called once a worker: what that worker has verified is its own.
        config.app_data(self.api.clone()).app_data(self.gate.clone()).app_data(Verified::default());
        http::mount(config, &self.allowed_origins);
    }

    /// Moves everything into the file of an embedded database, which alone is the database then and can be copied: to be
    /// called when the server has stopped, as [`App::run`] does. May take seconds.
    pub fn close(&self) {
        self.api.store.empty_log_blocking(CLOSING);
    }

    /// `iss` of the tokens issued here.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What opening has made.
    pub fn first_start(&self) -> &FirstStart {
        &self.first_start
    }
}

/// The server: [`Countersign`] alone, on a socket of its own.
///
/// ```no_run
/// # async fn until_told_to_stop() {}
/// # #[actix_web::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app = countersign::App::build(&countersign::Config::load()?)?;
/// println!("listening on http://{}", app.address());
/// app.run(until_told_to_stop()).await?;
/// # Ok(())
/// # }
/// ```
pub struct App {
    countersign: Countersign,
    listener: TcpListener,
    address: SocketAddr,
    bounds: Bounds,
}

impl App {
    /// Opens everything and binds the socket. Nothing is answered before [`App::run`].
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn build(config: &Config) -> Result<Self, BuildError> {
        Self::build_with_clock(config, Clock::system())
    }

    /// The same, at a time of the caller's choosing.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn build_with_clock(config: &Config, clock: Clock) -> Result<Self, BuildError> {
        let host = config.server.host.trim_start_matches('[').trim_end_matches(']');
        let bound = TcpListener::bind((host, config.server.port))
            .and_then(|listener| listener.local_addr().map(|address| (listener, address)));
        let (listener, address) = bound.map_err(|source| BuildError::Bind {
            address: format!("{}:{}", config.server.host, config.server.port),
            source,
        })?;
        let countersign = Countersign::open_with_clock(config, clock)?;
        Ok(Self { countersign, listener, address, bounds: Bounds::default() })
    }

    /// The same, less patient with its clients: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn within(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Where it listens; the real port where the configured one was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What answers.
    pub fn countersign(&self) -> &Countersign {
        &self.countersign
    }

    /// Serves until `shutdown` resolves, then finishes the requests in flight.
    ///
    /// # Errors
    ///
    /// If the socket fails.
    pub async fn run(self, shutdown: impl Future<Output = ()> + 'static) -> std::io::Result<()> {
        let countersign = self.countersign.clone();
        let routes = move |config: &mut ServiceConfig| {
            countersign.configure(config);
            http::mount_default(config);
        };
        let server = http::server::start(self.listener, self.bounds, self.countersign.draining.clone(), routes)?;
        let (handle, draining) = (server.handle(), self.countersign.draining.clone());
        let countersign = self.countersign;
        rt::spawn(async move {
            shutdown.await;
            draining.set();
            send_away(&draining).await;
            handle.stop(true).await;
        });
        let ended = server.await;
        // Nothing else is waited for on this thread any more.
        countersign.close();
        ended
    }
}

/// Stopping closes kept connections, also one on which a request is just arriving. So until clients are gone or
/// silent, every answer tells them not to come back on its connection, and `/health/ready` whom to ask instead.
async fn send_away(draining: &Draining) {
    for _ in 0..SEND_AWAY_ROUNDS {
        if draining.connections() == 0 {
            return;
        }
        let before = draining.requests();
        rt::time::sleep(SILENCE).await;
        if draining.requests() == before {
            return;
        }
    }
}

/// How long sessions are kept after their end: until the last lost answer can no longer be asked for, the last access
/// token is over, and, for whoever looks into yesterday's trouble, a day more.
fn remembrance(config: &Config) -> Duration {
    let rotation = &config.rotation;
    rotation.overlap.saturating_add(rotation.recovery).saturating_add(config.tokens.access_ttl).saturating_add(A_DAY)
}

/// The configured issuer, or the one of the first start.
fn issuer(config: &Config, files: &KeyFiles) -> Result<String, KeyFileError> {
    match &config.tokens.issuer {
        Some(issuer) => Ok(issuer.clone()),
        None => files.issuer(&format!("http://{}:{}", config.server.host, config.server.port)),
    }
}
