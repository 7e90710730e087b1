//! Rotation as a property: whatever is presented, in whatever order and at whatever time, the server does
//! what an independent model of the rules says, and an honest client is never refused.
//!
//! The model is written from the rules (`docs/rotation.md`), not from the code: it knows tokens by the
//! order in which they were issued, and never looks into a database.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "the harness is shared")]

#[path = "api/harness/mod.rs"]
mod harness;

use std::time::Duration;

use countersign::clock::Timestamp;
use harness::{Answer, Home, Pair, TestApp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

const OVERLAP: i64 = 30;
const RECOVERY: i64 = 7 * 24 * 3600;
const IDLE: i64 = 30 * 24 * 3600;
const ABSOLUTE: i64 = 90 * 24 * 3600;
const WAITS: [i64; 9] = [0, 3, 29, 31, 600, 92 * 60, 20 * 3600, 6 * 24 * 3600, 8 * 24 * 3600];

#[derive(Clone, Debug)]
enum Step {
    /// Somebody presents the token that was issued so many tokens before the newest.
    Present(usize),
    /// The client confirms the pair that was issued so many pairs before the newest.
    Confirm(usize),
    Wait(i64),
    /// The server's clock steps back a minute.
    Back,
    /// The server stops and starts again.
    Restart,
    Logout,
}

/// What a presentation comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// A token never seen before.
    Fresh,
    /// The newest token again, byte for byte.
    Same,
    Conflict,
    Refused(&'static str),
}

/// A token as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Token {
    generation: u32,
    branch: u32,
    expires_at: i64,
}

/// The rules, in the order of the table.
struct Model {
    tokens: Vec<Token>,
    current: usize,
    previous: Option<usize>,
    rotated_at: i64,
    branched_at: i64,
    confirmed: bool,
    dead: bool,
    ends_at: i64,
    /// Generations from which a token has been exchanged, with the token: there is one each.
    exchanged: Vec<(u32, usize)>,
}

impl Model {
    fn new(now: i64) -> Self {
        let first = Token { generation: 0, branch: 0, expires_at: now + IDLE };
        Self {
            tokens: vec![first],
            current: 0,
            previous: None,
            rotated_at: now,
            branched_at: now,
            confirmed: false,
            dead: false,
            ends_at: now + ABSOLUTE,
            exchanged: Vec::new(),
        }
    }

    fn present(&mut self, index: usize, now: i64) -> Outcome {
        let token = self.tokens[index];
        let current = self.tokens[self.current];
        if token.expires_at <= now {
            return Outcome::Refused("expired");
        }
        if self.dead {
            return Outcome::Refused("revoked");
        }
        if current.expires_at <= now {
            return Outcome::Refused("expired");
        }
        if index == self.current {
            self.exchanged.push((token.generation, index));
            self.previous = Some(index);
            self.issue(token.generation + 1, 0, (now + IDLE).min(self.ends_at));
            (self.rotated_at, self.branched_at, self.confirmed) = (now, now, false);
            return Outcome::Fresh;
        }
        let overlapping = (now - self.branched_at).max(0) < OVERLAP;
        if Some(index) == self.previous {
            if overlapping {
                return if self.confirmed { Outcome::Conflict } else { Outcome::Same };
            }
            if !self.confirmed && (now - self.rotated_at).max(0) <= RECOVERY && current.branch < 3 {
                self.issue(current.generation, current.branch + 1, current.expires_at);
                self.branched_at = now;
                return Outcome::Fresh;
            }
            return self.reuse();
        }
        let two_back = token.generation + 2 == current.generation;
        if two_back && (now - self.rotated_at).max(0) < OVERLAP {
            return Outcome::Conflict;
        }
        self.reuse()
    }

    fn issue(&mut self, generation: u32, branch: u32, expires_at: i64) {
        self.tokens.push(Token { generation, branch, expires_at });
        self.current = self.tokens.len() - 1;
    }

    fn reuse(&mut self) -> Outcome {
        self.dead = true;
        Outcome::Refused("reused")
    }
}

fn refused(answer: &Answer) -> Outcome {
    match answer.status {
        409 => Outcome::Conflict,
        _ => {
            assert_eq!((answer.status, answer.code()), (400, "invalid_grant"), "{}", answer.text);
            let reason = answer.json()["reason"].as_str().unwrap().to_owned();
            let known = ["malformed", "expired", "revoked", "reused"];
            Outcome::Refused(known.into_iter().find(|known| **known == reason).expect("a known reason"))
        }
    }
}

