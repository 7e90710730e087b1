//! Section `limits`.

use std::time::Duration;

use crate::config::key::Key;
use crate::config::section::section;

section! {
    /// Section `limits`: what slows password guessing down.
    pub struct Limits in "limits" {
        /// Whether failed log-ins, registrations and invalid refreshes are limited.
        ///
        /// Set it to false only where something before this server does that.
        enabled: bool = "true", Key::switch();

        /// Failed log-ins for one account from one address before 429.
        ///
        /// One account from everywhere and one address over all accounts have ten times as many; a success gives back what was
        /// got wrong before it. Raise it where many people share an address.
        login_failures: u32 = "10", Key::number(1..=1_000_000); // ten times this must still be a number

        /// How long a failed log-in counts.
        ///
        /// Longer slows guessing down, and people who forgot their password too.
        login_window: Duration = "15m", Key::duration(1..=u64::MAX);
    }
}
