//! Which connections are open, and which are closed to make room for new ones.
//!
//! There is room for a number of them. When it is nearly used up, a new one is let in all the same, and others are
//! closed: of an address that has more than its share of the room, those that keep the server waiting, idle ones first;
//! otherwise the idle ones that were silent for longest. What the server is at work on is never closed. A connection
//! that is closed while it is idle has no request in flight, and one that sends a request at that very moment is still
//! answered.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use futures_util::task::AtomicWaker;

use crate::network::{Peer, rate_limit_key};

/// One part in so many of the room is for new connections while those that are to make way are being closed.
const SPARE: usize = 16;
/// One address has one part in so many of the room, when there is no more room.
const SHARE: usize = 4;
/// One part in so many of the room is cleared at once: who is to make way takes a look at all.
const AT_ONCE: usize = 64;
/// In place of a time: the server is at work on a request.
const AT_WORK: u64 = u64::MAX;
/// In place of a time: a request has begun, and the server waits for its client.
const WAITING: u64 = u64::MAX - 1;

/// Whether a peer is a proxy, which has as many clients as it likes.
pub(super) type IsProxy = Box<dyn Fn(Peer) -> bool + Send + Sync>;

/// All of them. Clones share it.
#[derive(Clone)]
pub(super) struct Connections(Arc<Shared>);

struct Shared {
    /// So many are kept; up to [`SPARE`] more are open for a moment.
    kept: usize,
    is_proxy: IsProxy,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    open: HashMap<u64, Arc<Standing>>,
    /// Of those, the ones that have been told to close.
    closing: usize,
    /// The ones that have not, of each address.
    of_address: HashMap<IpAddr, usize>,
}

/// What the others may know of an open connection.
pub(super) struct Standing {
    /// The address it counts for. `None`: a proxy, or a peer that has none.
    address: Option<IpAddr>,
    /// Microseconds since the start when it became idle, or [`AT_WORK`] or [`WAITING`].
    idle_since: AtomicU64,
    closing: AtomicBool,
    waker: AtomicWaker,
}

/// An open connection, for as long as it lives.
pub(super) struct Open {
    connections: Connections,
    number: u64,
    standing: Arc<Standing>,
}

impl Connections {
    /// With room for `most`.
    pub(super) fn new(most: usize, is_proxy: IsProxy) -> Self {
        let kept = most.saturating_sub(most.div_ceil(SPARE)).max(1);
        Self(Arc::new(Shared { kept, is_proxy, began: Instant::now(), state: Mutex::default() }))
    }

