//! What is written about the keys for those who run the server is made from the keys: `config/countersign.toml` and
//! `docs/configuration.md`. `UPDATE_SNAPSHOT=1 cargo test --lib config::reference` writes both anew.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::key::{KeyInfo, Kind, Shape};
use super::keys;
use super::sections::SECTIONS;

/// The longest line of the example file.
const WIDTH: usize = 110;

/// What stands in `docs/configuration.md` before the tables.
const MARK: &str =
    "<!-- From here on made from src/config/sections/ by UPDATE_SNAPSHOT=1 cargo test --lib config::reference -->\n";

/// What a value may be, where its form says so.
fn value_of(key: &KeyInfo) -> Option<String> {
    let duration = |seconds: u64| match seconds {
        _ if seconds > 0 && seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ => format!("{seconds}s"),
    };
    let one = match &key.kind {
        Kind::Text | Kind::DatabaseUrl | Kind::MailUrl => return None,
        Kind::Switch => "true or false".to_owned(),
        Kind::Number(bounds) => match (*bounds.start(), *bounds.end()) {
            (0, end) if end >= u64::from(u32::MAX) => "a whole number".to_owned(),
            (start, end) => format!("a whole number from {start} to {end}"),
        },
        Kind::Duration(bounds) => match (*bounds.start(), *bounds.end()) {
            (0, u64::MAX) => "a duration".to_owned(),
            (start, u64::MAX) => format!("a duration of {} or more", duration(start)),
            (start, end) => format!("a duration from {} to {}", duration(start), duration(end)),
        },
        Kind::OneOf(words) => format!("one of {}", words.join(", ")),
        Kind::Secret => "at least 32 bytes".to_owned(),
    };
    Some(if key.shape == Shape::List { format!("{one} each") } else { one })
}

/// The default as it stands in TOML.
fn default_of(key: &KeyInfo) -> String {
    match (key.shape, &key.kind) {
        (Shape::List, _) => "[]".to_owned(),
        (_, Kind::Switch | Kind::Number(_)) => key.default.to_owned(),
        _ => format!("\"{}\"", key.default),
    }
}

/// All that is written about `key`, as one paragraph.
fn prose(key: &KeyInfo) -> String {
    let at_restart = key.at_restart.then_some("Takes effect at a restart.");
    key.doc.split_whitespace().chain(at_restart).collect::<Vec<_>>().join(" ")
}

/// `text` as a comment of several lines.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split(' ') {
        if lines.last().unwrap().len() + word.len() + 1 > WIDTH {
            lines.push(String::from("#"));
        }
        let line = lines.last_mut().unwrap();
        line.push(' ');
        line.push_str(word);
    }
    lines.join("\n")
}

/// The names that `key` has in the environment.
fn variables(key: &KeyInfo) -> Vec<String> {
    let mut names: Vec<String> = key.short.iter().map(|short| (*short).to_owned()).collect();
    names.push(key.variable());
    names
}

fn example_file(head: &str) -> String {
    let mut file = head.to_owned();
    for section in SECTIONS {
        file.push_str(&format!("[{}]\n", section.name));
        for key in section.keys {
            let value = value_of(key).map_or_else(String::new, |value| format!("# Value: {value}\n"));
            let (_, name) = key.name.split_once('.').unwrap();
            file.push_str(&format!(
                "\n{}\n{value}# Environment: {}\n#{name} = {}\n",
                comment(&prose(key)),
                variables(key).join(" or "),
                default_of(key),
            ));
        }
        file.push('\n');
    }
    format!("{}\n", file.trim_end())
}

fn tables() -> String {
    let mut page = String::new();
    let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
    for section in SECTIONS {
        page.push_str(&format!("\n## {}\n\n| key | default | value | meaning |\n|---|---|---|---|\n", section.name));
        for key in section.keys {
            let short: String = key.short.iter().map(|short| format!("<br>`{short}`")).collect();
            let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
            let value = value_of(key).unwrap_or_default();
            page.push_str(&format!("| `{key}`{short} | {default} | {value} | {} |\n", cell(&prose(key))));
        }
    }
    page
}

