//! `log.level`: a level, or a filter of the `tracing` crates. Every error is the end of a sentence that begins with the
//! value.

use strsim::levenshtein;
use tracing_subscriber::filter::{Directive, LevelFilter};

use super::parse::words;

/// The levels, as they are written.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// How many letters of a level may be wrong.
const SLIPS: usize = 2;

/// A level, or directives separated by commas; returned without white space between them, which would count as part of a
/// target's name.
pub(super) fn level(text: &str) -> Result<String, String> {
    words(text)?;
    let is_one_word = !text.contains([',', '=', '[']);
    if is_one_word && !is_level(text) {
        let hint = nearest(text).map_or_else(String::new, |level| format!("; did you mean {level}?"));
        return Err(format!(
            "is no level: write error, warn, info, debug or trace, or a tracing filter such as info,countersign=debug{hint}"
        ));
    }
    let (mut at, mut directives) = (1, Vec::new());
    for part in text.split(',') {
        let directive = part.trim();
        let position = at + part.chars().take_while(|c| c.is_whitespace()).count();
        let wrong =
            |problem: String| Err(format!("is not a tracing filter: what begins at character {position} {problem}"));
        if let (true, Some(level)) = (!directive.contains(['=', '[', ':']) && !is_level(directive), nearest(directive))
        {
            return wrong(format!("is no level; did you mean {level}?"));
        }
        if !directive.is_empty() && (directive.contains(char::is_whitespace) || directive.parse::<Directive>().is_err())
        {
            return wrong("is neither a level nor TARGET=LEVEL, such as countersign=debug".to_owned());
        }
        at += part.chars().count() + 1;
        directives.extend(Some(directive).filter(|directive| !directive.is_empty()));
    }
    if directives.is_empty() {
        return Err("names no level: write error, warn, info, debug or trace".to_owned());
    }
    Ok(directives.join(","))
}

/// Whether a filter that was read by [`level`] lets nothing through that this program says.
pub(super) fn is_silent(level: &str) -> bool {
    let is_heard = |directive: &str| {
        let (target, wanted) = directive.rsplit_once('=').unwrap_or((directive, "trace"));
        match directive.parse::<LevelFilter>() {
            Ok(level) => level != LevelFilter::OFF,
            Err(_) if wanted.eq_ignore_ascii_case("off") => false,
            Err(_) => {
                let target = target.split('[').next().unwrap_or_default();
                target.starts_with("countersign") || "countersign".starts_with(target)
            }
        }
    };
    !is_level(level) && !level.split(',').any(is_heard)
}

fn is_level(text: &str) -> bool {
    !text.is_empty() && text.parse::<LevelFilter>().is_ok()
}

fn nearest(text: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    if lower.starts_with("warn") {
        return Some("warn");
    }
    let distance = |level: &str| levenshtein(&lower, level);
    let near = LEVELS.into_iter().min_by_key(|level| distance(level))?;
    (lower.len() > SLIPS + 1 && distance(near) <= SLIPS).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_taken() {
        for text in [
            "error",
            "warn",
            "info",
            "debug",
            "trace",
            "INFO",
            "off",
            "info,countersign=debug",
            "countersign::sessions=trace",
            "warn,countersign,actix_server=error",
            "info,countersign[request{route=\"/v1\"}]=debug",
            "[refresh]=debug",
        ] {
            assert_eq!(level(text).as_deref(), Ok(text));
        }
        assert_eq!(level("info, countersign=debug,").as_deref(), Ok("info,countersign=debug"), "blanks do not count");
    }

    #[test]
    fn one_word_that_is_no_level_is_refused() {
        for (text, hint) in [
            ("verbose", ""),
            ("countersign", ""),
            ("warning", "did you mean warn?"),
            ("inf", ""),
            ("dbug", "did you mean debug?"),
            ("fatal", ""),
            ("verbose,", "no level"),
        ] {
            match level(text) {
                Err(told) => assert!(told.contains(hint), "{text}: {told}"),
                Ok(_) => assert_eq!(text, "verbose,", "{text}"),
            }
        }
        for text in ["", ",", " , "] {
            assert!(level(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_bad_filter_is_refused_with_the_position_of_what_is_wrong() {
        for (text, position) in [
            ("countersign=loud", 1),
            ("info,countersign=loud", 6),
            ("info, countersign=debgu", 7),
            ("info,wran", 6),
            ("ä=info,b=c=d", 8),
            ("info,countersign debug", 6),
            ("info,[", 6),
        ] {
            let told = level(text).unwrap_err();
            assert!(told.contains(&format!("begins at character {position} ")), "{text}: {told}");
        }
    }

    #[test]
    fn a_filter_that_lets_nothing_of_ours_through_is_known() {
        for text in ["actix_server=debug", "tower,hyper=trace", "off,actix_server=info", "countersign=off"] {
            assert!(is_silent(text), "{text}");
        }
        for text in ["info", "off", "warn,countersign=off", "countersign::access=info", "[refresh]=debug", "info,x=off"]
        {
            assert!(!is_silent(text), "{text}");
        }
    }
}
