//! Over SMTP.

use serde_json::{Value, json};
use support::process::Home;

use super::certificates::Authority;
use super::server::MailServer;
use super::{ADA, CA_FILE, FROM, TEMPLATES, TRANSPORT, URL, failed, send, sent};

pub const TESTS: &[(&str, fn())] = &[
    ("a_mail_arrives_as_it_was_written", a_mail_arrives_as_it_was_written),
    ("tls_is_used_where_it_is_offered", tls_is_used_where_it_is_offered),
    ("a_log_in_is_accepted_or_refused", a_log_in_is_accepted_or_refused),
    ("what_the_server_refuses_is_told_with_its_reason", what_the_server_refuses_is_told_with_its_reason),
    ("a_server_that_dies_or_is_not_there_is_tried_again", a_server_that_dies_or_is_not_there_is_tried_again),
    ("addresses_beyond_ascii_need_a_server_that_takes_them", addresses_beyond_ascii_need_a_server_that_takes_them),
    ("nothing_becomes_a_header_or_another_recipient", nothing_becomes_a_header_or_another_recipient),
];

/// A test, by its name, that is given an address.
pub type WithAddress = (&'static str, fn(&str));

/// Those that need an address of this machine that is not a loopback one.
pub const BEYOND_LOOPBACK: &[WithAddress] = &[
    ("an_authority_of_ones_own_is_trusted_and_others_are_not", an_authority_of_ones_own_is_trusted_and_others_are_not),
    ("without_tls_nothing_leaves_this_machine", without_tls_nothing_leaves_this_machine),
];

/// The configuration for `server`.
fn through<'a>(url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [(TRANSPORT, "smtp"), (URL, url), (FROM, "Accounts <accounts@example.org>")];
    usual.into_iter().chain(more.iter().copied()).collect()
}

fn header<'a>(message: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = message["headers"].as_array().unwrap().iter();
    headers
        .filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name))
        .map(|header| header[1].as_str().unwrap())
        .collect()
}

fn a_mail_arrives_as_it_was_written() {
    let (home, server) = (Home::new(), MailServer::start(&json!({})));
    let long = "Übergrößenträger ".repeat(100);
    let text = format!("Grüße an {{email}}\n\n.\n..two\nFrom here\n{}\n\u{1f511} {{issuer}}\n", long.trim());
    home.write("texts/test.en.txt", &format!("Prüfung der Post: €\n\n{text}"));
    home.write("texts/test.en.html", "<p title=\"{email}\">Größe &amp; {issuer}</p>\n.\n");
    let url = server.url("smtp", "");
    let more = [(TEMPLATES, "texts"), ("COUNTERSIGN__TOKENS__ISSUER", "https://auth.example.com")];
    let told = sent(&send(&home, ADA, &through(&url, &more)));
    assert!(told.contains(ADA) && told.contains(&url), "{told}");
    let message = server.next();
    assert_eq!(message["sender"], "accounts@example.org");
    assert_eq!(message["recipients"], json!([ADA]));
    assert_eq!(message["to"], json!([ADA]));
    assert_eq!(message["from"], json!([["Accounts", "accounts@example.org"]]));
    assert_eq!(header(&message, "Subject"), ["Prüfung der Post: €"]);
    assert_eq!(header(&message, "Auto-Submitted"), ["auto-generated"]);
    assert!(header(&message, "Message-ID")[0].ends_with("@example.org>"), "{message}");
    assert!(header(&message, "Date")[0].ends_with("+0000"), "{message}");
    assert_eq!(message["type"], "multipart/alternative");
    let expected = text.replace("{email}", ADA).replace("{issuer}", "https://auth.example.com");
    assert_eq!(message["text"].as_str().unwrap().trim_end(), expected.trim_end());
    assert_eq!(
        message["html"].as_str().unwrap().trim_end(),
        format!("<p title=\"{ADA}\">Größe &amp; https://auth.example.com</p>\n.")
    );
    assert_eq!(message["defects"], json!([]));
    assert!(message["ascii"].as_bool().unwrap() && message["longest"].as_u64().unwrap() <= 998, "{message}");
    assert_eq!(message["bare"], 0);
    // In a language without HTML there is plain text alone.
    home.write("texts/test.en.txt", "Subject\n\nText\n");
    std::fs::remove_file(home.path("texts/test.en.html")).unwrap();
    sent(&send(&home, ADA, &through(&url, &more)));
    assert_eq!(server.next()["text"].as_str().unwrap().trim_end(), "Text");
}

