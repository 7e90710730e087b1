//! Standard error that is the journal, as systemd tells it.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use super::*;

/// Serves with its log in a file until `lines` are there, and returns them. `stream` makes `JOURNAL_STREAM` of the file.
fn log_with(format: &str, stream: impl Fn(&File) -> String) -> String {
    let home = Home::new();
    home.migrate();
    let (path, began) = (home.path("log"), Instant::now());
    let file = File::create(&path).unwrap();
    let environment = [("PORT", "0"), ("COUNTERSIGN__LOG__FORMAT", format), ("JOURNAL_STREAM", &stream(&file))]
        .map(|(n, v)| (n, v.to_owned()));
    let environment = environment.iter().map(|(name, value)| (*name, value.as_str()));
    let mut child = home.command(["serve"], environment).stderr(file).spawn().unwrap();
    let says = |what: &str| {
        while !fs::read_to_string(&path).unwrap().contains(what) {
            assert!(began.elapsed() < PATIENCE, "{}", fs::read_to_string(&path).unwrap());
            thread::sleep(Duration::from_millis(10));
        }
    };
    says("listening on");
    kill_process(Pid::from_child(&child), Signal::USR1).unwrap();
    says("SIGUSR1 is ignored");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    fs::read_to_string(&path).unwrap()
}

fn named(file: &File) -> String {
    let metadata = file.metadata().unwrap();
    format!("{}:{}", metadata.dev(), metadata.ino())
}

/// The line that says this.
#[track_caller]
fn line<'a>(log: &'a str, what: &str) -> &'a str {
    log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {log}"))
}

#[test]
fn lines_to_the_journal_begin_with_their_priority() {
    let log = log_with("json", named);
    assert!(line(&log, "listening on").starts_with("<6>{\"timestamp\""), "{log}");
    assert!(line(&log, "SIGUSR1").starts_with("<4>{\"timestamp\""), "{log}");
    let text = log_with("text", named);
    assert!(line(&text, "listening on").starts_with("<6>"), "{text}");
    assert!(line(&text, "SIGUSR1").starts_with("<4>"), "{text}");
}

/// The variable outlives a redirection, and children inherit it.
#[test]
fn lines_to_anything_else_do_not() {
    for stream in ["1:1", "", "journal"] {
        let log = log_with("json", |_| stream.to_owned());
        assert!(log.lines().all(|line| line.starts_with('{')), "{stream}: {log}");
    }
}
