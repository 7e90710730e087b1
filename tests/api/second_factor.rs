//! The second factor: begun, confirmed, asked for at log-in, removed; and what tokens say of it.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use actix_web::{App as Actix, HttpResponse, http::StatusCode, test as actix, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::Countersign;
use countersign::guard::{Fresh, Mfa, Principal};
use reqwest::Method;
use serde_json::{Value, json};

use support::authenticator::Authenticator;
use support::harness::{Answer, Home, PASSWORD, Pair, START, TestApp, clock, config, in_database, number_in_database};

const ADA: &str = "ada@example.com";
const STEP: Duration = Duration::from_secs(30);

/// The code so many steps from now.
fn code_of(authenticator: &Authenticator, app: &TestApp, steps: i64) -> String {
    authenticator.code(app.clock.now().as_seconds(), steps)
}

fn send(app: &TestApp, method: Method, path: &str, pair: &Pair, body: &Value) -> Answer {
    Answer::to(app.request(method, path).bearer_auth(&pair.access).json(body))
}

fn begin(app: &TestApp, pair: &Pair) -> (Authenticator, Value) {
    let begun = send(app, Method::POST, "/v1/users/me/totp", pair, &json!({ "password": PASSWORD })).expect(200).json();
    (Authenticator::of(begun["secret"].as_str().unwrap()), begun)
}

