//! bcrypt, as the crate of that name computes it, with a break between rounds.
//!
//! A hash of cost 12 keeps a core busy for a quarter of a second. The system takes the core away for what is more
//! urgent, but a few milliseconds late, each time a request changes hands on its way to the disk and back; and the lower
//! the priority of hashing is, the longer a log-in takes beside other programs. So hashing stops by itself while a
//! refresh is under way, between two of its 4,096 rounds.

use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, rand};
use base64::Engine as _;
use bcrypt::{BASE_64, HashParts};
use blowfish::Blowfish;
use zeroize::Zeroizing;

use crate::urgent::Urgent;

/// How long a break is, before it is looked whether it may end.
const BREAK: Duration = Duration::from_micros(200);
/// By how much breaks may be longer, altogether, than work: where something urgent is always under way, hashing goes on
/// half of the time.
const AHEAD: Duration = Duration::from_millis(2);
/// Bytes of an input that count, its final NUL among them.
const READS: usize = 72;
/// Bytes of a digest that are stored.
const STORED: usize = 23;
/// `OrpheanBeholderScryDoubt`, which is what is encrypted.
const TEXT: [u32; 6] = [0x4f72_7068, 0x6561_6e42, 0x6568_6f6c, 0x6465_7253, 0x6372_7944, 0x6f75_6274];

/// The breaks of one hash.
pub(super) struct Breaks<'a> {
    urgent: &'a Urgent,
    began: Instant,
    taken: Duration,
}

impl<'a> Breaks<'a> {
    pub(super) fn new(urgent: &'a Urgent) -> Self {
        Self { urgent, began: Instant::now(), taken: Duration::ZERO }
    }

    /// Takes one, if something urgent is under way.
    fn take(&mut self) {
        while self.urgent.is_any() && self.taken * 2 < self.began.elapsed() + AHEAD {
            let from = Instant::now();
            thread::sleep(BREAK);
            self.taken += from.elapsed();
        }
    }
}

/// The hash of an input, with a new salt. `None`: the cost is out of bounds, or there is no randomness to be had.
pub(super) fn hash(input: &[u8], cost: u32, breaks: &mut Breaks<'_>) -> Option<String> {
    let mut salt = [0; 16];
    rand::fill(&mut salt).ok()?;
    let digest = digest(input, cost, salt, || breaks.take())?;
    Some(format!("$2b${cost:02}${}{}", BASE_64.encode(salt), BASE_64.encode(digest.get(..STORED)?)))
}

/// Whether a hash is one of this input. `None`: it is not a hash.
pub(super) fn verify(input: &[u8], hash: &str, breaks: &mut Breaks<'_>) -> Option<bool> {
    let parts: HashParts = hash.parse().ok()?;
    let digest = digest(input, parts.get_cost(), parts.get_salt_raw(), || breaks.take())?;
    let (made, stored) = (BASE_64.encode(digest.get(..STORED)?), hash.get(29..)?);
    Some(constant_time::verify_slices_are_equal(made.as_bytes(), stored.as_bytes()).is_ok())
}

