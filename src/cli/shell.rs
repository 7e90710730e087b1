//! What a shell and `man` know of the commands: `completions` and `manual`.

use std::io::{self, ErrorKind, Write as _};

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Arguments, Failure};

/// Prints what `shell` completes.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "countersign", &mut script);
    print(&script)
}

/// Prints the manual page: one, with every command and its arguments.
pub fn manual() -> Result<(), Failure> {
    let mut command = Arguments::command();
    command.build();
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    for leaf in leaves(&command) {
        leaf.describe(&mut commands);
    }
    commands.control("SH", ["EXIT STATUS"]);
    commands.text([roman(
        "0: done. 1: refused or failed; one line on standard error says what and what to do. 2: wrong usage.",
    )]);
    commands.control("SH", ["FILES"]);
    commands.text([roman(
        "config/countersign.toml, .env, the environment and systemd credentials configure it, the later above the earlier; \
         countersign check-config shows what is in force.",
    )]);
    let page = Man::new(command);
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    commands.to_writer(&mut text)?;
    print(&text)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A command that has no more commands below it.
pub(super) struct Leaf<'a> {
    /// As it is typed.
    pub(super) name: String,
    command: &'a Command,
}

/// Every command, by all of its names.
pub(super) fn leaves(command: &Command) -> Vec<Leaf<'_>> {
    let mut found = Vec::new();
    collect(command, command.get_name(), &mut found);
    found
}

fn collect<'a>(command: &'a Command, name: &str, found: &mut Vec<Leaf<'a>>) {
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        let name = format!("{name} {}", below.get_name());
        if below.has_subcommands() {
            collect(below, &name, found);
        } else {
            found.push(Leaf { name, command: below });
        }
    }
}

impl Leaf<'_> {
    /// Its name and all that follows it: `countersign user grant EMAIL ROLE`.
    pub(super) fn usage(&self) -> String {
        self.arguments().fold(self.name.clone(), |usage, argument| format!("{usage} {}", argument.usage))
    }

    /// What it does: one sentence, and more in other paragraphs.
    pub(super) fn about(&self) -> Vec<String> {
        let about = text(self.command.get_long_about().or(self.command.get_about()));
        about.trim().split("\n\n").map(|paragraph| format!("{}.", paragraph.trim_end_matches('.'))).collect()
    }

    /// Those of its own.
    pub(super) fn arguments(&self) -> impl Iterator<Item = Argument> {
        let own = |arg: &&Arg| !arg.is_global_set() && arg.get_id() != "help" && arg.get_id() != "version";
        self.command.get_arguments().filter(own).map(Argument::of)
    }

    fn describe(&self, page: &mut Roff) {
        // In the argument of a macro nothing is escaped by itself.
        let usage = self.usage().replace('-', "\\-").replace('…', "...");
        page.control("SS", [usage.as_str()]);
        for (number, paragraph) in self.about().into_iter().enumerate() {
            if number > 0 {
                page.control("PP", []);
            }
            page.text([roman(paragraph)]);
        }
        for argument in self.arguments() {
            page.control("TP", []);
            page.text([bold(argument.name)]);
            page.text([roman(argument.meaning)]);
        }
    }
}

/// An argument of a command.
pub(super) struct Argument {
    /// `--role ROLE`
    pub(super) name: String,
    /// `[--role ROLE]…`
    usage: String,
    /// In one line.
    pub(super) meaning: String,
}

impl Argument {
    fn of(arg: &Arg) -> Self {
        let value = match arg.get_value_names() {
            Some([name, ..]) => name.to_string(),
            _ => arg.get_id().to_string().to_uppercase(),
        };
        let name = match arg.get_long() {
            Some(long) if arg.get_action().takes_values() => format!("--{long} {value}"),
            Some(long) => format!("--{long}"),
            None => value,
        };
        let more = if matches!(arg.get_action(), ArgAction::Append) { "…" } else { "" };
        let usage = if arg.is_required_set() { format!("{name}{more}") } else { format!("[{name}]{more}") };
        let help = text(arg.get_long_help().or(arg.get_help()));
        Self { name, usage, meaning: help.split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}

fn text(styled: Option<&StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}
