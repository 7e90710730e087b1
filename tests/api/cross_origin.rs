//! Pages elsewhere: which may read answers, and which may use cookies.

use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder};
use reqwest::{Method, redirect};
use serde_json::json;

use crate::framing::{exchange, statuses};
use support::harness::{Answer, Home, PASSWORD, TestApp, clock, config, in_database};

const ADA: &str = "ada@example.com";
const FRIEND: &str = "https://app.example.org";

/// One answer of every kind to a page at `origin`, each with what it is.
fn answers(app: &TestApp, home: &Home, origin: Option<&str>) -> Vec<(String, Answer)> {
    let pair = app.log_in(ADA);
    let client = Client::builder().redirect(redirect::Policy::none()).timeout(Duration::from_secs(60)).build().unwrap();
    let ask = |method: &str, path: &str, add: &dyn Fn(RequestBuilder) -> RequestBuilder| {
        let request = add(client.request(Method::from_bytes(method.as_bytes()).unwrap(), app.url(path)));
        let answer = Answer::to(match origin {
            Some(origin) => request.header("Origin", origin),
            None => request,
        });
        (format!("{} {method} {path} from {origin:?}", answer.status), answer)
    };
    let json = |body: serde_json::Value| move |request: RequestBuilder| request.json(&body);
    let plain = |request: RequestBuilder| request;
    let taken = json!({ "email": ADA, "password": PASSWORD });
    let wrong = json!({ "email": "eve@example.com", "password": "wrong" });
    let mut all = vec![
        ask("GET", "/", &plain),
        ask("GET", "/docs", &plain),
        ask("GET", "/docs/swagger-ui-5.35.0.css", &plain),
        ask("GET", "/openapi.json", &plain),
        ask("GET", "/.well-known/jwks.json", &plain),
        ask("GET", "/health/ready", &plain),
        ask("GET", "/v1/users/me", &|request| request.bearer_auth(&pair.access)),
        ask("POST", "/v1/auth/refresh/confirm", &|request| request.bearer_auth(&pair.access)),
        ask("OPTIONS", "/v1/auth/login", &plain),
        ask("POST", "/v1/auth/login", &json(json!({}))),
        ask("POST", "/v1/auth/refresh", &json(json!({ "refresh_token": "junk" }))),
        ask("GET", "/v1/users/me", &plain),
        ask("GET", "/v1/users/me", &|request| request.bearer_auth("junk")),
        ask("POST", "/v1/auth/logout", &plain),
        ask("POST", "/v1/users/me/password", &|request| {
            let wrong = json!({ "current_password": "wrong", "new_password": "another good one" });
            request.bearer_auth(&pair.access).json(&wrong)
        }),
        ask("GET", "/nothing", &plain),
        ask("GET", "/v1/nothing", &plain),
        ask("GET", "/docs/nothing", &plain),
        ask("PUT", "/v1/users/me", &plain),
        ask("POST", "/docs", &plain),
        ask("POST", "/", &plain),
        ask("POST", "/v1/auth/register", &json(taken.clone())),
        ask("POST", "/v1/auth/login", &|request| request.body("x".repeat(70_000))),
        ask("POST", "/nothing", &|request| request.body("x".repeat(70_000))),
        ask("POST", "/v1/auth/login", &|request| request.body("x")),
        ask("POST", "/v1/auth/register", &json(json!({ "email": "x", "password": "y" }))),
        ask("GET", "/v1/users/me", &|request| request.header("Cookie", "x".repeat(17_000))),
        ask("GET", "/nothing", &|request| request.header("Cookie", "x".repeat(17_000))),
        ask("GET", "/health/live", &|request| request.header("Host", "a b")),
    ];
    for _ in 0..10 {
        ask("POST", "/v1/auth/login", &json(wrong.clone()));
    }
    all.push(ask("POST", "/v1/auth/login", &json(wrong.clone())));
    in_database(home, "ALTER TABLE users RENAME TO elsewhere");
    all.push(ask("POST", "/v1/auth/login", &json(taken)));
    in_database(home, "ALTER TABLE elsewhere RENAME TO users");
    all
}

/// A page of an allowed origin may read every answer and no other page any.
#[test]
fn only_pages_of_an_allowed_origin_may_read_answers() {
    let home = Home::new();
    let settings = config(&home).with("cors.allowed_origins", FRIEND).with("limits.enabled", "true");
    let app = TestApp::start_with(settings, clock());
    app.sign_up(ADA);
    let mut seen = Vec::new();
    for origin in [Some(FRIEND), None, Some("https://evil.example"), Some("null"), Some("\u{eb}")] {
        for (case, answer) in answers(&app, &home, origin) {
            seen.push(answer.status);
            let vary = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap().to_lowercase());
            assert!(
                vary.flat_map(|line| line.split(", ").map(str::to_owned).collect::<Vec<_>>())
                    .any(|name| name == "origin"),
                "{case}"
            );
            if origin == Some(FRIEND) {
                assert_eq!(answer.header("access-control-allow-origin"), Some(FRIEND), "{case}");
                assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "{case}");
                let exposed = answer.header("access-control-expose-headers").unwrap_or_default().to_lowercase();
                for name in ["x-request-id", "retry-after", "www-authenticate"] {
                    assert!(exposed.contains(name), "{case}: {exposed}");
                }
            } else {
                let of_cors = answer.headers.keys().filter(|name| name.as_str().starts_with("access-control-"));
                assert_eq!(of_cors.count(), 0, "{case} {:?}", answer.headers);
            }
        }
    }
    for status in [200, 204, 303, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 431, 503] {
        assert!(seen.contains(&status), "{status} is among {seen:?}");
    }
}

