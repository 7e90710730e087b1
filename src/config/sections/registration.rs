//! Section `registration`.

use crate::config::address;
use crate::config::key::Key;
use crate::config::section::section;

section! {
    /// Section `registration`: whether people can sign up by themselves.
    pub struct Registration in "registration" {
        /// Whether people can sign up by themselves, at POST /v1/auth/register.
        ///
        /// Set it to false where users come from the command line.
        enabled: bool = "true", Key::switch();

        /// Domains whose e-mail addresses may register, such as example.com, each without those below it; by default any.
        ///
        /// Set it where only one organisation signs up. Accounts from the command line may be of any.
        allowed_domains: Vec<String> = "", Key::text(address::mail_domain);
    }
}
