//! Section `cors`.

use crate::config::address;
use crate::config::key::Key;
use crate::config::section::section;

section! {
    /// Section `cors`: which web pages of other origins may call.
    pub struct Cors in "cors" {
        /// Web origins whose pages may call with credentials, such as `https://app.example.com`.
        ///
        /// Name each one: scheme://host or scheme://host:port. None means that only pages of this host may.
        allowed_origins: Vec<String> = "", Key::text(address::origin);
    }
}
