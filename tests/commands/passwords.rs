//! Where a new password comes from: a prompt, or standard input; never an argument.

use std::fs::{self, File};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::json;
use support::reading::read;

use super::*;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST: &str = "an excellent password";

/// A command on a terminal of its own, and a user who types.
struct Terminal {
    keyboard: File,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let keyboard = File::from(keyboard);
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(name).unwrap();
        let inner = command(home, arguments);
        // In a session of its own, whose terminal this is.
        let mut outer = Command::new("setsid");
        outer.arg("--ctty").arg(inner.get_program()).args(inner.get_args()).env_clear();
        outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer.current_dir(inner.get_current_dir().unwrap());
        outer.stdin(line.try_clone().unwrap()).stdout(line.try_clone().unwrap()).stderr(line);
        let child = outer.spawn().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut output, seen) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        let reader = thread::spawn(move || {
            let mut some = [0; 256];
            // A terminal that is not open any more reads as an error.
            while let Ok(count @ 1..) = read(&mut output, &mut some) {
                seen.lock().unwrap().extend_from_slice(&some[..count]);
            }
        });
        Self { keyboard, child, screen, reader }
    }

    fn screen(&self) -> String {
        String::from_utf8(self.screen.lock().unwrap().clone()).unwrap()
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Waits until it asks and does not show what is typed, then types.
    #[track_caller]
    fn answer(&mut self, prompt: &str, keys: &str) {
        let began = Instant::now();
        while !self.screen().contains(prompt) || self.echoes() {
            assert!(began.elapsed() < PATIENCE, "{}", self.screen());
            thread::sleep(Duration::from_millis(1));
        }
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for its end, after which keys must be shown again: the exit code, and what was on the screen.
    #[track_caller]
    fn finish(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
                None => {
                    self.child.kill().unwrap();
                    panic!("it does not end: {}", self.screen());
                }
            }
        };
        assert!(self.echoes(), "the terminal is left without its echo");
        self.reader.join().unwrap();
        let screen = String::from_utf8(std::mem::take(&mut *self.screen.lock().unwrap())).unwrap();
        (status.code(), screen)
    }
}

#[test]
fn a_terminal_is_asked_twice_and_shows_nothing_of_the_answers() {
    let home = Home::new();
    let server = home.serve(&[]);
    let mut terminal = Terminal::start(&home, &["user", "create", ADA]);
    terminal.answer("New password: ", &format!("{FIRST}\r"));
    terminal.answer("The same again: ", &format!("{FIRST}\r"));
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("has an account now"), "{screen}");
    assert!(!screen.contains("excellent"), "{screen}");
    assert_eq!(log_in(&server, ADA, FIRST).0, 200);

    let mut terminal = Terminal::start(&home, &["user", "set-password", ADA]);
    // The mistake is taken back.
    terminal.answer("New password: ", "another fine passwort\u{7f}d\n");
    terminal.answer("The same again: ", "another fine password\n");
    assert_eq!(terminal.finish().0, Some(0));
    assert_eq!((log_in(&server, ADA, FIRST).0, log_in(&server, ADA, "another fine password").0), (401, 200));
}

#[test]
fn two_answers_that_differ_change_nothing() {
    let home = empty();
    let mut terminal = Terminal::start(&home, &["user", "create", ADA]);
    terminal.answer("New password: ", &format!("{FIRST}\r"));
    terminal.answer("The same again: ", "an excellent passwort\r");
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(1), "{screen}");
    assert!(screen.contains("the two passwords differ"), "{screen}");
    assert!(!screen.contains("excellent"), "{screen}");
    assert_eq!(json(&home, &["user", "list"]), json!([]));
}

/// A user who gives up at the prompt has changed nothing and sees what they type next.
#[test]
fn giving_up_at_the_prompt_changes_nothing_and_restores_the_echo() {
    let home = empty();
    create(&home, ADA);
    let before = json(&home, &["user", "show", ADA]);
    for keys in ["\u{3}", "half a pass\u{3}", "\u{4}"] {
        for second in [false, true] {
            let mut terminal = Terminal::start(&home, &["user", "set-password", ADA]);
            if second {
                terminal.answer("New password: ", &format!("{FIRST}\r"));
            }
            terminal.answer(if second { "The same again: " } else { "New password: " }, keys);
            let (code, screen) = terminal.finish();
            assert_eq!(code, Some(1), "{screen}");
            assert!(screen.contains("no password was given"), "{screen}");
        }
    }
    assert_eq!(json(&home, &["user", "show", ADA]), before);
}

