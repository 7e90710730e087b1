//! `docs/command-line.md` is made from what the commands say of themselves: `UPDATE_SNAPSHOT=1 cargo test --lib cli::reference`
//! writes it anew.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;

use super::{Arguments, shell};

/// What stands in the page before the commands.
const MARK: &str = "<!-- From here on made from src/cli/ by UPDATE_SNAPSHOT=1 cargo test --lib cli::reference -->\n";

/// As in Markdown, where `<` begins a tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn describe(leaf: &shell::Leaf<'_>) -> String {
    let mut text = format!("\n## {}\n\n```text\n{}\n```\n", leaf.name, leaf.usage());
    for paragraph in leaf.about() {
        text += &format!("\n{paragraph}\n");
    }
    for (number, argument) in leaf.arguments().enumerate() {
        let head = if number == 0 { "\n| argument | meaning |\n|---|---|\n" } else { "" };
        text += &format!("{head}| `{}` | {} |\n", argument.name, cell(&argument.meaning));
    }
    text
}

#[test]
fn the_page_about_the_command_line_is_made_from_the_commands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once(MARK).unwrap();
    let mut command = Arguments::command();
    command.build();
    let commands: String = shell::leaves(&command).iter().map(describe).collect();
    let expected = format!("{head}{MARK}{commands}");
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        return fs::write(path, expected).unwrap();
    }
    assert!(page == expected, "write the page anew with UPDATE_SNAPSHOT=1 cargo test --lib cli::reference");
}
