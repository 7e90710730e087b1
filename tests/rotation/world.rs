//! A server with its clock, its database and its log; and tokens, looked into and made.

use std::io::Write;
use std::ops::Deref;
use std::sync::{Mutex, Once};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::config::RawConfig;
use serde_json::Value;

use support::database::Connection;
use support::harness::{Home, KEYS_FORGOTTEN, Pair, TestApp, clock, config};

pub const SECRET_A: &str = "the-first-refresh-secret-of-this-server-0123";
pub const SECRET_B: &str = "the-second-refresh-secret-of-this-server-4567";
pub const SECRET_C: &str = "the-third-refresh-secret-of-this-server-89ab";

pub fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub fn mins(count: u64) -> Duration {
    secs(count * 60)
}

pub fn hours(count: u64) -> Duration {
    mins(count * 60)
}

pub fn days(count: u64) -> Duration {
    hours(count * 24)
}

/// A server and its folder. What it is configured with beside the defaults of tests is its `settings`.
pub struct World {
    pub app: TestApp,
    pub home: Home,
}

impl Deref for World {
    type Target = TestApp;

    fn deref(&self) -> &TestApp {
        &self.app
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(&[])
    }

    pub fn with(settings: &[(&str, &str)]) -> Self {
        log::start();
        let home = Home::new();
        Self { app: TestApp::start_with(configured(&home, settings), clock()), home }
    }

    /// Another node: another server over the same database, at the same time.
    pub fn second_node(&self, settings: &[(&str, &str)]) -> TestApp {
        TestApp::start_with(configured(&self.home, settings), self.clock.clone())
    }

    /// The server stopped, and started again with other settings.
    pub fn restart(self, settings: &[(&str, &str)]) -> Self {
        let Self { app, home } = self;
        let clock = app.clock.clone();
        drop(app);
        Self { app: TestApp::start_with(configured(&home, settings), clock), home }
    }

    /// The server stopped, and started again with other settings, where the keys that they lack have been given up while
    /// their sessions live on: as on another node, or with a key that was pruned too soon.
    pub fn restart_without_keys(self, settings: &[(&str, &str)]) -> Self {
        self.database().execute(KEYS_FORGOTTEN);
        self.restart(settings)
    }

    /// Copies the database as it is now: the URL of the copy.
    pub fn back_up(&self) -> String {
        self.home.database().copy()
    }

    /// The server stopped, and started again over that copy. The keys stay.
    pub fn restore(self, copy: &str, settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> = settings.iter().copied().chain([("database.url", copy)]).collect();
        self.restart(&settings)
    }

    /// Beside the server.
    pub fn database(&self) -> Connection {
        self.home.database().connect()
    }

    /// Everything that a thief of the database gets.
    pub fn dump(&self) -> Vec<u8> {
        self.home.database().dump()
    }

    pub fn step_back(&self, time: Duration) {
        self.clock.set(self.clock.now().minus(time));
    }

    /// A user who signed in a minute ago.
    pub fn somebody(&self) -> Pair {
        self.visitor("ada@example.com")
    }

    pub fn visitor(&self, email: &str) -> Pair {
        let pair = self.sign_up(email);
        self.pass(mins(1));
        pair
    }

    /// Refreshes, and is answered.
    #[track_caller]
    pub fn rotate(&self, refresh_token: &str) -> Pair {
        self.refresh(refresh_token).expect(200).pair()
    }

    /// The client holds a working pair, the session lives, and goes on living. Returns its newest pair.
    #[track_caller]
    pub fn goes_on(&self, pair: &Pair) -> Pair {
        assert!(self.works(&pair.access), "the access token works");
        let mut pair = pair.clone();
        for _ in 0..2 {
            self.pass(mins(10));
            let next = self.rotate(&pair.refresh);
            assert_eq!(next.session_id, pair.session_id);
            assert_eq!(generation(&next.refresh), generation(&pair.refresh) + 1);
            assert!(self.works(&next.access), "the next access token works");
            pair = next;
        }
        pair
    }

    /// The session was ended because of what was presented: at once, and for every token of it.
    #[track_caller]
    pub fn is_dead(&self, pairs: &[&Pair]) {
        for pair in pairs {
            assert!(!self.works(&pair.access), "an access token outlives its session");
        }
        for pair in pairs {
            self.refresh(&pair.refresh).expect_refused("revoked");
        }
    }
}

fn configured(home: &Home, settings: &[(&str, &str)]) -> RawConfig {
    settings.iter().fold(config(home), |config, (key, value)| config.with(key, *value))
}

/// What a token says, unverified.
pub fn claims(token: &str) -> Value {
    part(token, 1)
}

pub fn header(token: &str) -> Value {
    part(token, 0)
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

pub fn generation(refresh_token: &str) -> u64 {
    claims(refresh_token)["gen"].as_u64().unwrap()
}

pub fn branch(refresh_token: &str) -> u64 {
    claims(refresh_token)["br"].as_u64().unwrap()
}

/// The token with other claims and the same header, signed with that secret.
pub fn forged(token: &str, secret: &str, edit: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims(token);
    edit(&mut claims);
    let header = token.split('.').next().unwrap();
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

/// The log of this process, read back.
pub mod log {
    use super::*;

    static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    static STARTED: Once = Once::new();

    struct Sink;

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LINES.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    pub fn start() {
        STARTED.call_once(|| tracing_subscriber::fmt().json().flatten_event(true).with_writer(|| Sink).init());
    }

    /// What is told about one session, in order: name, and detail if there is one. An ordinary rotation is told by the
    /// line of its request.
    pub fn events(session_id: &str) -> Vec<(String, String)> {
        let text = |line: &Value, member: &str| line[member].as_str().unwrap_or_default().to_owned();
        let lines = String::from_utf8(LINES.lock().unwrap().clone()).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["event"].is_string() && line["session_id"] == session_id)
            .map(|line| (text(&line, "event"), text(&line, "detail")))
            .collect()
    }

    /// How often that happened to the session.
    pub fn count(session_id: &str, event: &str) -> usize {
        events(session_id).iter().filter(|(name, _)| name == event).count()
    }

    /// Whether that happened to the session for that reason.
    pub fn has(session_id: &str, event: &str, detail: &str) -> bool {
        events(session_id).iter().any(|(name, why)| name == event && why == detail)
    }
}
