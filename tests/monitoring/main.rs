//! What `config/monitoring/` and `docs/operations.md` say of metrics, held against those that a server has.
//!
//! `promtool` of Prometheus checks the text and the rules; where it is not installed, its tests are reported as ignored.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;
use support::process::{Connection, Home, Server, lacks_packages};
use support::sockets::with_sockets;

fn main() -> ExitCode {
    let with_promtool = |name: &str, test: fn()| {
        Trial::ignorable_test(name, move || -> Result<Completion, Failed> {
            if Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                return lacks_packages("promtool is not installed (Debian: prometheus)".to_owned());
            }
            test();
            Ok(Completion::Completed)
        })
    };
    let alone = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    support::run(vec![
        with_promtool("promtool_finds_nothing_to_complain_about", promtool_finds_nothing_to_complain_about),
        with_promtool("the_rules_are_rules_and_fire_when_they_should", the_rules_are_rules_and_fire_when_they_should),
        alone("every_rule_has_a_test", every_rule_has_a_test),
        alone("rules_dashboard_and_page_name_only_what_there_is", rules_dashboard_and_page_name_only_what_there_is),
    ])
}

fn file(name: &str) -> String {
    fs::read_to_string(support::root().join("config/monitoring").join(name)).unwrap()
}

/// A server that has done something of everything that is measured by its route, and the text of its metrics.
fn measured() -> (Home, Server, String) {
    let home = Home::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (command, _inherited) = with_sockets(&home, &[("metrics", &listener)], &[]);
    let (server, address) = (Server::start(command), listener.local_addr().unwrap());
    let pair = server.register("ada@example.com");
    let refreshed = Connection::open(server.address).unwrap().refresh(pair["refresh_token"].as_str().unwrap());
    assert_eq!(refreshed.unwrap().status, 200);
    let text = scrape(address);
    (home, server, text)
}

/// By HTTP/1.0, whose answers come in one piece.
fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

#[track_caller]
fn promtool(arguments: &[&str], input: Stdio) -> String {
    let folder = support::root().join("config/monitoring");
    let output = Command::new("promtool").args(arguments).current_dir(folder).stdin(input).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn promtool_finds_nothing_to_complain_about() {
    let (home, server, text) = measured();
    home.write("metrics.txt", &text);
    let input = fs::File::open(home.path("metrics.txt")).unwrap();
    assert_eq!(promtool(&["check", "metrics"], input.into()).trim(), "");
    server.stop();
}

fn the_rules_are_rules_and_fire_when_they_should() {
    assert!(promtool(&["check", "rules", "alerts.yml"], Stdio::null()).contains("SUCCESS"));
    assert!(promtool(&["test", "rules", "alerts_test.yml"], Stdio::null()).contains("SUCCESS"));
}

fn every_rule_has_a_test() {
    let (rules, tests) = (file("alerts.yml"), file("alerts_test.yml"));
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        for case in ["quiet", "fires"] {
            assert!(tests.contains(&format!("name: '{name}: {case}'")), "{name}: {case}");
        }
    }
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| {
        let rest = word.strip_prefix("countersign_").or_else(|| word.strip_prefix("process_"));
        rest.is_some_and(|rest| !rest.is_empty())
    };
    words.filter(ours).map(str::to_owned).collect()
}

/// Of a histogram, what its series have in common.
fn family(name: &str) -> String {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
}

/// A name of a panel or rule that no server has is a panel without a line, and an alert that never fires.
fn rules_dashboard_and_page_name_only_what_there_is() {
    let (_home, server, text) = measured();
    let there: BTreeSet<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned))
        .collect();
    let families: BTreeSet<String> = there.iter().map(|name| family(name)).collect();
    let known: BTreeSet<String> = there.union(&families).cloned().collect();
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10, "{dashboard}");
    let mut shown = BTreeSet::new();
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        shown.extend(names(target["expr"].as_str().unwrap()));
    }
    let page = fs::read_to_string(support::root().join("docs/operations.md")).unwrap();
    for (place, named) in
        [("dashboard.json", &shown), ("alerts.yml", &names(&file("alerts.yml"))), ("operations.md", &names(&page))]
    {
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{place}: {unknown:?}");
    }
    // And all that there is can be seen.
    let is_shown = |family: &String| shown.iter().any(|name| name.starts_with(family.as_str()));
    let unseen: BTreeSet<String> = families.into_iter().filter(|family| !is_shown(family)).collect();
    let left_out = ["process_start_time_seconds", "process_threads", "process_virtual_memory_bytes"];
    assert_eq!(unseen, left_out.map(str::to_owned).into());
    server.stop();
}
