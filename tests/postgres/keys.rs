//! Access keys that nodes generate into the database they share, where no secret for them is configured.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::clients::{Clients, kid};
use support::process::{Connection, Home, Server};

use super::nodes::text;
use super::outage::cluster;

const ADA: &str = "ada@example.com";
/// No secret for access tokens: an empty value counts as unset.
const GENERATED: (&str, &str) = ("ACCESS_TOKEN_SECRET", "");
const PATIENCE: Duration = Duration::from_secs(60);

fn published(node: &Server) -> BTreeSet<String> {
    let answer = Connection::open(node.address).unwrap().send("GET", "/.well-known/jwks.json", &[], "").unwrap();
    let keys = answer.body["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Runs a command: whether it succeeded, and what it said.
fn run(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let environment = [GENERATED].into_iter().chain(environment.iter().copied());
    let output = home.command(arguments.iter().copied(), environment).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn done(home: &Home, arguments: &[&str]) -> String {
    let (succeeded, said) = run(home, arguments, &[]);
    assert!(succeeded, "{said}");
    said
}

/// Asks again and again, until it is so.
#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the access token is taken. A node that cannot tell yet says so; a refusal is an error.
fn is_taken(node: &Server, pair: &Value) -> bool {
    match status_of_me(node, pair) {
        200 => true,
        503 => false,
        status => panic!("{status}"),
    }
}

fn status_of_me(node: &Server, pair: &Value) -> u16 {
    super::nodes::ask(node.address, "GET", "/v1/users/me", &text(pair, "access_token"), &Value::Null).0
}

pub fn nodes_that_start_at_once_make_one_key_and_keep_it_sealed() {
    let home = Home::new();
    home.migrate();
    let nodes: Vec<Server> = thread::scope(|scope| {
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| home.serve(&[GENERATED]))).collect();
        starting.into_iter().map(|node| node.join().unwrap()).collect()
    });
    let one = published(&nodes[0]);
    assert_eq!(one.len(), 1);
    let pair = nodes[0].register(ADA);
    for node in &nodes {
        assert_eq!(published(node), one);
        assert_eq!(status_of_me(node, &pair), 200);
    }
    let listed: Vec<Value> = serde_json::from_str(&done(&home, &["keys", "list", "--json"])).unwrap();
    assert_eq!((text(&listed[0], "state"), text(&listed[0], "source")), ("active".into(), "database".into()));
    assert_eq!(BTreeSet::from([text(&listed[0], "kid")]), one);
    let dump = String::from_utf8_lossy(&home.database().dump()).into_owned();
    assert!(dump.contains(one.first().unwrap()) && !dump.contains("PRIVATE KEY"), "the key is there, and sealed");
    assert!(!home.path("data/keys").exists(), "no node has files of its own");
}

/// One of the nodes is down meanwhile.
pub fn a_rotation_at_once_refuses_no_request_on_any_node() {
    let home = Home::new();
    let (one, other, third) = (home.serve(&[GENERATED]), home.serve(&[GENERATED]), home.serve(&[GENERATED]));
    let before = one.register(ADA);
    let clients = Clients::start(&[&one, &other], 4);
    clients.go_on();
    third.stop();
    let told = done(&home, &["keys", "rotate", "--now"]);
    assert!(told.contains("access ES256") && told.contains("signs from now on"), "{told}");
    clients.go_on();
    let third = home.serve(&[GENERATED]);
    assert_eq!(published(&third), published(&one));
    assert_eq!(published(&third).len(), 2);
    assert_eq!(status_of_me(&third, &before), 200);
    let after = super::nodes::log_in(&third);
    assert_ne!(kid(&text(&after, "access_token")), kid(&text(&before, "access_token")));
    for node in [&one, &other] {
        assert_eq!(status_of_me(node, &after), 200);
        assert_eq!(kid(&text(&super::nodes::log_in(node), "access_token")), kid(&text(&after, "access_token")));
    }
    done(&home, &["keys", "rotate"]);
    clients.go_on();
    clients.stop();
    assert_eq!(done(&home, &["keys", "rotate"]).matches("published").count(), 1, "the one that waits is told again");
    assert!(done(&home, &["keys", "prune"]).contains("no key can be removed"));
}

/// The secret that seals them is changed as the page says: the new one everywhere as a previous one, then as the first.
pub fn another_refresh_secret_opens_the_keys_only_with_the_one_before_it() {
    let home = Home::new();
    let new = ("REFRESH_TOKEN_SECRET", "another-refresh-secret-that-all-nodes-share-1");
    let old = "the-refresh-secret-that-all-nodes-share-67890";
    let node = home.serve(&[GENERATED]);
    let pair = node.register(ADA);
    let keys = published(&node);
    node.stop();
    let (succeeded, told) = run(&home, &["serve"], &[new, ("PORT", "0")]);
    assert!(!succeeded && told.contains("sealed under another REFRESH_TOKEN_SECRET"), "{told}");
    assert!(told.contains(keys.first().unwrap()) && !told.contains(new.1), "{told}");
    let (succeeded, told) = run(&home, &["check-config"], &[new]);
    assert!(!succeeded && told.contains("sealed under another"), "{told}");

    let sealed_under = || home.database().connect().texts("SELECT sealed_under AS text FROM access_keys");
    let before = sealed_under();
    let node = home.serve(&[GENERATED, new, ("REFRESH_TOKEN_SECRET_PREVIOUS", old)]);
    assert_eq!(published(&node), keys);
    assert_eq!(status_of_me(&node, &pair), 200);
    assert_ne!(sealed_under(), before, "they are sealed under the new one");
    node.stop();
    // A node that still has the old one first, and the new one as the page says.
    let node = home.serve(&[GENERATED, ("REFRESH_TOKEN_SECRET_PREVIOUS", new.1)]);
    assert_eq!(published(&node), keys);
    node.stop();
}

/// A secret that takes their place would have every client refused once.
pub fn generated_keys_that_a_secret_displaces_are_asked_for() {
    let home = Home::new();
    home.serve(&[GENERATED]).register(ADA);
    let (succeeded, told) = {
        let output = home.command(["serve"], [("PORT", "0")]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(!succeeded, "{told}");
    assert!(told.contains("it is in the database, and is not used while ACCESS_TOKEN_SECRET is set"), "{told}");
}

/// It is known to have leaked: it is taken away, and its tokens with it.
pub fn a_key_that_signs_no_more_can_be_given_up() {
    let home = Home::new();
    let node = home.serve(&[GENERATED]);
    let pair = node.register(ADA);
    let leaked = kid(&text(&pair, "access_token"));
    let (succeeded, told) = run(&home, &["keys", "forget", &leaked], &[]);
    assert!(!succeeded && told.contains("keys rotate --now"), "{told}");
    done(&home, &["keys", "rotate", "--now"]);
    assert!(done(&home, &["keys", "forget", &leaked]).contains("clients refresh, and go on"));
    wait_for("it is not published", || !published(&node).contains(&leaked));
    wait_for("it is refused", || status_of_me(&node, &pair) == 401);
    assert_eq!(super::nodes::refresh(node.address, &pair).0, 200, "the session goes on");
    let node = (node.stop(), home.serve(&[GENERATED])).1;
    assert_eq!(published(&node).len(), 1);
}

pub fn a_node_that_starts_before_its_database_reads_its_keys_when_it_comes() {
    let mut cluster = cluster();
    let home = Home::on_postgres(&cluster.url());
    home.migrate();
    let pair = home.serve(&[GENERATED]).register(ADA);
    cluster.halt();
    let late = home.serve(&[GENERATED]);
    assert_eq!(status_of_me(&late, &pair), 503, "it cannot tell");
    cluster.resume().unwrap();
    wait_for("the keys are read", || is_taken(&late, &pair));
    assert_eq!(published(&late).len(), 1);
    late.stop();
}

/// An outage is when operators change what is logged; the keys that were read stay.
pub fn a_reload_while_the_database_is_away_keeps_the_keys_it_had() {
    let mut cluster = cluster();
    let home = Home::on_postgres(&cluster.url());
    home.write("config/countersign.toml", "");
    home.migrate();
    let node = home.serve(&[GENERATED]);
    let pair = node.register(ADA);
    let (keys, origin) = (published(&node), [("Origin", "https://app.example.org")]);
    // The watch has seen what there is.
    done(&home, &["keys", "rotate"]);
    wait_for("the next key is published", || published(&node).len() == 2);
    cluster.halt();
    home.write("config/countersign.toml", "[cors]\nallowed_origins = [\"https://app.example.org\"]\n");
    node.signal(rustix::process::Signal::HUP);
    let is_allowed = || {
        let mut stream = std::net::TcpStream::connect(node.address).unwrap();
        let (name, value) = origin[0];
        let request = format!("GET /.well-known/jwks.json HTTP/1.0\r\n{name}: {value}\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer.to_lowercase().contains("access-control-allow-origin")
    };
    wait_for("the reload", is_allowed);
    assert!(published(&node).is_superset(&keys) && published(&node).len() == 2);
    cluster.resume().unwrap();
    wait_for("the end of the outage", || is_taken(&node, &pair));
    node.stop();
}
