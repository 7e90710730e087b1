//! How passwords are hashed, and who does the hashing. [`password`] says what is acceptable.
//!
//! bcrypt reads 72 bytes and stops, so it never sees a password: it sees the 64 printable characters of
//! base64(HMAC-SHA-384(pepper, password)), which depend on every byte. A stored hash is tagged with the
//! pepper it was made with, `cs1:PEPPER:$2b$12$…`; a plain bcrypt hash, as imported from elsewhere,
//! verifies too. Passwords are taken exactly as received: no trimming, no normalisation (ASVS V6.2.8).

mod begun;
mod password;
mod queue;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

pub use self::begun::Begun;
pub use self::password::{MAX_CHARACTERS, Password, is_blocklisted};
use self::queue::{self as places, Jobs, Queue};
use crate::metrics::HashMetrics;
use crate::network::rate_limit_key;
use crate::secret::Secret;

/// Passwords that may wait to be hashed, for each thread; one more is refused at once, or one of the address that has the
/// most. At four a second, the last of them waits about as long as a client does.
const WAITING_PER_THREAD: usize = 32;
/// About how long a hash of cost 4 takes; each step of cost doubles it.
const AT_COST_4: Duration = Duration::from_millis(1);
/// Up to this cost, what comes to nothing takes as long as the slowest stored hash there is. One of those that are dearer
/// still would have every typing error cost minutes of work.
const HIGHEST_DECOY: u32 = 16;
/// How much hashing gives way to everything else on the machine: enough for refreshes to be quick in a storm of log-ins, and
/// little enough for a log-in beside two busy programs to take less than three times as long as alone. `benches` has both.
const NICENESS: i32 = 2;
/// What is hashed with where no pepper is configured: it separates this use of HMAC, and is no secret.
const NO_PEPPER: &[u8] = b"countersign password v1";
/// Bytes of a password that plain bcrypt reads.
const BCRYPT_READS: usize = 72;
const TAG: &str = "cs1:";
/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the password, and its hash is as it would be made today, or can be no better.
    Same,
    /// It is the password; its hash should be made anew (other cost, other pepper, imported).
    SameButOutdated,
    /// It is not.
    Different,
}

/// Why nothing was hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many are waiting. The time in which those will be done, as far as one can tell.
    #[error("too many passwords are waiting to be hashed")]
    Full(Duration),
    /// bcrypt, or the thread it ran on, failed.
    #[error("hashing failed")]
    Failed,
}

/// Hashes and compares, on threads of its own, one a core and of low priority, so that a storm of
/// log-ins slows down log-ins only. Addresses take turns, so that a storm from one of them slows down that one. What is
/// dropped while waiting leaves the queue. Clones share the threads.
#[derive(Clone)]
pub struct Hasher {
    queue: Arc<Queue<Source, Job>>,
    recipe: Arc<Recipe>,
    metrics: HashMetrics,
}

struct Recipe {
    cost: u32,
    /// The highest cost of a stored hash that has been seen, at least `cost`.
    highest: AtomicU32,
    pepper: Pepper,
    previous: HashMap<String, Pepper>,
}

struct Pepper {
    id: String,
    key: hmac::Key,
}

type Job = Box<dyn FnOnce() + Send>;

/// What passwords are hashed for, each with an equal share: an address, as it is counted. All that come from no known
/// address share one.
type Source = Option<IpAddr>;

/// A place in the queue that is kept free for one password, until it is dropped.
pub struct Room(places::Room<Source, Job>);

/// What bcrypt is to be given, what it is to be compared with, and which pepper that takes.
type Readable<'a> = (Zeroizing<Vec<u8>>, &'a str, Option<&'a str>);

