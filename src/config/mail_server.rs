//! The URL of a mail server: `smtps://user:password@host:port` or `smtp://…`.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::address;
use crate::secret::Secret;

/// Submission over implicit TLS (RFC 8314 section 3.3).
const IMPLICIT_TLS: u16 = 465;
/// Submission (RFC 6409 section 3.1).
const SUBMISSION: u16 = 587;
/// A server on this machine.
const LOCAL: u16 = 25;

/// A mail server, and the account there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MailServer {
    /// A name or an address, without brackets.
    pub host: String,
    /// By default 465 for `smtps://`; for `smtp://` 587, or 25 on this machine.
    pub port: u16,
    /// Whether the connection begins with TLS (`smtps://`).
    pub implicit_tls: bool,
    /// Whether it is on this machine: a loopback address or `localhost`.
    pub is_loopback: bool,
    /// User and password.
    pub login: Option<MailLogin>,
}

/// An account on a mail server. `Debug` shows neither part.
#[derive(Clone)]
#[non_exhaustive]
pub struct MailLogin {
    /// Its name there.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

impl fmt::Debug for MailLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailLogin").finish_non_exhaustive()
    }
}

/// The parts of a URL, as they are written.
struct Parts<'a> {
    scheme: &'a str,
    login: Option<&'a str>,
    place: &'a str,
}

/// The last `@` ends the user part, so that one in a password does no harm.
fn parts(text: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    Some(match rest.rsplit_once('@') {
        Some((login, place)) => Parts { scheme, login: Some(login), place },
        None => Parts { scheme, login: None, place: rest },
    })
}

/// Reads it. An error shows nothing of what was written.
pub(super) fn parse(text: &str) -> Result<MailServer, String> {
    let parts = parts(text).ok_or("is no URL: write smtps://user:password@host, or smtp://…")?;
    let implicit_tls = match parts.scheme.to_ascii_lowercase().as_str() {
        "smtps" => true,
        "smtp" => false,
        _ => return Err("begins with neither smtps:// nor smtp://".to_owned()),
    };
    if parts.place.contains(['/', '?', '#']) {
        return Err("has something behind host and port: leave it out".to_owned());
    }
    let (host, port) = address::authority(parts.place).filter(|(_, port)| *port != Some(0)).ok_or(
        "has no valid host and port behind the last @: write host, host:port or [address]:port, a name with other \
                letters as xn--…, and any of / ? # % @ : in user or password as %2F %3F %23 %25 %40 %3A",
    )?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_loopback = address::is_loopback(&host);
    let port = port.unwrap_or(match (implicit_tls, is_loopback) {
        (true, _) => IMPLICIT_TLS,
        (false, true) => LOCAL,
        (false, false) => SUBMISSION,
    });
    let login = parts.login.map(login).transpose()?;
    Ok(MailServer { host, port, implicit_tls, is_loopback, login })
}

fn login(text: &str) -> Result<MailLogin, String> {
    let (user, password) =
        text.split_once(':').ok_or("has a user without a password: write user:password before the @")?;
    let (user, password) = (decoded(user)?, decoded(password)?);
    if user.is_empty() || password.is_empty() {
        return Err("has an empty user or password: write user:password before the @, or leave both out".to_owned());
    }
    Ok(MailLogin { user, password: Secret::new(password) })
}

/// Without percent signs (RFC 3986 section 2.1).
fn decoded(text: &str) -> Result<String, String> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_escape) {
        return Err("has a % in user or password that begins no escape: write it as %25".to_owned());
    }
    let text = percent_decode_str(text).decode_utf8().ok().filter(|text| !text.contains(char::is_control));
    Ok(text.ok_or("has a user or password that is not UTF-8, or holds control characters")?.into_owned())
}

/// As it may be shown: without password.
pub(super) fn masked(text: &str) -> String {
    let known = parse(text).ok().and(parts(text));
    match known {
        Some(Parts { scheme, login: Some(login), place }) => {
            format!("{scheme}://{}:***@{place}", login.split(':').next().unwrap_or_default())
        }
        Some(_) => text.to_owned(),
        None => format!("(hidden, {} bytes)", text.len()),
    }
}

/// Whether a file that holds it must be kept from others.
pub(super) fn may_hold_password(text: &str) -> bool {
    text.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> (String, u16, bool, bool) {
        let MailServer { host, port, implicit_tls, is_loopback, .. } = parse(url).unwrap();
        (host, port, implicit_tls, is_loopback)
    }

    #[test]
    fn ports_are_those_of_submission_unless_written() {
        for (url, host, port, tls, loopback) in [
            ("smtps://mail.example.com", "mail.example.com", 465, true, false),
            ("SMTP://mail.example.com/", "mail.example.com", 587, false, false),
            ("smtp://localhost", "localhost", 25, false, true),
            ("smtp://127.0.0.1:1025", "127.0.0.1", 1025, false, true),
            ("smtp://[::1]:2525", "::1", 2525, false, true),
            ("smtps://[2001:db8::1]", "2001:db8::1", 465, true, false),
        ] {
            assert_eq!(place(url), (host.to_owned(), port, tls, loopback), "{url}");
        }
    }

    #[test]
    fn user_and_password_are_decoded() {
        for (url, user, password) in [
            ("smtps://ada:word@mail.example.com", "ada", "word"),
            ("smtps://ada%40example.com:p%3Aa%25s%2Fs%23@mail.example.com:465", "ada@example.com", "p:a%s/s#"),
            ("smtps://ada@example.com:w:o@r/d?@mail.example.com", "ada@example.com", "w:o@r/d?"),
            ("smtps://z%C3%B6e:w%20d@mail.example.com", "zöe", "w d"),
        ] {
            let login = parse(url).unwrap().login.unwrap();
            assert_eq!((login.user.as_str(), login.password.expose()), (user, password.as_bytes()), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for url in [
            "",
            "mail.example.com",
            "https://ada:hunter2@mail.example.com",
            "smtps://",
            "smtps://ada:hunter2@",
            "smtps://ada@mail.example.com",
            "smtps://:hunter2@mail.example.com",
            "smtps://ada:@mail.example.com",
            "smtps://ada:hunter2%@mail.example.com",
            "smtps://ada:hunter2%zz@mail.example.com",
            "smtps://ada:hunter2%+1@mail.example.com",
            "smtps://ada:hunter2%00@mail.example.com",
            "smtps://ada:hunter2%0D%0A@mail.example.com",
            "smtps://ada:hunter2%ff@mail.example.com",
            "smtps://ada:hunter2@mail.example.com:0",
            "smtps://ada:hunter2@mail.example.com:99999",
            "smtps://ada:hunter2@mail.example.com/path",
            "smtps://ada:hunter2@mail.example.com?tls=none",
            "smtps://ada:hunter2@mail example.com",
            "smtps://ada:hunter2@bücher.example",
        ] {
            let told = parse(url).unwrap_err();
            assert!(!told.contains("hunter2") && !told.contains("ada"), "{url}: {told}");
            assert!(!masked(url).contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn what_is_shown_has_no_password() {
        let shown = masked("smtps://ada%40example.com:hun@ter2@mail.example.com");
        assert!(!shown.contains("hun") && shown.ends_with("@mail.example.com"), "{shown}");
        assert_eq!(masked("smtps://ada:hunter2@mail.example.com:465"), "smtps://ada:***@mail.example.com:465");
        assert_eq!(masked("smtp://localhost:25"), "smtp://localhost:25");
        assert!(!format!("{:?}", parse("smtps://ada:hunter2@mail.example.com")).contains("hunter2"));
    }
}