/// `None`: the cost is out of bounds. `between` is called before each of the 2^cost rounds.
fn digest(input: &[u8], cost: u32, salt: [u8; 16], mut between: impl FnMut()) -> Option<Vec<u8>> {
    let rounds = (4..=31).contains(&cost).then(|| 1_u32 << cost)?;
    let key = Zeroizing::new(input.iter().copied().chain([0]).take(READS).collect::<Vec<_>>());
    let mut state = Blowfish::bc_init_state();
    state.salted_expand_key(&salt, &key);
    for _ in 0..rounds {
        between();
        state.bc_expand_key(&key);
        state.bc_expand_key(&salt);
    }
    let (pairs, _) = TEXT.as_chunks::<2>();
    let encrypt = |pair: &[u32; 2]| (0..64).fold(*pair, |pair, _| state.bc_encrypt(pair));
    Some(pairs.iter().flat_map(encrypt).flat_map(u32::to_be_bytes).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;

    #[test]
    fn it_is_bcrypt() {
        let urgent = Urgent::default();
        let mut breaks = Breaks::new(&urgent);
        for length in [0, 1, 8, 54, 55, 56, 57, 64, 70, 71, 72, 73, 200] {
            let input: Vec<u8> = (0..length).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect();
            for cost in [4, 5] {
                let ours = hash(&input, cost, &mut breaks).unwrap();
                assert!(ours.starts_with(&format!("$2b$0{cost}$")) && ours.len() == 60, "{ours}");
                assert!(bcrypt::verify(&input, &ours).unwrap(), "{length}");
                let theirs = bcrypt::hash(&input, cost).unwrap();
                for prefix in ["$2a$", "$2b$", "$2x$", "$2y$"] {
                    let theirs = theirs.replacen("$2b$", prefix, 1);
                    assert_eq!(verify(&input, &theirs, &mut breaks), Some(true), "{length}");
                    assert_eq!(verify(b"another", &theirs, &mut breaks), Some(false));
                }
                if let Some(counts) = input.get(..length.min(READS)).filter(|counts| !counts.is_empty()) {
                    let mut other = input.clone();
                    other[counts.len() - 1] ^= 1;
                    assert_eq!(verify(&other, &ours, &mut breaks), Some(false), "the last byte of {length} counts");
                }
            }
        }
        // Of the test vectors of jBCrypt.
        let known = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
        assert_eq!(verify(b"abc", known, &mut breaks), Some(true));
    }

    #[test]
    fn what_is_no_hash_is_none() {
        let urgent = Urgent::default();
        let valid = bcrypt::hash("x", 4).unwrap();
        let cases = [
            String::new(),
            "$2b$".to_owned(),
            valid[..59].to_owned(),
            format!("{valid}x"),
            valid.replacen("$04$", "$03$", 1),
            valid.replacen("$04$", "$32$", 1),
            valid.replacen("$2b$", "$2c$", 1),
            format!("{}é", &valid[..58]),
        ];
        for hash in cases {
            assert_eq!(verify(b"x", &hash, &mut Breaks::new(&urgent)), None, "{hash}");
        }
        assert_eq!(hash(b"x", 3, &mut Breaks::new(&urgent)), None);
        assert_eq!(hash(b"x", 32, &mut Breaks::new(&urgent)), None);
    }

    #[test]
    fn there_is_a_break_before_each_round() {
        for cost in [4, 7] {
            let mut breaks = 0;
            digest(b"x", cost, [0; 16], || breaks += 1).unwrap();
            assert_eq!(breaks, 1 << cost);
        }
    }

    /// One that has worked for an hour stands still until nothing urgent is under way.
    #[test]
    fn a_hash_waits_for_what_is_urgent_and_goes_on_behind_it() {
        let urgent = Urgent::default();
        let under_way = urgent.begin();
        let (done, waits) = channel();
        let hasher = thread::spawn(move || {
            let began = Instant::now().checked_sub(Duration::from_secs(3600)).unwrap();
            Breaks { urgent: &urgent, began, taken: Duration::ZERO }.take();
            done.send(()).unwrap();
        });
        assert_eq!(waits.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout));
        drop(under_way);
        waits.recv_timeout(Duration::from_secs(60)).unwrap();
        hasher.join().unwrap();
    }

    /// Refreshes without end slow log-ins down, and do not stop them.
    #[test]
    fn a_hash_comes_to_its_end_while_something_urgent_is_always_under_way() {
        let urgent = Urgent::default();
        let _under_way = urgent.begin();
        let mut breaks = Breaks::new(&urgent);
        assert!(hash(b"x", 6, &mut breaks).is_some());
        assert!(breaks.taken > Duration::ZERO, "it has given way");
    }
}
