//! H4 of `docs/rotation.md`: the server is killed between a commit and its answer, or anywhere else, and
//! started again. No client is ever refused, and nothing that was answered is forgotten.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use support::process::{Connection, Home, Lost};

use super::{Dice, Outcome, Run};

/// How many clients refresh all the time.
const CLIENTS: usize = 4;
/// How many kills must meet a request in flight.
const IN_FLIGHT: usize = 4;
/// A forgotten commit would leave a client with a token ahead of its row. Such a token is adopted by
/// default, which would hide the loss; so here it is refused.
const STRICT: [(&str, &str); 1] = [("COUNTERSIGN__ROTATION__ADOPT_AHEAD", "false")];

pub fn nothing_is_lost(run: &Run) -> Outcome {
    let home = Home::new();
    let mut server = home.serve(&STRICT);
    let mut tokens: Vec<String> = (0..CLIENTS)
        .map(|number| text(&server.register(&format!("client{number}@example.com")), "refresh_token"))
        .collect();
    let mut dice = Dice(run.seed);
    let (mut kills, mut answered, mut unanswered) = (0_u32, 0, 0);
    while run.has_time() || (unanswered < IN_FLIGHT && run.may_go_on()) {
        let address = server.address;
        let killed = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = tokens
            .into_iter()
            .map(|stored| {
                let killed = Arc::clone(&killed);
                thread::spawn(move || until_cut_off(address, stored, &killed))
            })
            .collect();
        thread::sleep(Duration::from_micros(20_000 + dice.below(120_000)));
        killed.store(true, Ordering::SeqCst);
        server.signal(Signal::KILL);
        let (status, _) = server.wait();
        assert_eq!(status.code(), None, "it was killed");
        kills += 1;
        let ends: Vec<Cut> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        answered += ends.iter().map(|end| end.answered).sum::<u32>();
        unanswered += ends.iter().filter(|end| end.in_flight).count();

        server = home.serve(&STRICT);
        tokens = ends.into_iter().map(|end| retry(server.address, &end.stored)).collect();
    }
    let told = format!("{answered} refreshes answered, {unanswered} cut off by {kills} kills");
    println!("{told}");
    if unanswered < IN_FLIGHT { Outcome::Inconclusive(told) } else { Outcome::Passed }
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
