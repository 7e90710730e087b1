//! `docs/command-line.md` is made from what the commands say of themselves: `UPDATE_SNAPSHOT=1 cargo test --lib cli::reference`
//! writes it anew.

use std::fs;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::Arguments;

/// What stands in the page before the commands.
const MARK: &str = "<!-- From here on made from src/cli/ by UPDATE_SNAPSHOT=1 cargo test --lib cli::reference -->\n";

/// `EMAIL`, `[--role ROLE]…`
fn usage_of(arg: &Arg) -> String {
    let value =
        arg.get_value_names().map_or_else(|| arg.get_id().to_string().to_uppercase(), |names| names[0].to_string());
    let takes_value = arg.get_action().takes_values();
    let name = match arg.get_long() {
        Some(long) if takes_value => format!("--{long} {value}"),
        Some(long) => format!("--{long}"),
        None => value,
    };
    let more = if matches!(arg.get_action(), ArgAction::Append) { "…" } else { "" };
    if arg.is_required_set() { format!("{name}{more}") } else { format!("[{name}]{more}") }
}

/// The arguments of a command's own.
fn own(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help" && arg.get_id() != "version")
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

/// As in Markdown, where `<` begins a tag.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

/// `command` and all below it.
fn describe(before: &str, command: &Command, page: &mut String) {
    let name = format!("{before} {}", command.get_name());
    let below: Vec<&Command> = command.get_subcommands().collect();
    if !below.is_empty() {
        return below.into_iter().for_each(|command| describe(&name, command, page));
    }
    let usage: Vec<String> = own(command).map(usage_of).collect();
    page.push_str(&format!("\n## {}\n\n```text\n{}\n```\n", name.trim(), format!("{name} {}", usage.join(" ")).trim()));
    let about = text(command.get_long_about().or(command.get_about()));
    for paragraph in about.trim().split("\n\n") {
        page.push_str(&format!("\n{}.\n", paragraph.trim_end_matches('.')));
    }
    if own(command).next().is_some() {
        page.push_str("\n| argument | meaning |\n|---|---|\n");
    }
    for arg in own(command) {
        let help = text(arg.get_long_help().or(arg.get_help()));
        page.push_str(&format!("| `{}` | {} |\n", usage_of(arg).trim_matches(['[', ']', '…']), cell(&help)));
    }
}

#[test]
fn the_page_about_the_command_line_is_made_from_the_commands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once(MARK).unwrap();
    let mut expected = format!("{head}{MARK}");
    let mut command = Arguments::command();
    command.build();
    command.get_subcommands().filter(|command| command.get_name() != "help").for_each(|command| {
        describe("countersign", command, &mut expected);
    });
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        return fs::write(path, expected).unwrap();
    }
    assert!(page == expected, "write the page anew with UPDATE_SNAPSHOT=1 cargo test --lib cli::reference");
}
