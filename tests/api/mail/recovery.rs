//! A forgotten password.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use support::authenticator::Authenticator;
use support::harness::{Answer, Home, PASSWORD, TestApp, number_in_database, with_mail};

use super::{ADA, NEW_PASSWORD, forgot, log_in, proven, reset, start, start_with};

const MINUTE: Duration = Duration::from_secs(60);

/// RST-01, RST-02.
#[test]
fn a_forgotten_password_is_set_by_the_link_once_and_ends_all_sessions() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    forgot(&app, " ADA@Example.com ").expect(202);
    let mail = mailbox.receive();
    assert_eq!(mail.to, ADA);
    // RST-04: nothing has changed by asking.
    log_in(&app, ADA, PASSWORD).expect(200);

    let proof = json!({ "token": mail.token() });
    let answer = reset(&app, &proof).expect(204);
    assert_eq!(answer.text, "", "no tokens are in the answer");
    app.refresh(&pair.refresh).expect_refused("revoked");
    assert!(!app.works(&pair.access));
    log_in(&app, ADA, PASSWORD).expect_error(401, "invalid_credentials");
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
    let notice = mailbox.receive();
    assert_eq!(notice.to, ADA);
    assert!(notice.text.contains("password was changed"), "{}", notice.text);
    reset(&app, &proof).expect_error(400, "invalid_code");
    assert_eq!(number_in_database(&home, "SELECT count(*) AS number FROM mail_tokens"), 0);
}

#[test]
fn a_forgotten_password_is_set_by_the_code_that_is_typed() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    proven(&app, &mut mailbox, ADA);
    forgot(&app, ADA).expect(202);
    let code = mailbox.receive().code();
    let (first, last) = code.split_at(4);
    reset(&app, &json!({ "email": "Ada@example.com", "code": format!("{first} {last}") })).expect(204);
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
}

/// Another's code is no use, and the fifth wrong one ends a code but not its link.
#[test]
fn a_code_is_dead_after_five_wrong_ones_and_its_link_is_not() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    proven(&app, &mut mailbox, ADA);
    proven(&app, &mut mailbox, "bob@example.com");
    forgot(&app, ADA).expect(202);
    let mail = mailbox.receive();
    let code = mail.code();
    reset(&app, &json!({ "email": "bob@example.com", "code": code })).expect_error(400, "invalid_code");
    reset(&app, &json!({ "email": "unknown@example.com", "code": code })).expect_error(400, "invalid_code");
    let wrong = if code == "00000000" { "00000001" } else { "00000000" };
    for _ in 0..5 {
        reset(&app, &json!({ "email": ADA, "code": wrong })).expect_error(400, "invalid_code");
    }
    reset(&app, &json!({ "email": ADA, "code": code })).expect_error(400, "invalid_code");
    reset(&app, &json!({ "token": mail.token() })).expect(204);
}

/// A right code with a password that is refused may be sent again as often as it takes.
#[test]
fn a_password_that_is_refused_uses_up_neither_link_nor_code() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    proven(&app, &mut mailbox, ADA);
    forgot(&app, ADA).expect(202);
    let mail = mailbox.receive();
    for proof in [json!({ "token": mail.token() }), json!({ "email": ADA, "code": mail.code() })] {
        for _ in 0..7 {
            let mut body = proof.clone();
            body["new_password"] = "short".into();
            let refused = app.post("/v1/auth/password/reset", &body).expect_error(422, "validation_failed");
            assert_eq!(refused.json()["errors"][0]["field"], "new_password");
        }
    }
    reset(&app, &json!({ "email": ADA, "code": mail.code() })).expect(204);
}

#[test]
fn links_last_an_hour_codes_15_minutes_and_newer_ones_replace_them() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    proven(&app, &mut mailbox, ADA);
    forgot(&app, ADA).expect(202);
    let first = mailbox.receive();
    forgot(&app, ADA).expect(202);
    let second = mailbox.receive();
    reset(&app, &json!({ "token": first.token() })).expect_error(400, "invalid_code");
    reset(&app, &json!({ "email": ADA, "code": first.code() })).expect_error(400, "invalid_code");
    app.pass(15 * MINUTE);
    reset(&app, &json!({ "email": ADA, "code": second.code() })).expect_error(400, "invalid_code");
    app.pass(44 * MINUTE);
    let page = Answer::to(app.get(&format!("/account/reset?token={}", second.token())));
    assert_eq!(page.status, 200);
    app.pass(MINUTE);
    reset(&app, &json!({ "token": second.token() })).expect_error(400, "invalid_code");
}

/// An account that is disabled, one that is not there, and what is no address: alike, and no mail.
#[test]
fn only_an_account_that_can_be_used_gets_a_mail() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    proven(&app, &mut mailbox, ADA);
    support::harness::in_database(&home, "UPDATE users SET disabled_at = 1");
    for email in [ADA, "unknown@example.com", "no address", "", "\u{0}@example.com"] {
        let answer = forgot(&app, email).expect(202);
        assert_eq!(answer.text, "", "{email:?}");
    }
    support::harness::in_database(&home, "UPDATE users SET disabled_at = NULL");
    forgot(&app, ADA).expect(202);
    assert_eq!(mailbox.receive().to, ADA);
    assert!(mailbox.unread().is_empty());
    assert_eq!(number_in_database(&home, "SELECT count(*) AS number FROM mail_tokens"), 1);
}

