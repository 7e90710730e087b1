//! What commands work with: the database that is there, and the services that need neither a socket nor a key.
//!
//! Nothing is made here: where there is no database, or one of an earlier version, the command is refused.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::Duration;

use super::Failure;
use super::listing::visible;
use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::passwords::Hasher;
use crate::sessions::administration::Administration;
use crate::store::users::AccountRow;
use crate::store::{Presence, Store, StoreError};
use crate::users::budget::Budget;
use crate::users::{UserError, Users};

/// Accounts and sessions in the hands of an operator.
pub struct Services {
    /// Accounts.
    pub users: Users,
    /// Sessions.
    pub sessions: Administration,
    /// Now.
    pub clock: Clock,
    store: Store,
}

/// A command leaves no log beside an embedded database, unless a server is at work on it.
impl Drop for Services {
    fn drop(&mut self) {
        self.store.empty_log_blocking(Duration::ZERO);
    }
}

impl Services {
    /// Opens the database, which must be there and up to date. A server may be running on it.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        find(&config.database)?;
        let store = Store::open_for_operator(&config.database).map_err(unanswered)?;
        let passwords = &config.passwords;
        let hasher = Hasher::start(passwords.bcrypt_cost, passwords.pepper.as_ref(), &passwords.peppers_previous)?;
        let clock = Clock::system();
        // What is ended here must be found by servers, which go by the database's clock.
        clock.follow(|| store.now_blocking()).map_err(unanswered)?;
        // An operator guesses at no password.
        let budget = Budget::new(store.clone(), clock.clone(), None);
        let users = Users::new(store.clone(), clock.clone(), hasher, budget, passwords.min_length);
        Ok(Self { users, sessions: Administration::new(store.clone(), clock.clone()), clock, store })
    }

    /// The account with this address. It is an error if there is none.
    pub async fn account(&self, email: &str) -> Result<AccountRow, Failure> {
        self.users.find(email).await.map_err(unanswered)?.ok_or_else(|| nobody(email))
    }
}

/// Makes sure that the database is there, and is as this version needs it.
fn find(database: &Database) -> Result<(), Failure> {
    let shown = match database {
        Database::Sqlite(path) => {
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            visible(&whole.display().to_string())
        }
        // Its URL could hold a password.
        Database::Postgres(_) => "that database.url names".to_owned(),
    };
    Err(Failure(match Store::look(database) {
        Ok(Presence::Ready) => return Ok(()),
        Ok(Presence::Missing) => format!(
            "there is no database at {shown}: run this where the server runs, or name its configuration with --config; \
             `countersign migrate` makes a new one"
        ),
        Ok(Presence::Outdated) => format!("the database {shown} is not up to date: run `countersign migrate` first"),
        Err(error) => {
            let hint = match &error {
                StoreError::Unavailable(cause) if is_denied(cause.as_ref()) => {
                    "run this as the user that the server runs as"
                }
                _ => "`countersign check-config` says where it was named",
            };
            format!("the database {shown} cannot be opened: {}; {hint}", cause(&error))
        }
    }))
}

fn is_denied(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// Runs a command on this thread.
pub fn wait_for<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// There is no account with this address.
pub fn nobody(email: &str) -> Failure {
    Failure(format!("nobody has the e-mail address {}; `countersign user list` shows everybody", visible(email)))
}

/// Why nothing has become of it.
pub fn refused(error: UserError) -> Failure {
    match error {
        UserError::Invalid(errors) => {
            let told = errors.iter().map(|error| format!("{} {}", error.field, error.message));
            Failure(told.collect::<Vec<_>>().join("; "))
        }
        UserError::Store(error) => unanswered(error),
        UserError::Gone => Failure("the account has just been deleted".into()),
        other => other.into(),
    }
}

/// The database gave no answer.
pub fn unanswered(error: StoreError) -> Failure {
    match &error {
        StoreError::Busy => Failure("the database is busy; try again".into()),
        StoreError::Unavailable(_) | StoreError::Broken(_) => {
            Failure(format!("{error}: {}; look whether it is done, and try again", cause(&error)))
        }
    }
}

/// The database cannot be opened or brought up to date.
pub fn unopened(error: StoreError) -> Failure {
    Failure(format!(
        "the database cannot be brought up to date: {}; `countersign check-config` says where it was named",
        cause(&error)
    ))
}

/// What is at the bottom of it.
fn cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}