/// A second factor in force, confirmed with the code of the step before this one; and its recovery codes.
fn enable(app: &TestApp, pair: &Pair) -> (Authenticator, Vec<String>) {
    let (authenticator, _) = begin(app, pair);
    let body = json!({ "code": code_of(&authenticator, app, -1) });
    let confirmed = send(app, Method::POST, "/v1/users/me/totp/confirm", pair, &body).expect(200).json();
    let codes = confirmed["recovery_codes"].as_array().unwrap();
    (authenticator, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

/// Ada, with a second factor.
fn ada(app: &TestApp) -> (Pair, Authenticator, Vec<String>) {
    let pair = app.sign_up(ADA);
    let (authenticator, codes) = enable(app, &pair);
    (pair, authenticator, codes)
}

fn first_step(app: &TestApp, more: &Value) -> String {
    let mut body = json!({ "email": ADA, "password": PASSWORD });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let asked = app.post("/v1/auth/login", &body).expect_error(401, "mfa_required");
    asked.json()["mfa_token"].as_str().unwrap().to_owned()
}

fn second_step(app: &TestApp, token: &str, code: &str) -> Answer {
    app.post("/v1/auth/mfa", &json!({ "mfa_token": token, "code": code }))
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn limited(home: &Home) -> TestApp {
    let config = config(home).with("limits.enabled", "true").with("server.trusted_proxies", "127.0.0.1");
    TestApp::start_with(config, clock())
}

#[test]
fn a_second_factor_is_begun_confirmed_and_removed() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up(ADA);
    let totp = |body: &Value| send(&app, Method::POST, "/v1/users/me/totp", &pair, body);
    let confirm = |body: &Value| send(&app, Method::POST, "/v1/users/me/totp/confirm", &pair, body);
    let remove = |body: &Value| send(&app, Method::DELETE, "/v1/users/me/totp", &pair, body);
    let is_on = || app.get_as("/v1/users/me", &pair.access).expect(200).json()["mfa"].as_bool().unwrap();

    confirm(&json!({ "code": "000000" })).expect_error(404, "not_found");
    remove(&json!({ "password": PASSWORD, "code": "000000" })).expect_error(404, "not_found");
    totp(&json!({ "password": "another password" })).expect_error(403, "invalid_credentials");
    totp(&json!({})).expect_error(400, "invalid_request");

    let (first, begun) = begin(&app, &pair);
    let url = begun["otpauth_url"].as_str().unwrap();
    assert!(url.starts_with("otpauth://totp/issuer.test:ada%40example.com?secret="), "{url}");
    assert!(begun["qr_svg"].as_str().unwrap().starts_with("<svg "));
    assert!(!is_on());
    app.log_in(ADA);
    // The next one takes its place.
    let (authenticator, _) = begin(&app, &pair);
    confirm(&json!({ "code": code_of(&first, &app, 0) })).expect_error(403, "invalid_code");
    let confirmed = confirm(&json!({ "code": code_of(&authenticator, &app, 0) })).expect(200).json();
    assert_eq!(confirmed["recovery_codes"].as_array().unwrap().len(), 10);
    assert!(is_on());
    totp(&json!({ "password": PASSWORD })).expect_error(409, "mfa_enabled");
    confirm(&json!({ "code": code_of(&authenticator, &app, 1) })).expect_error(409, "mfa_enabled");

    // The code that has confirmed it is used.
    let with = |code: &str| json!({ "password": PASSWORD, "code": code });
    remove(&with(&code_of(&authenticator, &app, 0))).expect_error(403, "invalid_code");
    remove(&json!({ "password": "another password", "code": code_of(&authenticator, &app, 1) }))
        .expect_error(403, "invalid_credentials");
    remove(&json!({ "password": PASSWORD })).expect_error(400, "invalid_request");
    remove(&json!({ "password": PASSWORD, "code": "1", "recovery_code": "2" })).expect_error(400, "invalid_request");
    assert!(is_on());
    remove(&with(&code_of(&authenticator, &app, 1))).expect(204);
    assert!(!is_on());
    app.log_in(ADA);
    let events = app.get_as("/v1/users/me/events", &pair.access).expect(200).text;
    assert!(events.contains("mfa_enabled") && events.contains("mfa_disabled"), "{events}");
    assert_eq!(number_in_database(&home, "SELECT count(*) AS number FROM recovery_codes"), 0);
}

#[test]
fn a_log_in_in_two_steps_gives_what_was_asked_for() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (_, authenticator, _) = ada(&app);
    let body = json!({ "email": ADA, "password": PASSWORD });
    let asked = app.post("/v1/auth/login", &body).expect_error(401, "mfa_required");
    assert_eq!(asked.header("cache-control"), Some("no-store"));
    assert_eq!(asked.header("www-authenticate"), Some("Bearer realm=\"countersign\""));
    assert_eq!(asked.json()["methods"], json!(["totp", "recovery_code"]));
    app.post("/v1/auth/login", &json!({ "email": ADA, "password": "wrong" })).expect_error(401, "invalid_credentials");

    let token = first_step(&app, &json!({ "device_name": "Ada's telephone", "remember": false }));
    second_step(&app, &token, &authenticator.wrong(app.clock.now().as_seconds())).expect_error(401, "invalid_code");
    let signed_in = second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect(200);
    assert_eq!(signed_in.json()["user"]["mfa"], json!(true));
    let (pair, said) = (signed_in.pair(), claims(&signed_in.pair().access));
    assert_eq!((&said["amr"], &said["auth_time"]), (&json!(["pwd", "otp", "mfa"]), &json!(START)));
    let sessions = app.get_as("/v1/sessions", &pair.access).expect(200).json();
    let mine = &sessions["sessions"].as_array().unwrap().iter().find(|session| session["current"] == true).unwrap();
    assert_eq!((&mine["device_name"], &mine["remember"]), (&json!("Ada's telephone"), &json!(false)));

    // Kept through refreshes.
    app.pass(Duration::from_secs(600));
    let next = app.refresh(&pair.refresh).expect(200).pair();
    let (before, after) = (claims(&pair.access), claims(&next.access));
    assert_eq!((&after["amr"], &after["auth_time"]), (&before["amr"], &before["auth_time"]));
    assert_eq!(after["iat"], json!(START + 600));
}

#[test]
fn a_log_in_by_cookie_sets_them_at_the_second_step_and_ends_the_former() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (pair, authenticator, _) = ada(&app);
    let body = json!({ "email": ADA, "password": PASSWORD, "transport": "cookie" });
    let cookie = ("Cookie", format!("refreshToken={}", pair.refresh));
    let asked = Answer::to(app.request(Method::POST, "/v1/auth/login").header(cookie.0, &cookie.1).json(&body));
    let asked = asked.expect_error(401, "mfa_required");
    assert!(asked.headers.get("set-cookie").is_none());
    assert!(app.works(&pair.access), "nothing has taken its place yet");
    let body = json!({ "mfa_token": asked.json()["mfa_token"], "code": code_of(&authenticator, &app, 0) });
    let answer =
        Answer::to(app.request(Method::POST, "/v1/auth/mfa").header(cookie.0, &cookie.1).json(&body)).expect(200);
    assert!(answer.json().get("access_token").is_none());
    let cookies: Vec<&str> = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
    for name in ["accessToken=eyJ", "refreshToken=eyJ"] {
        assert!(cookies.iter().any(|line| line.starts_with(name)), "{cookies:?}");
    }
    assert!(!app.works(&pair.access));
}

