//! Which tests of which other programs are run again.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Run;

/// A program of tests: what it is called here, the target it is made of, and which of its tests touch a database.
struct Suite {
    name: &'static str,
    target: &'static str,
    includes: fn(&str) -> bool,
}

const SUITES: [Suite; 9] = [
    Suite {
        name: "unit",
        target: "countersign",
        includes: |name| within(name, &["store", "janitor"]) || name.starts_with("sessions::refresh::"),
    },
    // Tokens, bytes and the page that describes it all are the same whatever stores what.
    Suite {
        name: "api",
        target: "api",
        includes: |name| {
            let same =
                ["bodies", "connections", "cross_origin", "docs", "framing", "headers", "jwt_attacks", "patience"];
            !within(name, &same)
        },
    },
    Suite { name: "rotation", target: "rotation", includes: |_| true },
    Suite { name: "model", target: "model", includes: |_| true },
    Suite { name: "commands", target: "commands", includes: |_| true },
    Suite { name: "service", target: "service", includes: |_| true },
    Suite { name: "health", target: "health", includes: |_| true },
    Suite { name: "library", target: "library", includes: |_| true },
    Suite { name: "hardening", target: "hardening", includes: |name| name.starts_with("connections_") },
];

/// Fewer tests than this are not all that there are.
const AT_LEAST: usize = 250;

fn within(name: &str, modules: &[&str]) -> bool {
    name.split("::").next().is_some_and(|module| modules.contains(&module))
}

/// The tests, by their names here.
///
/// # Errors
///
/// If they cannot be made or listed.
pub fn programs() -> Result<Vec<(String, Run)>, String> {
    if !cfg!(feature = "sqlite") {
        eprintln!(
            "postgres: the tests of other programs are left out, since they are built with the embedded database too"
        );
        return Ok(Vec::new());
    }
    let executables = executables()?;
    let mut found = Vec::new();
    for suite in &SUITES {
        let (_, program) = executables
            .iter()
            .find(|(target, _)| target == suite.target)
            .ok_or_else(|| format!("cargo made no tests of {}", suite.target))?;
        let listed = Command::new(program).args(["--list", "--format", "terse"]).stderr(Stdio::inherit()).output();
        let listed = listed.map_err(|error| format!("{}: {error}", program.display()))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        let chosen =
            names.filter(|name| (suite.includes)(name) && !name.split("::").any(|module| module == "embedded"));
        let before = found.len();
        found.extend(chosen.map(|name| {
            let run = Run { program: program.clone(), name: name.to_owned() };
            (format!("{}::{name}", suite.name), run)
        }));
        if found.len() == before {
            return Err(format!("{} has no tests", suite.name));
        }
    }
    if found.len() < AT_LEAST {
        return Err(format!("only {} tests were found", found.len()));
    }
    Ok(found)
}

/// Target and program. `cargo test` has just made them; where this program alone was asked for, it makes them now.
fn executables() -> Result<Vec<(String, PathBuf)>, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--no-run", "--locked", "--quiet", "--message-format=json", "--lib"]);
    for suite in SUITES.iter().filter(|suite| suite.name != "unit") {
        cargo.args(["--test", suite.target]);
    }
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What cargo tells a test about its package is not what it was itself told.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo could not make the tests: {}", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| {
            Some((message["target"]["name"].as_str()?.to_owned(), message["executable"].as_str()?.into()))
        })
        .collect())
}
