//! Requests as bytes: where one ends and the next begins, and what their heads may and may not decide.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::authorization::paths;
use support::harness::{Answer, Home, PASSWORD, TestApp, bare_config, clock, config};
use support::reading::peek;

const ADA: &str = "ada@example.com";
const MARK: &str = "evil.example";

/// Sends bytes on a connection of its own and reads until the server closes it.
pub fn exchange(app: &TestApp, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // Whatever is refused early may be refused before all of it was sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("not closed after {}", String::from_utf8_lossy(&answer))
        }
        _ => String::from_utf8(answer).unwrap(),
    }
}

/// The statuses of the answers in what was read.
pub fn statuses(text: &str) -> Vec<&str> {
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer.split(' ').next().unwrap()).collect()
}

/// HTT-06. What two parsers could read in two ways is refused, and nothing behind it is taken for a request.
#[test]
fn a_request_without_one_clear_end_is_a_400_and_closes() {
    let app = TestApp::start(&Home::new());
    let post = "POST /v1/auth/login HTTP/1.1\r\n";
    let get = "GET /health/live HTTP/1.1\r\n";
    let smuggled = "GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for (row, head) in [
        ("both lengths", format!("{post}Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("both lengths, turned", format!("{post}Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n")),
        ("two lengths", format!("{post}Host: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n")),
        ("the same length twice", format!("{post}Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello")),
        ("a list of lengths", format!("{post}Host: x\r\nContent-Length: 5, 5\r\n\r\nhello")),
        ("a signed length", format!("{post}Host: x\r\nContent-Length: +5\r\n\r\nhello")),
        ("a negative length", format!("{post}Host: x\r\nContent-Length: -5\r\n\r\nhello")),
        ("a hexadecimal length", format!("{post}Host: x\r\nContent-Length: 0x5\r\n\r\nhello")),
        ("a length past 64 bits", format!("{post}Host: x\r\nContent-Length: 18446744073709551616\r\n\r\n")),
        ("another encoding", format!("{post}Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        ("an encoding run on", format!("{post}Host: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("chunked and then more", format!("{post}Host: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n")),
        ("two encodings", format!("{post}Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n")),
        ("a space before the colon", format!("{post}Host: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n")),
        ("a tab before the encoding's end", format!("{post}Host: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n")),
        ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        ("no host", format!("{get}\r\n")),
        ("two hosts", format!("{get}Host: x\r\nHost: y\r\n\r\n")),
        ("a folded line", format!("{get}Host: x\r\nX-A: 1\r\n 2\r\n\r\n")),
        ("a NUL", format!("{get}Host: x\r\nX-A: 1\x002\r\n\r\n")),
        ("a CR in a value", format!("{get}Host: x\r\nX-A: 1\r2\r\n\r\n")),
        ("no colon", format!("{get}Host: x\r\nX-A\r\n\r\n")),
        ("an empty name", format!("{get}Host: x\r\n: 1\r\n\r\n")),
        ("a space in the target", "GET /health/live x HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("another version", "GET /health/live HTTP/1.2\r\nHost: x\r\n\r\n".to_owned()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\x7f\x03\x03".to_owned()),
        ("no request at all", "hello\r\n\r\n".to_owned()),
    ] {
        let answer = exchange(&app, format!("{head}{smuggled}").as_bytes());
        assert_eq!(statuses(&answer), ["400"], "{row}: {answer}");
        assert_is_whole(&answer, "invalid_request");
    }
    Answer::to(app.get("/health/live")).expect(200);
}

/// Whether the parser refused the request or what comes behind it: the answer has a body and headers like every other.
#[track_caller]
fn assert_is_whole(answer: &str, code: &str) {
    let (head, body) = answer.rsplit_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    let problem: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    assert_eq!(problem["code"], code, "{answer}");
    for field in [
        format!("x-request-id: {}", problem["request_id"].as_str().unwrap()),
        format!("content-length: {}", body.len()),
        "content-type: application/problem+json".to_owned(),
        "x-content-type-options: nosniff".to_owned(),
        "cache-control: no-store".to_owned(),
        "connection: close".to_owned(),
    ] {
        assert_eq!(head.split("\r\n").filter(|line| **line == field).count(), 1, "{field}: {answer}");
    }
    assert_eq!(head.matches("\r\ndate: ").count(), 1, "{answer}");
}

/// RFC 9112 section 6.3: without a length there is no body. nginx passes requests on like this unless told otherwise.
#[test]
fn a_request_of_http_1_0_without_a_length_has_no_body() {
    let app = TestApp::start(&Home::new());
    let bearer = |access: &str| format!("Authorization: Bearer {access}\r\n");
    for more in ["", "Host: x\r\n", "Host: x\r\nConnection: close\r\n", "Content-Type: application/json\r\n"] {
        let pair = if more.is_empty() { app.sign_up(ADA) } else { app.log_in(ADA) };
        let ask =
            |line: &str, fields: &str| exchange(&app, format!("{line} HTTP/1.0\r\n{more}{fields}\r\n").as_bytes());
        let cookie = format!("Cookie: refreshToken={}\r\n", pair.refresh);
        let refreshed = ask("POST /v1/auth/refresh", &cookie);
        assert_eq!(statuses(&refreshed.replace("HTTP/1.0 ", "HTTP/1.1 ")), ["200"], "{refreshed}");
        let own = bearer(&pair.access);
        for (line, status) in [
            ("GET /v1/users/me", "200"),
            ("PATCH /v1/users/me", "200"),
            ("POST /v1/users/me/password", "400"),
            ("POST /v1/auth/login", "400"),
            ("POST /v1/nothing", "404"),
            ("POST /v1/users/me", "405"),
            ("DELETE /v1/sessions?scope=others", "200"),
            ("POST /v1/auth/logout", "204"),
        ] {
            let answer = ask(line, &own);
            assert_eq!(statuses(&answer.replace("HTTP/1.0 ", "HTTP/1.1 ")), [status], "{line} {more:?}: {answer}");
            if status == "400" {
                assert!(
                    answer.contains("\"code\":\"invalid_request\",\"errors\":[{\"field\""),
                    "{line} {more:?}: {answer}"
                );
            }
        }
        assert!(!app.works(&pair.access), "{more:?}");
    }
    // One after the other on a connection that is kept, with bodies and without, in whatever pieces.
    let pair = app.log_in(ADA);
    let credentials = json!({ "email": ADA, "password": PASSWORD }).to_string();
    let kept = format!("Connection: keep-alive\r\n{}", bearer(&pair.access));
    let requests = format!(
        "GET /v1/users/me HTTP/1.0\r\n{kept}\r\nPOST /v1/auth/refresh/confirm HTTP/1.0\r\n{kept}\r\n\
         POST /v1/auth/login HTTP/1.0\r\n{kept}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{credentials}\
         POST /v1/auth/logout HTTP/1.0\r\n{}\r\n",
        credentials.len(),
        bearer(&pair.access),
    );
    let mut stream = TcpStream::connect(app.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    for piece in requests.as_bytes().chunks(11) {
        stream.write_all(piece).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(statuses(&answer.replace("HTTP/1.0 ", "HTTP/1.1 ")), ["200", "204", "200", "204"], "{answer}");
    assert!(!app.works(&pair.access));
}

/// HTT-06. These heads are read; their chunks are not.
#[test]
fn a_body_without_a_clear_end_is_a_400_and_the_last_on_its_connection() {
    let app = TestApp::start(&Home::new());
    let head = "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let smuggled = "GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for body in
        ["zz\r\n{}\r\n0\r\n\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n", "2\n{}\n0\n\n", "-2\r\n{}\r\n0\r\n\r\n"]
    {
        let answer = exchange(&app, format!("{head}{body}{smuggled}").as_bytes());
        assert_eq!(statuses(&answer), ["400"], "{body:?}: {answer}");
    }
}

#[test]
fn garbage_behind_a_request_leaves_its_answer_alone() {
    let app = TestApp::start(&Home::new());
    let answer = exchange(&app, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\ngarbage\r\n\r\n");
    assert_eq!(statuses(&answer), ["200", "400"], "{answer}");
    assert!(answer.contains("{\"status\":\"live\"}"), "{answer}");
    assert_is_whole(answer.split_once("{\"status\":\"live\"}").unwrap().1, "invalid_request");
}

/// RFC 9112 section 3.2: an invalid host is a 400 like a missing one.
/// RFC 9112 section 9.6: a client that is refused before all of its request has come is still listened to for a moment. Closed at
/// once, the connection would be reset, and the answer might be lost on its way.
#[test]
fn an_answer_before_the_end_of_a_request_is_not_taken_back_by_a_reset() {
    let app = TestApp::start(&Home::new());
    for (head, status) in [
        ("POST /v1/users/me/password HTTP/1.1\r\nContent-Type: application/json", "401"),
        ("POST /v1/nowhere HTTP/1.1\r\nContent-Type: application/json", "404"),
        ("POST /v1/auth/login HTTP/1.1\r\nContent-Type: text/plain", "415"),
    ] {
        // A body of the wrong type is one from its first letter on.
        let begun = usize::from(status == "415");
        let mut stream = TcpStream::connect(app.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "{head}\r\nHost: x\r\nContent-Length: 40000\r\n\r\n{}", "x".repeat(begun)).unwrap();
        // The answer has come; the client does not know yet, and sends on.
        peek(&stream).unwrap();
        for _ in 0..8 {
            stream.write_all(&[b'x'; 5000]).expect("somebody listens");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an end, and no reset");
        assert_eq!(statuses(&answer), [status], "{answer}");
    }
}

#[test]
fn a_host_is_a_host() {
    let app = TestApp::start(&Home::new());
    for (host, status) in [
        ("x", "200"),
        ("x:1", "200"),
        ("[::1]:8080", "200"),
        ("xn--bcher-kva.example", "200"),
        ("my_service.internal", "200"),
        ("", "200"),
        ("a b", "400"),
        ("a/b", "400"),
        ("a?b", "400"),
        ("user@a", "400"),
        ("<a>", "400"),
        ("a\\b", "400"),
        ("\u{e4}", "400"),
    ] {
        let request = format!("GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = exchange(&app, request.as_bytes());
        assert_eq!(statuses(&answer), [status], "{host}: {answer}");
    }
}

/// HTT-05.
#[test]
fn a_head_that_is_too_large_is_a_431() {
    let app = TestApp::start(&Home::new());
    let ask = |target: &str, fields: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
        exchange(&app, head.as_bytes())
    };
    let field = |bytes: usize| format!("X-A: {}\r\n", "a".repeat(bytes));
    for (fields, status) in [
        (field(9 * 1024), "200"),
        (field(16 * 1024), "200"),
        (field(16 * 1024 + 1), "431"),
        (field(100 * 1024), "431"),
        (field(15 * 1024).repeat(3), "200"),
        (field(8 * 1024 - 50).repeat(5), "200"),
        (field(16 * 1024).repeat(3), "431"),
        (field(4 * 1024).repeat(12), "431"),
        ("X-A: a\r\n".repeat(94), "200"),
        // One more than the parser can tell apart.
        ("X-A: a\r\n".repeat(95), "431"),
    ] {
        let answer = ask("/health/live", &fields);
        assert_eq!(statuses(&answer), [status], "{} bytes: {answer}", fields.len());
        if status == "431" {
            assert_is_whole(&answer, "headers_too_large");
        }
    }
    for (bytes, status) in [(15 * 1024, "404"), (17 * 1024, "431"), (60 * 1024, "431")] {
        assert_eq!(statuses(&ask(&format!("/{}", "a".repeat(bytes)), "")), [status], "{bytes}");
        assert_eq!(statuses(&ask(&format!("/nothing?{}", "a".repeat(bytes)), "")), [status], "{bytes}");
    }
    // More than is ever read of a head: the connection may be gone before the answer is read.
    let answer = ask("/health/live", &field(1024 * 1024));
    assert!(["", "431"].contains(&statuses(&answer).first().copied().unwrap_or_default()), "{answer}");
    Answer::to(app.get("/health/live")).expect(200);
}

/// What a site and its neighbours keep in a browser is not in the hands of the person who wants to sign out.
#[test]
fn a_full_cookie_jar_is_no_reason_to_refuse_a_request() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    for others in [vec![9 * 1024], vec![15 * 1024], vec![15 * 1024, 15 * 1024, 10 * 1024]] {
        let pair = app.refresh(&app.log_in(ADA).refresh).expect(200).pair();
        let jars: String = others.iter().map(|bytes| format!("Cookie: n={}\r\n", "x".repeat(*bytes))).collect();
        let own =
            format!("Cookie: m={}; accessToken={}; refreshToken={}\r\n", "y".repeat(100), pair.access, pair.refresh);
        let ask = |line: &str| {
            let head =
                format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n{jars}{own}\r\n");
            exchange(&app, head.as_bytes())
        };
        for (line, status) in [
            ("GET /v1/users/me", "200"),
            ("POST /v1/auth/refresh/confirm", "204"),
            ("POST /v1/auth/refresh", "200"),
            ("POST /v1/auth/logout", "204"),
        ] {
            assert_eq!(statuses(&ask(line)), [status], "{line} {others:?}");
        }
        assert!(!app.works(&pair.access), "{others:?}");
    }
    assert!(app.works(&pair.access));
}

/// HTT-04. On the wire: no byte of a body follows, also where the answer is an error.
#[test]
fn head_is_answered_like_get_and_sends_no_body_whatever_the_answer() {
    let app = TestApp::start(&Home::new());
    let length = |answer: &str| {
        let at = answer.to_ascii_lowercase().find("content-length: ").unwrap_or_else(|| panic!("no length: {answer}"));
        answer[at..].split_once("\r\n").unwrap().0.to_ascii_lowercase()
    };
    let ours = paths();
    let paths: Vec<&str> = ours.iter().map(|(path, _)| path.as_str()).chain(["/v1/nothing", "/nothing"]).collect();
    for path in paths {
        let ask = |method: &str| {
            let last = "Host: x\r\nX-Request-Id: same\r\nConnection: close\r\n\r\n";
            exchange(&app, format!("{method} {path} HTTP/1.1\r\n{last}").as_bytes())
        };
        let (get, head) = (ask("GET"), ask("HEAD"));
        assert_eq!(statuses(&head), statuses(&get), "{path}");
        assert!(head.ends_with("\r\n\r\n") && head.matches("\r\n\r\n").count() == 1, "{path}: {head}");
        assert_eq!(length(&head), length(&get), "{path}");
        let body = get.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(length(&get), format!("content-length: {}", body.len()), "{path}");
    }
}

/// HTT-04. Methods that ask leave everything as it was, on every path.
#[test]
fn methods_that_are_safe_change_nothing() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up(ADA);
    let other = app.log_in(ADA);
    let state = || {
        let sessions = app.get_as("/v1/sessions", &pair.access).expect(200).text;
        (sessions, app.get_as("/v1/users/me", &pair.access).expect(200).text)
    };
    let before = state();
    app.pass(Duration::from_secs(60));
    for (path, _) in paths() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            let target = format!("{path}?scope=all");
            let request = app.request(Method::from_bytes(method.as_bytes()).unwrap(), &target);
            let body = json!({ "refresh_token": other.refresh, "password": PASSWORD, "name": "Eve" });
            let request = request.bearer_auth(&pair.access).json(&body);
            let status = Answer::to(request).status;
            assert!([200, 204, 404, 405].contains(&status), "{method} {path}: {status}");
        }
    }
    assert_eq!(state(), before);
    app.refresh(&other.refresh).expect(200);
}

/// HTT-04. RFC 9110 section 9.3.7: asks about the server, not about a path.
#[test]
fn options_of_no_path_in_particular_is_a_204() {
    let app = TestApp::start(&Home::new());
    let ask = |target: &str| {
        exchange(&app, format!("OPTIONS {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
    };
    let answer = ask("*");
    assert_eq!(statuses(&answer), ["204"], "{answer}");
    assert!(answer.contains("allow: DELETE, GET, HEAD, OPTIONS, PATCH, POST\r\n"), "{answer}");
    for path in ["/nothing", "/v1", "/v1/nothing"] {
        assert_eq!(statuses(&ask(path)), ["404"], "{path}");
    }
    let answer = exchange(&app, b"GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(statuses(&answer), ["404"], "{answer}");
}

/// There is no tunnel through here, and no other protocol.
#[test]
fn connect_and_upgrade_lead_nowhere() {
    let app = TestApp::start(&Home::new());
    let last = "Host: x\r\nConnection: close\r\n\r\n";
    let answer = exchange(&app, format!("CONNECT x:443 HTTP/1.1\r\n{last}").as_bytes());
    assert_eq!(statuses(&answer), ["404"], "{answer}");
    for (protocol, more) in
        [("websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n"), ("h2c", "HTTP2-Settings: AA\r\n")]
    {
        let head = format!("GET /health/live HTTP/1.1\r\nUpgrade: {protocol}\r\nConnection: upgrade, close\r\n{more}");
        let answer = exchange(&app, format!("{head}Host: x\r\n\r\n").as_bytes());
        assert_eq!(statuses(&answer), ["200"], "{protocol}: {answer}");
    }
}

/// Answered in order, each once, however many arrive at once and in whatever pieces.
#[test]
fn requests_in_a_row_are_answered_in_a_row() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let mut requests = String::new();
    for number in 0..400 {
        let path = ["/health/live", "/v1/users/me", "/health/ready"][number % 3];
        requests += &format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {number}\r\n");
        requests += &format!("Authorization: Bearer {}\r\n", pair.access);
        requests += if number == 399 { "Connection: close\r\n\r\n" } else { "\r\n" };
    }
    for piece in [1_000_000, 997] {
        let mut stream = TcpStream::connect(app.address).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        for piece in requests.as_bytes().chunks(piece) {
            stream.write_all(piece).unwrap();
        }
        let text = reading.join().unwrap();
        assert_eq!(statuses(&text), ["200"; 400]);
        let ids: Vec<usize> = text
            .split("x-request-id: ")
            .skip(1)
            .map(|rest| rest.split('\r').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(ids, (0..400).collect::<Vec<_>>());
        drop(stream.shutdown(Shutdown::Both));
    }
}

/// What a client says about where it has come from.
fn lies() -> Vec<(&'static str, &'static str)> {
    vec![
        ("Forwarded", "for=192.0.2.1;host=evil.example;proto=https;by=evil.example"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Server", "evil.example"),
        ("X-Forwarded-Prefix", "/evil.example"),
        ("X-Forwarded-Port", "6666"),
        ("X-Original-Host", "evil.example"),
        ("X-Original-URL", "/evil.example"),
        ("X-Rewrite-URL", "/evil.example"),
        ("X-Host", "evil.example"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Origin", "https://evil.example"),
        ("Referer", "https://evil.example/"),
    ]
}

fn claims(token: &Value) -> Value {
    let part = token.as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// MET-04: every kind of answer, asked for with lies in every place, from a peer that is believed as a proxy.
#[test]
fn neither_host_nor_any_forwarded_header_shapes_an_issuer_or_an_answer() {
    let configured = |home: &Home| config(home).with("server.trusted_proxies", "127.0.0.0/8");
    let by_default = |home: &Home| {
        bare_config(home).with("passwords.bcrypt_cost", "4").with("server.trusted_proxies", "127.0.0.0/8")
    };
    for issuer in ["http://issuer.test", "http://127.0.0.1:0"] {
        let home = Home::new();
        if issuer != "http://issuer.test" && !home.database().is_embedded() {
            // Nodes that share a database are told who they are.
            continue;
        }
        let settings = if issuer == "http://issuer.test" { configured(&home) } else { by_default(&home) };
        let app = TestApp::start_with(settings, clock());
        let lie = |method: &str, target: &str, body: Option<&Value>, token: Option<&str>| {
            let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {MARK}:6666\r\nConnection: close\r\n");
            for (name, value) in lies() {
                head += &format!("{name}: {value}\r\n");
            }
            if let Some(token) = token {
                head += &format!("Authorization: Bearer {token}\r\n");
            }
            let body = body.map(Value::to_string).unwrap_or_default();
            let head = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let answer = exchange(&app, head.as_bytes());
            assert!(!answer.contains("evil") && !answer.contains("6666"), "{method} {target}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(!head.to_ascii_lowercase().contains("\nlocation:"), "{head}");
            (statuses(head)[0].to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
        };
        let user = json!({ "email": ADA, "password": PASSWORD });
        for target in ["/v1/auth/register", "http://evil.example:6666/v1/auth/login"] {
            let (status, pair) = lie("POST", target, Some(&user), None);
            assert!(["201", "200"].contains(&status.as_str()), "{status}");
            let access = claims(&pair["access_token"]);
            assert_eq!((&access["iss"], &access["aud"]), (&json!(issuer), &json!(issuer)));
            let refresh = claims(&pair["refresh_token"]);
            assert_eq!(refresh["iss"], issuer);
            assert!(refresh["aud"].as_str().unwrap().starts_with(issuer), "{refresh}");
            // And what was issued so is good for a client that does not lie, and the other way round.
            app.refresh(pair["refresh_token"].as_str().unwrap()).expect(200);
            let token = pair["access_token"].as_str();
            assert_eq!(lie("GET", "/v1/users/me", None, token).0, "200");
            assert_eq!(lie("GET", "https://evil.example/v1/users/me", None, token).0, "200");
        }
        for (method, target) in [
            ("GET", "/openapi.json"),
            ("GET", "/.well-known/jwks.json"),
            ("GET", "/health/ready"),
            ("GET", "/nothing"),
            ("GET", "/v1/users/me"),
            ("GET", "/v1/auth/login"),
            ("POST", "/v1/auth/login"),
            ("OPTIONS", "/v1/auth/login"),
            ("OPTIONS", "*"),
        ] {
            lie(method, target, None, None);
        }
    }
}
