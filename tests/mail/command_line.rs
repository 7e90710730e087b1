//! What the commands print, and what a start refuses.

use std::fs;
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use support::manager::Manager;
use support::process::Home;

use super::{ADA, FROM, TEMPLATES, TRANSPORT, URL, failed, said, send, sent};

pub const TESTS: &[(&str, fn())] = &[
    ("a_preview_shows_every_kind_and_makes_nothing", a_preview_shows_every_kind_and_makes_nothing),
    ("a_preview_is_in_the_language_that_is_wanted", a_preview_is_in_the_language_that_is_wanted),
    ("mistakes_are_found_by_check_config_and_refuse_a_start", mistakes_are_found_by_check_config_and_refuse_a_start),
    ("the_password_of_the_mail_server_is_never_shown", the_password_of_the_mail_server_is_never_shown),
    ("a_reload_with_a_mistake_changes_nothing", a_reload_with_a_mistake_changes_nothing),
];

const KINDS: [&str; 7] = ["reset", "verify", "change", "undo", "known", "notice", "test"];

fn a_preview_shows_every_kind_and_makes_nothing() {
    let home = Home::new();
    for kind in KINDS {
        for (form, marks) in
            [(None, ["Subject: ", "ada@example.com"]), (Some("--html"), ["<!DOCTYPE html>", "</html>"])]
        {
            let arguments = ["mail", "preview", kind].into_iter().chain(form);
            let told = sent(
                &home.command(arguments, [("COUNTERSIGN__MAIL__UNDO_URL", "my.app:/undo?t={token}")]).output().unwrap(),
            );
            assert!(marks.iter().all(|mark| told.contains(mark)), "{kind}: {told}");
            assert_eq!(told.contains("my.app:/undo?t="), kind == "undo", "{told}");
            assert!(kind != "reset" || told.contains("http://127.0.0.1:8080/account/reset?token="), "{told}");
        }
    }
    assert_eq!(home.command(["mail", "preview", "rest"], []).output().unwrap().status.code(), Some(2));
    assert_eq!(fs::read_dir(home.path("")).unwrap().count(), 0, "nothing was made");
    let told = failed(&send(&home, ADA, &[]));
    assert!(told.contains("mail.transport is not set"), "{told}");
}

fn a_preview_is_in_the_language_that_is_wanted() {
    let home = Home::new();
    home.write("texts/reset.de.txt", "Neues Passwort\n\nGuten Tag, {name}!\n\n{link}\n");
    let preview = |more: &[&'static str]| {
        let arguments = ["mail", "preview", "reset"].into_iter().chain(more.iter().copied());
        home.command(arguments, [(TEMPLATES, "texts")]).output().unwrap()
    };
    let told = sent(&preview(&["--lang", "de-AT"]));
    assert!(told.starts_with("Subject: Neues Passwort\n\nGuten Tag, Ada Lovelace!\n\nhttp"), "{told}");
    assert!(failed(&preview(&["--lang", "de", "--html"])).contains("only plain text"));
    let told = sent(&preview(&["--lang", "fr"]));
    assert!(told.contains("Set a new password") && told.contains("no reset in fr"), "{told}");
    assert!(failed(&preview(&["--lang", "../etc"])).contains("no language"));
}

fn mistakes_are_found_by_check_config_and_refuse_a_start() {
    let home = Home::new();
    home.write("texts/reset.de.txt", "Betreff\n\n{link}\n{pasword}\n");
    home.write("empty.pem", "no certificate\n");
    let smtp = [(TRANSPORT, "smtp"), (URL, "smtps://mail.example.com"), (FROM, "accounts@example.org")];
    for (more, told) in [
        (&[(TRANSPORT, "smtp")][..], &["mail.url", "mail.from"][..]),
        (&[(TRANSPORT, "command")], &["mail.command", "mail.from"]),
        (&[(TRANSPORT, "file"), (TEMPLATES, "texts")], &["mail.templates", "reset.de.txt, line 4", "{pasword}"]),
        (&[(TRANSPORT, "file"), (TEMPLATES, "gone")], &["mail.templates", "gone cannot be read"]),
        (&[(TRANSPORT, "file"), ("COUNTERSIGN__MAIL__CA_FILE", "empty.pem")], &["mail.ca_file"]),
        (
            &[smtp[0], smtp[1], smtp[2], ("COUNTERSIGN__MAIL__CA_FILE", "empty.pem")],
            &["mail.ca_file", "no certificate"],
        ),
        (&[smtp[0], smtp[1], smtp[2], ("COUNTERSIGN__MAIL__CA_FILE", "gone.pem")], &["mail.ca_file", "gone.pem"]),
        (&[("COUNTERSIGN__REGISTRATION__VERIFY_EMAIL", "required")], &["registration.verify_email", "mail.transport"]),
    ] {
        for command in [&["check-config"][..], &["serve"]] {
            let output = home.command(command.iter().copied(), more.iter().copied()).output().unwrap();
            let found = said(&output);
            assert_eq!(output.status.code(), Some(1), "{more:?}: {found}");
            assert!(told.iter().all(|word| found.contains(word)), "{command:?} {more:?}: {found}");
        }
    }
}

fn the_password_of_the_mail_server_is_never_shown() {
    let home = Home::new();
    let environment = [(TRANSPORT, "smtp"), (URL, "smtps://ada:hunter2@mail.example.com"), (FROM, "a@example.org")];
    let told = sent(&home.command(["check-config"], environment).output().unwrap());
    assert!(told.contains("mail.url = smtps://ada:***@mail.example.com"), "{told}");
    assert!(told.contains("registration.verify_email = optional"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    // As a credential of systemd's.
    home.write("credentials/mail.url", "smtps://ada:swordfish@mail.example.com\n");
    let folder = home.path("credentials");
    let environment =
        [(TRANSPORT, "smtp"), (FROM, "a@example.org"), ("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())];
    let told = sent(&home.command(["check-config"], environment).output().unwrap());
    assert!(told.contains("mail.url = smtps://ada:***@mail.example.com (credential"), "{told}");
}

fn a_reload_with_a_mistake_changes_nothing() {
    let home = Home::new();
    home.write("texts/test.en.txt", "Subject\n\nText\n");
    home.write("config/countersign.toml", "[mail]\ntransport = \"file\"\ntemplates = \"texts\"\n");
    let path = home.path("notify");
    let manager = Manager::new(UnixDatagram::bind(&path).unwrap());
    let server = home.serve(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    manager.hears_until("READY=1");
    let reload = || {
        server.signal(Signal::HUP);
        [manager.hears(), manager.hears()].concat().join(" ")
    };
    home.write("texts/test.en.txt", "Subject\n\n{nothing}\n");
    assert!(reload().contains("could not be reloaded"));
    home.write("texts/test.en.txt", "Subject\n\nText\n");
    assert!(!reload().contains("could not be reloaded"));
    let log = server.stop();
    assert!(log.contains("test.en.txt, line 3") && log.contains("was not reloaded"), "{log}");
}