/// What the HTTP parser refuses reaches no middleware.
#[test]
fn a_page_of_an_allowed_origin_may_read_why_its_head_is_refused() {
    let field = |bytes: usize| format!("X-A: {}\r\n", "a".repeat(bytes));
    let heads = [
        ("95 fields", "GET", String::new(), "X-A: a\r\n".repeat(95), "431"),
        ("more fields in front", "POST", "X-A: a\r\n".repeat(200), String::new(), "431"),
        ("131 KiB", "GET", String::new(), field(131 * 1024), "431"),
        ("most of 131 KiB in front", "POST", field(120 * 1024), field(11 * 1024), "431"),
        ("131 KiB of fields", "GET", field(1024).repeat(60), field(1024).repeat(71), "431"),
        ("not a field", "GET", String::new(), "X A\r\n".to_owned(), "400"),
        ("no length", "POST", "Content-Length: x\r\n".to_owned(), String::new(), "400"),
        ("two lengths", "POST", "Content-Length: 1\r\nContent-Length: 2\r\n".to_owned(), String::new(), "400"),
    ];
    for allowed in [true, false] {
        let home = Home::new();
        let settings = config(&home);
        let settings = if allowed { settings.with("cors.allowed_origins", FRIEND) } else { settings };
        let app = TestApp::start_with(settings, clock());
        for (what, method, before, after, status) in &heads {
            for (origin, reads) in [
                (format!("Origin: {FRIEND}\r\n"), allowed),
                (format!("oRIGIN:{FRIEND}\r\n"), allowed),
                (String::new(), false),
                ("Origin: https://evil.example\r\n".to_owned(), false),
                ("Origin: null\r\n".to_owned(), false),
                (format!("Origin: https://evil.example\r\nOrigin: {FRIEND}\r\n"), false),
                (format!("X-Origin: {FRIEND}\r\n"), false),
            ] {
                for version in ["1.1", "1.0"] {
                    let request = format!(
                        "{method} /health/live HTTP/{version}\r\nHost: x\r\nConnection: close\r\n{before}{origin}{after}\r\n"
                    );
                    let answer = exchange(&app, request.as_bytes()).to_lowercase();
                    let case = format!("{what}, {origin:?}, HTTP/{version}, {allowed}: {answer}");
                    assert_eq!(answer.split(' ').nth(1), Some(*status), "{case}");
                    let says = |line: &str| answer.contains(&format!("\r\n{line}\r\n"));
                    assert_eq!(says(&format!("access-control-allow-origin: {FRIEND}")), reads, "{case}");
                    assert_eq!(says("access-control-allow-credentials: true"), reads, "{case}");
                    assert_eq!(answer.contains("access-control-"), reads, "{case}");
                    assert_eq!(says("vary: origin"), allowed, "{case}");
                }
            }
        }
    }
}

/// Libraries for tracing and for old frameworks add headers to whatever a page asks for.
#[test]
fn a_page_of_an_allowed_origin_may_send_any_header() {
    let home = Home::new();
    let app = TestApp::start_with(config(&home).with("cors.allowed_origins", FRIEND), clock());
    let preflight = |origin: &str, path: &str, headers: Option<&str>| {
        let request = app.request(Method::OPTIONS, path).header("Origin", origin);
        let request = request.header("Access-Control-Request-Method", "POST");
        Answer::to(match headers {
            Some(headers) => request.header("Access-Control-Request-Headers", headers),
            None => request,
        })
    };
    for headers in [
        "authorization",
        "authorization,content-type",
        "sentry-trace,baggage",
        "traceparent, tracestate",
        "X-Requested-With",
        "x-csrf-token,x-datadog-trace-id,b3",
        "dpop",
        "cache-control,pragma",
        "*",
    ] {
        for path in ["/v1/auth/login", "/v1/users/me", "/openapi.json", "/v1/nothing", "/nothing", "/"] {
            let answer = preflight(FRIEND, path, Some(headers));
            assert!(matches!(answer.status, 200 | 204), "{} {path} {headers}: {}", answer.status, answer.text);
            let allowed = answer.header("access-control-allow-headers").unwrap().to_lowercase();
            for name in headers.split(',').map(|name| name.trim().to_lowercase()) {
                assert!(allowed.split(',').any(|allowed| allowed.trim() == name), "{path} {name}: {allowed}");
            }
            assert_eq!(answer.header("access-control-allow-origin"), Some(FRIEND), "{path} {headers}");
            assert!(answer.header("access-control-allow-methods").unwrap().contains("POST"), "{path} {headers}");
            let foreign = preflight("https://evil.example", path, Some(headers));
            assert!(
                !foreign.headers.keys().any(|name| name.as_str().starts_with("access-control-")),
                "{path} {headers}"
            );
        }
    }
    let answer = preflight(FRIEND, "/v1/auth/login", None);
    assert!(matches!(answer.status, 200 | 204), "{}", answer.status);
}

