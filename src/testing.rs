//! Tokens for the tests of your own application. Only with the feature `testing`, which belongs in `[dev-dependencies]`.
//!
//! A [`TestServer`] has a database and keys of its own, in a folder that goes with it, and a clock that stands still until
//! the test moves it. Its tokens are good for nothing else: no key that is in use anywhere signs them.
//!
//! ```
//! use std::time::Duration;
//!
//! use actix_web::{App, http::StatusCode, test, web};
//! use countersign::guard::Principal;
//! use countersign::testing::TestServer;
//!
//! async fn orders(caller: Principal) -> String {
//!     format!("the orders of {}", caller.user_id())
//! }
//!
//! # #[actix_web::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // #[actix_web::test] async fn orders_are_for_those_who_are_signed_in() {
//! let server = TestServer::start()?;
//! let countersign = server.countersign().clone();
//! let routes = App::new().configure(|config| countersign.configure(config)).route("/orders", web::get().to(orders));
//! let app = test::init_service(routes).await;
//!
//! let ada = server.sign_in("ada@example.com", &["customer"]).await?;
//! let request = || test::TestRequest::get().uri("/orders").insert_header(ada.authorization()).to_request();
//! assert_eq!(test::call_service(&app, request()).await.status(), StatusCode::OK);
//!
//! server.clock().advance(Duration::from_secs(16 * 60));
//! assert_eq!(test::call_service(&app, request()).await.status(), StatusCode::UNAUTHORIZED);
//! # Ok(())
//! # }
//! ```

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{App, test};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admin::{self, NewUser};
use crate::app::{BuildError, Countersign};
use crate::clock::{Clock, Timestamp};
use crate::config::{Mistakes, RawConfig};
use crate::ids::{SessionId, UserId};

/// The password of every account that [`TestServer::sign_in`] makes.
pub const PASSWORD: &str = "a password for tests only";

/// Where the clock stands at first: 2027-01-15T08:00:00Z.
const START: i64 = 1_800_000_000;

/// Why a test cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestError {
    /// No folder could be made.
    #[error("no temporary folder: {0}")]
    Folder(#[from] std::io::Error),
    /// The configuration is not accepted.
    #[error("{0}")]
    Config(#[from] Mistakes),
    /// It did not start.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The account could not be made.
    #[error(transparent)]
    User(#[from] admin::Error),
    /// The log-in was refused: the status and the body.
    #[error("the log-in was answered {0}: {1}")]
    SignIn(StatusCode, String),
}

/// A Countersign of a test's own. Dropping it removes its database and keys.
pub struct TestServer {
    countersign: Countersign,
    clock: Clock,
    _folder: TempDir,
}

/// A signed-in user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedIn {
    /// Who.
    pub user_id: UserId,
    /// The session.
    pub session_id: SessionId,
    /// A genuine access token.
    pub access_token: String,
    /// Its refresh token.
    pub refresh_token: String,
}

impl SignedIn {
    /// The header of a request: `Authorization: Bearer …`.
    pub fn authorization(&self) -> (&'static str, String) {
        (AUTHORIZATION.as_str(), format!("Bearer {}", self.access_token))
    }
}

impl TestServer {
    /// With the defaults, but for passwords that are cheap to check.
    ///
    /// # Errors
    ///
    /// If there is no folder to be had, or no thread.
    pub fn start() -> Result<Self, TestError> {
        Self::start_with(|config| config)
    }

    /// The same with keys of the configuration set: `|config| config.with("tokens.access_ttl", "1m")`. The database is
    /// always one of its own.
    ///
    /// # Errors
    ///
    /// If the configuration is not accepted, or there is no folder or no thread to be had.
    pub fn start_with(configure: impl FnOnce(RawConfig) -> RawConfig) -> Result<Self, TestError> {
        let folder = tempfile::tempdir()?;
        let config = configure(RawConfig::default().with("passwords.bcrypt_cost", "4"));
        let database = format!("sqlite:{}", folder.path().join("countersign.db").display());
        let clock = Clock::manual(Timestamp::from_seconds(START));
        let countersign =
            Countersign::open_with_clock(&config.with("database.url", database).resolve()?, clock.clone())?;
        Ok(Self { countersign, clock, _folder: folder })
    }

    /// What is mounted in the application, and has the accounts and sessions.
    pub fn countersign(&self) -> &Countersign {
        &self.countersign
    }

    /// Its time, which the test moves.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Logs in a user with exactly these roles, who is registered first if need be.
    ///
    /// # Errors
    ///
    /// [`TestError`].
    pub async fn sign_in(&self, email: &str, roles: &[&str]) -> Result<SignedIn, TestError> {
        let users = self.countersign.users();
        let user = match users.find(email).await? {
            Some(user) => user,
            None => users.create(NewUser::new(email, PASSWORD)).await?,
        };
        for role in roles.iter().filter(|role| !user.roles.iter().any(|has| has == *role)) {
            users.grant(user.id, *role).await?;
        }
        for role in user.roles.iter().filter(|role| !roles.contains(&role.as_str())) {
            users.revoke_role(user.id, role.as_str()).await?;
        }
        // As a client does it, so that everything is as it is in earnest.
        let app = test::init_service(App::new().configure(|config| self.countersign.configure(config))).await;
        let body = json!({ "email": email, "password": PASSWORD });
        let request = test::TestRequest::post().uri("/v1/auth/login").set_json(&body).to_request();
        let response = test::call_service(&app, request).await;
        let status = response.status();
        let body = test::read_body(response).await;
        let refused = || TestError::SignIn(status, String::from_utf8_lossy(&body).into_owned());
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let member = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(refused);
        Ok(SignedIn {
            user_id: user.id,
            session_id: member("session_id")?.parse().map_err(|_no_id| refused())?,
            access_token: member("access_token")?,
            refresh_token: member("refresh_token")?,
        })
    }
}
