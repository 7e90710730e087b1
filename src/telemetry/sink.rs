//! Where lines go before they go out: whoever logs does not wait for the system, and lines that arrive while others are
//! being written go out with the next.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// So many bytes may wait. Whoever logs more while nobody takes them waits, too.
const MOST: usize = 1024 * 1024;
/// Between two writes, so that they are few when lines are many.
const REST: Duration = Duration::from_millis(2);
/// How long the end waits for a reader that takes nothing.
const LAST: Duration = Duration::from_secs(2);

/// Clones share it.
#[derive(Clone)]
pub(super) struct Sink(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nothing more will come.
    filled: Condvar,
    /// There is room again, or all is written.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Some lines are on their way.
    writing: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to it that what was logged is written before the process ends.
#[must_use = "lines are lost without it"]
pub struct LastLines(Sink);

impl Drop for LastLines {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let unwritten = |state: &mut State| state.writing || !state.waiting.is_empty();
        let _written = shared.drained.wait_timeout_while(shared.lock(), LAST, unwritten);
    }
}

impl Sink {
    /// Starts the thread that writes to `out`, which lives as long as the process.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, LastLines)> {
        let sink = Self(Arc::default());
        let shared = Arc::clone(&sink.0);
        thread::Builder::new().name("log".into()).spawn(move || write(&shared, out))?;
        Ok((sink.clone(), LastLines(sink)))
    }
}

fn write(shared: &Shared, mut out: impl Write) {
    let mut lines = Vec::new();
    loop {
        let mut state = shared.lock();
        state.writing = false;
        shared.drained.notify_all();
        while state.waiting.is_empty() {
            state = shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        lines.clear();
        std::mem::swap(&mut lines, &mut state.waiting);
        state.writing = true;
        drop(state);
        // Nobody left to read it is no reason to stop.
        let _unread = out.write_all(&lines);
        thread::sleep(REST);
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let state = self.0.lock();
        let full = |state: &mut State| state.waiting.len() >= MOST;
        let mut state = self.0.drained.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        let idle = state.waiting.is_empty() && !state.writing;
        state.waiting.extend_from_slice(line);
        drop(state);
        if idle {
            self.0.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Takes a write only when it is let.
    struct Gate(Receiver<()>, Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.recv().is_ok() {
                self.1.lock().unwrap().push(bytes.to_vec());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What opens the gate once, and what was written through it.
    type Gated = (Sink, LastLines, SyncSender<()>, Arc<Mutex<Vec<Vec<u8>>>>);

    fn gated() -> Gated {
        let (open, gate) = sync_channel(100);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (sink, last) = Sink::start(Gate(gate, Arc::clone(&written))).unwrap();
        (sink, last, open, written)
    }

    #[test]
    fn every_line_is_written_in_order_and_those_that_wait_go_out_together() {
        let (mut sink, last, open, written) = gated();
        for line in 0..50 {
            sink.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        for _ in 0..50 {
            open.send(()).unwrap();
        }
        drop(last);
        let written = written.lock().unwrap();
        let expected: String = (0..50).map(|line| format!("{line}\n")).collect();
        assert_eq!(String::from_utf8(written.concat()).unwrap(), expected);
        assert!(written.len() < 50, "{} writes", written.len());
    }

    #[test]
    fn whoever_logs_more_than_is_taken_waits_and_nothing_is_lost() {
        let (sink, last, open, written) = gated();
        let line = vec![b'x'; 100_000];
        let logger = thread::spawn(move || (0..30).for_each(|_| sink.clone().write_all(&line).unwrap()));
        thread::sleep(Duration::from_millis(100));
        assert!(!logger.is_finished(), "three megabytes do not wait");
        for _ in 0..60 {
            open.send(()).unwrap();
        }
        logger.join().unwrap();
        drop(last);
        assert_eq!(written.lock().unwrap().concat().len(), 3_000_000);
    }
}
