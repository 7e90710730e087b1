//! Variables: `.env` and the environment.

use std::ffi::OsString;
use std::path::Path;

use zeroize::Zeroizing;

use super::layer::{Layer, Value, read, warn_if_others_can_read};
use super::mistake::{Mistake, Source};
use super::{lookup, names, substitution};

/// `.env`: only names that are ours count, and nothing is put into the process's environment.
pub(super) fn dotenv(path: &Path) -> Layer {
    let text = match read(path, &Source::DotEnv) {
        Ok(Some(text)) => text,
        Ok(None) => return Layer::default(),
        Err(mistake) => return Layer::broken(mistake),
    };
    let mut layer = Layer::default();
    // The parser takes no byte order mark and no blank at the end of a file without a last newline.
    let body = Zeroizing::new(format!("{}\n", text.trim_start_matches('\u{feff}')));
    let mut rest = body.as_str(); // what is not read yet, to number the lines of errors
    for item in dotenvy::from_read_iter(body.as_bytes()) {
        match item {
            Ok((name, value)) => {
                rest = rest.split_once(&name).map_or(rest, |(_, after)| after);
                if lookup::by_variable(&name).is_some() && substitution::is_likely_a_mistake(&body, &name) {
                    layer.warnings.push(substitution::warning(&name));
                }
                variable(&mut layer, &name, value, Source::DotEnv);
            }
            Err(dotenvy::Error::LineParse(content, _)) => {
                let start = rest.find(&content).and_then(|at| rest.get(at..));
                let after = start.unwrap_or(rest).matches('\n').count();
                let line = 1 + body.matches('\n').count() - after;
                let problem = format!(
                    "line {line}: not NAME=value (a value with spaces, #, $, quotes or \\ goes \
                     between single quotes)"
                );
                layer.mistakes.push(Mistake::whole(Source::DotEnv, problem));
            }
            Err(error) => {
                let problem = format!("cannot be read: {error}");
                layer.mistakes.push(Mistake::whole(Source::DotEnv, problem));
            }
        }
    }
    layer.settle();
    warn_if_others_can_read(&mut layer, path, Path::new(".env"));
    layer
}

/// The environment, as pairs of name and value.
pub(super) fn environment(variables: Vec<(OsString, OsString)>) -> Layer {
    let mut layer = Layer::default();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let source = Source::Environment(name.to_owned());
        match value.into_string() {
            Ok(value) => variable(&mut layer, name, value, source),
            Err(_) if lookup::by_variable(name).is_some() => {
                layer.mistakes.push(Mistake::whole(source, "is not UTF-8: set it to text, or unset it"));
            }
            Err(value) => layer.stray(name, source, names::variable(name, &value.to_string_lossy())),
        }
    }
    layer.settle();
    layer
}

