//! The queue in front of the threads that hash: bounded, shared fairly between those who ask, and left at once by a
//! client that hangs up.
//!
//! Each source of jobs has a lane of its own. Lanes are served in turn, one job each; when the queue is full, a job of
//! a shorter lane takes the place of the newest of the longest. So one source can fill the queue only while no other
//! wants it, and no other waits for more than one of its jobs at a turn.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Jobs `J` wait in it, each in the lane of its source `K`; threads take them. Dropping it closes it: jobs still waiting
/// are done, and none follow.
pub struct Queue<K: Copy + Eq + Hash, J> {
    shared: Arc<Shared<K, J>>,
}

struct Shared<K, J> {
    state: Mutex<State<K, J>>,
    news: Condvar,
    capacity: usize,
    threads: usize,
}

struct State<K, J> {
    /// None of them is empty.
    lanes: HashMap<K, VecDeque<Entry<J>>>,
    /// The lanes that have a job to do, each once, the next to be served first.
    turns: VecDeque<K>,
    /// Places that are taken, in all lanes together.
    taken: usize,
    next: u64,
    closed: bool,
    /// How long the last job took.
    last_took: Duration,
}

/// A place, kept free for a job or taken by it.
struct Entry<J> {
    number: u64,
    job: Option<J>,
}

/// A place that is kept free for a job. Dropping it frees it for others.
pub struct Room<K: Copy + Eq + Hash, J> {
    lane: K,
    number: u64,
    shared: Arc<Shared<K, J>>,
    used: bool,
}

/// A place in the queue. Dropping it gives the place up, if the job has not begun.
pub struct Place<K: Copy + Eq + Hash, J> {
    lane: K,
    number: u64,
    shared: Arc<Shared<K, J>>,
}

/// Where threads take jobs from.
pub struct Jobs<K, J> {
    shared: Arc<Shared<K, J>>,
}

impl<K: Copy + Eq + Hash, J> Queue<K, J> {
    /// For `capacity` jobs in waiting and as many threads. Until the first is done, each is thought to take `about`.
    pub fn new(capacity: usize, threads: usize, about: Duration) -> Self {
        let state =
            State { lanes: HashMap::new(), turns: VecDeque::new(), taken: 0, next: 0, closed: false, last_took: about };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), news: Condvar::new(), capacity, threads }) }
    }

    /// For one more thread.
    pub fn jobs(&self) -> Jobs<K, J> {
        Jobs { shared: Arc::clone(&self.shared) }
    }

    /// How many places are taken.
    pub fn taken(&self) -> usize {
        self.shared.lock().taken
    }

    /// Looks whether [`Queue::reserve`] would find a place.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check(&self, lane: K) -> Result<(), Duration> {
        let state = self.shared.lock();
        if state.taken < self.shared.capacity || state.longer_than(lane).is_some() {
            return Ok(());
        }
        Err(self.shared.wait(&state))
    }

    /// Keeps a place free. In a full queue that is the newest of the longest lane, if that is longer than this one is with
    /// one more.
    ///
    /// # Errors
    ///
    /// If there is none: how long what is in the queue will take, as far as one can tell.
    pub fn reserve(&self, lane: K) -> Result<Room<K, J>, Duration> {
        let mut state = self.shared.lock();
        let mut displaced = None;
        if state.taken >= self.shared.capacity {
            let Some(longest) = state.longer_than(lane) else { return Err(self.shared.wait(&state)) };
            displaced = state.take_newest(longest);
        }
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        state.taken += 1;
        state.lanes.entry(lane).or_default().push_back(Entry { number, job: None });
        drop(state);
        // Its client learns of it now, and the lock is free.
        drop(displaced);
        Ok(Room { lane, number, shared: Arc::clone(&self.shared), used: false })
    }

    /// How long all that fits into the queue takes, as far as one can tell.
    pub fn wait(&self) -> Duration {
        self.shared.wait(&self.shared.lock())
    }
}

impl<K: Copy + Eq + Hash, J> State<K, J> {
    /// The longest lane, and of equals the one with the newest place, if it is still the longer one when `lane` has grown
    /// by one.
    fn longer_than(&self, lane: K) -> Option<K> {
        let own = self.lanes.get(&lane).map_or(0, VecDeque::len);
        let newest = |entries: &VecDeque<Entry<J>>| entries.back().map(|entry| entry.number);
        let (longest, entries) = self.lanes.iter().max_by_key(|(_, entries)| (entries.len(), newest(entries)))?;
        (entries.len() > own + 1).then_some(*longest)
    }

    fn take_newest(&mut self, lane: K) -> Option<Entry<J>> {
        let number = self.lanes.get(&lane)?.back()?.number;
        self.take(lane, number)
    }

