//! Section `mail`.

use std::path::{Path, PathBuf};

use crate::config::address;
use crate::config::key::{Key, KeyInfo};
use crate::config::reader::Reader;
use crate::config::section::section;
use crate::config::{MailServer, parse};
use crate::email;

/// What stands for the token in the URL of a page.
pub(crate) const TOKEN: &str = "{token}";

/// The sender where mail goes into files and none is set.
const FILE_SENDER: &str = "countersign@localhost";

/// Schemes of which a link runs what is in it, or opens a file.
const DANGEROUS: [&str; 12] = [
    "about",
    "blob",
    "data",
    "file",
    "filesystem",
    "intent",
    "jar",
    "javascript",
    "mailto",
    "vbscript",
    "view-source",
    "wyciwyg",
];

section! {
    /// Section `mail`: how mail goes out, and what is in it.
    pub struct Mail in "mail" {
        /// How mail goes out: to a server (smtp), through a program (command) or into files (file); by default not at all.
        ///
        /// Set it to let people set a forgotten password anew, prove their address, and be told of what happens to their
        /// account. file is for development.
        transport: Option<MailTransport> = "", Key::one_of(&["smtp", "command", "file"], transport);

        /// smtp only: smtps://user:password@host, or smtp://… for a server with STARTTLS, each with :port if it is another.
        ///
        /// The port is 465 for smtps, 587 for smtp, and 25 for smtp to this machine. TLS is required, with a certificate that
        /// is valid for the host, except to this machine. Of the characters / ? # % @ : in user or password, write %2F %3F %23
        /// %25 %40 %3A.
        url: Option<MailServer> = "", Key::mail_url();

        /// The sender: an address, or a name and an address, as in Example <accounts@example.com>.
        ///
        /// Needed with smtp and command. It should be one that the mail server may send for, and that someone reads; with file
        /// the default is countersign@localhost.
        from: Option<Mailbox> = "", Key::text(mailbox);

        /// smtp only: a file of certificates (PEM), which alone vouch for the server's; by default those that the system trusts.
        ///
        /// Set it where the server's certificate is from an authority of one's own.
        ca_file: Option<PathBuf> = "", Key::text(path);

        /// command only: a program and its arguments, which takes a message on standard input and the recipient from its To.
        ///
        /// `/usr/sbin/sendmail -t -i` is usual. It is split into words as a shell does, with quotes, but no shell runs it, and
        /// nothing is put in it. Exit status 75 means that it is tried again, 65, 67 and 68 that it is not.
        command: Option<Vec<String>> = "", Key::text(command);

        /// file only: the folder of the messages, each a file .eml; by default mail in the data folder. Made if it is not there.
        ///
        /// Set it where a program reads them. They hold links that open accounts.
        folder: Option<PathBuf> = "", Key::text(path);

        /// A folder of texts, KIND.LANG.txt and KIND.LANG.html, each of which takes the place of the built-in one.
        ///
        /// Set it to have mail in words and languages of your own: docs/mail.md has the kinds and the placeholders.
        templates: Option<PathBuf> = "", Key::text(path);

        /// Where a mail about a forgotten password leads, with {token} in it; by default /account/reset below tokens.issuer.
        ///
        /// Set it where a page or an app of your own sets the new password, as in `https://app.example.com/reset?token={token}` or
        /// `com.example.app:/reset?token={token}`.
        reset_url: Option<String> = "", Key::text(link);

        /// The same for the proof of an address; by default /account/verify below tokens.issuer.
        ///
        /// Set it together with reset_url.
        verify_url: Option<String> = "", Key::text(link);

        /// The same for taking back a change of address; by default /account/undo below tokens.issuer.
        ///
        /// Set it together with reset_url.
        undo_url: Option<String> = "", Key::text(link);
    }
}

/// How mail goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTransport {
    /// To a server.
    Smtp,
    /// Through a program.
    Command,
    /// Into files.
    File,
}

impl MailTransport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Smtp, Self::Command, Self::File];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Command => "command",
            Self::File => "file",
        }
    }
}

/// A sender (RFC 5322 section 3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mailbox {
    /// Shown before the address.
    pub name: Option<String>,
    /// The address, with the domain as A-labels.
    pub address: String,
}

impl Mail {
    /// Gives the sender and the folder their defaults.
    pub(in crate::config) fn fill_in(&mut self, data_dir: &Path) {
        if self.transport == Some(MailTransport::File) {
            self.from.get_or_insert_with(|| Mailbox { name: None, address: FILE_SENDER.to_owned() });
            self.folder.get_or_insert_with(|| data_dir.join("mail"));
        }
    }
}

