//! Another address for an account, and how that is undone.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use support::harness::{Answer, Home, PASSWORD, TestApp};

use super::{ADA, NEW_PASSWORD, forgot, log_in, proven, reset, start, verify};

const NEW: &str = "ada@example.org";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn change(app: &TestApp, access: &str, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password });
    Answer::to(app.request(Method::POST, "/v1/users/me/email").bearer_auth(access).json(&body))
}

fn undo(app: &TestApp, token: &str) -> Answer {
    app.post("/v1/auth/email/undo", &json!({ "token": token }))
}

#[test]
fn an_address_takes_the_place_of_another_when_it_is_proven() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    change(&app, &pair.access, NEW, "wrong wrong wrong").expect_error(403, "invalid_credentials");
    change(&app, &pair.access, "no address", PASSWORD).expect_error(422, "validation_failed");
    change(&app, &pair.access, "ADA@example.com", PASSWORD).expect_error(422, "validation_failed");
    forgot(&app, ADA).expect(202);
    let reset_link = mailbox.receive().token();
    change(&app, &pair.access, NEW, PASSWORD).expect(202);
    let mail = mailbox.receive();
    assert_eq!(mail.to, NEW);
    // Until then, nothing has changed.
    log_in(&app, NEW, PASSWORD).expect_error(401, "invalid_credentials");
    log_in(&app, ADA, PASSWORD).expect(200);

    verify(&app, &json!({ "email": NEW, "code": mail.code() })).expect(204);
    let user = app.get_as("/v1/users/me", &pair.access).expect(200).json();
    assert_eq!((&user["email"], &user["email_verified"]), (&json!(NEW), &json!(true)));
    log_in(&app, ADA, PASSWORD).expect_error(401, "invalid_credentials");
    log_in(&app, NEW, PASSWORD).expect(200);
    let told = mailbox.receive();
    assert_eq!(told.to, ADA);
    assert!(told.text.contains(NEW), "{}", told.text);
    reset(&app, &json!({ "token": reset_link })).expect_error(400, "invalid_code");
}

#[test]
fn that_an_address_is_taken_is_told_only_to_who_has_proven_it() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    proven(&app, &mut mailbox, "bob@example.com");
    change(&app, &pair.access, "bob@example.com", PASSWORD).expect(202);
    let mail = mailbox.receive();
    assert_eq!(mail.to, "bob@example.com");
    verify(&app, &json!({ "token": mail.token() })).expect_error(409, "email_taken");
    log_in(&app, ADA, PASSWORD).expect(200);
}

/// However often the address has moved since, the first link gives the first address back.
#[test]
fn an_account_gets_its_address_back_and_a_thief_loses_it() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    let mut undo_links = Vec::new();
    for address in ["thief@example.com", "thief@example.net"] {
        change(&app, &pair.access, address, PASSWORD).expect(202);
        verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
        undo_links.push(mailbox.receive().token());
        app.pass(Duration::from_secs(1));
    }
    change(&app, &pair.access, "thief@example.info", PASSWORD).expect(202);
    let waiting = mailbox.receive().token();
    app.pass(6 * DAY);
    // No other account can take the address meanwhile.
    let body = json!({ "email": ADA, "password": PASSWORD });
    app.post("/v1/auth/register", &body).expect_error(409, "email_taken");

    undo(&app, &undo_links[0]).expect(204);
    let mail = mailbox.receive();
    assert_eq!(mail.to, ADA);
    app.refresh(&pair.refresh).expect_refused("revoked");
    for address in [ADA, "thief@example.net"] {
        log_in(&app, address, PASSWORD).expect_error(401, "invalid_credentials");
    }
    verify(&app, &json!({ "token": waiting })).expect_error(400, "invalid_code");
    undo(&app, &undo_links[1]).expect_error(400, "invalid_code");
    undo(&app, &undo_links[0]).expect_error(400, "invalid_code");
    reset(&app, &json!({ "token": mail.token() })).expect(204);
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
}

