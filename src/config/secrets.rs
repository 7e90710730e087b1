//! The rules about secrets: long enough, of one use only, and none left over.

use std::collections::BTreeSet;

use super::key::{Key, KeyInfo, Same as _};
use super::mistake::Source;
use super::reader::Reader;
use super::sections::{Passwords, Tokens};
use crate::secret::Secret;

/// A shorter HMAC key than its hash is weaker than the hash (RFC 7518 section 3.2).
const SHORTEST: usize = 32;

/// Fewer different bytes than this is a placeholder: 32 random hexadecimal digits hold more.
const FEWEST_DIFFERENT: usize = 8;

/// Keys of one use: what signs now, and what still verifies.
struct Use {
    current: Key<Option<Secret>>,
    previous: Key<Vec<Secret>>,
}

const USES: [Use; 3] = [
    Use { current: Tokens::access_secret, previous: Tokens::access_secret_previous },
    Use { current: Tokens::refresh_secret, previous: Tokens::refresh_secret_previous },
    Use { current: Passwords::pepper, previous: Passwords::pepper_previous },
];

/// One secret, with all the white space that it has.
pub(super) fn secret(text: &str) -> Result<Secret, String> {
    if text.len() >= SHORTEST {
        return Ok(Secret::new(text));
    }
    let found = match text.len() {
        0 => "is empty".to_owned(),
        length => format!("has {length} bytes"),
    };
    Err(format!("{found}: a secret needs at least {SHORTEST}, as `openssl rand -base64 48` gives"))
}

/// The rules about all of them.
pub(super) fn check(reader: &mut Reader<'_>) {
    for Use { current, previous } in &USES {
        let signing = reader.get(current).flatten();
        let verifying = reader.get(previous).unwrap_or_default();
        signing.iter().for_each(|secret| warn_if_odd(reader, current, secret));
        verifying.iter().for_each(|secret| warn_if_odd(reader, previous, secret));
        if reader.source(current) == Source::Default && reader.is_set(previous) {
            reader.refuse(previous, format!("is set without {current}: nothing can be \"previous\" to no secret"));
        }
        if signing.is_some_and(|signing| verifying.iter().any(|secret| secret.same(&signing))) {
            let warning = format!("{previous} holds the secret that {current} still has: it was not replaced");
            reader.warnings.push(warning);
        }
    }
    refuse_shared(reader);
}

/// Takes the secret that is still in use out of the previous ones.
pub(super) fn drop_current(current: Option<&Secret>, previous: &mut Vec<Secret>) {
    previous.retain(|secret| current.is_none_or(|current| !secret.same(current)));
}

/// Warns of what is allowed, since only the owner knows, and still likely to be an accident.
fn warn_if_odd(reader: &mut Reader<'_>, key: &KeyInfo, secret: &Secret) {
    let bytes = secret.expose();
    if bytes.trim_ascii() != bytes {
        reader.warnings.push(format!("{key} begins or ends with white space, which counts as part of the secret"));
    }
    let different: BTreeSet<u8> = bytes.iter().copied().collect();
    if different.len() < FEWEST_DIFFERENT {
        reader.warnings.push(format!(
            "{key} repeats a few characters only, as a placeholder does: make one with `openssl \
             rand -base64 48`"
        ));
    }
}

