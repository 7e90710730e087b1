//! The texts of mails: English ones are built in, and a folder may have others.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::languages::{from_narrow_to_wide, tag};
use super::parsing::{self, Flaw, Line, Plain};
use super::{Kind, Message, Values, rendering};
use crate::config::Mail;
use crate::files::absolute;

/// The largest file, in bytes.
const LARGEST: u64 = 64 * 1024;

/// The language that every kind has.
const ENGLISH: &str = "en";

/// The texts of all kinds, in all languages that there are.
#[derive(Debug)]
pub struct Templates {
    plain: BTreeMap<(Kind, String), Plain>,
    html: BTreeMap<(Kind, String), Vec<Line>>,
}

/// A text that cannot be used. Names the key, the file and the line.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", Mail::templates)]
pub struct TemplateError {
    pub(super) problem: String,
}

impl TemplateError {
    const fn new(problem: String) -> Self {
        Self { problem }
    }
}

impl Templates {
    /// The built-in texts, and above them those of `folder`, file by file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or used. Hidden files, and those that are neither .txt nor .html, are passed over.
    pub fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut templates = Self { plain: BTreeMap::new(), html: BTreeMap::new() };
        for kind in Kind::ALL {
            let (plain, html) = kind.built_in();
            let place = |flaw: Flaw| TemplateError::new(format!("the built-in {}: {}", kind.name(), told(&flaw)));
            let key = (kind, ENGLISH.to_owned());
            templates.plain.insert(key.clone(), parsing::plain(kind, plain.as_bytes()).map_err(place)?);
            templates.html.insert(key, parsing::html(kind, html.as_bytes()).map_err(place)?);
        }
        if let Some(folder) = folder {
            templates.add(folder)?;
        }
        Ok(templates)
    }

    fn add(&mut self, folder: &Path) -> Result<(), TemplateError> {
        let failed = |error| TemplateError::new(format!("{} cannot be read: {error}", absolute(folder).display()));
        let mut paths = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
            .map_err(failed)?;
        paths.sort();
        let mut seen = BTreeMap::new();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_text = path.extension() == Some(OsStr::new("txt"));
            if name.starts_with('.') || !(is_text || path.extension() == Some(OsStr::new("html"))) {
                continue;
            }
            let wrong = |problem: &str| TemplateError::new(format!("{}{problem}", absolute(&path).display()));
            let Some((kind, language)) = named(&name) else {
                let kinds = Kind::ALL.map(Kind::name).join(", ");
                return Err(wrong(&format!(
                    ": is not called KIND.LANG.txt or KIND.LANG.html, with KIND one of {kinds}"
                )));
            };
            if let Some(other) = seen.insert((kind, language.clone(), is_text), name.clone()) {
                return Err(wrong(&format!(": is for the same kind and language as {other}: remove one of the two")));
            }
            let bytes = read(&path).map_err(|problem| wrong(&format!(": {problem}")))?;
            let flawed = |flaw: Flaw| wrong(&told(&flaw));
            if is_text {
                self.plain.insert((kind, language), parsing::plain(kind, &bytes).map_err(flawed)?);
            } else {
                self.html.insert((kind, language), parsing::html(kind, &bytes).map_err(flawed)?);
            }
        }
        match self.html.keys().find(|key| !self.plain.contains_key(*key)) {
            Some((kind, language)) => Err(TemplateError::new(format!(
                "{}: {kind}.{language}.html has no {kind}.{language}.txt beside it, which has the subject and the plain text",
                absolute(folder).display(),
                kind = kind.name(),
            ))),
            None => Ok(()),
        }
    }

    /// A mail to the address `to`, in the first of `languages` that there is, or a wider one, or else in English. Where that
    /// language has no HTML, the mail has none.
    pub fn render(&self, kind: Kind, to: &str, languages: &[String], values: &Values<'_>) -> Message {
        let wanted = languages.iter().filter_map(|language| tag(language));
        let wanted = wanted.chain([ENGLISH.to_owned()]);
        let found = wanted.into_iter().find_map(|wanted| {
            from_narrow_to_wide(&wanted).map(|tag| (kind, tag.to_owned())).find(|key| self.plain.contains_key(key))
        });
        let key = found.unwrap_or_else(|| (kind, ENGLISH.to_owned()));
        let plain = self.plain.get(&key);
        Message {
            to: to.to_owned(),
            subject: plain.map(|plain| rendering::subject(plain, values)).unwrap_or_default(),
            text: plain.map(|plain| rendering::text(plain, values)).unwrap_or_default(),
            html: self.html.get(&key).map(|lines| rendering::html(lines, values)),
        }
    }

    /// The languages that a kind is there in.
    pub fn languages(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.plain.keys().filter(move |(other, _)| *other == kind).map(|(_, language)| language.as_str())
    }
}

/// Kind and language of `KIND.LANG.txt` and `KIND.LANG.html`.
fn named(name: &str) -> Option<(Kind, String)> {
    let mut parts = name.split('.');
    let (kind, language) = (Kind::by_name(parts.next()?)?, tag(parts.next()?)?);
    let _extension = parts.next()?;
    parts.next().is_none().then_some((kind, language))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err("is no file".to_owned());
    }
    if found.len() > LARGEST {
        return Err(format!("is larger than {LARGEST} bytes"));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// As it follows the name of a file.
fn told(flaw: &Flaw) -> String {
    match flaw.line {
        Some(line) => format!(", line {line}: {}", flaw.problem),
        None => format!(": {}", flaw.problem),
    }
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