/// RST-04.
#[test]
fn mails_that_are_asked_for_are_few_and_their_refusal_tells_nothing() {
    let home = Home::new();
    let config = with_mail(&home).with("limits.enabled", "true").with("server.trusted_proxies", "127.0.0.1");
    let (app, mut mailbox) = start_with(&home, config);
    proven(&app, &mut mailbox, ADA);
    let from = |address: &str, email: &str| {
        let request = app.request(Method::POST, "/v1/auth/password/forgot").header("X-Forwarded-For", address);
        Answer::to(request.json(&json!({ "email": email })))
    };
    for number in 0..5 {
        from(&format!("203.0.113.{number}"), ADA).expect(202);
        from(&format!("203.0.113.{number}"), "unknown@example.com").expect(202);
    }
    assert_eq!(mailbox.wait_for(3).len(), 3);
    app.pass(15 * MINUTE);
    from("203.0.113.1", ADA).expect(202);
    mailbox.receive();
    // One client may ask for thirty, whether there is an account or not.
    for number in 0..30 {
        from("198.51.100.7", &format!("user{number}@example.com")).expect(202);
    }
    let refused = from("198.51.100.7", ADA).expect_error(429, "rate_limited");
    assert!(refused.header("Retry-After").is_some());
    from("198.51.100.8", ADA).expect(202);
    mailbox.receive();
}

/// Wrong codes count like wrong passwords, and right ones do not.
#[test]
fn guesses_at_codes_from_one_address_come_to_an_end() {
    let home = Home::new();
    let config = with_mail(&home).with("limits.enabled", "true").with("limits.login_failures", "2");
    let (app, mut mailbox) = start_with(&home, config);
    proven(&app, &mut mailbox, ADA);
    for _ in 0..20 {
        reset(&app, &json!({ "token": "wrong" })).expect_error(400, "invalid_code");
    }
    reset(&app, &json!({ "token": "wrong" })).expect_error(429, "rate_limited");
    reset(&app, &json!({ "email": ADA, "code": "12345678" })).expect_error(429, "rate_limited");
    // Who has a link is not kept out by others who guess.
    forgot(&app, ADA).expect(202);
    reset(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
}

#[test]
fn a_password_that_is_changed_ends_the_links_that_were_asked_for() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    forgot(&app, ADA).expect(202);
    let reset_link = mailbox.receive().token();
    let body = json!({ "email": "thief@example.com", "password": PASSWORD });
    Answer::to(app.request(Method::POST, "/v1/users/me/email").bearer_auth(&pair.access).json(&body)).expect(202);
    let change_link = mailbox.receive().token();
    let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    Answer::to(app.request(Method::POST, "/v1/users/me/password").bearer_auth(&pair.access).json(&body)).expect(204);
    assert!(mailbox.receive().text.contains("password was changed"));
    reset(&app, &json!({ "token": reset_link })).expect_error(400, "invalid_code");
    super::verify(&app, &json!({ "token": change_link })).expect_error(400, "invalid_code");
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
}

#[test]
fn what_is_missing_in_a_request_is_named() {
    let home = Home::new();
    let (app, _mailbox) = start(&home);
    for (body, field) in [
        (json!({}), "token"),
        (json!({ "email": ADA }), "code"),
        (json!({ "code": "12345678" }), "email"),
        (json!({ "token": 7 }), "token"),
    ] {
        let refused = reset(&app, &body).expect_error(400, "invalid_request");
        assert_eq!(refused.json()["errors"][0]["field"], field, "{body}");
    }
    app.post("/v1/auth/password/forgot", &json!({})).expect_error(400, "invalid_request");
}

#[test]
fn without_a_way_to_send_mail_there_are_no_such_routes() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let pair = app.sign_up(ADA);
    for path in ["/v1/auth/password/forgot", "/v1/auth/password/reset", "/v1/auth/email/verify", "/v1/auth/email/undo"]
    {
        app.post(path, &json!({})).expect_error(404, "not_found");
    }
    for path in ["/v1/users/me/email", "/v1/users/me/email/verification"] {
        let request = app.request(Method::POST, path).bearer_auth(&pair.access).json(&json!({}));
        Answer::to(request).expect_error(404, "not_found");
    }
    for page in ["/account/reset", "/account/verify", "/account/undo"] {
        assert_eq!(Answer::to(app.get(&format!("{page}?token=x"))).status, 404);
    }
}

/// LOG-12: a mailbox is no second factor, and gives no more guesses at it.
#[test]
fn a_reset_leaves_the_second_factor_and_what_was_got_wrong_of_it() {
    let home = Home::new();
    let (app, mut mailbox) = start_with(&home, with_mail(&home).with("limits.enabled", "true"));
    let pair = proven(&app, &mut mailbox, ADA);
    let as_ada = |path: &str, body: serde_json::Value| {
        Answer::to(app.request(Method::POST, path).bearer_auth(&pair.access).json(&body)).expect(200).json()
    };
    let begun = as_ada("/v1/users/me/totp", json!({ "password": PASSWORD }));
    let authenticator = Authenticator::of(begun["secret"].as_str().unwrap());
    let now = || app.clock.now().as_seconds();
    as_ada("/v1/users/me/totp/confirm", json!({ "code": authenticator.code(now(), -1) }));
    assert!(mailbox.receive().text.contains("second factor was set up"));
    let second_step = |password: &str, code: &str| {
        let token = log_in(&app, ADA, password).expect_error(401, "mfa_required").json()["mfa_token"].clone();
        app.post("/v1/auth/mfa", &json!({ "mfa_token": token, "code": code }))
    };
    for _ in 0..5 {
        second_step(PASSWORD, &authenticator.wrong(now())).expect_error(401, "invalid_code");
    }
    forgot(&app, ADA).expect(202);
    reset(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    mailbox.receive();
    second_step(NEW_PASSWORD, &authenticator.code(now(), 0)).expect_error(429, "rate_limited");
    app.pass(15 * MINUTE + Duration::from_secs(1));
    second_step(NEW_PASSWORD, &authenticator.code(now(), 0)).expect(200);
}
