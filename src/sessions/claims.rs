//! What access tokens say besides: the claims of the account, and those that the application adds.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Sessions;
use crate::ids::UserId;
use crate::store::StoreError;
use crate::tokens::claims::{ExtraClaims, MAX_CLAIMS, fit};

/// How long the application may take.
const PATIENCE: Duration = Duration::from_secs(5);

type Asked = Pin<Box<dyn Future<Output = Result<Map<String, Value>, Failed>> + Send>>;
type Failed = Box<dyn std::error::Error + Send + Sync>;
/// What the application adds. None: there is none that would.
pub(super) type Added = Option<Map<String, Value>>;

/// Asks the application what the access tokens of a user are to say besides.
#[derive(Clone)]
pub struct ClaimsHook(Arc<dyn Fn(UserId) -> Asked + Send + Sync>);

impl ClaimsHook {
    /// Of a function of the application's.
    pub fn new<F, A, E>(hook: F) -> Self
    where
        F: Fn(UserId) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Map<String, Value>, E>> + Send + 'static,
        E: Into<Failed>,
    {
        Self(Arc::new(move |user| {
            let asked = hook(user);
            Box::pin(async { asked.await.map_err(Into::into) })
        }))
    }
}

impl fmt::Debug for ClaimsHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimsHook")
    }
}

/// Why nothing was added, and no token is issued.
#[derive(Debug, thiserror::Error)]
enum NotAdded {
    #[error("the application did not say within {} seconds what access tokens are to say besides", PATIENCE.as_secs())]
    Late,
    #[error("the application could not say what access tokens are to say besides")]
    Failed(#[source] Failed),
    #[error("the claims that the application adds take up more than {MAX_CLAIMS} bytes")]
    TooLarge,
}

impl Sessions {
    /// Has the application asked from now on, in the place of whatever was asked before.
    pub fn set_claims_hook(&self, hook: ClaimsHook) {
        self.0.claims_hook.replace(Some(hook));
    }

    /// What the application adds for a user.
    pub(super) async fn added_claims(&self, user: UserId) -> Result<Added, StoreError> {
        let asked = match self.0.claims_hook.peek().as_ref() {
            None => return Ok(None),
            Some(ClaimsHook(hook)) => hook(user),
        };
        // Nothing is issued without: what is left out might have been a restriction.
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(members)) if fit(&members) => Ok(Some(members)),
            Ok(Ok(_)) => Err(StoreError::Broken(NotAdded::TooLarge.into())),
            Ok(Err(error)) => Err(StoreError::Unavailable(NotAdded::Failed(error).into())),
            Err(_elapsed) => Err(StoreError::Unavailable(NotAdded::Late.into())),
        }
    }
}

/// All of them: those of the account come first.
pub(super) fn extra(stored: Option<&str>, added: Added) -> ExtraClaims {
    let own = ExtraClaims::stored(stored);
    match added {
        Some(added) => own.and(added),
        None => own,
    }
}
