//! What a key of the configuration is: its name, default, bounds and meaning, and how its text becomes a value.

use std::fmt::{self, Display};
use std::ops::{Deref, RangeInclusive};
use std::time::Duration;

use super::layer::{Entry, Value};
use super::mistake::Source;
use super::{Database, LogFormat, MailServer, SameSite, VerifyEmail, mail_server, parse};
use crate::secret::Secret;

/// What every long environment name begins with.
pub(super) const PREFIX: &str = "COUNTERSIGN__";

/// All about a key but the type of its value.
#[derive(Clone, Debug)]
pub(crate) struct KeyInfo {
    /// Section and name, as in `tokens.access_ttl`.
    pub(crate) name: &'static str,
    /// The short names it also has in the environment, in `.env` and as a credential.
    pub(crate) short: &'static [&'static str],
    /// The default as text; empty if there is none.
    pub(super) default: &'static str,
    /// What its text may be.
    pub(super) kind: Kind,
    /// How many values it holds.
    pub(super) shape: Shape,
    /// Whether a change takes effect when the server is started again, and not when it reads its configuration anew.
    pub(super) at_restart: bool,
    /// What it does, and when to change it: the doc comment of its field.
    pub(super) doc: &'static str,
}

/// What the text of a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text of a form of its own, which the key's meaning describes.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number(RangeInclusive<u64>),
    /// A duration, in seconds.
    Duration(RangeInclusive<u64>),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Must never be shown, and is taken with the white space around it.
    Secret,
    /// Must not be shown as it is, since it may hold a password.
    DatabaseUrl,
    /// The same, of a mail server.
    MailUrl,
}

/// How many values a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One.
    One,
    /// One; empty is none.
    Optional,
    /// Any number: an array in TOML, separated by commas elsewhere.
    List,
}

impl KeyInfo {
    /// The name that works in the environment for every key: `COUNTERSIGN__TOKENS__ACCESS_TTL`.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "__").to_uppercase())
    }

    /// Whether an empty text turns off what is on by default, so that it is not the same as no text.
    pub(super) fn empty_is_off(&self) -> bool {
        self.shape == Shape::Optional && !self.default.is_empty()
    }
}

impl Display for KeyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A key whose value is a `T`. Each is declared once, in a [`section!`](super::section::section).
pub(crate) struct Key<T: FromText> {
    pub(super) info: KeyInfo,
    parser: Parser<T::Item>,
}

/// From the text of one value to the value. An error is the end of a sentence that begins with the text.
enum Parser<T> {
    /// Knows what is right by itself.
    Free(fn(&str) -> Result<T, String>),
    /// Takes what is within the bounds of the key.
    Within(fn(&str, &RangeInclusive<u64>) -> Result<T, String>),
}

impl<T: FromText> Key<T> {
    const fn new(kind: Kind, parser: Parser<T::Item>) -> Self {
        let info = KeyInfo { name: "", short: &[], default: "", kind, shape: T::SHAPE, at_restart: false, doc: "" };
        Self { info, parser }
    }

    /// A key that `parse` reads.
    pub(super) const fn text(parse: fn(&str) -> Result<T::Item, String>) -> Self {
        Self::new(Kind::Text, Parser::Free(parse))
    }

