//! An authenticator app, as a user has it on the telephone (RFC 6238).

use aws_lc_rs::hmac;

/// What it was given.
pub struct Authenticator(Vec<u8>);

impl Authenticator {
    /// From a secret in base32.
    pub fn of(secret: &str) -> Self {
        let (mut bytes, mut bits, mut length) = (Vec::new(), 0_u32, 0);
        for letter in secret.bytes() {
            let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter).unwrap();
            bits = (bits << 5 | u32::try_from(value).unwrap()) & 0xFFFF;
            length += 5;
            if length >= 8 {
                length -= 8;
                bytes.push(u8::try_from(bits >> length & 0xFF).unwrap());
            }
        }
        Self(bytes)
    }

    /// The code so many steps from a time in seconds since 1970.
    pub fn code(&self, seconds: i64, steps: i64) -> String {
        let step = seconds.div_euclid(30) + steps;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let at = usize::from(tag.as_ref()[19] & 15);
        let number = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7FFF_FFFF;
        format!("{:06}", number % 1_000_000)
    }

    /// A code that is good neither then nor soon before or after.
    pub fn wrong(&self, seconds: i64) -> String {
        let good: Vec<String> = (-3..=3).map(|steps| self.code(seconds, steps)).collect();
        (0..).map(|number| format!("{number:06}")).find(|code| !good.contains(code)).unwrap()
    }

    /// The code of the real time.
    pub fn code_now(&self, steps: i64) -> String {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        self.code(i64::try_from(since.as_secs()).unwrap(), steps)
    }
}
