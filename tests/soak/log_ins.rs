//! Log-ins: what their times tell, and what becomes of one whose client hangs up.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::harness::{Home, PASSWORD, TestApp, clock, config, connect, in_database, number_in_database, with_mail};

use super::clients::Dice;
use super::{Outcome, Run};

const ADA: &str = "ada@example.com";

/// The part of a log-in's time by which two kinds of failure may differ.
const TOLERATED: f64 = 0.05;
/// The same of a request that hashes nothing, and takes a hundredth of that.
const TOLERATED_OF_FEW: f64 = 0.1;

/// LOG-02. Log-ins of every kind take turns, so that whatever else the machine does is the same for all. That two of them
/// differ by more than 5 %, or by less, is believed when chance would say so in one of ten thousand runs.
pub fn a_failed_log_in_takes_as_long_whatever_is_wrong(run: &Run) -> Outcome {
    let home = Home::new();
    let limits = config(&home).with("limits.enabled", "true").with("limits.login_failures", "100000");
    let app = TestApp::start_with(limits.with("passwords.bcrypt_cost", "10"), clock());
    app.sign_up(ADA);
    app.sign_up("off@example.com");
    in_database(&home, "UPDATE users SET disabled_at = 1 WHERE email_key = 'off@example.com'");
    let long = "p".repeat(300);
    for (email, hash) in [
        ("cheap@example.com", "$2b$04$abcdefghijklmnopqrstuu5aJ5lDu4JfvtTWbXU3ZgvZRVRNzVBG6"),
        ("damaged@example.com", "$2b$04$"),
    ] {
        app.sign_up(email);
        in_database(&home, &format!("UPDATE users SET password_hash = '{hash}' WHERE email_key = '{email}'"));
    }
    let cases = [
        ("a wrong password", ADA, "not the password"),
        ("a hash of a lower cost", "cheap@example.com", "not the password"),
        ("a damaged hash", "damaged@example.com", "not the password"),
        ("an unknown account", "unknown@example.com", "not the password"),
        ("an empty password", ADA, ""),
        ("a password that is too long", ADA, &long),
        ("a disabled account", "off@example.com", "not the password"),
    ];
    let time = |email: &str, password: &str| {
        let began = Instant::now();
        app.post("/v1/auth/login", &json!({ "email": email, "password": password })).expect(401);
        began.elapsed().as_secs_f64()
    };
    let (mut usual, mut differences) = (Vec::new(), vec![Vec::new(); cases.len()]);
    loop {
        let round: Vec<f64> = cases.iter().map(|(_, email, password)| time(email, password)).collect();
        usual.push(round[0]);
        differences.iter_mut().zip(&round).for_each(|(differences, time)| differences.push(time - round[0]));
        if usual.len() < 20 {
            continue;
        }
        let usual = median(&mut usual);
        assert!(usual > 0.004, "hashing takes {usual} s, too little to compare with");
        let bounds = differences.iter_mut().map(|differences| certain_median(differences));
        let bounds: Vec<(f64, f64)> = bounds.map(|(low, high)| (low / usual, high / usual)).collect();
        let told: Vec<String> = cases
            .iter()
            .zip(&bounds)
            .map(|((case, _, _), (low, high))| format!("{case}: {:+.1} to {:+.1} %", 100.0 * low, 100.0 * high))
            .collect();
        let told = told.join("; ");
        assert!(
            bounds.iter().all(|(low, high)| *low < TOLERATED && *high > -TOLERATED),
            "log-ins can be told apart by time: {told}"
        );
        if bounds.iter().all(|(low, high)| *low > -TOLERATED && *high < TOLERATED) {
            println!("{told}");
            return Outcome::Passed;
        }
        if !run.may_go_on() {
            return Outcome::Inconclusive(told);
        }
    }
}