    /// A key that is one of `words`, which `parse` tells apart.
    pub(super) const fn one_of(words: &'static [&'static str], parse: fn(&str) -> Result<T::Item, String>) -> Self {
        Self::new(Kind::OneOf(words), Parser::Free(parse))
    }

    /// The other names it has in the environment.
    pub(super) const fn short(mut self, short: &'static [&'static str]) -> Self {
        self.info.short = short;
        self
    }

    /// A change takes effect at a restart only.
    pub(super) const fn at_restart(mut self) -> Self {
        self.info.at_restart = true;
        self
    }

    /// What the declaration says of every key.
    pub(super) const fn declared(mut self, name: &'static str, default: &'static str, doc: &'static str) -> Self {
        self.info.name = name;
        self.info.default = default;
        self.info.doc = doc;
        self
    }

    /// The value that `entry` stands for.
    ///
    /// # Errors
    ///
    /// What is wrong with it: a sentence without its beginning for each part that is.
    pub(super) fn parse(&self, entry: &Entry) -> Result<T, Vec<String>> {
        T::from_entry(self, entry)
    }

    fn parse_one(&self, text: &str) -> Result<T::Item, String> {
        let text = if self.kind == Kind::Secret { text } else { text.trim() };
        let parsed = match (&self.parser, &self.kind) {
            (Parser::Free(parse), _) => parse(text),
            (Parser::Within(parse), Kind::Number(bounds) | Kind::Duration(bounds)) => parse(text, bounds),
            (Parser::Within(parse), _) => parse(text, &(0..=u64::MAX)),
        };
        parsed.map_err(|problem| match self.kind {
            Kind::Secret | Kind::DatabaseUrl | Kind::MailUrl => problem,
            _ => format!("{} {problem}", quoted(text)),
        })
    }
}

impl<T: FromText<Item = Duration>> Key<T> {
    /// A duration of so many seconds at least and at most.
    pub(super) const fn duration(bounds: RangeInclusive<u64>) -> Self {
        Self::new(Kind::Duration(bounds), Parser::Within(parse::duration_within))
    }

    /// A duration with bounds for which `parse` gives the reason.
    pub(super) const fn duration_by(bounds: RangeInclusive<u64>, parse: fn(&str) -> Result<Duration, String>) -> Self {
        Self::new(Kind::Duration(bounds), Parser::Free(parse))
    }
}

impl<T: FromText> Key<T>
where
    T::Item: TryFrom<u64>,
{
    /// A whole number within `bounds`, which the type must hold.
    pub(super) const fn number(bounds: RangeInclusive<u64>) -> Self {
        Self::new(Kind::Number(bounds), Parser::Within(parse::number))
    }
}

impl Key<bool> {
    /// `true` or `false`.
    pub(super) const fn switch() -> Self {
        Self::new(Kind::Switch, Parser::Free(parse::switch))
    }
}

impl<T: FromText<Item = Secret>> Key<T> {
    /// A secret, or several.
    pub(super) const fn secret() -> Self {
        Self::new(Kind::Secret, Parser::Free(super::secrets::secret))
    }
}

impl Key<Database> {
    /// The URL of a database.
    pub(super) const fn database_url() -> Self {
        Self::new(Kind::DatabaseUrl, Parser::Free(Database::parse))
    }
}

impl<T: FromText<Item = MailServer>> Key<T> {
    /// The URL of a mail server.
    pub(super) const fn mail_url() -> Self {
        Self::new(Kind::MailUrl, Parser::Free(mail_server::parse))
    }
}

impl<T: FromText> Deref for Key<T> {
    type Target = KeyInfo;

    fn deref(&self) -> &KeyInfo {
        &self.info
    }
}

impl<T: FromText> Display for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

/// A type that keys can have: a value, an `Option` of one (empty is none), or a `Vec`.
pub(crate) trait FromText: Sized {
    /// What one text becomes.
    type Item;

    /// How many of them there are.
    const SHAPE: Shape;

    /// See [`Key::parse`].
    #[doc(hidden)]
    fn from_entry(key: &Key<Self>, entry: &Entry) -> Result<Self, Vec<String>>;
}

/// Types of which a key holds exactly one.
macro_rules! one {
    ($($type:ty),*) => {$(
        impl FromText for $type {
            type Item = Self;
            const SHAPE: Shape = Shape::One;

            fn from_entry(key: &Key<Self>, entry: &Entry) -> Result<Self, Vec<String>> {
                key.parse_one(only(entry)?).map_err(|problem| vec![problem])
            }
        }
    )*};
}

