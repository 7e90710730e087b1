//! What happens at the same instant, thousands of times.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::harness::{Home, Pair, TestApp, clock, config};

use super::{Outcome, Run};

/// Two servers over one database, at the same time.
fn two_nodes(home: &Home) -> (TestApp, TestApp) {
    let clock = clock();
    let one = TestApp::start_with(config(home), clock.clone());
    (one, TestApp::start_with(config(home), clock))
}

/// After a revocation has been answered no refresh succeeds, on whichever node.
pub fn no_refresh_succeeds_after_a_revocation(run: &Run) -> Outcome {
    let home = Home::new();
    let (one, other) = two_nodes(&home);
    let mut rounds = 0_u32;
    while run.has_time() {
        let there = if rounds.is_multiple_of(2) { &one } else { &other };
        let pair = one.sign_up(&format!("user{rounds}@example.com"));
        one.pass(Duration::from_secs(60));
        refresh_until_ended(&one, there, &pair);
        rounds += 1;
    }
    println!("{rounds} sessions were ended while they were refreshed");
    Outcome::Passed
}

/// One client refreshes on `here` as fast as it can while its session is ended on `there`.
fn refresh_until_ended(here: &TestApp, there: &TestApp, pair: &Pair) {
    let (ended, start) = (AtomicBool::new(false), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            there.post("/v1/auth/logout", &json!({ "refresh_token": pair.refresh })).expect(204);
            ended.store(true, Ordering::SeqCst);
        });
        start.wait();
        let mut token = pair.refresh.clone();
        let mut refusals = 0;
        while refusals < 3 {
            let too_late = ended.load(Ordering::SeqCst);
            let answer = here.refresh(&token);
            if answer.status == 200 {
                assert!(!too_late, "a refresh succeeded after the revocation was answered");
                assert_eq!(refusals, 0, "a session came back");
                token = answer.pair().refresh;
            } else {
                answer.expect_refused("revoked");
                refusals += 1;
            }
        }
    });
}

/// Of many clients that come back with the same old token at the same instant, on two nodes, all get one answer.
pub fn one_recovery_wins_and_all_get_its_answer(run: &Run) -> Outcome {
    const CLIENTS: usize = 20;
    let home = Home::new();
    let (one, other) = two_nodes(&home);
    let mut rounds = 0_u32;
    while run.has_time() {
        let first = one.sign_up(&format!("user{rounds}@example.com"));
        one.pass(Duration::from_secs(60));
        one.refresh(&first.refresh).expect(200); // the answer is lost
        one.pass(Duration::from_secs(300));
        let start = Barrier::new(CLIENTS);
        let answers: Vec<Pair> = thread::scope(|scope| {
            let nodes = [&one, &other];
            let retries: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let (start, first, node) = (&start, &first, nodes[number % 2]);
                    scope.spawn(move || {
                        start.wait();
                        node.refresh(&first.refresh).expect(200).pair()
                    })
                })
                .collect();
            retries.into_iter().map(|retry| retry.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| answer.refresh == answers[0].refresh), "one successor");
        assert!(answers.iter().all(|answer| other.works(&answer.access)));
        one.refresh(&answers[0].refresh).expect(200);
        rounds += 1;
    }
    println!("{rounds} times {CLIENTS} clients recovered at once");
    Outcome::Passed
}