/// RST-01. What is asked for takes as long whether there is an account or not, and so does a wrong code afterwards. Mails that
/// were written are sent in between.
pub fn a_forgotten_password_takes_as_long_whether_there_is_an_account(run: &Run) -> Outcome {
    let home = Home::new();
    let app = TestApp::start_with(with_mail(&home), clock());
    app.sign_up(ADA);
    app.sign_up("off@example.com");
    in_database(&home, "UPDATE users SET disabled_at = 1 WHERE email_key = 'off@example.com'");
    let wrong = json!({ "code": "00000000", "new_password": PASSWORD });
    let time = |email: &str| {
        assert!(
            comes_true(Duration::from_secs(60), || number_in_database(&home, "SELECT count(*) AS number FROM mails")
                == 0),
            "mails wait"
        );
        let mut body = wrong.clone();
        body["email"] = email.into();
        let began = Instant::now();
        app.post("/v1/auth/password/forgot", &json!({ "email": email })).expect(202);
        let asked = began.elapsed();
        app.post("/v1/auth/password/reset", &body).expect(400);
        [asked.as_secs_f64(), (began.elapsed() - asked).as_secs_f64()]
    };
    let emails = [ADA, "unknown@example.com", "off@example.com"];
    let mut usual = [Vec::new(), Vec::new()];
    let mut differences = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    loop {
        // Each begins as often: what comes before a request is the same for all.
        let mut times = [[0.0; 2]; 3];
        for number in 0..3 {
            let place = (number + usual[0].len()) % 3;
            times[place] = time(emails[place]);
        }
        for step in 0..2 {
            usual[step].push(times[0][step]);
            for (other, differences) in differences[step].iter_mut().enumerate() {
                differences.push(times[other + 1][step] - times[0][step]);
            }
        }
        if usual[0].len() < 200 {
            continue;
        }
        let (mut told, mut bounds) = (Vec::new(), Vec::new());
        for (step, name) in ["asking", "a wrong code"].into_iter().enumerate() {
            let usual = median(&mut usual[step]);
            for (differences, email) in differences[step].iter_mut().zip(&emails[1..]) {
                let (low, high) = certain_median(differences);
                told.push(format!("{name}, {email}: {:+.1} to {:+.1} %", 100.0 * low / usual, 100.0 * high / usual));
                bounds.push((low / usual, high / usual));
            }
        }
        let told = told.join("; ");
        assert!(
            bounds.iter().all(|(low, high)| *low < TOLERATED_OF_FEW && *high > -TOLERATED_OF_FEW),
            "accounts can be told by time: {told}"
        );
        if bounds.iter().all(|(low, high)| *low > -TOLERATED_OF_FEW && *high < TOLERATED_OF_FEW) {
            println!("{told}");
            return Outcome::Passed;
        }
        if !run.may_go_on() {
            return Outcome::Inconclusive(told);
        }
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Between what the median lies, but for one run in ten thousand: order statistics, whatever the distribution.
fn certain_median(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let (count, sigmas) = (times.len() as f64, 3.9);
    let reach = sigmas * count.sqrt() / 2.0;
    let low = (count / 2.0 - reach).floor().max(0.0) as usize;
    let high = ((count / 2.0 + reach).ceil() as usize).min(times.len() - 1);
    (times[low], times[high])
}

fn comes_true(within: Duration, it_is: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if it_is() {
            return true;
        }
        if began.elapsed() > within {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A guess whose client hangs up while it is being counted is taken back.
pub fn a_guess_whose_client_hangs_up_does_not_count(run: &Run) -> Outcome {
    let home = Home::new();
    let limits = config(&home).with("limits.enabled", "true").with("limits.login_failures", "100000");
    let app = TestApp::start_with(limits, clock());
    app.sign_up(ADA);
    in_database(&home, "DELETE FROM attempts");
    let body = json!({ "email": ADA, "password": PASSWORD }).to_string();
    let head = "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let number = |condition: &str| number_in_database(&home, &format!("SELECT count(*) FROM attempts {condition}"));
    let (mut dice, mut connection, mut met) = (Dice(run.seed), connect(&home), 0_u32);
    while run.has_time() || (met == 0 && run.may_go_on()) {
        connection.hold_writers_up();
        let mut client = TcpStream::connect(app.address).unwrap();
        write!(client, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        thread::sleep(dice.millis(1, 300));
        drop(client);
        thread::sleep(dice.millis(1, 200));
        connection.let_writers_go();
        // A client that hangs up before its guess was looked at proves nothing: then there is never a row.
        if comes_true(Duration::from_secs(2), || number("") > 0) {
            assert!(comes_true(Duration::from_secs(60), || number("WHERE count > 0") == 0), "it counts still");
            in_database(&home, "DELETE FROM attempts");
            met += 1;
        }
    }
    println!("{met} clients hung up while their guess was counted");
    if met == 0 {
        Outcome::Inconclusive("no guess was counted before its client was gone".to_owned())
    } else {
        Outcome::Passed
    }
}
