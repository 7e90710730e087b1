//! The house keeps its shape: `src/lib.rs` says in `# Layout` which file is on which floor, and a file
//! imports from lower floors only; foreign crates and the clock stay where they belong; files stay short.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate or function, and the files that may mention it, as beginnings of their paths.
const AT_HOME: &[(&str, &[&str])] = &[
    ("actix_web", &["problem.rs", "problem/", "guard/", "http/", "app.rs", "cli/", "testing.rs"]),
    ("actix_http", &["http/server/"]),
    ("actix_service", &["http/server/"]),
    ("diesel", &["store/"]),
    ("diesel_migrations", &["store/"]),
    ("jsonwebtoken", &["tokens/"]),
    ("bcrypt", &["passwords/"]),
    ("lettre", &["mail/", "config/sections/mail.rs"]),
    ("std::env", &["config/", "systemd/"]),
    ("SystemTime::now", &["clock.rs"]),
    // revocations: how old our knowledge is, which no step of the wall clock may change.
    // middleware: how long an answer took, for the log; nothing is decided by it.
    // background: how long tasks take to stop; how long a batch of deletes took, which decides how large the next one is.
    // passwords: how long the last hash took, which tells who is turned away how long to wait.
    // health, condition, watch: how old what is known of the database is.
    // attend: how long the server took to answer itself, for the watchdog.
    // lease: how old a connection is; write, commit: how long a write has waited, and a transaction taken.
    // metrics: how long things take. tokens/key_reading: how old what is known of keys is, also after the process has stood still.
    // http/server: how long a client keeps us waiting, which no test's clock decides.
    (
        "Instant::now",
        &[
            "clock.rs",
            "revocation/",
            "http/middleware/",
            "http/server/connection.rs",
            "http/server/connections.rs",
            "background/",
            "cli/attend.rs",
            "passwords/queue.rs",
            "metrics/",
            "tokens/key_reading.rs",
            "store/engine/lease.rs",
            "store/engine/write.rs",
            "store/engine/commit.rs",
            "store/health.rs",
            "store/engine/condition.rs",
            "store/engine/watch.rs",
        ],
    ),
];

/// Rooms within a floor, and what they may import from their own floor, as beginnings of paths.
const WITHIN: &[(&str, &[&str])] =
    &[("store/engine/", &["store/engine/"]), ("store/tables/", &["store/engine/", "store/tables/", "store/mod.rs"])];

/// Rooms that only some files may import from, as beginnings of paths.
const KNOWN_TO: &[(&str, &[&str])] =
    &[("http/server/", &["http/server/", "http/middleware/mod.rs", "http/state.rs", "app.rs", "lib.rs"])];

/// The most lines of code in a file, without comments, blank lines and tests.
const LONGEST: usize = 300;

/// The most characters in the name of a function, and so of a test.
const LONGEST_NAME: usize = 70;

