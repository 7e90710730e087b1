//! `docs/standards.md` says which test holds which row of the bar. It is complete, and what it names exists.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rows that must hold before any release.
const ROWS: [(&str, &[u8]); 12] = [
    ("TOK", &[1, 2, 3, 4, 5]),
    ("BRR", &[1, 2, 3, 4, 7]),
    ("RFT", &[1, 2, 3, 4, 5, 6, 7, 9]),
    ("JWT", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 21]),
    ("MET", &[2]),
    ("PWD", &[1, 2, 3, 4, 5, 6]),
    ("LOG", &[1, 2, 3, 4, 5, 7, 9, 12, 13]),
    ("SES", &[1, 2, 3, 4]),
    ("RST", &[1, 2, 3, 4]),
    ("WEB", &[1, 2, 3, 4, 5]),
    ("HTT", &[1, 2, 3]),
    ("OPS", &[1, 2, 3, 4, 5, 6]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Row, what holds, tests.
fn table() -> Vec<(String, String, Vec<String>)> {
    let page = fs::read_to_string(root().join("docs/standards.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_uppercase());
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let tests = cells.get(2).map_or("", |cell| cell.trim_end_matches('|')).split('`');
        let tests = tests.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        (cells[0].to_owned(), cells[1].to_owned(), tests)
    })
    .collect()
}

/// The names of all tests and soaks, each with the files that have it.
fn tests() -> BTreeMap<String, BTreeSet<PathBuf>> {
    let (mut found, mut folders) = (BTreeMap::<_, BTreeSet<_>>::new(), vec![root().join("tests"), root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                // Other attributes and comments may stand before the name of a test.
                let tests = text.split("#[test]").skip(1).filter_map(|after| after.split("fn ").nth(1));
                let soaks = text.split("pub fn ").skip(1).filter(|after| after.contains("(run: &Run) -> Outcome"));
                // Those of a program without `#[test]`, which boots a system for each.
                let booted = text
                    .split("\nfn ")
                    .skip(1)
                    .filter(|after| after.split('{').next().is_some_and(|head| head.ends_with("(system: &System) ")));
                for name in tests.chain(soaks).chain(booted).filter_map(|after| after.split(['(', '<']).next()) {
                    found.entry(name.to_owned()).or_default().insert(path.clone());
                }
            }
        }
    }
    found
}

#[test]
fn every_row_of_the_bar_is_held_by_tests_that_exist() {
    let (table, tests) = (table(), tests());
    let rows: BTreeSet<String> =
        ROWS.iter().flat_map(|(group, rows)| rows.iter().map(move |row| format!("{group}-{row:02}"))).collect();
    let mut wrong = Vec::new();
    for row in &rows {
        if table.iter().filter(|(name, _, _)| name == row).count() != 1 {
            wrong.push(format!("{row} is not in the table once"));
        }
    }
    for (row, promise, held_by) in &table {
        if !rows.contains(row) {
            wrong.push(format!("{row} is no row of the bar"));
        }
        if held_by.is_empty() != promise.starts_with("not yet: ") {
            wrong.push(format!("{row} has no test and no reason why not, or both"));
        }
        for test in held_by {
            if !tests.contains_key(test) {
                wrong.push(format!("{row} is held by {test}, which is no test"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(tests.len() > 300, "tests were read: {}", tests.len());
}

/// OPS-05: what it checks is in `deny.toml`, and that it can fail is checked by the script itself.
#[test]
fn a_check_of_the_dependencies_is_part_of_every_build() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let build = read(".ci/run");
    let (check, lints) = (build.find("\n.ci/deny\n").unwrap(), build.find("\ncargo clippy").unwrap());
    assert!(check < lints);
    assert!(read(".ci/deny").contains("\ndeny check\n"));
    let rules = read("deny.toml");
    for rule in ["crate = \"rsa\"", "crate = \"jsonwebtoken\"", "exact = true", "unknown-registry = \"deny\""] {
        assert!(rules.contains(rule), "{rule}");
    }
    let lock = read("Cargo.lock");
    for known in fs::read_dir(root().join(".ci/advisories/crates")).unwrap() {
        let name = known.unwrap().file_name().into_string().unwrap();
        assert!(lock.contains(&format!("name = \"{name}\"")), "{name} is not in the tree any more: refresh");
    }
}
