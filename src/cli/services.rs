//! What commands work with: the database that is there, and the services that need neither a socket nor a key.
//!
//! Nothing is made here: where there is no database, or one of an earlier version, the command is refused.

use std::future::Future;

use super::Failure;
use super::listing::visible;
use crate::config::{Config, Database};
use crate::services::{Accounts, ServicesError};
use crate::store::users::AccountRow;
use crate::store::{self, DatabaseState, OpenError, Store, StoreError};
use crate::users::UserError;

/// Opens the database, which must be there and up to date. A server may be running on it.
pub fn open(config: &Config) -> Result<Accounts, Failure> {
    find(&config.database)?;
    let store = Store::open_for_operator(&config.database).map_err(|error| OpenError::new(&config.database, error))?;
    Accounts::of_a_command(config, store).map_err(|error| match error {
        ServicesError::Threads(error) => error.into(),
        ServicesError::Store(error) => unanswered(error),
        ServicesError::Mail(error) => Failure(error.to_string()),
    })
}

/// The account with this address or id. It is an error if there is none.
pub async fn account(accounts: &Accounts, name: &str) -> Result<AccountRow, Failure> {
    accounts.users.find(name).await.map_err(unanswered)?.ok_or_else(|| no_account(name))
}

/// Makes sure that the database is there, and is as this version needs it.
pub fn find(database: &Database) -> Result<(), Failure> {
    let shown = visible(&store::name(database));
    match Store::find(database)? {
        DatabaseState::Ready => Ok(()),
        DatabaseState::Missing => Err(Failure(format!(
            "{shown} is not there: run this where the server runs, or name its configuration with --config; \
             `countersign migrate` makes a new one"
        ))),
        DatabaseState::Outdated => Err(Failure(format!("{shown} is not up to date: run `countersign migrate` first"))),
    }
}

/// Runs a command on this thread.
pub fn wait_for<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// There is no account with this address or id.
pub fn no_account(name: &str) -> Failure {
    let name = visible(name);
    Failure(format!("no account has the e-mail address or id {name}; `countersign user list` shows all of them"))
}

/// Why nothing has become of it.
pub fn refused(error: UserError) -> Failure {
    match error {
        UserError::Invalid(errors) => {
            let told = errors.iter().map(|error| format!("{} {}", error.field, error.message));
            Failure(told.collect::<Vec<_>>().join("; "))
        }
        UserError::Store(error) => unanswered(error),
        UserError::EmailTaken => Failure("another account has that e-mail address; nothing was changed".into()),
        UserError::Gone => Failure("the account has just been deleted".into()),
        other => other.into(),
    }
}

/// The database gave no answer.
pub fn unanswered(error: StoreError) -> Failure {
    match &error {
        StoreError::Busy => Failure("the database is busy; try again".into()),
        StoreError::Unavailable(_) | StoreError::Broken(_) => {
            Failure(format!("{error}: {}; look whether it is done, and try again", error.cause()))
        }
    }
}
