//! Guessing passwords, and asking for too much of anything: 429 with an honest `Retry-After`, and never for the
//! owner at another address. Standards rows LOG-03 to LOG-07.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use support::harness::{Answer, Home, PASSWORD, TestApp, clock, config, in_database, number_in_database};

const ADA: &str = "ada@example.com";
const WRONG: &str = "wrong wrong wrong";
/// An address for each purpose (RFC 5737).
const OWNER: &str = "198.51.100.1";
const THIEF: &str = "203.0.113.66";
/// Where no user is signed in.
const ELSEWHERE: &str = "198.51.100.77";

/// A server with the contract's limits, behind a proxy on this machine.
fn limited(home: &Home) -> TestApp {
    let config = config(home).with("limits.enabled", "true").with("server.trusted_proxies", "127.0.0.0/8");
    TestApp::start_with(config, clock())
}

fn send(app: &TestApp, path: &str, address: &str, body: &Value) -> Answer {
    Answer::to(app.request(Method::POST, path).header("x-forwarded-for", address).json(body))
}

fn guess(app: &TestApp, email: &str, password: &str, address: &str) -> Answer {
    send(app, "/v1/auth/login", address, &json!({ "email": email, "password": password }))
}

fn sign_up(app: &TestApp, email: &str) {
    send(app, "/v1/auth/register", OWNER, &json!({ "email": email, "password": PASSWORD })).expect(201);
}

#[track_caller]
fn expect_limited(answer: Answer) -> u64 {
    let answer = answer.expect_error(429, "rate_limited");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("ratelimit")), "no counter is shown");
    answer.header("retry-after").expect("Retry-After").parse().unwrap()
}

/// LOG-03, LOG-04, LOG-06.
#[test]
fn ten_failures_at_an_account_from_an_address_are_all() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    for _ in 0..10 {
        guess(&app, ADA, WRONG, THIEF).expect_error(401, "invalid_credentials");
    }
    app.pass(Duration::from_secs(60));
    let wait = expect_limited(guess(&app, ADA, WRONG, THIEF));
    assert!((14 * 60..=14 * 60 + 1).contains(&wait), "what is left of the window: {wait}");
    expect_limited(guess(&app, ADA, PASSWORD, THIEF));
    guess(&app, ADA, PASSWORD, OWNER).expect(200);
    expect_limited(guess(&app, ADA, PASSWORD, THIEF));

    app.pass(Duration::from_secs(wait - 2));
    expect_limited(guess(&app, ADA, PASSWORD, THIEF));
    app.pass(Duration::from_secs(2));
    guess(&app, ADA, PASSWORD, THIEF).expect(200);
}

/// LOG-05: counting answers tells nothing about which accounts exist.
#[test]
fn an_account_that_does_not_exist_is_limited_alike() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    let told = |email: &str| {
        let answers = (0..12).map(|_| guess(&app, email, WRONG, THIEF)).map(|answer| {
            let mut body = answer.json();
            body.as_object_mut().unwrap().remove("request_id");
            (answer.status, answer.header("retry-after").map(str::to_owned), body)
        });
        answers.collect::<Vec<_>>()
    };
    let (known, unknown) = (told(ADA), told("nobody@example.com"));
    assert_eq!(known, unknown);
    assert_eq!(known.iter().filter(|answer| answer.0 == 429).count(), 2);
}

#[test]
fn an_account_has_ten_times_as_many_failures_from_everywhere() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    sign_up(&app, "bob@example.com");
    for number in 0..100 {
        guess(&app, ADA, WRONG, &format!("192.0.2.{number}")).expect(401);
    }
    expect_limited(guess(&app, ADA, PASSWORD, ELSEWHERE));
    expect_limited(guess(&app, &ADA.to_uppercase(), PASSWORD, ELSEWHERE));
    guess(&app, "bob@example.com", PASSWORD, ELSEWHERE).expect(200);
    app.pass(Duration::from_secs(15 * 60));
    guess(&app, ADA, PASSWORD, ELSEWHERE).expect(200);
}

