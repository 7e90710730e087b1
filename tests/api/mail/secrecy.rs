//! What a mail, its links and their pages tell, and what they do not.

use reqwest::Method;
use serde_json::json;
use support::harness::{Answer, Home, connect, in_database};

use super::{ADA, NEW_PASSWORD, forgot, log_in, proven, reset, start};

/// RST-03.
#[test]
fn links_are_below_the_issuer_whatever_host_is_asked() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    proven(&app, &mut mailbox, ADA);
    let request = app.request(Method::POST, "/v1/auth/password/forgot").json(&json!({ "email": ADA }));
    let request = request.header("Host", "evil.example").header("X-Forwarded-Host", "evil.example");
    Answer::to(request).expect(202);
    let mail = mailbox.receive();
    assert!(mail.text.contains("http://issuer.test/account/reset?token="), "{}", mail.text);
    assert!(!mail.text.contains("evil"), "{}", mail.text);
}

/// Nothing in the database opens an account: not the token, its code, nor the text of a mail that waits.
#[test]
fn the_database_holds_neither_links_nor_codes() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    proven(&app, &mut mailbox, ADA);
    forgot(&app, ADA).expect(202);
    let mail = mailbox.receive();
    for column in ["token_hash", "code_tag", "email", "purpose"] {
        let sql = match column {
            "email" | "purpose" => format!("SELECT {column} AS text FROM mail_tokens"),
            _ => format!("SELECT {} AS text FROM mail_tokens", hex(&home, column)),
        };
        let text = connect(&home).text(&sql);
        let hexed = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        for secret in [mail.token(), mail.code()] {
            assert!(!text.contains(&secret) && !text.to_lowercase().contains(&hexed(&secret)), "{column}: {text}");
        }
    }
}

fn hex(home: &Home, column: &str) -> String {
    if home.database().url().starts_with("postgres") {
        format!("encode({column}, 'hex')")
    } else {
        format!("hex({column})")
    }
}

/// Mail scanners open links, and some ask with HEAD.
#[test]
fn pages_use_nothing_up_and_do_it_only_when_their_button_is_pressed() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    proven(&app, &mut mailbox, ADA);
    forgot(&app, ADA).expect(202);
    let token = mailbox.receive().token();
    let url = format!("/account/reset?token={token}");
    for method in [Method::HEAD, Method::GET, Method::GET] {
        let page = Answer::to(app.request(method, &url)).expect(200);
        assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
        assert!(page.text.len() <= 8 * 1024, "{} bytes", page.text.len());
        assert!(!page.text.contains("<script") && !page.text.contains("http://"), "{}", page.text);
    }
    let send = |fields: &[(&str, &str)]| Answer::to(app.request(Method::POST, "/account/reset").form(fields));
    let page = send(&[("token", &token), ("new_password", "short")]).expect(422);
    assert!(page.text.contains("The password must"), "{}", page.text);
    assert!(page.text.contains(&token), "the form is there once more");
    let page = send(&[("token", &token), ("new_password", NEW_PASSWORD)]).expect(200);
    assert!(page.text.contains("Password changed"), "{}", page.text);
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
    for answer in [
        send(&[("token", &token), ("new_password", NEW_PASSWORD)]),
        send(&[]),
        Answer::to(app.request(Method::POST, "/account/reset").body("token=x")),
        Answer::to(app.get(&url)),
        Answer::to(app.get("/account/reset")),
        Answer::to(app.get("/account/verify?token=%22%3E%3Cscript%3E")),
    ] {
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.text.contains("not valid") && !answer.text.contains("<script"), "{}", answer.text);
    }
}

#[test]
fn the_pages_prove_an_address_and_undo_its_change() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let pair = app.sign_up(ADA);
    let press = |page: &str, token: &str| Answer::to(app.request(Method::POST, page).form(&[("token", token)]));
    let token = mailbox.receive().token();
    assert!(Answer::to(app.get(&format!("/account/verify?token={token}"))).expect(200).text.contains(ADA));
    press("/account/verify", &token).expect(200);
    let body = json!({ "email": "ada@example.org", "password": support::harness::PASSWORD });
    Answer::to(app.request(Method::POST, "/v1/users/me/email").bearer_auth(&pair.access).json(&body)).expect(202);
    let token = mailbox.receive().token();
    let page = Answer::to(app.get(&format!("/account/verify?token={token}"))).expect(200).text;
    assert!(page.contains("ada@example.org") && page.contains(ADA), "{page}");
    press("/account/verify", &token).expect(200);
    let token = mailbox.receive().token();
    // A link of one kind is none of another.
    press("/account/reset", &token).expect(400);
    press("/account/verify", &token).expect(400);
    Answer::to(app.get(&format!("/account/undo?token={token}"))).expect(200);
    press("/account/undo", &token).expect(200);
    reset(&app, &json!({ "token": mailbox.receive().token() })).expect(204);
    log_in(&app, ADA, NEW_PASSWORD).expect(200);
}

/// The sender goes on where it was when a server ends.
#[test]
fn a_mail_that_waits_is_sent_by_the_next_server() {
    let home = Home::new();
    {
        let (app, mut mailbox) = start(&home);
        proven(&app, &mut mailbox, ADA);
        // Where no folder can be made, nothing can be sent.
        std::fs::rename(home.path().join("mail"), home.path().join("before")).unwrap();
        std::fs::write(home.path().join("mail"), "").unwrap();
        forgot(&app, ADA).expect(202);
        let began = std::time::Instant::now();
        while connect(&home).number("SELECT count(*) AS number FROM mails WHERE last_error IS NOT NULL") == 0 {
            assert!(began.elapsed().as_secs() < 60);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    std::fs::remove_file(home.path().join("mail")).unwrap();
    in_database(&home, "UPDATE mails SET due_at = 0");
    let (app, mut mailbox) = start(&home);
    let mail = mailbox.receive();
    assert_eq!(mail.to, ADA);
    reset(&app, &json!({ "token": mail.token() })).expect(204);
}

/// What a user has typed is in no mail to an address that is not proven, and markup in none.
#[test]
fn a_name_is_in_mails_to_proven_addresses_only_and_never_markup() {
    let home = Home::new();
    let (app, mut mailbox) = start(&home);
    let name = "<b>Ada</b>\u{202e}";
    let body = json!({ "email": ADA, "password": support::harness::PASSWORD, "name": name });
    app.post("/v1/auth/register", &body).expect(201);
    let mail = mailbox.receive();
    assert!(!mail.text.contains("Ada"), "{}", mail.text);
    super::verify(&app, &json!({ "token": mail.token() })).expect(204);
    forgot(&app, ADA).expect(202);
    let mail = mailbox.receive();
    let (plain, html) = mail.text.split_once("text/html").unwrap();
    assert!(plain.contains("<b>Ada</b>"), "{plain}");
    assert!(html.contains("&lt;b&gt;Ada&lt;/b&gt;") && !html.contains("<b>Ada"), "{html}");
}
