//! Mail that arrives, and mail that is refused: the real program and a real mail server, aiosmtpd of Python, which reads what
//! arrives with Python's own parser.
//!
//! It is installed as `.ci/run` does it; where it is not, the tests are reported as ignored. What takes longer than a test may
//! wait, servers that hang or answer byte by byte, is in `src/mail/smtp_tests.rs`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod certificates;
mod command_line;
mod files;
mod server;
mod smtp;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};

use libtest_mimic::{Completion, Failed, Trial};
use support::process::{Home, lacks_packages};

/// Who gets the mail.
const ADA: &str = "ada@example.com";
const FROM: &str = "COUNTERSIGN__MAIL__FROM";
const TRANSPORT: &str = "COUNTERSIGN__MAIL__TRANSPORT";
const URL: &str = "COUNTERSIGN__MAIL__URL";
const CA_FILE: &str = "COUNTERSIGN__MAIL__CA_FILE";
const COMMAND: &str = "COUNTERSIGN__MAIL__COMMAND";
const TEMPLATES: &str = "COUNTERSIGN__MAIL__TEMPLATES";

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for tests in [smtp::TESTS, files::TESTS, command_line::TESTS] {
        trials.extend(tests.iter().map(|&(name, test)| Trial::ignorable_test(name, move || run(test))));
    }
    let with_address = |&(name, test): &smtp::WithAddress| {
        Trial::ignorable_test(name, move || match server::outer_address() {
            Some(host) => run(|| test(&host)),
            None => lacks_packages("this machine has no address but loopback ones".to_owned()),
        })
    };
    trials.extend(smtp::BEYOND_LOOPBACK.iter().map(with_address));
    support::run(trials)
}

fn run(test: impl FnOnce()) -> Result<Completion, Failed> {
    if let Err(missing) = python() {
        return lacks_packages(missing);
    }
    test();
    Ok(Completion::Completed)
}

/// Python with aiosmtpd; or what is missing.
fn python() -> Result<Command, String> {
    let venv = support::root().join("target/libraries/venv");
    let wanted = std::fs::read(support::root().join("tests/libraries/requirements.txt")).ok();
    if wanted.is_none() || wanted != std::fs::read(venv.join("complete")).ok() {
        return Err("make target/libraries/venv as .ci/run does".to_owned());
    }
    let mut command = Command::new(venv.join("bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

fn script(name: &str) -> PathBuf {
    support::root().join("tests/mail").join(name)
}

/// `countersign mail test ADDRESS`, with this configuration.
fn send(home: &Home, address: &str, environment: &[(&str, &str)]) -> Output {
    home.command(["mail", "test", address], environment.iter().copied()).output().unwrap()
}

/// What it said, if it succeeded.
#[track_caller]
fn sent(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

/// What it said, if it failed as a command fails: with exit code 1 and one line.
#[track_caller]
fn failed(output: &Output) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    said
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
