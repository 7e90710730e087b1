//! H4 of `docs/rotation.md`: the server is killed between a commit and its answer, or anywhere else, and
//! started again. No client is ever refused, and nothing that was answered is forgotten.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::process::{Connection, Home, Lost};

/// How often the server is killed.
const KILLS: u32 = 16;
/// How many clients refresh all the time.
const CLIENTS: usize = 4;
/// How long all of it may take, on a machine however busy.
const BOUND: Duration = Duration::from_secs(120);
/// A forgotten commit would leave a client with a token ahead of its row. Such a token is adopted by
/// default, which would hide the loss; so here it is refused.
const STRICT: [(&str, &str); 1] = [("COUNTERSIGN__ROTATION__ADOPT_AHEAD", "false")];

/// A client whose server is killed at any moment is never refused and loses nothing it was told.
#[test]
fn a_client_whose_server_is_killed_at_any_moment_loses_nothing() {
    let began = Instant::now();
    let home = Home::new();
    let mut server = home.serve(&STRICT);
    let mut tokens: Vec<String> = (0..CLIENTS)
        .map(|number| text(&server.register(&format!("client{number}@example.com")), "refresh_token"))
        .collect();
    let (mut answered, mut unanswered, mut seed) = (0, 0, began.elapsed().subsec_nanos());
    for _ in 0..KILLS {
        let address = server.address;
        let killed = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = tokens
            .into_iter()
            .map(|stored| {
                let killed = Arc::clone(&killed);
                thread::spawn(move || until_cut_off(address, stored, &killed))
            })
            .collect();
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        thread::sleep(Duration::from_micros(u64::from(20_000 + (seed >> 8) % 120_000)));
        killed.store(true, Ordering::SeqCst);
        server.signal(Signal::KILL);
        let (status, _) = server.wait();
        assert_eq!(status.code(), None, "it was killed");
        let ends: Vec<Cut> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        answered += ends.iter().map(|end| end.answered).sum::<u32>();
        unanswered += ends.iter().filter(|end| end.in_flight).count();

        server = home.serve(&STRICT);
        tokens = ends.into_iter().map(|end| retry(server.address, &end.stored)).collect();
    }
    let took = began.elapsed();
    println!("{answered} refreshes answered, {unanswered} cut off by {KILLS} kills, {took:?}");
    assert!(answered > KILLS * 4, "the clients were busy: {answered} answers");
    assert!(unanswered >= 4, "kills met requests in flight: {unanswered}");
    assert!(took < BOUND, "{took:?}");
}

/// What a client holds when its server has died.
struct Cut {
    stored: String,
    answered: u32,
    in_flight: bool,
}

/// Refreshes as fast as it can, and stores each answer, until there is none.
fn until_cut_off(address: SocketAddr, mut stored: String, killed: &AtomicBool) -> Cut {
    let mut answered = 0;
    let Ok(mut connection) = Connection::open(address) else {
        return Cut { stored, answered, in_flight: false };
    };
    loop {
        match connection.refresh(&stored) {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.body);
                stored = text(&answer.body, "refresh_token");
                answered += 1;
            }
            Err(lost) => {
                assert!(killed.load(Ordering::SeqCst), "only a killed server leaves a request alone: {lost:?}");
                return Cut { stored, answered, in_flight: matches!(lost, Lost::Unanswered(_)) };
            }
        }
    }
}

/// After the restart: the stored token works, whether or not its successor had been committed, and so does
/// what it is exchanged for.
fn retry(address: SocketAddr, stored: &str) -> String {
    let mut connection = Connection::open(address).unwrap();
    let first = connection.refresh(stored).unwrap();
    assert_eq!(first.status, 200, "the stored token was refused: {}", first.body);
    let second = connection.refresh(&text(&first.body, "refresh_token")).unwrap();
    assert_eq!(second.status, 200, "its successor was refused: {}", second.body);
    text(&second.body, "refresh_token")
}

fn text(body: &serde_json::Value, member: &str) -> String {
    body[member].as_str().unwrap_or_else(|| panic!("no {member} in {body}")).to_owned()
}