/// Fails unless the file at `path` is `expected`, or writes it.
fn hold(path: &Path, found: &str, expected: &str) {
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        return fs::write(path, expected).unwrap();
    }
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{} is not what the keys say: {differs:?}; write it anew with UPDATE_SNAPSHOT=1 cargo test --lib config::reference",
        path.display()
    );
}

#[test]
fn the_example_file_is_made_from_the_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/countersign.toml");
    let file = fs::read_to_string(&path).unwrap();
    let head = file.split("[server]").next().unwrap();
    hold(&path, &file, &example_file(head));
}

#[test]
fn the_page_about_configuration_is_made_from_the_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once(MARK).unwrap();
    hold(&path, &page, &format!("{head}{MARK}{}", tables()));
}

#[test]
fn names_are_unique_and_have_one_section() {
    let mut seen = HashSet::new();
    for key in keys() {
        assert!(seen.insert(key.variable()), "{key} is there twice");
        assert!(key.short.iter().all(|short| seen.insert((*short).to_owned())));
        assert_eq!(key.name.matches('.').count(), 1);
        assert!(key.kind != Kind::Secret || key.default.is_empty());
        assert!(key.shape != Shape::List || key.default.is_empty());
    }
}

#[test]
fn every_key_says_what_it_is_and_when_to_change_it() {
    for key in keys() {
        let paragraphs = key.doc.trim().split("\n\n").count();
        let about = prose(key);
        assert!(paragraphs == 2 && about.len() > 60 && about.ends_with('.'), "{key}: {about}");
        let is_duration = matches!(key.kind, Kind::Duration(_));
        let has_unit = key.default.is_empty() || key.default.ends_with(['s', 'm', 'h', 'd']);
        assert!(!is_duration || has_unit, "the default of {key} has a unit");
    }
}

#[test]
fn the_environment_name_has_two_underscores_between_section_and_key() {
    assert_eq!(super::Tokens::access_ttl.variable(), "COUNTERSIGN__TOKENS__ACCESS_TTL");
}

/// Names in messages, comments and pages are text, which the compiler does not read.
#[test]
fn whatever_is_written_like_a_key_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = vec![root.join("README.md"), root.join("SECURITY.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs", "config/systemd", "src"] {
        let mut folders = vec![root.join(folder)];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let (more, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
            folders.extend(more);
            paths.extend(files);
        }
    }
    // Here wrong names are refused; there, columns of a table are named like this; and passwords are anything.
    paths.retain(|path| {
        !["src/config", "src/store", "src/passwords/common.txt"].iter().any(|room| path.starts_with(root.join(room)))
    });
    let (mut found, mut wrong) = (0, Vec::new());
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let text =
            if path.extension().is_some_and(|extension| extension == "rs") { words_of_code(&text) } else { text };
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_.:/-(".contains(c))) {
            let word = word.trim_end_matches(['.', ':']);
            let Some((section, name)) = word.split_once('.') else { continue };
            let is_name = name.chars().all(|c| c == '_' || c.is_ascii_lowercase());
            let is_file = ["rs", "md", "toml", "crt", "key"].contains(&name);
            if !is_name || is_file || !SECTIONS.iter().any(|known| known.name == section) {
                continue;
            }
            match keys().any(|key| key.name == word) {
                true => found += 1,
                false => wrong.push(format!("{}: {word}", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "no keys:\n{}", wrong.join("\n"));
    assert!(found > 100, "the names were read: {found}");
}

/// The comments and the texts in quotes.
fn words_of_code(source: &str) -> String {
    let comments = source.lines().filter_map(|line| line.split_once("//")).map(|(_, comment)| comment);
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n").replace("\\\"", "").replace("'\"'", "");
    let texts = code.split('"').skip(1).step_by(2);
    comments.chain(texts).collect::<Vec<_>>().join("\n")
}
