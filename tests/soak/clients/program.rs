//! An example client as a process: commands go in at one end, a line for each comes out at the other.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::Pid;

/// How long an answer may take: six attempts, each up to the client's own limit, behind another who needs as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running client. Dropping it kills it.
pub struct Program {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { commands: child.stdin.take().unwrap(), child, lines }
    }

    pub fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Gives the same command several times at once, and waits for an answer to each. None: the process is dead.
    pub fn ask(&mut self, command: &str, times: usize) -> Option<Vec<String>> {
        self.commands.write_all(format!("{command}\n").repeat(times).as_bytes()).ok()?;
        (0..times)
            .map(|_| match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => Some(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => None,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the client does not answer"),
            })
            .collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