    /// Enters a new connection, and closes others if it takes that.
    pub(super) fn enter(&self, peer: Option<Peer>) -> Open {
        let address = peer.filter(|peer| !(self.0.is_proxy)(*peer)).map(|peer| rate_limit_key(peer.address()));
        let standing = Arc::new(Standing {
            address,
            idle_since: AtomicU64::new(self.now()),
            closing: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let mut state = self.lock();
        if state.open.len().saturating_sub(state.closing) >= self.0.kept {
            state.make_room(self.0.kept);
        }
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        state.open.insert(number, Arc::clone(&standing));
        if let Some(address) = address {
            *state.of_address.entry(address).or_default() += 1;
        }
        drop(state);
        Open { connections: self.clone(), number, standing }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_micros()).unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells some to close. If all are at work, or wait for clients of addresses that have no more than their share, there
    /// are none, and the spare room is used.
    fn make_room(&mut self, kept: usize) {
        let (share, at_once) = ((kept / SHARE).max(1), (kept / AT_ONCE).max(1));
        let busiest = self.of_address.iter().max_by_key(|(_, count)| **count);
        let greedy = busiest.filter(|(_, count)| **count > share).map(|(address, count)| (*address, *count - share));
        let chosen = match greedy {
            None => Vec::new(),
            Some((address, excess)) => {
                self.choose(at_once.min(excess), |standing| standing.address == Some(address), WAITING)
            }
        };
        let chosen = if chosen.is_empty() { self.choose(at_once, |_| true, WAITING - 1) } else { chosen };
        for number in chosen {
            let Some(standing) = self.open.get(&number).cloned() else { continue };
            self.closing += 1;
            self.leave(standing.address);
            standing.closing.store(true, Ordering::SeqCst);
            standing.waker.wake();
        }
    }

    /// At most so many of those that may be chosen and have been idle for longest, as far as `last`. Proxies come after
    /// all others: what they send on an idle connection, they may not send twice.
    fn choose(&self, most: usize, may_be: impl Fn(&Standing) -> bool, last: u64) -> Vec<u64> {
        let open = self.open.iter().filter(|(_, standing)| !standing.is_closing() && may_be(standing));
        let since = open.map(|(number, standing)| {
            (standing.address.is_none(), standing.idle_since.load(Ordering::Relaxed), Reverse(*number))
        });
        let mut chosen: Vec<_> = since.filter(|(_, since, _)| *since <= last).collect();
        if most < chosen.len() {
            chosen.select_nth_unstable(most);
            chosen.truncate(most);
        }
        chosen.into_iter().map(|(_, _, Reverse(number))| number).collect()
    }

    fn leave(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}

impl Standing {
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

impl Open {
    /// No request has begun since now.
    pub(super) fn is_idle(&self) {
        self.standing.idle_since.store(self.connections.now(), Ordering::Relaxed);
    }

    /// The server is at work on a request.
    pub(super) fn is_at_work(&self) {
        self.standing.idle_since.store(AT_WORK, Ordering::Relaxed);
    }

    /// A request has begun, and the server waits for its client.
    pub(super) fn is_waiting(&self) {
        self.standing.idle_since.store(WAITING, Ordering::Relaxed);
    }

    /// Whether it was told to close, as soon as nothing is in flight. If not, `waker` is woken when it is.
    pub(super) fn is_to_close(&self, waker: &Waker) -> bool {
        self.standing.waker.register(waker);
        self.standing.is_closing()
    }

    /// Whether what is answered now is the last.
    pub(super) fn is_closing(&self) -> bool {
        self.standing.is_closing()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.connections.lock();
        state.open.remove(&self.number);
        // Both are changed under the lock only.
        if self.standing.is_closing() {
            state.closing = state.closing.saturating_sub(1);
        } else {
            state.leave(self.standing.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: [u8; 4] = [10, 0, 0, 1];

    fn room_for(most: usize) -> Connections {
        Connections::new(most, Box::new(|peer| peer.address() == IpAddr::from(PROXY)))
    }

    fn enter(connections: &Connections, last: u8) -> Open {
        connections.enter(Some(Peer::Address([192, 0, 2, last].into())))
    }

    fn closing(open: &[Open]) -> Vec<usize> {
        open.iter().enumerate().filter(|(_, open)| open.is_closing()).map(|(at, _)| at).collect()
    }

    /// Sets when each became idle: as if time had passed.
    fn idle_since(open: &[Open], times: &[u64]) {
        for (open, time) in open.iter().zip(times) {
            open.standing.idle_since.store(*time, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_address_that_has_taken_all_the_room_makes_way_longest_idle_first() {
        let connections = room_for(16);
        let greedy: Vec<_> = (0..15).map(|_| enter(&connections, 1)).collect();
        assert_eq!(closing(&greedy), [0; 0], "alone, it may have it all");
        let mut times: Vec<u64> = (100..115).collect();
        (times[7], times[3]) = (1, 2);
        idle_since(&greedy, &times);
        greedy[0].is_at_work();
        greedy[2].is_waiting();
        let honest = enter(&connections, 2);
        assert_eq!(closing(&greedy), [7]);
        // It is longest idle, and has no more than its share.
        idle_since(std::slice::from_ref(&honest), &[0]);
        let _others: Vec<_> = (3..5).map(|address| enter(&connections, address)).collect();
        let mut told = closing(&greedy);
        told.sort_unstable();
        assert_eq!(told, [1, 3, 7]);
        assert!(!honest.is_closing());
    }

    /// A client that begins requests on all of its connections is no better off.
    #[test]
    fn an_address_over_its_share_makes_way_with_unfinished_requests() {
        let connections = room_for(16);
        let greedy: Vec<_> = (0..15).map(|_| enter(&connections, 1)).collect();
        greedy.iter().for_each(Open::is_waiting);
        greedy[14].is_at_work();
        let honest: Vec<_> = (0..3).map(|_| enter(&connections, 2)).collect();
        assert_eq!(closing(&greedy).len(), 3);
        assert!(!greedy[14].is_closing() && closing(&honest).is_empty());

        let connections = room_for(16);
        let many: Vec<_> = (0..15).map(|address| enter(&connections, address)).collect();
        many.iter().for_each(Open::is_waiting);
        let spare = enter(&connections, 99);
        spare.is_waiting();
        assert_eq!(closing(&many), [0; 0], "none has more than its share: the spare room is used");
        many[4].is_idle();
        let _more = enter(&connections, 99);
        assert_eq!(closing(&many), [4]);
    }

    /// Where no address has more than its share the longest idle makes way proxies last.
    #[test]
    fn within_all_shares_the_longest_idle_makes_way_proxies_last() {
        let connections = room_for(16);
        let mut open: Vec<_> = (0..5).map(|_| connections.enter(Some(Peer::Address(PROXY.into())))).collect();
        open.extend((0..10).map(|address| enter(&connections, address)));
        let mut times: Vec<u64> = (0..15).collect();
        times[9] = 6;
        idle_since(&open, &times);
        let first = enter(&connections, 101);
        assert_eq!(closing(&open), [5], "a proxy has no share, and comes last");
        first.is_waiting();
        let second = enter(&connections, 102);
        assert_eq!(closing(&open), [5, 9], "of two, the newer");
        open.iter().skip(5).for_each(Open::is_at_work);
        [&first, &second].into_iter().for_each(Open::is_at_work);
        let _third = enter(&connections, 103);
        assert_eq!(closing(&open), [0, 5, 9]);
    }

    /// A flood of new connections looks at all of them once in a while, not each time.
    #[test]
    fn room_is_made_for_many_and_no_address_is_cut_below_its_share() {
        let connections = room_for(1000);
        let kept = connections.0.kept;
        let greedy: Vec<_> = (0..kept).map(|_| enter(&connections, 1)).collect();
        let _one = enter(&connections, 2);
        assert_eq!(closing(&greedy).len(), kept / AT_ONCE);
        let others: Vec<_> = (0..2 * kept).map(|_| enter(&connections, 3)).collect();
        let left = |open: &[Open]| open.len() - closing(open).len();
        assert!(left(&greedy) >= kept / SHARE, "{}", left(&greedy));
        let state = connections.lock();
        assert_eq!(left(&greedy) + left(&others) + 1, state.open.len() - state.closing);
        drop(state);
        assert!(left(&greedy) + left(&others) < kept + kept / AT_ONCE);
    }

    #[test]
    fn what_was_closed_is_forgotten() {
        let connections = room_for(16);
        let open: Vec<_> = (0..15).map(|address| enter(&connections, address % 2)).collect();
        let more: Vec<_> = (0..5).map(|_| enter(&connections, 3)).collect();
        assert_eq!(connections.lock().closing, 5);
        drop((open, more));
        let state = connections.lock();
        assert_eq!((state.open.len(), state.closing, state.of_address.len()), (0, 0, 0));
    }
}
