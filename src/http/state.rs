//! What handlers work with.

use std::future::{Ready, ready};
use std::ops::Deref;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use super::extract::client::TrustedProxies;
use super::extract::cookies::Cookies;
use super::server::Draining;
use crate::background::Tasks;
use crate::current::Current;
use crate::guard::cross_site::Origins;
use crate::metrics::Metrics;
use crate::problem::{Code, Problem};
use crate::sessions::Sessions;
use crate::sign_in::LogIn;
use crate::store::Store;
use crate::tokens::access::AccessTokens;
use crate::tokens::sealing::SealingKeys;
use crate::users::Users;

/// Everything a handler composes its answer from, as it is in force. The application's data has it as a [`Current`].
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) users: Users,
    pub(crate) sessions: Sessions,
    pub(crate) log_in: LogIn,
    /// What seals and opens second factors.
    pub(crate) sealing: Current<SealingKeys>,
    /// What an authenticator shows for this server.
    pub(crate) issuer_name: String,
    pub(crate) access: Arc<AccessTokens>,
    pub(crate) store: Store,
    pub(crate) cookies: Cookies,
    pub(crate) origins: Arc<Origins>,
    pub(crate) proxies: TrustedProxies,
    pub(crate) registration: bool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) draining: Draining,
    /// At work for as long as requests are answered.
    pub(crate) tasks: Arc<Tasks>,
}

/// A handler's argument: what was in force when its request came.
pub(crate) struct State(Arc<AppState>);

impl Deref for State {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0
    }
}

impl FromRequest for State {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let state = req.app_data::<Current<AppState>>().map(|state| Self(state.get()));
        ready(state.ok_or(Code::Internal.into()))
    }
}
