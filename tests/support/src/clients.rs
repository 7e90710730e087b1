//! Clients that go from one server to the next with each request, and take nothing but the right answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::process::{Answer, Connection, Server};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the key that a token was signed with.
pub fn kid(token: &str) -> String {
    part(token, 0)["kid"].as_str().unwrap().to_owned()
}

/// What a token says.
pub fn claims(token: &str) -> Value {
    part(token, 1)
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The answer, which must be 200 in the end. A server that has not learnt for a while who has signed out, as on a busy machine,
/// says 503 and is asked again.
fn until_it_can_tell(mut ask: impl FnMut() -> Answer) -> Value {
    let began = Instant::now();
    loop {
        let answer = ask();
        match answer.status {
            200 => return answer.body,
            503 if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
            status => panic!("{status}: {}", answer.body),
        }
    }
}

/// Clients at work. Each refreshes at one server and shows its access token to the next.
pub struct Clients {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// So many, each with a session of its own.
    pub fn start(servers: &[&Server], count: usize) -> Self {
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let client = |number: usize| {
            let mut pair = servers[0].register(&format!("client{number}@example.com"));
            let (over, answered, addresses) = (Arc::clone(&over), Arc::clone(&answered), addresses.clone());
            thread::spawn(move || {
                let mut connections: Vec<_> =
                    addresses.iter().map(|address| Connection::open(*address).unwrap()).collect();
                for turn in 0.. {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let (at, next) = (turn % connections.len(), (turn + 1) % connections.len());
                    let token = pair["refresh_token"].as_str().unwrap();
                    pair = until_it_can_tell(|| connections[at].refresh(token).unwrap());
                    let bearer = format!("Bearer {}", pair["access_token"].as_str().unwrap());
                    let headers = [("Authorization", bearer.as_str())];
                    until_it_can_tell(|| connections[next].send("GET", "/v1/users/me", &headers, "").unwrap());
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let threads = (0..count).map(client).collect();
        Self { over, answered, threads }
    }

    /// Waits until they have gone on for a while.
    #[track_caller]
    pub fn go_on(&self) {
        let (before, began) = (self.answered.load(Ordering::SeqCst), Instant::now());
        while self.answered.load(Ordering::SeqCst) < before + 40 {
            assert!(began.elapsed() < PATIENCE, "they go on no more");
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client was refused");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends them: how often they have been answered.
    #[track_caller]
    pub fn stop(self) -> u32 {
        self.over.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.answered.load(Ordering::SeqCst)
    }
}
