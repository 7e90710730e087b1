//! Background tasks: one runner for all of them. A task does what is due in rounds, on a thread of its own; one that panics is
//! logged and begins its next round; all of them are stopped together, when the last request has been answered.

pub mod janitor;
pub mod mail_sender;
pub mod session_count;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between a panic and the next round.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// What is done again and again.
pub trait Task: Send + 'static {
    /// What it and its thread are called in the log.
    const NAME: &'static str;

    /// How long it rests before its first round.
    fn first_rest(&self) -> Duration {
        Duration::ZERO
    }

    /// Does what is due, and says how long it rests until the next round. One that takes long ends early when it is told to
    /// stop.
    fn round(&mut self) -> Duration;
}

/// Whether tasks are to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Rests. Returns whether to stop, and then at once.
    pub fn rest(&self, time: Duration) -> bool {
        let (stopped, changed) = &*self.0;
        let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Tells every task.
    pub fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
}

/// The tasks of a process. They stop when it is dropped.
#[derive(Debug, Default)]
pub struct Tasks {
    stop: Stop,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Tasks {
    /// What tells them to stop, for those whose rounds take long.
    pub fn stop_signal(&self) -> Stop {
        self.stop.clone()
    }

    /// Starts a task.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn start<T: Task>(&self, task: T) -> std::io::Result<()> {
        let stop = self.stop.clone();
        let thread = thread::Builder::new().name(T::NAME.into()).spawn(move || run(task, &stop))?;
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Stops all of them, and waits for those that are at work, no longer than `limit`.
    pub fn stop(&self, limit: Duration) {
        /// Between two looks at a task that is at work.
        const LOOK: Duration = Duration::from_millis(5);
        self.stop.set();
        let (mut running, began) = (self.running.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        while running.iter().any(|task| !task.is_finished()) {
            if began.elapsed() > limit {
                tracing::debug!("a background task is still at work; the process ends without it");
                return;
            }
            thread::sleep(LOOK);
        }
        running.clear();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.set();
    }
}

fn run<T: Task>(mut task: T, stop: &Stop) {
    let mut rest = task.first_rest();
    while !stop.rest(rest) {
        rest = catch_unwind(AssertUnwindSafe(|| task.round())).unwrap_or_else(|_panic| {
            tracing::error!(task = T::NAME, "a background task panicked; it goes on");
            AFTER_PANIC
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// What comes in the end comes within a minute.
    const LONG: Duration = Duration::from_secs(60);

    struct Counting {
        rounds: Sender<u32>,
        count: u32,
        panics_at: Option<u32>,
    }

    impl Task for Counting {
        const NAME: &'static str = "counting";

        fn round(&mut self) -> Duration {
            self.count += 1;
            let _nobody_counts = self.rounds.send(self.count);
            assert_ne!(Some(self.count), self.panics_at, "on purpose");
            Duration::from_millis(1)
        }
    }

    fn count(panics_at: Option<u32>) -> (Tasks, Receiver<u32>) {
        let (rounds, counted) = channel();
        let tasks = Tasks::default();
        tasks.start(Counting { rounds, count: 0, panics_at }).unwrap();
        (tasks, counted)
    }

    #[test]
    fn a_task_that_panics_goes_on_with_its_next_round() {
        let (_tasks, counted) = count(Some(2));
        for round in 1..=4 {
            assert_eq!(counted.recv_timeout(LONG), Ok(round));
        }
    }

    #[test]
    fn tasks_stop_when_they_are_told_to_and_when_nobody_keeps_them() {
        let (tasks, counted) = count(None);
        counted.recv_timeout(LONG).unwrap();
        tasks.stop(LONG);
        // The thread is gone, and its end of the channel with it: this ends.
        counted.iter().for_each(drop);
        let (tasks, counted) = count(None);
        counted.recv_timeout(LONG).unwrap();
        drop(tasks);
        counted.iter().for_each(drop);
    }
}
