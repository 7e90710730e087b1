//! The two cookies of a session whose transport is `cookie`.
//!
//! A browser may hold several cookies of one name, which differ in domain and path, and sends them all. So whenever ours
//! is set or cleared, the one that is left over from the other setting of `cookies.domain` is cleared too, before it:
//! some clients take both for the same cookie, and the last line wins.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::{HttpRequest, HttpResponse};

use crate::config;
use crate::guard::cookies;
use crate::guard::cross_site::Origins;
use crate::sessions::{Sessions, TokenPair};

/// The only paths that a refresh cookie is sent to.
const REFRESH_PATH: &str = "/v1/auth";
/// At most so many domains of earlier settings are thought of for each name of this server, the widest first.
const MAX_DOMAINS: usize = 4;
/// The most of them, of all names of this server together, that one answer clears.
const MAX_CLEARED: usize = 12;

/// Names and attributes; section `cookies` of the configuration.
#[derive(Clone)]
pub(crate) struct Cookies {
    config: config::Cookies,
    sessions: Sessions,
    origins: Arc<Origins>,
}

/// One of the two, as it is set and cleared.
struct Slot<'c> {
    name: &'c str,
    path: &'static str,
    same_site: SameSite,
    /// A `__Host-` name: browsers take it with the root path and without a domain only, and read the prefix in any case
    /// (RFC 6265bis section 4.1.3.2).
    host_only: bool,
}

impl Cookies {
    pub(crate) fn new(config: config::Cookies, sessions: Sessions, origins: Arc<Origins>) -> Self {
        Self { config, sessions, origins }
    }

    /// The refresh tokens that came by cookie.
    pub(crate) fn refresh_tokens<'r>(&'r self, req: &'r HttpRequest) -> impl Iterator<Item = Cow<'r, str>> {
        cookies(req, &self.config.refresh_name)
    }

    /// Whatever came in a cookie of either name.
    pub(crate) fn tokens<'r>(&'r self, req: &'r HttpRequest) -> impl Iterator<Item = Cow<'r, str>> {
        cookies(req, &self.config.access_name).chain(cookies(req, &self.config.refresh_name))
    }