#[test]
fn a_code_is_good_a_step_early_or_late_and_once() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (_, authenticator, _) = ada(&app);
    // That of the step before was used to confirm.
    app.pass(STEP * 10);
    let token = first_step(&app, &json!({}));
    let code = |steps| code_of(&authenticator, &app, steps);
    for steps in [-2, 2] {
        second_step(&app, &token, &code(steps)).expect_error(401, "invalid_code");
    }
    second_step(&app, &token, &code(-1)).expect(200);
    for steps in [-1, -2] {
        second_step(&app, &token, &code(steps)).expect_error(401, "invalid_code");
    }
    second_step(&app, &token, &code(1)).expect(200);
    // A later one has been accepted.
    for steps in [1, 0] {
        second_step(&app, &token, &code(steps)).expect_error(401, "invalid_code");
    }
    app.pass(STEP);
    second_step(&app, &token, &code(0)).expect_error(401, "invalid_code");
    second_step(&app, &token, &code(1)).expect(200);
}

#[test]
fn of_many_log_ins_with_one_code_one_wins() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (pair, authenticator, recovery) = ada(&app);
    let token = first_step(&app, &json!({}));
    let sessions = || app.get_as("/v1/sessions", &pair.access).json()["sessions"].as_array().unwrap().len();
    let codes = [("code", code_of(&authenticator, &app, 0)), ("recovery_code", recovery[0].clone())];
    for (expected, (member, code)) in (2..).zip(codes) {
        let (barrier, body) = (Barrier::new(8), json!({ "mfa_token": token, member: code }));
        let statuses: Vec<u16> = thread::scope(|scope| {
            let ask = || {
                barrier.wait();
                app.post("/v1/auth/mfa", &body).status
            };
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [200, 401].contains(status)), "{statuses:?}");
        assert_eq!(sessions(), expected);
    }
}

#[test]
fn a_recovery_code_is_used_once_however_it_is_typed() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (pair, _, codes) = ada(&app);
    let token = first_step(&app, &json!({}));
    let with = |code: &str| app.post("/v1/auth/mfa", &json!({ "mfa_token": token, "recovery_code": code }));
    let typed = format!(" {} ", codes[0].to_uppercase().replace('-', " "));
    let signed_in = with(&typed).expect(200).pair();
    assert_eq!(claims(&signed_in.access)["amr"], json!(["pwd", "otp", "mfa"]));
    for code in [&codes[0], "", "0000-0000-0000-0000", "no code"] {
        with(code).expect_error(401, "invalid_code");
    }
    with(&codes[1]).expect(200);
    let events = app.get_as("/v1/users/me/events", &pair.access).expect(200).text;
    assert_eq!(events.matches("recovery_code_used").count(), 2, "{events}");
    for code in &codes[2..] {
        with(code).expect(200);
    }
    let body = json!({ "email": ADA, "password": PASSWORD });
    let asked = app.post("/v1/auth/login", &body).expect_error(401, "mfa_required").json();
    assert_eq!(asked["methods"], json!(["totp"]), "none is left");
}

