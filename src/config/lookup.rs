//! From a name as it was written to a key, or to the key that was probably meant.

use strsim::levenshtein;

use super::key::KeyInfo;
use super::sections::{SECTIONS, keys};

/// What long names begin with, and what everything that is meant for this program does, in lower case.
const LONG: &str = "countersign__";
const START: &str = "countersign_";

/// The key called `name` in a TOML file.
pub(super) fn by_name(name: &str) -> Option<&'static KeyInfo> {
    keys().find(|key| key.name == name)
}

/// Whether there are keys whose name begins with `section` and a dot.
pub(super) fn is_section(section: &str) -> bool {
    SECTIONS.iter().any(|known| known.name == section)
}

/// The key called `name`, short or long, in the environment or in `.env`.
pub(super) fn by_variable(name: &str) -> Option<&'static KeyInfo> {
    keys().find(|key| key.short.contains(&name) || key.variable() == name)
}

/// The key of a credential called `name`: a short name or the key's own, in either case.
pub(super) fn by_credential(name: &str) -> Option<&'static KeyInfo> {
    let is = |other: &&str| other.eq_ignore_ascii_case(name);
    keys().find(|key| key.short.iter().any(is) || is(&key.name))
}

/// The key that was probably meant by the unknown `name`: one with the same last part (a key in the
/// wrong section), else the nearest in spelling.
pub(super) fn nearest(name: &str) -> Option<&'static KeyInfo> {
    let lower = name.to_lowercase();
    // One underscore behind our name and between section and key is the usual mistake.
    let (wanted, single) = match (lower.strip_prefix(LONG), lower.strip_prefix(START)) {
        (Some(rest), _) => (rest.replace("__", "."), false),
        (None, Some(rest)) => (rest.replace("__", "_"), true),
        (None, None) => (lower.replace("__", "."), false),
    };
    if single && let Some(key) = keys().find(|key| key.name.replace('.', "_") == wanted) {
        return Some(key);
    }
    let last = |text: &str| text.rsplit('.').next().map(str::to_owned);
    let mut same_last = keys().filter(|key| last(key.name) == last(&wanted));
    if let (Some(key), None) = (same_last.next(), same_last.next()) {
        return Some(key);
    }
    keys()
        .map(|key| {
            let short = key.short.iter().map(|short| levenshtein(&wanted, &short.to_lowercase()));
            (short.min().unwrap_or(usize::MAX).min(levenshtein(&wanted, key.name)), key)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (wanted.len() / 4).max(2))
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(name: &str) -> Option<&'static str> {
        nearest(name).map(|key| key.name)
    }

    #[test]
    fn a_misspelt_key_is_recognised() {
        assert_eq!(meant("tokens.acess_ttl"), Some("tokens.access_ttl"));
        assert_eq!(meant("token.access_ttl"), Some("tokens.access_ttl"));
        assert_eq!(meant("COUNTERSIGN__SERVER__PROT"), Some("server.port"), "in the environment too");
    }

    #[test]
    fn a_short_name_in_the_wrong_place_is_recognised() {
        assert_eq!(meant("ACCESS_TOKEN_SECRET"), Some("tokens.access_secret"));
        assert_eq!(meant("COUNTERSIGN__DATABASE_URL"), Some("database.url"), "a short name behind the prefix");
    }

    #[test]
    fn a_key_without_its_section_is_recognised_if_only_one_fits() {
        assert_eq!(meant("port"), Some("server.port"));
        assert_eq!(meant("enabled"), None, "limits or registration");
    }

    #[test]
    fn one_underscore_in_place_of_two_is_recognised() {
        for (name, key) in [
            ("COUNTERSIGN_SERVER_PORT", "server.port"),
            ("COUNTERSIGN_SERVER__PORT", "server.port"),
            ("COUNTERSIGN__SERVER_PORT", "server.port"),
            ("COUNTERSIGN_PASSWORDS_BCRYPT_COST", "passwords.bcrypt_cost"),
            ("COUNTERSIGN_ACCESS_TOKEN_SECRET", "tokens.access_secret"),
            ("COUNTERSIGN_DATABASE_URI", "database.url"),
            ("countersign_log_level", "log.level"),
            ("COUNTERSIGN_HOST", "server.host"),
        ] {
            assert_eq!(meant(name), Some(key), "{name}");
        }
    }

    #[test]
    fn a_credential_is_found_in_either_case() {
        for name in ["ACCESS_TOKEN_SECRET", "access_token_secret", "tokens.access_secret", "TOKENS.ACCESS_SECRET"] {
            assert_eq!(by_credential(name).map(|key| key.name), Some("tokens.access_secret"), "{name}");
        }
    }

    #[test]
    fn something_else_altogether_gets_no_suggestion() {
        assert_eq!(meant("smtp.relay_address"), None);
    }
}
