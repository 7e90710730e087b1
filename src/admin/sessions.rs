//! Sessions.

use super::Error;
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::sessions::administration::Administration;
use crate::store::sessions::OwnedSession;

/// Live sessions: listed and ended. Clones share what is behind them.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) sessions: Administration,
}

/// A live session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Session {
    /// Its id: `sid` of its access tokens.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// The account's e-mail address.
    pub email: String,
    /// What the client calls its device.
    pub device_name: Option<String>,
    /// `User-Agent` of the last refresh.
    pub user_agent: Option<String>,
    /// The client's address at the last refresh.
    pub ip_address: Option<String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last refreshed.
    pub last_used_at: Timestamp,
    /// When it ends, however it is used.
    pub expires_at: Timestamp,
}

impl Sessions {
    /// Some live sessions, of one user or of all, in the order in which they were opened, from the one after `after` on.
    /// None: there are no more.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn page(&self, user: Option<UserId>, after: Option<SessionId>) -> Result<Vec<Session>, Error> {
        Ok(self.sessions.page(user, after).await?.into_iter().map(Session::from).collect())
    }

    /// Ends a session. `false`: it is over already, or there is none.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn end(&self, id: SessionId) -> Result<bool, Error> {
        let ended = self.sessions.end(id).await?;
        Ok(ended)
    }

    /// Ends every session of a user, and returns how many there were.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn end_all_of(&self, user: UserId) -> Result<usize, Error> {
        let ended = self.sessions.end_all_of(user).await?;
        Ok(ended)
    }

    /// Ends every session that was opened at `since` or later, a few at a time, and returns how many.
    ///
    /// # Errors
    ///
    /// If the database gave no answer. Those that had ended by then have ended.
    pub async fn end_opened_since(&self, since: Timestamp) -> Result<usize, Error> {
        let ended = self.sessions.end_opened_since(since).await?;
        Ok(ended)
    }
}

impl From<OwnedSession> for Session {
    fn from(owned: OwnedSession) -> Self {
        let OwnedSession { session, user_id, email } = owned;
        Self {
            id: session.id,
            user_id,
            email,
            device_name: session.device_name,
            user_agent: session.user_agent,
            ip_address: session.ip_address,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            expires_at: session.expires_at,
        }
    }
}