/// One variable of the environment or of `.env`; what is not ours is passed over.
fn variable(layer: &mut Layer, name: &str, value: String, source: Source) {
    match lookup::by_variable(name) {
        Some(key) if !value.is_empty() || key.empty_is_off() => {
            layer.take(key, name, Value::text(value), source);
        }
        // Empty is unset.
        _ if value.is_empty() => {}
        _ => layer.stray(name, source, names::variable(name, &Zeroizing::new(value))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn env_file(text: &str) -> Layer {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, text).unwrap();
        dotenv(&path)
    }

    fn found(layer: &Layer) -> Vec<(&str, String)> {
        let pairs = layer.found.iter();
        pairs.map(|(key, value, _)| (key.name, value.parts().join("|"))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn short_and_long_names_are_taken_and_others_passed_over() {
        let layer = environment(pairs(&[
            ("PORT", "1"),
            ("COUNTERSIGN__LOG__LEVEL", "warn"),
            ("COUNTERSIGN_PORT", "tcp://10.0.0.1:80"),
            ("PATH", "/bin"),
            ("port", "2"),
        ]));
        let expected = [("server.port", "1".to_owned()), ("log.level", "warn".to_owned())];
        assert_eq!(found(&layer), expected);
        assert!(layer.mistakes.is_empty());
        assert_eq!(layer.found[0].2, Source::Environment("PORT".to_owned()));
    }

    #[test]
    fn an_unknown_long_name_is_refused_in_both_places() {
        let name = "COUNTERSIGN__TOKENS__ACESS_TTL";
        let hint = "is not a key; did you mean COUNTERSIGN__TOKENS__ACCESS_TTL?";
        let layer = environment(pairs(&[(name, "1m")]));
        let expected = format!("{name} (environment variable {name}): {hint}");
        assert_eq!(layer.mistakes[0].to_string(), expected);
        let layer = env_file(&format!("{name}=1m"));
        assert_eq!(layer.mistakes[0].to_string(), format!("{name} (.env): {hint}"));
    }

    #[test]
    fn an_empty_value_is_unset_except_for_the_metrics_listener() {
        let layer =
            environment(pairs(&[("ACCESS_TOKEN_SECRET", ""), ("PORT", ""), ("COUNTERSIGN__METRICS__BIND", "")]));
        assert_eq!(found(&layer), [("metrics.bind", String::new())]);
        assert_eq!(found(&env_file("PORT=\nHOST=''\n")), []);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf_8_is_refused_only_if_it_is_ours() {
        use std::os::unix::ffi::OsStringExt;

        let bad = OsString::from_vec(vec![0xff]);
        let layer =
            environment(vec![("HOST".into(), bad.clone()), ("LS_COLORS".into(), bad.clone()), (bad.clone(), bad)]);
        assert_eq!(layer.mistakes.len(), 1);
        assert_eq!(
            layer.mistakes[0].to_string(),
            "environment variable HOST: is not UTF-8: set it to text, or unset it"
        );
    }

    #[test]
    fn env_files_know_comments_quotes_export_and_a_byte_order_mark() {
        let layer = env_file(
            "\u{feff}PORT=1\n# comment\nexport HOST=\"::1\" # why\n\nOTHER=x\nDATABASE_URL='sqlite:a #$b'\n\
             COUNTERSIGN__LOG__LEVEL=warn ",
        );
        assert!(layer.mistakes.is_empty());
        let values: Vec<String> = found(&layer).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, ["1", "::1", "warn", "sqlite:a #$b"]);
        assert!(layer.found.iter().all(|(_, _, source)| *source == Source::DotEnv));
    }

    #[test]
    fn an_env_file_changes_no_process_environment() {
        env_file("COUNTERSIGN__LOG__FORMAT=json\n");
        assert!(std::env::var_os("COUNTERSIGN__LOG__FORMAT").is_none());
    }

    #[test]
    fn a_broken_line_is_reported_by_its_number_and_not_by_its_content() {
        for (text, line) in [
            ("PORT=1\nhunter2\n", 2),
            ("PORT=1\n\nACCESS_TOKEN_SECRET=a hunter2\n", 3),
            ("# a hunter2\nPASSWORD_PEPPER='hunter2\n", 2),
            ("# a hunter2\nPORT=1\nHOST=a hunter2", 3),
            ("ACCESS_TOKEN_SECRET=a\\hunter2\n", 1),
        ] {
            let layer = env_file(text);
            assert_eq!(layer.mistakes.len(), 1, "{text}");
            let mistake = layer.mistakes[0].to_string();
            assert!(mistake.starts_with(&format!(".env: line {line}: ")), "{text}: {mistake}");
            assert!(!mistake.contains("hunter2"), "{mistake}");
        }
        assert_eq!(found(&env_file("x y\nPORT=1\n")).len(), 1, "the rest is still read");
    }

    #[test]
    fn a_dollar_that_cuts_a_value_short_brings_a_warning_for_every_key() {
        let warned = |text: &str| {
            let mut warnings = env_file(text).warnings;
            warnings.retain(|warning| warning.contains('$'));
            assert!(warnings.iter().all(|warning| !warning.contains("abc")));
            warnings.join("")
        };
        for (text, name) in [
            ("ACCESS_TOKEN_SECRET=abc$def\n", "ACCESS_TOKEN_SECRET"),
            ("export PASSWORD_PEPPER = \"abc${def}\"\n", "PASSWORD_PEPPER"),
            ("DATABASE_URL=postgres://u:abc$def@h/d\n", "DATABASE_URL"),
            ("COUNTERSIGN_DATABASE_URL=postgres://u:abc$@h/d\n", "COUNTERSIGN_DATABASE_URL"),
            ("COUNTERSIGN__TOKENS__ISSUER=https://abc$x.example\n", "COUNTERSIGN__TOKENS__ISSUER"),
            ("HOST=$abc\n", "HOST"),
            ("ACCESS_TOKEN_SECRET='abc'$def\n", "ACCESS_TOKEN_SECRET"),
        ] {
            assert!(warned(text).contains(&format!("the $ in {name} ")), "{text}");
        }
        for fine in [
            "ACCESS_TOKEN_SECRET='abc$def'\n",
            "ACCESS_TOKEN_SECRET=abc\\$def\n",
            "ACCESS_TOKEN_SECRET=\"abc\\$def\"\n",
            "ACCESS_TOKEN_SECRET=abc # $def\n",
            "OTHER=abc$def\nACCESS_TOKEN_SECRET=abc\n",
            "SECOND=abc\nDATABASE_URL=postgres://u:${SECOND}@h/d\n",
        ] {
            assert_eq!(warned(fine), "", "{fine}");
        }
    }

    #[test]
    fn the_name_that_other_programs_use_counts_only_where_no_other_is_set() {
        let ours = ("COUNTERSIGN_DATABASE_URL", "sqlite:ours");
        let theirs = ("DATABASE_URL", "postgres://theirs");
        let long = ("COUNTERSIGN__DATABASE__URL", "sqlite:ours");
        for (set, counts) in [
            (vec![theirs], "postgres://theirs"),
            (vec![ours, theirs], "sqlite:ours"),
            (vec![theirs, ours], "sqlite:ours"),
            (vec![theirs, long], "sqlite:ours"),
            (vec![theirs, ("COUNTERSIGN_DATABASE_URL", "")], "postgres://theirs"),
        ] {
            assert_eq!(found(&environment(pairs(&set))), [("database.url", counts.to_owned())], "{set:?}");
            let text: String = set.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            assert_eq!(found(&env_file(&text)), [("database.url", counts.to_owned())], "{text}");
        }
    }

    #[test]
    fn an_empty_value_of_a_name_that_is_nearly_ours_is_unset_as_well() {
        let layer = environment(pairs(&[("COUNTERSIGN_SERVER_PORT", ""), ("ACCESS_TOKEN_EXPIRES", "")]));
        assert!(layer.mistakes.is_empty() && found(&layer).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn an_env_file_with_a_secret_that_others_can_read_brings_a_warning() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, "REFRESH_TOKEN_SECRET=0123456789abcdefghijklmnopqrstuv\n").unwrap();
        for (mode, count) in [(0o644, 1), (0o600, 0)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(dotenv(&path).warnings.len(), count);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_or_show_it(text in "(PORT|HOST|export |[ =$'\"\\\\{}#\n\r]|hunter2){0,12}") {
            for mistake in env_file(&text).mistakes {
                prop_assert!(!mistake.to_string().contains("hunter2"));
            }
        }
    }
}
