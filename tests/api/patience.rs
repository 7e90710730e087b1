//! HTT-07: clients that take their time. Each test gives the server less patience than it has, and clients that
//! would try it for ever.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use countersign::Bounds;
use serde_json::json;

use support::harness::{Answer, Home, PASSWORD, TestApp, clock, config};
use support::reading;

/// Far more than any bound below, and less than any bound of a server that is not in a test.
const LONG: Duration = Duration::from_secs(60);

const HEAD: &str = "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The stack below times the first head, and idle connections, by a clock that ticks twice a second.
const BOUNDS: Bounds =
    Bounds { keep_alive: ms(4000), head: ms(1500), body: ms(700), stall: ms(500), connections: 1000 };

fn start(home: &Home) -> TestApp {
    start_within(home, BOUNDS)
}

/// With more patience, where a client must not lose it by standing still for a moment.
fn start_within(home: &Home, bounds: Bounds) -> TestApp {
    TestApp::start_within(config(home), clock(), bounds)
}

fn connect(app: &TestApp) -> TcpStream {
    let stream = TcpStream::connect(app.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(ms(20))).unwrap();
    stream
}

/// Reads what there is, and whether the server has closed the connection.
fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut part = [0; 4096];
    match reading::read(stream, &mut part) {
        Ok(0) => true,
        Ok(length) => {
            into.extend_from_slice(&part[..length]);
            false
        }
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Sends `piece` again and again until the server closes the connection, which it must: all that it has said.
#[track_caller]
fn trickle(stream: &mut TcpStream, piece: &[u8]) -> String {
    trickle_for(LONG, stream, piece)
}

/// The same, which must come to its end within `long`.
#[track_caller]
fn trickle_for(long: Duration, stream: &mut TcpStream, piece: &[u8]) -> String {
    let (began, mut said) = (Instant::now(), Vec::new());
    while !read(stream, &mut said) {
        assert!(began.elapsed() < long, "still open after {}", String::from_utf8_lossy(&said));
        let _ = stream.write_all(piece);
    }
    String::from_utf8(said).unwrap()
}

/// Reads one answer from a connection that stays open.
#[track_caller]
fn answer(stream: &mut TcpStream) -> String {
    let (began, mut said) = (Instant::now(), Vec::new());
    loop {
        assert!(!read(stream, &mut said), "closed after {}", String::from_utf8_lossy(&said));
        assert!(began.elapsed() < LONG, "no answer");
        let text = String::from_utf8_lossy(&said);
        if text.ends_with('}') {
            return text.into_owned();
        }
    }
}

#[test]
fn a_head_that_never_ends_is_a_408() {
    let app = start(&Home::new());
    let mut stream = connect(&app);
    stream.write_all(HEAD.as_bytes()).unwrap();
    let said = trickle(&mut stream, b"X-A: a\r\n");
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    Answer::to(app.get("/health/live")).expect(200);
}

/// The stack below times the first head on a connection only.
#[test]
fn a_later_head_that_never_ends_is_cut_off() {
    let app = start(&Home::new());
    for begin in ["GET ", "GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: ", "\r\n"] {
        let mut stream = connect(&app);
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(answer(&mut stream).starts_with("HTTP/1.1 200 "));
        stream.write_all(begin.as_bytes()).unwrap();
        let piece: &[u8] = if begin == "\r\n" { b"\r\n" } else { b"a" };
        assert_eq!(trickle(&mut stream, piece), "", "{begin:?}");
    }
    // Also one that has begun behind a request that was still being answered, and then falls silent.
    let mut stream = connect(&app);
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /heal").unwrap();
    assert!(trickle(&mut stream, b"").starts_with("HTTP/1.1 200 "));
}

/// A body that does not come in time is a 400 that says so and closes the connection.
#[test]
fn a_body_that_does_not_come_in_time_is_a_400_and_closes() {
    let home = Home::new();
    let app = start(&home);
    let pair = app.sign_up("ada@example.com");
    let change =
        format!("{}Authorization: Bearer {}\r\n", HEAD.replace("auth/login", "users/me/password"), pair.access);
    for (head, piece) in [
        (format!("{HEAD}Content-Length: 60000\r\n\r\n"), &b" "[..]),
        (format!("{HEAD}Content-Length: 60000\r\n\r\n"), b""),
        (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n"), b"1\r\n \r\n"),
        (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n1"), b"0"),
        (format!("{change}Transfer-Encoding: chunked\r\n\r\n"), b"1\r\n \r\n"),
    ] {
        let mut stream = connect(&app);
        stream.write_all(head.as_bytes()).unwrap();
        let said = trickle(&mut stream, piece);
        assert!(said.starts_with("HTTP/1.1 400 ") && said.matches("HTTP/1.1").count() == 1, "{said}");
        if piece != b"0" {
            assert!(said.contains("invalid_request") && said.contains("The body did not come in time."), "{said}");
        }
        assert!(said.contains("\r\nconnection: close\r\n"), "{said}");
    }
    assert!(app.works(&pair.access));
}

/// The body of a request that is refused by its head is not read; nor is it thrown away for ever.
#[test]
fn a_refused_body_that_goes_on_and_on_is_cut_off() {
    let app = start(&Home::new());
    for (path, status) in [("/nothing", 404), ("/v1/users/me/password", 401), ("/health/live", 405)] {
        for (length, piece) in
            [("Transfer-Encoding: chunked\r\n", &b"1\r\n \r\n"[..]), ("Content-Length: 60000\r\n", b" ")]
        {
            let mut stream = connect(&app);
            stream.write_all(format!("POST {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n").as_bytes()).unwrap();
            let said = trickle(&mut stream, piece);
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {said}");
            assert!(said.contains("\r\nconnection: close\r\n"), "{path}: {said}");
        }
    }
    let large = "f".repeat(1000);
    let mut stream = connect(&app);
    stream.write_all(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let said = trickle(&mut stream, format!("3e8\r\n{large}\r\n").repeat(8).as_bytes());
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
}

/// As fast as clients do it, which is slowly enough for a phone in a tunnel.
#[test]
fn a_request_in_many_pieces_is_answered_if_it_comes_in_time() {
    let bounds = Bounds { keep_alive: ms(12_000), head: ms(3000), body: ms(6000), ..BOUNDS };
    let app = start_within(&Home::new(), bounds);
    app.sign_up("ada@example.com");
    let body = json!({ "email": "ada@example.com", "password": PASSWORD }).to_string();
    let mut stream = connect(&app);
    for round in 0..2 {
        let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
        for piece in head.as_bytes().chunks(25) {
            stream.write_all(piece).unwrap();
            std::thread::sleep(ms(20));
        }
        // A chunk's length, its data and its end, each on its own.
        for piece in body.as_bytes().chunks(9) {
            for piece in [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"] {
                stream.write_all(piece).unwrap();
                std::thread::sleep(ms(4));
            }
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        let said = answer(&mut stream);
        assert!(said.starts_with("HTTP/1.1 200 "), "{round}: {said}");
        // The connection is kept for longer than a head may take.
        std::thread::sleep(bounds.head + ms(300));
    }
    // Every byte of the largest body in a chunk of its own.
    let body = format!("{body}{}", " ".repeat(60_000));
    let chunks: String = body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    stream.write_all(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").as_bytes()).unwrap();
    assert!(answer(&mut stream).starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_idle_connection_is_kept_for_a_while_and_then_closed() {
    let bounds = Bounds { keep_alive: ms(8000), ..BOUNDS };
    let app = start_within(&Home::new(), bounds);
    let mut stream = connect(&app);
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    answer(&mut stream);
    std::thread::sleep(ms(2500));
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    answer(&mut stream);
    assert_eq!(trickle_for(3 * bounds.keep_alive, &mut stream, b""), "");
}

/// Asks and asks, and reads nothing of what is answered.
#[test]
fn a_client_that_takes_no_answer_is_cut_off() {
    let app = start(&Home::new());
    let mut stream = connect(&app);
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(500);
    stream.set_nonblocking(true).unwrap();
    let began = Instant::now();
    // The server stops reading as soon as its client takes nothing of what it writes; cutting off shows as a failed write.
    loop {
        match stream.write(requests.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(ms(5)),
            Err(_) => break,
            Ok(_) => {}
        }
        assert!(began.elapsed() < LONG, "still open");
    }
    Answer::to(app.get("/health/live")).expect(200);
}

/// A client that reads slowly but reads is left alone.
#[test]
fn an_answer_that_is_taken_slowly_arrives_whole() {
    let bounds = Bounds { stall: ms(2000), ..BOUNDS };
    let app = start_within(&Home::new(), bounds);
    let mut stream = connect(&app);
    stream.write_all("GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100).as_bytes()).unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let (began, mut said) = (Instant::now(), Vec::new());
    let mut part = vec![0; 64 * 1024];
    loop {
        std::thread::sleep(ms(15));
        match reading::read(&mut stream, &mut part) {
            Ok(0) => break,
            Ok(length) => said.extend_from_slice(&part[..length]),
            Err(error) => assert!(error.kind() == ErrorKind::WouldBlock, "{error}"),
        }
        assert!(began.elapsed() < 4 * LONG, "{}", said.len());
    }
    assert!(began.elapsed() > bounds.stall, "it takes longer than nothing may be taken for");
    let text = String::from_utf8(said).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 101);
    assert!(text.ends_with("{\"status\":\"live\"}"));
}