/// Ten wrong guesses from each of ten networks: the owner cannot be locked out of a device that is at home.
#[test]
fn a_locked_account_opens_where_it_is_signed_in() {
    for (at_home, beside, elsewhere) in [
        (OWNER, OWNER, ELSEWHERE),
        ("2001:db8:7:7::1", "2001:db8:7:7:ffff::2", "2001:db8:7:8::1"),
        ("2001:db8::1", "2001:0db8:0:0::ffff", "2001:db8:1::1"),
    ] {
        let home = Home::new();
        let app = limited(&home);
        let register = json!({ "email": ADA, "password": PASSWORD });
        let first = send(&app, "/v1/auth/register", at_home, &register).expect(201).pair();
        let flood = || {
            for network in 0..10 {
                for host in 0..10 {
                    guess(&app, ADA, WRONG, &format!("2001:db8:bad:{network:x}::{host:x}")).expect(401);
                }
            }
        };
        flood();
        expect_limited(guess(&app, ADA, PASSWORD, elsewhere));
        let second = guess(&app, ADA, PASSWORD, beside).expect(200).pair();
        // The pair's count holds at home, too.
        for _ in 0..10 {
            guess(&app, ADA, WRONG, at_home).expect(401);
        }
        expect_limited(guess(&app, ADA, PASSWORD, beside));
        // Home is where a session was last used.
        app.pass(Duration::from_secs(15 * 60));
        flood();
        expect_limited(guess(&app, ADA, PASSWORD, elsewhere));
        let first = app.refresh_from(elsewhere, &first.refresh).expect(200).pair();
        guess(&app, ADA, PASSWORD, elsewhere).expect(200);
        // Where no session lives any more, it is not.
        let all = app.request(Method::DELETE, "/v1/sessions?scope=all").bearer_auth(&first.access);
        Answer::to(all.header("x-forwarded-for", at_home)).expect(200);
        assert!(!app.works(&second.access));
        for address in [at_home, elsewhere] {
            expect_limited(guess(&app, ADA, PASSWORD, address));
        }
    }
}

/// Who is signed in is kept from the account by nothing that strangers got wrong.
#[test]
fn signed_in_users_are_not_locked_out_by_what_strangers_get_wrong() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    let pair = guess(&app, ADA, PASSWORD, OWNER).expect(200).pair();
    for number in 0..100 {
        guess(&app, ADA, WRONG, &format!("192.0.2.{number}")).expect(401);
    }
    // Also from an address that has spent what it has for all accounts.
    for number in 0..100 {
        guess(&app, &format!("user{number}@example.com"), WRONG, ELSEWHERE).expect(401);
    }
    expect_limited(guess(&app, ADA, PASSWORD, ELSEWHERE));
    // Also at another log-in.
    let again =
        app.request(Method::POST, "/v1/auth/login").header("x-forwarded-for", ELSEWHERE).bearer_auth(&pair.access);
    Answer::to(again.json(&json!({ "email": ADA, "password": PASSWORD }))).expect(200);
    let ask = |method: Method, path: &str, body: &Value| {
        Answer::to(app.request(method, path).header("x-forwarded-for", ELSEWHERE).bearer_auth(&pair.access).json(body))
    };
    let new = "something else entirely";
    let change = |current: &str| {
        ask(Method::POST, "/v1/users/me/password", &json!({ "current_password": current, "new_password": new }))
    };
    change(WRONG).expect(403);
    change(PASSWORD).expect(204);
    for _ in 0..10 {
        change(WRONG).expect(403);
    }
    expect_limited(change(new));
    expect_limited(ask(Method::DELETE, "/v1/users/me", &json!({ "password": new })));
    app.pass(Duration::from_secs(15 * 60));
    let again = guess(&app, ADA, new, ELSEWHERE).expect(200).pair();
    let delete = app.request(Method::DELETE, "/v1/users/me").bearer_auth(&again.access);
    Answer::to(delete.header("x-forwarded-for", OWNER).json(&json!({ "password": new }))).expect(204);
    let left = "SELECT count(*) FROM attempts WHERE user_id IS NOT NULL OR ip_address IS NOT NULL";
    assert_eq!(number_in_database(&home, left), 0, "what was counted at the account goes with it");
}

/// A school, an office: many users at one address, with a typing error each.
#[test]
fn many_people_at_one_address_with_a_typing_error_each_all_get_in() {
    let home = Home::new();
    let app = limited(&home);
    let email = |number: u32| format!("user{number}@example.com");
    (0..130).for_each(|number| sign_up(&app, &email(number)));
    for number in 0..130 {
        guess(&app, &email(number), WRONG, ELSEWHERE).expect(401);
        guess(&app, &email(number), PASSWORD, ELSEWHERE).expect(200);
    }
    // Their errors come before any success, as far as an address goes.
    app.pass(Duration::from_secs(15 * 60));
    (0..99).for_each(|number| drop(guess(&app, &email(number), WRONG, ELSEWHERE).expect(401)));
    (0..99).for_each(|number| drop(guess(&app, &email(number), PASSWORD, ELSEWHERE).expect(200)));
    (99..130).for_each(|number| drop(guess(&app, &email(number), WRONG, ELSEWHERE).expect(401)));
    (99..130).for_each(|number| drop(guess(&app, &email(number), PASSWORD, ELSEWHERE).expect(200)));
    let counted = number_in_database(&home, "SELECT coalesce(max(count), 0) FROM attempts WHERE count < 130");
    assert_eq!(counted, 0, "nothing is left but the registrations");
}

