//! Recovery codes: what stands in for a code where the authenticator is lost, once each.

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;

use super::NotMade;
use crate::ids::UserId;
use crate::secret::Secret;

/// How many an account has.
pub const NUMBER: usize = 10;
/// The length of one in characters: 80 random bits.
const LENGTH: usize = 16;
/// So many stand together.
const GROUP: usize = 4;
/// Digits and letters that are not taken for one another, as Crockford's base 32 has them.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new code, as it is shown: in groups, with dashes between.
///
/// # Errors
///
/// If the system has no random numbers to give.
pub fn generate() -> Result<Secret, NotMade> {
    let mut bytes = [0_u8; LENGTH];
    rand::fill(&mut bytes).map_err(|_unspecified| NotMade)?;
    let letters: Vec<u8> = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 31)).copied()).collect();
    Ok(Secret::new(letters.chunks(GROUP).collect::<Vec<_>>().join(&b'-')))
}

/// What is stored of a code of an account: random values of that size need no slow hash. `None`: that is no code. Case,
/// spaces and dashes make no difference, nor do letters that look like digits.
pub fn hash(user: UserId, code: &str) -> Option<[u8; 32]> {
    let is_between = |c: &char| c.is_whitespace() || matches!(c, '-' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let letters = code.chars().filter(|c| !is_between(c)).map(|c| match c.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    });
    let letters: Vec<u8> = letters.map(u8::try_from).collect::<Result<_, _>>().ok()?;
    if letters.len() != LENGTH || !letters.iter().all(|letter| ALPHABET.contains(letter)) {
        return None;
    }
    let mut context = Context::new(&SHA256);
    context.update(user.as_bytes());
    context.update(&letters);
    context.finish().as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let (user, code) = (UserId::generate(), "0123-abcd-efgh-jkmn");
        let expected = hash(user, code).unwrap();
        for same in
            ["0123abcdefghjkmn", " 0123 ABCD EFGH JKMN ", "OI23-abcd\u{2013}efgh\u{2212}jkmn", "ol23_abcd-efgh-jkmn"]
        {
            assert_eq!(hash(user, same), Some(expected), "{same}");
        }
        assert_ne!(hash(UserId::generate(), code), Some(expected));
        for other in
            ["", "0123-abcd-efgh-jkm", "0123-abcd-efgh-jkmnn", "0123-abcd-efgh-jkmu", "0123-abcd-efgh-jkm\u{e9}"]
        {
            assert_eq!(hash(user, other), None, "{other}");
        }
    }

    #[test]
    fn a_code_is_four_groups_and_never_the_same() {
        let mut seen = Vec::new();
        for _ in 0..100 {
            let code = generate().unwrap();
            let text = String::from_utf8(code.expose().to_vec()).unwrap();
            assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4; 4]);
            assert!(hash(UserId::generate(), &text).is_some());
            assert!(!seen.contains(&text));
            seen.push(text);
        }
    }
}