/// On this machine a certificate is not checked, whichever authority issued it.
fn tls_is_used_where_it_is_offered() {
    let home = Home::new();
    let (certificate, key) = Authority::new(&home).certificate("203.0.113.9");
    for (kind, scheme) in [("starttls", "smtp"), ("implicit", "smtps")] {
        let server = MailServer::start(&json!({ kind: true, "certificate": certificate, "key": key }));
        sent(&send(&home, ADA, &through(&server.url(scheme, ""), &[])));
        assert_eq!(server.next()["tls"], true, "{kind}");
    }
}

fn an_authority_of_ones_own_is_trusted_and_others_are_not(host: &str) {
    let (home, stranger) = (Home::new(), Home::new());
    let (authority, other) = (Authority::new(&home), Authority::new(&stranger));
    let (ca_file, other_file) = (authority.file(), other.file());
    let (ours, others) = ((CA_FILE, ca_file.to_str().unwrap()), (CA_FILE, other_file.to_str().unwrap()));
    for (kind, scheme) in [("starttls", "smtp"), ("implicit", "smtps")] {
        let (certificate, key) = authority.certificate(host);
        let given =
            json!({ kind: true, "host": host, "certificate": certificate, "key": key, "login": ["ada", "hunter2"] });
        let server = MailServer::start(&given);
        let url = server.url(scheme, "ada:hunter2@");
        for trusted in [&[][..], &[others]] {
            let told = failed(&send(&home, ADA, &through(&url, trusted)));
            assert!(told.contains("certificate") && told.contains("mail.ca_file"), "{told}");
        }
        sent(&send(&home, ADA, &through(&url, &[ours])));
        assert_eq!(server.next(), json!({ "login": ["ada", "hunter2"] }), "{kind}: the first that was said");
        assert_eq!(server.next()["tls"], true);
        // For another host.
        let (certificate, key) = authority.certificate("203.0.113.9");
        let given = json!({ kind: true, "host": host, "certificate": certificate, "key": key });
        let server = MailServer::start(&given);
        let told = failed(&send(&home, ADA, &through(&server.url(scheme, ""), &[ours])));
        assert!(told.contains("certificate"), "{told}");
        assert!(server.rest().is_empty());
    }
}

fn without_tls_nothing_leaves_this_machine(host: &str) {
    let home = Home::new();
    let server = MailServer::start(&json!({ "host": host, "login": ["ada", "hunter2"] }));
    let told = failed(&send(&home, ADA, &through(&server.url("smtp", "ada:hunter2@"), &[])));
    assert!(told.contains("STARTTLS") && told.contains("smtps://") && !told.contains("hunter2"), "{told}");
    // A port without TLS.
    let told = failed(&send(&home, ADA, &through(&server.url("smtps", "ada:hunter2@"), &[])));
    assert!(told.contains("smtp://") && !told.contains("hunter2"), "{told}");
    assert!(server.rest().is_empty());
}

fn a_log_in_is_accepted_or_refused() {
    let home = Home::new();
    let server = MailServer::start(&json!({ "login": ["ada@example.com", "hun:t@r /2%"] }));
    sent(&send(&home, ADA, &through(&server.url("smtp", "ada%40example.com:hun%3At%40r%20%2F2%25@"), &[])));
    assert_eq!(server.next()["login"], json!(["ada@example.com", "hun:t@r /2%"]));
    assert_eq!(server.next()["login"], "ada@example.com");
    let told = failed(&send(&home, ADA, &through(&server.url("smtp", "ada:swordfish@"), &[])));
    assert!(told.contains("log-in") && told.contains("535") && told.contains("mail.url"), "{told}");
    assert!(told.contains("needs a change") && !told.contains("swordfish"), "{told}");
    assert_eq!(server.next()["login"], json!(["ada", "swordfish"]));
    // A server that wants a log-in which is not configured.
    let told = failed(&send(&home, ADA, &through(&server.url("smtp", ""), &[])));
    assert!(told.contains("530") && told.contains("needs a change"), "{told}");
    // A log-in that the server does not know.
    let server = MailServer::start(&json!({}));
    let told = failed(&send(&home, ADA, &through(&server.url("smtp", "ada:swordfish@"), &[])));
    assert!(told.contains("log-in") && told.contains("needs a change") && !told.contains("swordfish"), "{told}");
}