const ISSUER: &str = "https://auth.example/tenant";
const PUBLIC: &str = "https://login.example:8443,http://[2001:db8::1]:9000/auth";

/// `Host`, `X-Forwarded-Host`, `Origin`, and whether that is this host: to a server whose peers are no proxies, and to one
/// whose are. Both are known by [`ISSUER`] and [`PUBLIC`].
const HOSTS: [(&str, &str, &str, bool, bool); 34] = [
    ("x", "", "https://x", true, true),
    ("x", "", "http://x", true, true),
    ("x:443", "", "https://x", true, true),
    ("x:80", "", "http://x", true, true),
    ("x:443", "", "http://x", false, false),
    ("x:80", "", "https://x", false, false),
    ("x:8443", "", "https://x:8443", true, true),
    ("x:8443", "", "https://x", false, false),
    ("x", "", "https://x:8443", false, false),
    ("X.Example:443", "", "https://x.example", true, true),
    ("[::1]:443", "", "https://[::1]", true, true),
    ("[::1]:8080", "", "http://[::1]:8080", true, true),
    ("[::1]", "", "http://[::2]", false, false),
    ("x", "", "https://y", false, false),
    ("x", "", "https://x.y", false, false),
    ("x", "", "null", false, false),
    ("x", "", "https://", false, false),
    ("", "", "https://", false, false),
    // A proxy that asks for something else than it was asked for.
    ("backend:8080", "app.example", "https://app.example", false, true),
    ("backend:8080", "App.Example:443", "https://app.example", false, true),
    ("backend:8080", "app.example:8443", "https://app.example:8443", false, true),
    ("backend:8080", "[::1]:443", "https://[::1]", false, true),
    ("backend:8080", "app.example, edge.internal", "https://app.example", false, true),
    ("backend:8080", "app.example,edge.internal", "https://edge.internal", false, true),
    ("backend:8080", "Zo\u{eb}, app.example", "https://app.example", false, true),
    ("backend:8080", "other.example", "https://app.example", false, false),
    ("backend:8080", "app.example", "https://evil.example", false, false),
    ("backend:8080", "app.example", "http://backend:8080", true, true),
    // The names that the server has by its configuration.
    ("backend:8080", "", "https://auth.example", true, true),
    ("backend:8080", "", "http://auth.example", false, false),
    ("backend:8080", "", "https://login.example:8443", true, true),
    ("backend:8080", "", "https://login.example", false, false),
    ("backend:8080", "", "http://[2001:db8::1]:9000", true, true),
    ("backend:8080", "", "http://[2001:db8::1]", false, false),
];

#[test]
fn this_host_is_what_the_browser_calls_it() {
    for trusted in [false, true] {
        let home = Home::new();
        let settings = config(&home).with("tokens.issuer", ISSUER).with("server.public_urls", PUBLIC);
        let settings = if trusted { settings.with("server.trusted_proxies", "127.0.0.1") } else { settings };
        let app = TestApp::start_with(settings, clock());
        let pair = app.sign_up(ADA);
        for (host, forwarded, origin, alone, behind) in HOSTS {
            let mut head = format!("PATCH /v1/users/me HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n");
            if !forwarded.is_empty() {
                head += &format!("X-Forwarded-Host: {forwarded}\r\n");
            }
            head += &format!("Cookie: accessToken={}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", pair.access);
            let answer = exchange(&app, head.as_bytes());
            let expected = if if trusted { behind } else { alone } { "200" } else { "403" };
            let case = format!("host {host:?}, forwarded {forwarded:?}, origin {origin}, trusted: {trusted}");
            assert_eq!(statuses(&answer), [expected], "{case}: {answer}");
            assert_eq!(answer.contains("\"code\":\"cross_site\""), expected == "403", "{case}");
            // What the browser itself says wins.
            for (site, expected) in [("same-origin", "200"), ("cross-site", "403"), ("same-site", "403")] {
                let said = head.replace("Origin:", &format!("Sec-Fetch-Site: {site}\r\nOrigin:"));
                assert_eq!(statuses(&exchange(&app, said.as_bytes())), [expected], "{case} {site}");
            }
        }
    }
}
