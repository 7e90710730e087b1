//! E-mail addresses: what is one, and which of them are the same.
//!
//! An address is kept and shown as it was typed, without what stands around it. It is compared by its [`EmailKey`]:
//! without case, in Unicode form C, its domain as IDNA A-labels (UTS 46, non-transitional).

use std::borrow::Cow;

use email_address::{EmailAddress, Options};
use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// The longest address, in bytes (RFC 5321 section 4.5.3.1.3, less the brackets).
pub const MAX_EMAIL: usize = 254;
/// From here on it is no address that an account could have, and is not worth the work of comparing it well.
const TOO_LONG: usize = 4 * MAX_EMAIL;

const FORM_C: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfc();

/// How an address is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailKey {
    current: String,
    earlier: String,
}

impl EmailKey {
    /// Of whatever was given as an address. What is none has a key too, which no account has.
    pub fn of(address: &str) -> Self {
        let address = trim(address);
        let earlier = address.to_lowercase();
        let parts = address.rsplit_once('@').filter(|_| address.len() <= TOO_LONG);
        let current = parts.and_then(|(local, host)| Some(format!("{}@{}", fold(local), domain(host)?)));
        Self { current: current.unwrap_or_else(|| earlier.clone()), earlier }
    }

    /// As addresses are compared.
    pub fn current(&self) -> &str {
        &self.current
    }

    /// As versions before 2026-11-26 compared them: without case, and nothing else. An account whose address is the same
    /// as another's by now keeps this one, and comes first for who types exactly that.
    pub fn earlier(&self) -> &str {
        &self.earlier
    }
}

/// Without white space and invisible characters around it, which come along when an address is copied or completed by a
/// keyboard.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

/// A text as it is compared without case: small letters, in Unicode form C.
pub fn fold(text: &str) -> String {
    // Character by character: the small form of Σ must not depend on where in a word it stands.
    let small = |c: char| if c == 'ς' { 'σ' } else { c }.to_lowercase();
    let lower: String = FORM_C.normalize(text).chars().flat_map(small).collect();
    FORM_C.normalize(&lower).into_owned()
}

/// A domain as A-labels, in small letters and without a dot at its end. `None`: it is no domain.
pub fn domain(text: &str) -> Option<String> {
    let labels = labels(text)?;
    Some(labels.strip_suffix('.').unwrap_or(&labels).to_owned())
}

/// The same with its dot.
fn labels(text: &str) -> Option<Cow<'_, str>> {
    let (any, length) = (AsciiDenyList::EMPTY, DnsLength::VerifyAllowRootDot);
    Uts46::new().to_ascii(text.as_bytes(), any, Hyphens::CheckFirstLast, length).ok()
}

/// Whether an account can have this address, which stands alone.
///
/// # Errors
///
/// A sentence for who typed it.
pub fn check(address: &str) -> Result<(), String> {
    let stands_alone = |c: char| !c.is_whitespace() && !c.is_control() && !is_invisible(c);
    let parts = address.rsplit_once('@').filter(|_| address.len() <= MAX_EMAIL && address.chars().all(stands_alone));
    let plain = parts.and_then(|(local, host)| {
        let host = labels(host).filter(|labels| !labels.ends_with('.'))?;
        // RFC 6531 takes any character beyond ASCII in the part before the @; the parser knows some of them only.
        let local = FORM_C.normalize(local);
        let local = local.chars().map(|c| if c.is_ascii() { c.to_string() } else { "a".repeat(c.len_utf8()) });
        Some(format!("{}@{host}", local.collect::<String>()))
    });
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    match plain {
        Some(plain) if plain.len() <= MAX_EMAIL && EmailAddress::parse_with_options(&plain, options).is_ok() => Ok(()),
        _ => Err("must be an e-mail address".into()),
    }
}

