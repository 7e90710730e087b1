//! Nodes whose machines do not agree what time it is.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::config::RawConfig;
use countersign::{App, Clock};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::nodes::{ask, refresh, text};
use support::cluster::Unused;
use support::process::{Connection, Home, PASSWORD};

const AN_HOUR: i64 = 3_600;

/// How far apart two clocks may be that agree, in seconds.
const APART: u64 = 5;

/// A node in this process. Dropping it stops it.
struct Node {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// On a machine whose clock is so many seconds ahead.
    fn start(home: &Home, seconds: i64) -> Self {
        home.migrate();
        Self::start_at(home, &home.database().url(), seconds)
    }

    /// With its database there, if there is one.
    fn start_at(home: &Home, url: &str, seconds: i64) -> Self {
        let config = RawConfig::default().with("database.url", url).with("server.port", "0");
        let config = config.with("passwords.bcrypt_cost", "4");
        let settings = home.database().settings().iter();
        let config = settings.fold(config, |config, (key, _, value)| config.with(key, *value));
        let config = config.resolve().unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, address) = mpsc::channel();
        let thread = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = App::build_with_clock(&config, Clock::wrong_by(seconds)).unwrap();
                bound.send(app.address().tcp().unwrap()).unwrap();
                app.run(async { stopped.await.unwrap_or_default() }).await.unwrap();
            });
        });
        Self { address: address.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A number among the claims of a token.
fn claim(token: &str, name: &str) -> u64 {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()[name].as_u64().unwrap()
}

/// Both tokens were issued now, as far as they say.
#[track_caller]
fn is_of_now(pair: &Value) {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for token in ["access_token", "refresh_token"] {
        let issued = claim(&text(pair, token), "iat");
        assert!(issued.abs_diff(now) < APART, "{token} is of {issued}, and now is {now}");
    }
}

#[track_caller]
fn is_good(node: &Node, pair: &Value) {
    let (status, body) = ask(node.address, "GET", "/v1/users/me", &text(pair, "access_token"), &Value::Null);
    assert_eq!(status, 200, "{body}");
}

#[track_caller]
fn next(node: &Node, pair: &Value) -> Value {
    let (status, body) = refresh(node.address, pair);
    assert_eq!(status, 200, "{body}");
    is_of_now(&body);
    body
}

pub fn nodes_whose_clocks_are_an_hour_wrong_agree_with_all_others() {
    let home = Home::new();
    let nodes = [0, AN_HOUR, -AN_HOUR].map(|seconds| Node::start(&home, seconds));
    for (number, one) in nodes.iter().enumerate() {
        let body = json!({ "email": format!("user{number}@example.com"), "password": PASSWORD });
        let mut pair = Connection::open(one.address).unwrap().post("/v1/auth/register", &body).unwrap().body;
        is_of_now(&pair);
        for other in &nodes {
            is_good(other, &pair);
            let rotated = next(other, &pair);
            is_good(one, &rotated);
            // The overlap is not over for any client.
            for node in &nodes {
                assert_eq!(next(node, &pair)["refresh_token"], rotated["refresh_token"]);
            }
            pair = next(one, &rotated);
        }
        let out = json!({ "refresh_token": pair["refresh_token"] });
        for node in &nodes {
            assert_eq!(Connection::open(node.address).unwrap().post("/v1/auth/logout", &out).unwrap().status, 204);
            assert_eq!(refresh(node.address, &pair).1["reason"], "revoked");
        }
    }
}

pub fn a_node_that_does_not_know_yet_what_time_it_is_judges_no_token() {
    let home = Home::new();
    let right = Node::start(&home, 0);
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let pair = Connection::open(right.address).unwrap().post("/v1/auth/register", &body).unwrap().body;
    is_good(&right, &pair);
    let nobody = Unused::new().unwrap();
    let nowhere = format!("postgres://postgres@127.0.0.1:{}/postgres", nobody.port());
    // By its own clock, the token is over, or of the future.
    for seconds in [AN_HOUR, -AN_HOUR] {
        let lost = Node::start_at(&home, &nowhere, seconds);
        let (status, body) = ask(lost.address, "GET", "/v1/users/me", &text(&pair, "access_token"), &Value::Null);
        assert_eq!((status, &body["code"]), (503, &json!("unavailable")), "{body}");
        assert_eq!(refresh(lost.address, &pair).0, 503);
    }
    next(&right, &pair);
}
