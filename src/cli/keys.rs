//! `keys`: what signs and verifies tokens. Never what is in a key.

use clap::Subcommand;
use serde::Serialize;

use super::Failure;
use super::listing::{Listing, Row, or_dash};
use crate::config::Config;
use crate::tokens::Kind;
use crate::tokens::inventory::{self, Entry};
use crate::tokens::key_files::KeyFiles;

/// What can be done with keys.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    /// List the keys in use, each with where it comes from
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub fn run(config: &Config, command: &Command) -> Result<(), Failure> {
    let Command::List { json } = command;
    let mut listing = Listing::new(*json);
    listing.page(&inventory::list(config, &KeyFiles::below(&config.data_dir))?)?;
    listing.end("there are no keys yet: none is configured, and the first `countersign serve` makes them")
}

#[derive(Serialize)]
struct KeyView<'a> {
    kid: &'a str,
    r#use: &'static str,
    algorithm: &'static str,
    state: &'static str,
    source: String,
    created_at: Option<String>,
}

impl<'a> From<&'a Entry> for KeyView<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            kid: &entry.kid,
            r#use: match entry.kind {
                Kind::Access => "access",
                Kind::Refresh => "refresh",
            },
            algorithm: entry.algorithm,
            state: if entry.active { "active" } else { "verify_only" },
            source: entry.file.as_ref().map_or_else(|| "configured".to_owned(), |file| file.display().to_string()),
            created_at: entry.made_at.map(|at| at.to_rfc3339()),
        }
    }
}

impl Row for Entry {
    const HEADINGS: &'static [&'static str] = &["KID", "USE", "ALGORITHM", "STATE", "CREATED", "SOURCE"];

    fn cells(&self) -> Vec<String> {
        let view = KeyView::from(self);
        let state = if self.active { "active" } else { "verifies only" };
        vec![
            self.kid.clone(),
            view.r#use.to_owned(),
            view.algorithm.to_owned(),
            state.to_owned(),
            or_dash(view.created_at.as_deref()),
            view.source,
        ]
    }

    fn json(&self) -> impl Serialize {
        KeyView::from(self)
    }
}