/// A server that can be stopped and started again, on one database and one clock.
struct Server {
    home: Home,
    app: Option<TestApp>,
}

impl Server {
    fn new() -> Self {
        let home = Home::new();
        let app = TestApp::start(&home);
        app.sign_up("ada@example.com");
        Self { home, app: Some(app) }
    }

    fn app(&self) -> &TestApp {
        self.app.as_ref().expect("it runs")
    }

    fn now(&self) -> i64 {
        self.app().clock.now().as_seconds()
    }

    fn restart(&mut self) {
        let clock = self.app().clock.clone();
        drop(self.app.take());
        self.app = Some(TestApp::start_with(harness::config(&self.home), clock));
    }
}

/// Runs a schedule against the server and the model, and holds one to the other at every step.
fn check(server: &mut Server, schedule: &[Step]) {
    let mut pairs: Vec<Pair> = vec![server.app().log_in("ada@example.com")];
    let mut model = Model::new(server.now());
    for (number, step) in schedule.iter().enumerate() {
        let place = format!("step {number}, {step:?}");
        match step {
            Step::Wait(seconds) => server.app().pass(Duration::from_secs(u64::try_from(*seconds).unwrap())),
            Step::Back => server.app().clock.set(Timestamp::from_seconds(server.now() - 60)),
            Step::Restart => server.restart(),
            Step::Logout => {
                server
                    .app()
                    .post("/v1/auth/logout", &json!({ "refresh_token": pairs[model.current].refresh }))
                    .expect(204);
                let live = model.tokens[model.current].expires_at > server.now();
                model.dead |= live;
            }
            Step::Confirm(back) => {
                let index = pairs.len().saturating_sub(1 + back);
                let answer = server.app().confirm(&pairs[index].access);
                // An access token that has expired, or lies in the future of a clock that stepped back, says nothing.
                if answer.status == 401 {
                    continue;
                }
                assert!(!model.dead, "{place}: an ended session was confirmed: {}", answer.text);
                if index == model.current {
                    assert_eq!(answer.status, 204, "{place}: {}", answer.text);
                    model.confirmed = true;
                } else {
                    assert_eq!((answer.status, answer.code()), (409, "refresh_conflict"), "{place}");
                }
            }
            Step::Present(back) => {
                let index = pairs.len().saturating_sub(1 + back);
                let answer = server.app().refresh(&pairs[index].refresh);
                let expected = model.present(index, server.now());
                let seen = if answer.status == 200 {
                    let pair = answer.pair();
                    let fresh = pairs.iter().all(|known| known.refresh != pair.refresh);
                    let same = pairs.last().unwrap().refresh == pair.refresh;
                    assert!(server.app().works(&pair.access), "{place}: its access token does not work");
                    if fresh {
                        pairs.push(pair);
                        Outcome::Fresh
                    } else {
                        assert!(same, "{place}: an answer repeats a token that is not the newest");
                        Outcome::Same
                    }
                } else {
                    refused(&answer)
                };
                assert_eq!(seen, expected, "{place}: {}", answer.text);
                assert_eq!(pairs.len(), model.tokens.len(), "{place}");
                if model.dead {
                    assert!(
                        pairs.iter().all(|pair| !server.app().works(&pair.access)),
                        "{place}: a dead session works"
                    );
                }
            }
        }
    }
    let mut generations: Vec<u32> = model.exchanged.iter().map(|(generation, _)| *generation).collect();
    generations.dedup();
    assert_eq!(generations.len(), model.exchanged.len(), "two successors of one token were both exchanged");
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop_oneof![4 => Just(0_usize), 5 => Just(1), 2 => Just(2), 1 => 3..6_usize].prop_map(Step::Present),
        2 => prop_oneof![3 => Just(0_usize), 1 => Just(1)].prop_map(Step::Confirm),
        8 => prop::sample::select(&WAITS[..]).prop_map(Step::Wait),
        1 => Just(Step::Back),
    ]
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() })
}

