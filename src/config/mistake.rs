//! Where a value came from, and what is wrong with it.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The default that is built into the program.
    Default,
    /// A TOML file, by the path it was opened with.
    File(PathBuf),
    /// The file `.env` in the working directory.
    DotEnv,
    /// An environment variable, by name.
    Environment(String),
    /// A systemd credential, by the name of its file.
    Credential(String),
    /// The program that uses this library, see [`RawConfig::with`](super::RawConfig::with).
    Code,
    /// A default that gave way to another key, which was set.
    Follows(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::DotEnv => f.write_str(".env"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::Code => f.write_str("set by the program"),
            Self::Follows(key) => write!(f, "built-in default, fitted to {key}"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One thing that is wrong with the configuration. Never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The key, as in `tokens.access_ttl`; none if a whole file is meant.
    pub key: Option<String>,
    /// Where the value came from.
    pub source: Source,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Mistake {
    /// A mistake about one key.
    pub(super) fn new(key: impl Into<String>, source: Source, problem: impl Into<String>) -> Mistake {
        Mistake { key: Some(key.into()), source, problem: problem.into() }
    }

    /// A mistake about all of `source`.
    pub(super) fn whole(source: Source, problem: impl Into<String>) -> Mistake {
        Mistake { key: None, source, problem: problem.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key} ({}): {}", self.source, self.problem),
            None => write!(f, "{}: {}", self.source, self.problem),
        }
    }
}

/// Everything that is wrong with a configuration, so that it can be put right in one go.
///
/// `Display` writes one mistake a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_one_a_line_and_name_the_key_and_where_it_came_from() {
        let mistakes = Mistakes(vec![
            Mistake::new("server.port", Source::Environment("PORT".to_owned()), "is wrong"),
            Mistake::whole(Source::DotEnv, "cannot be read"),
        ]);
        assert_eq!(mistakes.to_string(), "server.port (environment variable PORT): is wrong\n.env: cannot be read");
    }

    #[test]
    fn every_source_says_what_it_is() {
        let shown = |source: Source| source.to_string();
        assert_eq!(shown(Source::Default), "built-in default");
        assert_eq!(shown(Source::File("config/countersign.toml".into())), "config/countersign.toml");
        assert_eq!(shown(Source::DotEnv), ".env");
        assert_eq!(shown(Source::Credential("A".into())), "credential A");
        assert_eq!(shown(Source::Code), "set by the program");
        assert_eq!(shown(Source::Follows("tokens.access_ttl")), "built-in default, fitted to tokens.access_ttl");
        let json = serde_json::to_string(&Source::Environment("PORT".to_owned())).unwrap();
        assert_eq!(json, "\"environment variable PORT\"");
    }
}
