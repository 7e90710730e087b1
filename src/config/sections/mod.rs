//! Every section of the configuration, a file each: its keys, and the rules about them.

mod cookies;
mod cors;
mod database;
mod docs;
mod limits;
mod log;
mod mail;
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
pub(crate) use mail::TOKEN as MAIL_TOKEN;
pub use mail::{Mail, MailTransport, Mailbox};
pub use metrics::Metrics;
pub use passwords::Passwords;
pub use registration::{Registration, VerifyEmail};
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
    mail: Mail,
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
    registration::check(reader);
    mail::check(reader);
}

/// The names in the environment by which this program is configured, and what its service manager tells it: nothing that
/// another program should be given.
pub(crate) fn variables() -> impl Iterator<Item = String> {
    let short = keys().flat_map(|key| key.short.iter().map(|short| (*short).to_owned()));
    let ours = [
        "COUNTERSIGN_TRANSFER_TO",
        "CREDENTIALS_DIRECTORY",
        "NOTIFY_SOCKET",
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
    ];
    short.chain(keys().map(KeyInfo::variable)).chain(ours.map(str::to_owned))
}
