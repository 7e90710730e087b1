//! Where lines go before they go out. A caller that logs never waits for the system: lines that arrive while others are
//! being written go out with the next, and those that find no room, because nothing reads the log or its disk is full,
//! are dropped and counted. How many is said as soon as lines go out again.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// So many bytes may wait; lines beyond are dropped.
const MAX_WAITING: usize = 1024 * 1024;
/// Between two writes, so that they are few when lines are many.
const REST: Duration = Duration::from_millis(2);
/// Before another attempt where a write would have had to wait.
const RETRY: Duration = Duration::from_millis(20);
/// How long the end waits for a reader that takes nothing.
const LAST: Duration = Duration::from_secs(2);

/// Clones share it.
#[derive(Clone)]
pub(super) struct Sink(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// All is written.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Some lines are on their way.
    writing: bool,
    /// Lines that found no room.
    dropped: u64,
    /// How many is being said: there is room for that.
    telling: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to it that what was logged is written before the process ends, if anything reads it.
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
    /// Starts the thread that writes to `out`, which lives as long as the process. It calls `tell` when lines that were
    /// dropped are followed by one that was written: with how many were.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, LastLines)> {
        let sink = Self(Arc::default());
        let shared = Arc::clone(&sink.0);
        thread::Builder::new().name("log".into()).spawn(move || write(&shared, Lines::new(out), tell))?;
        Ok((sink.clone(), LastLines(sink)))
    }
}

