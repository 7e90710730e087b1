//! The application, built from a configuration: services, then a bound socket, then a run until told to stop.

mod build_error;
mod key_watch;
mod live;
mod measured;

use std::future::Future;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::rt;
use actix_web::web::ServiceConfig;
use serde_json::{Map, Value};

pub use self::build_error::BuildError;
pub(crate) use self::build_error::way_out;
use self::key_watch::KeyWatch;
use self::live::{KeysError, Live};
use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::guard::Verified;
use crate::http;
use crate::http::metrics::Text;
use crate::http::server::{self, Bounds};
use crate::ids::UserId;
use crate::mail::Mailroom;
use crate::metrics::Metrics;
use crate::network::{Address, Listener};
use crate::services::Services;
use crate::sessions::ClaimsHook;
use crate::startup::{self, Made};

/// How long the end waits for other processes that read or write the database.
const CLOSING: Duration = Duration::from_secs(3);

/// What the start has made that was not there before.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FirstStart {
    /// The file of the database, if it was made.
    pub database: Option<PathBuf>,
    /// The folder of keys, if keys were made.
    pub keys: Option<PathBuf>,
    /// The migrations that were run.
    pub migrations: Vec<String>,
}

impl From<Made> for FirstStart {
    fn from(Made { database, migrations, keys }: Made) -> Self {
        Self { database, keys, migrations }
    }
}

