//! What is printed: safe on a terminal, and no trouble for a reader that stops.

use std::io::{BufRead as _, BufReader};

use serde_json::json;

use super::*;
use support::process::PASSWORD;

/// Turns the direction, clears the screen in two ways, and rings the bell.
const NASTY: &str = "ab\u{202e}cd\u{1b}[2J\u{9b}2Jef\u{7}\u{7f}";

#[test]
fn nothing_that_a_user_chose_steers_the_operators_terminal() {
    let home = Home::new();
    let server = home.serve(&[]);
    let body = json!({
        "email": ADA, "password": PASSWORD, "name": "a\u{202e}b\u{2066}c", "device_name": "a\u{200f}b\u{feff}c",
    });
    assert_eq!(server.post("/v1/auth/register", &body).status, 201, "a name may hold such characters");
    in_database(
        &home,
        &format!(
            "UPDATE sessions SET user_agent = '{NASTY}', ip_address = '{NASTY}';
             UPDATE events SET ip_address = '{NASTY}', device_name = '{NASTY}';
             INSERT INTO users SELECT randomblob(16), '{NASTY}', 'x', '{NASTY}', '', '[\"a\\u001bb\"]', 1 = 0, 1, 1, 1, 1, 1,
               NULL, NULL, NULL, NULL, NULL"
        ),
    );
    let arguments = [&["user", "list"][..], &["user", "show", ADA], &["user", "show", "x"], &["session", "list"]];
    for arguments in arguments {
        for form in [None, Some("--json")] {
            let arguments: Vec<&str> = arguments.iter().copied().chain(form).collect();
            let told = run(&home, &arguments).done();
            let steering: Vec<char> = told
                .chars()
                .filter(|c| (c.is_control() && *c != '\n') || "\u{200f}\u{202e}\u{2066}\u{feff}".contains(*c))
                .collect();
            assert!(steering.is_empty(), "{arguments:?} prints {steering:?}: {told}");
        }
    }
    // It is written out where it matters, and JSON still means the same.
    assert!(run(&home, &["user", "show", ADA]).done().contains(r"a\u{202e}b\u{2066}c"));
    assert_eq!(json(&home, &["user", "show", ADA])["name"], "a\u{202e}b\u{2066}c");
    assert_eq!(json(&home, &["session", "list"])[0]["user_agent"], NASTY);
    let told = run(&home, &["user", "disable", "x\u{1b}[2J"]).refused();
    assert!(told.contains(r"x\u{1b}[2J"), "{told}");
}

#[test]
fn a_reader_that_goes_away_ends_a_list_without_a_word() {
    let home = empty();
    create(&home, ADA);
    open_sessions(&home, 5_000);
    for arguments in [&["session", "list"][..], &["session", "list", "--json"]] {
        let mut child = command(&home, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
    }
}

#[test]
fn wide_names_keep_the_columns_in_line() {
    let home = empty();
    run_with(&home, &["user", "create", ADA, "--name", "阿部"], PASSWORD).done();
    run_with(&home, &["user", "create", BOB, "--name", "Bob"], PASSWORD).done();
    let table = run(&home, &["user", "list"]).done();
    assert!(table.contains("阿部  -") && table.contains("Bob   -"), "{table}");
}

#[test]
fn completions_and_the_manual_page_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&home, &["completions", shell]).done();
        for word in ["check-config", "set-password", "backup"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert!(run(&home, &["completions", "tcl"]).misused().contains("bash"));
    let page = run(&home, &["manual"]).done();
    assert!(page.starts_with(".") && page.contains(".TH countersign 1"), "{page}");
    for usage in [
        r"countersign user create EMAIL [\-\-name NAME] [\-\-role ROLE]...",
        "countersign session revoke",
        "EXIT STATUS",
    ] {
        assert!(page.contains(usage), "{usage}: {page}");
    }
}