/// A secret with two uses would let a token or hash of one kind stand in for another.
fn refuse_shared(reader: &mut Reader<'_>) {
    let uses = USES.map(|Use { current, previous }| {
        let mut held: Vec<(KeyInfo, Secret)> = Vec::new();
        held.extend(reader.get(&current).flatten().map(|secret| (current.info, secret)));
        held.extend(
            reader.get(&previous).unwrap_or_default().into_iter().map(|secret| (previous.info.clone(), secret)),
        );
        held
    });
    let mut told = BTreeSet::new();
    for (index, one) in uses.iter().enumerate() {
        for (key, secret) in uses.iter().skip(index + 1).flatten() {
            for (other, _) in one.iter().filter(|(_, same)| same.same(secret)) {
                if told.insert((key.name, other.name)) {
                    let place = reader.source(other);
                    reader.refuse(key, format!("is the same secret as {other} ({place}): each needs one of its own"));
                }
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")] // of which the default is
mod tests {
    use super::super::resolved as resolve;

    const A: &str = "0123456789abcdefghijklmnopqrstuv";
    const B: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    const C: &str = "zyxwvutsrqponmlkjihgfedcba987654";

    fn refusal(keys: &[(&str, &str)]) -> String {
        let refusal = resolve(keys).unwrap_err();
        for secret in [A, B, C] {
            assert!(!refusal.contains(secret.get(..30).unwrap()), "{refusal}");
        }
        refusal
    }

    #[test]
    fn a_secret_of_32_bytes_is_taken_as_it_is() {
        let config = resolve(&[("tokens.access_secret", A), ("tokens.refresh_secret", B)]).unwrap();
        assert_eq!(config.tokens.access_secret.unwrap().expose(), A.as_bytes());
        assert_eq!(config.tokens.refresh_secret.unwrap().expose(), B.as_bytes());
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }

    #[test]
    fn a_secret_of_31_bytes_is_refused_wherever_it_stands() {
        let short = A.get(1..).unwrap();
        for key in [
            "tokens.access_secret",
            "tokens.refresh_secret",
            "passwords.pepper",
            "tokens.access_secret_previous",
            "tokens.refresh_secret_previous",
            "passwords.pepper_previous",
        ] {
            let refusal = refusal(&[(key, short)]);
            assert!(refusal.contains("has 31 bytes"), "{key}: {refusal}");
            assert!(refusal.contains(key), "{key}: {refusal}");
        }
    }

    #[test]
    fn an_empty_secret_is_refused_rather_than_taken_as_none() {
        let refusal = refusal(&[("tokens.access_secret", "")]);
        assert!(refusal.contains("is empty"), "{refusal}");
    }

    #[test]
    fn length_is_counted_in_bytes() {
        assert!(resolve(&[("passwords.pepper", "äöüßèéêëñçåøæœÿž")]).is_ok(), "16 × 2 bytes");
    }

    #[test]
    fn no_secret_has_two_uses() {
        let keys = ["tokens.access_secret", "tokens.refresh_secret", "passwords.pepper"];
        for one in keys {
            for other in keys.iter().filter(|other| **other != one) {
                let refusal = refusal(&[(one, A), (other, A)]);
                assert!(refusal.contains(one) && refusal.contains(other), "{refusal}");
                assert_eq!(refusal.lines().count(), 1, "said once: {refusal}");
            }
        }
    }

    #[test]
    fn no_previous_secret_has_another_use_either() {
        for super::Use { current, previous } in super::USES {
            let (current, previous) = (current.name, previous.name);
            for other in super::USES {
                let (other_current, other_previous) = (other.current.name, other.previous.name);
                if current != other_current {
                    let shared = [(current, A), (previous, C), (other_current, C)];
                    let refusal_of_one = refusal(&shared);
                    assert!(refusal_of_one.contains(previous), "{refusal_of_one}");
                    assert!(refusal_of_one.contains(other_current), "{refusal_of_one}");
                    let both = [(current, A), (previous, C), (other_current, B), (other_previous, C)];
                    let refusal_of_both = refusal(&both);
                    assert!(refusal_of_both.contains(previous), "{refusal_of_both}");
                    assert!(refusal_of_both.contains(other_previous), "{refusal_of_both}");
                }
            }
        }
    }

    #[test]
    fn a_previous_secret_needs_a_current_one() {
        for super::Use { current, previous } in super::USES {
            let (current, previous) = (current.name, previous.name);
            for secret in [A, "short"] {
                let refusal = refusal(&[(previous, secret)]);
                assert!(refusal.contains(&format!("without {current}")), "{refusal}");
            }
        }
    }

    #[test]
    fn previous_secrets_are_separated_by_commas_and_keep_their_order() {
        let list = format!("{B}, {C},");
        let config = resolve(&[("tokens.access_secret", A), ("tokens.access_secret_previous", &list)]).unwrap();
        let previous = config.tokens.access_secret_previous;
        assert_eq!(previous.len(), 2);
        assert_eq!(previous[0].expose(), B.as_bytes());
        assert_eq!(previous[1].expose(), C.as_bytes());
    }

    /// A secret that was not replaced is dropped from the previous ones with a warning.
    #[test]
    fn a_secret_that_was_not_replaced_is_dropped_with_a_warning() {
        let list = format!("{A},{B},{B}");
        let config = resolve(&[("passwords.pepper", A), ("passwords.pepper_previous", &list)]).unwrap();
        assert_eq!(config.passwords.pepper_previous.len(), 1);
        assert!(config.warnings[0].contains("not replaced"), "{:?}", config.warnings);
    }

    /// A secret that looks like an accident brings a warning that does not show it.
    #[test]
    fn a_secret_that_looks_like_an_accident_brings_a_warning() {
        let placeholder = "xyz".repeat(16);
        let spaced = format!("{A} ");
        for (value, word) in [(placeholder.as_str(), "placeholder"), (&spaced, "white space")] {
            let warnings = resolve(&[("tokens.refresh_secret", value)]).unwrap().warnings;
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains(word) && !warnings[0].contains(value), "{warnings:?}");
        }
    }
}