impl Hasher {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// If the system has no threads to give.
    pub fn start(
        cost: u32,
        pepper: Option<&Secret>,
        previous: &[Secret],
        metrics: HashMetrics,
    ) -> std::io::Result<Self> {
        let mut verifying: HashMap<_, _> =
            previous.iter().map(|secret| Pepper::new(Some(secret))).map(|pepper| (pepper.id.clone(), pepper)).collect();
        // Hashes from before there was a pepper verify still.
        let plain = Pepper::new(None);
        verifying.insert(plain.id.clone(), plain);
        let recipe =
            Arc::new(Recipe { cost, highest: AtomicU32::new(cost), pepper: Pepper::new(pepper), previous: verifying });
        let threads = thread::available_parallelism()?.get();
        let about = AT_COST_4.saturating_mul(1 << cost.saturating_sub(4).min(30));
        let queue = Arc::new(Queue::new(WAITING_PER_THREAD.saturating_mul(threads), threads, about));
        for number in 0..threads {
            let jobs = queue.jobs();
            thread::Builder::new().name(format!("hasher-{number}")).spawn(move || serve(&jobs))?;
        }
        Ok(Self { queue, recipe, metrics })
    }

    /// Tells it of the highest cost among the stored hashes: a comparison that comes to nothing takes as long as one of
    /// those, from the first on.
    pub fn has_seen(&self, cost: u32) {
        self.recipe.has_seen(cost);
    }

    /// How many passwords wait.
    pub fn waiting(&self) -> usize {
        self.queue.taken()
    }

    /// Looks whether a password from `address` would find a place in the queue: asked first, it saves a client that will
    /// be turned away from troubling the database.
    ///
    /// # Errors
    ///
    /// [`HashError::Full`].
    pub fn check(&self, address: Option<IpAddr>) -> Result<(), HashError> {
        self.queue.check(address.map(rate_limit_key)).map_err(HashError::Full)
    }

    /// Keeps a place in the queue free for a password from `address`.
    ///
    /// # Errors
    ///
    /// [`HashError::Full`].
    pub fn room(&self, address: Option<IpAddr>) -> Result<Room, HashError> {
        self.queue.reserve(address.map(rate_limit_key)).map(Room).map_err(HashError::Full)
    }

    /// Hashes a new password.
    ///
    /// # Errors
    ///
    /// [`HashError`]; full, if the place went to another address.
    pub async fn hash(&self, room: Room, password: Password) -> Result<String, HashError> {
        self.ask(room, move |recipe| recipe.hash(&password)).await?
    }

