//! The examples, each run as a process.
//!
//! That the example clients keep what `docs/clients.md` promises, on a network that misbehaves, is tried in `tests/soak`.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::authenticator::Authenticator;
use support::example;
use support::process::{Home, PASSWORD};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn an_application_of_ones_own_has_our_routes_and_guards_its_own() -> Outcome {
    let home = Home::new();
    let (_app, address) = own_app(&home);
    let http = reqwest::blocking::Client::new();
    let url = |path: &str| format!("http://{address}{path}");

    let ada = json!({ "email": "ada@example.com", "password": PASSWORD });
    let sign_in = |path: &str| http.post(url(path)).json(&ada).send().and_then(|answer| answer.json::<Value>());
    let get = |path: &str, pair: &Value| {
        let answer = http.get(url(path)).bearer_auth(pair["access_token"].as_str().unwrap()).send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    };
    let pair = sign_in("/v1/auth/register")?;
    let id = pair["user"]["id"].as_str().unwrap();
    let anonymous = http.get(url("/orders")).send()?;
    assert_eq!(anonymous.status(), 401);
    assert_eq!(anonymous.headers()["www-authenticate"], "Bearer realm=\"countersign\"");
    assert_eq!(get("/orders", &pair), (200, format!("the orders of {id}")));
    let (status, told) = get("/sales", &pair);
    assert_eq!(status, 403);
    assert!(told.contains("insufficient_role"), "{told}");

    home.database().connect().execute("UPDATE users SET roles = '[\"admin\"]'");
    let pair = sign_in("/v1/auth/login")?;
    assert_eq!(get("/sales", &pair), (200, format!("all sales, for {id}")));
    assert_eq!(get("/elsewhere", &pair).0, 404);
    Ok(())
}

/// The example client, and its user's authenticator.
#[test]
fn the_example_client_asks_for_the_code_of_a_second_factor() -> Outcome {
    let home = Home::new();
    let server = home.serve(&[]);
    let pair = server.register("ada@example.com");
    let http = reqwest::blocking::Client::new();
    let post = |path: &str, body: &Value| {
        let request = http.post(format!("http://{}{path}", server.address)).json(body);
        request.bearer_auth(pair["access_token"].as_str().unwrap()).send().and_then(|answer| answer.json::<Value>())
    };
    let begun = post("/v1/users/me/totp", &json!({ "password": PASSWORD }))?;
    let authenticator = Authenticator::of(begun["secret"].as_str().unwrap());
    post("/v1/users/me/totp/confirm", &json!({ "code": authenticator.code_now(-1) }))?;
    let store = home.path("tokens.json");
    let say = |line: &str| {
        let mut command = Command::new(example("client"));
        command.arg(format!("http://{}", server.address)).arg(&store);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let asked = say(&format!("sign-in ada@example.com {PASSWORD}"));
    let mfa_token = asked.strip_prefix("code? ").ok_or("no code was asked for")?;
    assert_eq!(say(&format!("code {mfa_token} no-code")), "refused: 401 invalid_code");
    assert_eq!(say(&format!("code {mfa_token} {}", authenticator.code_now(0))), "signed in");
    assert!(say("get /v1/users/me").starts_with("200 "));
    server.stop();
    Ok(())
}

/// The application, and where it listens.
fn own_app(home: &Home) -> (Killed, SocketAddr) {
    let (program, http) = (example("own_app"), reqwest::blocking::Client::new());
    // Between the look for a free port and its use, another process may be given it; then the application ends.
    for _ in 0..10 {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(&program);
        command.current_dir(home.path(".")).env_clear().env("PORT", address.port().to_string());
        let mut app = Killed(command.env("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4").spawn().unwrap());
        let began = Instant::now();
        while app.0.try_wait().unwrap().is_none() {
            // Another program may answer, but no other has orders.
            if http.get(format!("http://{address}/orders")).send().is_ok_and(|answer| answer.status() != 404) {
                return (app, address);
            }
            assert!(began.elapsed() < PATIENCE, "it listens");
            thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("it ends, whatever port it is given");
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_page_on_embedding_shows_the_application_as_it_is() -> Outcome {
    let (page, example) = (include_str!("../../docs/embedding.md"), include_str!("../../examples/own_app.rs"));
    assert!(page.contains(example), "the example in docs/embedding.md is not examples/own_app.rs");
    assert!(example.lines().count() < 40, "it is short");
    Ok(())
}

/// Every error of a refresh, its confirmation, and routes that an access token opens has a row.
#[test]
fn the_page_on_clients_has_every_error_that_a_client_may_get() -> Outcome {
    let page = include_str!("../../docs/clients.md");
    let document: Value = serde_json::from_str(include_str!("../openapi.json"))?;
    let mut errors = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let guarded = operation["security"].as_array().is_some_and(|ways| !ways.is_empty());
            let Some(answers) = operation["responses"].as_object() else { continue };
            if guarded || path.starts_with("/v1/auth/refresh") {
                let errors_of =
                    |answer: &Value| answer["content"]["application/problem+json"]["examples"].as_object().cloned();
                errors.extend(answers.values().filter_map(errors_of).flatten().map(|(name, _)| name));
            }
        }
    }
    assert!(errors.len() >= 12, "the document was read: {errors:?}");
    for error in errors {
        let (code, status) = error.split_once('.').unwrap();
        let has_row = page
            .lines()
            .any(|line| line.starts_with('|') && line.contains(status) && line.contains(&format!("`{code}`")));
        assert!(has_row, "docs/clients.md has no row for {status} {code}");
    }
    Ok(())
}
