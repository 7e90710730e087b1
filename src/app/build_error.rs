//! Why the application was not built, and what to do about it.

use std::io::ErrorKind;

use crate::files::FileError;
use crate::mail::MailroomError;
use crate::sealed_keys::SealedKeyError;
use crate::services::ServicesError;
use crate::startup::{DatabaseGone, MissingKeys, StartError};
use crate::store::{OpenError, StoreError};
use crate::tokens::key_files::KeyFileError;
use crate::tokens::keys::KeyError;

/// Why the application was not built. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The database cannot be opened or brought up to date, or what is in its place is none of ours.
    #[error("{0}")]
    Database(OpenError),
    /// The folder of data cannot be made or used.
    #[error("{0}")]
    Folder(FileError),
    /// A generated key cannot be used.
    #[error("{0}")]
    KeyFile(KeyFileError),
    /// A key in the database that nodes share cannot be used.
    #[error("{0}")]
    SealedKey(SealedKeyError),
    /// A configured secret cannot be used.
    #[error("a key cannot be used: {0}")]
    Key(KeyError),
    /// Nodes that share a database must share their keys, and there is none to share.
    #[error("{0}")]
    NoSharedKey(String),
    /// The keys have been used with another database, which has gone or is elsewhere.
    #[error("{0}")]
    DatabaseGone(DatabaseGone),
    /// Keys that have signed tokens which are still in use are not there.
    #[error("{0}")]
    MissingKeys(MissingKeys),
    /// The database gave no answer.
    #[error("{}", .0.chain())]
    Store(StoreError),
    /// Mail cannot be written or sent as it is configured.
    #[error("{0}")]
    Mail(MailroomError),
    /// No threads to be had.
    #[error("the system has no threads to give: {0}")]
    Threads(std::io::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; {}", way_out(.source))]
    Bind {
        /// Where.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<ServicesError> for BuildError {
    fn from(error: ServicesError) -> Self {
        match error {
            ServicesError::Threads(error) => Self::Threads(error),
            ServicesError::Store(error) => Self::Store(error),
            ServicesError::Mail(error) => Self::Mail(error),
        }
    }
}

/// What to do about an address that cannot be listened on.
pub(crate) fn way_out(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "ports below 1024 take a privilege: give the process CAP_NET_BIND_SERVICE (AmbientCapabilities= in a systemd \
             unit, or `setcap cap_net_bind_service=+ep` on the program), or set PORT to 1024 or above, behind a proxy"
        }
        ErrorKind::AddrInUse => {
            "another program listens there, perhaps a second Countersign (`ss -ltnp` says which): stop it, or set HOST or \
             PORT to another"
        }
        ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address: set HOST to one that it has, or to 0.0.0.0 or [::] for all"
        }
        _ => "set HOST to an address of this machine, or a name of one, and PORT to a free port",
    }
}

impl From<StartError> for BuildError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Database(error) => Self::Database(error),
            StartError::Folder(error) => Self::Folder(error),
            StartError::DatabaseGone(gone) => Self::DatabaseGone(gone),
            StartError::MissingKeys(missing) => Self::MissingKeys(missing),
            StartError::KeyFile(error) => Self::KeyFile(error),
            StartError::Key(error) => Self::Key(error),
            StartError::SealedKey(error) => Self::SealedKey(error),
            missing @ (StartError::NotShared { .. } | StartError::NoKeys { .. }) => {
                Self::NoSharedKey(missing.to_string())
            }
        }
    }
}
