//! Section `passwords`.

use crate::config::key::Key;
use crate::config::section::section;
use crate::secret::Secret;

section! {
    /// Section `passwords`: how they are hashed and what they must be.
    pub struct Passwords in "passwords" {
        /// bcrypt cost: each step doubles the time of a log-in and of an attacker's guess; below 10 with a warning.
        ///
        /// Hashes are brought to the new cost when their owner logs in; while there are some of a higher cost, up to 16, a
        /// wrong password takes as long as those, so that the time of an answer does not tell which accounts exist.
        bcrypt_cost: u32 = "12", Key::number(4..=31).at_restart();

        /// Shortest password allowed, in characters.
        ///
        /// Set it to 15 where the password is the only factor (NIST SP 800-63B).
        min_length: usize = "8", Key::number(8..=64);

        /// Key of the password pre-hash, kept apart from the database.
        ///
        /// A copy of the database alone cannot be searched for passwords then. Losing it makes every password unusable.
        pepper: Option<Secret> = "", Key::secret().short(&["PASSWORD_PEPPER"]).at_restart();

        /// Peppers that still verify.
        ///
        /// When pepper changes, the old one stays here until all users have logged in once.
        pepper_previous: Vec<Secret> = "", Key::secret().short(&["PASSWORD_PEPPER_PREVIOUS"]).at_restart();
    }
}