    /// Takes a place away, if it is still there.
    fn take(&mut self, lane: K, number: u64) -> Option<Entry<J>> {
        let entries = self.lanes.get_mut(&lane)?;
        let at = entries.iter().position(|entry| entry.number == number)?;
        let taken = entries.remove(at);
        self.taken = self.taken.saturating_sub(usize::from(taken.is_some()));
        if !entries.iter().any(|entry| entry.job.is_some()) {
            self.turns.retain(|turn| *turn != lane);
        }
        if entries.is_empty() {
            self.lanes.remove(&lane);
        }
        taken
    }

    /// The oldest job of the lane whose turn it is.
    fn take_next(&mut self) -> Option<J> {
        let lane = self.turns.pop_front()?;
        let number = self.lanes.get(&lane)?.iter().find(|entry| entry.job.is_some())?.number;
        // Behind the others, until it is taken out for having no more.
        self.turns.push_back(lane);
        self.take(lane, number)?.job
    }
}

impl<K: Copy + Eq + Hash, J> Room<K, J> {
    /// Queues a job.
    ///
    /// # Errors
    ///
    /// If a shorter lane has been given the place meanwhile: as [`Queue::reserve`].
    pub fn push(mut self, job: J) -> Result<Place<K, J>, Duration> {
        self.used = true;
        let mut state = self.shared.lock();
        let entries = state.lanes.get_mut(&self.lane);
        let Some(entry) = entries.and_then(|entries| entries.iter_mut().find(|entry| entry.number == self.number))
        else {
            return Err(self.shared.wait(&state));
        };
        entry.job = Some(job);
        if !state.turns.contains(&self.lane) {
            state.turns.push_back(self.lane);
        }
        drop(state);
        self.shared.news.notify_one();
        Ok(Place { lane: self.lane, number: self.number, shared: Arc::clone(&self.shared) })
    }
}

impl<K: Copy + Eq + Hash, J> Drop for Room<K, J> {
    fn drop(&mut self) {
        if !self.used {
            let _given_up = self.shared.lock().take(self.lane, self.number);
        }
    }
}

impl<K: Copy + Eq + Hash, J> Drop for Queue<K, J> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.news.notify_all();
    }
}

impl<K: Copy + Eq + Hash, J> Drop for Place<K, J> {
    fn drop(&mut self) {
        let given_up = self.shared.lock().take(self.lane, self.number);
        drop(given_up);
    }
}