    /// Hands out a pair.
    pub(crate) fn set(&self, req: &HttpRequest, response: &mut HttpResponse, pair: &TokenPair) {
        let max_age =
            |seconds: u64| pair.remember.then(|| Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX)));
        for slot in [self.access(), self.refresh()] {
            // One cookie is ours, as it is to be. Only a second one must have come from another scope.
            self.clear_other_scopes(req, response, &slot, 1);
        }
        let own = self.config.domain.as_deref();
        add(response, self.cookie(&self.access(), &pair.access_token, own, max_age(pair.expires_in)));
        add(response, self.cookie(&self.refresh(), pair.refresh_token.expose(), own, max_age(pair.refresh_expires_in)));
    }

    /// Takes both cookies back, if the request came with either.
    pub(crate) fn clear(&self, req: &HttpRequest, response: &mut HttpResponse) {
        if self.tokens(req).next().is_some() {
            self.clear_always(req, response);
        }
    }

    /// Takes both cookies back. The request may have come with neither: from another site the browser sends none.
    pub(crate) fn clear_always(&self, req: &HttpRequest, response: &mut HttpResponse) {
        for slot in [self.access(), self.refresh()] {
            self.clear_other_scopes(req, response, &slot, 0);
        }
        for slot in [self.access(), self.refresh()] {
            add(response, self.cleared(&slot, self.config.domain.as_deref()));
        }
    }

    /// Clears what may be left over under the same name: the cookie of this host, where a domain is configured, and, where
    /// more than `expected` cookies came and all of them are ours, those of the domains that may have been configured
    /// earlier. A cookie that is not ours belongs to another site of the same domain, which would lose it.
    fn clear_other_scopes(&self, req: &HttpRequest, response: &mut HttpResponse, slot: &Slot<'_>, expected: usize) {
        if slot.host_only {
            return;
        }
        let own = self.config.domain.as_deref();
        if own.is_some() {
            add(response, self.cleared(slot, None));
        }
        let is_ours = |token: Cow<'_, str>| self.sessions.session_of(&token).is_some();
        if cookies(req, slot.name).count() <= expected || !cookies(req, slot.name).all(is_ours) {
            return;
        }
        let mut domains: Vec<String> = Vec::new();
        for domain in self.origins.own_names(req).iter().flat_map(|name| domains_of(name)) {
            if Some(domain.as_str()) != own && !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        for domain in domains.iter().take(MAX_CLEARED) {
            add(response, self.cleared(slot, Some(domain)));
        }
    }

    fn access(&self) -> Slot<'_> {
        let name = self.config.access_name.as_str();
        Slot { name, path: "/", same_site: SameSite::Lax, host_only: is_host_only(name) }
    }

    fn refresh(&self) -> Slot<'_> {
        let name = self.config.refresh_name.as_str();
        let host_only = is_host_only(name);
        let same_site = match self.config.same_site {
            config::SameSite::Strict => SameSite::Strict,
            config::SameSite::Lax => SameSite::Lax,
            config::SameSite::None => SameSite::None,
        };
        Slot { name, path: if host_only { "/" } else { REFRESH_PATH }, same_site, host_only }
    }

    fn cleared(&self, slot: &Slot<'_>, domain: Option<&str>) -> Cookie<'static> {
        self.cookie(slot, "", domain, Some(Duration::ZERO))
    }

    /// Without `max_age` the browser forgets it when it is closed.
    fn cookie(&self, slot: &Slot<'_>, value: &str, domain: Option<&str>, max_age: Option<Duration>) -> Cookie<'static> {
        let mut cookie = Cookie::build(slot.name.to_owned(), value.to_owned())
            .path(slot.path)
            .http_only(true)
            .secure(self.config.secure)
            .same_site(slot.same_site)
            .finish();
        if let Some(max_age) = max_age {
            cookie.set_max_age(max_age);
        }
        if let Some(domain) = domain {
            cookie.set_domain(domain.to_owned());
        }
        cookie
    }
}

fn is_host_only(name: &str) -> bool {
    let prefix = name.get(.."__Host-".len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("__Host-"))
}

/// The domains that a cookie of a host may have been set for, the widest first: the host itself and its parents of at least
/// two labels. An address has none.
fn domains_of(name: &str) -> Vec<String> {
    let labels: Vec<&str> = name.split('.').collect();
    let is_label =
        |label: &&str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_name = labels.iter().all(is_label) && labels.last().is_some_and(|top| top.parse::<u32>().is_err());
    if !is_name {
        return Vec::new();
    }
    let widest = labels.len().saturating_sub(2);
    let parents = (0..=widest).rev().filter_map(|from| labels.get(from..)).filter(|labels| labels.len() >= 2);
    parents.take(MAX_DOMAINS).map(|labels| labels.join(".")).collect()
}

/// A cookie whose name or value cannot stand in a header cannot come to be here: names are checked with
/// the configuration, values are tokens, and domains are made of letters.
fn add(response: &mut HttpResponse, cookie: Cookie<'_>) {
    if let Err(error) = response.add_cookie(&cookie) {
        tracing::error!(%error, "a cookie could not be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_those_that_a_browser_takes_from_a_host() {
        for (host, domains) in [
            ("auth.example.com", vec!["example.com", "auth.example.com"]),
            ("example.com", vec!["example.com"]),
            ("a.b.c.d.example.com", vec!["example.com", "d.example.com", "c.d.example.com", "b.c.d.example.com"]),
            ("localhost", vec![]),
            ("127.0.0.1", vec![]),
            ("example.com.", vec![]),
            (".example.com", vec![]),
            ("a b.example.com", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(domains_of(host), domains, "{host}");
        }
    }
}
