//! From a name somebody wrote to a key, or to the key that was probably meant.

use super::keys::{KEYS, Key, PREFIX};

/// The key called `name` in a TOML file.
pub(super) fn by_name(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Whether there are keys whose name begins with `section` and a dot.
pub(super) fn is_section(section: &str) -> bool {
    KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(name, _)| name == section))
}

/// The key called `name`, short or long, in the environment or in `.env`.
pub(super) fn by_variable(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.short == Some(name) || key.variable() == name)
}

/// The key of a credential called `name`: a short name or the key's own.
pub(super) fn by_credential(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.short == Some(name) || key.name == name)
}

/// The key that was probably meant by the unknown `name`: one with the same last part (a key in the
/// wrong section), else the nearest in spelling.
pub(super) fn nearest(name: &str) -> Option<&'static Key> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let wanted = name.to_lowercase().replace("__", ".");
    let last = |text: &str| text.rsplit('.').next().map(str::to_owned);
    let mut same_last = KEYS.iter().filter(|key| last(key.name) == last(&wanted));
    if let (Some(key), None) = (same_last.next(), same_last.next()) {
        return Some(key);
    }
    KEYS.iter()
        .map(|key| {
            let short = key.short.map(str::to_lowercase);
            let by_short = short.map_or(usize::MAX, |short| distance(&wanted, &short));
            (distance(&wanted, key.name).min(by_short), key)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (wanted.len() / 4).max(2))
        .map(|(_, key)| key)
}

/// How many letters must be put in, taken out or replaced to get from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for ((y, diagonal), above) in b.chars().zip(&row).zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
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
    fn something_else_altogether_gets_no_suggestion() {
        assert_eq!(meant("smtp.relay_address"), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
