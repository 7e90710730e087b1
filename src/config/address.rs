//! Hosts, origins, issuers, proxies and cookie names. Every error is the end of a sentence that
//! begins with the value.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::email;
use crate::network::Proxy;

/// An IP address or a host name to listen on; brackets around an IPv6 address are dropped.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|inside| inside.parse::<Ipv6Addr>().is_ok())
        .unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() || is_name(bare) {
        return Ok(bare.to_owned());
    }
    Err("is neither an IP address nor a host name (the port is server.port)".to_owned())
}

/// Whether `host` can only be reached from this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// A plausible host name: labels of letters, digits, `-` and `_`, the last one not a number.
fn is_name(text: &str) -> bool {
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(label_fits) && !last.chars().all(|c| c.is_ascii_digit())
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`, as host (IPv6 in brackets, shortest form) and port.
pub(super) fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let port_of = |text: &str| {
        let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let host = format!("[{}]", inside.parse::<Ipv6Addr>().ok()?);
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port_of(port)?))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port_of(port)?)),
        None => (text, None),
    };
    let known = is_name(host) || host.parse::<std::net::Ipv4Addr>().is_ok();
    known.then(|| (host.to_owned(), port))
}

/// An absolute `http` or `https` URL with nothing behind its path; kept exactly as written, since
/// issuers are compared byte by byte.
pub(super) fn issuer(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or("does not begin with https:// or http://")?;
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    if rest.contains(['?', '#', '@']) {
        return Err("has a query, a fragment or a user name: an issuer has none".to_owned());
    }
    if rest.ends_with('/') {
        return Err("ends with a slash: leave it out".to_owned());
    }
    let path_fits = path.chars().all(|c| c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=:/".contains(c));
    if authority(place).is_none() || !path_fits {
        return Err("is not a URL like https://auth.example.com".to_owned());
    }
    Ok(text.to_owned())
}

/// A web origin, `scheme://host[:port]`, as browsers write it: lower-case, without a default port.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if lower == "null" || lower.contains('*') {
        return Err("would let pages of strangers in with credentials: name each origin".to_owned());
    }
    let wrong = "is not an origin: write scheme://host or scheme://host:port, \
                 without a path or a slash at the end";
    let (scheme, place) = lower.split_once("://").ok_or(wrong)?;
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let (host, port) = authority(place).filter(|_| scheme_fits).ok_or(wrong)?;
    let default = match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    Ok(match port.filter(|port| Some(*port) != default) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// A domain of e-mail addresses, in any script, as A-labels.
pub(super) fn mail_domain(text: &str) -> Result<String, String> {
    email::domain(text)
        .filter(|domain| is_name(domain) && domain.contains('.'))
        .ok_or_else(|| "is not a domain such as example.com".to_owned())
}

/// An address, a network in CIDR form, of which bits behind the prefix are cleared, or `unix`.
pub(super) fn proxy(text: &str) -> Result<Proxy, String> {
    if text == "unix" {
        return Ok(Proxy::Unix);
    }
    let plain = text.parse::<IpAddr>().map(IpNet::from);
    plain
        .or_else(|_| text.parse::<IpNet>())
        .map(|network| Proxy::Network(network.trunc()))
        .map_err(|error| format!("is neither an address nor a network such as 10.0.0.0/8 ({error}), nor unix"))
}

/// An IP address and port to listen on.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|error| format!("is not an IP address and port such as 127.0.0.1:9464 ({error})"))
}

/// A cookie name as RFC 6265 section 4.1.1 allows it.
pub(super) fn cookie_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if text.is_empty() || !text.chars().all(fits) {
        return Err("is not a cookie name: letters, digits and !#$%&'*+-.^_`|~ only".to_owned());
    }
    Ok(text.to_owned())
}