fn transport(text: &str) -> Result<MailTransport, String> {
    let known = MailTransport::ALL.into_iter().find(|known| known.name() == text);
    known.ok_or_else(|| "is none of smtp, command and file".to_owned())
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    let wrong = || "is no sender: write accounts@example.com, or Example <accounts@example.com>".to_owned();
    if text.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    let parsed: lettre::message::Mailbox = text.parse().map_err(|_unspecific| wrong())?;
    let domain = email::domain(parsed.email.domain()).ok_or_else(wrong)?;
    let user = parsed.email.user();
    if !user.is_ascii() {
        return Err("has an address with letters beyond ASCII before the @, which many servers do not take".to_owned());
    }
    Ok(Mailbox { name: parsed.name.filter(|name| !name.is_empty()), address: format!("{user}@{domain}") })
}

fn path(text: &str) -> Result<PathBuf, String> {
    parse::words(text).map(PathBuf::from)
}

fn command(text: &str) -> Result<Vec<String>, String> {
    let words = shlex::split(text).ok_or("has a quote that is not closed, or ends with a backslash")?;
    match words.first() {
        Some(program) if !program.is_empty() && !text.contains(char::is_control) => Ok(words),
        _ => Err("names no program, or holds a control character".to_owned()),
    }
}

/// A page or a deep link, of http, https or a scheme of an app (RFC 8252 section 7.1).
fn link(text: &str) -> Result<String, String> {
    if text.matches(TOKEN).count() != 1 {
        return Err(format!("does not hold {TOKEN} exactly once"));
    }
    let plain = text.replacen(TOKEN, "", 1);
    if !plain.chars().all(|c| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c)) {
        return Err("holds a character that a URL cannot have: write it as %XX".to_owned());
    }
    let wrong = || {
        format!(
            "is not a URL such as https://app.example.com/reset?token={TOKEN} or com.example.app:/reset?token={TOKEN}"
        )
    };
    let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
    let lower = scheme.to_ascii_lowercase();
    let is_scheme = lower.starts_with(|c: char| c.is_ascii_alphabetic())
        && lower.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if DANGEROUS.contains(&lower.as_str()) {
        return Err(format!("begins with {lower}:, which must not stand in a mail"));
    }
    let authority = rest.strip_prefix("//").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let fits = match (lower.as_str(), authority) {
        ("http" | "https", Some(authority)) => address::authority(authority).is_some(),
        ("http" | "https", None) => false,
        (_, Some(authority)) => !authority.contains(TOKEN),
        (_, None) => rest.starts_with('/'),
    };
    if is_scheme && fits { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// The rules about more than one key.
pub(super) fn check(reader: &mut Reader<'_>) {
    let Some(transport) = reader.get(&Mail::transport) else { return };
    let Some(transport) = transport else {
        let set: Vec<&str> = [&Mail::url.info, &Mail::command.info, &Mail::folder.info]
            .into_iter()
            .filter(|key| reader.is_set(key))
            .map(|key| key.name)
            .collect();
        if !set.is_empty() {
            let warning = format!("{} is set, but {} is not: no mail goes out", set.join(", "), Mail::transport);
            reader.warnings.push(warning);
        }
        return;
    };
    match transport {
        MailTransport::Smtp => {
            need(reader, &Mail::url, "smtps://user:password@host");
            need(reader, &Mail::from, "Example <accounts@example.com>");
        }
        MailTransport::Command => {
            need(reader, &Mail::command, "/usr/sbin/sendmail -t -i");
            need(reader, &Mail::from, "Example <accounts@example.com>");
        }
        MailTransport::File => {}
    }
    let key = Mail::ca_file;
    if reader.is_set(&key) && transport != MailTransport::Smtp {
        let problem = format!("is set, but {} is {}: leave it out, or set smtp", Mail::transport, transport.name());
        reader.refuse(&key, problem);
    }
    if let (true, MailTransport::Smtp, Some(Some(server))) = (reader.is_set(&key), transport, reader.get(&Mail::url))
        && server.is_loopback
    {
        let warning = format!("{key} has no effect: certificates of a server on this machine are not checked");
        reader.warnings.push(warning);
    }
}

/// Refuses that `key` is not set.
fn need(reader: &mut Reader<'_>, key: &KeyInfo, example: &str) {
    if !reader.is_set(key) {
        let problem =
            format!("must be set with this {} ({}), as in {example}", Mail::transport, reader.source(&Mail::transport));
        reader.refuse(key, problem);
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")] // of which the default is
mod tests {
    use super::*;
    use crate::config::{VerifyEmail, resolved};

    const FILE: (&str, &str) = ("mail.transport", "file");
    const SMTP: [(&str, &str); 3] =
        [("mail.transport", "smtp"), ("mail.url", "smtps://mail.example.com"), ("mail.from", "a@example.org")];

    #[test]
    fn without_a_transport_there_is_no_mail() {
        let config = resolved(&[]).unwrap();
        assert_eq!((config.mail.transport, config.registration.verify_email), (None, VerifyEmail::Off));
        let warnings = resolved(&SMTP[1..]).unwrap().warnings;
        assert!(warnings[0].contains("mail.url is set, but mail.transport is not"), "{warnings:?}");
    }

    #[test]
    fn each_transport_says_what_it_needs() {
        for (transport, missing) in [("smtp", &["mail.url", "mail.from"]), ("command", &["mail.command", "mail.from"])]
        {
            let refusal = resolved(&[("mail.transport", transport)]).unwrap_err();
            assert_eq!(refusal.lines().count(), 2, "{refusal}");
            assert!(
                missing.iter().all(|key| refusal.contains(&format!("{key} (built-in default): must be set"))),
                "{refusal}"
            );
        }
        let mail = resolved(&[FILE]).unwrap().mail;
        assert_eq!(mail.folder.as_deref(), Some(Path::new("data/mail")));
        assert_eq!(mail.from.unwrap().address, "countersign@localhost");
        assert!(resolved(&SMTP).is_ok());
        assert!(resolved(&[FILE, ("mail.ca_file", "ca.pem")]).unwrap_err().starts_with("mail.ca_file"));
        assert!(resolved(&[("mail.transport", "pigeon")]).unwrap_err().contains("none of smtp, command and file"));
    }

    #[test]
    fn the_proof_of_addresses_needs_mail() {
        assert_eq!(resolved(&[FILE]).unwrap().registration.verify_email, VerifyEmail::Optional);
        let key = "registration.verify_email";
        for verify in VerifyEmail::ALL {
            assert_eq!(resolved(&[FILE, (key, verify.name())]).unwrap().registration.verify_email, verify);
            assert_eq!(resolved(&[(key, verify.name())]).is_ok(), verify == VerifyEmail::Off);
        }
    }

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        let from = |text: &str| resolved(&[FILE, ("mail.from", text)]).map(|config| config.mail.from.unwrap());
        for (text, name, address) in [
            ("accounts@example.org", None, "accounts@example.org"),
            ("Example <accounts@example.org>", Some("Example"), "accounts@example.org"),
            ("\"Example, Inc\" <accounts@bücher.example>", Some("Example, Inc"), "accounts@xn--bcher-kva.example"),
            ("Größe <a@localhost>", Some("Größe"), "a@localhost"),
        ] {
            let found = from(text).unwrap();
            assert_eq!((found.name.as_deref(), found.address.as_str()), (name, address), "{text}");
        }
        for text in
            ["accounts", "a@example.org, b@example.org", "zoë@example.org", "a@example.org\nBcc: b@example.org", "<>"]
        {
            assert!(from(text).unwrap_err().starts_with("mail.from"), "{text}");
        }
    }

    #[test]
    fn a_command_is_split_as_by_a_shell() {
        let words = |text: &str| resolved(&[FILE, ("mail.command", text)]).map(|config| config.mail.command.unwrap());
        assert_eq!(words("/usr/sbin/sendmail -t -i").unwrap(), ["/usr/sbin/sendmail", "-t", "-i"]);
        assert_eq!(words("'/opt/my mail' \"-f a\" $HOME").unwrap(), ["/opt/my mail", "-f a", "$HOME"]);
        for text in ["'open", "''", "a\\"] {
            assert!(words(text).unwrap_err().starts_with("mail.command"), "{text}");
        }
    }

    #[test]
    fn a_link_is_a_page_or_an_app_and_holds_the_token_once() {
        for text in [
            "https://app.example.com/reset?token={token}",
            "https://app.example.com/#/reset/{token}",
            "http://localhost:3000/reset/{token}/now",
            "com.example.app:/reset?token={token}",
            "myapp://reset/{token}",
        ] {
            assert_eq!(resolved(&[("mail.reset_url", text)]).unwrap().mail.reset_url.as_deref(), Some(text));
        }
        for text in [
            "https://app.example.com/reset",
            "https://app.example.com/{token}/{token}",
            "https://{token}.example.com/",
            "https://app.example.com:{token}/",
            "https://app.example.com{token}",
            "myapp://{token}",
            "https:app/{token}",
            "https://user@app.example.com/{token}",
            "javascript:alert('{token}')",
            "JavaScript:/{token}",
            "javascript://a/%0Aalert(1)//{token}",
            "data:/text/html,{token}",
            "vbscript:/{token}",
            "{token}:/a",
            "//app.example.com/{token}",
            "/reset?token={token}",
            "myapp:{token}",
            "https://app.example.com/\"><b>{token}",
            "https://app.example.com/a b{token}",
            "https://app.example.com/{token}{other}",
            "https://app.example.com/{token}\r\nBcc:",
        ] {
            assert!(resolved(&[("mail.verify_url", text)]).unwrap_err().starts_with("mail.verify_url"), "{text}");
        }
    }
}
