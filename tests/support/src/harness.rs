//! What tests stand on: the real server on a free port, over a database of its own, at a time that the
//! test decides; and clients that speak to it over HTTP.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use countersign::clock::Timestamp;
use countersign::config::RawConfig;
use countersign::{App, Bounds, Clock};
use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::database::{Connection, TestDatabase};

/// A password that every test may use.
pub const PASSWORD: &str = "correct horse battery";

/// As if `keys forget` had been run: a server starts without the keys that it has signed with.
pub const KEYS_FORGOTTEN: &str = "UPDATE signing_keys SET needed_until = 0";

/// Where a test's clock starts.
pub const START: i64 = 1_800_000_000;

/// A server in this process. Dropping it stops it and waits for it.
pub struct TestApp {
    pub address: SocketAddr,
    pub clock: Clock,
    pub http: Client,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// For a test that keeps no folder: what a server has open, and opens later, stays until it stops.
    _kept: Option<(Arc<TestDatabase>, Arc<TempDir>)>,
}

/// A folder for one test's keys, and a database.
pub struct Home {
    database: OnceLock<Arc<TestDatabase>>,
    folder: Arc<TempDir>,
}

impl Home {
    pub fn new() -> Self {
        Self { database: OnceLock::new(), folder: Arc::new(tempfile::tempdir().unwrap()) }
    }

    /// A folder below, whose keys and embedded database do not exist yet.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The database, ready for a server.
    pub fn database(&self) -> &Arc<TestDatabase> {
        self.database.get_or_init(|| {
            std::fs::create_dir(self.path().join("data")).unwrap();
            let database = TestDatabase::new(self.path().join("data/countersign.db"));
            database.migrate();
            Arc::new(database)
        })
    }
}

/// The least that a server must be told: its own database, and what goes with it.
pub fn bare_config(home: &Home) -> RawConfig {
    let database = home.database();
    let config = RawConfig::default().with("database.url", database.url()).with("server.port", "0");
    database.settings().iter().fold(config, |config, (key, _, value)| config.with(key, *value))
}

/// A configuration for tests: its own database, cheap passwords, any free port.
pub fn config(home: &Home) -> RawConfig {
    bare_config(home)
        .with("tokens.issuer", "http://issuer.test")
        .with("passwords.bcrypt_cost", "4")
        .with("limits.enabled", "false")
}

/// The same, with mails written into the folder `mail`.
pub fn with_mail(home: &Home) -> RawConfig {
    let folder = home.path().join("mail");
    config(home).with("mail.transport", "file").with("mail.folder", folder.to_str().unwrap())
}

/// A clock that stands still at [`START`].
pub fn clock() -> Clock {
    Clock::manual(Timestamp::from_seconds(START))
}

impl TestApp {
    /// A server with a folder of its own.
    pub fn start(home: &Home) -> Self {
        let mut app = Self::start_with(config(home), clock());
        app._kept = Some((Arc::clone(home.database()), Arc::clone(&home.folder)));
        app
    }

    /// A server with a configuration and a clock of the test's choosing.
    pub fn start_with(config: RawConfig, clock: Clock) -> Self {
        Self::start_within(config, clock, Bounds::default())
    }

    /// A server that is as patient with its clients as the test says.
    pub fn start_within(config: RawConfig, clock: Clock, bounds: Bounds) -> Self {
        let config = config.resolve().unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, address) = std::sync::mpsc::channel();
        let hand = clock.clone();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = App::build_with_clock(&config, hand).unwrap().within(bounds);
                bound.send(app.address().tcp().unwrap()).unwrap();
                app.run(async { stopped.await.unwrap_or_default() }).await.unwrap();
            });
        });
        let address = address.recv().expect("the server starts");
        let http = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { address, clock, http, stop: Some(stop), thread: Some(thread), _kept: None }
    }

    /// Moves the clock forward.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// POSTs JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(body))
    }

    /// GETs with a bearer token.
    pub fn get_as(&self, path: &str, access_token: &str) -> Answer {
        Answer::to(self.get(path).bearer_auth(access_token))
    }

    /// Registers a new user and signs them in.
    pub fn sign_up(&self, email: &str) -> Pair {
        self.post("/v1/auth/register", &json!({ "email": email, "password": PASSWORD })).expect(201).pair()
    }

    /// Another session of a user who is registered.
    pub fn log_in(&self, email: &str) -> Pair {
        self.post("/v1/auth/login", &json!({ "email": email, "password": PASSWORD })).expect(200).pair()
    }

    /// Exchanges a refresh token.
    pub fn refresh(&self, refresh_token: &str) -> Answer {
        self.post("/v1/auth/refresh", &json!({ "refresh_token": refresh_token }))
    }

    /// Exchanges a refresh token, as seen from an address behind a proxy that is trusted
    /// (`server.trusted_proxies` = 127.0.0.1).
    pub fn refresh_from(&self, address: &str, refresh_token: &str) -> Answer {
        let body = json!({ "refresh_token": refresh_token });
        Answer::to(self.request(Method::POST, "/v1/auth/refresh").header("X-Forwarded-For", address).json(&body))
    }

    /// Confirms the pair that an access token belongs to.
    pub fn confirm(&self, access_token: &str) -> Answer {
        Answer::to(self.request(Method::POST, "/v1/auth/refresh/confirm").bearer_auth(access_token))
    }

    /// Whether an access token opens a guarded route.
    pub fn works(&self, access_token: &str) -> bool {
        match self.get_as("/v1/users/me", access_token) {
            answer if answer.status == 200 => true,
            answer => {
                assert_eq!((answer.status, answer.code()), (401, "invalid_token"));
                false
            }
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed over there.
            let _ = thread.join();
        }
    }
}

/// A pair of tokens, as a client stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub access: String,
    pub refresh: String,
    pub session_id: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn to(request: RequestBuilder) -> Self {
        let response = request.send().expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().expect("a whole body") }
    }

    /// Fails unless the status is this.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Fails unless it is this error, with the status that the code has.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.text);
        self
    }

    /// Fails unless it is `invalid_grant` for this reason.
    #[track_caller]
    pub fn expect_refused(self, reason: &str) {
        let answer = self.expect_error(400, "invalid_grant");
        assert_eq!(answer.json()["reason"], reason);
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The `code` of an error body.
    pub fn code(&self) -> &'static str {
        let body = self.json();
        // Leaked: a few bytes a test, for readable assertions.
        body["code"].as_str().map_or("", |code| Box::leak(code.to_owned().into_boxed_str()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn pair(&self) -> Pair {
        let body = self.json();
        let member =
            |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.text)).to_owned();
        Pair { access: member("access_token"), refresh: member("refresh_token"), session_id: member("session_id") }
    }
}

/// Changes the database behind the server's back.
#[track_caller]
pub fn in_database(home: &Home, sql: &str) {
    connect(home).execute(sql);
}

/// Asks the database behind the server's back for one number.
#[track_caller]
pub fn number_in_database(home: &Home, sql: &str) -> i64 {
    connect(home).number(sql)
}

/// Asks the database behind the server's back for one text.
#[track_caller]
pub fn text_in_database(home: &Home, sql: &str) -> String {
    connect(home).text(sql)
}

/// A connection to the database beside the server's.
pub fn connect(home: &Home) -> Connection {
    home.database().connect()
}
