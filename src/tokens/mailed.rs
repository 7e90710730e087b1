//! What is mailed to prove something: a token in a link, and a code to be typed by hand.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::keys::KeyError;
use super::sealing::{Purpose, SealingKeys};
use crate::ids::MailTokenId;
use crate::secret::Secret;

/// What codes are kept under.
const CODES: Purpose = Purpose::new("countersign mail codes v1");
/// Bytes of a token.
const TOKEN: usize = 32;
/// A code is a number below this, in eight digits.
const CODES_THERE_ARE: u32 = 100_000_000;

/// A token as it is in a link: 256 random bits.
pub struct MailToken(Secret);

impl MailToken {
    /// A new one.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes to give.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = [0; TOKEN];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| KeyError::Library)?;
        Ok(Self(Secret::new(URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// As it is in a link.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }

    /// What the database knows it by.
    pub fn digest(&self) -> MailTokenDigest {
        MailTokenDigest::of(self.expose())
    }
}

/// SHA-256 of a token: all that the database keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailTokenDigest(pub [u8; 32]);

impl MailTokenDigest {
    /// Of a token that may be ours.
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// A code as it is typed: eight digits.
pub struct MailCode(Secret);

impl MailCode {
    /// A new one.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes to give.
    pub fn generate() -> Result<Self, KeyError> {
        /// The largest multiple of the number of codes: a number from there on would make some codes likelier than others.
        const BOUND: u32 = u32::MAX - u32::MAX % CODES_THERE_ARE;
        loop {
            let mut bytes = [0; 4];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| KeyError::Library)?;
            let number = u32::from_be_bytes(bytes);
            if number < BOUND {
                return Ok(Self(Secret::new(format!("{:08}", number % CODES_THERE_ARE))));
            }
        }
    }

    /// A code that a person has typed, who may have put spaces or hyphens between its digits. `None`: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        let is_code = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_code.then(|| Self(Secret::new(digits)))
    }

    /// As it is in a mail.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }

    /// What the database knows the code of this token by.
    ///
    /// # Errors
    ///
    /// If the cryptographic library fails.
    pub fn tag(&self, keys: &SealingKeys, id: MailTokenId) -> Result<[u8; 32], KeyError> {
        keys.authenticate(CODES, &self.message(id))
    }

    /// Whether it is the code of this token, of which the database has kept `tag`. Takes as long whatever it is.
    pub fn is(&self, keys: &SealingKeys, id: MailTokenId, tag: &[u8]) -> bool {
        keys.is_authentic(CODES, &self.message(id), tag)
    }

    fn message(&self, id: MailTokenId) -> Vec<u8> {
        [id.as_bytes().as_slice(), self.0.expose()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::generated::Held;
    use crate::tokens::key_selection::Chosen;

    fn keys(secrets: &[u8]) -> SealingKeys {
        let mut secrets = secrets.iter().map(|byte| Held::configured(Secret::new([*byte; 32])));
        let active = secrets.next();
        SealingKeys::new(&Chosen { active, next: Vec::new(), retired: secrets.collect() }).unwrap()
    }

    #[test]
    fn tokens_have_256_bits_and_none_is_made_twice() {
        let (one, two) = (MailToken::generate().unwrap(), MailToken::generate().unwrap());
        assert_eq!(URL_SAFE_NO_PAD.decode(one.expose()).unwrap().len(), 32);
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.digest(), MailTokenDigest::of(one.expose()));
        assert_ne!(one.digest(), two.digest());
    }

    #[test]
    fn codes_have_eight_digits_and_may_be_typed_in_groups() {
        let code = MailCode::generate().unwrap();
        assert_eq!(code.expose().len(), 8);
        let (first, last) = code.expose().split_at(4);
        for typed in [format!("{first} {last}"), format!(" {first}-{last}\n"), code.expose().to_owned()] {
            assert_eq!(MailCode::parse(&typed).unwrap().expose(), code.expose(), "{typed:?}");
        }
        for wrong in ["", "1234567", "123456789", "1234567a", "\u{661}2345678", "1234567\u{665}"] {
            assert!(MailCode::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_code_is_good_for_its_token_only_and_under_keys_that_are_left() {
        let (id, other) = (MailTokenId::generate(), MailTokenId::generate());
        let (code, wrong) = (MailCode::parse("01234567").unwrap(), MailCode::parse("01234568").unwrap());
        let tag = code.tag(&keys(&[1]), id).unwrap();
        assert!(code.is(&keys(&[1]), id, &tag));
        assert!(code.is(&keys(&[2, 1]), id, &tag));
        assert!(!code.is(&keys(&[2]), id, &tag));
        assert!(!code.is(&keys(&[1]), other, &tag));
        assert!(!wrong.is(&keys(&[1]), id, &tag));
    }
}
