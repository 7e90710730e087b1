//! Cross-site requests: a cookie says who a browser belongs to, not which page made it speak.

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderName, ORIGIN};

use crate::events::{Event, Kind};
use crate::problem::{Code, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The origins, besides our own, whose pages may use cookies here; `cors.allowed_origins`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(Vec<String>);

impl Origins {
    pub(crate) fn new(allowed: Vec<String>) -> Self {
        Self(allowed)
    }

    /// Refuses an unsafe method that a page of another site may have caused. Only for requests that a
    /// cookie authenticates. No `Sec-Fetch-Site` and no `Origin` means no browser.
    ///
    /// # Errors
    ///
    /// 403 `cross_site`.
    pub(crate) fn check(&self, req: &HttpRequest) -> Result<(), Problem> {
        if matches!(*req.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) || self.allows(req) {
            return Ok(());
        }
        Event::new(Kind::CrossSite).record();
        Err(Code::CrossSite.into())
    }

    fn allows(&self, req: &HttpRequest) -> bool {
        let header = |name: &HeaderName| req.headers().get(name).map(|value| value.to_str().unwrap_or("null"));
        let origin = header(&ORIGIN);
        let listed = origin.is_some_and(|origin| self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)));
        match (header(&SEC_FETCH_SITE), origin) {
            (Some("same-origin" | "none"), _) | (None, None) => true,
            (Some(_), _) => listed,
            (None, Some(origin)) => listed || is_this_host(origin, header(&HOST)),
        }
    }
}

/// Whether an origin is the host that the request names. Behind a proxy that ends TLS the scheme cannot be told.
fn is_this_host(origin: &str, host: Option<&str>) -> bool {
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    matches!((authority, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}
