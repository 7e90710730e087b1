//! The second factor: time-based one-time passwords (TOTP, RFC 6238) as every authenticator app makes them, with SHA-1, six
//! digits and steps of 30 seconds. No database, no HTTP.

pub mod recovery_codes;

use aws_lc_rs::{constant_time, hmac, rand};
use qrcodegen::{QrCode, QrCodeEcc};

use crate::clock::Timestamp;
use crate::secret::Secret;

/// The length of a secret in bytes: that of the hash (RFC 4226 section 4).
const SECRET: usize = 20;
/// The length of a step in seconds (RFC 6238 section 4.1).
const STEP: i64 = 30;
/// The length of a code in digits.
const DIGITS: usize = 6;
/// 10 to the power of that.
const CODES: u32 = 1_000_000;
/// So many steps early or late a code is still good (RFC 6238 section 5.2).
const DRIFT: i64 = 1;
/// RFC 4648 section 6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What cannot be made: no random numbers are to be had, or the address is too long to be shown as a QR code.
#[derive(Debug, thiserror::Error)]
#[error("a second factor could not be made")]
pub struct NotMade;

/// A new secret.
///
/// # Errors
///
/// If the system has no random numbers to give.
pub fn new_secret() -> Result<Secret, NotMade> {
    let mut bytes = [0; SECRET];
    rand::fill(&mut bytes).map_err(|_unspecified| NotMade)?;
    Ok(Secret::new(bytes))
}

/// The secret as it is typed into an authenticator: base32 without padding.
pub fn base32(secret: &Secret) -> String {
    let (mut text, mut bits, mut length) = (String::new(), 0_u32, 0_u32);
    for byte in secret.expose() {
        bits = (bits << 8 | u32::from(*byte)) & 0xFFFF;
        length += 8;
        while length >= 5 {
            length -= 5;
            text.push(letter(bits >> length));
        }
    }
    if length > 0 {
        text.push(letter(bits << (5 - length)));
    }
    text
}

fn letter(bits: u32) -> char {
    let letter = usize::try_from(bits & 31).ok().and_then(|at| BASE32.get(at));
    letter.copied().map_or('A', char::from)
}

/// The address that authenticators read (the "Key URI Format" of Google Authenticator). `issuer` is shown above `account`.
pub fn otpauth_url(secret: &Secret, issuer: &str, account: &str) -> String {
    let (issuer, account) = (percent_encoded(issuer), percent_encoded(account));
    let secret = base32(secret);
    format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP}"
    )
}

/// The name that an authenticator shows for an issuer: its host. A colon would end the name.
pub fn shown_issuer(issuer: &str) -> String {
    let host = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    host.trim_start_matches('[').trim_end_matches(']').replace(':', ".")
}

/// RFC 3986 section 2.1: all but what is unreserved.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// A text as a QR code: a square of black on white with a quiet zone of four modules, and no size of its own.
///
/// # Errors
///
/// If the text is too long.
pub fn qr_svg(text: &str) -> Result<String, NotMade> {
    const QUIET: i32 = 4;
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).map_err(|_too_long| NotMade)?;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            path.push_str(&format!("M{},{}h1v1h-1z", x.saturating_add(QUIET), y.saturating_add(QUIET)));
        }
    }
    let side = code.size().saturating_add(2 * QUIET);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0,0h{side}v{side}h-{side}z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    ))
}

/// The step that a time is in.
fn step_of(now: Timestamp) -> i64 {
    now.as_seconds().div_euclid(STEP)
}