/// The right password clears no wrong code.
#[test]
fn five_wrong_codes_are_all_there_are() {
    let home = Home::new();
    let app = limited(&home);
    let (pair, authenticator, codes) = ada(&app);
    let wrong = authenticator.wrong(app.clock.now().as_seconds());
    for _ in 0..5 {
        second_step(&app, &first_step(&app, &json!({})), &wrong).expect_error(401, "invalid_code");
    }
    let token = first_step(&app, &json!({}));
    let refused = second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect_error(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=901).contains(&wait), "{wait}");
    app.post("/v1/auth/mfa", &json!({ "mfa_token": token, "recovery_code": codes[0] })).expect(429);
    let body = json!({ "password": PASSWORD, "code": code_of(&authenticator, &app, 0) });
    send(&app, Method::DELETE, "/v1/users/me/totp", &pair, &body).expect_error(429, "rate_limited");
    // From elsewhere as well, since nothing of hers is there.
    let elsewhere = app.request(Method::POST, "/v1/auth/mfa").header("X-Forwarded-For", "198.51.100.7");
    Answer::to(elsewhere.json(&json!({ "mfa_token": token, "code": wrong }))).expect(429);
    app.pass(Duration::from_secs(wait));
    let token = first_step(&app, &json!({}));
    second_step(&app, &token, &authenticator.wrong(app.clock.now().as_seconds())).expect_error(401, "invalid_code");
    second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect(200);
    // A success forgets what was wrong before it.
    for _ in 0..5 {
        second_step(&app, &token, &authenticator.wrong(app.clock.now().as_seconds())).expect_error(401, "invalid_code");
    }
    second_step(&app, &token, &code_of(&authenticator, &app, 1)).expect(429);
}

#[test]
fn guesses_in_parallel_are_counted_before_they_are_checked() {
    let home = Home::new();
    let app = limited(&home);
    let (_, authenticator, _) = ada(&app);
    let (token, wrong) = (first_step(&app, &json!({})), authenticator.wrong(app.clock.now().as_seconds()));
    let barrier = Barrier::new(20);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            second_step(&app, &token, &wrong).status
        };
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 5, "{statuses:?}");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
}

/// Strangers who know the password cannot lock her out at home.
#[test]
fn wrong_codes_of_strangers_do_not_count_where_a_session_is() {
    let home = Home::new();
    let app = limited(&home);
    let (_, authenticator, _) = ada(&app);
    let token = first_step(&app, &json!({}));
    let wrong = json!({ "mfa_token": token, "code": authenticator.wrong(app.clock.now().as_seconds()) });
    for _ in 0..5 {
        let stranger = app.request(Method::POST, "/v1/auth/mfa").header("X-Forwarded-For", "198.51.100.7");
        Answer::to(stranger.json(&wrong)).expect(401);
    }
    second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect(200);
}

#[test]
fn what_changes_between_the_steps_ends_the_log_in() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (pair, authenticator, codes) = ada(&app);
    // Too late.
    let token = first_step(&app, &json!({}));
    app.pass(Duration::from_secs(300));
    second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect_error(401, "invalid_credentials");
    // Another password.
    let token = first_step(&app, &json!({}));
    let change = |old: &str, new: &str| {
        let body = json!({ "current_password": old, "new_password": new });
        send(&app, Method::POST, "/v1/users/me/password", &pair, &body).expect(204);
    };
    change(PASSWORD, "another correct horse");
    second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect_error(401, "invalid_credentials");
    change("another correct horse", PASSWORD);
    // Disabled.
    let token = first_step(&app, &json!({}));
    in_database(&home, "UPDATE users SET disabled_at = 1");
    second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect_error(403, "account_disabled");
    in_database(&home, "UPDATE users SET disabled_at = NULL");
    // No second factor any more: the password alone is asked for, and asked for again.
    let pair = second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect(200).pair();
    let remove = json!({ "password": PASSWORD, "recovery_code": codes[0] });
    send(&app, Method::DELETE, "/v1/users/me/totp", &pair, &remove).expect(204);
    second_step(&app, &token, &code_of(&authenticator, &app, 1)).expect_error(401, "invalid_credentials");
    app.log_in(ADA);
}