/// Whether a character is seen nowhere, and may stand around or within a text without its author's knowledge.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> String {
        EmailKey::of(address).current().to_owned()
    }

    #[test]
    fn spellings_of_one_address_have_one_key() {
        let long = format!("{}.example", "ü".repeat(30));
        let long_spelt = format!("ADA@{}.EXAMPLE", "U\u{308}".repeat(30));
        for (one, others) in [
            ("ada@example.com", &["ADA@Example.COM", " ada@example.com", "ada@example.com\r\n"][..]),
            (
                "ada@example.com",
                &["\u{feff}ada@example.com\u{a0}", "\u{202a}ada@example.com\u{202c}", "ada@example.com."],
            ),
            (
                "ada@example.com",
                &["ada@ｅｘａｍｐｌｅ．ｃｏｍ", "ada@example。com", "ada@exam\u{ad}ple.com", "ada@ℯxample.com"],
            ),
            ("zoë@example.com", &["zoe\u{308}@example.com", "ZOE\u{308}@example.com", "ZOË@EXAMPLE.com"]),
            (
                "ada@bücher.example",
                &["ada@xn--bcher-kva.example", "ada@XN--BCHER-KVA.Example", "Ada@BU\u{308}CHER.example"],
            ),
            ("ada@faß.example", &["ada@xn--fa-hia.example", "ada@FAẞ.example"]),
            ("ada@βόλος.example", &["ada@ΒΌΛΟς.example"]),
            ("οδυσσέας@example.com", &["ΟΔΥΣΣΈΑΣ@example.com", "ΟΔΥΣΣΕ\u{301}ΑΣ@example.com"]),
            ("İbrahim@example.com", &["I\u{307}brahim@example.com", "i\u{307}brahim@EXAMPLE.COM"]),
            ("ada@İstanbul.example", &["ada@i\u{307}stanbul.example", "ada@I\u{307}STANBUL.example"]),
            ("한글@example.com", &["\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}@example.com"]),
            ("\"a@b\"@example.com", &["\"A@B\"@EXAMPLE.com"]),
            (&format!("ada@{long}"), &[long_spelt.as_str()]),
        ] {
            for other in others {
                assert_eq!(key(other), key(one), "{other:?}");
            }
        }
        assert_eq!(key("Ada@Bücher.example"), "ada@xn--bcher-kva.example");
    }

    #[test]
    fn different_addresses_have_different_keys() {
        for (one, other) in [
            ("ada@example.com", "a.da@example.com"),
            ("ada@example.com", "ada+tag@example.com"),
            ("ada@faß.example", "ada@fass.example"),
            ("straße@example.com", "strasse@example.com"),
            ("zoë@example.com", "zoe@example.com"),
            ("ada@bücher.example", "ada@bucher.example"),
            ("ıda@example.com", "ida@example.com"),
            ("ａda@example.com", "ada@example.com"),
            ("ada@example.com", "ada@example.org"),
            ("ada@a.example.com", "ada@example.com"),
        ] {
            assert_ne!(key(one), key(other), "{one} {other}");
        }
    }

    /// Else what was stored under a key would not be found by it.
    #[test]
    fn a_key_is_its_own_key() {
        let mut texts: Vec<String> = [
            "",
            "@",
            "a@",
            "@a",
            "a@b@c",
            "ada@xn--zzzzzz--.example",
            "ada@-a.example",
            "\0@a.example",
            "ΑΣ@ΑΣ.example",
        ]
        .map(str::to_owned)
        .into();
        texts.extend((0x80..0x3000_u32).filter_map(char::from_u32).map(|c| format!("a{c}b@x{c}y.example")));
        for text in texts {
            let once = key(&text);
            assert_eq!(key(&once), once, "{text:?}");
        }
    }

    #[test]
    fn an_address_that_an_account_can_have() {
        for fine in [
            "ada@example.com",
            "a.d+a_'x@sub.example.co.uk",
            "zoë@example.com",
            "zoe\u{308}@example.com",
            "दीपक@example.com",
            "用户@例子.广告",
            "ada@bücher.example",
            "ada@xn--bcher-kva.example",
            "ada@faß.example",
            "\"a@b\"@example.com",
            "ada@1.example",
            &format!("{}@example.com", "a".repeat(64)),
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long_label = format!("ada@{}.example", "ü".repeat(63));
        let long_domain = format!("ada@{}example", "bücher.".repeat(30));
        for wrong in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@localhost",
            "ada@[192.0.2.1]",
            "Ada <ada@example.com>",
            " ada@example.com",
            "ada @example.com",
            "ada@example.com.",
            "ada@example。com。",
            "ada@exam\u{200b}ple.com",
            "a\u{202e}da@example.com",
            "a\0da@example.com",
            "ada@-example.com",
            "ada@example-.com",
            "ada@ex_ample..com",
            "ada@xn--zzzzzz--.example",
            "ada@xn--a.example",
            "ada@\u{300}a.example",
            "ada@a\u{5d0}1.example",
            "ada@exa mple.com",
            "ada@例子。",
            &format!("{}@example.com", "a".repeat(65)),
            &format!("{}@example.com", "ü".repeat(33)),
            &long_label,
            &long_domain,
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_domain_is_compared_as_a_labels() {
        assert_eq!(domain("Bücher.Example.").as_deref(), Some("xn--bcher-kva.example"));
        for wrong in ["", ".", "a..b", "xn--a", "-a.example"] {
            assert_eq!(domain(wrong), None, "{wrong}");
        }
    }
}
