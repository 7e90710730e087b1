//! The TOML file.

use std::path::Path;

use toml::{Table, Value as Toml};
use zeroize::Zeroizing;

use super::key::Shape;
use super::layer::{Layer, Value, read, warn_if_others_can_read};
use super::lookup;
use super::mistake::{Mistake, Source};

/// A TOML file; `shown` is what messages call it. Not there is a mistake only if `required`.
pub(super) fn toml_file(path: &Path, shown: &Path, required: bool) -> Layer {
    let source = Source::File(shown.to_owned());
    let text = match read(path, &source) {
        Ok(Some(text)) => text,
        Ok(None) if required => {
            return Layer::broken(Mistake::whole(source, "does not exist: name another with --config"));
        }
        Ok(None) => return Layer::default(),
        Err(mistake) => return Layer::broken(mistake),
    };
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return Layer::broken(Mistake::whole(source, syntax(&text, &error))),
    };
    let mut layer = Layer::default();
    for (section, value) in table {
        match value {
            Toml::Table(keys) if lookup::is_section(&section) => {
                for (name, value) in keys {
                    setting(&mut layer, &format!("{section}.{name}"), value, &source);
                }
            }
            Toml::Table(keys) if !keys.is_empty() => {
                for name in keys.keys() {
                    let name = format!("{section}.{name}");
                    let meant = lookup::nearest(&name).map(|key| key.name.to_owned());
                    layer.unknown(&name, source.clone(), meant);
                }
            }
            _ => {
                let meant = lookup::nearest(&section).map(|key| key.name.to_owned());
                layer.unknown(&section, source.clone(), meant);
            }
        }
    }
    warn_if_others_can_read(&mut layer, path, shown);
    layer
}

fn setting(layer: &mut Layer, name: &str, value: Toml, source: &Source) {
    let Some(key) = lookup::by_name(name) else {
        let meant = lookup::nearest(name).map(|key| key.name.to_owned());
        return layer.unknown(name, source.clone(), meant);
    };
    let read = match value {
        Toml::Array(items) if key.shape == Shape::List => {
            let items: Option<Vec<_>> = items.into_iter().map(scalar).collect();
            items.map(Value::List)
        }
        other => scalar(other).map(Value::Text),
    };
    match read {
        Some(value) => layer.found.push((key, value, source.clone())),
        None => {
            let right =
                if key.shape == Shape::List { "an array of text" } else { "text, a whole number, true or false" };
            let problem = format!("has a value of the wrong kind: write {right}");
            layer.mistakes.push(Mistake::new(name, source.clone(), problem));
        }
    }
}

fn scalar(value: Toml) -> Option<Zeroizing<String>> {
    match value {
        Toml::String(text) => Some(Zeroizing::new(text)),
        Toml::Integer(number) => Some(Zeroizing::new(number.to_string())),
        Toml::Boolean(switch) => Some(Zeroizing::new(switch.to_string())),
        _ => None,
    }
}

/// Where the syntax breaks, without what stands there, which could be a secret.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
    let place = if error.span().is_some() { format!("line {line}: ") } else { String::new() };
    let told = error.message();
    let content = text.lines().nth(line - 1).unwrap_or_default();
    let echoes = content.split(|c: char| !c.is_alphanumeric()).any(|word| word.len() > 3 && told.contains(word));
    if echoes || told.contains('\n') {
        return format!("{place}not valid TOML");
    }
    format!("{place}not valid TOML ({told})")
}

