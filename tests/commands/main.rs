//! The operator's commands, run as the operator runs them: the real binary, beside a running server or alone.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy's leave for tests does not reach the functions beside them"
)]

mod accounts;
mod addresses;
mod backup;
mod files;
mod keys;
mod locks;
mod lost;
mod output;
mod passwords;
mod running;
mod second_factor;
mod sessions;
mod usage;

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use support::database;
use support::process::{Connection, Home, Server};

const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";

/// What a command came to.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Outcome {
    /// It is done, and there is nothing to complain of: what it said.
    #[track_caller]
    fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// It was refused, or has failed, and says so in one line: that line.
    #[track_caller]
    fn refused(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{}", self.err);
        assert!(self.err.starts_with("countersign: ") && self.err.ends_with('\n'), "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err
    }

    /// That is not how it is used.
    #[track_caller]
    fn misused(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(2), ""), "{}", self.err);
        assert!(!self.err.is_empty());
        self.err
    }
}

/// The command, with cheap passwords.
fn command(home: &Home, arguments: &[&str]) -> Command {
    home.command(arguments.iter().copied(), [("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4")])
}

/// Runs a command with nothing on standard input.
fn run(home: &Home, arguments: &[&str]) -> Outcome {
    finish(command(home, arguments), b"")
}

/// Runs a command with this on standard input.
fn run_with(home: &Home, arguments: &[&str], input: &str) -> Outcome {
    finish(command(home, arguments), input.as_bytes())
}

fn finish(mut command: Command, input: &[u8]) -> Outcome {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who does not ask for it does not read it.
    let _unread = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!err.contains("panicked"), "{err}");
    Outcome { code: output.status.code(), out, err }
}

/// A home with a database without accounts.
fn empty() -> Home {
    let home = Home::new();
    assert!(run(&home, &["migrate"]).done().contains("migrated "));
    home
}

/// Makes an account whose password is [`support::process::PASSWORD`].
#[track_caller]
fn create(home: &Home, email: &str) {
    run_with(home, &["user", "create", email], support::process::PASSWORD).done();
}

/// What a reading command says in JSON.
#[track_caller]
fn json(home: &Home, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&run(home, &arguments).done()).unwrap()
}

#[track_caller]
fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Changes the database beside the program.
fn in_database(home: &Home, sql: &str) {
    home.database().connect().execute(sql);
}

fn number_in_database(home: &Home, sql: &str) -> i64 {
    home.database().connect().number(sql)
}

/// As many live sessions of Ada's, opened one after the other.
fn open_sessions(home: &Home, count: u32) {
    in_database(
        home,
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO sessions SELECT unhex(printf('%032x', i)), (SELECT id FROM users WHERE email = '{ADA}'), 0, 0,
               randomblob(32), NULL, zeroblob(16), 'k', 0, 0, NULL, 0, 1152921504606846976, 1152921504606846976, NULL, NULL, '[]', 'body', 0, 0,
               NULL, NULL, NULL, 1, 1, true, NULL, false, NULL FROM n"
        ),
    );
}

fn kinds(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

/// GETs with a bearer token: the status and the body.
fn get(server: &Server, path: &str, access_token: &str) -> (u16, Value) {
    let bearer = format!("Bearer {access_token}");
    let mut connection = Connection::open(server.address).unwrap();
    let answer = connection.send("GET", path, &[("Authorization", &bearer)], "").unwrap();
    (answer.status, answer.body)
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}"))
}

/// Logs in: the status and the body.
fn log_in(server: &Server, email: &str, password: &str) -> (u16, Value) {
    let answer = server.post("/v1/auth/login", &serde_json::json!({ "email": email, "password": password }));
    (answer.status, answer.body)
}

/// Refreshes: the status and the body.
fn refresh(server: &Server, pair: &Value) -> (u16, Value) {
    let body = serde_json::json!({ "refresh_token": text(pair, "refresh_token") });
    let answer = server.post("/v1/auth/refresh", &body);
    (answer.status, answer.body)
}

/// The claims of a token, unchecked.
fn claims(token: &str) -> Value {
    part(token, 1)
}

fn part(token: &str, index: usize) -> Value {
    use base64::Engine as _;
    let text = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}
