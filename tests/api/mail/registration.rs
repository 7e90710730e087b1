//! The proof of the address that an account was registered with.

use reqwest::Method;
use serde_json::{Value, json};
use support::harness::{Answer, Home, PASSWORD, TestApp, in_database, number_in_database, with_mail};
use support::mailbox::Mailbox;

use super::{ADA, NEW_PASSWORD, forgot, log_in, reset, start, start_with, verify};

fn user(app: &TestApp, access: &str) -> Value {
    app.get_as("/v1/users/me", access).expect(200).json()
}

fn required(home: &Home) -> (TestApp, Mailbox) {
    start_with(home, with_mail(home).with("registration.verify_email", "required"))
}

fn register(app: &TestApp, email: &str, password: &str, name: &str) -> Answer {
    app.post("/v1/auth/register", &json!({ "email": email, "password": password, "name": name }))
}

#[test]
fn a_new_account_is_signed_in_and_gets_a_mail_that_proves_its_address() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = app.sign_up(ADA);
    assert_eq!(user(&app, &pair.access)["email_verified"], false);
    let mail = mailbox.receive();
    assert_eq!(mail.to, ADA);
    verify(&app, &json!({ "token": mail.token() })).expect(204);
    assert_eq!(user(&app, &pair.access)["email_verified"], true);
    verify(&app, &json!({ "token": mail.token() })).expect_error(400, "invalid_code");
    assert!(app.works(&pair.access), "the session goes on");
}

#[test]
fn another_mail_proves_the_address_by_its_code_and_ends_the_first() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = app.sign_up(ADA);
    let first = mailbox.receive();
    let again = || Answer::to(app.request(Method::POST, "/v1/users/me/email/verification").bearer_auth(&pair.access));
    again().expect(202);
    let second = mailbox.receive();
    verify(&app, &json!({ "token": first.token() })).expect_error(400, "invalid_code");
    verify(&app, &json!({ "email": ADA, "code": second.code() })).expect(204);
    assert_eq!(user(&app, &pair.access)["email_verified"], true);
    // There is nothing to prove any more.
    again().expect(202);
    forgot(&app, ADA).expect(202);
    assert!(mailbox.receive().subject.contains("password"), "and no mail goes out");
    Answer::to(app.request(Method::POST, "/v1/users/me/email/verification")).expect_error(401, "missing_token");
}

#[test]
fn where_the_proof_is_required_there_is_no_log_in_before_it() {
    let home = Home::new();
    let (app, mut mailbox) = required(&home);
    let answer = register(&app, ADA, PASSWORD, "Ada").expect(202);
    assert_eq!(answer.text, "");
    assert!(answer.header("Set-Cookie").is_none());
    log_in(&app, ADA, PASSWORD).expect_error(403, "email_not_verified");
    log_in(&app, ADA, "wrong wrong wrong").expect_error(401, "invalid_credentials");
    let mail = mailbox.receive();
    assert!(!mail.text.contains("Ada"), "a name that was typed goes to no unproven address: {}", mail.text);
    verify(&app, &json!({ "token": mail.token() })).expect(204);
    log_in(&app, ADA, PASSWORD).expect(200);
}

/// Who was first does not decide: who reads the mail does.
#[test]
fn of_two_who_register_one_address_the_one_who_reads_its_mail_has_it() {
    let home = Home::new();
    let (app, mut mailbox) = required(&home);
    register(&app, ADA, "password of the thief", "Thief").expect(202);
    let first = mailbox.receive();
    register(&app, ADA, PASSWORD, "Ada").expect(202);
    let second = mailbox.receive();
    assert_eq!(number_in_database(&home, "SELECT count(*) AS number FROM users"), 1);
    verify(&app, &json!({ "token": first.token() })).expect_error(400, "invalid_code");
    let refused = verify(&app, &json!({ "token": second.token() })).expect_error(422, "validation_failed");
    assert_eq!(refused.json()["errors"][0]["field"], "new_password");
    let proof = json!({ "token": second.token(), "new_password": NEW_PASSWORD });
    verify(&app, &proof).expect(204);
    for password in ["password of the thief", PASSWORD] {
        log_in(&app, ADA, password).expect_error(401, "invalid_credentials");
    }
    let pair = log_in(&app, ADA, NEW_PASSWORD).expect(200).pair();
    assert_eq!(user(&app, &pair.access)["name"], "Ada");
    verify(&app, &proof).expect_error(400, "invalid_code");
}