impl<K: Copy + Eq + Hash, J: FnOnce()> Jobs<K, J> {
    /// Does jobs, one of each lane in turn, until the queue is closed and empty. A panic in one costs only that one.
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
            if let Some(job) = state.take_next() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<K, J> Shared<K, J> {
    fn lock(&self) -> MutexGuard<'_, State<K, J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, state: &State<K, J>) -> Duration {
        let each = state.last_took / u32::try_from(self.threads).unwrap_or(1).max(1);
        each.saturating_mul(u32::try_from(self.capacity).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Empty = Queue<u8, fn()>;
    type Job = Box<dyn FnOnce() + Send>;

    fn nothing() {}

    #[test]
    fn a_client_that_gives_up_a_place_makes_room_at_once() {
        let queue = Empty::new(2, 1, Duration::ZERO);
        let push = || queue.reserve(1).map(|room| room.push(nothing).unwrap());
        let first = push().unwrap();
        let second = queue.reserve(1).unwrap();
        assert!(queue.reserve(1).is_err(), "one waits, and one place is kept free");
        let second = second.push(nothing).unwrap();
        assert!(queue.reserve(1).is_err() && queue.check(1).is_err(), "two wait");
        drop(first);
        assert!(queue.check(1).is_ok());
        drop(queue.reserve(1).unwrap());
        let _third = push().unwrap();
        assert!(queue.reserve(1).is_err());
        drop(second);
        assert!(queue.reserve(1).is_ok());
    }

    #[test]
    fn a_full_queue_says_how_long_it_is() {
        let queue = Empty::new(8, 2, Duration::from_millis(100));
        let _places: Vec<_> = (0..8).map(|_| queue.reserve(1).unwrap().push(nothing).unwrap()).collect();
        assert_eq!(queue.reserve(1).err(), Some(Duration::from_millis(400)), "before any is done");
        queue.shared.lock().last_took = Duration::from_millis(250);
        assert_eq!(queue.reserve(1).err(), Some(Duration::from_secs(1)));
        assert_eq!(queue.check(1).err(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn jobs_are_done_in_order_a_panic_costs_one_and_the_end_is_heard() {
        let queue = Queue::new(9, 1, Duration::ZERO);
        let (told, heard) = std::sync::mpsc::channel();
        let jobs = queue.jobs();
        let mut places = Vec::new();
        for number in 0..5 {
            let told = told.clone();
            let job: Job = Box::new(move || {
                assert_ne!(number, 2, "on purpose");
                told.send(number).unwrap();
            });
            places.push(queue.reserve(1).unwrap().push(job).unwrap());
        }
        drop(places.remove(3));
        drop(queue);
        std::thread::spawn(move || jobs.serve()).join().unwrap();
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [0, 1, 4]);
    }

    /// The lanes whose jobs are still in the queue are served to the end: in which order.
    fn served(queue: Queue<u8, Job>, heard: &std::sync::mpsc::Receiver<u8>) -> Vec<u8> {
        let jobs = queue.jobs();
        drop(queue);
        std::thread::spawn(move || jobs.serve()).join().unwrap();
        heard.try_iter().collect()
    }

    /// Seventy of one source are there before ten others come: 64 fit, and each of the ten takes the place of one.
    #[test]
    fn one_source_that_fills_the_queue_keeps_no_other_out() {
        let queue = Queue::new(64, 2, Duration::ZERO);
        let (told, heard) = std::sync::mpsc::channel();
        let push = |lane: u8| {
            let told = told.clone();
            let job: Job = Box::new(move || told.send(lane).unwrap());
            queue.reserve(lane).map(|room| room.push(job).unwrap())
        };
        let busy: Vec<_> = (0..70).map(|_| push(0)).collect();
        assert_eq!(busy.iter().filter(|place| place.is_ok()).count(), 64);
        let honest: Vec<_> = (1..=10).map(push).collect();
        assert!(honest.iter().all(Result::is_ok), "a source without a place finds one");
        assert!(push(0).is_err(), "not the one that has more than all others");
        let order = served(queue, &heard);
        assert_eq!(order.len(), 64);
        assert_eq!(order[..11], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "one of each at a turn");
        assert!(order[11..].iter().all(|lane| *lane == 0), "and then what is left of the busy one");
    }

    #[test]
    fn a_full_queue_ends_up_shared_evenly_and_then_takes_from_no_lane() {
        let queue = Queue::<u8, fn()>::new(12, 1, Duration::ZERO);
        let mut places: Vec<_> = (0..12).map(|_| queue.reserve(0).unwrap().push(nothing).unwrap()).collect();
        for lane in [1, 2, 3] {
            while let Ok(room) = queue.reserve(lane) {
                places.push(room.push(nothing).unwrap());
            }
        }
        let lengths = || {
            let state = queue.shared.lock();
            let mut lengths: Vec<_> = state.lanes.values().map(VecDeque::len).collect();
            lengths.sort_unstable();
            (lengths, state.taken)
        };
        let (shared, taken) = lengths();
        assert_eq!((shared.iter().sum::<usize>(), taken), (12, 12));
        assert!(shared.len() == 4 && shared.iter().all(|length| (2..=4).contains(length)), "{shared:?}");
        for lane in 0..4 {
            assert_eq!(queue.check(lane).is_ok(), queue.reserve(lane).is_ok());
        }
        drop(places);
        assert_eq!(lengths(), (Vec::new(), 0), "nothing is left behind");
        assert!(queue.shared.lock().turns.is_empty());
    }

    fn job(job: impl FnOnce() + Send + 'static) -> Job {
        Box::new(job)
    }

    /// Only kept free, or with its job: the newest of the longest lane goes either way, and who waits for it is told.
    #[test]
    fn a_place_that_another_lane_was_given_is_gone_and_its_job_is_dropped() {
        let queue = Queue::new(2, 1, Duration::from_secs(1));
        let (reply, answer) = std::sync::mpsc::channel::<()>();
        let _first = queue.reserve(0).unwrap().push(job(|| ())).unwrap();
        let displaced: Job = Box::new(move || reply.send(()).unwrap());
        let second = queue.reserve(0).unwrap().push(displaced).unwrap();
        let room = queue.reserve(1).unwrap();
        assert!(answer.recv().is_err(), "nothing will answer");
        drop(second);
        drop(room);

        let kept = queue.reserve(0).unwrap();
        let other = queue.reserve(1).unwrap();
        assert_eq!(kept.push(Box::new(|| ())).err(), Some(Duration::from_secs(2)));
        assert!(queue.reserve(2).is_err(), "lanes of one place each lose none");
        let (told, heard) = std::sync::mpsc::channel();
        let _other = other.push(Box::new(move || told.send(1).unwrap())).unwrap();
        assert_eq!(served(queue, &heard), [1]);
    }

    /// What the next turn is for does not depend on how often a lane has come and gone.
    #[test]
    fn a_lane_that_comes_back_waits_behind_the_others() {
        let queue = Queue::new(9, 1, Duration::ZERO);
        let (told, heard) = std::sync::mpsc::channel();
        let push = |lane: u8| {
            let told = told.clone();
            queue.reserve(lane).unwrap().push(job(move || told.send(lane).unwrap())).unwrap()
        };
        let gone = push(1);
        let _two = (push(2), push(2));
        drop(gone);
        let _three = push(3);
        let _back = (push(1), push(1));
        assert_eq!(served(queue, &heard), [2, 3, 1, 2, 1]);
    }
}
