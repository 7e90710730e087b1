//! What every answer goes out in, and what is said about bodies that cannot be read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use support::harness::{Answer, Home, PASSWORD, TestApp, clock, config, in_database};

const ADA: &str = "ada@example.com";

fn too_many(app: &TestApp) -> Answer {
    let guess = || app.post("/v1/auth/login", &json!({ "email": "nobody@example.com", "password": "wrong" }));
    for _ in 0..10 {
        guess().expect(401);
    }
    guess().expect(429)
}

fn in_an_outage(app: &TestApp, home: &Home) -> Answer {
    in_database(home, "ALTER TABLE users RENAME TO elsewhere");
    let answer = app.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })).expect(503);
    in_database(home, "ALTER TABLE elsewhere RENAME TO users");
    answer
}

/// Answers of every kind, by whatever route.
fn answers(app: &TestApp, home: &Home) -> Vec<Answer> {
    let pair = app.sign_up(ADA);
    vec![
        app.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })).expect(200),
        app.post("/v1/auth/register", &json!({ "email": "eve@example.com", "password": PASSWORD })).expect(201),
        app.get_as("/v1/users/me", &pair.access).expect(200),
        app.confirm(&pair.access).expect(204),
        app.post("/v1/auth/login", &json!({})).expect(400),
        app.refresh("junk").expect(400),
        Answer::to(app.get("/v1/users/me")).expect(401),
        app.get_as("/v1/users/me", "junk").expect(401),
        Answer::to(app.get("/nothing")).expect(404),
        Answer::to(app.get("/v1/nothing")).expect(404),
        Answer::to(app.get("/v1/auth/login")).expect(405),
        app.post("/v1/auth/register", &json!({ "email": ADA, "password": PASSWORD })).expect(409),
        Answer::to(app.request(Method::POST, "/v1/auth/login").body("x".repeat(65_537))).expect(413),
        Answer::to(app.request(Method::POST, "/v1/auth/login").body("x")).expect(415),
        app.post("/v1/auth/register", &json!({ "email": "x", "password": "y" })).expect(422),
        Answer::to(app.request(Method::OPTIONS, "/v1/auth/login")).expect(204),
        Answer::to(app.get("/v1/users/me").header("Authorization", "x".repeat(17_000))).expect(431),
        // Refused for its site, its number and its database.
        Answer::to(
            app.request(Method::PATCH, "/v1/users/me")
                .header("Cookie", format!("accessToken={}", pair.access))
                .header("Sec-Fetch-Site", "cross-site"),
        )
        .expect(403),
        too_many(app),
        in_an_outage(app, home),
        Answer::to(app.get("/health/live")).expect(200),
    ]
}

#[test]
fn every_answer_has_the_security_headers_and_is_not_stored() {
    let home = Home::new();
    let app = TestApp::start_with(config(&home).with("limits.enabled", "true"), clock());
    for answer in answers(&app, &home) {
        let case = format!("{} {}", answer.status, answer.text);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{case}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{case}");
        let policy = answer.header("content-security-policy").expect(&case);
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{case}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
        assert_eq!(answer.header("pragma"), Some("no-cache"), "{case}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{case}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"), "{case}");
        assert_eq!(answer.header("strict-transport-security"), None, "{case}");
        assert_eq!(answer.header("server"), None, "{case}");
        let id = answer.header("x-request-id").expect(&case);
        if answer.status >= 400 {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{case}");
            let body = answer.json();
            assert_eq!(body["status"], json!(answer.status), "{case}");
            assert_eq!(body["request_id"], id, "{case}");
            for member in ["type", "title", "detail", "code"] {
                assert!(!body[member].as_str().unwrap_or_default().is_empty(), "{member}: {case}");
            }
        }
    }
}

#[test]
fn a_request_id_is_kept_if_it_is_fit_to_be_logged() {
    let app = TestApp::start(&Home::new());
    let answered = |id: &str| {
        let answer = Answer::to(app.get("/v1/users/me").header("X-Request-Id", id));
        assert_eq!(answer.json()["request_id"], answer.header("x-request-id").unwrap());
        answer.header("x-request-id").unwrap().to_owned()
    };
    for kept in ["a", "A-b_c.9", &"x".repeat(64)] {
        assert_eq!(answered(kept), kept);
    }
    let mut replaced = Vec::new();
    for unfit in ["", "a b", "a\"b", "a/b", "a=b", "<x>", "{}", "\u{e4}", &"x".repeat(65)] {
        let id = answered(unfit);
        assert!(id != unfit && uuid::Uuid::parse_str(&id).is_ok(), "{unfit}: {id}");
        replaced.push(id);
    }
    replaced.sort_unstable();
    replaced.dedup();
    assert_eq!(replaced.len(), 9, "every request has an id of its own");
}

#[test]
fn only_a_trusted_proxy_is_believed_about_tls() {
    for (trusted, proto, expected) in [
        ("", "https", None),
        ("10.0.0.0/8", "https", None),
        ("127.0.0.1", "http", None),
        ("127.0.0.1", "https", Some("max-age=31536000")),
        ("127.0.0.1", "HTTPS, http", Some("max-age=31536000")),
        ("127.0.0.1", "http, https", None),
        ("127.0.0.1", "https, \u{eb}", Some("max-age=31536000")),
        ("127.0.0.1", "\u{eb}", None),
    ] {
        let home = Home::new();
        let settings = config(&home);
        let settings = if trusted.is_empty() { settings } else { settings.with("server.trusted_proxies", trusted) };
        let app = TestApp::start_with(settings, clock());
        for path in ["/health/live", "/v1/users/me", "/nothing"] {
            let answer = Answer::to(app.get(path).header("X-Forwarded-Proto", proto));
            assert_eq!(answer.header("strict-transport-security"), expected, "{trusted} {proto} {path}");
        }
    }
}

