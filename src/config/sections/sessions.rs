//! Section `sessions`.

use crate::config::key::Key;
use crate::config::section::section;

section! {
    /// Section `sessions`: how many an account may have.
    pub struct Sessions in "sessions" {
        /// Live sessions that one account may have; 0 is no bound.
        ///
        /// A log-in beyond that ends the session that was used least recently.
        max_per_user: u32 = "100", Key::number(0..=4_294_967_295);
    }
}
