//! Section `registration`.

use super::Mail;
use crate::config::address;
use crate::config::key::Key;
use crate::config::reader::Reader;
use crate::config::section::section;

section! {
    /// Section `registration`: whether people can sign up by themselves.
    pub struct Registration in "registration" {
        /// Whether people can sign up by themselves, at POST /v1/auth/register.
        ///
        /// Set it to false where users come from the command line.
        enabled: bool = "true", Key::switch();

        /// Whether an address must be proven by a link that is sent to it; with mail.transport set, the default is optional.
        ///
        /// optional signs in at once and sends the mail. required refuses log-ins before the proof, and answers alike for
        /// addresses that have an account and those that have none: set it where accounts must belong to real addresses.
        verify_email: VerifyEmail = "off", Key::one_of(&["off", "optional", "required"], verify_email);

        /// Domains whose e-mail addresses may register, such as example.com, each without those below it; by default any.
        ///
        /// Set it where only one organisation signs up. Accounts from the command line may be of any.
        allowed_domains: Vec<String> = "", Key::text(address::mail_domain);
    }
}

/// Whether an address must be proven by mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyEmail {
    /// No mail is sent for that.
    Off,
    /// The mail is sent, and the account works before the proof.
    Optional,
    /// Log-in is refused before the proof.
    Required,
}

impl VerifyEmail {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Optional, Self::Required];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

fn verify_email(text: &str) -> Result<VerifyEmail, String> {
    let known = VerifyEmail::ALL.into_iter().find(|known| known.name() == text);
    known.ok_or_else(|| "is none of off, optional and required".to_owned())
}

/// The rules about more than one key.
pub(super) fn check(reader: &mut Reader<'_>) {
    let (key, transport) = (Registration::verify_email, Mail::transport);
    if let (Some(verify), Some(None)) = (reader.get(&key), reader.get(&transport))
        && verify != VerifyEmail::Off
    {
        let problem =
            format!("is {} without {transport}: set that, so that mail can be sent, or set off", verify.name());
        reader.refuse(&key, problem);
    }
}
