//! Cross-site requests: a cookie says who a browser belongs to, not which page made it speak.

use std::net::Ipv6Addr;

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};

use super::peer::peer;
use crate::audit::{AfterCommit, Event, Kind, emit};
use crate::network::TrustedNetworks;
use crate::problem::{Code, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Which pages may use cookies here, and which may read answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    /// `cors.allowed_origins`, in lower case.
    allowed: Vec<String>,
    /// Those of the issuer and of `server.public_urls`.
    own: Vec<Origin>,
    proxies: TrustedNetworks,
}

impl Origins {
    /// `urls` are those that clients know the server by.
    pub(crate) fn new<'u>(
        allowed: Vec<String>,
        urls: impl IntoIterator<Item = &'u str>,
        proxies: TrustedNetworks,
    ) -> Self {
        let own = urls.into_iter().filter_map(|url| {
            let (scheme, rest) = url.split_once("://")?;
            let authority = rest.split('/').next().unwrap_or_default();
            Origin::new(scheme, authority)
        });
        Self { allowed, own: own.collect(), proxies }
    }

    /// Whether pages of any other origin may read answers.
    pub(crate) fn any_allowed(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// The origin that a request comes from, if its pages may read answers.
    pub(crate) fn reader<'r>(&self, headers: &'r HeaderMap) -> Option<&'r HeaderValue> {
        headers.get(ORIGIN).filter(|origin| self.may_read(origin))
    }

    /// Whether pages of an origin may read answers.
    pub(crate) fn may_read(&self, origin: &HeaderValue) -> bool {
        self.allowed.iter().any(|allowed| *allowed == *origin)
    }

    /// Whether no page of another site can have caused the request, or it changes nothing.
    pub(crate) fn is_this_site(&self, req: &HttpRequest) -> bool {
        matches!(*req.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) || self.allows(req)
    }

    /// Refuses an unsafe method that a page of another site may have caused. Only for requests that a
    /// cookie authenticates. No `Sec-Fetch-Site` and no `Origin` means no browser.
    ///
    /// # Errors
    ///
    /// 403 `cross_site`.
    pub(crate) fn check(&self, req: &HttpRequest) -> Result<(), Problem> {
        if self.is_this_site(req) {
            return Ok(());
        }
        emit(AfterCommit, &Event::new(Kind::CrossSite));
        Err(Code::CrossSite.into())
    }

    /// The names that a browser may know this server by: what was asked for and, behind a trusted proxy, what that was asked
    /// for, and those of the issuer and `server.public_urls`. An address is none.
    pub(crate) fn own_names(&self, req: &HttpRequest) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let by_proxy = self.is_by_proxy(req);
        let asked = req.headers().get(HOST).into_iter();
        let asked = asked
            .chain(req.headers().get_all(FORWARDED_HOST).filter(|_| by_proxy))
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let asked = asked.filter_map(|name| parse_authority(str::from_utf8(name.trim_ascii()).ok()?));
        let own = self.own.iter().filter(|_| by_proxy).map(|origin| origin.host.clone());
        for host in asked.map(|(host, _port)| host).chain(own) {
            match host {
                Host::Name(name) if !names.contains(&name) => names.push(name),
                Host::Name(_) | Host::V6(_) => {}
            }
        }
        names
    }

    fn is_by_proxy(&self, req: &HttpRequest) -> bool {
        peer(req).is_some_and(|peer| self.proxies.trust(peer))
    }

    fn allows(&self, req: &HttpRequest) -> bool {
        let header = |name: &HeaderName| req.headers().get(name).map(|value| value.to_str().unwrap_or("null"));
        let origin = header(&ORIGIN);
        let listed =
            origin.is_some_and(|origin| self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)));
        match (header(&SEC_FETCH_SITE), origin) {
            (Some("same-origin" | "none"), _) | (None, None) => true,
            (Some(_), _) => listed,
            (None, Some(origin)) => listed || self.is_this_host(origin, req),
        }
    }

    /// Whether an origin is where the request was sent to. Behind a proxy that ends TLS the scheme cannot be told.
    fn is_this_host(&self, origin: &str, req: &HttpRequest) -> bool {
        let Some(origin) = origin.split_once("://").and_then(|(scheme, authority)| Origin::new(scheme, authority))
        else {
            return false;
        };
        if self.own.contains(&origin) {
            return true;
        }
        let is_named = |value: &HeaderValue| {
            // Each proxy may add what it was asked for: any of them can be the name that the browser knows. No page can
            // make a browser send this header without asking first.
            let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            names.filter_map(|name| str::from_utf8(name).ok()).any(|name| origin.is_at(name))
        };
        req.headers().get(HOST).is_some_and(|host| host.to_str().is_ok_and(|host| origin.is_at(host)))
            || (self.is_by_proxy(req) && req.headers().get_all(FORWARDED_HOST).any(is_named))
    }
}

/// Scheme, host and port of a page or a server (RFC 6454), comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    secure: bool,
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// A name or an IPv4 address, in lower case.
    Name(String),
    V6(Ipv6Addr),
}

impl Origin {
    fn new(scheme: &str, authority: &str) -> Option<Self> {
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let (host, port) = parse_authority(authority)?;
        Some(Self { secure, host, port: port.unwrap_or(default_port(secure)) })
    }

    /// Whether that is what a `Host` header says, which may leave out the default port.
    fn is_at(&self, host: &str) -> bool {
        parse_authority(host)
            .is_some_and(|(host, port)| host == self.host && port.unwrap_or(default_port(self.secure)) == self.port)
    }
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// `host` or `host:port`, an IPv6 address in brackets.
fn parse_authority(text: &str) -> Option<(Host, Option<u16>)> {
    let port_at = text.rfind(':').filter(|at| !text.get(*at..).is_some_and(|rest| rest.contains(']')));
    let (host, port) = match port_at {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?),
        None => (text, ""),
    };
    let port = match port {
        // RFC 3986 section 3.2.3: nothing behind the colon means no port.
        "" => None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => Host::V6(inside.parse().ok()?),
        None if host.is_empty() || host.contains(['[', ']', ':', '@', '/', '#', '?', ' ']) => return None,
        None => Host::Name(host.to_ascii_lowercase()),
    };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host is compared without case and without the default port of the scheme.
    #[test]
    fn a_host_is_compared_without_case_and_default_port() {
        for (origin, host, same) in [
            ("https://x", "x", true),
            ("https://x", "x:443", true),
            ("https://x:443", "x", true),
            ("http://x", "x:80", true),
            ("https://x", "X.", false),
            ("https://x.example", "X.Example:443", true),
            ("http://x", "x:443", false),
            ("https://x", "x:80", false),
            ("https://x:8443", "x", false),
            ("https://x:8443", "x:8443", true),
            ("https://x", "x:", true),
            ("http://[::1]", "[::1]:80", true),
            ("http://[::1]:8080", "[0:0:0:0:0:0:0:1]:8080", true),
            ("http://[::1]", "[::2]", false),
            ("http://x", "y", false),
            ("http://x", "", false),
            ("http://x", "x.evil", false),
            ("http://evil@x", "x", false),
            ("http://x#", "x", false),
            ("http://x/", "x", false),
            ("ftp://x", "x", false),
            ("null", "x", false),
            ("", "", false),
            ("http://x:99999", "x:99999", false),
        ] {
            let parsed = origin.split_once("://").and_then(|(scheme, authority)| Origin::new(scheme, authority));
            assert_eq!(parsed.is_some_and(|origin| origin.is_at(host)), same, "{origin} {host}");
        }
    }
}
