//! Guesses that are waiting to be looked at: they may turn out to be right, and leave room again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::guess_keys::Limited;
use crate::store::attempts::AttemptKey;

/// How many guesses at each key are waiting to be looked at, in this process.
#[derive(Clone, Default)]
pub struct Undecided(Arc<Mutex<HashMap<AttemptKey, i64>>>);

/// Some of them, for as long as it lives.
pub struct Waiting {
    undecided: Undecided,
    keys: Vec<AttemptKey>,
}

impl Undecided {
    /// One more at each of these.
    pub fn add(&self, keys: &[Limited]) -> Waiting {
        let keys: Vec<_> = keys.iter().map(|key| key.limit.key).collect();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().for_each(|key| *counts.entry(*key).or_default() += 1);
        Waiting { undecided: self.clone(), keys }
    }

    /// So many at this.
    pub fn of(&self, key: &AttemptKey) -> i64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or(0)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut counts = self.undecided.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
    }
}
