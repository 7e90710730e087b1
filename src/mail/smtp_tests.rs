//! Servers that keep a client waiting, or talk nonsense.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::super::{Message, Patience, SendError, Transport};
use crate::clock::Timestamp;
use crate::config::RawConfig;

const PATIENCE: Patience = Patience { answer: Duration::from_millis(300), whole: Duration::from_millis(900) };

/// A server that answers each line it hears as `answers` says, in order, and then is silent with the connection open. Returns
/// what became of a mail, and how long that took.
fn met(answers: &'static [&'static str], then: fn(TcpStream)) -> (SendError, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for (number, answer) in answers.iter().enumerate() {
            if number > 0 {
                lines.next();
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
        then(stream);
    });
    let began = Instant::now();
    let error = transport(&url).send(&message(), Uuid::now_v7(), Timestamp::from_seconds(1_800_000_000)).unwrap_err();
    (error, began.elapsed())
}

fn transport(url: &str) -> Transport {
    let raw =
        RawConfig::default().with("mail.transport", "smtp").with("mail.url", url).with("mail.from", "a@example.org");
    let config = raw.with("database.url", "sqlite:a.db").resolve().unwrap();
    Transport::new(&config.mail).unwrap().unwrap().with_patience(PATIENCE)
}

fn message() -> Message {
    Message { to: "ada@example.com".into(), subject: "Subject".into(), text: "Text\n".into(), html: None }
}

fn is_silent(stream: TcpStream) {
    thread::sleep(Duration::from_secs(20));
    drop(stream);
}

/// A letter at a time, so that no single wait is long.
fn drips(mut stream: TcpStream) {
    while stream.write_all(b"x").is_ok() {
        thread::sleep(Duration::from_millis(50));
    }
}

fn floods(mut stream: TcpStream) {
    while stream.write_all(&[b'x'; 65_536]).is_ok() {}
}

const GREETED: &[&str] = &["220 test\r\n", "250 test\r\n"];

#[test]
fn a_server_that_is_silent_is_given_up() {
    for answers in [&[][..], &["220 test\r\n"], GREETED, &["220 test\r\n", "250 test\r\n", "250 OK\r\n"]] {
        let (error, took) = met(answers, is_silent);
        assert!(matches!(&error, SendError::Later(text) if text.contains("no answer")), "{answers:?}: {error:?}");
        assert!(took < Duration::from_secs(15), "{answers:?}: {took:?}");
    }
}

#[test]
fn a_server_that_answers_letter_by_letter_is_given_up() {
    for answers in [&[][..], &["220 test\r\n"], GREETED] {
        let (error, took) = met(answers, drips);
        assert!(matches!(error, SendError::Later(_)), "{answers:?}: {error:?}");
        assert!(took < Duration::from_secs(15), "{answers:?}: {took:?}");
    }
}

/// It could fill the memory before its time is over.
#[test]
fn a_server_that_does_not_come_to_an_end_is_given_up() {
    for answers in [&[][..], GREETED] {
        let (error, _) = met(answers, floods);
        assert!(matches!(error, SendError::Later(_)), "{answers:?}: {error:?}");
    }
}

#[test]
fn a_connection_that_is_lost_is_tried_again() {
    for answers in [&[][..], GREETED, &["220 test\r\n", "250 test\r\n", "250 OK\r\n", "250 OK\r\n", "354 go on\r\n"]] {
        let (error, _) = met(answers, drop);
        assert!(matches!(error, SendError::Later(_)), "{answers:?}: {error:?}");
    }
}

/// The answer to EHLO would be believed under TLS, and everything behind it.
#[test]
fn what_is_said_before_tls_is_not_believed_under_tls() {
    let injected = "220 go on\r\n250-test\r\n250 AUTH PLAIN\r\n235 OK\r\n250 OK\r\n250 OK\r\n354 go on\r\n250 OK\r\n";
    let answers = vec!["220 test\r\n", "250-test\r\n250 STARTTLS\r\n", injected].leak();
    let (error, _) = met(answers, is_silent);
    assert!(matches!(error, SendError::Misconfigured(_)), "{error:?}");
}

#[test]
fn what_a_server_says_is_told_in_one_short_line() {
    let (error, _) = met(&["220 test\r\n", "250 test\r\n", "550-\u{1b}[31mone\r\n550 two\u{7}\r\n"], drop);
    let SendError::Misconfigured(text) = &error else { panic!("{error:?}") };
    assert!(text.contains("one") && text.contains("two") && !text.contains(char::is_control), "{text}");
    let (error, _) = met(&["554 go away\r\n"], drop);
    assert!(matches!(&error, SendError::Misconfigured(text) if text.contains("go away")), "{error:?}");
    let (error, _) = met(&["HTTP/1.1 400 Bad Request\r\n\r\n"], drop);
    assert!(matches!(error, SendError::Later(_)), "{error:?}");
}

#[test]
fn neither_user_nor_password_is_shown() {
    let transport = transport("smtp://ada:hunter2@127.0.0.1:1");
    assert!(!format!("{transport:?}").contains("hunter2") && !format!("{transport:?}").contains("ada"));
    assert_eq!(transport.describe(), "smtp://127.0.0.1:1");
}
