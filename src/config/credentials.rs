//! Credentials as systemd hands them over: one file each, in a folder of the service's own, named like a short name or
//! like a key, in either case.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use super::layer::{Layer, Value, read};
use super::mistake::{Mistake, Source};
use super::{lookup, names};

/// systemd credentials: the files in `folder`.
pub(super) fn credentials(folder: &Path) -> Layer {
    let whole = Source::Environment("CREDENTIALS_DIRECTORY".to_owned());
    let names: io::Result<Vec<OsString>> =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut found = match names {
        Ok(found) => found,
        Err(error) => {
            let problem = format!("{} cannot be read: {error}; it is systemd that makes it", folder.display());
            return Layer::broken(Mistake::whole(whole, problem));
        }
    };
    found.sort();
    let mut layer = Layer::default();
    for name in found.iter().filter_map(|name| name.to_str()) {
        let source = Source::Credential(name.to_owned());
        let Some(key) = lookup::by_credential(name) else {
            layer.stray(name, source, names::credential(name));
            continue;
        };
        match read(&folder.join(name), &source) {
            Ok(Some(text)) => {
                let line = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n'));
                let value = Value::text(line.unwrap_or(&text));
                layer.take(key, name, value, source);
            }
            Ok(None) => {}
            Err(mistake) => layer.mistakes.push(mistake),
        }
    }
    layer.settle();
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files named like a short name or a key are taken and others passed over.
    #[test]
    fn files_named_like_a_key_are_taken_and_others_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ACCESS_TOKEN_SECRET", "one\n"),
            ("tokens.refresh_secret", "two\n\n"),
            ("PASSWORD_PEPPER", "three\r\n"),
            ("DATABASE_URL", "sqlite:a"),
            ("tls.key", "no"),
            ("server.crt", "no"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let layer = credentials(folder.path());
        assert!(layer.mistakes.is_empty());
        let found: Vec<_> = layer
            .found
            .iter()
            .map(|(key, value, source)| match value {
                Value::Text(text) => (key.name, text.as_str(), source.to_string()),
                Value::List(_) => panic!("a credential is a text"),
            })
            .collect();
        let credential = |name: &str| format!("credential {name}");
        assert_eq!(
            found,
            [
                ("tokens.access_secret", "one", credential("ACCESS_TOKEN_SECRET")),
                ("passwords.pepper", "three", credential("PASSWORD_PEPPER")),
                ("tokens.refresh_secret", "two\n", credential("tokens.refresh_secret")),
                ("database.url", "sqlite:a", credential("DATABASE_URL")),
            ]
        );
    }

    /// Names are taken in either case and those that are nearly right are refused.
    #[test]
    fn names_are_taken_in_either_case_and_near_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), "0123456789abcdefghijklmnopqrstuv\n").unwrap();
        ["access_token_secret", "TOKENS.ISSUER", "Refresh_Token_Secret", "database_url"].into_iter().for_each(write);
        let layer = credentials(folder.path());
        assert!(layer.mistakes.is_empty() && layer.warnings.is_empty(), "{:?}", layer.mistakes);
        let mut found: Vec<&str> = layer.found.iter().map(|(key, _, _)| key.name).collect();
        found.sort_unstable();
        assert_eq!(found, ["database.url", "tokens.access_secret", "tokens.issuer", "tokens.refresh_secret"]);

        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("refresh_token_secrets"), "hunter2").unwrap();
        let told = credentials(folder.path()).mistakes[0].to_string();
        assert!(told.starts_with("refresh_token_secrets (credential refresh_token_secrets): "), "{told}");
        assert!(told.contains("REFRESH_TOKEN_SECRET") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn what_cannot_be_read_is_a_mistake_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("PASSWORD_PEPPER")).unwrap();
        fs::write(folder.path().join("tokens.issuer"), b"hunter2\xff").unwrap();
        let mistakes = credentials(folder.path()).mistakes;
        assert_eq!(mistakes.len(), 2);
        let told = mistakes[0].to_string();
        assert!(told.starts_with("credential PASSWORD_PEPPER: cannot be read: "), "{told}");
        assert_eq!(mistakes[1].to_string(), "credential tokens.issuer: line 1: not UTF-8, save it as such");
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_mistake() {
        let mistakes = credentials(Path::new("/nonexistent")).mistakes;
        assert!(mistakes[0].to_string().contains("CREDENTIALS_DIRECTORY"), "{mistakes:?}");
    }
}
