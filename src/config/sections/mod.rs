//! Every section of the configuration, a file each: its keys, and the rules about them.

mod cookies;
mod cors;
mod database;
mod docs;
mod limits;
mod log;
mod metrics;
mod passwords;
mod registration;
mod rotation;
mod server;
mod sessions;
mod tokens;

pub use cookies::{Cookies, SameSite};
pub use cors::Cors;
pub(crate) use database::DatabaseKeys;
pub(super) use database::SHARED_NAME;
pub use docs::Docs;
pub use limits::Limits;
pub use log::{Log, LogFormat};
pub use metrics::Metrics;
pub use passwords::Passwords;
pub use registration::Registration;
pub use rotation::Rotation;
pub use server::Server;
pub use sessions::Sessions;
pub use tokens::{Algorithm, Tokens};

use super::key::KeyInfo;
use super::reader::Reader;
use super::section::Section;

/// Puts the sections together, in the order in which they are shown.
macro_rules! sections {
    ($($section:ident: $Struct:ident),+ $(,)?) => {
        /// The values of every key.
        pub(super) struct All {
            $( pub(super) $section: $Struct, )+
        }

        impl All {
            /// Reads every key, or none if one is wrong.
            pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
                $( let $section = $Struct::read(reader); )+
                Some(Self { $( $section: $section? ),+ })
            }
        }

        /// Every section there is.
        pub(super) static SECTIONS: &[Section] = &[$( $Struct::SECTION ),+];
    };
}

sections! {
    server: Server,
    database: DatabaseKeys,
    tokens: Tokens,
    rotation: Rotation,
    passwords: Passwords,
    cookies: Cookies,
    cors: Cors,
    limits: Limits,
    registration: Registration,
    sessions: Sessions,
    docs: Docs,
    metrics: Metrics,
    log: Log,
}

/// Every key there is, in the order in which they are shown.
pub(crate) fn keys() -> impl Iterator<Item = &'static KeyInfo> {
    SECTIONS.iter().flat_map(|section| section.keys).copied()
}

/// Writes down which rules about more than one key are broken. A rule that a wrong value is part of is left out.
pub(super) fn check(reader: &mut Reader<'_>) {
    tokens::check(reader);
    rotation::check(reader);
    cookies::check(reader);
}