#[cfg(test)]
#[cfg(feature = "sqlite")] // of which the default is
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::super::key::Kind;
    use super::super::{RawConfig, keys};
    use super::*;

    const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

    fn layer(text: impl AsRef<[u8]>) -> Layer {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.toml");
        fs::write(&path, text).unwrap();
        toml_file(&path, Path::new("file.toml"), true)
    }

    fn mistakes(text: impl AsRef<[u8]>) -> Vec<String> {
        let layer = layer(text);
        layer.mistakes.iter().map(Mistake::to_string).collect()
    }

    #[test]
    fn numbers_switches_texts_and_arrays_are_read() {
        let layer = layer(
            "cookies.secure = false\n[cors]\nallowed_origins = ['a,b', 'c']\n\
             [server]\nport = 80\ntrusted_proxies = '10.0.0.1, ::1'\n",
        );
        assert!(layer.mistakes.is_empty());
        let value = |name: &str| {
            let found = layer.found.iter().find(|(key, _, _)| key.name == name).unwrap();
            assert_eq!(found.2, Source::File("file.toml".into()));
            found.1.parts().join(" | ")
        };
        assert_eq!(value("server.port"), "80");
        assert_eq!(value("cookies.secure"), "false");
        assert_eq!(value("cors.allowed_origins"), "a,b | c");
        assert_eq!(value("server.trusted_proxies"), "10.0.0.1 | ::1");
    }

    #[test]
    fn every_name_that_is_no_key_is_refused_with_what_was_probably_meant() {
        let mistakes = mistakes(
            "port = 1\nsmtp = 1\n[token]\naccess_ttl = 1\n[tokens]\nacess_ttl = 1\nissuer.url = 1\n\
             [other]\n[[server]]\nhost = 'a'\n",
        );
        for expected in [
            "port (file.toml): is not a key; did you mean server.port?",
            "smtp (file.toml): is not a key: `countersign check-config` lists them all",
            "token.access_ttl (file.toml): is not a key; did you mean tokens.access_ttl?",
            "tokens.acess_ttl (file.toml): is not a key; did you mean tokens.access_ttl?",
            "other (file.toml): is not a key: `countersign check-config` lists them all",
            "server (file.toml): is not a key: `countersign check-config` lists them all",
        ] {
            assert!(mistakes.iter().any(|mistake| mistake == expected), "{expected}: {mistakes:#?}");
        }
        let wrong = mistakes.iter().find(|mistake| mistake.starts_with("tokens.issuer")).unwrap();
        assert!(wrong.contains("wrong kind"), "{wrong}");
        assert_eq!(mistakes.len(), 7);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        for text in [
            "[server]\nhost = ['a']",
            "[server]\nport = 1.5",
            "[server]\nport = 2026-11-23",
            "[cors]\nallowed_origins = [['a']]",
            "[cors]\nallowed_origins = {a = 1}",
        ] {
            let mistakes = mistakes(text);
            assert_eq!(mistakes.len(), 1, "{text}");
            assert!(mistakes[0].contains("wrong kind"), "{mistakes:?}");
        }
    }

    #[test]
    fn broken_syntax_is_reported_by_line_and_not_by_content() {
        for text in [
            "[tokens]\naccess_secret = hunter2hunter2",
            "[tokens]\naccess_secret = \"hunter2hunter2",
            "[tokens]\naccess_secret = \"a\" hunter2hunter2",
            "[tokens]\naccess_secret = '''a''' = hunter2hunter2",
            "[tokens]\naccess_secret \"hunter2hunter2\"",
            "[tokens]\nhunter2hunter2",
            "[tokens]\naccess_secret = \"\\hunter2hunter2\"",
            "[tokens]\naccess_secret = 99999999999999999999hunter2hunter2",
            "[tokens]\n\"hunter2hunter2\" = 1\n\"hunter2hunter2\" = 1",
        ] {
            let mistakes = mistakes(text);
            assert_eq!(mistakes.len(), 1, "{text}");
            let mistake = &mistakes[0];
            assert!(mistake.starts_with("file.toml: line "), "{mistake}");
            assert!(mistake.contains("not valid TOML"), "{mistake}");
            assert!(!mistake.contains("hunter2"), "{mistake}");
            assert!(!mistake.contains('\n'), "{mistake}");
        }
        // A word of the line that happens to stand in the parser's message hides the message.
        assert!(mistakes("[log]\nlevel = string")[0].ends_with("line 2: not valid TOML"));
        assert!(mistakes("[log]\n\n\nlevel = \n")[0].starts_with("file.toml: line 4: "));
    }

    #[test]
    fn a_number_too_large_for_toml_is_a_mistake_and_no_panic() {
        assert_eq!(mistakes("[server]\nport = 99999999999999999999").len(), 1);
    }

    #[test]
    fn a_file_must_exist_only_if_it_was_asked_for() {
        let none = Path::new("/nonexistent/file.toml");
        let layer = toml_file(none, none, true);
        assert_eq!(layer.mistakes[0].to_string(), "/nonexistent/file.toml: does not exist: name another with --config");
        assert!(toml_file(none, none, false).mistakes.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_with_a_secret_that_others_can_read_brings_a_warning() {
        use std::os::unix::fs::PermissionsExt;

        let secret = format!("[tokens]\naccess_secret = '{SECRET}'\n");
        let url = "[database]\nurl = 'postgres://a:hunter2@b/c'\n".to_owned();
        let plain = "[database]\nurl = 'postgres://b/c'\n".to_owned();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.toml");
        for (text, mode, warned) in [
            (&secret, 0o644, true),
            (&secret, 0o640, true),
            (&secret, 0o604, true),
            (&secret, 0o600, false),
            (&url, 0o644, true),
            (&plain, 0o644, false),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let warnings = toml_file(&path, Path::new("file.toml"), true).warnings;
            assert_eq!(warnings.len(), usize::from(warned), "{mode:o} {text}");
            assert!(warnings.iter().all(|text| text.contains("chmod 600 file.toml")));
        }
    }

    #[test]
    fn the_example_file_means_the_defaults_when_all_of_it_is_turned_on() {
        let text = include_str!("../../config/countersign.toml");
        assert!(layer(text).found.is_empty());
        let on = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        let turned_on: String = text.lines().map(on).collect();
        let layer = layer(turned_on);
        assert!(layer.mistakes.is_empty());
        assert_eq!(layer.found.len(), keys().count());
        // An empty secret is refused on purpose; everything else means what it would anyway.
        let raw = layer
            .found
            .iter()
            .filter(|(key, _, _)| key.kind != Kind::Secret)
            .fold(RawConfig::default(), |raw, (key, value, _)| raw.with(key.name, value.parts().join(",")));
        let mut turned_on = raw.resolve().unwrap();
        let defaults = RawConfig::default().resolve().unwrap();
        turned_on.metrics_by_default = defaults.metrics_by_default;
        assert_eq!(format!("{turned_on:?}"), format!("{defaults:?}"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_or_show_it(text in "([\\[\\]={},.\"'\n #\\\\]|tokens|access_secret|1|true|\"hunter2){0,12}") {
            for mistake in mistakes(&text).into_iter().filter(|text| text.contains("not valid")) {
                prop_assert!(!mistake.contains("hunter2"), "{}", mistake);
            }
        }
    }
}
