//! What is acceptable as a password.

use std::fmt;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::email::EmailKey;

/// The longest password, in characters. Longer ones are refused, never truncated.
pub const MAX_CHARACTERS: usize = 256;
/// What this service is called.
const SERVICE: &str = "countersign";
/// Known passwords, sorted, one a line; where they come from is said in `README.md` beside it.
const COMMON: &str = include_str!("common.txt");

/// Why a password is refused that is long enough.
const COMMON_ONE: &str = "is one of the most common passwords, which are tried first: choose another";
const OF_THE_ADDRESS: &str = "is the e-mail address, or a part of it: choose another";
const A_NAME: &str = "is a name that would be tried first: choose another";

/// Whether that is why a password was refused: it is one that would be guessed.
pub fn is_blocklisted(message: &str) -> bool {
    [COMMON_ONE, OF_THE_ADDRESS, A_NAME].contains(&message)
}

/// A password in the clear, wiped when dropped.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Password(pub(super) Zeroizing<String>);

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl Password {
    /// As received.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub(super) fn characters(&self) -> usize {
        self.0.chars().count()
    }

    /// Whether it may become a password: long enough, not too long, not well known, and not what a stranger would
    /// guess who knows whose it is. There are no rules on composition (NIST SP 800-63B section 3.1.1.2).
    ///
    /// # Errors
    ///
    /// A sentence for the person who chose it.
    pub fn check(&self, min_characters: usize, email: &str, name: Option<&str>) -> Result<(), String> {
        let characters = self.characters();
        if characters < min_characters {
            return Err(format!("must have at least {min_characters} characters"));
        }
        if characters > MAX_CHARACTERS {
            return Err(format!("must have at most {MAX_CHARACTERS} characters"));
        }
        let lower = Zeroizing::new(self.0.to_lowercase());
        if is_common(&lower) {
            return Err(COMMON_ONE.into());
        }
        if of_address(email).contains(&lower) {
            return Err(OF_THE_ADDRESS.into());
        }
        if name.is_some_and(|name| *lower == name.to_lowercase()) || *lower == SERVICE {
            return Err(A_NAME.into());
        }
        Ok(())
    }
}

/// The passwords that an address suggests, without case: it, what stands before the @, and that without its tag.
fn of_address(address: &str) -> Vec<String> {
    let key = EmailKey::of(address);
    let spellings = [key.current(), key.earlier()].into_iter().flat_map(|address| {
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        [address, local, local.split('+').next().unwrap_or(local)]
    });
    spellings.map(str::to_owned).collect()
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Binary search in the sorted text itself, which costs no memory beyond the binary.
fn is_common(lower: &str) -> bool {
    let (mut from, mut to) = (0, COMMON.len());
    while from < to {
        let middle = from + (to - from) / 2;
        let start = COMMON.get(..middle).and_then(|text| text.rfind('\n')).map_or(0, |newline| newline + 1);
        let end = COMMON.get(start..).and_then(|text| text.find('\n')).map_or(COMMON.len(), |length| start + length);
        match COMMON.get(start..end).unwrap_or_default().cmp(lower) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => from = end + 1,
            std::cmp::Ordering::Greater => to = start,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.to_owned())
    }

    /// Common passwords and the address are refused and phrases that contain them are not.
    #[test]
    fn common_passwords_and_the_address_are_refused_phrases_are_not() {
        let entries: Vec<_> = COMMON.lines().collect();
        assert!(entries.len() >= 3_000);
        assert!(entries.is_sorted());
        for (from, entry) in entries.iter().enumerate().step_by(997) {
            assert!(is_common(entry), "line {from}");
        }
        assert!(is_common(entries[0]) && is_common(entries[entries.len() - 1]));
        for refused in ["password", "PassWord", "12345678", "Ada.Lovelace@example.com", "ada.lovelace"] {
            assert!(password(refused).check(8, "ada.lovelace@example.com", None).is_err(), "{refused}");
        }
        for refused in ["Countersign", "Ada Lovelace"] {
            assert!(password(refused).check(8, "ada@example.com", Some("Ada Lovelace")).is_err(), "{refused}");
        }
        for fine in ["password of the lighthouse", "zzzzzzzzzzzzzzzzz9", "        ", "ÅngströmÅ"] {
            assert_eq!(password(fine).check(8, "ada@example.com", None), Ok(()), "{fine}");
        }
    }

    #[test]
    fn length_counts_characters_and_has_both_ends() {
        assert!(password(&"é".repeat(7)).check(8, "", None).is_err());
        assert!(password(&"é".repeat(8)).check(8, "", None).is_ok());
        assert!(password(&"é".repeat(256)).check(8, "", None).is_ok());
        assert!(password(&"é".repeat(257)).check(8, "", None).is_err());
    }
}