one!(String, u16, u32, usize, bool, Duration, Database, SameSite, LogFormat, VerifyEmail);

/// Types of which a key holds one or none.
impl<T> FromText for Option<T> {
    type Item = T;
    const SHAPE: Shape = Shape::Optional;

    fn from_entry(key: &Key<Self>, entry: &Entry) -> Result<Self, Vec<String>> {
        let text = only(entry)?;
        // An empty secret is a file or a template that went wrong.
        let may_be_empty = key.kind != Kind::Secret || entry.source == Source::Default;
        if may_be_empty && text.trim().is_empty() {
            return Ok(None);
        }
        key.parse_one(text).map(Some).map_err(|problem| vec![problem])
    }
}

impl<T: Same> FromText for Vec<T> {
    type Item = T;
    const SHAPE: Shape = Shape::List;

    /// Without repeats.
    fn from_entry(key: &Key<Self>, entry: &Entry) -> Result<Self, Vec<String>> {
        let (mut values, mut problems) = (Self::new(), Vec::new());
        for part in entry.value.parts() {
            match key.parse_one(part) {
                Ok(value) if values.iter().any(|other| value.same(other)) => {}
                Ok(value) => values.push(value),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(values) } else { Err(problems) }
    }
}

/// Values of a list that can be told apart.
pub(crate) trait Same {
    /// Whether the list would repeat itself with both.
    fn same(&self, other: &Self) -> bool;
}

impl Same for String {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Same for crate::network::Proxy {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Same for Secret {
    fn same(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

fn only(entry: &Entry) -> Result<&str, Vec<String>> {
    match &entry.value {
        Value::Text(text) => Ok(text),
        Value::List(_) => Err(vec!["is a list: write one value".to_owned()]),
    }
}

/// Whether `text` is a URL with a user part: wrong for every key, and it could hold a password.
pub(super) fn may_hold_login(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// `text` between quotes, without anything that could disturb a terminal, cut if it is long.
fn quoted(text: &str) -> String {
    const MAX_SHOWN: usize = 60;
    if may_hold_login(text) {
        return "the value (not shown, it could hold a password)".to_owned();
    }
    let start: String = text.chars().take(MAX_SHOWN).collect();
    let more = if text.chars().count() > MAX_SHOWN { "…" } else { "" };
    format!("\"{}{more}\"", start.escape_debug())
}

#[cfg(test)]
#[cfg(feature = "sqlite")] // of which the default is
mod tests {
    use super::super::resolved;
    use super::*;

    #[test]
    fn a_wrong_value_is_quoted_without_control_characters_and_cut() {
        assert_eq!(quoted("a\u{1b}[31m\"b"), "\"a\\u{1b}[31m\\\"b\"");
        assert_eq!(quoted(&"ä".repeat(61)), format!("\"{}…\"", "ä".repeat(60)));
        assert_eq!(quoted(&"ä".repeat(60)), format!("\"{}\"", "ä".repeat(60)));
    }

    #[test]
    fn a_password_in_a_url_is_not_quoted() {
        let keys = [("tokens.issuer", "https://app:hunter2@example.com")];
        let refusal = resolved(&keys).unwrap_err();
        assert!(refusal.contains("could hold a password"), "{refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }

    #[test]
    fn blanks_around_a_value_do_not_count() {
        let config = resolved(&[("server.port", " 81 "), ("tokens.issuer", " ")]).unwrap();
        assert_eq!(config.server.port, 81);
        assert_eq!(config.tokens.issuer, None);
    }

    #[test]
    fn each_wrong_part_of_a_list_is_reported() {
        let refusal = resolved(&[("tokens.previous_issuers", "a,https://b.example,c")]).unwrap_err();
        assert_eq!(refusal.lines().count(), 2);
        assert!(refusal.contains("\"a\" ") && refusal.contains("\"c\" "), "{refusal}");
    }
}