/// A `Domain` attribute: a host name of at least two labels, since browsers ignore a cookie for
/// a whole top-level name. A dot at the start means nothing to them and is dropped.
pub(super) fn cookie_domain(text: &str) -> Result<String, String> {
    let name = text.strip_prefix('.').unwrap_or(text);
    if !is_name(name) || !name.contains('.') || name.contains('_') {
        return Err("is not a domain that a cookie can have, such as example.com".to_owned());
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_name_without_port() {
        for (text, host_of_it) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("[::]", "::"),
            ("localhost", "localhost"),
            ("auth_1.internal", "auth_1.internal"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(host_of_it));
        }
        let long = format!("{}.example", "a".repeat(64));
        for text in [
            "",
            "127.0.0.1:80",
            "http://a",
            "a b",
            "-a",
            "a-",
            "a..b",
            "1.2.3",
            "256.1.1.1",
            "[localhost]",
            "bücher.example",
            &long,
            "a.",
        ] {
            assert!(host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn loopback_is_what_only_this_machine_reaches() {
        for host in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "LocalHost", "a.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn an_issuer_is_kept_exactly_as_written() {
        for text in [
            "https://auth.example.com",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "https://Example.com/realms/a",
            "https://example.com:443",
        ] {
            assert_eq!(issuer(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_cannot_be_an_issuer_is_refused() {
        for text in [
            "",
            "auth.example.com",
            "//example.com",
            "ftp://example.com",
            "HTTPS://example.com",
            "https://",
            "https:///path",
            "https://example.com/",
            "https://example.com/a/",
            "https://example.com?a=b",
            "https://example.com/#a",
            "https://user@example.com",
            "https://user:word@example.com",
            "https://exa mple.com",
            "https://example.com/a b",
            "https://example.com:",
            "https://example.com:0x1",
            "https://example.com:99999",
            "https://example.com:+80",
            "https://example.com\\a",
            "https://example.com/\n",
            "https://[::1",
            "https://[::1]x",
            "https://::1",
        ] {
            assert!(issuer(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_origin_is_lower_case_and_without_its_default_port() {
        for (text, normal) in [
            ("https://App.Example.com", "https://app.example.com"),
            ("HTTPS://example.com:443", "https://example.com"),
            ("http://example.com:80", "http://example.com"),
            ("https://example.com:80", "https://example.com:80"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(normal));
        }
    }

    #[test]
    fn an_origin_that_is_too_wide_or_more_than_an_origin_is_refused() {
        for text in [
            "",
            "*",
            "null",
            "NULL",
            "https://*",
            "https://*.example.com",
            "example.com",
            "https://example.com/",
            "https://example.com/app",
            "https://example.com?a",
            "https://user@example.com",
            "https://",
            "://example.com",
            "file://",
            "1a://b.example",
            "https://bücher.example",
            "https://a.example https://b.example",
        ] {
            assert!(origin(text).is_err(), "{text:?}");
        }
        assert!(origin("*").unwrap_err().contains("name each origin"));
    }

    #[test]
    fn a_domain_of_addresses_is_kept_as_a_labels() {
        for (text, domain) in [
            ("Example.com", "example.com"),
            ("example.com.", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BU\u{308}CHER.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(mail_domain(text).as_deref(), Ok(domain));
        }
        for text in [
            "",
            ".",
            "localhost",
            "@example.com",
            "ada@example.com",
            "*.example.com",
            "a b.example",
            "xn--a.com",
            "1.2",
        ] {
            assert!(mail_domain(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_proxy_is_an_address_a_network_or_whoever_comes_by_a_unix_socket() {
        let shown = |text: &str| match proxy(text)? {
            Proxy::Network(network) => Ok::<_, String>(network.to_string()),
            Proxy::Unix => Ok("any Unix socket".to_owned()),
        };
        assert_eq!(shown("10.0.0.7").as_deref(), Ok("10.0.0.7/32"));
        assert_eq!(shown("::1").as_deref(), Ok("::1/128"));
        assert_eq!(shown("10.1.2.3/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(shown("unix").as_deref(), Ok("any Unix socket"));
        for text in ["", "10.0.0.0/33", "10.0.0", "proxy.example", "10.0.0.0/8,::1", "Unix", "unix:/run/x"] {
            assert!(proxy(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn metrics_need_an_address_and_a_port() {
        assert!(socket("127.0.0.1:9464").is_ok());
        assert!(socket("[::1]:0").is_ok());
        for text in ["localhost:9464", "127.0.0.1", ":9464", "9464"] {
            assert!(socket(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn cookie_names_are_tokens() {
        assert!(cookie_name("__Host-refresh.v1").is_ok());
        for text in ["", "a b", "a;b", "a=b", "a\"b", "a,b", "ä", "a(b)", "a\n"] {
            assert!(cookie_name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_cookie_domain_is_a_host_name_of_two_labels_or_more() {
        assert_eq!(cookie_domain("Example.com").as_deref(), Ok("example.com"));
        assert_eq!(cookie_domain(".example.com").as_deref(), Ok("example.com"));
        for text in [
            "",
            ".",
            "com",
            "localhost",
            "127.0.0.1",
            "example.com:80",
            "https://example.com",
            "example.com/",
            "a_b.example",
            "*.example.com",
            "example.com; Secure",
        ] {
            assert!(cookie_domain(text).is_err(), "{text:?}");
        }
    }
}
