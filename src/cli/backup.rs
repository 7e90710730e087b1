//! `backup`: a copy of the embedded database, while a server is at work on it or not.

use std::path::Path;

use super::listing::visible;
use super::{Failure, say, services};
use crate::config::{Config, Database};
use crate::files;
use crate::store::{OpenError, Store};

/// Copies the database into `file`, which must not be there.
pub fn run(config: &Config, file: &Path) -> Result<(), Failure> {
    if matches!(config.database, Database::Postgres(_)) {
        return Err(Failure("the database is PostgreSQL: copy it with its own tools, such as pg_dump".into()));
    }
    services::find(&config.database)?;
    // A copy of what is damaged would pass for a backup.
    Store::inspect_for_operator(&config.database).map_err(|error| OpenError::new(&config.database, error))?;
    let copied = files::fill_new(file, |draft| {
        Store::copy_blocking(&config.database, draft)
            .map_err(|error| Failure(format!("the database could not be copied: {}; nothing was made", error.cause())))
    })?;
    let shown = visible(&files::absolute(file).display().to_string());
    if !copied {
        return Err(Failure(format!("{shown} is there already, and is not overwritten: name another file")));
    }
    let keys = visible(&files::absolute(&config.data_dir.join("keys")).display().to_string());
    say(format_args!("copied the database to {shown}"))?;
    say(format_args!(
        "keep its keys with it, those in {keys} or the configured secrets: without them all users must sign in again"
    ))
}