/// Neither is taken in the place of another, nor is any of them changed.
#[test]
fn an_mfa_token_is_no_other_token_and_no_other_token_is_one() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (pair, authenticator, _) = ada(&app);
    let (token, code) = (first_step(&app, &json!({})), code_of(&authenticator, &app, 0));
    assert!(!token.contains(ADA));
    app.get_as("/v1/users/me", &token).expect_error(401, "invalid_token");
    app.refresh(&token).expect_refused("malformed");
    Answer::to(app.get("/v1/users/me").header("Cookie", format!("accessToken={token}"))).expect(401);
    app.confirm(&token).expect(401);
    for other in
        [&pair.access, &pair.refresh, "", ".", "a.b", &token[1..], &format!("{token}A"), &token.replace('.', "")]
    {
        second_step(&app, other, &code).expect_error(401, "invalid_credentials");
    }
    app.post("/v1/auth/mfa", &json!({ "code": code })).expect_error(400, "invalid_request");
    app.post("/v1/auth/mfa", &json!({ "mfa_token": token })).expect_error(400, "invalid_request");
    app.post("/v1/auth/mfa", &json!({ "mfa_token": token, "code": 123_456 })).expect_error(400, "invalid_request");
    // Another server's.
    let elsewhere_home = Home::new();
    let elsewhere = TestApp::start(&elsewhere_home);
    second_step(&elsewhere, &token, &code).expect_error(401, "invalid_credentials");
    second_step(&app, &token, &code).expect(200);
}

#[test]
fn a_session_from_before_says_how_it_began() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (pair, _, _) = ada(&app);
    app.pass(Duration::from_secs(60));
    let next = app.refresh(&pair.refresh).expect(200).pair();
    let said = claims(&next.access);
    assert_eq!((&said["amr"], &said["auth_time"]), (&json!(["pwd"]), &json!(START)), "it began without");
}

/// The secret is sealed anew when the key has changed.
#[test]
fn a_secret_is_sealed_and_follows_the_key() {
    let home = Home::new();
    let (old, new) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let config = || config(&home).with("tokens.refresh_secret", old);
    let under = || number_in_database(&home, "SELECT count(DISTINCT totp_sealed_under) AS number FROM users");
    let (authenticator, token) = {
        let app = TestApp::start_with(config(), clock());
        let (_, authenticator, _) = ada(&app);
        (authenticator, first_step(&app, &json!({})))
    };
    assert_eq!(under(), 1);
    let rotated = || config().with("tokens.refresh_secret", new).with("tokens.refresh_secret_previous", old);
    let app = TestApp::start_with(rotated(), clock());
    second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect(200);
    drop(app);
    // The old key is needed no more for that.
    in_database(&home, "UPDATE signing_keys SET needed_until = 0");
    let app = TestApp::start_with(config().with("tokens.refresh_secret", new), clock());
    app.pass(STEP);
    second_step(&app, &first_step(&app, &json!({})), &code_of(&authenticator, &app, 0)).expect(200);
}

/// Sealed for one user, it opens for no other.
#[test]
fn a_secret_is_bound_to_its_user() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let (_, authenticator, _) = ada(&app);
    let bob = app.sign_up("bob@example.com");
    enable(&app, &bob);
    let copy = "UPDATE users SET totp_secret = (SELECT totp_secret FROM users WHERE email = 'ada@example.com'), totp_step = NULL
                WHERE email = 'bob@example.com'";
    in_database(&home, copy);
    let body = json!({ "email": "bob@example.com", "password": PASSWORD });
    let asked = app.post("/v1/auth/login", &body).expect_error(401, "mfa_required").json();
    let answer = second_step(&app, asked["mfa_token"].as_str().unwrap(), &code_of(&authenticator, &app, 0));
    answer.expect_error(503, "unavailable");
}

