//! What goes through a mail: a forgotten password, the proof of an address, its change.

mod addresses;
mod recovery;
mod registration;
mod secrecy;
mod sending;

use countersign::config::RawConfig;
use serde_json::{Value, json};
use support::harness::{Answer, Home, Pair, TestApp, clock, with_mail};
use support::mailbox::Mailbox;

const ADA: &str = "ada@example.com";
const NEW_PASSWORD: &str = "staple after staple";

fn start(home: &Home) -> (TestApp, Mailbox) {
    start_with(home, with_mail(home))
}

fn start_with(home: &Home, config: RawConfig) -> (TestApp, Mailbox) {
    (TestApp::start_with(config, clock()), Mailbox::new(&home.path().join("mail")))
}

fn forgot(app: &TestApp, email: &str) -> Answer {
    app.post("/v1/auth/password/forgot", &json!({ "email": email }))
}

fn reset(app: &TestApp, proof: &Value) -> Answer {
    let mut body = proof.clone();
    body["new_password"] = NEW_PASSWORD.into();
    app.post("/v1/auth/password/reset", &body)
}

fn verify(app: &TestApp, proof: &Value) -> Answer {
    app.post("/v1/auth/email/verify", proof)
}

fn log_in(app: &TestApp, email: &str, password: &str) -> Answer {
    app.post("/v1/auth/login", &json!({ "email": email, "password": password }))
}

/// Has every account a second factor in force, since this second.
fn set_up_second_factors(home: &Home, since: i64) {
    let secret = if home.database().url().starts_with("postgres") { "'x'::bytea" } else { "x'00'" };
    let sql = format!(
        "UPDATE users SET totp_enabled_at = {since}000000, totp_secret = {secret}, totp_sealed_under = 'x', totp_step = 1"
    );
    support::harness::in_database(home, &sql);
}

/// An account whose address is proven, and the mail of that read.
fn proven(app: &TestApp, mailbox: &mut Mailbox, email: &str) -> Pair {
    let pair = app.sign_up(email);
    verify(app, &json!({ "token": mailbox.receive().token() })).expect(204);
    pair
}
