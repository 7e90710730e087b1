//! A new password, never an argument: other processes can read those.

use std::io::{ErrorKind, IsTerminal as _, Read as _};

use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::Failure;
use crate::passwords::{MAX_CHARACTERS, Password};

/// The longest password with the end of its line, in bytes. What is longer is not read to its end.
const MAX_BYTES: usize = 4 * MAX_CHARACTERS + 2;

/// A new password: asked for twice on a terminal, else all of standard input but for the end of
/// its line. Within a runtime.
pub fn read() -> Result<Password, Failure> {
    let text = if std::io::stdin().is_terminal() { ask()? } else { take()? };
    if is_hash(&text) {
        return Err(Failure(
            "this is the hash of a password, not a password, and nothing was changed: give the password itself; accounts \
             with their hashes are for `countersign user import`, which this version does not have yet"
                .into(),
        ));
    }
    Ok(Password::new(String::clone(&text)))
}

/// Whether a text is a stored hash, which would silently become the password: bcrypt's and crypt's, PHC strings, Django's,
/// and our own.
fn is_hash(text: &str) -> bool {
    let schemes = [
        "2",
        "2a",
        "2b",
        "2x",
        "2y",
        "5",
        "6",
        "y",
        "7",
        "gy",
        "argon2i",
        "argon2d",
        "argon2id",
        "scrypt",
        "fbscrypt",
        "bcrypt-sha256",
        "pbkdf2",
        "pbkdf2-sha1",
        "pbkdf2-sha256",
        "pbkdf2-sha512",
        "bcrypt",
        "bcrypt_sha256",
        "argon2",
        "pbkdf2_sha1",
        "pbkdf2_sha256",
    ];
    let text = text.trim();
    // `cs1:PEPPER:$2b$…`, `$SCHEME$…$…`, and Django's without the first sign.
    let tagged = text.strip_prefix("cs1:").and_then(|rest| rest.split_once(':')).map(|(_, hash)| hash);
    let hash = tagged.unwrap_or(text);
    let mut parts = hash.strip_prefix('$').unwrap_or(hash).split('$');
    let scheme = parts.next().is_some_and(|scheme| schemes.contains(&scheme));
    // At least one parameter, and a salt and a digest, together or apart.
    let rest: Vec<&str> = parts.collect();
    scheme && rest.len() >= 2 && rest.iter().map(|part| part.len()).sum::<usize>() >= 40
}

fn ask() -> Result<Zeroizing<String>, Failure> {
    // From here on Ctrl-C ends the prompt and not the process, which would leave the terminal without its echo.
    let _heard = signal(SignalKind::interrupt())?;
    let first = prompt("New password: ")?;
    let second = prompt("The same again: ")?;
    if *first != *second {
        return Err(Failure("the two passwords differ, and nothing was changed; try again".into()));
    }
    Ok(first)
}

fn prompt(text: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(text).map(Zeroizing::new).map_err(|error| match error.kind() {
        ErrorKind::Interrupted | ErrorKind::UnexpectedEof => {
            Failure("no password was given, and nothing was changed".into())
        }
        _ => Failure(format!("no password can be asked for here ({error}): give it on standard input")),
    })
}

fn take() -> Result<Zeroizing<String>, Failure> {
    // With room for all of it, so that no copy is left behind where it had to grow.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    let limit = u64::try_from(MAX_BYTES + 1).unwrap_or(u64::MAX);
    std::io::stdin().take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(Failure(format!("password must have at most {MAX_CHARACTERS} characters")));
    }
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Failure("there is no password on standard input: pipe it in, or run this on a terminal".into()));
    }
    if line.contains(&b'\n') {
        return Err(Failure("standard input has more than one line: give the password alone, once".into()));
    }
    match std::str::from_utf8(line) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Failure("the password on standard input is not UTF-8 text".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_told_from_a_password() {
        let digest = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        for hash in [
            format!("$2b$12${digest}"),
            format!(" $2y$10${digest} "),
            format!("$2$04${digest}"),
            format!("cs1:-:$2b$12${digest}"),
            "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxMjM0$RdescudvJCsgt3ub+b4dWRWJTmaaJObG".to_owned(),
            format!("$6$rounds=5000$saltsalt${digest}"),
            format!("$scrypt$ln=16,r=8,p=1$c29tZXNhbHQxMjM0${digest}"),
            format!("$pbkdf2-sha256$29000$c29tZXNhbHQxMjM0${digest}"),
            format!("pbkdf2_sha256$600000$salt${digest}"),
            format!("bcrypt_sha256$$2b$12${digest}"),
            format!("argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdHNhbHQ${digest}"),
        ] {
            assert!(is_hash(&hash), "{hash}");
        }
        for password in [
            "",
            "$2b$12$",
            "$2b$12$too short to be one",
            "2 fast $ 2 furious $ and then some more words behind",
            "pay $5 for 6 apples and $7 for the rest of it, please",
            "$up3r$ecret$pa$$w0rd$that$is$long$enough$to$count$as$one",
            digest,
        ] {
            assert!(!is_hash(password), "{password}");
        }
    }
}