    /// Compares a password with a stored hash. Without one, it takes as long and comes to nothing, so
    /// that the time of an answer does not tell which accounts exist.
    ///
    /// # Errors
    ///
    /// As [`Hasher::hash`]. A stored hash that cannot be read is not an error: no password is the same as that.
    pub async fn compare(
        &self,
        room: Room,
        password: Password,
        stored: Option<String>,
        begun: Begun,
    ) -> Result<Comparison, HashError> {
        self.ask(room, move |recipe| {
            begun.set();
            recipe.compare(&password, stored.as_deref())
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        room: Room,
        work: impl FnOnce(&Recipe) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let (reply, answer) = oneshot::channel();
        let (recipe, begun) = (Arc::clone(&self.recipe), Begun::default());
        let (begins, waited, hashing) = (begun.clone(), self.metrics.wait.start(), self.metrics.hash.clone());
        let job: Job = Box::new(move || {
            begins.set();
            waited.end();
            let hash = hashing.start();
            let done = work(&recipe);
            hash.end();
            let _unheard = reply.send(done);
        });
        // Held until the answer: a client that hangs up gives the place up.
        let _place = room.0.push(job).map_err(HashError::Full)?;
        answer.await.map_err(|_dropped| match begun.is_set() {
            true => HashError::Failed,
            // The place was needed for an address that had fewer.
            false => HashError::Full(self.queue.wait()),
        })
    }
}

fn serve(jobs: &Jobs<Source, Job>) {
    // On Linux niceness belongs to the thread. Where it is refused, hashing is merely less polite.
    static SAID: Once = Once::new();
    if let Err(error) = rustix::process::nice(NICENESS) {
        SAID.call_once(|| {
            tracing::warn!(
                %error,
                "passwords are hashed at normal priority, beside which other requests are slower: under systemd, \
                 SystemCallFilter=setpriority allows the higher nice value"
            );
        });
    }
    jobs.serve();
}

impl Recipe {
    fn hash(&self, password: &Password) -> Result<String, HashError> {
        let digest = self.pepper.digest(password);
        let hash = bcrypt::hash(digest.as_bytes(), self.cost).map_err(|_unusable| HashError::Failed)?;
        Ok(format!("{TAG}{}:{hash}", self.pepper.id))
    }

    fn compare(&self, password: &Password, stored: Option<&str>) -> Comparison {
        let readable = stored.and_then(|stored| self.read(password, stored));
        let Some((input, hash, pepper)) = readable.filter(|_| password.characters() <= MAX_CHARACTERS) else {
            if stored.is_some_and(|stored| self.read(password, stored).is_none()) {
                tracing::error!("a stored password hash cannot be read, or its pepper is not configured");
            }
            self.spend_the_rest(password, None);
            return Comparison::Different;
        };
        let (cost, verified) = (cost_of(hash), self.verify(&input, hash));
        if verified.is_some() {
            self.has_seen(cost.unwrap_or_default());
        }
        match verified {
            Some(true) if pepper == Some(self.pepper.id.as_str()) && cost == Some(self.cost) => Comparison::Same,
            // Plain bcrypt has read 72 bytes: made anew, a typing error behind those would become the password.
            Some(true) if pepper.is_none() && input.len() > BCRYPT_READS => Comparison::Same,
            Some(true) => Comparison::SameButOutdated,
            Some(false) => {
                self.spend_the_rest(password, cost);
                Comparison::Different
            }
            None => {
                tracing::error!("a stored password hash is damaged");
                self.spend_the_rest(password, None);
                Comparison::Different
            }
        }
    }

    /// Takes a stored hash apart. `None`: it cannot be read.
    fn read<'a>(&self, password: &Password, stored: &'a str) -> Option<Readable<'a>> {
        let Some(tagged) = stored.strip_prefix(TAG) else {
            let plain = stored.is_ascii() && stored.starts_with("$2") && !password.0.contains('\0');
            return plain.then(|| (Zeroizing::new(password.0.as_bytes().to_vec()), stored, None));
        };
        let (id, hash) = tagged.split_once(':')?;
        let pepper = if id == self.pepper.id { &self.pepper } else { self.previous.get(id)? };
        let input = Zeroizing::new(pepper.digest(password).as_bytes().to_vec());
        hash.is_ascii().then_some((input, hash, Some(id)))
    }

    fn verify(&self, input: &[u8], hash: &str) -> Option<bool> {
        let result = bcrypt::verify(input, hash).ok();
        #[cfg(test)]
        if let (Some(_), Some(cost)) = (result, cost_of(hash)) {
            tests::ROUNDS.with(|rounds| rounds.set(rounds.get() + (1 << cost)));
        }
        result
    }

    /// Stored hashes of this cost are about.
    fn has_seen(&self, cost: u32) {
        self.highest.fetch_max(cost.min(HIGHEST_DECOY), Ordering::Relaxed);
    }

    /// Works, after a comparison at `spent` or without one, until all comparisons that came to nothing have taken the same
    /// number of rounds: those of the configured cost or, if there are accounts whose hashes take longer, as many as those.
    /// With hashes that are well-formed and match nothing.
    fn spend_the_rest(&self, password: &Password, spent: Option<u32>) {
        let highest = self.highest.load(Ordering::Relaxed);
        let digest = self.pepper.digest(password);
        // Each step of cost doubles the rounds: 2^c are done, and 2^c + 2^(c+1) + … come up to those of the highest.
        let missing = spent.map_or(highest..=highest, |spent| spent..=highest.saturating_sub(1));
        for cost in missing {
            let decoy = format!("$2b${cost:02}$abcdefghijklmnopqrstuu5aJ5lDu4JfvtTWbXU3ZgvZRVRNzVBG6");
            let _never = self.verify(digest.as_bytes(), &decoy);
        }
    }
}