#[test]
fn guards_ask_how_lately_and_how_the_user_signed_in() {
    async fn fresh(caller: Fresh<300>) -> HttpResponse {
        HttpResponse::Ok().body(format!("{:?}", caller.principal().signed_in_at().unwrap().as_seconds()))
    }
    async fn mfa(caller: Mfa) -> HttpResponse {
        HttpResponse::Ok().body(caller.principal().methods().join(" "))
    }
    async fn any(caller: Principal) -> HttpResponse {
        HttpResponse::Ok().json(caller.claims())
    }
    let home = Home::new();
    let app = TestApp::start(&home);
    let (pair, authenticator, _) = ada(&app);
    let token = first_step(&app, &json!({}));
    let strong = second_step(&app, &token, &code_of(&authenticator, &app, 0)).expect(200).pair();
    let ask = |path: &'static str, access: &str| {
        let (config, clock, access) = (config(&home).resolve().unwrap(), app.clock.clone(), access.to_owned());
        actix_web::rt::System::new().block_on(async move {
            let countersign = Countersign::open_with_clock(&config, clock).unwrap();
            let routes = Actix::new()
                .configure(|config| countersign.configure(config))
                .route("/fresh", web::get().to(fresh))
                .route("/mfa", web::get().to(mfa))
                .route("/any", web::get().to(any));
            let service = actix::init_service(routes).await;
            let request =
                actix::TestRequest::get().uri(path).insert_header(("authorization", format!("Bearer {access}")));
            let answer = actix::call_service(&service, request.to_request()).await;
            let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
            let (status, body) = (answer.status(), actix::read_body(answer).await);
            (status, challenge, String::from_utf8(body.to_vec()).unwrap())
        })
    };
    let challenge =
        |more: &str| Some(format!("Bearer realm=\"countersign\", error=\"insufficient_user_authentication\"{more}"));
    assert_eq!(ask("/mfa", &strong.access), (StatusCode::OK, None, "pwd otp mfa".into()));
    let (status, asked, body) = ask("/mfa", &pair.access);
    assert_eq!((status, asked), (StatusCode::UNAUTHORIZED, challenge("")), "{body}");
    assert!(body.contains("\"code\":\"insufficient_user_authentication\""), "{body}");
    assert_eq!(ask("/any", &pair.access).2, "{}");

    app.pass(Duration::from_secs(300));
    assert_eq!(ask("/fresh", &strong.access), (StatusCode::OK, None, START.to_string()));
    app.pass(Duration::from_secs(1));
    let (status, asked, _) = ask("/fresh", &strong.access);
    assert_eq!((status, asked), (StatusCode::UNAUTHORIZED, challenge(", max_age=\"300\"")));
    // A refresh does not count as signing in.
    let refreshed = app.refresh(&strong.refresh).expect(200).pair();
    assert_eq!(ask("/fresh", &refreshed.access).0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/mfa", &refreshed.access).0, StatusCode::OK);
}

/// What an operator sets, from the next refresh on; what a hand in the database adds is no more than that.
#[test]
fn claims_stand_in_access_tokens_from_the_next_refresh_on() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up(ADA);
    let set = |claims: &str| {
        for table in ["users", "sessions"] {
            in_database(&home, &format!("UPDATE {table} SET claims = {claims}"));
        }
    };
    set(r#"'{"plan":"gold","sub":"someone-else","roles":["admin"],"amr":["mfa"],"seats":[1,2]}'"#);
    let before = claims(&pair.access);
    let next = app.refresh(&pair.refresh).expect(200).pair();
    let said = claims(&next.access);
    assert_eq!((&said["plan"], &said["seats"]), (&json!("gold"), &json!([1, 2])));
    for name in ["sub", "amr", "sid", "iss", "roles"] {
        assert_eq!(said[name], before[name], "{name}");
    }
    assert!(app.works(&next.access));
    assert_eq!(claims(&app.log_in(ADA).access)["plan"], json!("gold"));
    set("NULL");
    assert!(claims(&app.refresh(&next.refresh).expect(200).pair().access).get("plan").is_none());
}
