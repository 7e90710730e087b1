//! Mail into files, for development.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use uuid::Uuid;

use super::SendError;
use super::format::Letter;
use super::transport::shown;
use crate::clock::Timestamp;
use crate::files::{FileError, create_private_folder, fill_new};

/// Writes `letter` into `folder`, whole, for its owner alone. Names are in the order of time.
///
/// # Errors
///
/// The system refuses.
pub fn send(folder: &Path, letter: &Letter, id: Uuid, at: Timestamp) -> Result<(), SendError> {
    let moment: String = at.to_rfc3339_micros().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let path = folder.join(format!("{moment}-{id}.eml"));
    let write = |draft: &Path| {
        let written = OpenOptions::new().write(true).open(draft).and_then(|mut file| file.write_all(&letter.bytes));
        written.map_err(|error| FileError::new(&path, "written", error))
    };
    // One that is there already is this very mail.
    let written = create_private_folder(folder).and_then(|()| fill_new(&path, write));
    written.map(|_is_new| ()).map_err(|error| SendError::Misconfigured(shown(&error.to_string())))
}
