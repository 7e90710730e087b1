//! More log-ins than can be hashed: the queue is bounded, left by clients that hang up, and no other client's trouble.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::harness::{Home, PASSWORD, TestApp, clock, config, number_in_database, text_in_database};
use support::reading::{peek, read};

const ADA: &str = "ada@example.com";

/// Far longer than any queue is filled in.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server whose hashes take long enough to queue for.
fn slow(home: &Home) -> TestApp {
    of_cost(home, "12")
}

fn of_cost(home: &Home, cost: &str) -> TestApp {
    let config = config(home).with("passwords.bcrypt_cost", cost).with("limits.enabled", "true");
    let config = config.with("server.trusted_proxies", "127.0.0.0/8");
    TestApp::start_with(config.with("limits.login_failures", "1000"), clock())
}

/// Sends a log-in and waits for nothing.
fn knock(app: &TestApp, email: &str) -> TcpStream {
    send(app, "/v1/auth/login", "127.0.0.1", &json!({ "email": email, "password": "wrong wrong wrong" }))
}

/// Sends a request from an address and waits for nothing.
fn send(app: &TestApp, path: &str, address: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let mut stream = TcpStream::connect(app.address).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json");
    let length = body.len();
    write!(stream, "{head}\r\nX-Forwarded-For: {address}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// The status of an answer, when it comes.
#[track_caller]
fn status(mut stream: TcpStream) -> String {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

/// Knocks as often as is more than any queue holds: 32 a core, and one at work on each.
fn knocks(app: &TestApp) -> Vec<TcpStream> {
    (0..40 * cores()).map(|_| knock(app, ADA)).collect()
}

/// Not answered yet.
fn waits(stream: &TcpStream) -> bool {
    peek(stream).is_err()
}

/// More than any queue holds, and what the first to be turned away was told.
fn crowd(app: &TestApp) -> (Vec<TcpStream>, String) {
    let (crowd, began) = (knocks(app), Instant::now());
    loop {
        for mut stream in &crowd {
            let mut answer = [0; 2048];
            let Ok(length) = read(&mut stream, &mut answer) else { continue };
            let answer = String::from_utf8_lossy(&answer[..length]).to_ascii_lowercase();
            if answer.starts_with("http/1.1 503") {
                return (crowd, answer);
            }
        }
        assert!(began.elapsed() < PATIENCE, "nobody is turned away");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

/// PWD-07.
#[test]
fn past_the_bound_a_log_in_is_503_and_everything_else_goes_on() {
    let home = Home::new();
    let app = slow(&home);
    let mut pair = app.sign_up(ADA);
    let (mut crowd, answer) = crowd(&app);
    assert!(answer.contains("\"code\":\"unavailable\"") && answer.contains("cache-control: no-store"), "{answer}");
    let wait = answer.split("retry-after: ").nth(1).unwrap().split('\r').next().unwrap();
    assert!(wait.parse::<u32>().unwrap() >= 1, "as long as the queue takes: {wait}");

    // A client that is turned away costs nothing: the database has not heard of them.
    let known = || number_in_database(&home, "SELECT count(*) FROM attempts");
    let (began, mut strangers) = (Instant::now(), 0..);
    loop {
        crowd.retain(waits);
        crowd.extend(knocks(&app));
        let before = known();
        // A place may be given up just now, so that the stranger gets in, or is looked up and finds no place any more.
        let mut stranger = knock(&app, &format!("stranger{}@example.com", strangers.next().unwrap()));
        stranger.set_nonblocking(false).unwrap();
        stranger.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut answer = [0; 12];
        if stranger.read_exact(&mut answer).is_ok() && answer == *b"HTTP/1.1 503" && known() == before {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no stranger is turned away at once and unheard of");
    }

    for _ in 0..20 {
        assert!(app.works(&pair.access));
        pair = app.refresh(&pair.refresh).expect(200).pair();
    }
    assert!(crowd.iter().any(waits), "all this happened while log-ins waited");
}

/// One address asks for more hashes than the queue holds, and again as soon as it is turned away: log-ins to an account
/// of its own, or to none, and registrations of an address that is taken. Ten others log in meanwhile.
#[test]
fn an_address_that_fills_the_queue_keeps_no_other_out() {
    const GREEDY: &str = "203.0.113.66";
    let right = json!({ "email": ADA, "password": PASSWORD });
    let unknown = json!({ "email": "nobody@example.com", "password": PASSWORD });
    for (path, body) in [("/v1/auth/login", &right), ("/v1/auth/login", &unknown), ("/v1/auth/register", &right)] {
        let home = Home::new();
        let app = of_cost(&home, "9");
        app.sign_up(ADA);
        let ask = || send(&app, path, GREEDY, body);
        let mut greedy: Vec<_> = (0..40 * cores()).map(|_| ask()).collect();
        let turned_away = |greedy: &mut Vec<TcpStream>| {
            let before = greedy.len();
            greedy.retain(waits);
            let gone = before - greedy.len();
            greedy.extend((0..gone).map(|_| ask()));
            gone
        };
        let began = Instant::now();
        // 32 a core wait, and one is at work on each: more answers than that are refusals.
        let mut answers = 0;
        while answers < 33 * cores() {
            answers += turned_away(&mut greedy);
            assert!(began.elapsed() < PATIENCE, "{path}: nothing is turned away");
            std::thread::sleep(Duration::from_millis(5));
        }
        let honest: Vec<_> =
            (0..10).map(|number| send(&app, "/v1/auth/login", &format!("198.51.100.{number}"), &right)).collect();
        while honest.iter().any(waits) {
            turned_away(&mut greedy);
            assert!(began.elapsed() < 2 * PATIENCE, "{path}: others wait");
            std::thread::sleep(Duration::from_millis(5));
        }
        let statuses: Vec<_> = honest.into_iter().map(status).collect();
        assert!(statuses.iter().all(|status| status == "200"), "{path}: {statuses:?}");
        assert!(greedy.iter().any(waits), "{path}: all this happened while it waited");
    }
}

#[test]
fn whoever_hangs_up_leaves_the_queue_and_their_guess_does_not_count() {
    let home = Home::new();
    let app = slow(&home);
    app.sign_up(ADA);
    app.sign_up("bob@example.com");
    let (crowd, _) = crowd(&app);
    drop(crowd);
    // From the same address, so it is answered behind all that are still in the queue. Ada's own success would clear
    // what is counted at her account.
    while app.post("/v1/auth/login", &json!({ "email": "bob@example.com", "password": PASSWORD })).status == 503 {}
    let queue = i64::try_from(32 * cores()).unwrap();
    let began = Instant::now();
    loop {
        let looked_at = number_in_database(
            &home,
            "SELECT coalesce(max(count), 0) FROM attempts WHERE user_id IS NOT NULL AND ip_address IS NULL",
        );
        if looked_at <= queue / 2 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "of more than {queue} that knocked, {looked_at} were looked at");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// PWD-08.
#[test]
fn a_hash_of_another_cost_is_made_anew_at_the_next_log_in() {
    let home = Home::new();
    let app = TestApp::start(&home);
    app.sign_up(ADA);
    drop(app);
    let app = TestApp::start_with(config(&home).with("passwords.bcrypt_cost", "5"), clock());
    let stored = || text_in_database(&home, "SELECT password_hash FROM users");
    assert!(stored().starts_with("cs1:-:$2b$04$"), "{}", stored());
    app.log_in(ADA);
    assert!(stored().starts_with("cs1:-:$2b$05$"), "{}", stored());
    // Made by other bcrypts of other ages, of the same password.
    for prefix in ["$2a$", "$2b$", "$2y$"] {
        let foreign = bcrypt::hash(PASSWORD, 4).unwrap().replacen("$2b$", prefix, 1);
        support::harness::in_database(&home, &format!("UPDATE users SET password_hash = '{foreign}'"));
        app.post("/v1/auth/login", &json!({ "email": ADA, "password": "wrong wrong wrong" })).expect(401);
        assert_eq!(stored(), foreign, "only a log-in that succeeds renews");
        app.log_in(ADA);
        assert!(stored().starts_with("cs1:-:$2b$05$"), "{prefix}: {}", stored());
        app.log_in(ADA);
    }
}