fn write(shared: &Shared, mut out: Lines<impl Write>, tell: impl Fn(u64)) {
    let (mut lines, mut lost) = (Vec::new(), 0);
    loop {
        let mut state = shared.lock();
        lost += std::mem::take(&mut state.dropped);
        if lost > 0 && out.flows {
            state.telling = true;
            drop(state);
            // A line like any other, before anything counts as written.
            tell(std::mem::take(&mut lost));
            state = shared.lock();
            state.telling = false;
        }
        state.writing = false;
        shared.drained.notify_all();
        while state.waiting.is_empty() {
            state = shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        lines.clear();
        std::mem::swap(&mut lines, &mut state.waiting);
        state.writing = true;
        drop(state);
        lost += out.write(&lines);
        thread::sleep(REST);
    }
}

/// Writes whole lines, each of which begins at the beginning of one.
struct Lines<W> {
    out: W,
    /// The last write succeeded.
    flows: bool,
    /// Part of a line has gone out whose rest is lost.
    cut: bool,
}

impl<W: Write> Lines<W> {
    fn new(out: W) -> Self {
        Self { out, flows: true, cut: false }
    }

    /// Writes lines for as long as nothing fails: how many were lost.
    fn write(&mut self, lines: &[u8]) -> u64 {
        self.flows = true;
        if self.cut {
            self.cut = self.write_all(b"\n") == 0;
        }
        let written = if self.flows { self.write_all(lines) } else { 0 };
        let (done, rest) = lines.split_at(written.min(lines.len()));
        self.cut |= done.last().is_some_and(|byte| *byte != b'\n');
        rest.iter().map(|byte| u64::from(*byte == b'\n')).sum()
    }

    /// How many bytes were taken before something failed.
    fn write_all(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(0) => break,
                Ok(some) => written += some,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process has made the pipe that we share with it one that does not wait: then we do.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(_) => break,
            }
        }
        self.flows = written == bytes.len();
        written
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
        let mut state = self.0.lock();
        if state.waiting.len().saturating_add(line.len()) > MAX_WAITING && !state.telling {
            state.dropped += 1;
            return Ok(line.len());
        }
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
    use std::sync::OnceLock;
    use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

    use super::*;

    /// How long what comes in the end may take.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Takes a write only when it is let, and says that it waits.
    struct Gate {
        reached: Sender<()>,
        open: Receiver<()>,
        written: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _unheard = self.reached.send(());
            if self.open.recv().is_ok() {
                self.written.lock().unwrap().push(bytes.to_vec());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gated {
        sink: Sink,
        last: LastLines,
        /// Lets one write pass.
        open: SyncSender<()>,
        /// A write waits to be let.
        reached: Receiver<()>,
        written: Arc<Mutex<Vec<Vec<u8>>>>,
        told: Receiver<u64>,
    }

    fn gated() -> Gated {
        let ((open, gate), (reached, reaches), (tell, told)) = (sync_channel(100), channel(), channel());
        let written = Arc::new(Mutex::new(Vec::new()));
        let gate = Gate { reached, open: gate, written: Arc::clone(&written) };
        let itself = Arc::new(OnceLock::<Sink>::new());
        let log = Arc::clone(&itself);
        let tell = move |lines| {
            log.get().unwrap().clone().write_all(b"dropped\n").unwrap();
            tell.send(lines).unwrap();
        };
        let (sink, last) = Sink::start(gate, tell).unwrap();
        itself.get_or_init(|| sink.clone());
        Gated { sink, last, open, reached: reaches, written, told }
    }

    #[test]
    fn every_line_is_written_in_order_and_those_that_wait_go_out_together() {
        let Gated { mut sink, last, open, written, told, .. } = gated();
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
        assert!(told.try_recv().is_err(), "nothing was dropped");
    }

    #[test]
    fn lines_that_nothing_takes_are_dropped_and_counted_and_no_caller_waits() {
        let Gated { mut sink, open, reached, written, told, .. } = gated();
        sink.write_all(b"first\n").unwrap();
        reached.recv_timeout(PATIENCE).unwrap();
        // The writer stands still: this would wait for ever if it waited for the writer. What is kept leaves no room.
        let mut line = vec![b'x'; MAX_WAITING / 8];
        *line.last_mut().unwrap() = b'\n';
        for _ in 0..28 {
            sink.write_all(&line).unwrap();
        }
        assert_eq!(sink.0.lock().waiting.len(), MAX_WAITING, "no more than a mebibyte is kept");
        open.send(()).unwrap();
        reached.recv_timeout(PATIENCE).unwrap();
        assert_eq!(told.try_recv(), Ok(20), "told with the first write that succeeds");
        sink.write_all(b"last\n").unwrap();
        (0..2).for_each(|_| open.send(()).unwrap());
        reached.recv_timeout(PATIENCE).unwrap();
        while !written.lock().unwrap().concat().ends_with(b"\nlast\n") {
            thread::yield_now();
        }
        let written = written.lock().unwrap().concat();
        assert_eq!(written.len(), "first\n".len() + MAX_WAITING + "dropped\n".len() + "last\n".len());
        assert!(written.ends_with(b"x\ndropped\nlast\n"), "where they are missing");
        assert!(told.try_recv().is_err(), "told once");
    }

    /// Answers each write as told: takes so many bytes, or fails.
    struct Disk(std::collections::VecDeque<Result<usize, ErrorKind>>, Vec<u8>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = self.0.pop_front().unwrap_or(Ok(bytes.len())).map_err(io::Error::from)?.min(bytes.len());
            self.1.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_is_cut_spoils_none_of_the_next() {
        type Answer = Result<usize, ErrorKind>;
        const FULL: Answer = Err(ErrorKind::StorageFull);
        // What the disk does, what is then on it of two writes of two lines each, how many lines of each were lost.
        let cases: [(&[Answer], &str, [u64; 2]); 9] = [
            (&[], "one\ntwo\nthree\nfour\n", [0, 0]),
            (&[Ok(2), Ok(3)], "one\ntwo\nthree\nfour\n", [0, 0]),
            (&[Err(ErrorKind::Interrupted), Err(ErrorKind::WouldBlock)], "one\ntwo\nthree\nfour\n", [0, 0]),
            (&[Ok(2), FULL], "on\nthree\nfour\n", [2, 0]),
            (&[Ok(2), Ok(0)], "on\nthree\nfour\n", [2, 0]),
            (&[Ok(4), FULL], "one\nthree\nfour\n", [1, 0]),
            (&[FULL], "three\nfour\n", [2, 0]),
            (&[Ok(6), FULL, FULL], "one\ntw", [1, 2]),
            (&[Ok(6), FULL, Ok(1), Ok(3), FULL], "one\ntw\nthr", [1, 2]),
        ];
        for (answers, expected, lost) in cases {
            let mut lines = Lines::new(Disk(answers.iter().copied().collect(), Vec::new()));
            let counted = [lines.write(b"one\ntwo\n"), lines.write(b"three\nfour\n")];
            assert_eq!((str::from_utf8(&lines.out.1).unwrap(), counted), (expected, lost), "{answers:?}");
            lines.write(b"end\n");
            assert!(lines.out.1.ends_with(b"\nend\n") || lines.out.1 == b"end\n", "{answers:?}");
        }
    }

    #[test]
    fn lines_that_a_full_disk_has_not_taken_are_told_when_it_takes_one_again() {
        let (tell, told) = channel();
        let (sink, last) = Sink::start(
            Disk([Err(ErrorKind::StorageFull), Err(ErrorKind::StorageFull)].into(), Vec::new()),
            move |lines| tell.send(lines).unwrap(),
        )
        .unwrap();
        for _ in 0..3 {
            sink.clone().write_all(b"line\n").unwrap();
            let unwritten = || {
                let state = sink.0.lock();
                state.writing || !state.waiting.is_empty()
            };
            while unwritten() {
                thread::yield_now();
            }
        }
        assert_eq!(told.recv_timeout(PATIENCE), Ok(2));
        drop(last);
    }
}
