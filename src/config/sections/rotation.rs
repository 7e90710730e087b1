//! Section `rotation`.

use std::time::Duration;

use super::Tokens;
use crate::config::key::Key;
use crate::config::reader::Reader;
use crate::config::section::section;

section! {
    /// Section `rotation`: what happens when a refresh token comes a second time.
    pub struct Rotation in "rotation" {
        /// Within this time a repeated refresh gets the same answer again, so that duplicates and lost answers end no session.
        ///
        /// 0 is off, else it is shorter than tokens.access_ttl (a shorter access_ttl lowers the default). Shorten it to notice
        /// a thief sooner.
        overlap: Duration = "30s", Key::duration(0..=u64::MAX);

        /// Within this time a client that lost an answer and was away may come back with its old token; 0 is off.
        ///
        /// Raise it for devices that are away for weeks, shorten it where logging in again is no trouble.
        recovery: Duration = "7d", Key::duration(0..=u64::MAX);

        /// How many such returns one rotation allows.
        ///
        /// A phone that can send but not receive retries for hours; each return is also a chance for a thief who has the old
        /// token.
        max_recoveries: u32 = "16", Key::number(0..=4_294_967_295);

        /// Whether a token newer than the database is accepted, as after restoring a copy.
        ///
        /// Set it to false if a stranger may have the keys: then all who refreshed since the copy was made log in again.
        adopt_ahead: bool = "true", Key::switch();

        /// After this many repeats in a row that went to another address, a repeat is refused; 0 is off.
        ///
        /// 3 displaces a thief who shadows every refresh, and now and then a phone that changes networks.
        max_repeat_streak: u32 = "0", Key::number(0..=4_294_967_295);
    }
}

/// The rules about more than one key.
pub(super) fn check(reader: &mut Reader<'_>) {
    if let (Some(overlap), Some(access)) = (reader.get(&Rotation::overlap), reader.get(&Tokens::access_ttl))
        && overlap >= access
    {
        let problem = format!("is not shorter than {}, which is {} seconds", Tokens::access_ttl, access.as_secs());
        reader.refuse(&Rotation::overlap, problem);
    }
}
