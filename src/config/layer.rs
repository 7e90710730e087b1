//! What one place says, before the places are put together.

use std::fs;
use std::io;
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use super::key::{KeyInfo, Kind};
use super::mistake::{Mistake, Source};
use super::names::{Stray, not_a_key};
use super::sections::SHARED_NAME;
use super::{database_url, mail_server};

/// A value as it was written, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Text, also of a number or a switch.
    Text(Zeroizing<String>),
    /// A TOML array.
    List(Vec<Zeroizing<String>>),
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(Zeroizing::new(text.into()))
    }

    /// The parts of a list: those of an array as they are, those of a text between commas, without
    /// white space around them. Empty parts are left out.
    pub(super) fn parts(&self) -> Vec<&str> {
        let parts: Vec<&str> = match self {
            Self::Text(text) => text.split(',').map(str::trim).collect(),
            Self::List(parts) => parts.iter().map(|part| part.as_str()).collect(),
        };
        parts.into_iter().filter(|part| !part.is_empty()).collect()
    }
}

/// What there is of one key.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(super) value: Value,
    pub(super) source: Source,
}

/// What one layer says.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) found: Vec<(&'static KeyInfo, Value, Source)>,
    /// By a name that other programs use too.
    shared: Vec<(&'static KeyInfo, Value, Source)>,
    /// Whether what was found by such a name counts, as far as this layer goes.
    by_shared_name: bool,
    /// Whether the database was found by a name of ours.
    pub(super) names_database: bool,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<String>,
}

impl Layer {
    pub(super) fn broken(mistake: Mistake) -> Self {
        Self { mistakes: vec![mistake], ..Self::default() }
    }

    pub(super) fn unknown(&mut self, name: &str, source: Source, suggestion: Option<String>) {
        self.mistakes.push(Mistake::new(name, source, not_a_key(suggestion)));
    }

    /// What is called `name` and sets `key`.
    pub(super) fn take(&mut self, key: &'static KeyInfo, name: &str, value: Value, source: Source) {
        let is_shared = name.eq_ignore_ascii_case(SHARED_NAME);
        self.names_database |= key.kind == Kind::DatabaseUrl && !is_shared;
        let to = if is_shared { &mut self.shared } else { &mut self.found };
        to.push((key, value, source));
    }

    /// To be called when all was taken: a shared name counts where nothing else sets its key.
    pub(super) fn settle(&mut self) {
        let shared = std::mem::take(&mut self.shared).into_iter();
        let found: Vec<_> = self.found.iter().map(|(key, _, _)| key.name).collect();
        let counting: Vec<_> = shared.filter(|(key, _, _)| !found.contains(&key.name)).collect();
        self.by_shared_name = !counting.is_empty();
        self.found.extend(counting);
    }

    /// An earlier layer names the database by a name of ours: what this one says of it by a shared name does not count.
    pub(super) fn pass_over_shared(&mut self) {
        if self.by_shared_name {
            self.found.retain(|(key, _, _)| key.kind != Kind::DatabaseUrl);
        }
    }

    /// What is to be said of a name that is not ours.
    pub(super) fn stray(&mut self, name: &str, source: Source, stray: Stray) {
        match stray {
            Stray::Foreign => {}
            Stray::Wrong(problem) => self.mistakes.push(Mistake::new(name, source, problem)),
            Stray::Odd(problem) => self.warnings.push(Mistake::new(name, source, problem).to_string()),
        }
    }
}

/// The contents of a file, or nothing if it does not exist.
pub(super) fn read(path: &Path, source: &Source) -> Result<Option<Zeroizing<String>>, Mistake> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let problem = format!("cannot be read: {error}; give it to the user that this runs as, or take it away");
            return Err(Mistake::whole(source.clone(), problem));
        }
    };
    String::from_utf8(bytes).map(|text| Some(Zeroizing::new(text))).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let mut bytes = error.into_bytes();
        let line = 1 + bytes.iter().take(good).filter(|byte| **byte == b'\n').count();
        bytes.zeroize();
        Mistake::whole(source.clone(), format!("line {line}: not UTF-8, save it as such"))
    })
}

/// Whether a value of `key` is something that others must not read.
fn is_confidential(key: &KeyInfo, value: &Value) -> bool {
    match value {
        Value::Text(text) if key.kind == Kind::DatabaseUrl => database_url::may_hold_password(text),
        Value::Text(text) if key.kind == Kind::MailUrl => mail_server::may_hold_password(text),
        _ => key.kind == Kind::Secret && !value.parts().is_empty(),
    }
}

#[cfg(unix)]
pub(super) fn warn_if_others_can_read(layer: &mut Layer, path: &Path, shown: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let secret = layer.found.iter().find(|(key, value, _)| is_confidential(key, value));
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if let (Some((key, _, _)), true) = (secret, mode & 0o077 != 0) {
        let name = shown.display();
        layer
            .warnings
            .push(format!("{name} holds {} and its mode {mode:04o} lets others read it: chmod 600 {name}", key.name));
    }
}

#[cfg(not(unix))]
pub(super) fn warn_if_others_can_read(_: &mut Layer, _: &Path, _: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_apart_at_commas_and_an_array_does_not() {
        assert_eq!(Value::text(" a, b,,c ,").parts(), ["a", "b", "c"]);
        assert!(Value::text("").parts().is_empty());
        let list = [" a,b ", ""].map(|part| Zeroizing::new(part.to_owned()));
        assert_eq!(Value::List(list.into()).parts(), [" a,b "]);
    }

    /// A file that is not there is nothing and one that cannot be read a mistake.
    #[test]
    fn a_missing_file_is_nothing_and_an_unreadable_one_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| read(path, &Source::DotEnv);
        assert_eq!(read(&folder.path().join("none")), Ok(None));
        let mistake = read(folder.path()).unwrap_err();
        assert!(mistake.problem.starts_with("cannot be read: "), "{mistake}");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_a_mistake_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"good\nhunter2 \xff\n").unwrap();
        let mistake = read(&path, &Source::DotEnv).unwrap_err();
        assert_eq!(mistake.to_string(), ".env: line 2: not UTF-8, save it as such");
    }
}
