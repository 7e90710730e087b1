//! Reads one key after the other and keeps what is wrong with them.

use super::key::{FromText, Key, KeyInfo};
use super::mistake::{Mistake, Source};
use super::raw::RawConfig;

/// Takes values out of a [`RawConfig`].
pub(super) struct Reader<'a> {
    raw: &'a RawConfig,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(raw: &'a RawConfig) -> Self {
        Self { raw, mistakes: raw.mistakes.clone(), warnings: raw.warnings.clone() }
    }

    /// The value of `key`; if it is wrong, none, and the mistakes are written down.
    pub(super) fn read<T: FromText>(&mut self, key: &Key<T>) -> Option<T> {
        match key.parse(&self.raw.entry(key)) {
            Ok(value) => Some(value),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.refuse(key, problem));
                None
            }
        }
    }

    /// The value of `key` for a rule about it and others; if it is wrong, none.
    pub(super) fn get<T: FromText>(&self, key: &Key<T>) -> Option<T> {
        key.parse(&self.raw.entry(key)).ok()
    }

    /// Whether anything was written down for `key`, right or wrong.
    pub(super) fn is_set(&self, key: &KeyInfo) -> bool {
        let entry = self.raw.entry(key);
        entry.source != Source::Default && !entry.value.parts().is_empty()
    }

    /// Where the value of `key` came from.
    pub(super) fn source(&self, key: &KeyInfo) -> Source {
        self.raw.entry(key).source
    }

    /// Writes down that `key` is wrong.
    pub(super) fn refuse(&mut self, key: &KeyInfo, problem: impl Into<String>) {
        let mistake = Mistake::new(key.name, self.source(key), problem);
        self.mistakes.push(mistake);
    }
}
