//! Reads one key after the other and keeps what is wrong with them.

use super::layer::Value;
use super::lookup;
use super::mistake::{Mistake, Source};
use super::raw::{Entry, RawConfig};

/// What is said of a key that only the code knows.
const NOT_IN_THE_TABLE: &str =
    "is read, and is not in the table of keys: a fault of Countersign itself, please report it";

/// Takes values out of a [`RawConfig`]; `None` always means that a mistake was written down.
pub(super) struct Reader<'a> {
    raw: &'a RawConfig,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(raw: &'a RawConfig) -> Self {
        Self { raw, mistakes: raw.mistakes.clone(), warnings: raw.warnings.clone() }
    }

    /// The value of `key` as `parse` reads it.
    pub(super) fn read<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(key)?;
        self.parsed(key, text.trim(), parse)
    }

    /// The value of `key`, or nothing if it is empty.
    pub(super) fn optional<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Option<T>> {
        let text = self.text(key)?.trim();
        if text.is_empty() && lookup::by_name(key).is_some_and(|key| key.may_be_empty()) {
            return Some(None);
        }
        self.parsed(key, text, parse).map(Some)
    }

    /// Each value of the list `key`.
    pub(super) fn list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let parts = self.parts(key);
        let read: Vec<Option<T>> = parts.into_iter().map(|part| self.parsed(key, part.trim(), &parse)).collect();
        read.into_iter().collect()
    }

    /// The text of `key` as it stands.
    pub(super) fn text(&mut self, key: &str) -> Option<&'a str> {
        match &self.entry(key)?.value {
            Value::Text(text) => Some(text.as_str()),
            Value::List(_) => {
                self.refuse(key, "is a list: write one value");
                None
            }
        }
    }

    /// The parts of the list `key`.
    pub(super) fn parts(&mut self, key: &str) -> Vec<&'a str> {
        self.entry(key).map_or_else(Vec::new, |entry| entry.value.parts())
    }

    /// What there is of `key`. A key that is not in the table is a slip in this program, and told as any other mistake: else
    /// the start would be refused without a word.
    fn entry(&mut self, key: &str) -> Option<&'a Entry> {
        let entry = self.raw.entry(key);
        if entry.is_none() {
            self.refuse(key, NOT_IN_THE_TABLE);
        }
        entry
    }

    /// Where the value of `key` came from.
    pub(super) fn source(&self, key: &str) -> Source {
        let entry = self.raw.entry(key);
        entry.map_or(Source::Default, |entry| entry.source.clone())
    }

    /// Writes down that `key` is wrong.
    pub(super) fn refuse(&mut self, key: &str, problem: impl Into<String>) {
        let mistake = Mistake::new(key, self.source(key), problem);
        self.mistakes.push(mistake);
    }

    fn parsed<T>(&mut self, key: &str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(problem) => {
                // A database URL could hold a password, and so could what was meant as one.
                let problem = match key {
                    "database.url" => problem,
                    _ => format!("{} {problem}", quoted(text)),
                };
                self.refuse(key, problem);
                None
            }
        }
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
    fn a_key_that_is_not_in_the_table_is_a_mistake_that_says_so_however_it_is_read() {
        let raw = RawConfig::default();
        let reads: [fn(&mut Reader) -> bool; 4] = [
            |reader| reader.read("server.prot", |text| Ok(text.to_owned())).is_none(),
            |reader| reader.optional("server.prot", |text| Ok(text.to_owned())).is_none(),
            |reader| reader.list("server.prot", |text| Ok(text.to_owned())).is_none_or(|list| list.is_empty()),
            |reader| reader.text("server.prot").is_none(),
        ];
        for read in reads {
            let mut reader = Reader::new(&raw);
            assert!(read(&mut reader));
            let told: Vec<String> = reader.mistakes.iter().map(ToString::to_string).collect();
            assert_eq!(told, [format!("server.prot (built-in default): {NOT_IN_THE_TABLE}")]);
        }
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
