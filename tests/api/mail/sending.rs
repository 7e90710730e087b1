//! When mails are tried again, and when they are given up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use support::harness::{Home, TestApp, clock, config, connect};

use super::ADA;

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A program that takes mails, and how it ends.
struct Program(PathBuf);

impl Program {
    fn ends_with(&self, status: u8) {
        let script = format!("#!/bin/sh\ncat >/dev/null\necho because >&2\nexit {status}\n");
        // Another name first: one that is being run cannot be written.
        let draft = self.0.with_extension("draft");
        fs::write(&draft, script).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(&draft, &self.0).unwrap();
    }
}

fn start(home: &Home, status: u8) -> (TestApp, Program) {
    let program = Program(home.path().join("send"));
    program.ends_with(status);
    let config = config(home).with("mail.transport", "command").with("mail.from", "accounts@example.com");
    let app = TestApp::start_with(config.with("mail.command", program.0.to_str().unwrap()), clock());
    app.sign_up(ADA);
    (app, program)
}

#[track_caller]
fn wait_until(home: &Home, condition: &str) {
    let began = Instant::now();
    let sql = format!("SELECT count(*) AS number FROM mails WHERE {condition}");
    while connect(home).number(&sql) == 0 {
        assert!(began.elapsed() < PATIENCE, "no mail is so: {condition}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn wait_until_none(home: &Home) {
    let began = Instant::now();
    while connect(home).number("SELECT count(*) AS number FROM mails") > 0 {
        assert!(began.elapsed() < PATIENCE, "a mail waits");
        thread::sleep(Duration::from_millis(10));
    }
}

fn failures(home: &Home) -> i64 {
    connect(home).number("SELECT count(*) AS number FROM events WHERE kind = 'mail_failed'")
}

#[test]
fn a_mail_that_cannot_be_sent_now_is_tried_again_after_growing_pauses() {
    let home = Home::new();
    let (app, program) = start(&home, 75);
    wait_until(&home, "attempts = 1 AND claim IS NULL AND last_error LIKE '%because%'");
    for (attempt, pause) in [(2, 5), (3, 15), (4, 60)] {
        app.pass(Duration::from_secs(pause - 1));
        thread::sleep(Duration::from_millis(100));
        wait_until(&home, &format!("attempts = {} AND claim IS NULL", attempt - 1));
        app.pass(Duration::from_secs(1));
        wait_until(&home, &format!("attempts = {attempt} AND claim IS NULL"));
    }
    program.ends_with(0);
    app.pass(HOUR);
    wait_until_none(&home);
    assert_eq!(failures(&home), 0);
}

#[test]
fn a_mail_is_given_up_after_a_day_and_its_user_can_see_that() {
    let home = Home::new();
    let (app, _program) = start(&home, 75);
    wait_until(&home, "attempts = 1 AND claim IS NULL");
    app.pass(23 * HOUR);
    wait_until(&home, "attempts = 2 AND claim IS NULL");
    app.pass(HOUR);
    wait_until_none(&home);
    assert_eq!(failures(&home), 1);
}

#[test]
fn a_mail_that_is_refused_for_good_is_not_tried_again() {
    let home = Home::new();
    let (_app, _program) = start(&home, 65);
    wait_until_none(&home);
    assert_eq!(failures(&home), 1);
}

/// A node that dies while it sends leaves a claim, which ends.
#[test]
fn a_mail_that_was_claimed_by_a_node_that_is_gone_is_sent_by_another() {
    let home = Home::new();
    let (app, program) = start(&home, 75);
    wait_until(&home, "attempts = 1 AND claim IS NULL");
    let due = support::harness::START + 5 * 60;
    let claim = if home.database().url().starts_with("postgres") {
        "decode('00112233445566778899aabbccddeeff', 'hex')"
    } else {
        "x'00112233445566778899aabbccddeeff'"
    };
    support::harness::in_database(&home, &format!("UPDATE mails SET claim = {claim}, due_at = {due}000000"));
    program.ends_with(0);
    app.pass(Duration::from_secs(4 * 60));
    thread::sleep(Duration::from_millis(100));
    wait_until(&home, "claim IS NOT NULL");
    app.pass(Duration::from_secs(60));
    wait_until_none(&home);
}
