//! The queue in front of the threads that hash: bounded, and left at once by whoever hangs up.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Jobs wait in it; threads take them. Dropping it closes it: jobs still waiting are done, and none follow.
pub struct Queue<J> {
    shared: Arc<Shared<J>>,
}

struct Shared<J> {
    state: Mutex<State<J>>,
    news: Condvar,
    capacity: usize,
    threads: usize,
}

struct State<J> {
    waiting: VecDeque<(u64, J)>,
    /// Places that are kept free for jobs to come.
    reserved: usize,
    next: u64,
    closed: bool,
    /// How long the last job took.
    last_took: Duration,
}

/// A place that is kept free for a job. Dropping it frees it for others.
pub struct Room<J> {
    shared: Arc<Shared<J>>,
    used: bool,
}

/// A place in the queue. Dropping it gives the place up, if the job has not begun.
pub struct Place<J> {
    number: u64,
    shared: Arc<Shared<J>>,
}

/// Where threads take jobs from.
pub struct Jobs<J> {
    shared: Arc<Shared<J>>,
}

impl<J> Queue<J> {
    /// For `capacity` jobs in waiting and as many threads. Until the first is done, each is thought to take `about`.
    pub fn new(capacity: usize, threads: usize, about: Duration) -> Self {
        let state = State { waiting: VecDeque::new(), reserved: 0, next: 0, closed: false, last_took: about };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), news: Condvar::new(), capacity, threads }) }
    }

    /// For one more thread.
    pub fn jobs(&self) -> Jobs<J> {
        Jobs { shared: Arc::clone(&self.shared) }
    }

    /// Keeps a place free.
    ///
    /// # Errors
    ///
    /// If the queue is full: how long those in it will take, as far as one can tell.
    pub fn reserve(&self) -> Result<Room<J>, Duration> {
        let mut state = self.shared.lock();
        if state.waiting.len() + state.reserved < self.shared.capacity {
            state.reserved += 1;
            return Ok(Room { shared: Arc::clone(&self.shared), used: false });
        }
        let each = state.last_took / u32::try_from(self.shared.threads).unwrap_or(1).max(1);
        Err(each.saturating_mul(u32::try_from(self.shared.capacity).unwrap_or(u32::MAX)))
    }
}

impl<J> Room<J> {
    /// Queues a job.
    pub fn push(mut self, job: J) -> Place<J> {
        let mut state = self.shared.lock();
        state.reserved -= 1;
        self.used = true;
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        state.waiting.push_back((number, job));
        drop(state);
        self.shared.news.notify_one();
        Place { number, shared: Arc::clone(&self.shared) }
    }
}

impl<J> Drop for Room<J> {
    fn drop(&mut self) {
        if !self.used {
            self.shared.lock().reserved -= 1;
        }
    }
}

impl<J> Drop for Queue<J> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.news.notify_all();
    }
}

impl<J> Drop for Place<J> {
    fn drop(&mut self) {
        self.shared.lock().waiting.retain(|(number, _)| *number != self.number);
    }
}

impl<J: FnOnce()> Jobs<J> {
    /// Does jobs, oldest first, until the queue is closed and empty. A panic in one costs only that one.
    pub fn serve(&self) {
        while let Some(job) = self.next() {
            let began = Instant::now();
            let _panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            self.shared.lock().last_took = began.elapsed();
        }
    }

    fn next(&self) -> Option<J> {
        let mut state = self.shared.lock();
        loop {
            if let Some((_, job)) = state.waiting.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<J> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Empty = Queue<fn()>;

    fn nothing() {}

    #[test]
    fn who_gives_up_a_place_makes_room_at_once() {
        let queue = Empty::new(2, 1, Duration::ZERO);
        let push = || queue.reserve().map(|room| room.push(nothing));
        let first = push().unwrap();
        let second = queue.reserve().unwrap();
        assert!(queue.reserve().is_err(), "one waits, and one place is kept free");
        let second = second.push(nothing);
        assert!(queue.reserve().is_err(), "two wait");
        drop(first);
        drop(queue.reserve().unwrap());
        let _third = push().unwrap();
        assert!(queue.reserve().is_err());
        drop(second);
        assert!(queue.reserve().is_ok());
    }

    #[test]
    fn a_full_queue_says_how_long_it_is() {
        let queue = Empty::new(8, 2, Duration::from_millis(100));
        let _places: Vec<_> = (0..8).map(|_| queue.reserve().unwrap().push(nothing)).collect();
        assert_eq!(queue.reserve().err(), Some(Duration::from_millis(400)), "before any is done");
        queue.shared.lock().last_took = Duration::from_millis(250);
        assert_eq!(queue.reserve().err(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn jobs_are_done_in_order_a_panic_costs_one_and_the_end_is_heard() {
        let queue = Queue::new(9, 1, Duration::ZERO);
        let (told, heard) = std::sync::mpsc::channel();
        let jobs = queue.jobs();
        let mut places = Vec::new();
        for number in 0..5 {
            let told = told.clone();
            let job: Box<dyn FnOnce() + Send> = Box::new(move || {
                assert_ne!(number, 2, "on purpose");
                told.send(number).unwrap();
            });
            places.push(queue.reserve().unwrap().push(job));
        }
        drop(places.remove(3));
        drop(queue);
        std::thread::spawn(move || jobs.serve()).join().unwrap();
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [0, 1, 4]);
    }
}
