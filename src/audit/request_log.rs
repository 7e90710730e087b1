//! What is found out about a request while it is answered, for its line in the access log.

use std::cell::{Cell, OnceCell};

use super::{Event, Kind, When};
use crate::ids::{SessionId, UserId};

/// The notes on one request. Its handler adds to them; the access log reads them at its end.
#[derive(Debug, Default)]
pub struct RequestLog {
    request_id: String,
    identity: Cell<Option<(UserId, SessionId)>>,
    kind: OnceCell<Kind>,
}

impl RequestLog {
    /// Of the request with this id.
    pub fn new(request_id: String) -> Self {
        Self { request_id, ..Self::default() }
    }

    /// The id of the request: the client's own, or one that was made for it.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Notes who the request was found to come from.
    pub fn identify(&self, user: UserId, session: SessionId) {
        self.identity.set(Some((user, session)));
    }

    /// Who the request was found to come from.
    pub fn identity(&self) -> Option<(UserId, SessionId)> {
        self.identity.get()
    }

    /// The event that the access line alone tells of.
    pub fn kind(&self) -> Option<Kind> {
        self.kind.get().copied()
    }
}

/// At the end of a request, as part of its line in the access log: for what happens too often to have one of its own. The
/// line names user, session and address itself; a second event of one request is not told.
#[derive(Clone, Copy, Debug)]
pub struct OnAccessLine<'a>(pub &'a RequestLog);

impl When for OnAccessLine<'_> {
    type Outcome = ();

    fn emit(self, event: &Event) {
        let _first = self.0.kind.set(event.kind());
    }
}