/// What cannot come of it anyway is said before a password has been typed twice.
#[test]
fn nobody_is_asked_for_a_password_in_vain() {
    let home = empty();
    create(&home, ADA);
    for arguments in [["user", "create", ADA], ["user", "set-password", BOB]] {
        let (code, screen) = Terminal::start(&home, &arguments).finish();
        assert_eq!(code, Some(1), "{screen}");
        assert!(!screen.contains("New password"), "{screen}");
    }
}

#[test]
fn other_processes_see_no_password() {
    let home = empty();
    let mut terminal = Terminal::start(&home, &["user", "create", ADA]);
    terminal.answer("New password: ", &format!("{FIRST}\r"));
    terminal.answer("The same again: ", "an excellent");
    let process = format!("/proc/{}", terminal.child.id());
    let read = |name: &str| String::from_utf8(fs::read(format!("{process}/{name}")).unwrap()).unwrap();
    assert!(read("cmdline").contains("countersign\0user\0create\0ada@example.com\0"), "{}", read("cmdline"));
    for name in ["cmdline", "environ"] {
        assert!(!read(name).contains("excellent"), "{name}");
    }
    terminal.answer("The same again: ", " password\r");
    assert_eq!(terminal.finish().0, Some(0));
}

#[test]
fn standard_input_is_the_password_exactly_but_for_the_end_of_its_line() {
    let home = Home::new();
    let server = home.serve(&[]);
    for (number, (input, password)) in [
        ("no line end at all", "no line end at all"),
        ("a line of its own\n", "a line of its own"),
        ("a line from elsewhere\r\n", "a line from elsewhere"),
        ("  spaces belong to it \n", "  spaces belong to it "),
        ("\ttabs too\r", "\ttabs too"),
        ("pässwörter 🦀🦀\n", "pässwörter 🦀🦀"),
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("user{number}@example.com");
        run_with(&home, &["user", "create", &email], input).done();
        assert_eq!(log_in(&server, &email, password).0, 200, "{input:?}");
    }
}

#[test]
fn standard_input_that_is_no_password_is_refused() {
    let home = empty();
    let long = "🦀".repeat(257);
    let longer = "x".repeat(100_000);
    for (input, expected) in [
        ("", "no password on standard input"),
        ("\n", "no password on standard input"),
        ("a fine password\na fine password\n", "more than one line"),
        ("a fine password\n\n", "more than one line"),
        (&long, "at most 256 characters"),
        (&longer, "at most 256 characters"),
    ] {
        let told = run_with(&home, &["user", "create", ADA], input).refused();
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let told = finish(command(&home, &["user", "create", ADA]), b"not \xff text at all").refused();
    assert!(told.contains("UTF-8"), "{told}");
    assert_eq!(json(&home, &["user", "list"]), json!([]));
    // The longest that there may be.
    run_with(&home, &["user", "create", ADA], &format!("{}\r\n", "🦀".repeat(256))).done();
}

/// It would silently become the password, and its owner could not log in.
#[test]
fn a_hash_is_no_password_wherever_one_is_given() {
    let home = empty();
    create(&home, BOB);
    let digest = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
    for hash in [
        format!("$2b$12${digest}\n"),
        format!("$2y$10${digest}"),
        format!("$2a$04${digest}\r\n"),
        format!(" $2b$12${digest} "),
        format!("cs1:-:$2b$12${digest}"),
        "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxMjM0$RdescudvJCsgt3ub+b4dWRWJTmaaJObG\n".to_owned(),
        format!("pbkdf2_sha256$600000$salt${digest}"),
    ] {
        for arguments in [["user", "create", ADA], ["user", "set-password", BOB]] {
            let told = run_with(&home, &arguments, &hash).refused();
            assert!(told.contains("hash of a password") && told.contains("user import"), "{told}");
            assert!(!told.contains(digest), "{told}");
        }
    }
    assert_eq!(json(&home, &["user", "list"]).as_array().unwrap().len(), 1);
    let mut terminal = Terminal::start(&home, &["user", "create", ADA]);
    terminal.answer("New password: ", &format!("$2b$12${digest}\r"));
    terminal.answer("The same again: ", &format!("$2b$12${digest}\r"));
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(1), "{screen}");
    assert!(screen.contains("user import"), "{screen}");
}
