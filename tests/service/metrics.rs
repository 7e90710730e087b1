//! `/metrics`: on a listener of its own, whole from the start, and true.

use support::sockets::with_sockets;

use super::*;

/// A server, and where its metrics are: on a socket that it is given, for which no other program can come first.
fn start(home: &Home, environment: &[(&str, &str)]) -> (Server, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (command, _inherited) = with_sockets(home, &[("metrics", &listener)], environment);
    (Server::start(command), listener.local_addr().unwrap())
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

fn metrics(address: SocketAddr) -> String {
    let (status, answer) = get(address, "/metrics");
    assert_eq!(status, 200, "{answer}");
    answer
}

/// The value of a series, which must be there.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

#[test]
fn what_happens_is_measured_and_no_client_is_named() {
    let home = Home::new();
    let (server, address) = start(&home, &[("COUNTERSIGN__LIMITS__LOGIN_FAILURES", "2")]);
    let pair = server.register("ada@example.com");
    let refresh = member(&pair, "refresh_token");
    let next = Connection::open(server.address).unwrap().refresh(&refresh).unwrap();
    assert_eq!(next.status, 200);
    assert_eq!(Connection::open(server.address).unwrap().refresh(&refresh).unwrap().status, 200, "a repeat");
    assert_eq!(Connection::open(server.address).unwrap().refresh("junk").unwrap().status, 400);
    for expected in [401, 401, 429] {
        let guess = json!({ "email": "ada@example.com", "password": "a wrong guess" });
        assert_eq!(server.post("/v1/auth/login", &guess).status, expected);
    }
    let (status, _) = get(server.address, "/v1/users/ada@example.com/../../etc?token=canary");
    assert_eq!(status, 404);

    let text = metrics(address);
    assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
    for (series, expected) in [
        ("countersign_refreshes_total{verdict=\"rotated\"}", 1.0),
        ("countersign_refreshes_total{verdict=\"repeated\"}", 1.0),
        ("countersign_refreshes_total{verdict=\"malformed\"}", 1.0),
        ("countersign_refreshes_total{verdict=\"reused\"}", 0.0),
        ("countersign_logins_total{outcome=\"wrong_password\"}", 2.0),
        ("countersign_logins_total{outcome=\"rate_limited\"}", 1.0),
        ("countersign_throttled_total{limit=\"login\"}", 1.0),
        ("countersign_http_requests_total{route=\"/v1/auth/refresh\",method=\"POST\",status=\"200\"}", 2.0),
        ("countersign_http_requests_total{route=\"/v1/auth/refresh\",method=\"POST\",status=\"400\"}", 1.0),
        ("countersign_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"}", 1.0),
        ("countersign_http_request_duration_seconds_count{route=\"/v1/auth/login\"}", 3.0),
        ("countersign_password_hash_seconds_count", 3.0),
        ("countersign_password_hash_wait_seconds_count", 3.0),
        ("countersign_password_hash_queue", 0.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    assert!(value(&text, "countersign_write_batch_size_count") >= 4.0);
    assert!(value(&text, "countersign_clock_offset_seconds").abs() < 60.0);
    assert!(value(&text, "countersign_db_errors_total{kind=\"broken\"}") < 1.0);
    assert!(value(&text, "countersign_key_age_seconds{purpose=\"access\"}") < 600.0);
    assert!(value(&text, "process_resident_memory_bytes") > 1e6);
    for canary in ["ada", "canary", "etc", "127.0.0.1", &member(&pair, "session_id"), PASSWORD] {
        assert!(!text.contains(canary), "{canary} is told: {text}");
    }
    // In the end those that were counted, and a round of the janitor.
    let began = Instant::now();
    loop {
        let text = metrics(address);
        let swept = value(&text, "countersign_janitor_last_success_timestamp_seconds") > 1.7e9;
        if swept && value(&text, "countersign_sessions_live") >= 0.0 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{text}");
        thread::sleep(Duration::from_millis(50));
    }
    server.stop();
}

#[test]
fn metrics_are_not_on_the_public_listener_and_the_api_is_not_on_theirs() {
    let home = Home::new();
    let (server, address) = start(&home, &[]);
    assert_eq!(get(server.address, "/metrics").0, 404);
    assert_eq!(get(address, "/v1/users/me").0, 404);
    assert_eq!(get(address, "/health/live").0, 404);
    let log = server.stop();
    assert!(log.contains(&format!("metrics are at http://{address}/metrics")), "{log}");
    let log = home.serve(&[("COUNTERSIGN__METRICS__BIND", "127.0.0.1:0")]).stop();
    assert!(log.contains("metrics are at http://127.0.0.1:") && !log.contains(":0/metrics"), "{log}");
    assert!(!home.serve(&[]).stop().contains("metrics are at"), "they are off");
}

/// Two servers on one machine have the same default; one that was asked for is another matter.
#[test]
fn only_an_address_that_was_asked_for_must_be_free() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let told = refused(&home, &[("PORT", "0"), ("COUNTERSIGN__METRICS__BIND", &address)]);
    assert_tells(&told, &["metrics.bind", &address]);
    assert!(!home.path("data").exists());
    // One that no interface has is found by check-config as well.
    let elsewhere = [("COUNTERSIGN__METRICS__BIND", "192.0.2.1:9464"), ("PORT", "0")];
    for command in ["serve", "check-config"] {
        let output = home.command([command], elsewhere).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {told}");
        assert_tells(&told, &["metrics.bind", "192.0.2.1:9464"]);
    }
    // A server starts also where another program has the default address.
    let _held = TcpListener::bind(("127.0.0.1", 9464));
    let server = Server::start(home.command([], [("PORT", "0"), ("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4")]));
    let log = server.stop();
    assert!(log.contains("there are no metrics, for 127.0.0.1:9464, the default of metrics.bind"), "{log}");
}
