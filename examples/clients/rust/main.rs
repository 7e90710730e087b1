//! `cargo run --example client http://127.0.0.1:8080 tokens.json`, then a command a line: `sign-in EMAIL PASSWORD`,
//! `code MFA_TOKEN CODE`, `get PATH`, `sign-out`. They run side by side, as they would in an app.

mod client;
mod file_store;

use std::io::stdin;
use std::process::ExitCode;
use std::thread;

use client::{Client, Error};
use file_store::FileStore;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, store] = arguments.as_slice() else {
        eprintln!("usage: client SERVER STORE");
        return ExitCode::from(2);
    };
    let client = match Client::new(server, FileStore::new(store)) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    thread::scope(|scope| {
        for line in stdin().lines().map_while(Result::ok) {
            let client = &client;
            scope.spawn(move || println!("{}", run(client, &line).unwrap_or_else(|error| error.to_string())));
        }
    });
    ExitCode::SUCCESS
}

fn run(client: &Client, line: &str) -> Result<String, Error> {
    match line.splitn(3, ' ').collect::<Vec<_>>().as_slice() {
        ["sign-in", email, password] => match client.sign_in(email, password) {
            Err(Error::CodeRequired(mfa_token)) => Ok(format!("code? {mfa_token}")),
            decided => decided.map(|()| "signed in".to_owned()),
        },
        ["code", mfa_token, code] => client.enter_code(mfa_token, code).map(|()| "signed in".to_owned()),
        ["sign-out"] => client.sign_out().map(|()| "signed out, as you wished".to_owned()),
        ["get", path] => {
            let answer = client.send(|http| http.get(client.url(path)))?;
            Ok(format!("{} {}", answer.status().as_u16(), answer.text()?))
        }
        _ => Ok("what? sign-in EMAIL PASSWORD, code MFA_TOKEN CODE, get PATH or sign-out".to_owned()),
    }
}