/// Who owns an account gains no guesses at others by it.
#[test]
fn an_address_that_guesses_over_many_accounts_is_stopped() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, "eve@example.com");
    for number in 0..100 {
        guess(&app, &format!("user{number}@example.com"), WRONG, THIEF).expect(401);
        if number < 98 {
            guess(&app, "eve@example.com", WRONG, THIEF).expect(401);
            guess(&app, "eve@example.com", PASSWORD, THIEF).expect(200);
        }
    }
    expect_limited(guess(&app, "user0@example.com", WRONG, THIEF));
    expect_limited(guess(&app, "eve@example.com", PASSWORD, THIEF));
}

/// An address has ten times as many failures over all accounts and an ipv6 64 is one address.
#[test]
fn an_address_has_ten_times_as_many_failures_over_all_accounts() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    for number in 0..100 {
        guess(&app, &format!("user{number}@example.com"), WRONG, &format!("2001:db8:0:1::{number:x}")).expect(401);
    }
    expect_limited(guess(&app, ADA, PASSWORD, "2001:db8:0:1:ffff::1"));
    guess(&app, ADA, PASSWORD, "2001:db8:0:2::1").expect(200);
}

/// A success clears what its account and address got wrong and nothing else.
#[test]
fn a_success_clears_what_its_account_and_address_got_wrong() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    for number in 0..27 {
        guess(&app, ADA, WRONG, &format!("192.0.2.{number}")).expect(401);
    }
    for _ in 0..12 {
        for _ in 0..9 {
            guess(&app, ADA, WRONG, ELSEWHERE).expect(401);
        }
        guess(&app, ADA, PASSWORD, ELSEWHERE).expect(200);
    }
    // What others got wrong stays counted: 27 of the account's 100.
    for number in 100..173 {
        guess(&app, ADA, WRONG, &format!("192.0.2.{number}")).expect(401);
    }
    expect_limited(guess(&app, ADA, WRONG, "192.0.2.200"));
}

/// LOG-03: attempts made at once are counted before they are looked at.
#[test]
fn of_fifty_guesses_at_once_ten_are_looked_at() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    let looked_at = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| match guess(&app, ADA, WRONG, THIEF) {
                answer if answer.status == 401 => drop(looked_at.fetch_add(1, Ordering::SeqCst)),
                answer => drop(expect_limited(answer)),
            });
        }
    });
    assert_eq!(looked_at.load(Ordering::SeqCst), 10);
}

/// Log-ins that are being looked at may all turn out to be right: a client that is refused beside them comes back soon.
#[test]
fn who_is_refused_beside_guesses_in_flight_waits_for_those_only() {
    let home = Home::new();
    let slow = config(&home).with("limits.enabled", "true").with("limits.login_failures", "2");
    let app = TestApp::start_with(slow.with("passwords.bcrypt_cost", "11"), clock());
    app.sign_up(ADA);
    let log_in = || app.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD }));
    let answers: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(log_in)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused: Vec<_> = answers.into_iter().filter(|answer| answer.status != 200).map(expect_limited).collect();
    assert!(refused.iter().all(|wait| *wait <= 2), "{refused:?}");
    assert!(!refused.is_empty(), "twelve were never in flight together");
    log_in().expect(200);
}

#[test]
fn a_restart_forgets_no_failure() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    for _ in 0..10 {
        guess(&app, ADA, WRONG, THIEF).expect(401);
    }
    drop(app);
    let app = limited(&home);
    expect_limited(guess(&app, ADA, PASSWORD, THIEF));
}

/// LOG-07.
#[test]
fn nobody_chooses_the_address_they_are_counted_under() {
    let home = Home::new();
    // No proxy is trusted: what a client says of itself is nothing.
    let direct = TestApp::start_with(config(&home).with("limits.enabled", "true"), clock());
    sign_up(&direct, ADA);
    for number in 0..10 {
        guess(&direct, ADA, WRONG, &format!("192.0.2.{number}")).expect(401);
    }
    expect_limited(guess(&direct, ADA, WRONG, "192.0.2.200"));
    drop(direct);
    in_database(&home, "DELETE FROM attempts");
    // A proxy is trusted: it appends whom it saw, whatever the client had written before that.
    let behind = limited(&home);
    for number in 0..5 {
        guess(&behind, ADA, WRONG, &format!("192.0.2.{number}, {THIEF}")).expect(401);
        guess(&behind, ADA, WRONG, &format!("192.0.2.{number}, {THIEF}:{}", 1024 + number)).expect(401);
    }
    expect_limited(guess(&behind, ADA, WRONG, &format!("192.0.2.200, {THIEF}")));
    let body = json!({ "email": ADA, "password": WRONG });
    let no_text = HeaderValue::from_bytes(format!("\u{ff}, {THIEF}").as_bytes()).unwrap();
    let request = behind.request(Method::POST, "/v1/auth/login").header("x-forwarded-for", no_text);
    expect_limited(Answer::to(request.json(&body)));
    guess(&behind, ADA, PASSWORD, &format!("{THIEF}, {OWNER}")).expect(200);
    let seen =
        "SELECT count(*) FROM events WHERE kind = 'login_failed' AND ip_address NOT IN ('127.0.0.1', '203.0.113.66')";
    assert_eq!(number_in_database(&home, seen), 0);
}

