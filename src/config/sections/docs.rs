//! Section `docs`.

use crate::config::key::Key;
use crate::config::section::section;

section! {
    /// Section `docs`: whether the page that describes the API is there.
    pub struct Docs in "docs" {
        /// Whether GET /docs and GET / exist.
        ///
        /// Set it to false where the API is not to be described in public; /openapi.json stays.
        enabled: bool = "true", Key::switch().at_restart();
    }
}
