//! A new password, never an argument: other processes can read those.

use std::io::{ErrorKind, IsTerminal as _, Read as _};

use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::Failure;
use crate::passwords::{MAX_CHARACTERS, Password};

/// The longest password with the end of its line, in bytes. What is longer is not read to its end.
const LONGEST: usize = 4 * MAX_CHARACTERS + 2;

/// A new password: asked for twice where somebody sits at a terminal, else all of standard input but for the end of
/// its line. Within a runtime.
pub fn read() -> Result<Password, Failure> {
    if std::io::stdin().is_terminal() { ask() } else { take() }
}

fn ask() -> Result<Password, Failure> {
    // From here on Ctrl-C ends the prompt and not the process, which would leave the terminal without its echo.
    let _heard = signal(SignalKind::interrupt())?;
    let first = prompt("New password: ")?;
    let second = prompt("The same again: ")?;
    if *first != *second {
        return Err(Failure("the two passwords differ, and nothing was changed; try again".into()));
    }
    Ok(Password::new(String::clone(&first)))
}

fn prompt(text: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(text).map(Zeroizing::new).map_err(|error| match error.kind() {
        ErrorKind::Interrupted | ErrorKind::UnexpectedEof => {
            Failure("no password was given, and nothing was changed".into())
        }
        _ => Failure(format!("no password can be asked for here ({error}): give it on standard input")),
    })
}

fn take() -> Result<Password, Failure> {
    // With room for all of it, so that no copy is left behind where it had to grow.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    let limit = u64::try_from(LONGEST + 1).unwrap_or(u64::MAX);
    std::io::stdin().take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST {
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
        Ok(text) => Ok(Password::new(text.to_owned())),
        Err(_) => Err(Failure("the password on standard input is not UTF-8 text".into())),
    }
}
