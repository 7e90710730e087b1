//! What handlers work with.

use std::sync::Arc;

use super::extract::client::TrustedProxies;
use super::extract::cookies::Cookies;
use super::server::Draining;
use crate::background::Tasks;
use crate::guard::cross_site::Origins;
use crate::sessions::Sessions;
use crate::store::Store;
use crate::tokens::access::AccessTokens;
use crate::users::Users;

/// Everything a handler composes its answer from.
pub(crate) struct AppState {
    pub(crate) users: Users,
    pub(crate) sessions: Sessions,
    pub(crate) access: Arc<AccessTokens>,
    pub(crate) store: Store,
    pub(crate) cookies: Cookies,
    pub(crate) origins: Origins,
    pub(crate) proxies: TrustedProxies,
    pub(crate) registration: bool,
    pub(crate) draining: Draining,
    /// At work for as long as requests are answered.
    pub(crate) tasks: Tasks,
}