fn what_the_server_refuses_is_told_with_its_reason() {
    let home = Home::new();
    for (given, words) in [
        (json!({ "rcpt": "550 5.1.1 no such mailbox" }), ["refused for good", "recipient", "no such mailbox"]),
        (json!({ "rcpt": "450 4.2.1 come back later" }), ["later", "recipient", "come back later"]),
        (json!({ "rcpt": "421 4.3.2 closing" }), ["later", "recipient", "closing"]),
        (json!({ "data": "554 5.7.1 this is spam" }), ["refused for good", "message", "this is spam"]),
        (json!({ "data": "451 4.7.1 greylisted" }), ["later", "message", "greylisted"]),
        (json!({ "mail": "550 5.7.60 not your address" }), ["needs a change", "mail.from", "not your address"]),
        (json!({ "mail": "452 4.3.1 disk full" }), ["later", "sender", "disk full"]),
    ] {
        let server = MailServer::start(&given);
        let told = failed(&send(&home, ADA, &through(&server.url("smtp", ""), &[])));
        assert!(words.iter().all(|word| told.contains(word)), "{given}: {told}");
        assert!(server.rest().is_empty());
    }
}

fn a_server_that_dies_or_is_not_there_is_tried_again() {
    let home = Home::new();
    let server = MailServer::start(&json!({ "dies": true }));
    let url = server.url("smtp", "");
    let told = failed(&send(&home, ADA, &through(&url, &[])));
    assert!(told.contains("later"), "{told}");
    drop(server);
    let told = failed(&send(&home, ADA, &through(&url, &[])));
    assert!(told.contains("cannot be reached") && told.contains("later"), "{told}");
}

fn addresses_beyond_ascii_need_a_server_that_takes_them() {
    let home = Home::new();
    let server = MailServer::start(&json!({ "smtputf8": false }));
    // A domain has a form in ASCII, which every server takes.
    sent(&send(&home, "ada@bücher.example", &through(&server.url("smtp", ""), &[])));
    let message = server.next();
    assert_eq!(message["recipients"], json!(["ada@xn--bcher-kva.example"]));
    assert_eq!(message["ascii"], true);
    let told = failed(&send(&home, "zoë@bücher.example", &through(&server.url("smtp", ""), &[])));
    assert!(told.contains("refused for good") && told.contains("SMTPUTF8"), "{told}");
    assert!(server.rest().is_empty());
    let server = MailServer::start(&json!({}));
    sent(&send(&home, "zoë@bücher.example", &through(&server.url("smtp", ""), &[])));
    let message = server.next();
    assert_eq!(message["recipients"], json!(["zoë@xn--bcher-kva.example"]));
    assert_eq!(message["to"], json!(["zoë@xn--bcher-kva.example"]));
    assert!(message["options"].as_array().unwrap().contains(&json!("SMTPUTF8")), "{message}");
    assert_eq!(message["defects"], json!([]));
}

fn nothing_becomes_a_header_or_another_recipient() {
    let (home, server) = (Home::new(), MailServer::start(&json!({})));
    let url = server.url("smtp", "");
    for address in [
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com\nRCPT TO:<eve@example.com>",
        "ada@example.com, eve@example.com",
        "ada@example.com>, <eve@example.com",
        "Eve <eve@example.com>",
        "ada@example.com eve@example.com",
        "\"ada\r\nBcc: eve\"@example.com",
        "",
    ] {
        let told = failed(&send(&home, address, &through(&url, &[])));
        assert!(told.contains("must be an e-mail address"), "{told}");
    }
    for address in ["\"a,eve@example.com\"@example.com", "\"a<b>\"@example.com", "-oQ/tmp@example.com"] {
        sent(&send(&home, address, &through(&url, &[])));
        let message = server.next();
        assert_eq!(message["recipients"], json!([address]));
        assert_eq!(message["to"], json!([address]), "{message}");
    }
    // The name of the sender is the operator's, and may hold anything that can be printed.
    let from = "\"Äda, \\\"Bcc\\\": <eve@example.com>\" <accounts@example.org>";
    sent(&send(&home, ADA, &[(TRANSPORT, "smtp"), (URL, &url), (FROM, from)]));
    let message = server.next();
    assert_eq!(message["from"], json!([["Äda, \"Bcc\": <eve@example.com>", "accounts@example.org"]]));
    assert_eq!(message["sender"], "accounts@example.org");
    for name in ["Bcc", "Cc", "Sender", "Reply-To"] {
        assert!(header(&message, name).is_empty(), "{message}");
    }
    assert!(server.rest().is_empty());
}