impl Pepper {
    fn new(secret: Option<&Secret>) -> Self {
        let Some(secret) = secret else {
            return Self { id: "-".into(), key: hmac::Key::new(hmac::HMAC_SHA384, NO_PEPPER) };
        };
        let key = hmac::Key::new(hmac::HMAC_SHA384, secret.expose());
        let name = hmac::sign(&key, b"countersign pepper id v1");
        let id = URL_SAFE_NO_PAD.encode(name.as_ref().get(..9).unwrap_or_default());
        Self { id, key }
    }

    fn digest(&self, password: &Password) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(hmac::sign(&self.key, password.0.as_bytes())))
    }
}

fn cost_of(hash: &str) -> Option<u32> {
    hash.split('$').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(cost: u32, pepper: Option<u8>, previous: &[u8]) -> Recipe {
        let secret = |byte: u8| Secret::new(vec![byte; 32]);
        let previous = previous.iter().map(|byte| Pepper::new(Some(&secret(*byte))));
        Recipe {
            cost,
            highest: AtomicU32::new(cost),
            pepper: Pepper::new(pepper.map(secret).as_ref()),
            previous: previous.chain([Pepper::new(None)]).map(|pepper| (pepper.id.clone(), pepper)).collect(),
        }
    }

    thread_local! {
        /// Rounds of bcrypt that this thread has done.
        pub static ROUNDS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    fn password(text: &str) -> Password {
        Password::new(text.to_owned())
    }

    /// LOG-02: by the rounds that are done, not by a clock.
    #[test]
    fn every_comparison_that_comes_to_nothing_is_as_much_work() {
        let known = |cost: u32| recipe(cost, None, &[]).hash(&password("the right password")).unwrap();
        let cost_of_each = [4, 5, 6, 7];
        let mut stored: Vec<Option<String>> = cost_of_each.into_iter().map(|cost| Some(known(cost))).collect();
        stored.extend(cost_of_each.into_iter().map(|cost| Some(bcrypt::hash("the right password", cost).unwrap())));
        // Garbage, damaged, of an unknown pepper, and none at all.
        let damaged = [
            "",
            "garbage",
            "$2b$",
            "$2b$06$tooshort",
            "$2b$99$abcdefghijklmnopqrstuu5aJ5lDu4JfvtTWbXU3ZgvZRVRNzVBG6",
            "$2b$06$!!!!!!!!!!!!!!!!!!!!!!5aJ5lDu4JfvtTWbXU3ZgvZRVRNzVBG6",
            "cs1:unknown:$2b$06$abcdefghijklmnopqrstuu5aJ5lDu4JfvtTWbXU3ZgvZRVRNzVBG6",
            "cs1:-:ü",
        ];
        stored.extend(damaged.map(|text| Some(text.to_owned())));
        stored.push(None);
        let rounds = |recipe: &Recipe, password: &Password, stored: Option<&str>| {
            ROUNDS.set(0);
            assert_eq!(recipe.compare(password, stored), Comparison::Different, "{stored:?}");
            ROUNDS.get()
        };
        for guess in ["wrong", "", "a\0b", &"x".repeat(300)] {
            let recipe = recipe(7, None, &[]);
            for one in &stored {
                assert_eq!(rounds(&recipe, &password(guess), one.as_deref()), 1 << 7, "{guess:?} {one:?}");
            }
        }
        // Hashes that are dearer than the configured cost are known of at the start, or from the first on.
        for learn in [true, false] {
            let recipe = recipe(5, None, &[]);
            if learn {
                recipe.has_seen(7);
            } else {
                rounds(&recipe, &password("wrong"), Some(&known(7)));
            }
            for one in &stored {
                assert_eq!(rounds(&recipe, &password("wrong"), one.as_deref()), 1 << 7, "{one:?}");
            }
        }
        let recipe = recipe(4, None, &[]);
        recipe.has_seen(31);
        assert_eq!(recipe.highest.load(Ordering::Relaxed), HIGHEST_DECOY, "not for hours");
    }

    #[test]
    fn every_byte_of_a_long_password_counts_and_so_does_a_nul() {
        let recipe = recipe(4, None, &[]);
        let long = "a".repeat(200);
        let stored = recipe.hash(&password(&long)).unwrap();
        assert_eq!(recipe.compare(&password(&long), Some(&stored)), Comparison::Same);
        for other in [format!("{long}X"), long[1..].to_owned(), format!("{long} "), long.to_uppercase()] {
            assert_eq!(recipe.compare(&password(&other), Some(&stored)), Comparison::Different);
        }
        let stored = recipe.hash(&password("doubled!")).unwrap();
        assert_eq!(recipe.compare(&password("doubled!\0doubled!"), Some(&stored)), Comparison::Different);
    }

    #[test]
    fn sixty_four_emoji_are_a_password_down_to_the_last() {
        let recipe = recipe(4, None, &[]);
        let emoji = "🦀".repeat(64);
        assert_eq!(password(&emoji).check(15, "a@b.test", None), Ok(()));
        let stored = recipe.hash(&password(&emoji)).unwrap();
        let other = format!("{}🦞", "🦀".repeat(63));
        assert_eq!(recipe.compare(&password(&other), Some(&stored)), Comparison::Different);
    }

    #[test]
    fn equal_passwords_have_different_hashes() {
        let recipe = recipe(4, None, &[]);
        assert_ne!(recipe.hash(&password("the same")).unwrap(), recipe.hash(&password("the same")).unwrap());
    }

    /// A hash of another cost another pepper or from elsewhere verifies and is outdated.
    #[test]
    fn a_hash_of_another_cost_or_pepper_verifies_and_is_outdated() {
        let today = recipe(5, Some(1), &[2]);
        let outdated = [
            recipe(4, Some(1), &[]).hash(&password("hello there")).unwrap(),
            recipe(5, Some(2), &[]).hash(&password("hello there")).unwrap(),
            recipe(5, None, &[]).hash(&password("hello there")).unwrap(),
            bcrypt::hash("hello there", 5).unwrap(),
            bcrypt::hash("hello there", 5).unwrap().replacen("$2b$", "$2a$", 1),
            bcrypt::hash("hello there", 5).unwrap().replacen("$2b$", "$2y$", 1),
        ];
        for stored in outdated {
            assert_eq!(today.compare(&password("hello there"), Some(&stored)), Comparison::SameButOutdated, "{stored}");
            assert_eq!(today.compare(&password("hello_there"), Some(&stored)), Comparison::Different, "{stored}");
        }
        let long = "x".repeat(73);
        let stored = bcrypt::hash(&long, 5).unwrap();
        assert_eq!(today.compare(&password(&long), Some(&stored)), Comparison::Same, "its end is unknown");
        let unknown_pepper = recipe(5, Some(9), &[]).hash(&password("hello there")).unwrap();
        assert_eq!(today.compare(&password("hello there"), Some(&unknown_pepper)), Comparison::Different);
    }

    #[test]
    fn a_damaged_hash_is_no_password_and_no_panic() {
        let recipe = recipe(4, None, &[]);
        for stored in ["", "$2b$", "$2b$04$ü", "cs1:", "cs1:-:", "cs1:-:$2b$04$zzzz", "cs1:-:$2b$04$ééééééééééé", "x"]
        {
            assert_eq!(recipe.compare(&password("anything"), Some(stored)), Comparison::Different, "{stored:?}");
        }
    }

    #[test]
    fn the_decoy_is_a_hash_that_bcrypt_reads_to_the_end() {
        let decoy = "$2b$04$abcdefghijklmnopqrstuu5aJ5lDu4JfvtTWbXU3ZgvZRVRNzVBG6";
        assert!(matches!(bcrypt::verify("anything", decoy), Ok(false)));
    }
}