/// HOTP (RFC 4226 section 5.3) of a step, all ten digits of it.
fn hotp(key: &hmac::Key, step: i64) -> u32 {
    let tag = hmac::sign(key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = tag.last().map_or(0, |byte| usize::from(byte & 0xF));
    let truncated = tag.get(offset..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    u32::from_be_bytes(truncated) & 0x7FFF_FFFF
}

fn key_of(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose())
}

/// The step whose code this is, of those around `now` that come after `used`. `None`: it is wrong, or has been used, or a
/// later one has.
pub fn step_of_code(secret: &Secret, code: &str, now: Timestamp, used: Option<i64>) -> Option<i64> {
    let code: Vec<u8> = code.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let (key, present) = (key_of(secret), step_of(now));
    let mut found = None;
    // All of them are looked at, so that how long it takes says nothing.
    for step in present.saturating_sub(DRIFT)..=present.saturating_add(DRIFT) {
        let expected = format!("{:0DIGITS$}", hotp(&key, step) % CODES);
        let same = constant_time::verify_slices_are_equal(expected.as_bytes(), &code).is_ok();
        if same && used.is_none_or(|used| step > used) {
            found = found.or(Some(step));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238 appendix B, whose codes have eight digits.
    #[test]
    fn codes_are_those_of_rfc_6238() {
        let key = key_of(&Secret::new(*b"12345678901234567890"));
        for (seconds, code) in [
            (59, 94_287_082),
            (1_111_111_109, 7_081_804),
            (1_111_111_111, 14_050_471),
            (1_234_567_890, 89_005_924),
            (2_000_000_000, 69_279_037),
            (20_000_000_000, 65_353_130),
        ] {
            assert_eq!(hotp(&key, step_of(Timestamp::from_seconds(seconds))) % 100_000_000, code, "{seconds}");
        }
    }

    /// RFC 4226 appendix D.
    #[test]
    fn codes_are_those_of_rfc_4226() {
        let key = key_of(&Secret::new(*b"12345678901234567890"));
        let expected = [755_224, 287_082, 359_152, 969_429, 338_314, 254_676, 287_922, 162_583, 399_871, 520_489];
        for (counter, code) in (0..).zip(expected) {
            assert_eq!(hotp(&key, counter) % CODES, code);
        }
    }

    #[test]
    fn a_code_is_good_one_step_early_and_late_and_once() {
        let secret = Secret::new(*b"12345678901234567890");
        let now = Timestamp::from_seconds(1_111_111_111);
        let present = step_of(now);
        let code = |step: i64| format!("{:06}", hotp(&key_of(&secret), step) % CODES);
        for (away, good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let step = present + away;
            assert_eq!(step_of_code(&secret, &code(step), now, None), good.then_some(step), "{away}");
            assert_eq!(step_of_code(&secret, &code(step), now, Some(step)), None);
            assert_eq!(step_of_code(&secret, &code(step), now, Some(step + 1)), None);
            assert_eq!(step_of_code(&secret, &code(step), now, Some(step - 1)), good.then_some(step));
        }
        let spaced = format!(" {} {}\t", &code(present)[..3], &code(present)[3..]);
        assert_eq!(step_of_code(&secret, &spaced, now, None), Some(present));
        for wrong in ["", "0", "0000000", &code(present)[1..], "١٢٣٤٥٦", "abcdef"] {
            assert_eq!(step_of_code(&secret, wrong, now, None), None, "{wrong}");
        }
    }

    /// RFC 4648 section 10.
    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(&Secret::new(bytes)), text);
        }
        assert_eq!(base32(&new_secret().unwrap()).len(), 32);
    }

    #[test]
    fn the_address_names_the_host_and_the_account() {
        let secret = Secret::new("foobar");
        assert_eq!(
            otpauth_url(&secret, &shown_issuer("https://auth.example.com:8443/tenant"), "ada+x@bücher.example"),
            "otpauth://totp/auth.example.com:ada%2Bx%40b%C3%BCcher.example?secret=MZXW6YTBOI&issuer=auth.example.com\
             &algorithm=SHA1&digits=6&period=30"
        );
        for (issuer, shown) in
            [("http://127.0.0.1:8080", "127.0.0.1"), ("http://[::1]:80", "..1"), ("countersign", "countersign")]
        {
            assert_eq!(shown_issuer(issuer), shown);
        }
    }

    #[test]
    fn a_qr_code_is_a_square_without_script() {
        let svg = qr_svg(&otpauth_url(&new_secret().unwrap(), "auth.example.com", "ada@example.com")).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>") && svg.len() < 40_000, "{}", svg.len());
        let longest = otpauth_url(&new_secret().unwrap(), &"a".repeat(253), &"é".repeat(127));
        qr_svg(&longest).unwrap();
    }
}
