//! Through a program, and into files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use support::process::Home;

use super::{ADA, COMMAND, FROM, TRANSPORT, failed, python, script, send, sent};

pub const TESTS: &[(&str, fn())] = &[
    ("a_program_gets_the_message_and_no_secret", a_program_gets_the_message_and_no_secret),
    ("the_exit_code_of_a_program_is_understood", the_exit_code_of_a_program_is_understood),
    ("files_are_whole_private_and_in_order", files_are_whole_private_and_in_order),
];

/// What Python reads in it.
fn parsed(bytes: &[u8]) -> Value {
    let mut command = python().unwrap();
    let mut child = command.arg(script("parse.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn program(home: &Home, text: &str) -> String {
    home.write("a program", &format!("#!/bin/sh\n{text}\n"));
    let path = home.path("a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn a_program_gets_the_message_and_no_secret() {
    let home = Home::new();
    let path =
        program(&home, "cat > message; env > environment; printf '%s\\n' \"$@\" > arguments; sleep 300 2>/dev/null &");
    let command = format!("'{path}' -t \"two words\" '$HOME;ls'");
    let secret = "0123456789abcdefghijklmnopqrstuv";
    let told = sent(&send(
        &home,
        "-oQ/tmp@example.com",
        &[
            (TRANSPORT, "command"),
            (COMMAND, &command),
            (FROM, "accounts@example.org"),
            ("REFRESH_TOKEN_SECRET", secret),
            ("COUNTERSIGN__TOKENS__ACCESS_SECRET", "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"),
            ("HOME", "/home/ada"),
        ],
    ));
    assert!(told.contains(&path), "{told}");
    assert_eq!(fs::read_to_string(home.path("arguments")).unwrap(), "-t\ntwo words\n$HOME;ls\n");
    let environment = fs::read_to_string(home.path("environment")).unwrap();
    assert!(environment.contains("HOME=/home/ada") && environment.contains("PATH="), "{environment}");
    assert!(!environment.contains("SECRET") && !environment.contains("COUNTERSIGN"), "{environment}");
    let message = parsed(&fs::read(home.path("message")).unwrap());
    assert_eq!(message["to"], json!(["-oQ/tmp@example.com"]));
    assert_eq!(message["bare"], 0);
}

fn the_exit_code_of_a_program_is_understood() {
    let home = Home::new();
    for (text, words) in [
        ("cat >/dev/null; echo 'queue is full' >&2; exit 75", ["later", "queue is full"]),
        ("exec 0<&-; echo 'no such user' >&2; exit 67", ["refused for good", "no such user"]),
        ("printf 'line\\033[31m\\nanother' >&2; exit 78", ["needs a change", "line [31m another"]),
        ("kill -9 $$", ["later", "signal: 9"]),
        ("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 64", ["needs a change", "xxx…"]),
    ] {
        let command = format!("'{}'", program(&home, text));
        let told = failed(&send(&home, ADA, &[(TRANSPORT, "command"), (COMMAND, &command), (FROM, "a@example.org")]));
        assert!(words.iter().all(|word| told.contains(word)) && told.len() < 600, "{text}: {told}");
    }
    let gone = [(TRANSPORT, "command"), (COMMAND, "/no/such/program -t"), (FROM, "a@example.org")];
    let told = failed(&send(&home, ADA, &gone));
    assert!(
        told.contains("/no/such/program") && told.contains("needs a change") && told.contains("mail.command"),
        "{told}"
    );
}

fn files_are_whole_private_and_in_order() {
    let home = Home::new();
    fs::create_dir(home.path("data")).unwrap();
    let mut recipients = Vec::new();
    for number in 0..3 {
        let address = format!("ada{number}@example.com");
        let told = sent(&send(&home, &address, &[(TRANSPORT, "file")]));
        assert!(told.contains("data/mail"), "{told}");
        recipients.push(address);
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = home.path("data/mail");
    assert_eq!(mode(&folder), 0o700);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let found: Vec<String> = files
        .iter()
        .map(|file| {
            assert_eq!(mode(file), 0o600);
            assert_eq!(file.extension().unwrap(), "eml");
            let message = parsed(&fs::read(file).unwrap());
            assert_eq!(message["from"], json!([["", "countersign@localhost"]]));
            assert_eq!(message["defects"], json!([]));
            message["to"][0].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(found, recipients, "in the order of their names");
    let told = failed(&send(&home, ADA, &[(TRANSPORT, "file"), ("COUNTERSIGN__MAIL__FOLDER", "/no/such/folder/mail")]));
    assert!(told.contains("/no/such/folder/mail") && told.contains("needs a change"), "{told}");
}