/// The answer is the same, and the owner is told.
#[test]
fn to_register_a_known_address_tells_its_owner_only() {
    let home = Home::new();
    let (app, mut mailbox) = required(&home);
    let new = register(&app, ADA, PASSWORD, "Ada").expect(202);
    verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    let known = register(&app, ADA, "password of the thief", "Thief").expect(202);
    let names = |answer: &Answer| {
        let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!((names(&new), &new.text), (names(&known), &known.text));
    let mail = mailbox.receive();
    assert_eq!(mail.to, ADA);
    assert!(mail.text.contains("has an account"), "{}", mail.text);
    assert!(!mail.text.contains("Thief"));
    log_in(&app, ADA, PASSWORD).expect(200);
    log_in(&app, ADA, "password of the thief").expect_error(401, "invalid_credentials");
    // Its link sets a new password.
    reset(&app, &json!({ "token": mail.token() })).expect(204);
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
}

#[test]
fn a_password_that_is_reset_proves_the_address_too() {
    let home = Home::new();
    let (app, mut mailbox) = required(&home);
    register(&app, ADA, PASSWORD, "Ada").expect(202);
    let verification = mailbox.receive();
    forgot(&app, ADA).expect(202);
    reset(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    let pair = log_in(&app, ADA, NEW_PASSWORD).expect(200).pair();
    assert_eq!(user(&app, &pair.access)["email_verified"], true);
    verify(&app, &json!({ "token": verification.token() })).expect_error(400, "invalid_code");
}

/// A session of before the proof was required goes on, and its user can prove the address.
#[test]
fn sessions_of_unproven_accounts_go_on_when_the_proof_becomes_required() {
    let home = Home::new();
    let pair = {
        let app = TestApp::start(&home);
        app.sign_up(ADA)
    };
    let (app, mut mailbox) = required(&home);
    let pair = app.refresh(&pair.refresh).expect(200).pair();
    log_in(&app, ADA, PASSWORD).expect_error(403, "email_not_verified");
    // A stranger registers the address: the open session is not touched.
    register(&app, ADA, "password of the thief", "Thief").expect(202);
    mailbox.receive();
    assert!(app.works(&pair.access));
    Answer::to(app.request(Method::POST, "/v1/users/me/email/verification").bearer_auth(&pair.access)).expect(202);
    let proof = json!({ "token": mailbox.receive().token(), "new_password": NEW_PASSWORD });
    verify(&app, &proof).expect(204);
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
}

#[test]
fn a_disabled_account_is_as_good_as_known_and_gets_no_mail() {
    let home = Home::new();
    let (app, mut mailbox) = required(&home);
    register(&app, ADA, PASSWORD, "Ada").expect(202);
    let mail = mailbox.receive();
    in_database(&home, "UPDATE users SET disabled_at = 1");
    register(&app, ADA, NEW_PASSWORD, "Ada").expect(202);
    verify(&app, &json!({ "token": mail.token() })).expect_error(400, "invalid_code");
    register(&app, "bob@example.com", PASSWORD, "Bob").expect(202);
    assert_eq!(mailbox.receive().to, "bob@example.com");
}

/// A stranger's password opens nothing, whatever the configuration says later, and what was asked for before is dropped.
#[test]
fn a_contested_account_is_closed_until_its_address_is_proven() {
    let home = Home::new();
    let pair = {
        let (app, mut mailbox) = start(&home);
        let pair = app.sign_up(ADA);
        mailbox.receive();
        pair
    };
    let (app, mut mailbox) = required(&home);
    mailbox.unread();
    let body = json!({ "email": "ada@example.org", "password": PASSWORD });
    Answer::to(app.request(Method::POST, "/v1/users/me/email").bearer_auth(&pair.access).json(&body)).expect(202);
    let change = mailbox.receive();
    register(&app, "ADA@example.com", "password of the thief", "Thief").expect(202);
    let proof = mailbox.receive();
    assert_eq!(proof.to, ADA, "the address as the account has it");
    verify(&app, &json!({ "token": change.token() })).expect_error(400, "invalid_code");
    drop(app);

    let (app, _mailbox) = start(&home);
    for password in [PASSWORD, "password of the thief"] {
        let refused = log_in(&app, ADA, password);
        assert!([401, 403].contains(&refused.status), "{}", refused.text);
    }
    verify(&app, &json!({ "token": proof.token() })).expect_error(422, "validation_failed");
    verify(&app, &json!({ "token": proof.token(), "new_password": NEW_PASSWORD })).expect(204);
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
}

/// A second factor that a stranger has set up for the account of an unproven address goes with the proof.
#[test]
fn a_second_factor_of_before_a_contested_proof_is_removed() {
    let home = Home::new();
    let (app, mut mailbox) = required(&home);
    register(&app, ADA, PASSWORD, "Ada").expect(202);
    mailbox.receive();
    super::set_up_second_factors(&home, 1);
    register(&app, ADA, PASSWORD, "Ada").expect(202);
    let proof = json!({ "token": mailbox.receive().token(), "new_password": NEW_PASSWORD });
    verify(&app, &proof).expect(204);
    let pair = log_in(&app, ADA, NEW_PASSWORD).expect(200).pair();
    assert_eq!(user(&app, &pair.access)["mfa"], false);
}

/// A link that the owner has asked for stays good when a stranger registers the address.
#[test]
fn to_register_a_known_address_leaves_the_links_of_its_owner() {
    let home = Home::new();
    let (app, mut mailbox) = required(&home);
    register(&app, ADA, PASSWORD, "Ada").expect(202);
    verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    forgot(&app, ADA).expect(202);
    let asked_for = mailbox.receive();
    register(&app, ADA, "password of the thief", "Thief").expect(202);
    let known = mailbox.receive();
    reset(&app, &json!({ "email": ADA, "code": asked_for.code() })).expect(204);
    mailbox.receive();
    reset(&app, &json!({ "token": known.token() })).expect_error(400, "invalid_code");
}
