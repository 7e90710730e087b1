//! The keys as `keys list` shows them.

use serde::Serialize;

use super::listing::{Row, or_dash};
use crate::clock::Timestamp;
use crate::signing_keys::Remembered;
use crate::tokens::Kind;
use crate::tokens::generated::KeySource;
use crate::tokens::key_selection::{Entry, KeyState};

/// What a key is for.
pub fn purpose(kind: Kind) -> &'static str {
    match kind {
        Kind::Access => "access",
        Kind::Refresh => "refresh",
    }
}

/// A key in use, or one that has signed and is not there.
pub struct KeyRow {
    pub kid: String,
    pub kind: Kind,
    algorithm: String,
    state: State,
    source: String,
    created_at: Option<Timestamp>,
    signs_from: Option<Timestamp>,
    pub needed_until: Option<Timestamp>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Active,
    Next,
    VerifyOnly,
    Missing,
}

impl KeyRow {
    /// One that is there.
    pub fn of_ours(key: Entry) -> Self {
        Self {
            kid: key.kid,
            kind: key.kind,
            algorithm: key.algorithm.to_owned(),
            state: match key.state {
                KeyState::Active => State::Active,
                KeyState::Next => State::Next,
                KeyState::VerifyOnly => State::VerifyOnly,
            },
            source: match key.source {
                KeySource::Configured => "configured".to_owned(),
                KeySource::File(file) => file.display().to_string(),
                KeySource::Database => "database".to_owned(),
            },
            created_at: key.made_at,
            signs_from: key.signs_from.filter(|_| key.state == KeyState::Next),
            needed_until: None,
        }
    }

    /// One that is not.
    pub fn lost(Remembered { key, algorithm, first_used_at }: Remembered) -> Self {
        Self {
            kid: key.kid,
            kind: key.kind,
            algorithm,
            state: State::Missing,
            source: key.file.unwrap_or_else(|| "configured".to_owned()),
            created_at: Some(first_used_at),
            signs_from: None,
            needed_until: Some(key.until),
        }
    }

    fn view(&self) -> KeyView<'_> {
        KeyView {
            kid: &self.kid,
            r#use: purpose(self.kind),
            algorithm: &self.algorithm,
            state: self.state,
            source: &self.source,
            created_at: self.created_at.map(Timestamp::to_rfc3339),
            signs_from: self.signs_from.map(Timestamp::to_rfc3339),
            needed_until: self.needed_until.map(Timestamp::to_rfc3339),
        }
    }
}

#[derive(Serialize)]
struct KeyView<'a> {
    kid: &'a str,
    r#use: &'static str,
    algorithm: &'a str,
    state: State,
    source: &'a str,
    created_at: Option<String>,
    signs_from: Option<String>,
    needed_until: Option<String>,
}

impl Row for KeyRow {
    const HEADINGS: &'static [&'static str] =
        &["KID", "USE", "ALGORITHM", "STATE", "CREATED", "SIGNS FROM", "NEEDED UNTIL", "SOURCE"];

    fn cells(&self) -> Vec<String> {
        let view = self.view();
        let state = match self.state {
            State::Active => "active",
            State::Next => "next",
            State::VerifyOnly => "verifies only",
            State::Missing => "missing",
        };
        vec![
            self.kid.clone(),
            view.r#use.to_owned(),
            self.algorithm.clone(),
            state.to_owned(),
            or_dash(view.created_at.as_deref()),
            or_dash(view.signs_from.as_deref()),
            or_dash(view.needed_until.as_deref()),
            self.source.clone(),
        ]
    }

    fn json(&self) -> impl Serialize {
        self.view()
    }
}