#[test]
fn a_session_remembers_the_address_that_a_trusted_proxy_saw() {
    for (trusted, expected) in [("127.0.0.1", "203.0.113.9"), ("10.0.0.0/8", "127.0.0.1")] {
        let home = Home::new();
        let app = TestApp::start_with(config(&home).with("server.trusted_proxies", trusted), clock());
        let pair = app.sign_up(ADA);
        let pair = app.refresh_from("198.51.100.1, 203.0.113.9", &pair.refresh).expect(200).pair();
        let sessions = app.get_as("/v1/sessions", &pair.access).json();
        assert_eq!(sessions["sessions"][0]["ip_address"], expected, "{trusted}");
    }
}

/// A body in chunks, whose length is not declared.
fn chunked(app: &TestApp, size: usize) -> String {
    let mut stream = TcpStream::connect(app.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunk = " ".repeat(1024);
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..size / chunk.len() {
        // The server may have answered and hung up already.
        if write!(stream, "{:x}\r\n{chunk}\r\n", chunk.len()).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"1\r\nx\r\n0\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_body_over_64_kib_is_a_413_declared_or_not() {
    let app = TestApp::start(&Home::new());
    let post = |body: String| {
        let request = app.request(Method::POST, "/v1/auth/login").header("Content-Type", "application/json");
        Answer::to(request.body(body))
    };
    let padded = |length: usize| {
        let body = json!({ "email": ADA, "password": PASSWORD }).to_string();
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    post(padded(65_536)).expect_error(401, "invalid_credentials");
    post(padded(65_537)).expect_error(413, "payload_too_large");
    post(padded(1_000_000)).expect_error(413, "payload_too_large");
    let answer = chunked(&app, 65_536);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("payload_too_large"), "{answer}");
    let answer = chunked(&app, 10_240);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid_request"), "{answer}");
}

#[test]
fn another_media_type_is_a_415() {
    let app = TestApp::start(&Home::new());
    app.sign_up(ADA);
    let body = json!({ "email": ADA, "password": PASSWORD }).to_string();
    let post = |kind: Option<&str>| {
        let request = app.request(Method::POST, "/v1/auth/login").body(body.clone());
        Answer::to(match kind {
            Some(kind) => request.header("Content-Type", kind),
            None => request,
        })
    };
    for kind in ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/json ;a=b"] {
        post(Some(kind)).expect(200);
    }
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/jsonx",
        "application/problem+json",
        "text/plain; application/json",
        "",
    ] {
        post(Some(kind)).expect_error(415, "unsupported_media_type");
    }
    post(None).expect_error(415, "unsupported_media_type");
}

#[test]
fn no_error_shows_what_it_was_made_by() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let deep = "[".repeat(10_000);
    let bodies: [&[u8]; 16] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b"\"x\"",
        b"{\"email\":1}",
        b"{\"email\":\"x\",\"email\":}",
        b"{\"email\":\xff}",
        b"\xef\xbb\xbf{}",
        b"{}x",
        b"{\"email\":\"\\ud800\"}",
        b"{\"refresh_token\":[]}",
        b"{\"name\":{}}",
        deep.as_bytes(),
        b"{\"email\":\"' OR 1=1 --\",\"password\":\"'; DROP TABLE users\"}",
    ];
    let mut errors = Vec::new();
    for path in ["/v1/auth/register", "/v1/auth/login", "/v1/auth/refresh", "/v1/auth/logout", "/v1/users/me/password"]
    {
        for body in bodies {
            let request = app.request(Method::POST, path).header("Content-Type", "application/json");
            let request = if path.starts_with("/v1/users") { request.bearer_auth(&pair.access) } else { request };
            let answer = Answer::to(request.body(body.to_vec()));
            assert!((400..500).contains(&answer.status), "{path} {:?}", String::from_utf8_lossy(body));
            errors.push(answer);
        }
    }
    for path in
        ["/v1/sessions/%ff", "/v1/sessions/'", "/v1/sessions?scope=%ff", "/v1/sessions?scope", "/v1/%00", "/%ff"]
    {
        let answer = Answer::to(app.request(Method::DELETE, path).bearer_auth(&pair.access));
        assert!((400..500).contains(&answer.status), "{path} {}", answer.status);
        errors.push(answer);
    }
    errors.extend(answers_to_errors(&app));
    let telling = [
        "serde",
        "diesel",
        "sqlite",
        "actix",
        "jsonwebtoken",
        "bcrypt",
        "rust",
        "panicked",
        "src/",
        ".rs",
        "/home",
        "/tmp",
        "at line",
        "column",
        "expected",
        "select ",
        "insert ",
        "option<",
        "::",
        "std",
        "deserialize",
        "utf-8",
    ];
    for answer in errors {
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.text);
        let text = answer.text.to_lowercase();
        for word in telling {
            assert!(!text.contains(word), "{word}: {}", answer.text);
        }
    }
}

fn answers_to_errors(app: &TestApp) -> Vec<Answer> {
    vec![
        Answer::to(app.get("/v1/users/me")),
        app.get_as("/v1/users/me", "junk"),
        Answer::to(app.get("/nothing")),
        Answer::to(app.request(Method::PUT, "/v1/users/me")),
        app.post("/v1/auth/register", &json!({ "email": ADA, "password": PASSWORD })),
        app.post("/v1/auth/register", &json!({ "email": "x", "password": "password", "name": "\u{0}" })),
    ]
}