#[test]
fn a_change_is_undone_for_seven_days_and_each_one_by_its_own_link() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    change(&app, &pair.access, NEW, PASSWORD).expect(202);
    verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    let first = mailbox.receive().token();
    app.pass(DAY);
    let pair = log_in(&app, NEW, PASSWORD).expect(200).pair();
    change(&app, &pair.access, "ada@example.net", PASSWORD).expect(202);
    verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    let second = mailbox.receive();
    assert_eq!(second.to, NEW);
    undo(&app, &second.token()).expect(204);
    assert_eq!(mailbox.receive().to, NEW, "a mail that sets a password");
    // The earlier one is still good, and takes the account back further.
    undo(&app, &first).expect(204);
    assert_eq!(mailbox.receive().to, ADA);

    proven(&app, &mut mailbox, "bob@example.com");
    let pair = log_in(&app, "bob@example.com", PASSWORD).expect(200).pair();
    change(&app, &pair.access, "bob@example.org", PASSWORD).expect(202);
    verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    let late = mailbox.receive().token();
    app.pass(7 * DAY);
    undo(&app, &late).expect_error(400, "invalid_code");
    // And the address is free for everyone.
    app.post("/v1/auth/register", &json!({ "email": "bob@example.com", "password": PASSWORD })).expect(201);
}

#[test]
fn the_owner_may_take_an_address_back_by_hand() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    for address in [NEW, ADA] {
        change(&app, &pair.access, address, PASSWORD).expect(202);
        verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
        mailbox.receive();
        app.pass(Duration::from_secs(1));
    }
    log_in(&app, ADA, PASSWORD).expect(200);
}

#[test]
fn a_deleted_account_leaves_no_link_and_its_owner_is_told() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    forgot(&app, ADA).expect(202);
    let link = mailbox.receive().token();
    let body = json!({ "password": PASSWORD });
    Answer::to(app.request(Method::DELETE, "/v1/users/me").bearer_auth(&pair.access).json(&body)).expect(204);
    assert!(mailbox.receive().text.contains("was deleted"));
    reset(&app, &json!({ "token": link })).expect_error(400, "invalid_code");
}

#[test]
fn what_has_happened_to_the_address_is_among_the_events() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    change(&app, &pair.access, NEW, PASSWORD).expect(202);
    verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    undo(&app, &mailbox.receive().token()).expect(204);
    reset(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    let pair = log_in(&app, ADA, NEW_PASSWORD).expect(200).pair();
    let events = app.get_as("/v1/users/me/events", &pair.access).expect(200).json();
    let kinds: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    for kind in ["email_verified", "email_change_requested", "email_changed", "email_change_undone", "password_changed"]
    {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
}

/// A link to the address that a thief had ends with the owner's return, by whatever way.
#[test]
fn a_return_to_an_address_ends_the_links_of_the_changes_since() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    let mut links = Vec::new();
    for address in ["thief@example.com", "thief@example.net", ADA] {
        change(&app, &pair.access, address, PASSWORD).expect(202);
        verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
        links.push(mailbox.receive());
        app.pass(Duration::from_secs(1));
    }
    assert_eq!(links[1].to, "thief@example.com");
    undo(&app, &links[1].token()).expect_error(400, "invalid_code");
    log_in(&app, ADA, PASSWORD).expect(200);
}

#[test]
fn only_addresses_that_may_register_may_be_changed_to() {
    let home = Home::new();
    let (app, mut mailbox) =
        super::start_with(&home, super::with_mail(&home).with("registration.allowed_domains", "example.com"));
    let pair = proven(&app, &mut mailbox, ADA);
    let refused = change(&app, &pair.access, NEW, PASSWORD).expect_error(422, "validation_failed");
    assert_eq!(refused.json()["errors"][0]["field"], "email");
    change(&app, &pair.access, "countess@example.com", PASSWORD).expect(202);
}

/// A second factor that was set up after the change is of who has moved the account.
#[test]
fn a_second_factor_of_after_the_change_goes_with_it() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = proven(&app, &mut mailbox, ADA);
    change(&app, &pair.access, "thief@example.com", PASSWORD).expect(202);
    verify(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    let link = mailbox.receive().token();
    super::set_up_second_factors(&home, support::harness::START + 60);
    undo(&app, &link).expect(204);
    reset(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
}