/// Everything that answers requests. Clones share it; mount it in any actix-web application with
/// [`Countersign::configure`], and the [guards](crate::guard) work in that application's own handlers. The crate's
/// [first page](crate) shows it whole.
#[derive(Clone)]
pub struct Countersign {
    live: Arc<Live>,
    docs: bool,
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
        // Before anything is made.
        Mailroom::open(config, "").map_err(BuildError::Mail)?;
        let metrics = Metrics::default();
        let started = startup::begin(config, &clock, metrics.store.clone())?;
        let (made, reading, complete) = (started.made.clone(), started.keys.reading.clone(), started.keys.complete);
        for conflict in started.store.address_conflicts_blocking().unwrap_or_default() {
            tracing::warn!("{conflict}");
        }
        let services = Services::start(config, clock, started, metrics)?;
        let tasks = Arc::clone(&services.tasks);
        let live = Arc::new(Live::new(config, services, reading, complete));
        if live.has_generated_keys {
            tasks.start(KeyWatch::new(Arc::downgrade(&live))).map_err(BuildError::Threads)?;
        }
        Ok(Self { live, docs: config.docs.enabled, first_start: made.into() })
    }

    /// Mounts `/openapi.json`, `/docs` and the routes below `/v1`, `/.well-known` and `/health`, and makes the guards work
    /// everywhere in the application: `App::new().configure(|config| countersign.configure(config))`.
    ///
    /// Takes the paths `/v1`, `/.well-known`, `/health` and, unless `docs.enabled` is false, `/docs` whole: routes of the
    /// application's own below them are not found. `/` is left to the application. How long and how many clients may keep
    /// the server busy is bounded in [`App`], not here: that is for the owner of the socket.
    pub fn configure(&self, config: &mut ServiceConfig) {
        // Called once a worker: what that worker has verified is its own.
        config.app_data(self.live.state.clone()).app_data(self.live.guard_state.clone()).app_data(Verified::default());
        http::mount(config, self.docs);
    }

    /// Puts another configuration in force, for every request that comes from now on, and reads the keys in the data folder
    /// anew. Of what cannot change while the server runs, `config` must say the same as before.
    ///
    /// # Errors
    ///
    /// Why the keys or the texts of mail cannot be used. Then everything stays as it was.
    pub(crate) fn reconfigure(&self, config: &Config) -> Result<(), KeysError> {
        self.live.reconfigure(config)
    }

    /// Has `hook` asked, for every access token that is issued from now on, what it is to say of its user besides: claims from
    /// the application's own data. The last one that was given counts.
    ///
    /// Names that access tokens give a meaning of their own (`sub`, `roles`, `scope` …; docs/embedding.md has them all) and
    /// those that an operator has set for the account are left out. If the hook fails, takes longer than 5 seconds (both 503)
    /// or adds more than 1 KiB of JSON (500), no token is issued and nothing has changed: a refresh can be repeated. A user
    /// who is about to register has no account yet when it is asked.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use serde_json::{Map, Value};
    ///
    /// let countersign = countersign::Countersign::open(&countersign::Config::load()?)?;
    /// countersign.add_claims(|user| async move {
    ///     let mut claims = Map::new();
    ///     claims.insert("tenant".into(), Value::from(format!("of {user}")));
    ///     Ok::<_, std::io::Error>(claims)
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_claims<F, A, E>(&self, hook: F)
    where
        F: Fn(UserId) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Map<String, Value>, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.live.services.peek().sessions.set_claims_hook(ClaimsHook::new(hook));
    }

    /// Brings the database up to date, as `countersign migrate` does, and returns the names of the migrations that were
    /// missing. [`Countersign::open`] does it for an embedded database; one that other nodes may be at work on changes when
    /// their operator says so.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: why the database cannot be used.
    pub fn migrate(config: &Config) -> Result<Vec<String>, BuildError> {
        Ok(startup::migrate(config)?.migrations)
    }

    /// Accounts: found, made, changed and deleted.
    pub fn users(&self) -> admin::Users {
        admin::Users { users: self.live.services.peek().accounts.users.clone() }
    }

    /// Live sessions: listed and ended.
    pub fn sessions(&self) -> admin::Sessions {
        admin::Sessions { sessions: self.live.services.peek().accounts.sessions() }
    }

    /// Stops what is done beside requests, and moves everything into the file of an embedded database, which alone is the database then and can be copied: to be
    /// called when the server has stopped, as [`App::run`] does. May take seconds.
    pub fn close(&self) {
        // Only a file must be left alone before it is closed; a server that is away must not delay the end.
        let state = self.live.state.get();
        let store = &state.store;
        state.tasks.stop(if store.is_shared() { Duration::ZERO } else { CLOSING });
        store.empty_log_blocking(CLOSING);
    }

    /// What has been counted and measured, in the text format 0.0.4 of Prometheus: for a route of the application's own, which
    /// is not for the public.
    pub async fn metrics(&self) -> String {
        measured::text(&self.live).await
    }

    /// `iss` of the tokens issued here.
    pub fn issuer(&self) -> &str {
        &self.live.issuer
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
/// println!("listening on {}", app.address());
/// app.run(until_told_to_stop()).await?;
/// # Ok(())
/// # }
/// ```
pub struct App {
    countersign: Countersign,
    listeners: Vec<Listener>,
    address: Address,
    bounds: Bounds,
    /// Whether the sockets were opened by others, who keep them open.
    are_kept_open: bool,
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
        Self::build_on(config, clock, Vec::new())
    }

    /// The same, on sockets that are there already. Without any, it binds the one that the configuration says.
    pub(crate) fn build_on(config: &Config, clock: Clock, mut listeners: Vec<Listener>) -> Result<Self, BuildError> {
        let failed = |source| BuildError::Bind { address: config.server.authority(), source };
        let are_kept_open = !listeners.is_empty();
        if !are_kept_open {
            listeners.push(server::bind(&config.server.host, config.server.port).map_err(failed)?);
        }
        let tcp = listeners.iter().find(|listener| matches!(listener, Listener::Tcp(_)));
        let address = tcp.or(listeners.first()).ok_or(ErrorKind::NotFound.into()).and_then(Listener::address);
        let address = address.map_err(failed)?;
        let countersign = Countersign::open_with_clock(config, clock)?;
        let bounds = Bounds { keep_alive: config.server.keep_alive, ..Bounds::default() };
        Ok(Self { countersign, listeners, address, bounds, are_kept_open })
    }

    /// The same, less patient with its clients: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn within(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Where it listens; the real port where the configured one was 0. Of several sockets, the first
    /// that others can reach by TCP.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What answers.
    pub fn countersign(&self) -> &Countersign {
        &self.countersign
    }

    /// Serves `/metrics` on these sockets besides, on this runtime. To be stopped behind [`App::run`].
    pub(crate) fn serve_metrics(&self, listeners: Vec<Listener>) -> std::io::Result<Option<ServerHandle>> {
        if listeners.is_empty() {
            return Ok(None);
        }
        let countersign = self.countersign.clone();
        let text: Text = Arc::new(move || {
            let countersign = countersign.clone();
            Box::pin(async move { countersign.metrics().await })
        });
        let server = http::metrics::start(listeners, &text)?;
        let handle = server.handle();
        rt::spawn(server);
        Ok(Some(handle))
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
            http::mount_default(config, countersign.docs);
        };
        let state = &self.countersign.live.state;
        let (of_proxies, of_origins) = (state.clone(), state.clone());
        let settings = server::Settings {
            bounds: self.bounds,
            is_proxy: Box::new(move |peer| of_proxies.peek().proxies.trust(peer)),
            draining: state.peek().draining.clone(),
            origins: Arc::new(move || Arc::clone(&of_origins.peek().origins)),
            are_kept_open: self.are_kept_open,
        };
        let ended = server::run(self.listeners, settings, routes, shutdown).await;
        // Nothing else is waited for on this thread any more.
        self.countersign.close();
        ended
    }
}