#[test]
fn whatever_is_presented_whenever_the_server_does_what_the_rules_say() {
    let mut server = Server::new();
    let schedules = prop::collection::vec(any_step(), 4..24);
    let server = std::cell::RefCell::new(&mut server);
    let outcome = runner(400).run(&schedules, |schedule| {
        check(&mut server.borrow_mut(), &schedule);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn restarts_and_log_outs_change_nothing_about_that() {
    let mut server = Server::new();
    let step = prop_oneof![10 => any_step(), 1 => Just(Step::Restart), 1 => Just(Step::Logout)];
    let schedules = prop::collection::vec(step, 6..20);
    let server = std::cell::RefCell::new(&mut server);
    let outcome = runner(60).run(&schedules, |schedule| {
        check(&mut server.borrow_mut(), &schedule);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Every schedule of five steps over presenting the newest token, the one before it or the one before
/// that, confirming, and waiting less or more than the overlap: 6 + 36 + … + 7776 of them, checked as the
/// 7776 longest, whose beginnings the others are.
#[test]
fn all_interleavings_of_five_steps_follow_the_rules() {
    let alphabet =
        [Step::Present(0), Step::Present(1), Step::Present(2), Step::Confirm(0), Step::Wait(3), Step::Wait(31)];
    let mut server = Server::new();
    for number in 0..alphabet.len().pow(5) {
        let digits = (0..5_u32).map(|digit| number / alphabet.len().pow(digit) % alphabet.len());
        let schedule: Vec<Step> = digits.map(|digit| alphabet[digit].clone()).collect();
        // Waiting first, or twice the same, adds nothing.
        if !matches!(schedule[0], Step::Present(0)) {
            continue;
        }
        check(&mut server, &schedule);
    }
}

#[derive(Clone, Debug)]
enum Honest {
    /// Refreshes, and keeps the answer.
    Refresh,
    /// Refreshes, loses the answer, and tries again after so many seconds.
    LoseAnswer(i64),
    /// Refreshes, and the network delivers the request again after so many seconds.
    Duplicated(i64),
    /// Refreshes, uses the pair, is killed before storing it, and comes back after so many seconds.
    KilledBeforeStoring(i64),
    /// Refreshes, keeps the answer, and says so.
    Confirmed,
    Wait(i64),
    Back,
}

/// (1) Without a thief the session never dies before its end: an honest client that retries within the
/// recovery window, at most three times a generation, always ends with a working pair.
#[test]
fn an_honest_client_is_never_refused() {
    let server = Server::new();
    let app = server.app();
    let delay = prop::sample::select(&WAITS[..8]);
    let late = prop::sample::select(vec![0_i64, 3, 20, 29]);
    let step = prop_oneof![
        3 => Just(Honest::Refresh),
        3 => delay.clone().prop_map(Honest::LoseAnswer),
        2 => late.prop_map(Honest::Duplicated),
        2 => delay.clone().prop_map(Honest::KilledBeforeStoring),
        1 => Just(Honest::Confirmed),
        3 => delay.prop_map(Honest::Wait),
        1 => Just(Honest::Back),
    ];
    let pass = |seconds: i64| app.pass(Duration::from_secs(u64::try_from(seconds).unwrap()));
    let outcome = runner(200).run(&prop::collection::vec(step, 1..16), |schedule| {
        let mut stored = app.log_in("ada@example.com");
        let (mut unused, mut alive) = (0, 0);
        for (number, step) in schedule.iter().enumerate() {
            // The session's own end, and a month of silence, are nobody's fault.
            let longest = 7 * 24 * 3600;
            if alive + longest > ABSOLUTE || unused + longest > IDLE {
                break;
            }
            let before = app.clock.now().as_seconds();
            let refresh = || {
                let answer = app.refresh(&stored.refresh);
                assert_eq!(answer.status, 200, "step {number}, {step:?} of {schedule:?}: {}", answer.text);
                answer.pair()
            };
            match step {
                Honest::Refresh => stored = refresh(),
                Honest::LoseAnswer(seconds) => {
                    let _lost = refresh();
                    pass(*seconds);
                    stored = refresh();
                }
                Honest::Duplicated(seconds) => {
                    let kept = refresh();
                    pass(*seconds);
                    let duplicate = app.refresh(&stored.refresh);
                    assert!(matches!(duplicate.status, 200 | 409), "{}", duplicate.text);
                    stored = kept;
                }
                Honest::KilledBeforeStoring(seconds) => {
                    assert!(app.works(&refresh().access));
                    pass(*seconds);
                    stored = refresh();
                }
                Honest::Confirmed => {
                    stored = refresh();
                    app.confirm(&stored.access).expect(204);
                }
                Honest::Wait(seconds) => pass(*seconds),
                Honest::Back => app.clock.set(Timestamp::from_seconds(before - 60)),
            }
            let passed = app.clock.now().as_seconds() - before;
            alive += passed.max(0);
            unused =
                if matches!(step, Honest::Wait(_) | Honest::Back) { unused + passed.max(0) } else { passed.max(0) };
        }
        stored = app.refresh(&stored.refresh).expect(200).pair();
        assert!(app.works(&stored.access));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
