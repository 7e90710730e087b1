//! Mail of two nodes that share an outbox.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::process::{Connection, Home, PASSWORD, Server};

const PATIENCE: Duration = Duration::from_secs(60);
const PEOPLE: usize = 20;

/// Each mail is handed over once, whichever node does it, and both do.
pub fn each_mail_is_sent_once_by_one_of_two_nodes() {
    let home = Home::new();
    let (program, sent) = (home.path("send"), home.path("sent"));
    fs::create_dir(&sent).unwrap();
    // A file for each mail that is handed over, which takes a moment.
    let script = format!("#!/bin/sh\ncat >\"$(mktemp {}/$1.XXXXXX)\"\nsleep 0.05\n", sent.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let node = |name: &str| {
        let command = format!("{} {name}", program.display());
        home.serve(&[
            ("COUNTERSIGN__MAIL__TRANSPORT", "command"),
            ("COUNTERSIGN__MAIL__COMMAND", &command),
            ("COUNTERSIGN__MAIL__FROM", "accounts@example.com"),
            ("COUNTERSIGN__LIMITS__ENABLED", "false"),
        ])
    };
    let nodes = [node("one"), node("other")];
    for number in 0..PEOPLE {
        let body = json!({ "email": format!("user{number}@example.com"), "password": PASSWORD });
        assert_eq!(post(&nodes[number % 2], "/v1/auth/register", &body), 201);
    }
    let begun = Instant::now();
    while home.database().connect().number("SELECT count(*) AS number FROM mails") > 0 {
        assert!(begun.elapsed() < PATIENCE, "mails wait");
        thread::sleep(Duration::from_millis(20));
    }
    let names: Vec<String> =
        fs::read_dir(&sent).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut recipients: Vec<String> = names
        .iter()
        .map(|name| {
            let text = fs::read_to_string(sent.join(name)).unwrap();
            text.lines().find_map(|line| line.strip_prefix("To: ")).unwrap().to_owned()
        })
        .collect();
    recipients.sort();
    recipients.dedup();
    assert_eq!((names.len(), recipients.len()), (PEOPLE, PEOPLE));
}

fn post(node: &Server, path: &str, body: &Value) -> u16 {
    let headers = [("Content-Type", "application/json")];
    Connection::open(node.address).unwrap().send("POST", path, &headers, &body.to_string()).unwrap().status
}