#[test]
fn a_stolen_access_token_opens_no_second_door_for_guessing() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    let pair = guess(&app, ADA, PASSWORD, OWNER).expect(200).pair();
    let ask = |method: Method, path: &str, body: Value| {
        let request = app.request(method, path).header("x-forwarded-for", THIEF);
        Answer::to(request.bearer_auth(&pair.access).json(&body))
    };
    let change = json!({ "current_password": WRONG, "new_password": "something else entirely" });
    for _ in 0..5 {
        ask(Method::POST, "/v1/users/me/password", change.clone()).expect_error(403, "invalid_credentials");
        ask(Method::DELETE, "/v1/users/me", json!({ "password": WRONG })).expect_error(403, "invalid_credentials");
    }
    expect_limited(ask(Method::POST, "/v1/users/me/password", change));
    expect_limited(ask(Method::DELETE, "/v1/users/me", json!({ "password": PASSWORD })));
    expect_limited(guess(&app, ADA, PASSWORD, THIEF));
    guess(&app, ADA, PASSWORD, OWNER).expect(200);
}

#[test]
fn an_outage_counts_nothing() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    in_database(&home, "ALTER TABLE users RENAME TO elsewhere");
    for _ in 0..12 {
        guess(&app, ADA, PASSWORD, OWNER).expect(503);
    }
    in_database(&home, "ALTER TABLE elsewhere RENAME TO users");
    guess(&app, ADA, PASSWORD, OWNER).expect(200);
}

#[test]
fn one_address_registers_a_thousand_accounts_an_hour_and_no_more() {
    let home = Home::new();
    let app = limited(&home);
    let register = |number: u32, address: &str| {
        let body = json!({ "email": format!("user{number}@example.com"), "password": PASSWORD });
        send(&app, "/v1/auth/register", address, &body)
    };
    register(1, THIEF).expect(201);
    in_database(&home, "UPDATE attempts SET count = 999");
    register(2, THIEF).expect(201);
    let wait = expect_limited(register(3, THIEF));
    assert!((3_600..=3_601).contains(&wait), "{wait}");
    register(3, OWNER).expect(201);
    guess(&app, "user3@example.com", PASSWORD, THIEF).expect(200);
    app.pass(Duration::from_secs(wait));
    register(4, THIEF).expect(201);
}

/// A flood of forged refresh tokens is stopped and a genuine one from there is not.
#[test]
fn a_flood_of_forged_refresh_tokens_is_stopped() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    let pair = guess(&app, ADA, PASSWORD, THIEF).expect(200).pair();
    for _ in 0..1_000 {
        app.refresh_from(THIEF, "junk").expect_refused("malformed");
    }
    let wait = expect_limited(app.refresh_from(THIEF, "junk"));
    assert!((1..=61).contains(&wait), "{wait}");
    app.refresh_from(OWNER, "junk").expect_refused("malformed");
    let next = app.refresh_from(THIEF, &pair.refresh).expect(200).pair();
    app.pass(Duration::from_secs(wait));
    app.refresh_from(THIEF, "junk").expect_refused("malformed");
    app.refresh_from(THIEF, &next.refresh).expect(200);
}

#[test]
fn a_token_that_keeps_coming_back_is_stopped_and_its_session_lives() {
    let home = Home::new();
    let app = limited(&home);
    sign_up(&app, ADA);
    let first = guess(&app, ADA, PASSWORD, OWNER).expect(200).pair();
    let other = guess(&app, ADA, PASSWORD, OWNER).expect(200).pair();
    let second = app.refresh(&first.refresh).expect(200).pair();
    for _ in 0..1_000 {
        app.refresh(&first.refresh).expect(200);
    }
    let wait = expect_limited(app.refresh(&first.refresh));
    app.refresh(&other.refresh).expect(200);
    assert!(app.works(&second.access));
    app.pass(Duration::from_secs(wait));
    app.refresh(&second.refresh).expect(200);
}

#[test]
fn without_limits_nothing_is_counted() {
    let home = Home::new();
    let app = TestApp::start(&home);
    app.sign_up(ADA);
    for _ in 0..12 {
        guess(&app, ADA, WRONG, OWNER).expect(401);
    }
    guess(&app, ADA, PASSWORD, OWNER).expect(200);
    assert_eq!(number_in_database(&home, "SELECT count(*) FROM attempts"), 0);
}
