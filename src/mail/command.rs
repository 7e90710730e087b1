//! Mail through a program, as `sendmail -t` takes it.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::format::Letter;
use super::transport::{shown, wait_for};
use super::{Patience, SendError};
use crate::config;

/// How much of what the program says is read, in bytes.
const MOST_SAID: u64 = 4_096;
/// What it has said is there when it has ended, unless something else holds its standard error.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Gives `letter` to the program, which `words` begin with. No shell, and nothing of the mail among its arguments. The program
/// gets the environment without what configures this server.
pub fn send(words: &[String], letter: &Letter, patience: Patience) -> Result<(), SendError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(SendError::Misconfigured("mail.command names no program".to_owned()));
    };
    let silence = || SendError::Later(format!("{program} was stopped: it took longer than {:?}", patience.whole));
    let run = async {
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        for name in config::variables() {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(|error| {
            SendError::Misconfigured(shown(&format!("{program} cannot be started: {error}; it is in mail.command")))
        })?;
        let mut group = Group(child);
        let (status, said) = group
            .feed(&letter.bytes)
            .await
            .map_err(|error| SendError::Later(shown(&format!("{program} cannot be waited for: {error}"))))?;
        judge(program, status, &said)
    };
    wait_for(async { timeout(patience.whole, run).await.unwrap_or_else(|_elapsed| Err(silence())) })
}

/// A program, and all that it starts. They end when it is dropped.
struct Group(Child);

impl Group {
    /// Gives it `input`, and waits for its end. Returns what it has said on standard error as well.
    async fn feed(&mut self, input: &[u8]) -> io::Result<(ExitStatus, String)> {
        let Self(child) = self;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let mut said = Vec::new();
        let write = async {
            if let Some(mut stdin) = stdin {
                // One that ends without reading says why by its exit status.
                let _unread = stdin.write_all(input).await;
            }
        };
        let read = async {
            if let Some(stderr) = stderr {
                let mut stderr = stderr.take(MOST_SAID);
                let _partial = stderr.read_to_end(&mut said).await;
                // What does not fit is read all the same, so that the program is not held up.
                let _rest = tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await;
            }
        };
        let status = {
            let mut has_talked = false;
            let talk = async { tokio::join!(write, read) };
            tokio::pin!(talk);
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status?,
                    _ = &mut talk, if !has_talked => has_talked = true,
                }
            };
            if !has_talked {
                let _still_held = timeout(LAST_WORDS, talk).await;
            }
            status
        };
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // While it has not been waited for, its number belongs to no other process.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let _gone_already = kill_process_group(id, Signal::KILL);
        }
    }
}

/// By the exit codes of `sysexits.h`.
fn judge(program: &str, status: ExitStatus, said: &str) -> Result<(), SendError> {
    if status.success() {
        return Ok(());
    }
    let text = shown(&format!("{program} ended with {status}: {said}"));
    Err(match status.code() {
        // EX_DATAERR, EX_NOUSER, EX_NOHOST
        Some(65 | 67 | 68) => SendError::Refused(text),
        // EX_UNAVAILABLE to EX_PROTOCOL; EX_TEMPFAIL is 75.
        Some(69..=76) | None => SendError::Later(text),
        _ => SendError::Misconfigured(text),
    })
}

#[cfg(test)]
#[cfg(feature = "sqlite")] // of which the configuration is
mod tests {
    use std::thread;

    use uuid::Uuid;

    use super::super::{Message, Transport};
    use super::*;
    use crate::clock::Timestamp;
    use crate::config::RawConfig;

    /// One that does not read either, with all that it has started.
    #[test]
    fn a_program_that_takes_too_long_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("marker");
        let command = format!("sh -c '(sleep 2; touch {}) & sleep 300'", marker.display());
        let raw = RawConfig::default().with("mail.transport", "command").with("mail.command", command);
        let config = raw.with("mail.from", "a@example.org").resolve().unwrap();
        let patience = Patience { answer: Duration::from_millis(300), whole: Duration::from_millis(300) };
        let transport = Transport::new(&config.mail).unwrap().unwrap().with_patience(patience);
        // More than a pipe holds.
        let text = "Text\n".repeat(100_000);
        let message = Message { to: "ada@example.com".into(), subject: "Subject".into(), text, html: None };
        let error = transport.send(&message, Uuid::now_v7(), Timestamp::from_seconds(0)).unwrap_err();
        assert!(matches!(&error, SendError::Later(text) if text.contains("was stopped")), "{error:?}");
        thread::sleep(Duration::from_secs(4));
        assert!(!marker.exists());
    }
}