#[test]
fn every_file_is_in_the_layout_and_every_entry_of_the_layout_is_a_file() {
    let layout = layout(&lib());
    let sources = sources();
    let mut wrong = Vec::new();
    for name in sources.keys().filter(|name| *name != "lib.rs") {
        match layout.iter().filter(|(entry, _)| covers(entry, name)).count() {
            0 => wrong.push(format!("src/{name} is not in # Layout of src/lib.rs")),
            1 => {}
            _ => wrong.push(format!("src/{name} is in # Layout twice")),
        }
    }
    for (entry, _) in &layout {
        if !sources.keys().any(|name| covers(entry, name)) {
            wrong.push(format!("# Layout of src/lib.rs has {entry}, which is no file"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn a_module_imports_from_lower_floors_only() {
    let layout = layout(&lib());
    let sources = sources();
    let floor = |name: &str| layout.iter().find(|(entry, _)| covers(entry, name)).map(|(_, floor)| *floor);
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (name, code) in sources.iter().filter(|(name, _)| *name != "lib.rs") {
        let own = module_path(name);
        for path in paths(code) {
            let Some(target) = within_crate(&own, &path) else { continue };
            checked += 1;
            let Some(file) = file_of(&sources, &target) else {
                wrong.push(format!("src/{name} names {}: no module of ours begins like this", path.join("::")));
                continue;
            };
            let same_tree = target.first() == own.first();
            let room = WITHIN.iter().find(|(room, _)| name.starts_with(room));
            if let (true, Some((_, allowed))) = (same_tree, room)
                && !allowed.iter().any(|allowed| file.starts_with(allowed))
            {
                wrong.push(format!("src/{name} imports from src/{file}: {}", path.join("::")));
            }
            let door = KNOWN_TO.iter().find(|(room, _)| file.starts_with(room));
            if let Some((room, guests)) = door.filter(|(_, guests)| !guests.iter().any(|guest| name.starts_with(guest)))
            {
                wrong.push(format!("src/{name} imports from {room}, which is for {}", guests.join(", ")));
            }
            if !same_tree && floor(&file) >= floor(name) {
                let (from, to) = (floor(name).unwrap_or(0), floor(&file).unwrap_or(0));
                wrong.push(format!("src/{name} (F{from}) imports from src/{file} (F{to}): {}", path.join("::")));
            }
        }
    }
    assert_none(&wrong);
    assert!(checked > 100, "imports were read: {checked}");
}

#[test]
fn foreign_crates_the_environment_and_the_clock_stay_at_home() {
    let mut wrong = Vec::new();
    for (name, code) in &sources() {
        let paths = paths(code);
        for (what, homes) in AT_HOME {
            let wanted: Vec<&str> = what.split("::").collect();
            let found = paths.iter().find(|path| path.windows(wanted.len()).any(|part| part == wanted.as_slice()));
            let home = homes.iter().any(|home| name.starts_with(home));
            if let (Some(path), false) = (found, home) {
                wrong.push(format!("src/{name} says {}: {what} belongs in {}", path.join("::"), homes.join(", ")));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_file_is_longer_than_300_lines_of_code() {
    let lengths = sources().into_iter().map(|(name, code)| (name, lines_of(&code)));
    let wrong: Vec<String> = lengths
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(name, lines)| format!("src/{name} has {lines} lines of code: split it by purpose"))
        .collect();
    assert_none(&wrong);
}

/// The story of a test is its doc comment; and a program of tests takes nothing from another's folder.
#[test]
fn names_of_tests_are_short_and_their_files_are_where_cargo_looks() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut wrong = Vec::new();
    for (folder, may_have_paths) in [(folder(), true), (tests, false)] {
        for path in files_below(&folder) {
            let source = fs::read_to_string(&path).unwrap();
            let functions = source.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            let long = functions.filter(|name| name.len() > LONGEST_NAME && !name.contains(char::is_whitespace));
            wrong.extend(long.map(|name| format!("{}: {name} is longer than {LONGEST_NAME}", path.display())));
            if !may_have_paths && source.lines().any(|line| line.trim_start().starts_with("#[path")) {
                wrong.push(format!("{}: names a file of another folder", path.display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_reader_of_sources_sees_code_only() {
    let source = "use a::{b, c::{self, d as e}}; // x::y\n/* p::q /* r::s */ */\n\
                  #[cfg(test)]\nmod tests { fn f() { t::u() } }\n\
                  fn g<'a>(_: &'a str) -> char { h::i(\"j::k\", r#\"l::m \" \"#, '\"', b'\\''); '{' }\n\
                  #[cfg(test)]\nuse v::w;\n#[cfg(test)]\nmod more;\n";
    let code = code(source);
    let found: Vec<String> =
        paths(&code).into_iter().map(|path| path.join("::")).filter(|path| path.contains("::")).collect();
    assert_eq!(found, ["a::b", "a::c::self", "a::c::d", "h::i"]);
    assert_eq!(lines_of(&code), 2);
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn lib() -> String {
    fs::read_to_string(folder().join("lib.rs")).unwrap()
}

/// Every Rust file below `folder`.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The code of every file below `src`, by its path there. Files of tests (`*_tests.rs`) are not part of the house.
fn sources() -> BTreeMap<String, String> {
    let name = |path: &Path| path.strip_prefix(folder()).unwrap().to_str().unwrap().to_owned();
    let files = files_below(&folder()).into_iter().map(|path| (name(&path), path));
    files
        .filter(|(name, _)| !name.ends_with("_tests.rs"))
        .map(|(name, path)| (name, code(&fs::read_to_string(path).unwrap())))
        .collect()
}

/// The entries of `# Layout`, each with its floor: a file, or a folder with everything in it.
fn layout(lib: &str) -> Vec<(String, u8)> {
    let block = lib.split("//! ```text\n").nth(1).and_then(|rest| rest.split("//! ```").next()).unwrap();
    let (mut entries, mut floor) = (Vec::new(), None);
    for line in block.lines().map(|line| line.strip_prefix("//! ").unwrap_or_default()) {
        let (mark, rest) = line.split_at_checked(3).unwrap_or_default();
        if let Some(number) = mark.strip_prefix('F') {
            floor = Some(number.trim().parse().unwrap());
        }
        // Further in than this are the ends of descriptions.
        if !rest.starts_with(' ') {
            let names = rest.split_whitespace().take_while(|word| word.ends_with(".rs") || word.ends_with('/'));
            entries.extend(names.map(|name| (name.to_owned(), floor.expect("a floor above the first file"))));
        }
    }
    assert!(entries.len() > 30, "the layout was read: {entries:?}");
    entries
}

fn covers(entry: &str, name: &str) -> bool {
    entry == name || (entry.ends_with('/') && name.starts_with(entry))
}

/// `a/b.rs` is `a::b`, and so is `a/b/mod.rs`.
fn module_path(name: &str) -> Vec<String> {
    let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
    name.split('/').map(str::to_owned).collect()
}

/// What `crate::…` or `super::…`, said in module `own`, names from the root of the crate.
fn within_crate(own: &[String], path: &[String]) -> Option<Vec<String>> {
    let up = path.iter().take_while(|part| *part == "super").count();
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (&[][..], path.get(1..)?),
        "super" => (own.get(..own.len().checked_sub(up)?)?, path.get(up..)?),
        _ => return None,
    };
    // `pub(crate)` names nothing in particular.
    (!rest.is_empty()).then(|| base.iter().chain(rest).cloned().collect())
}

/// The file of the innermost module that `target` goes through.
fn file_of(sources: &BTreeMap<String, String>, target: &[String]) -> Option<String> {
    (1..=target.len()).rev().find_map(|length| {
        let stem = target.get(..length)?.join("/");
        [format!("{stem}.rs"), format!("{stem}/mod.rs")].into_iter().find(|name| sources.contains_key(name))
    })
}

fn lines_of(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// A source without comments, texts and tests; lines stay where they were.
fn code(source: &str) -> String {
    without_tests(&without_comments_and_texts(source))
}

fn without_comments_and_texts(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            end_of_comment(rest)
        } else if first == '"' {
            end_of_text(rest, '"')
        } else if let Some(length) = Some(rest).filter(|_| !after_word).and_then(end_of_raw_text) {
            length
        } else if first == '\'' && (rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'')) {
            end_of_text(rest, '\'')
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (left_out, remaining) = rest.split_at(length);
        // A text is still something on its line, a comment is not.
        let mark = if left_out.starts_with('/') { ' ' } else { '"' };
        code.extend(left_out.chars().map(|c| if c == '\n' { '\n' } else { mark }));
        rest = remaining;
    }
    code
}

fn end_of_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let here = &text[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn end_of_text(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, and the same after `b`.
fn end_of_raw_text(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let body = inner.trim_start_matches('#');
    let fence = format!("\"{}", "#".repeat(inner.len() - body.len()));
    let end = body.strip_prefix('"')?.find(&fence)?;
    Some(text.len() - body.len() + 1 + end + fence.len())
}

/// Without the items under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept += before;
        let mut depth = 0;
        let end = after.find(|c| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0 && (c == '}' || c == ';')
        });
        rest = end.and_then(|end| after.get(end + 1..)).unwrap_or_default();
    }
    kept + rest
}

/// Every path in some code, with `a::{b, c}` taken apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = match rest.find(|c| !is_word(c)).unwrap_or(rest.len()) {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            length => length,
        };
        let (word, remaining) = rest.split_at(length);
        words.push(word);
        rest = remaining.trim_start();
    }
    let (mut found, mut words) = (Vec::new(), words.into_iter().peekable());
    while let Some(word) = words.next() {
        if word.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            follow(vec![word.to_owned()], &mut words, &mut found);
        }
    }
    found
}

/// Reads on after the beginning of a path.
fn follow<'a>(
    mut path: Vec<String>,
    words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    found: &mut Vec<Vec<String>>,
) {
    while words.next_if_eq(&"::").is_some() {
        if words.next_if_eq(&"{").is_some() {
            while let Some(word) = words.next().filter(|word| *word != "}") {
                if word == "as" {
                    words.next();
                } else if word != "," {
                    follow(path.iter().cloned().chain([word.to_owned()]).collect(), words, found);
                }
            }
            return;
        }
        match words.next_if(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_')) {
            Some(word) => path.push(word.to_owned()),
            None => break,
        }
    }
    found.push(path);
}
