//! Security events, and the one way to make them known: [`emit`].
//!
//! An event is kept where its user can read it *in the transaction* that it tells of, and told in the log *after the
//! commit*, or *on the access line* where it is not worth a line of its own. Which of these is the type of `when`:
//! `InTransaction` (in `store::events`, which knows the table), [`AfterCommit`] or [`OnAccessLine`].

mod event;
mod request_log;

pub use self::event::{Event, Kind, RETENTION};
pub use self::request_log::{OnAccessLine, RequestLog};

/// Makes an event known.
pub fn emit<W: When>(when: W, event: &Event) -> W::Outcome {
    when.emit(event)
}

/// When, and so where, an event is made known.
pub trait When {
    /// What can be said of it afterwards.
    type Outcome;

    /// Called by [`emit`].
    fn emit(self, event: &Event) -> Self::Outcome;
}

/// When what the event tells of is committed, or where nothing is to be: a line in the log. A row of it has been written
/// by then.
#[derive(Clone, Copy, Debug)]
pub struct AfterCommit;

impl When for AfterCommit {
    type Outcome = ();

    fn emit(self, event: &Event) {
        event.log();
    }
}
