//! The two cookies of a session whose transport is `cookie`.

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::{HttpRequest, HttpResponse};

use crate::config;
use crate::guard::cookie;
use crate::sessions::TokenPair;

/// The only paths that a refresh cookie is sent to.
const REFRESH_PATH: &str = "/v1/auth";

/// Names and attributes; section `cookies` of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Cookies(config::Cookies);

impl Cookies {
    pub(crate) fn new(config: config::Cookies) -> Self {
        Self(config)
    }

    /// The refresh token that came by cookie.
    pub(crate) fn refresh_token<'r>(&self, req: &'r HttpRequest) -> Option<&'r str> {
        cookie(req, &self.0.refresh_name)
    }

    /// The name of the access cookie.
    pub(crate) fn access_name(&self) -> &str {
        &self.0.access_name
    }

    /// Hands out a pair.
    pub(crate) fn set(&self, response: &mut HttpResponse, pair: &TokenPair) {
        let seconds = |seconds: u64| Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
        add(response, self.access(pair.access_token.clone(), seconds(pair.expires_in)));
        add(response, self.refresh(pair.refresh_token.expose().to_owned(), seconds(pair.refresh_expires_in)));
    }

    /// Takes back whichever cookies the request came with.
    pub(crate) fn clear(&self, req: &HttpRequest, response: &mut HttpResponse) {
        if cookie(req, &self.0.access_name).is_some() || cookie(req, &self.0.refresh_name).is_some() {
            add(response, self.access(String::new(), Duration::ZERO));
            add(response, self.refresh(String::new(), Duration::ZERO));
        }
    }

    fn access(&self, value: String, max_age: Duration) -> Cookie<'static> {
        self.cookie(&self.0.access_name, value, "/", SameSite::Lax, max_age)
    }

    fn refresh(&self, value: String, max_age: Duration) -> Cookie<'static> {
        // The __Host- prefix demands the root path, and browsers read it in any case (RFC 6265bis section 4.1.3.2).
        let prefix = self.0.refresh_name.get(.."__Host-".len());
        let bound = prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("__Host-"));
        let path = if bound { "/" } else { REFRESH_PATH };
        self.cookie(&self.0.refresh_name, value, path, SameSite::Strict, max_age)
    }

    fn cookie(
        &self,
        name: &str,
        value: String,
        path: &'static str,
        same_site: SameSite,
        max_age: Duration,
    ) -> Cookie<'static> {
        let mut cookie = Cookie::build(name.to_owned(), value)
            .path(path)
            .http_only(true)
            .secure(self.0.secure)
            .same_site(same_site)
            .max_age(max_age)
            .finish();
        if let Some(domain) = &self.0.domain {
            cookie.set_domain(domain.clone());
        }
        cookie
    }
}

/// A cookie whose name or value cannot stand in a header cannot come to be here: names are checked with
/// the configuration, and values are tokens.
fn add(response: &mut HttpResponse, cookie: Cookie<'_>) {
    if let Err(error) = response.add_cookie(&cookie) {
        tracing::error!(%error, "a cookie could not be set");
    }
}
